// What an agent still has to deliver, and what it has done, as it is told to people.
//
// Threads: any; a plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace holdfast::agent {

struct Left {
  int64_t records = 0;
  uint64_t bytes = 0;  // Of all that is here.
  size_t streams = 0;
  size_t parked_streams = 0;  // Of these, held until somebody changes something.
  std::string trouble;        // What one of them complains of; empty if none does.
  std::string other_cluster;  // The tier's id, if nothing is delivered because it is another one.
  std::string withheld;       // Why nothing is delivered whatever the tier is; empty: it is.
  // Beside all these: of partitions that have lost their names (HF2110). They wait for a person.
  int64_t nameless_records = 0;
  size_t nameless_streams = 0;

  // Nothing that the tier could still get.
  [[nodiscard]] bool none() const { return records == 0; }
  // Nor anything that waits for a person.
  [[nodiscard]] bool empty() const { return none() && nameless_records == 0; }
  // "1,234 records (5.6 MiB) of 3 partitions", the trouble, and what NamelessText says.
  [[nodiscard]] std::string Text() const;
  // What became of those, and what to do; empty if there are none.
  [[nodiscard]] std::string NamelessText() const;
};

// What became of records since an agent was started.
struct Settled {
  int64_t delivered = 0;
  int64_t dead_letters = 0;
  int64_t dropped = 0;
};

}  // namespace holdfast::agent
