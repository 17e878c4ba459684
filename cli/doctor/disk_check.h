// The disk beneath a spool or a broker's data: what it lies on, how flushes go, how much room there
// is, and what limits the process has for it.
//
// Threads: one; it blocks for some seconds at most, unless the file system itself stands still.
// Limits: in a directory that a process owns nothing is touched but a file without a name.
#pragma once

#include <cstdint>
#include <string>

#include "cli/doctor/finding.h"

namespace holdfast::cli::doctor {

struct DiskQuestion {
  std::string key;  // "agent.spool"
  std::string directory;
  uint64_t segment_bytes = 0;
  uint64_t bytes_max = 0;  // 0: none.
  uint64_t free_bytes_min = 0;
  uint64_t connection_files_max = 0;  // Of the process whose directory it is.
};

Findings CheckDisk(const DiskQuestion& question);

}  // namespace holdfast::cli::doctor
