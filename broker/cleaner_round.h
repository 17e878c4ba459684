// One round of compaction: some partitions, from where each was compacted to before up to where it
// can be now. See broker/cleaner.h.
//
//   CompactionRound round(context, {.now_ms = now}, stop);
//   for (...) {
//     const auto added = round.Add(partition, config, from, to);
//     if (added && !*added) break;
//   }
//   HF_ASSIGN_OR_RETURN(report, round.Run());
//   ... round.compacted() ...
//
// Threads: one, and it blocks. Others may stop it: kClosed.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/offset_map.h"
#include "broker/pacer.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"
#include "spool/spool.h"

namespace holdfast::broker {

class CompactionRound final : private spool::Revision {
 public:
  struct Terms {
    int64_t now_ms = 0;
    bool at_any_price = false;  // Whatever has to be written for it.
  };
  CompactionRound(Context& context, const Terms& terms, StopSignal& stop);

  // False: the map is full, or the round was stopped; the partition is compacted up to where the
  // map reaches, maybe not at all. An error: that one cannot be read, and has no part in the round.
  base::Result<bool> Add(Partition& partition, const TopicConfig& config, int64_t from, int64_t to);
  base::Result<spool::RevisionReport> Run();
  struct Compacted {
    Partition* partition = nullptr;
    int64_t to = 0;           // What is below was compacted.
    int64_t last_batch = -1;  // That one stayed as it was, since nothing follows it; -1: none did.
  };
  [[nodiscard]] const std::vector<Compacted>& compacted() const { return compacted_; }

 private:
  struct Edit {
    int64_t base_offset;
    int64_t end_offset;
    Fate fate;
  };
  struct Job {
    Partition* partition;
    int64_t delete_retention_ms;
    int64_t to;
    int64_t last_batch;       // See Compacted.
    std::vector<Edit> edits;  // In order.
    // Producers with records that stay of a transaction that goes on, as far as was judged.
    std::unordered_set<int64_t> committing;
  };

  bool Map(const Partition& partition, const spool::EntryView& entry);
  base::Result<void> JudgeAll(Job& job);
  // Where to go on.
  base::Result<int64_t> PastUnreadable(const Partition& partition, int64_t offset,
                                       const base::Error& error);
  base::Result<Fate> JudgeBatch(Job& job, const spool::EntryView& entry);
  base::Result<Fate> JudgeRecords(const Job& job, const kafka::RecordBatchView& batch);
  [[nodiscard]] Fate JudgeMarker(Job& job, const kafka::RecordBatchView& batch) const;
  [[nodiscard]] static bool Aborted(const Partition& partition, const kafka::BatchHeader& header);
  [[nodiscard]] bool Keeps(const Job& job, const kafka::BatchHeader& header,
                           const kafka::Record& record) const;
  [[nodiscard]] bool HorizonPassed(const kafka::BatchHeader& header) const;

  // spool::Revision.
  [[nodiscard]] std::span<const spool::StreamId> Streams() const override { return streams_; }
  [[nodiscard]] Fate Judge(const spool::EntryInfo& entry) const override;
  base::Result<Replacement> Replace(const spool::EntryView& entry) override;
  [[nodiscard]] bool Worth(uint64_t freed, uint64_t written) override;
  [[nodiscard]] bool Pace(size_t bytes) override { return pacer_(bytes); }

  Context& context_;
  const Terms terms_;
  Pacer pacer_;
  OffsetMap map_;
  std::unordered_map<spool::StreamId, Job> jobs_;
  std::vector<spool::StreamId> streams_;
  std::vector<Compacted> compacted_;
  uint64_t saved_bytes_ = 0;  // About.
};

}  // namespace holdfast::broker
