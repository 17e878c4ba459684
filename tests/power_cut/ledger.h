// What is known of each operation, in memory that the next process finds as this one left it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>
#include <vector>

#include "base/random.h"

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

enum class Damage : uint8_t {
  kNone,
  kLost,        // Something that must be there is not.
  kTorn,        // Something is there that must not be, or not like that.
  kUnopenable,  // Cannot be opened, or the process died of it.
  kStuck,       // Does not answer, does not take more, does not keep its accounts.
};
inline constexpr size_t kDamages = 5;

// What a process found out before it ended. In memory of its own, since a survey notes in a copy of
// the ledger.
struct Verdict {
  Damage damage = Damage::kNone;
  char what[4000] = {};
};

struct Ledger {
  Ledger(size_t operations, Verdict& verdict_in, std::pmr::memory_resource* memory)
      : standings(operations, Standing::kPlanned, memory), visible(memory), verdict(verdict_in) {}

  // Of all that decides what a survey expects.
  [[nodiscard]] uint64_t Fingerprint() const {
    uint64_t fingerprint = lives + (revised ? uint64_t{1} << 32 : 0);
    const auto add = [&](uint64_t value) { fingerprint = base::Random(fingerprint ^ value)(); };
    for (const Standing standing : standings) add(static_cast<uint64_t>(standing));
    for (const int64_t offset : visible) add(static_cast<uint64_t>(offset));
    return fingerprint;
  }

  std::pmr::vector<Standing> standings;
  // By stream: offsets below were shown to readers.
  std::pmr::vector<int64_t> visible;
  size_t next_step = 0;
  size_t next_operation = 0;
  size_t lives = 0;  // Begun.
  uint64_t acked = 0;
  uint64_t refused = 0;
  bool revised = false;   // A revision has begun, and may have been done.
  bool surveyed = false;  // The last life came to its end.
  Verdict& verdict;
};

}  // namespace holdfast::power_cut
