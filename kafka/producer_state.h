// The memory that makes produce idempotent: for one partition (or stream), per producer id, its
// epoch and its last five batches. The broker keeps one table per partition, the agent one per
// stream.
//
//   ProducerVerdict verdict = table.Check(batch);
//   if (verdict.kind == ProducerVerdict::Kind::kAppend) {
//     ... give the batch its offset ...
//     table.Record(batch, {.base_offset = offset, .timestamp = timestamp});
//   }
//
// The rules are Apache Kafka 4.2's: an exact repeat of one of the last five batches is a duplicate
// and is answered with the offset it had; any other sequence but the next is
// OUT_OF_ORDER_SEQUENCE_NUMBER; a new epoch begins at sequence 0; an older epoch is
// INVALID_PRODUCER_EPOCH; an unknown producer may begin anywhere; a batch without a transaction in
// the middle of one is INVALID_TXN_STATE.
//
// Ownership: values only. Threads: one, the writer of the partition. No clock, no I/O.
// Duplicates: a batch is remembered when it gets its offset, which is before it is durable. Answer
//   its duplicate only once the original's frame is synced.
// Limits: about 110 bytes for a producer with one batch, 200 with five. Producers are forgotten by
//   ExpireBefore alone, so its caller bounds the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "kafka/record_batch.h"

namespace holdfast::kafka {

// What the rules look at. FromHeader is for batches with a producer id.
struct SequencedBatch {
  Producer producer = {};
  int32_t record_count = 0;
  bool transactional = false;
  // From Produce v12 on: a transactional producer that the partition does not know begins at 0.
  bool transactions_v2 = false;

  static SequencedBatch FromHeader(const BatchHeader& header) {
    // Not record_count, which compaction lowers.
    const auto count = static_cast<uint32_t>(header.last_offset_delta) + 1;
    return {.producer = header.producer,
            .record_count = static_cast<int32_t>(count),
            .transactional = header.transactional()};
  }
};

struct [[nodiscard]] ProducerVerdict {
  enum class Kind : uint8_t { kAppend, kDuplicate, kRefuse };

  Kind kind = Kind::kAppend;
  ErrorCode error = ErrorCode::kNone;  // With kRefuse.
  std::string message = {};            // With kRefuse.
  int64_t base_offset = -1;            // With kDuplicate: where the original stands,
  int64_t timestamp = -1;              // and the timestamp it was recorded with.
};

// One producer as DescribeProducers lists it.
struct ActiveProducer {
  int64_t id = kNoProducerId;
  int16_t epoch = kNoProducerEpoch;
  int32_t last_sequence = kNoSequence;  // None after a transaction ended with a new epoch.
  int64_t last_timestamp = kNoTimestamp;
  int32_t coordinator_epoch = -1;
  int64_t transaction_start_offset = -1;  // Of the open transaction, if any.

  bool operator==(const ActiveProducer&) const = default;
};

class ProducerTable {
 public:
  static constexpr size_t kBatchesRemembered = 5;

  // Where a batch went. `timestamp` is what expiry goes by: Kafka takes the batch's max_timestamp
  // (the append time on LogAppendTime topics); the time of arrival does not let old records expire
  // at once.
  struct Place {
    int64_t base_offset = 0;
    int64_t timestamp = 0;
  };

  // May the batch be appended? Changes nothing. It has passed CheckProduced and has a producer id.
  ProducerVerdict Check(const SequencedBatch& batch) const;

  // Remembers a batch that was appended, or that is read back from the log: it is not checked
  // again.
  void Record(const SequencedBatch& batch, const Place& place);

  // A transaction marker was appended: closes the producer's transaction and takes over the epoch.
  struct Marker {
    int64_t producer_id = kNoProducerId;
    int16_t producer_epoch = kNoProducerEpoch;
    int32_t coordinator_epoch = -1;
    int64_t timestamp = 0;
  };
  // Returns where the transaction began that it closed, or -1.
  int64_t RecordMarker(const Marker& marker);

  // Where the open transaction of this producer began; -1 if it has none here.
  [[nodiscard]] int64_t transaction_start(int64_t producer_id) const;
  // The same, if it is of that epoch.
  [[nodiscard]] int64_t transaction_start(int64_t producer_id, int16_t epoch) const;
  // May a transaction marker be written? An older coordinator is TRANSACTION_COORDINATOR_FENCED,
  // an older producer INVALID_PRODUCER_EPOCH.
  [[nodiscard]] ErrorCode CheckMarker(const Marker& marker) const;

  // Forgets producers without an open transaction whose last timestamp is smaller. Returns how
  // many.
  size_t ExpireBefore(int64_t timestamp);

  [[nodiscard]] size_t size() const { return producers_.size(); }
  // By ascending id.
  [[nodiscard]] std::vector<ActiveProducer> List() const;

  // The whole table for a checkpoint, 31 bytes and 24 per batch for a producer, with a version and
  // a CRC.
  [[nodiscard]] std::string Serialize() const;
  // kCorrupt if damaged, kInvalid if a newer version wrote it.
  static base::Result<ProducerTable> Parse(std::string_view bytes);

 private:
  struct Batch {
    int64_t base_offset;
    int64_t timestamp;
    int32_t base_sequence;
    int32_t last_sequence;
  };
  struct Entry {
    std::vector<Batch> batches;  // Oldest first, of the current epoch.
    int64_t last_timestamp = kNoTimestamp;
    int64_t transaction_start_offset = -1;
    int32_t coordinator_epoch = -1;
    int16_t epoch = kNoProducerEpoch;

    [[nodiscard]] int32_t last_sequence() const {
      return batches.empty() ? kNoSequence : batches.back().last_sequence;
    }
  };

  static ProducerVerdict CheckTransaction(const SequencedBatch& batch, const Entry& entry);

  std::unordered_map<int64_t, Entry> producers_;
};

}  // namespace holdfast::kafka
