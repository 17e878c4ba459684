// Drops what topics need not keep: entries beyond retention.ms and retention.bytes, and producers
// that were silent for longer than their ids are kept.
//
// Whole entries go, oldest first; an entry goes when all its records are too old. Space comes back
// when the spool retires the segments behind.
//
// Ownership: context, submitter and loop outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the loop's. A round looks at a few partitions per turn, and at some entries of each, so
//   that others get theirs.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/executor.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/submitter.h"

namespace holdfast::broker {

struct RetentionLimits {
  int64_t oldest_ms = -1;  // Older entries go; -1: none does.
  int64_t bytes_max = -1;  // -1: any number.
};

// Finds below what nothing of a partition need be kept. What is appended meanwhile is kept.
//
//   FirstToKeep first(spool, partition, limits);
//   while (!first.done()) first.Look();
//   ... first.offset() ...
//
// Threads: one at a time.
class FirstToKeep {
 public:
  FirstToKeep(spool::Spool& spool, const Partition& partition, const RetentionLimits& limits);

  [[nodiscard]] bool done() const { return done_; }
  // Looks at some entries more, see broker/entries.h.
  void Look();
  [[nodiscard]] int64_t offset() const { return keep_from_; }

 private:
  // Entries beside each other, whose bytes count as one.
  struct Stretch {
    int64_t end_offset;
    uint64_t bytes;
  };

  spool::Spool& spool_;
  const Partition& partition_;
  const int64_t end_;
  const uint64_t bytes_max_;
  int64_t keep_from_;
  int64_t reached_;
  // The newest that were seen. In one walk: compaction changes the sizes meanwhile, and a second
  // one would see others.
  std::deque<Stretch> newest_;
  uint64_t bytes_ = 0;  // Theirs.
  bool done_ = false;
};

class Retention {
 public:
  Retention(Context& context, Submitter& submitter, base::Executor& loop)
      : context_(context), submitter_(submitter), loop_(loop), catalog_(context.catalog) {}

  void Start();
  void Stop();

 private:
  struct Kept {
    Partition* partition;
    RetentionLimits limits;
  };

  void BeginRound();
  void GoOn();
  void Trim(Partition& partition, int64_t offset);
  void ExpireProducers();

  Context& context_;
  Submitter& submitter_;
  base::Executor& loop_;
  CatalogReader catalog_;
  std::vector<Kept> round_;             // Not yet done.
  std::optional<FirstToKeep> looking_;  // At the last of them.
  base::Timer timer_;
};

}  // namespace holdfast::broker
