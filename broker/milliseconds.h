// Durations as Kafka's settings and messages count them.
//
// Threads: any; a plain function.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/executor.h"

namespace holdfast::broker {

inline int64_t ToMs(base::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace holdfast::broker
