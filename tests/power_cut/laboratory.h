// Runs cases: a process for each life, one after the other on the same disk, and a last one that
// surveys what they left.
//
// A life is a forked process, because it ends amid a call that LMDB made, and because what it must
// not do (crash, hang, run into a missing page) is an outcome like any other.
//
// The last life may be cut at each of its calls, in many ways, without being lived again for each:
// while it stands still before a call, a copy is made of what the cut would leave, and a process
// forked from it surveys that. What was surveyed before, the same bytes with the same expectations,
// is not surveyed again. Each such cut as a case of its own (CutShort) comes to the same image.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/power_cut/ledger.h"
#include "tests/power_cut/plan.h"
#include "tests/power_cut/seen_images.h"
#include "tests/power_cut/shared_arena.h"
#include "tests/power_cut/simulated_disk.h"
#include "tests/power_cut/workload.h"

namespace holdfast::power_cut {

struct Failure {
  Case test_case;
  Damage damage = Damage::kNone;
  std::string what;  // For a person.
};

struct Outcome {
  std::vector<Failure> failures;  // The first ones.
  uint64_t failed = 0;            // All of them.
  uint32_t calls = 0;             // Of the disk, in the last life before the survey.
  SimulatedDisk::FailedCalls failed_calls{};
  uint64_t failed_meta_writes = 0;
  uint64_t cuts = 0;      // Of the last life, beside its own.
  uint64_t images = 0;    // Disks that these left and nobody had seen before.
  uint64_t surveyed = 0;  // Disks and expectations.
  uint64_t acked = 0;
  uint64_t refused = 0;
  uint64_t image = 0;           // Of the disk before the last survey,
  uint64_t last_cut_image = 0;  // and of the last of the cuts.
};

// The cuts to be made before the call of that number; asked once for each, and a last time when no
// call is left. In another process, so what it notes is lost.
using CutsAt = std::function<std::vector<Cut>(uint32_t call)>;

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
  Outcome Run(const Case& test_case, const CutsAt& cuts_at = nullptr,
              Deceit deceit = {Lie::kNone, false});

 private:
  class Sweep;
  struct Report;

  // Ends the process.
  [[noreturn]] void Survey(Ledger& ledger, SimulatedDisk& disk, const std::string& root,
                           bool ack_early) const;
  // Waits for the process. Nothing if all is well.
  std::optional<Failure> Judge(pid_t process, const char* when, const std::string& log) const;
  void BeginProcess(const std::string& log) const;
  [[nodiscard]] std::string Path(const char* name) const { return directory_ + "/" + name; }

  std::string directory_;
  SharedArena& arena_;
  Report& report_;
  SeenImages seen_;
  Workload workload_;  // Of the last case; the next one is likely to want the same.
};

}  // namespace holdfast::power_cut
