// One life of a process that uses a spool: opens it, compares it with the ledger, goes on with the
// workload, and says what is wrong. Everything runs on one thread and virtual time, so that the
// n-th call is always the same.
//
// A life may end at any call of the disk. If it does not, the spool must have recovered from all
// faults at its end: everything submitted was answered, everything acknowledged is there, and more
// is taken.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spool/spool.h"
#include "tests/power_cut/ledger.h"
#include "tests/power_cut/model.h"
#include "tests/power_cut/plan.h"
#include "tests/power_cut/simulated_disk.h"
#include "tests/power_cut/workload.h"
#include "tests/support/manual_executor.h"

namespace holdfast::power_cut {

// Counts the entries of each stream, by Checkpoint and Replay alone.
class CountingOwner final : public spool::Owner {
 public:
  explicit CountingOwner(Ledger& ledger) : ledger_(ledger) {}
  base::Result<void> Load(const spool::StateView& state) override;
  void Replay(const spool::EntryInfo& entry) override { ++seen[entry.stream.value()]; }
  void Checkpoint(spool::Transaction& transaction) override;
  void OnDurable(std::span<const spool::StreamId> streams) override;

  const spool::Spool* spool = nullptr;  // For OnDurable.
  std::map<uint32_t, uint64_t> seen;
  std::map<std::string, std::string, std::less<>> loaded;  // All other keys, as of Load.

 private:
  Ledger& ledger_;
};

class Driver {
 public:
  // With `ack_early` it takes operations for acknowledged as soon as they are applied, to see that
  // the tests would notice.
  Driver(const Workload& workload, Ledger& ledger, SimulatedDisk& disk, std::string directory,
         bool ack_early);
  ~Driver();

  // The rest of the workload's steps. Does not come back if the life is cut short.
  void Live(const Life& life, Witness* witness = nullptr);
  // The life after the last one: nothing fails. Checks, goes on a little, cuts the power, checks.
  void Survey();

 private:
  class PlannedOperation;

  void Open();
  void Close();
  // What is there decides about all operations of which nobody knew.
  void Settle();
  void Do(const Step& step);
  void Hold(uint32_t stream_number);
  void Release();
  void Revise();
  void Sort();
  void Submit(size_t operation);
  void Answered(size_t operation, bool ok);
  void Applied(size_t operation);

  void ExpectAllAnswered() const;
  void ExpectTakesMore();
  void ExpectSpaceAccounted() const;
  void ExpectNothingUnfinished() const;
  // Against the operations that are acknowledged or stored.
  void ExpectHolds() const;
  void ExpectHolds(const Model& model) const;
  void ExpectEntries(const Model::Stream& expected, spool::StreamId stream) const;
  void ExpectEntry(const Model::Entry& expected, const spool::EntryView& entry) const;
  void ExpectFindsByTime(const Model::Stream& expected, spool::StreamId stream) const;
  // Ends the process with that verdict unless `holds`.
  void Expect(bool holds, Damage damage, const std::string& otherwise) const;

  const Workload& workload_;
  Ledger& ledger_;
  SimulatedDisk& disk_;
  const std::string directory_;
  const bool ack_early_;
  bool faults_ = false;  // In this life.

  CountingOwner owner_;
  test::ManualClock clock_;
  test::ManualExecutor writer_{clock_};
  test::ManualExecutor background_{clock_};
  std::unique_ptr<spool::Spool> spool_;
  spool::Lease lease_;
  std::string leased_;  // What its first entry held.
};

}  // namespace holdfast::power_cut
