// What a pod gives the agent, and what it should not.
//
// Threads: any; plain functions.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "cli/doctor/cgroup.h"
#include "cli/doctor/finding.h"

namespace holdfast::cli::doctor {

struct Surroundings {
  bool in_kubernetes = false;
  uint32_t user = 0;
  bool root_read_only = false;
  bool token_mounted = false;
  CgroupLimits limits;
};
Surroundings ReadSurroundings(const CgroupLimits& limits);

// `drain`: how long the agent may take to end.
Findings CheckKubernetes(const Surroundings& surroundings, std::chrono::milliseconds drain);

}  // namespace holdfast::cli::doctor
