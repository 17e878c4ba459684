#include "kafka/producer_state.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::kafka {
namespace {

using base::Code;
using base::Unexpected;

// The stored form: version, count, the producers by ascending id, CRC-32C of all that.
//   table    := u8 version, u32 count, producer{count}, u32 crc
//   producer := i64 id, i16 epoch, i32 coordinator_epoch, i64 last_timestamp,
//               i64 transaction_start_offset, u8 batches, batch{batches}
//   batch    := i64 base_offset, i64 timestamp, i32 base_sequence, i32 last_sequence
constexpr uint8_t kVersion = 1;
constexpr size_t kTableHeaderSize = 5;
constexpr size_t kProducerSize = 31;
constexpr size_t kBatchSize = 24;
constexpr size_t kCrcSize = 4;

template <class T>
void Put(T value, std::string* out) {
  char bytes[sizeof(T)];
  base::StoreLittle(bytes, value);
  out->append(bytes, sizeof(T));
}

// The caller has made sure that the bytes are there.
template <class T>
T Take(std::string_view* bytes) {
  const T value = base::LoadLittle<T>(bytes->data());
  bytes->remove_prefix(sizeof(T));
  return value;
}

int32_t LastSequence(const SequencedBatch& batch) {
  return AdvanceSequence(batch.producer.base_sequence,
                         static_cast<int32_t>(static_cast<uint32_t>(batch.record_count) - 1));
}

std::string Name(const Producer& producer) {
  return "producer " + std::to_string(producer.id) + " of epoch " + std::to_string(producer.epoch);
}

ProducerVerdict OutOfOrder(const Producer& producer, int32_t expected) {
  return {.kind = ProducerVerdict::Kind::kRefuse,
          .error = ErrorCode::kOutOfOrderSequenceNumber,
          .message = Name(producer) + " sent sequence " + std::to_string(producer.base_sequence) +
                     ", expected " + std::to_string(expected)};
}

ProducerVerdict Fenced(const Producer& producer, int16_t current_epoch) {
  return {.kind = ProducerVerdict::Kind::kRefuse,
          .error = ErrorCode::kInvalidProducerEpoch,
          .message = Name(producer) + " is fenced by epoch " + std::to_string(current_epoch)};
}

}  // namespace

ProducerVerdict ProducerTable::Check(const SequencedBatch& batch) const {
  const Producer& producer = batch.producer;
  HF_CHECK(producer.id >= 0);
  const auto found = producers_.find(producer.id);
  if (found == producers_.end()) {
    const bool must_begin_at_zero = batch.transactional && batch.transactions_v2;
    if (must_begin_at_zero && producer.base_sequence != 0) return OutOfOrder(producer, 0);
    return {};
  }
  const Entry& entry = found->second;
  if (producer.epoch < entry.epoch) return Fenced(producer, entry.epoch);
  if (producer.epoch > entry.epoch) {
    return producer.base_sequence == 0 ? CheckTransaction(batch, entry) : OutOfOrder(producer, 0);
  }
  const int32_t last_sequence = LastSequence(batch);
  for (const Batch& known : entry.batches) {
    if (known.base_sequence == producer.base_sequence && known.last_sequence == last_sequence) {
      return {.kind = ProducerVerdict::Kind::kDuplicate,
              .base_offset = known.base_offset,
              .timestamp = known.timestamp};
    }
  }
  const int32_t expected = AdvanceSequence(entry.last_sequence(), 1);
  return producer.base_sequence == expected ? CheckTransaction(batch, entry)
                                            : OutOfOrder(producer, expected);
}

ProducerVerdict ProducerTable::CheckTransaction(const SequencedBatch& batch, const Entry& entry) {
  if (batch.transactional || entry.transaction_start_offset < 0) return {};
  return {.kind = ProducerVerdict::Kind::kRefuse,
          .error = ErrorCode::kInvalidTxnState,
          .message = Name(batch.producer) + " has a transaction open since offset " +
                     std::to_string(entry.transaction_start_offset) +
                     ", and sent a batch outside of it"};
}

void ProducerTable::Record(const SequencedBatch& batch, const Place& place) {
  const Producer& producer = batch.producer;
  HF_CHECK(producer.id >= 0);
  Entry& entry = producers_[producer.id];
  if (entry.epoch != producer.epoch) {
    entry.batches.clear();
    entry.epoch = producer.epoch;
  }
  std::vector<Batch>& batches = entry.batches;
  if (batches.size() == kBatchesRemembered) batches.erase(batches.begin());
  // Most tables hold many producers of few batches: grow to what is needed, never to eight.
  if (batches.size() == batches.capacity()) {
    batches.reserve(std::min(kBatchesRemembered, std::max<size_t>(1, 2 * batches.size())));
  }
  batches.push_back({.base_offset = place.base_offset,
                     .timestamp = place.timestamp,
                     .base_sequence = producer.base_sequence,
                     .last_sequence = LastSequence(batch)});
  entry.last_timestamp = place.timestamp;
  if (batch.transactional && entry.transaction_start_offset < 0) {
    entry.transaction_start_offset = place.base_offset;
  }
}

int64_t ProducerTable::RecordMarker(const Marker& marker) {
  HF_CHECK(marker.producer_id >= 0);
  Entry& entry = producers_[marker.producer_id];
  if (entry.epoch != marker.producer_epoch) {
    entry.batches.clear();
    entry.epoch = marker.producer_epoch;
  }
  entry.coordinator_epoch = marker.coordinator_epoch;
  entry.last_timestamp = marker.timestamp;
  return std::exchange(entry.transaction_start_offset, -1);
}

int64_t ProducerTable::transaction_start(int64_t producer_id) const {
  const auto found = producers_.find(producer_id);
  return found == producers_.end() ? -1 : found->second.transaction_start_offset;
}

int64_t ProducerTable::transaction_start(int64_t producer_id, int16_t epoch) const {
  const auto found = producers_.find(producer_id);
  return found == producers_.end() || found->second.epoch != epoch
             ? -1
             : found->second.transaction_start_offset;
}

ErrorCode ProducerTable::CheckMarker(const Marker& marker) const {
  const auto found = producers_.find(marker.producer_id);
  if (found == producers_.end()) return ErrorCode::kNone;
  if (marker.producer_epoch < found->second.epoch) return ErrorCode::kInvalidProducerEpoch;
  return marker.coordinator_epoch < found->second.coordinator_epoch
             ? ErrorCode::kTransactionCoordinatorFenced
             : ErrorCode::kNone;
}

size_t ProducerTable::ExpireBefore(int64_t timestamp) {
  return std::erase_if(producers_, [timestamp](const auto& item) {
    const Entry& entry = item.second;
    return entry.last_timestamp < timestamp && entry.transaction_start_offset < 0;
  });
}

std::vector<ActiveProducer> ProducerTable::List() const {
  std::vector<ActiveProducer> list;
  list.reserve(producers_.size());
  for (const auto& [id, entry] : producers_) {
    list.push_back({.id = id,
                    .epoch = entry.epoch,
                    .last_sequence = entry.last_sequence(),
                    .last_timestamp = entry.last_timestamp,
                    .coordinator_epoch = entry.coordinator_epoch,
                    .transaction_start_offset = entry.transaction_start_offset});
  }
  std::ranges::sort(list, {}, &ActiveProducer::id);
  return list;
}

std::string ProducerTable::Serialize() const {
  std::vector<int64_t> ids;
  ids.reserve(producers_.size());
  size_t batches = 0;
  for (const auto& [id, entry] : producers_) {
    ids.push_back(id);
    batches += entry.batches.size();
  }
  std::ranges::sort(ids);

  std::string out;
  out.reserve(kTableHeaderSize + kProducerSize * ids.size() + kBatchSize * batches + kCrcSize);
  Put(kVersion, &out);
  Put(static_cast<uint32_t>(ids.size()), &out);
  for (const int64_t id : ids) {
    const Entry& entry = producers_.find(id)->second;
    Put(id, &out);
    Put(entry.epoch, &out);
    Put(entry.coordinator_epoch, &out);
    Put(entry.last_timestamp, &out);
    Put(entry.transaction_start_offset, &out);
    Put(static_cast<uint8_t>(entry.batches.size()), &out);
    for (const Batch& batch : entry.batches) {
      Put(batch.base_offset, &out);
      Put(batch.timestamp, &out);
      Put(batch.base_sequence, &out);
      Put(batch.last_sequence, &out);
    }
  }
  Put(base::Crc32c(out), &out);
  return out;
}

base::Result<ProducerTable> ProducerTable::Parse(std::string_view bytes) {
  if (bytes.size() < kTableHeaderSize + kCrcSize) {
    return Unexpected(Code::kCorrupt, "producer table is cut off");
  }
  if (const auto version = static_cast<uint8_t>(bytes[0]); version != kVersion) {
    return Unexpected(Code::kInvalid, "producer table is of version " + std::to_string(version) +
                                          ", which only a newer Holdfast reads");
  }
  const size_t covered = bytes.size() - kCrcSize;
  if (base::LoadLittle<uint32_t>(bytes.data() + covered) !=
      base::Crc32c(bytes.substr(0, covered))) {
    return Unexpected(Code::kCorrupt, "producer table does not match its CRC");
  }
  const auto malformed = [] {
    return Unexpected(Code::kCorrupt, "producer table is malformed though its CRC matches");
  };
  std::string_view rest = bytes.substr(1, covered - 1);
  const auto count = Take<uint32_t>(&rest);
  if (count > rest.size() / kProducerSize) return malformed();
  ProducerTable table;
  table.producers_.reserve(count);
  int64_t previous_id = -1;
  for (uint32_t i = 0; i < count; ++i) {
    if (rest.size() < kProducerSize) return malformed();
    const auto id = Take<int64_t>(&rest);
    if (id <= previous_id) return malformed();
    previous_id = id;
    Entry& entry = table.producers_[id];
    entry.epoch = Take<int16_t>(&rest);
    entry.coordinator_epoch = Take<int32_t>(&rest);
    entry.last_timestamp = Take<int64_t>(&rest);
    entry.transaction_start_offset = Take<int64_t>(&rest);
    const size_t batches = Take<uint8_t>(&rest);
    if (batches > kBatchesRemembered || rest.size() < batches * kBatchSize) return malformed();
    entry.batches.reserve(batches);
    for (size_t j = 0; j < batches; ++j) {
      Batch batch;
      batch.base_offset = Take<int64_t>(&rest);
      batch.timestamp = Take<int64_t>(&rest);
      batch.base_sequence = Take<int32_t>(&rest);
      batch.last_sequence = Take<int32_t>(&rest);
      entry.batches.push_back(batch);
    }
  }
  if (!rest.empty()) return malformed();
  return table;
}

}  // namespace holdfast::kafka
