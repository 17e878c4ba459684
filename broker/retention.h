// Drops what topics need not keep: entries beyond retention.ms and retention.bytes, and producers
// that were silent for longer than their ids are kept.
//
// Whole entries go, oldest first; an entry goes when all its records are too old. Space comes back
// when the spool retires the segments behind.
//
// Ownership: context, submitter and loop outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the loop's. A round looks at a few partitions per turn, so that others get theirs.
#pragma once

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

// Below it nothing of the partition need be kept. From any thread; what is appended meanwhile is
// kept.
[[nodiscard]] int64_t FirstToKeep(spool::Spool& spool, const Partition& partition,
                                  const RetentionLimits& limits);

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
  std::vector<Kept> round_;  // Not yet looked at.
  base::Timer timer_;
};

}  // namespace holdfast::broker
