#include "kafka/record_batch_builder.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/varint.h"

namespace holdfast::kafka {
namespace {

constexpr uint16_t kTransactionalBit = 0x10;
constexpr uint16_t kControlBit = 0x20;
constexpr int8_t kMagic = 2;
constexpr size_t kBeforeCovered = 9;  // Leader epoch, magic and CRC: under the length, not the CRC.
constexpr int16_t kMarkerVersion = 0;  // Of key and value alike.

void AppendNullableBytes(std::optional<std::string_view> bytes, std::string* out) {
  AppendVarint(bytes ? static_cast<int64_t>(bytes->size()) : -1, out);
  if (bytes) out->append(*bytes);
}

template <class T>
void AppendBig(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreBig(bytes, value);
  out->append(bytes, sizeof(T));
}

int64_t WrappingSubtract(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
}

void AppendBody(int64_t timestamp_delta, int64_t offset_delta, std::optional<std::string_view> key,
                std::optional<std::string_view> value, std::span<const RecordHeader> headers,
                std::string* out) {
  std::string body(1, '\0');  // Attributes.
  AppendVarint(timestamp_delta, &body);
  AppendVarint(offset_delta, &body);
  AppendNullableBytes(key, &body);
  AppendNullableBytes(value, &body);
  AppendVarint(static_cast<int64_t>(headers.size()), &body);
  for (const RecordHeader& header : headers) {
    AppendNullableBytes(header.key, &body);
    AppendNullableBytes(header.value, &body);
  }
  AppendVarint(static_cast<int64_t>(body.size()), out);
  *out += body;
}

}  // namespace

void AppendRecord(const Record& record, const BatchBase& base, std::string* out) {
  AppendBody(WrappingSubtract(record.timestamp, base.base_timestamp),
             WrappingSubtract(record.offset, base.base_offset), record.key, record.value,
             record.headers, out);
}

void RecordBatchBuilder::Add(const NewRecord& record) {
  if (count_ == 0) {
    base_timestamp_ = record.timestamp;
    max_timestamp_ = record.timestamp;
  }
  max_timestamp_ = std::max(max_timestamp_, record.timestamp);
  AppendBody(WrappingSubtract(record.timestamp, base_timestamp_), count_, record.key, record.value,
             record.headers, &records_);
  ++count_;
}

std::string RecordBatchBuilder::Build() && {
  HF_CHECK(count_ > 0);
  const std::string payload =
      options_.codec == Codec::kNone ? std::move(records_) : Compress(options_.codec, records_);
  std::string covered;  // By the CRC.
  covered.reserve(kBatchHeaderSize + payload.size());
  AppendBig(static_cast<uint16_t>(static_cast<uint16_t>(options_.codec) |
                                  (options_.transactional ? kTransactionalBit : 0) |
                                  (options_.control ? kControlBit : 0)),
            &covered);
  AppendBig(count_ - 1, &covered);
  AppendBig(base_timestamp_, &covered);
  AppendBig(max_timestamp_, &covered);
  AppendBig(options_.producer.id, &covered);
  AppendBig(options_.producer.epoch, &covered);
  AppendBig(options_.producer.base_sequence, &covered);
  AppendBig(count_, &covered);
  covered += payload;

  HF_CHECK(covered.size() + kBeforeCovered <=
           static_cast<size_t>(std::numeric_limits<int32_t>::max()));
  std::string batch;
  batch.reserve(kBatchHeaderSize + payload.size());
  AppendBig(options_.base_offset, &batch);
  AppendBig(static_cast<int32_t>(covered.size() + kBeforeCovered), &batch);
  AppendBig(options_.partition_leader_epoch, &batch);
  AppendBig(kMagic, &batch);
  AppendBig(base::Crc32c(covered), &batch);
  return batch + covered;
}

std::optional<TransactionEnd> ReadTransactionEnd(const RecordBatchView& batch) {
  const auto records = UncompressedRecords::Of(batch);
  if (!records || !batch.header().control()) return std::nullopt;
  RecordReader reader(batch.header(), records->bytes());
  Record record;
  if (!reader.Next(&record) || !record.key || record.key->size() < 2 * sizeof(int16_t)) {
    return std::nullopt;
  }
  const auto end = base::LoadBig<int16_t>(record.key->data() + sizeof(int16_t));
  if (end == static_cast<int16_t>(TransactionEnd::kCommit)) return TransactionEnd::kCommit;
  if (end == static_cast<int16_t>(TransactionEnd::kAbort)) return TransactionEnd::kAbort;
  return std::nullopt;
}

std::string BuildTransactionMarker(TransactionEnd end, int64_t producer_id, int16_t producer_epoch,
                                   int32_t coordinator_epoch, int64_t timestamp) {
  std::string key;
  AppendBig(kMarkerVersion, &key);
  AppendBig(static_cast<int16_t>(end), &key);
  std::string value;
  AppendBig(kMarkerVersion, &value);
  AppendBig(coordinator_epoch, &value);
  RecordBatchBuilder builder({.producer = {.id = producer_id, .epoch = producer_epoch},
                              .transactional = true,
                              .control = true});
  builder.Add({.timestamp = timestamp, .key = key, .value = value});
  return std::move(builder).Build();
}

}  // namespace holdfast::kafka
