// Says which unflushed changes survive a power cut. Asked twice, it says the same.
#pragma once

#include <cstdint>

#include "base/random.h"
#include "tests/power_cut/plan.h"

namespace holdfast::power_cut {

class Dice {
 public:
  // Changes are numbered in the order in which they were made; [first, end) are not flushed.
  Dice(Pattern pattern, uint64_t seed, uint64_t first, uint64_t end)
      : pattern_(pattern), seed_(seed) {
    later_ = first + Below(1, end - first + 1);
    kept_percent_ = 10 + 40 * Below(2, 3);
  }

  // `part` is a sector of the change, or 0 for one that cannot be torn.
  [[nodiscard]] bool Survives(uint64_t change, uint64_t part) const {
    switch (pattern_) {
      case Pattern::kKilled:
      case Pattern::kKept:
        return true;
      case Pattern::kDropped:
        return false;
      case Pattern::kReordered:
        return change >= later_;
      case Pattern::kTorn:
        break;
    }
    const bool torn = part != 0 && Below(3 + 4 * change, 3) == 0;
    const uint64_t roll =
        torn ? Below((change << 24) ^ (4 * part + 1), 100) : Below(4 * change, 100);
    return roll < kept_percent_;
  }
  // Evenly from [0, limit), for whatever else there is to decide.
  [[nodiscard]] uint64_t Below(uint64_t what, uint64_t limit) const {
    base::Random random(seed_ ^ (what * 0x9e3779b97f4a7c15));
    random();
    return random.Below(limit);
  }

 private:
  Pattern pattern_;
  uint64_t seed_;
  uint64_t later_;
  uint64_t kept_percent_;
};

}  // namespace holdfast::power_cut
