// What a partition knows of transactions: how far its records are decided, and which of them were
// aborted, so that consumers with isolation level read_committed get no others.
//
// It follows from the partition's entries, as the producers do: opening replays them, and the list
// of aborted transactions stands in the checkpoint at a segment's beginning.
//
// Threads: the writer's, but for Aborted, which may be called from any.
// Limits: 32 bytes for each aborted transaction, as long as the partition keeps its records.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace holdfast::broker {

struct AbortedTransaction {
  int64_t producer_id = -1;
  int64_t first_offset = 0;
  int64_t last_offset = 0;  // Of the marker.

  bool operator==(const AbortedTransaction&) const = default;
};

class TransactionIndex {
 public:
  // A transaction appended its first batch.
  void Begin(int64_t first_offset) { open_.insert(first_offset); }
  // Its marker was appended. What the index knows already is not noted twice, so that entries may
  // be replayed.
  void End(const AbortedTransaction& transaction, bool aborted);

  // The end of what is decided, if all below `high_watermark` is durable: no transaction that is
  // open, or whose marker is not durable, begins before it.
  int64_t LastStableOffset(int64_t high_watermark);

  // The aborted transactions that have records in [from, to).
  [[nodiscard]] std::vector<AbortedTransaction> Aborted(int64_t from, int64_t to) const;

  // Nothing below `offset` will be read any more.
  void TrimBelow(int64_t offset);
  // Back to what is durable, below `high_watermark`, after a failed commit; then the transactions
  // that are open begin again.
  void Rewind(int64_t high_watermark);
  void Clear();

  // The aborted transactions for a checkpoint.
  [[nodiscard]] bool changed() const { return changed_; }
  // Empty if there are none. Then nothing is changed.
  [[nodiscard]] std::string Serialize();
  base::Result<void> Load(std::string_view bytes);

 private:
  struct Decided {
    int64_t first_offset;
    int64_t marker_offset;
  };
  struct Entry {
    AbortedTransaction transaction;
    int64_t others_from;  // No transaction that ends later begins below it.
  };

  std::set<int64_t> open_;        // By where they begin.
  std::vector<Decided> decided_;  // Whose markers may not be durable yet.
  bool changed_ = false;          // Since the last checkpoint.
  mutable base::Mutex mutex_;
  std::vector<Entry> aborted_ HF_GUARDED_BY(mutex_);  // By last_offset.
};

}  // namespace holdfast::broker
