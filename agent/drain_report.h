// What `holdfast spool drain --json` says, for the agent that started it (agent/orphans.h) and for
// scripts.
//
// Threads: any; a plain value.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace holdfast::agent {

// One JSON object a line. The last line has `done`.
struct DrainReport {
  bool done = false;
  bool wanted = false;  // Ended because the spool's agent is there.
  bool removed = false;
  int64_t delivered_records = 0;
  int64_t dead_letter_records = 0;
  int64_t dropped_records = 0;
  int64_t left_records = 0;
  uint64_t left_bytes = 0;
  // Nothing is left, and the spool may go in this time: until then a producer may ask its agent for
  // what it sent.
  int64_t removable_in_ms = 0;
  std::string why;   // Something is left.
  std::string kept;  // Nothing is left that can be delivered, and yet it has to stay.

  [[nodiscard]] std::string Print() const;
  // Fields that are not there have their defaults. kInvalid if it is no such line.
  static base::Result<DrainReport> Parse(const std::string& line);
};

}  // namespace holdfast::agent
