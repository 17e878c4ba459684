// Any bytes as: a produced batch, a log of batches, each codec's input, a producer table's
// checkpoint. What is accepted must then hold its promises.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/compression.h"
#include "kafka/producer_state.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"

namespace {

using namespace holdfast;
using namespace holdfast::kafka;

constexpr size_t kLimit = 256 << 10;

// Only chance would find a CRC, so the sum and what leads to it are put right.
std::string Sealed(std::string_view bytes) {
  std::string batch(bytes);
  base::StoreBig(batch.data(), int64_t{0});
  base::StoreBig(batch.data() + 8, static_cast<int32_t>(batch.size() - kBatchPrefixSize));
  batch[16] = 2;
  base::StoreBig(batch.data() + 17, base::Crc32c(std::string_view(batch).substr(21)));
  return batch;
}

void CheckPatches(const RecordBatchView& batch) {
  const Producer producer{.id = 42, .epoch = 7, .base_sequence = 123456};
  std::string patched(batch.bytes());
  SetProducer(patched, producer);
  HF_CHECK(RecordBatchView(patched).CrcMatches());
  SetLogAppendTime(patched, 99);
  SetBaseOffset(patched, 1'000'000);
  HF_CHECK(RecordBatchView(patched).CrcMatches());
  const auto header = RebuildHeader(batch, producer);
  patched.assign(header.data(), header.size()).append(batch.payload());
  HF_CHECK(CheckProduced(patched, {}).ok());
}

void AsProduced(std::string_view bytes) {
  (void)CheckProduced(bytes, {}).ok();
  if (bytes.size() < kBatchHeaderSize) return;
  const std::string sealed = Sealed(bytes);
  if (!CheckProduced(sealed, {}).ok()) return;
  const RecordBatchView batch(sealed);
  const BatchHeader header = batch.header();
  HF_CHECK(header.record_count > 0 && header.last_offset() == header.record_count - 1);
  CheckPatches(batch);
  if (CheckRecords(batch, {.decompressed_limit = kLimit}).ok()) {
    auto records = UncompressedRecords::Of(batch, kLimit);
    HF_CHECK(records.has_value());
    RecordReader reader(header, records->bytes());
    Record record;
    while (reader.Next(&record)) {
    }
    HF_CHECK(reader.status().has_value() && reader.count() == header.record_count);
  }
}

void AsLog(std::string_view bytes) {
  BatchIterator batches(bytes, kLimit);
  ProducerTable producers;
  while (const auto batch = batches.Next()) {
    HF_CHECK(batch->size() <= kLimit);
    (void)batch->CrcMatches();
    (void)CheckRecords(*batch, {.decompressed_limit = kLimit}).ok();
    const BatchHeader header = batch->header();
    if (header.producer.id < 0) continue;
    const auto sequenced = SequencedBatch::FromHeader(header);
    if (producers.Check(sequenced).kind == ProducerVerdict::Kind::kAppend) {
      producers.Record(sequenced, {.base_offset = header.base_offset, .timestamp = 0});
    }
  }
  HF_CHECK(batches.stop() != BatchIterator::Stop::kNotYet);
  HF_CHECK((batches.stop() == BatchIterator::Stop::kEnd) == batches.rest().empty());
}

void AsCompressed(std::string_view bytes) {
  for (int codec = 0; codec < 8; ++codec) {
    const auto plain = Decompress(static_cast<Codec>(codec), bytes, kLimit);
    if (plain) HF_CHECK(plain->size() <= kLimit);
  }
}

void AsProducerTable(std::string_view bytes) {
  const auto table = ProducerTable::Parse(bytes);
  if (table) HF_CHECK(table->Serialize() == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  AsProduced(bytes);
  AsLog(bytes);
  AsCompressed(bytes);
  AsProducerTable(bytes);
  return 0;
}
