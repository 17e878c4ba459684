// The settings of one pod's agent, as arguments of its command line: what follows from the pod, and
// its annotations config.holdfast.io/KEY, checked as the agent itself will check them.
//
// Threads: any; pure. Limits: annotations of 8 KiB together.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "inject/policy.h"

namespace holdfast::inject {

inline constexpr std::string_view kConfigPrefix = "config.holdfast.io/";

struct PodFacts {
  int64_t grace_period_ms;
  // Of the volume that has the spool, or the pod's share of the node's disk.
  double spool_bytes;
  std::map<std::string, std::string> settings;  // KEY to value.
};

// `--set KEY=VALUE ...`. Adds to `reasons` why the pod cannot be taken.
std::vector<std::string> AgentSettingsOf(const Policy& policy, const PodFacts& pod,
                                         std::vector<std::string>* reasons);

}  // namespace holdfast::inject
