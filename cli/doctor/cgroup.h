// What the control groups of this process allow it, of both versions of Linux.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace holdfast::cli::doctor {

struct CgroupLimits {
  std::optional<uint64_t> memory_bytes_max;  // None: no limit.
  std::optional<double> cpus_max;
  // Of the periods in which it ran, those in which it had to wait.
  uint64_t periods = 0;
  uint64_t throttled_periods = 0;
};

// `root`: "/", below which proc/self/cgroup and sys/fs/cgroup are looked for. The least of the
// limits on the way up counts.
CgroupLimits ReadCgroup(const std::string& root);

}  // namespace holdfast::cli::doctor
