// Record batches of version 2 (magic 2), the form in which records travel and are stored.
//
//   BatchVerdict verdict = CheckProduced(request_records, rules);        // at the front door
//   if (!verdict.ok()) return Refuse(verdict.error, verdict.message);
//   RecordBatchView batch(request_records);
//
//   BatchIterator batches(fetched);                                      // in a log or a response
//   while (std::optional<RecordBatchView> batch = batches.Next()) ...
//
// The header is 61 bytes; base offset, length, leader epoch and magic stand outside the CRC, so a
// broker assigns offset and epoch in place. Producer id, epoch and sequence stand inside: their
// setters derive the new CRC from the old one (base::Crc32cPatch), never looking at the records
// again, and so carry damage along instead of hiding it. record_reader.h reads the records inside;
// record_batch_builder.h makes batches.
//
// Ownership: views borrow the bytes they were made from.
// Threads: any; plain values. No I/O, no clock: the caller gives the time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kafka/compression.h"
#include "kafka/error_code.h"

namespace holdfast::kafka {

inline constexpr size_t kBatchHeaderSize = 61;
// Base offset and length; batch_length counts what follows them.
inline constexpr size_t kBatchPrefixSize = 12;
// The CRC in the header is that of all bytes from here on.
inline constexpr size_t kBatchCrcBegin = 21;
inline constexpr int64_t kNoProducerId = -1;
inline constexpr int16_t kNoProducerEpoch = -1;
inline constexpr int32_t kNoSequence = -1;
inline constexpr int64_t kNoTimestamp = -1;

// Who wrote a batch, and the sequence number of its first record.
struct Producer {
  int64_t id = kNoProducerId;
  int16_t epoch = kNoProducerEpoch;
  int32_t base_sequence = kNoSequence;

  bool operator==(const Producer&) const = default;
};

// `steps` records on from `sequence`: after 2147483647 comes 0.
[[nodiscard]] constexpr int32_t AdvanceSequence(int32_t sequence, int32_t steps) {
  return static_cast<int32_t>((static_cast<uint32_t>(sequence) + static_cast<uint32_t>(steps)) &
                              0x7fffffff);
}

// Offsets and timestamps of foreign bytes may be anything; their sums wrap.
[[nodiscard]] constexpr int64_t WrappingAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

struct BatchHeader {
  int64_t base_offset = 0;
  int32_t batch_length = 0;
  int32_t partition_leader_epoch = -1;
  int8_t magic = 2;
  uint32_t crc = 0;
  uint16_t attributes = 0;
  int32_t last_offset_delta = 0;
  int64_t base_timestamp = kNoTimestamp;
  int64_t max_timestamp = kNoTimestamp;
  Producer producer = {};
  int32_t record_count = 0;

  // The lowest three bits; above kNewestCodec if the batch came from a newer writer.
  [[nodiscard]] Codec codec() const { return static_cast<Codec>(attributes & 0x07); }
  // Every record's time is then max_timestamp, whatever its own delta says.
  [[nodiscard]] bool log_append_time() const { return (attributes & 0x08) != 0; }
  [[nodiscard]] bool transactional() const { return (attributes & 0x10) != 0; }
  [[nodiscard]] bool control() const { return (attributes & 0x20) != 0; }
  // base_timestamp is then the time from which compaction may drop tombstones.
  [[nodiscard]] bool delete_horizon() const { return (attributes & 0x40) != 0; }
  [[nodiscard]] bool has_producer() const { return producer.id != kNoProducerId; }
  [[nodiscard]] int64_t last_offset() const { return WrappingAdd(base_offset, last_offset_delta); }
  [[nodiscard]] int64_t next_offset() const { return WrappingAdd(last_offset(), 1); }
  [[nodiscard]] int32_t last_sequence() const {
    return has_producer() && producer.base_sequence != kNoSequence
               ? AdvanceSequence(producer.base_sequence, last_offset_delta)
               : kNoSequence;
  }
};

// One batch, whole and of magic 2; nothing else about it is known to be right.
class RecordBatchView {
 public:
  // `batch` is exactly one batch that CheckProduced, Front or BatchIterator accepted: checked,
  // aborts.
  explicit RecordBatchView(std::string_view batch);

  // The batch that `bytes` begins with; more may follow. kCorrupt if it is cut off, or is none.
  static base::Result<RecordBatchView> Front(std::string_view bytes);

  [[nodiscard]] std::string_view bytes() const { return bytes_; }
  // What follows the header, still compressed.
  [[nodiscard]] std::string_view payload() const { return bytes_.substr(kBatchHeaderSize); }
  [[nodiscard]] size_t size() const { return bytes_.size(); }
  [[nodiscard]] BatchHeader header() const;
  // Single fields, for loops that look at one or two.
  [[nodiscard]] int64_t base_offset() const;
  [[nodiscard]] int64_t last_offset() const;
  [[nodiscard]] int32_t record_count() const;
  [[nodiscard]] int64_t max_timestamp() const;
  // Sums every byte behind the CRC.
  [[nodiscard]] bool CrcMatches() const;

 private:
  std::string_view bytes_;
};

// That `bytes`, which were one batch when they were stored, still are: kCorrupt. Sums them.
base::Result<void> CheckStored(std::string_view bytes);

// A batch of some kilobytes may hold millions of records, and each name has a place in the answer.
inline constexpr size_t kNamedRecordsMax = 100;

// Whether a batch may be taken; otherwise what a Kafka broker answers, and a message for the
// client.
struct [[nodiscard]] BatchVerdict {
  ErrorCode error = ErrorCode::kNone;
  std::string message = {};
  // The guilty records' indexes in the batch, if it was they: at most the first kNamedRecordsMax.
  std::vector<int32_t> records = {};

  [[nodiscard]] bool ok() const { return error == ErrorCode::kNone; }
};

struct ProduceRules {
  // The topic's max.message.bytes; header and compressed records count.
  size_t max_batch_bytes = 1048588;
  // Now plus message.timestamp.after.max.ms (an hour by default). The maximum for topics with
  // LogAppendTime, where the producer's times do not matter.
  int64_t latest_timestamp = std::numeric_limits<int64_t>::max();
  // False for Produce requests before v7.
  bool zstd_allowed = true;
};

// Checks the `records` field of a Produce request for one partition as a broker does: one whole
// batch of magic 2, base offset 0, size, CRC, counts, no control batch, producer fields, codec,
// timestamp. Of the records only the CRC is computed; what is inside may still be garbage (see
// CheckRecords).
BatchVerdict CheckProduced(std::string_view records, const ProduceRules& rules);

struct RecordRules {
  int64_t latest_timestamp = std::numeric_limits<int64_t>::max();
  // Now less message.timestamp.before.max.ms, which is unlimited by default.
  int64_t earliest_timestamp = std::numeric_limits<int64_t>::min();
  // Compacted topics refuse records without a key.
  bool keys_required = false;
  size_t decompressed_limit = kDecompressedLimit;
  DecompressionBudget* budget = nullptr;  // Of the request, if it is one.
};

// For a batch that cannot be taken apart.
BatchVerdict RefuseUncompressed(const base::Error& error);

// The deep check, after CheckProduced: decompresses and walks every record. If several are wrong,
// they are named up to kNamedRecordsMax, and the first with a wrong timestamp, or else the first of
// all, decides the error.
BatchVerdict CheckRecords(const RecordBatchView& batch, const RecordRules& rules);
// The same for one that was decompressed already.
BatchVerdict CheckRecords(const BatchHeader& header, std::string_view uncompressed,
                          const RecordRules& rules);

// Batches one after another, as a log or a Fetch response holds them. A Fetch response may end
// within a batch; that is no error.
class BatchIterator {
 public:
  enum class Stop : uint8_t {
    kNotYet,
    kEnd,        // Nothing is left.
    kTruncated,  // What is left is the beginning of a batch.
    kDamaged,    // What is left is no batch of magic 2, or larger than the limit.
  };

  explicit BatchIterator(std::string_view bytes,
                         size_t max_batch_bytes = std::numeric_limits<int32_t>::max())
      : rest_(bytes), max_batch_bytes_(max_batch_bytes) {}

  std::optional<RecordBatchView> Next();
  // Why Next gave nothing.
  [[nodiscard]] Stop stop() const { return stop_; }
  // What Next has not yet given.
  [[nodiscard]] std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
  size_t max_batch_bytes_;
  Stop stop_ = Stop::kNotYet;
};

// In place. `batch` begins with a whole header whose length field is right; only the header is
// touched, so the bytes behind it need not be there.
void SetBaseOffset(std::span<char> batch, int64_t base_offset);
void SetPartitionLeaderEpoch(std::span<char> batch, int32_t epoch);
// These also bring the CRC up to date.
void SetProducer(std::span<char> batch, const Producer& producer);
void SetLogAppendTime(std::span<char> batch, int64_t timestamp);
void SetTransactional(std::span<char> batch, bool transactional);

// `batch` with another codec: `uncompressed` are its records, and its other fields stay.
[[nodiscard]] std::string Recompress(const RecordBatchView& batch, std::string_view uncompressed,
                                     Codec codec, std::optional<int> level = std::nullopt);

// `batch` with other records for the same offsets; its other fields stay.
struct NewRecords {
  std::string_view uncompressed = {};
  int32_t count = 0;
  int64_t max_timestamp = kNoTimestamp;
  // In place of the base timestamp, which the records' deltas then count from.
  std::optional<int64_t> delete_horizon = {};
};
[[nodiscard]] std::string WithRecords(const RecordBatchView& batch, const NewRecords& records);

// The header under which `batch`'s untouched payload is produced by somebody else: with base offset
// 0, no leader epoch, `producer`, and the CRC that belongs to it.
[[nodiscard]] std::array<char, kBatchHeaderSize> RebuildHeader(const RecordBatchView& batch,
                                                               const Producer& producer);

}  // namespace holdfast::kafka
