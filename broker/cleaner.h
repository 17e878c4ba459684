// Compacts topics with cleanup.policy=compact: of each key the last record stays, others go, and
// with them what was aborted. As Apache Kafka's log cleaner does it, with one log instead of many.
//
// Every log.cleaner.backoff.ms it looks which partitions are due: those of which more than
// min.cleanable.dirty.ratio was not compacted yet, and those with something older than
// max.compaction.lag.ms. It reads what is new of them, notes the newest offset of each key in a map
// of bounded size, then judges all entries from the beginning, and has the spool write the segments
// with those that change anew (spool::Revision). Only sealed segments can be written anew; so that
// a small topic is compacted, too, the open one is sealed early when it holds what is older than a
// due topic's segment.ms, or more than its segment.bytes.
//
//   Tombstones and markers of transactions go delete.retention.ms after the compaction that first
//     met them; the time stands in the batch (KIP-534). Markers of aborts stay: readers need them.
//   Records younger than min.compaction.lag.ms, those above the last stable offset, and the last
//     batch of a partition stay as they are. Ages go by the time of arrival.
//   Segments hold other topics, too, and are written whole. If little is gained that waits, for
//     kPatience at most; max.compaction.lag.ms is kept.
//
// Ownership: the context outlives it.
// Threads: made on any; the executor's own, which it may keep for minutes, but for Interrupt.
// Shutdown: Interrupt, at which a round ends at its next step, and then Stop.
// Limits: those of Options. Beside the map, 24 bytes for each batch that changes in a round.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/executor.h"
#include "broker/catalog.h"
#include "broker/cleaner_round.h"
#include "broker/context.h"

namespace holdfast::broker {

class Cleaner {
 public:
  Cleaner(Context& context, base::Executor& executor) : context_(context), executor_(executor) {}

  void Start();
  void Interrupt() { stop_.Set(); }
  void Stop();

 private:
  // What is known of a partition's sealed entries, those below `counted_to`.
  struct Progress {
    int64_t cleaned_to = 0;
    int64_t counted_to = -1;
    uint64_t clean_bytes = 0;
    uint64_t dirty_bytes = 0;
    int64_t first_dirty_ms = -1;  // When it arrived.
    // The last batch, if a round has used its keys already; it is dirty again when another follows.
    int64_t used_last_batch = -1;
  };
  struct Due {
    std::shared_ptr<const Topics> topics;  // Keeps the config.
    const TopicConfig* config = nullptr;
    Partition* partition = nullptr;
    int64_t from = 0;  // What is below was compacted before.
    int64_t to = 0;
    double ratio = 0;
    bool overdue = false;
  };

  void Run();
  void RunAfter(base::Duration delay);
  [[nodiscard]] std::vector<Due> FindDue(bool* seal);
  void Look(const std::shared_ptr<const Topics>& topics, const Topic& topic, Partition& partition,
            std::vector<Due>* due, bool* seal);
  // Says after how long to look again.
  base::Duration Compact(std::vector<Due> due);
  void Note(Partition& partition, int64_t to);

  Context& context_;
  base::Executor& executor_;
  StopSignal stop_;
  base::Timer timer_;
  bool sealed_ = false;  // Just now, for this round.
  std::unordered_map<const Partition*, Progress> progress_;
  std::optional<int64_t> postponed_since_ms_;
};

}  // namespace holdfast::broker
