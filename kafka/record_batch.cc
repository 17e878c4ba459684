#include "kafka/record_batch.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/record_reader.h"

namespace holdfast::kafka {
namespace {

using base::LoadBig;
using base::StoreBig;

// Where each field of the header begins.
constexpr size_t kBaseOffsetAt = 0;
constexpr size_t kBatchLengthAt = 8;
constexpr size_t kLeaderEpochAt = 12;
constexpr size_t kMagicAt = 16;
constexpr size_t kCrcAt = 17;
constexpr size_t kAttributesAt = kBatchCrcBegin;
constexpr size_t kLastOffsetDeltaAt = 23;
constexpr size_t kBaseTimestampAt = 27;
constexpr size_t kMaxTimestampAt = 35;
constexpr size_t kProducerIdAt = 43;
constexpr size_t kProducerEpochAt = 51;
constexpr size_t kBaseSequenceAt = 53;
constexpr size_t kRecordCountAt = 57;

constexpr int8_t kMagic = 2;
constexpr uint16_t kCodecBits = 0x07;
constexpr uint16_t kLogAppendTimeBit = 0x08;
constexpr uint16_t kTransactionalBit = 0x10;
constexpr uint16_t kDeleteHorizonBit = 0x40;
// Length, attributes, three deltas or lengths of one byte each, and the count of headers.
constexpr size_t kSmallestRecord = 7;

// The length of the batch that `bytes` begins with, as its header states it.
int64_t StatedSize(std::string_view bytes) {
  return int64_t{LoadBig<int32_t>(bytes.data() + kBatchLengthAt)} +
         static_cast<int64_t>(kBatchPrefixSize);
}

BatchVerdict Refuse(ErrorCode error, std::string message) {
  return {.error = error, .message = std::move(message)};
}
BatchVerdict InvalidRecord(std::string message) {
  return Refuse(ErrorCode::kInvalidRecord, std::move(message));
}

// One whole batch of magic 2 and nothing behind it.
BatchVerdict CheckFrame(std::string_view records, size_t max_batch_bytes) {
  if (records.size() <= kMagicAt) {
    return InvalidRecord("the partition's records hold no whole batch; produce exactly one");
  }
  const auto magic = static_cast<int8_t>(records[kMagicAt]);
  if (magic == 0 || magic == 1) {
    return InvalidRecord("message format v" + std::to_string(magic) +
                         " is no longer taken; use a client of Kafka 0.11 or later");
  }
  if (magic != kMagic) {
    return Refuse(ErrorCode::kCorruptMessage, "unknown message format " + std::to_string(magic));
  }
  const int64_t size = StatedSize(records);
  if (size < static_cast<int64_t>(kBatchHeaderSize)) {
    return Refuse(ErrorCode::kCorruptMessage,
                  "batch length " + std::to_string(size) + " is smaller than a header");
  }
  if (size > static_cast<int64_t>(records.size())) {
    return InvalidRecord("batch of " + std::to_string(size) + " bytes is cut off after " +
                         std::to_string(records.size()));
  }
  if (size < static_cast<int64_t>(records.size())) {
    return InvalidRecord("more than one batch for a partition; produce exactly one");
  }
  if (records.size() > max_batch_bytes) {
    return Refuse(ErrorCode::kMessageTooLarge, "batch of " + std::to_string(records.size()) +
                                                   " bytes exceeds the topic's " +
                                                   std::to_string(max_batch_bytes));
  }
  return {};
}

BatchVerdict CheckCounts(const BatchHeader& header, size_t payload_size) {
  if (header.record_count <= 0 || header.last_offset_delta != header.record_count - 1) {
    return InvalidRecord("record count " + std::to_string(header.record_count) +
                         " does not match last offset delta " +
                         std::to_string(header.last_offset_delta));
  }
  if (header.codec() == Codec::kNone &&
      static_cast<size_t>(header.record_count) > payload_size / kSmallestRecord) {
    return InvalidRecord(std::to_string(header.record_count) + " records cannot fit into " +
                         std::to_string(payload_size) + " bytes");
  }
  return {};
}

BatchVerdict CheckProducer(const BatchHeader& header) {
  if (!header.has_producer()) {
    if (header.transactional()) return InvalidRecord("transactional batch without a producer id");
    return {};
  }
  if (header.producer.id < 0 || header.producer.epoch < 0 || header.producer.base_sequence < 0) {
    return InvalidRecord("producer id " + std::to_string(header.producer.id) + " with epoch " +
                         std::to_string(header.producer.epoch) + " and sequence " +
                         std::to_string(header.producer.base_sequence));
  }
  return {};
}

BatchVerdict CheckAttributes(const BatchHeader& header, const ProduceRules& rules) {
  if (header.control()) return InvalidRecord("clients may not produce control batches");
  if (header.delete_horizon()) {
    return InvalidRecord("clients may not produce batches with a delete horizon");
  }
  if (header.log_append_time()) {
    return Refuse(ErrorCode::kInvalidTimestamp, "clients may not set the log append time");
  }
  if (header.codec() > kNewestCodec) {
    return Refuse(ErrorCode::kUnsupportedCompressionType,
                  "unknown compression codec " + std::to_string(header.attributes & 0x07));
  }
  if (header.codec() == Codec::kZstd && !rules.zstd_allowed) {
    return Refuse(ErrorCode::kUnsupportedCompressionType, "zstd needs Produce v7 or later");
  }
  return {};
}

BatchVerdict TooLate(int64_t timestamp, int64_t latest) {
  return Refuse(ErrorCode::kInvalidTimestamp, "timestamp " + std::to_string(timestamp) +
                                                  " is later than allowed, " +
                                                  std::to_string(latest));
}

enum class Flaw : uint8_t { kNone, kTooEarly, kTooLate, kNoKey, kOtherOffset };

Flaw FlawOf(const Record& record, int64_t offset, const RecordRules& rules) {
  if (record.timestamp < rules.earliest_timestamp && record.timestamp != kNoTimestamp) {
    return Flaw::kTooEarly;
  }
  if (record.timestamp > rules.latest_timestamp) return Flaw::kTooLate;
  if (rules.keys_required && !record.key) return Flaw::kNoKey;
  return record.offset == offset ? Flaw::kNone : Flaw::kOtherOffset;
}

BatchVerdict RefuseFor(Flaw flaw, const Record& record, const RecordRules& rules) {
  switch (flaw) {
    case Flaw::kNone:
      break;
    case Flaw::kTooEarly:
      return Refuse(ErrorCode::kInvalidTimestamp, "timestamp " + std::to_string(record.timestamp) +
                                                      " is earlier than allowed, " +
                                                      std::to_string(rules.earliest_timestamp));
    case Flaw::kTooLate:
      return TooLate(record.timestamp, rules.latest_timestamp);
    case Flaw::kNoKey:
      return InvalidRecord("a compacted topic takes no record without a key");
    case Flaw::kOtherOffset:
      return InvalidRecord("offset delta of a record is not its index");
  }
  return {};
}

// Replaces header bytes [at, at + after.size()) and brings the CRC up to date. The batch's own
// length tells how many bytes the CRC covers behind them.
void Patch(std::span<char> batch, size_t at, std::string_view after) {
  HF_CHECK(at >= kAttributesAt && at + after.size() <= kBatchHeaderSize);
  const auto size = static_cast<size_t>(StatedSize({batch.data(), kBatchHeaderSize}));
  HF_CHECK(size >= kBatchHeaderSize);
  char* const field = batch.data() + at;
  const uint32_t crc = base::Crc32cPatch(LoadBig<uint32_t>(batch.data() + kCrcAt),
                                         {field, after.size()}, after, size - at - after.size());
  std::memcpy(field, after.data(), after.size());
  StoreBig(batch.data() + kCrcAt, crc);
}

// Header and payload, with the length and the CRC that belong to them.
std::string Seal(std::string header, const std::string& payload) {
  std::string& batch = header.append(payload);
  HF_CHECK(batch.size() <= static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  StoreBig(batch.data() + kBatchLengthAt, static_cast<int32_t>(batch.size() - kBatchPrefixSize));
  StoreBig(batch.data() + kCrcAt, base::Crc32c(std::string_view(batch).substr(kAttributesAt)));
  return std::move(batch);
}

}  // namespace

RecordBatchView::RecordBatchView(std::string_view batch) : bytes_(batch) {
  HF_CHECK(batch.size() >= kBatchHeaderSize &&
           StatedSize(batch) == static_cast<int64_t>(batch.size()) &&
           static_cast<int8_t>(batch[kMagicAt]) == kMagic);
}

base::Result<RecordBatchView> RecordBatchView::Front(std::string_view bytes) {
  BatchIterator batches(bytes);
  if (std::optional<RecordBatchView> batch = batches.Next()) return *batch;
  return base::Unexpected(base::Code::kCorrupt, batches.stop() == BatchIterator::Stop::kDamaged
                                                    ? "not a record batch of magic 2"
                                                    : "record batch is cut off after " +
                                                          std::to_string(bytes.size()) + " bytes");
}

BatchHeader RecordBatchView::header() const {
  const char* const from = bytes_.data();
  return {
      .base_offset = LoadBig<int64_t>(from + kBaseOffsetAt),
      .batch_length = LoadBig<int32_t>(from + kBatchLengthAt),
      .partition_leader_epoch = LoadBig<int32_t>(from + kLeaderEpochAt),
      .magic = LoadBig<int8_t>(from + kMagicAt),
      .crc = LoadBig<uint32_t>(from + kCrcAt),
      .attributes = LoadBig<uint16_t>(from + kAttributesAt),
      .last_offset_delta = LoadBig<int32_t>(from + kLastOffsetDeltaAt),
      .base_timestamp = LoadBig<int64_t>(from + kBaseTimestampAt),
      .max_timestamp = LoadBig<int64_t>(from + kMaxTimestampAt),
      .producer = {.id = LoadBig<int64_t>(from + kProducerIdAt),
                   .epoch = LoadBig<int16_t>(from + kProducerEpochAt),
                   .base_sequence = LoadBig<int32_t>(from + kBaseSequenceAt)},
      .record_count = LoadBig<int32_t>(from + kRecordCountAt),
  };
}

int64_t RecordBatchView::base_offset() const {
  return LoadBig<int64_t>(bytes_.data() + kBaseOffsetAt);
}
int64_t RecordBatchView::last_offset() const {
  return WrappingAdd(base_offset(), LoadBig<int32_t>(bytes_.data() + kLastOffsetDeltaAt));
}
int32_t RecordBatchView::record_count() const {
  return LoadBig<int32_t>(bytes_.data() + kRecordCountAt);
}
int64_t RecordBatchView::max_timestamp() const {
  return LoadBig<int64_t>(bytes_.data() + kMaxTimestampAt);
}
bool RecordBatchView::CrcMatches() const {
  return base::Crc32c(bytes_.substr(kAttributesAt)) == LoadBig<uint32_t>(bytes_.data() + kCrcAt);
}

base::Result<void> CheckStored(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(const RecordBatchView batch, RecordBatchView::Front(bytes));
  if (batch.size() != bytes.size()) {
    return base::Unexpected(base::Code::kCorrupt, "more than one record batch");
  }
  if (!batch.CrcMatches()) {
    return base::Unexpected(base::Code::kCorrupt, "the record batch's CRC does not match");
  }
  return {};
}

BatchVerdict CheckProduced(std::string_view records, const ProduceRules& rules) {
  if (BatchVerdict verdict = CheckFrame(records, rules.max_batch_bytes); !verdict.ok()) {
    return verdict;
  }
  const RecordBatchView batch(records);
  // Before any field under it is believed: damage on the way is worth a retry, a wrong field is
  // not.
  if (!batch.CrcMatches()) {
    return Refuse(ErrorCode::kCorruptMessage, "the batch's CRC does not match its bytes");
  }
  const BatchHeader header = batch.header();
  if (header.base_offset != 0) {
    return InvalidRecord("base offset is " + std::to_string(header.base_offset) +
                         "; producers must send 0");
  }
  if (BatchVerdict verdict = CheckAttributes(header, rules); !verdict.ok()) return verdict;
  if (BatchVerdict verdict = CheckCounts(header, batch.payload().size()); !verdict.ok()) {
    return verdict;
  }
  if (BatchVerdict verdict = CheckProducer(header); !verdict.ok()) return verdict;
  if (header.max_timestamp <= rules.latest_timestamp) return {};
  return TooLate(header.max_timestamp, rules.latest_timestamp);
}

BatchVerdict RefuseUncompressed(const base::Error& error) {
  // Clients cut such a batch in pieces.
  return Refuse(error.code == base::Code::kUnavailable ? ErrorCode::kMessageTooLarge
                                                       : ErrorCode::kInvalidRecord,
                error.message);
}

BatchVerdict CheckRecords(const RecordBatchView& batch, const RecordRules& rules) {
  const auto records = UncompressedRecords::Of(batch, rules.decompressed_limit, rules.budget);
  if (!records) return RefuseUncompressed(records.error());
  return CheckRecords(batch.header(), records->bytes(), rules);
}

BatchVerdict CheckRecords(const BatchHeader& header, std::string_view uncompressed,
                          const RecordRules& rules) {
  RecordReader reader(header, uncompressed);
  Record record;
  BatchVerdict verdict;
  while (reader.Next(&record)) {
    const int32_t index = reader.count() - 1;
    const Flaw flaw = FlawOf(record, WrappingAdd(header.base_offset, index), rules);
    if (flaw == Flaw::kNone) continue;
    if (verdict.records.size() < kNamedRecordsMax) verdict.records.push_back(index);
    const bool of_time = flaw == Flaw::kTooEarly || flaw == Flaw::kTooLate;
    if (verdict.ok() || (of_time && verdict.error != ErrorCode::kInvalidTimestamp)) {
      BatchVerdict first = RefuseFor(flaw, record, rules);
      verdict.error = first.error;
      verdict.message = std::move(first.message);
    }
  }
  if (auto status = reader.status(); !status) return InvalidRecord(status.error().message);
  return verdict;
}

std::optional<RecordBatchView> BatchIterator::Next() {
  if (rest_.size() < kBatchPrefixSize) {
    stop_ = rest_.empty() ? Stop::kEnd : Stop::kTruncated;
    return std::nullopt;
  }
  const int64_t size = StatedSize(rest_);
  const bool other_magic =
      rest_.size() > kMagicAt && static_cast<int8_t>(rest_[kMagicAt]) != kMagic;
  if (size < static_cast<int64_t>(kBatchHeaderSize) || other_magic ||
      size > static_cast<int64_t>(std::min<uint64_t>(max_batch_bytes_, INT64_MAX))) {
    stop_ = Stop::kDamaged;
    return std::nullopt;
  }
  if (size > static_cast<int64_t>(rest_.size())) {
    stop_ = Stop::kTruncated;
    return std::nullopt;
  }
  const RecordBatchView batch(rest_.substr(0, static_cast<size_t>(size)));
  rest_.remove_prefix(batch.size());
  return batch;
}

void SetBaseOffset(std::span<char> batch, int64_t base_offset) {
  HF_CHECK(batch.size() >= kBatchHeaderSize);
  StoreBig(batch.data() + kBaseOffsetAt, base_offset);
}

void SetPartitionLeaderEpoch(std::span<char> batch, int32_t epoch) {
  HF_CHECK(batch.size() >= kBatchHeaderSize);
  StoreBig(batch.data() + kLeaderEpochAt, epoch);
}

void SetProducer(std::span<char> batch, const Producer& producer) {
  HF_CHECK(batch.size() >= kBatchHeaderSize);
  char field[kRecordCountAt - kProducerIdAt];
  StoreBig(field, producer.id);
  StoreBig(field + (kProducerEpochAt - kProducerIdAt), producer.epoch);
  StoreBig(field + (kBaseSequenceAt - kProducerIdAt), producer.base_sequence);
  Patch(batch, kProducerIdAt, {field, sizeof(field)});
}

void SetLogAppendTime(std::span<char> batch, int64_t timestamp) {
  HF_CHECK(batch.size() >= kBatchHeaderSize);
  char field[kProducerIdAt - kAttributesAt];
  std::memcpy(field, batch.data() + kAttributesAt, sizeof(field));
  StoreBig(field, static_cast<uint16_t>(LoadBig<uint16_t>(field) | kLogAppendTimeBit));
  StoreBig(field + (kMaxTimestampAt - kAttributesAt), timestamp);
  Patch(batch, kAttributesAt, {field, sizeof(field)});
}

void SetTransactional(std::span<char> batch, bool transactional) {
  HF_CHECK(batch.size() >= kBatchHeaderSize);
  const auto before = LoadBig<uint16_t>(batch.data() + kAttributesAt);
  const uint16_t bit = transactional ? kTransactionalBit : 0;
  char field[sizeof(uint16_t)];
  StoreBig(field, static_cast<uint16_t>((before & ~kTransactionalBit) | bit));
  Patch(batch, kAttributesAt, {field, sizeof(field)});
}

std::string WithRecords(const RecordBatchView& batch, const NewRecords& records) {
  std::string header(batch.bytes().substr(0, kBatchHeaderSize));
  StoreBig(header.data() + kRecordCountAt, records.count);
  StoreBig(header.data() + kMaxTimestampAt, records.max_timestamp);
  if (records.delete_horizon) {
    const auto attributes = LoadBig<uint16_t>(header.data() + kAttributesAt);
    StoreBig(header.data() + kAttributesAt, static_cast<uint16_t>(attributes | kDeleteHorizonBit));
    StoreBig(header.data() + kBaseTimestampAt, *records.delete_horizon);
  }
  return Seal(std::move(header), Compress(batch.header().codec(), records.uncompressed));
}

std::string Recompress(const RecordBatchView& batch, std::string_view uncompressed, Codec codec,
                       std::optional<int> level) {
  std::string header(batch.bytes().substr(0, kBatchHeaderSize));
  const auto attributes = LoadBig<uint16_t>(header.data() + kAttributesAt);
  StoreBig(header.data() + kAttributesAt,
           static_cast<uint16_t>((attributes & ~kCodecBits) | static_cast<uint16_t>(codec)));
  return Seal(std::move(header), Compress(codec, uncompressed, level));
}

std::array<char, kBatchHeaderSize> RebuildHeader(const RecordBatchView& batch,
                                                 const Producer& producer) {
  std::array<char, kBatchHeaderSize> header;
  std::memcpy(header.data(), batch.bytes().data(), header.size());
  SetBaseOffset(header, 0);
  SetPartitionLeaderEpoch(header, -1);
  SetProducer(header, producer);
  return header;
}

}  // namespace holdfast::kafka
