// What is known of each operation, in memory that the next process finds as this one left it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

namespace holdfast::power_cut {

enum class Standing : uint8_t {
  kPlanned,
  kWaiting,  // Submitted, not applied.
  kApplied,  // Not answered.
  kAcked,    // Must be there from now on.
  kRefused,  // Answered with an error: must not be there, ever.
  // Answered with an error by a spool that could not write any more, not even that the operation
  // does not count: only the next opening, or recovery, decides.
  kUncertain,
  kStored,  // Was there at an opening, so it must be from now on.
  kAbsent,  // Was not.
};

struct Ledger {
  Ledger(size_t operations, std::pmr::memory_resource* memory)
      : standings(operations, Standing::kPlanned, memory), visible(memory) {}

  std::pmr::vector<Standing> standings;
  // By stream: offsets below were shown to readers.
  std::pmr::vector<int64_t> visible;
  size_t next_step = 0;
  size_t next_operation = 0;
  size_t lives = 0;  // Begun.
  uint64_t acked = 0;
  uint64_t refused = 0;
  bool surveyed = false;  // The last life came to its end.
  char failure[4096] = {};
};

}  // namespace holdfast::power_cut
