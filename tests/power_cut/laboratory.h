// Runs cases: a process for each life, one after the other on the same disk, and a last one that
// surveys what they left.
//
// A life is a forked process, because it ends amid a call that LMDB made, and because what it must
// not do (crash, hang, run into a missing page) is an outcome like any other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/power_cut/ledger.h"
#include "tests/power_cut/plan.h"
#include "tests/power_cut/shared_arena.h"
#include "tests/power_cut/simulated_disk.h"
#include "tests/power_cut/workload.h"

namespace holdfast::power_cut {

struct Outcome {
  std::optional<std::string> failure;  // What is wrong, for a person.
  uint32_t calls = 0;                  // Of the disk, in the last life before the survey.
  uint32_t failed_calls = 0;
  uint64_t acked = 0;
  uint64_t refused = 0;
};

class Laboratory {
 public:
  Laboratory();  // On tmpfs if there is one.
  ~Laboratory();
  Laboratory(const Laboratory&) = delete;
  Laboratory& operator=(const Laboratory&) = delete;

  struct Deceit {
    Lie lie = Lie::kNone;
    bool ack_early = false;
  };
  Outcome Run(const Case& test_case, Deceit deceit = {Lie::kNone, false});

 private:
  // What went wrong in it, if anything.
  std::optional<std::string> RunLife(const Life* life, Ledger& ledger, SimulatedDisk& disk,
                                     bool ack_early);
  [[nodiscard]] std::string Log() const;

  std::string directory_;
  SharedArena& arena_;
  Workload workload_;  // Of the last case; the next one is likely to want the same.
};

}  // namespace holdfast::power_cut
