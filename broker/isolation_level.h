// How consumers ask for records: all, or those of transactions only when they are committed.
#pragma once

#include <cstdint>

namespace holdfast::broker {

inline constexpr int8_t kReadCommitted = 1;

}  // namespace holdfast::broker
