// What an agent still has to deliver, as it is told to people.
//
// Threads: any; a plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace holdfast::agent {

struct Left {
  int64_t records = 0;
  uint64_t bytes = 0;
  size_t streams = 0;
  size_t parked_streams = 0;  // Of these, held until somebody changes something.
  std::string trouble;        // What one of them complains of; empty if none does.

  [[nodiscard]] bool none() const { return records == 0; }
  // "1,234 records (5.6 MiB) of 3 partitions".
  [[nodiscard]] std::string Text() const;
};

}  // namespace holdfast::agent
