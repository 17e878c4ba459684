// The settings of consumer groups of the newer protocol: `group.consumer.*` in Kafka.
//
// Threads: values only.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

#include "base/executor.h"

namespace holdfast::broker {

struct ConsumerGroupOptions {
  base::Duration session_timeout = std::chrono::seconds(45);
  base::Duration session_timeout_min = std::chrono::seconds(45);
  base::Duration session_timeout_max = std::chrono::seconds(60);
  base::Duration heartbeat_interval = std::chrono::seconds(5);
  base::Duration heartbeat_interval_min = std::chrono::seconds(5);
  base::Duration heartbeat_interval_max = std::chrono::seconds(15);
  int32_t size_max = std::numeric_limits<int32_t>::max();
  // What may become of a group when members of the other protocol join, or are all that is left.
  bool upgrade = true;
  bool downgrade = true;
};

}  // namespace holdfast::broker
