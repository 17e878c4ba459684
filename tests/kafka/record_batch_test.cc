#include "kafka/record_batch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/error_code.h"
#include "kafka/producer_state.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_filter.h"
#include "kafka/record_reader.h"

namespace holdfast::kafka {
namespace {

using base::LoadBig;
using base::StoreBig;

constexpr Codec kCodecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
constexpr int64_t kNow = 1'700'000'000'000;

// Puts the right CRC into a batch that a test has changed.
std::string Seal(std::string batch) {
  StoreBig(batch.data() + 17, base::Crc32c(std::string_view(batch).substr(21)));
  return batch;
}
template <class T>
std::string With(std::string batch, size_t at, T value) {
  StoreBig(batch.data() + at, value);
  return batch;
}

std::string SomeBatch(const RecordBatchBuilder::Options& options = {}, int records = 3) {
  RecordBatchBuilder builder(options);
  for (int i = 0; i < records; ++i) {
    const std::string key = "key" + std::to_string(i);
    builder.Add({.timestamp = kNow + i, .key = key, .value = "a value, a value, a value"});
  }
  return std::move(builder).Build();
}

ErrorCode Check(std::string_view records, const ProduceRules& rules = {}) {
  const BatchVerdict verdict = CheckProduced(records, rules);
  EXPECT_EQ(verdict.ok(), verdict.message.empty());
  return verdict.error;
}
ErrorCode DeepCheck(std::string_view records, const RecordRules& rules = {}) {
  return CheckRecords(RecordBatchView(records), rules).error;
}

// Owns what a Record only borrows.
struct OwnedRecord {
  int64_t offset;
  int64_t timestamp;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers;
  bool operator==(const OwnedRecord&) const = default;
};
std::vector<OwnedRecord> ReadAll(std::string_view bytes) {
  const RecordBatchView batch(bytes);
  auto records = UncompressedRecords::Of(batch);
  EXPECT_TRUE(records);
  std::vector<OwnedRecord> all;
  RecordReader reader(batch.header(), records->bytes());
  Record record;
  while (reader.Next(&record)) {
    OwnedRecord& owned = all.emplace_back(
        OwnedRecord{record.offset, record.timestamp, std::nullopt, std::nullopt, {}});
    if (record.key) owned.key = std::string(*record.key);
    if (record.value) owned.value = std::string(*record.value);
    for (const RecordHeader& header : record.headers) {
      std::optional<std::string> value;
      if (header.value) value = std::string(*header.value);
      owned.headers.emplace_back(std::string(header.key), value);
    }
  }
  EXPECT_TRUE(reader.status());
  return all;
}

// ---- Building and reading ----

TEST(RecordBatchTest, RecordsComeBackFromEveryCodec) {
  const std::vector<RecordHeader> headers = {{"trace", "abc"}, {"none", std::nullopt}, {"", ""}};
  for (const Codec codec : kCodecs) {
    RecordBatchBuilder builder({.codec = codec, .base_offset = 40});
    builder.Add({.timestamp = kNow, .key = "k", .value = "v", .headers = headers});
    builder.Add({.timestamp = kNow - 5, .key = std::nullopt, .value = ""});
    builder.Add({.timestamp = kNow + 9, .key = "", .value = std::nullopt});
    EXPECT_EQ(builder.count(), 3);
    const std::string bytes = std::move(builder).Build();
    const RecordBatchView batch(bytes);
    EXPECT_TRUE(batch.CrcMatches());
    EXPECT_EQ(batch.header().codec(), codec);
    EXPECT_EQ(batch.max_timestamp(), kNow + 9);
    EXPECT_EQ(batch.last_offset(), 42);
    const std::vector<OwnedRecord> expected = {
        {40, kNow, "k", "v", {{"trace", "abc"}, {"none", std::nullopt}, {"", ""}}},
        {41, kNow - 5, std::nullopt, "", {}},
        {42, kNow + 9, "", std::nullopt, {}}};
    EXPECT_EQ(ReadAll(bytes), expected);
  }
}

TEST(RecordBatchTest, EveryHeaderFieldIsInItsPlace) {
  RecordBatchBuilder builder({.codec = Codec::kLz4,
                              .producer = {.id = 77, .epoch = 8, .base_sequence = 99},
                              .transactional = true,
                              .base_offset = 1234,
                              .partition_leader_epoch = 6});
  builder.Add({.timestamp = 500});
  builder.Add({.timestamp = 400});
  const std::string bytes = std::move(builder).Build();
  const BatchHeader header = RecordBatchView(bytes).header();
  EXPECT_EQ(header.base_offset, 1234);
  EXPECT_EQ(header.batch_length, static_cast<int32_t>(bytes.size()) - 12);
  EXPECT_EQ(header.partition_leader_epoch, 6);
  EXPECT_EQ(header.magic, 2);
  EXPECT_EQ(header.crc, base::Crc32c(std::string_view(bytes).substr(21)));
  EXPECT_EQ(header.attributes, 0x13);
  EXPECT_TRUE(header.transactional());
  EXPECT_FALSE(header.control());
  EXPECT_EQ(header.last_offset_delta, 1);
  EXPECT_EQ(header.base_timestamp, 500);
  EXPECT_EQ(header.max_timestamp, 500);
  EXPECT_EQ(header.producer, (Producer{.id = 77, .epoch = 8, .base_sequence = 99}));
  EXPECT_EQ(header.last_sequence(), 100);
  EXPECT_EQ(header.record_count, 2);
}

TEST(RecordBatchTest, TransactionMarkerIsAControlBatchOfOneRecord) {
  const std::string bytes = BuildTransactionMarker(TransactionEnd::kCommit, 5, 2, 9, kNow);
  const BatchHeader header = RecordBatchView(bytes).header();
  EXPECT_TRUE(header.control());
  EXPECT_TRUE(header.transactional());
  EXPECT_EQ(header.producer, (Producer{.id = 5, .epoch = 2, .base_sequence = -1}));
  EXPECT_EQ(header.last_sequence(), kNoSequence);
  const std::vector<OwnedRecord> records = ReadAll(bytes);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].key, std::string("\0\0\0\1", 4));
  EXPECT_EQ(records[0].value, std::string("\0\0\0\0\0\x09", 6));
}

TEST(RecordBatchTest, SequencesWrapToZero) {
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(AdvanceSequence(0, 5), 5);
  EXPECT_EQ(AdvanceSequence(kMax, 1), 0);
  EXPECT_EQ(AdvanceSequence(kMax - 2, 5), 2);
  EXPECT_EQ(AdvanceSequence(kNoSequence, 1), 0);
}

// ---- The check at the front door ----

TEST(CheckProducedTest, GoodBatchesPass) {
  for (const Codec codec : kCodecs) {
    EXPECT_EQ(Check(SomeBatch({.codec = codec})), ErrorCode::kNone) << CodecName(codec);
  }
  EXPECT_EQ(Check(SomeBatch({.producer = {.id = 0, .epoch = 0, .base_sequence = 0}})),
            ErrorCode::kNone);
  EXPECT_EQ(Check(SomeBatch({.partition_leader_epoch = 7})), ErrorCode::kNone);
}

struct Refusal {
  std::string name;
  std::function<std::string()> records;
  ErrorCode error;
};
class RefusedBatch : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedBatch, GetsKafkasErrorCode) {
  EXPECT_EQ(Check(GetParam().records()), GetParam().error);
}

const Producer kProducer{.id = 5, .epoch = 0, .base_sequence = 0};
INSTANTIATE_TEST_SUITE_P(
    CheckProducedTest, RefusedBatch,
    testing::Values(
        Refusal{"Nothing", [] { return std::string(); }, ErrorCode::kInvalidRecord},
        Refusal{"TooShortForAHeader", [] { return SomeBatch().substr(0, 16); },
                ErrorCode::kInvalidRecord},
        Refusal{"HeaderOnly", [] { return SomeBatch().substr(0, 61); }, ErrorCode::kInvalidRecord},
        Refusal{"CutOff", [] { return SomeBatch().substr(0, 80); }, ErrorCode::kInvalidRecord},
        Refusal{"TwoBatches", [] { return SomeBatch() + SomeBatch(); }, ErrorCode::kInvalidRecord},
        Refusal{"BytesBehind", [] { return SomeBatch() + "x"; }, ErrorCode::kInvalidRecord},
        Refusal{"Magic0", [] { return With(SomeBatch(), 16, int8_t{0}); },
                ErrorCode::kInvalidRecord},
        Refusal{"Magic1", [] { return With(SomeBatch(), 16, int8_t{1}); },
                ErrorCode::kInvalidRecord},
        Refusal{"Magic3", [] { return With(SomeBatch(), 16, int8_t{3}); },
                ErrorCode::kCorruptMessage},
        Refusal{"NegativeMagic", [] { return With(SomeBatch(), 16, int8_t{-2}); },
                ErrorCode::kCorruptMessage},
        Refusal{"NegativeLength", [] { return With(SomeBatch(), 8, int32_t{-1}); },
                ErrorCode::kCorruptMessage},
        Refusal{"LengthOf2GiB",
                [] { return With(SomeBatch(), 8, std::numeric_limits<int32_t>::max()); },
                ErrorCode::kInvalidRecord},
        Refusal{"LengthWithinTheHeader", [] { return With(SomeBatch(), 8, int32_t{48}); },
                ErrorCode::kCorruptMessage},
        Refusal{"WrongCrc", [] { return With(SomeBatch(), 17, uint32_t{1}); },
                ErrorCode::kCorruptMessage},
        // Damage under the CRC is retriable damage, whatever field it hit.
        Refusal{"DamagedCount", [] { return With(SomeBatch(), 57, int32_t{9}); },
                ErrorCode::kCorruptMessage},
        Refusal{"BaseOffset", [] { return SomeBatch({.base_offset = 123456}); },
                ErrorCode::kInvalidRecord},
        Refusal{"NoRecords",
                [] { return Seal(With(With(SomeBatch(), 57, int32_t{0}), 23, int32_t{-1})); },
                ErrorCode::kInvalidRecord},
        Refusal{"CountAndDeltaDiffer", [] { return Seal(With(SomeBatch(), 23, int32_t{3})); },
                ErrorCode::kInvalidRecord},
        Refusal{"NegativeCount",
                [] {
                  return Seal(With(With(SomeBatch(), 57, std::numeric_limits<int32_t>::min()), 23,
                                   std::numeric_limits<int32_t>::max()));
                },
                ErrorCode::kInvalidRecord},
        Refusal{"MoreRecordsThanBytes",
                [] { return Seal(With(With(SomeBatch(), 57, int32_t{1000}), 23, int32_t{999})); },
                ErrorCode::kInvalidRecord},
        Refusal{"ControlBatch",
                [] { return BuildTransactionMarker(TransactionEnd::kAbort, 5, 0, 0, kNow); },
                ErrorCode::kInvalidRecord},
        Refusal{"DeleteHorizon", [] { return Seal(With(SomeBatch(), 21, uint16_t{0x40})); },
                ErrorCode::kInvalidRecord},
        Refusal{"LogAppendTime", [] { return Seal(With(SomeBatch(), 21, uint16_t{0x08})); },
                ErrorCode::kInvalidTimestamp},
        Refusal{"UnknownCodec", [] { return Seal(With(SomeBatch(), 21, uint16_t{5})); },
                ErrorCode::kUnsupportedCompressionType},
        Refusal{"ProducerWithoutSequence",
                [] { return SomeBatch({.producer = {.id = 5, .epoch = 0, .base_sequence = -1}}); },
                ErrorCode::kInvalidRecord},
        Refusal{"ProducerWithoutEpoch",
                [] { return SomeBatch({.producer = {.id = 5, .epoch = -1, .base_sequence = 0}}); },
                ErrorCode::kInvalidRecord},
        Refusal{"NegativeProducer",
                [] { return SomeBatch({.producer = {.id = -7, .epoch = 0, .base_sequence = 0}}); },
                ErrorCode::kInvalidRecord},
        Refusal{"TransactionalWithoutProducer", [] { return SomeBatch({.transactional = true}); },
                ErrorCode::kInvalidRecord}),
    [](const auto& each) { return each.param.name; });

TEST(CheckProducedTest, SizeLimitCountsTheWholeBatch) {
  const std::string batch = SomeBatch();
  EXPECT_EQ(Check(batch, {.max_batch_bytes = batch.size()}), ErrorCode::kNone);
  EXPECT_EQ(Check(batch, {.max_batch_bytes = batch.size() - 1}), ErrorCode::kMessageTooLarge);
}

TEST(CheckProducedTest, TimestampsMayNotBeFarAhead) {
  const std::string batch = SomeBatch();  // Its latest is kNow + 2.
  EXPECT_EQ(Check(batch, {.latest_timestamp = kNow + 2}), ErrorCode::kNone);
  EXPECT_EQ(Check(batch, {.latest_timestamp = kNow + 1}), ErrorCode::kInvalidTimestamp);
  RecordBatchBuilder builder({});
  builder.Add({.timestamp = kNoTimestamp, .value = "v"});
  EXPECT_EQ(Check(std::move(builder).Build(), {.latest_timestamp = 0}), ErrorCode::kNone);
}

TEST(CheckProducedTest, ZstdNeedsANewerProduce) {
  EXPECT_EQ(Check(SomeBatch({.codec = Codec::kZstd}), {.zstd_allowed = false}),
            ErrorCode::kUnsupportedCompressionType);
  EXPECT_EQ(Check(SomeBatch({.codec = Codec::kLz4}), {.zstd_allowed = false}), ErrorCode::kNone);
}

// ---- The deep check ----

TEST(CheckRecordsTest, GoodRecordsPassInEveryCodec) {
  for (const Codec codec : kCodecs) {
    EXPECT_EQ(DeepCheck(SomeBatch({.codec = codec}, 1000)), ErrorCode::kNone) << CodecName(codec);
  }
}

TEST(CheckRecordsTest, GarbageUnderARightCrcIsInvalid) {
  for (const Codec codec : kCodecs) {
    std::string batch = SomeBatch({.codec = codec});
    batch.replace(61, batch.size() - 61, batch.size() - 61, '\x5a');
    batch = Seal(batch);
    EXPECT_EQ(Check(batch), ErrorCode::kNone);
    EXPECT_EQ(DeepCheck(batch), ErrorCode::kInvalidRecord) << CodecName(codec);
  }
}

TEST(RecompressTest, ChangesTheCodecAndNothingElse) {
  for (const Codec from : kCodecs) {
    for (const Codec to : kCodecs) {
      const std::string before = SomeBatch({.codec = from}, 1000);
      const RecordBatchView batch(before);
      const auto records = UncompressedRecords::Of(batch);
      const std::string after = Recompress(batch, records->bytes(), to);
      EXPECT_EQ(DeepCheck(after), ErrorCode::kNone);
      EXPECT_EQ(after.size(), SomeBatch({.codec = to}, 1000).size());
      EXPECT_EQ(Seal(after), Seal(SomeBatch({.codec = to}, 1000)))
          << CodecName(from) << " to " << CodecName(to);
    }
  }
}

TEST(FilterRecordsTest, WhatIsKeptKeepsEverything) {
  const std::vector<RecordHeader> headers{{"h", "x"}, {"i", std::nullopt}};
  for (const Codec codec : kCodecs) {
    RecordBatchBuilder builder({.codec = codec,
                                .producer = {.id = 4, .epoch = 2, .base_sequence = 9},
                                .transactional = true,
                                .base_offset = 1000,
                                .partition_leader_epoch = 3});
    for (int i = 0; i < 10; ++i) {
      const std::string key = "key " + std::to_string(i);
      if (i % 2 == 0) {
        builder.Add({.timestamp = 500 - i, .key = key, .value = std::nullopt, .headers = headers});
      } else {
        builder.Add({.timestamp = 500 - i, .key = key, .value = "value"});
      }
    }
    std::string bytes = std::move(builder).Build();
    std::vector<int64_t> wanted{1003, 1004, 1008};
    // Again and again: each batch is as good as the first.
    for (const std::optional<int64_t> horizon : {std::optional<int64_t>(), {int64_t{90'000}}, {}}) {
      const RecordBatchView batch(bytes);
      const BatchHeader before = batch.header();
      const auto records = UncompressedRecords::Of(batch);
      const auto filtered = FilterRecords(
          batch, records->bytes(),
          [&](const Record& one) { return std::ranges::count(wanted, one.offset) != 0; }, horizon);
      ASSERT_TRUE(filtered);
      const RecordBatchView after(*filtered);
      const BatchHeader header = after.header();
      EXPECT_TRUE(after.CrcMatches());
      EXPECT_EQ(header.base_offset, 1000);
      EXPECT_EQ(header.last_offset(), 1009);
      EXPECT_EQ(header.record_count, static_cast<int32_t>(wanted.size()));
      EXPECT_EQ(header.producer, before.producer);
      EXPECT_EQ(header.last_sequence(), 18);
      EXPECT_EQ(header.partition_leader_epoch, 3);
      EXPECT_EQ(header.codec(), codec);
      EXPECT_TRUE(header.transactional());
      EXPECT_EQ(header.max_timestamp, 500 - (wanted.front() - 1000));
      EXPECT_EQ(header.delete_horizon(), before.delete_horizon() || horizon.has_value());
      EXPECT_TRUE(!horizon || header.base_timestamp == *horizon);
      const auto kept = UncompressedRecords::Of(after);
      RecordReader reader(header, kept->bytes());
      Record record;
      for (const int64_t offset : wanted) {
        ASSERT_TRUE(reader.Next(&record));
        EXPECT_EQ(record.offset, offset);
        EXPECT_EQ(record.timestamp, 500 - (offset - 1000));
        EXPECT_EQ(record.key, "key " + std::to_string(offset - 1000));
        EXPECT_EQ(record.value.has_value(), offset % 2 != 0);
        EXPECT_EQ(record.headers, offset % 2 == 0 ? headers : std::vector<RecordHeader>());
      }
      EXPECT_FALSE(reader.Next(&record));
      EXPECT_TRUE(reader.status());
      const auto none = FilterRecords(batch, records->bytes(), [](const Record&) { return false; });
      EXPECT_TRUE(none && none->empty());
      bytes = *filtered;
      wanted.pop_back();
    }
  }
}

TEST(CheckRecordsTest, NamesTheRecordThatIsWrong) {
  RecordBatchBuilder builder({});
  builder.Add({.timestamp = 10, .key = "k"});
  builder.Add({.timestamp = 99, .key = std::nullopt});
  const std::string bytes = std::move(builder).Build();
  const BatchVerdict late = CheckRecords(RecordBatchView(bytes), {.latest_timestamp = 98});
  EXPECT_EQ(late.error, ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(late.records, std::vector<int32_t>{1});
  const BatchVerdict keyless = CheckRecords(RecordBatchView(bytes), {.keys_required = true});
  EXPECT_EQ(keyless.error, ErrorCode::kInvalidRecord);
  EXPECT_EQ(keyless.records, std::vector<int32_t>{1});
}

TEST(CheckRecordsTest, NamesAllRecordsThatAreWrongAndATimestampDecides) {
  RecordBatchBuilder builder({});
  builder.Add({.timestamp = 50, .key = std::nullopt});
  builder.Add({.timestamp = 50, .key = "k"});
  builder.Add({.timestamp = 9, .key = "k"});
  builder.Add({.timestamp = kNoTimestamp, .key = "k"});
  const std::string bytes = std::move(builder).Build();
  const BatchVerdict verdict =
      CheckRecords(RecordBatchView(bytes), {.earliest_timestamp = 10, .keys_required = true});
  EXPECT_EQ(verdict.error, ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(verdict.records, (std::vector<int32_t>{0, 2}));
}

TEST(CheckRecordsTest, OfVeryManyThatAreWrongSomeAreNamed) {
  RecordBatchBuilder builder({.codec = Codec::kZstd});
  for (int i = 0; i < 1'000'000; ++i) builder.Add({.timestamp = i < 10 ? 10 : 99});
  const std::string bytes = std::move(builder).Build();
  const BatchVerdict late = CheckRecords(RecordBatchView(bytes), {.latest_timestamp = 98});
  EXPECT_EQ(late.error, ErrorCode::kInvalidTimestamp);
  ASSERT_EQ(late.records.size(), kNamedRecordsMax);
  EXPECT_EQ(late.records.front(), 10);
  const BatchVerdict keyless =
      CheckRecords(RecordBatchView(bytes), {.latest_timestamp = 98, .keys_required = true});
  EXPECT_EQ(keyless.error, ErrorCode::kInvalidTimestamp) << "the first ten have only no key";
  EXPECT_EQ(keyless.records.size(), kNamedRecordsMax);
}

TEST(CheckRecordsTest, RefusesABomb) {
  RecordBatchBuilder builder({.codec = Codec::kZstd});
  builder.Add({.timestamp = 0, .value = std::string(10'000'000, '\0')});
  const std::string bytes = std::move(builder).Build();
  EXPECT_LT(bytes.size(), 10'000u);
  EXPECT_EQ(DeepCheck(bytes, {.decompressed_limit = 1'000'000}), ErrorCode::kInvalidRecord);
}

// Fewer, more, or other bytes than the header announces.
TEST(RecordReaderTest, RecordsMustFillThePayloadExactly) {
  const std::string batch = SomeBatch();
  const BatchHeader header = RecordBatchView(batch).header();
  const std::string_view payload = RecordBatchView(batch).payload();
  const auto damaged = [](const BatchHeader& with, std::string_view records) {
    RecordReader reader(with, records);
    Record record;
    while (reader.Next(&record)) {
    }
    EXPECT_FALSE(reader.Next(&record));
    return !reader.status();
  };
  EXPECT_FALSE(damaged(header, payload));
  for (size_t size = 0; size < payload.size(); ++size) {
    EXPECT_TRUE(damaged(header, payload.substr(0, size))) << size;
  }
  EXPECT_TRUE(damaged(header, std::string(payload) + '\0'));
  BatchHeader other = header;
  other.record_count = 2;
  EXPECT_TRUE(damaged(other, payload));
  other.record_count = 4;
  EXPECT_TRUE(damaged(other, payload));
}

TEST(RecordReaderTest, HeaderCountIsHeldAgainstTheBytes) {
  // Length 12, attributes, both deltas, null key, null value, and 2^31-1 headers.
  const std::string record("\x14\x00\x00\x00\x01\x01\xfe\xff\xff\xff\x0f", 11);
  BatchHeader header;
  header.record_count = 1;
  RecordReader reader(header, record);
  Record out;
  EXPECT_FALSE(reader.Next(&out));
  EXPECT_FALSE(reader.status());
}

TEST(RecordReaderTest, CompactedBatchMayBeEmpty) {
  BatchHeader header;
  header.record_count = 0;
  RecordReader reader(header, "");
  Record record;
  EXPECT_FALSE(reader.Next(&record));
  EXPECT_TRUE(reader.status());
}

// ---- Patches ----

TEST(PatchTest, OffsetAndLeaderEpochLeaveTheCrcAlone) {
  const std::string before = SomeBatch();
  std::string batch = before;
  SetBaseOffset(batch, 987654321);
  SetPartitionLeaderEpoch(batch, 12);
  const RecordBatchView view(batch);
  EXPECT_TRUE(view.CrcMatches());
  EXPECT_EQ(view.base_offset(), 987654321);
  EXPECT_EQ(view.header().partition_leader_epoch, 12);
  EXPECT_EQ(batch.substr(16), before.substr(16));
}

TEST(PatchTest, ProducerComesWithTheRightCrc) {
  for (const int records : {1, 3, 500}) {
    const std::string before = SomeBatch({}, records);
    std::string batch = before;
    const Producer producer{.id = 0x123456789abcdef, .epoch = 77, .base_sequence = 2000000000};
    SetProducer(batch, producer);
    EXPECT_EQ(RecordBatchView(batch).header().producer, producer);
    EXPECT_EQ(batch, Seal(batch));
    EXPECT_NE(batch, before);
    SetProducer(batch, Producer{});
    EXPECT_EQ(batch, before);
  }
}

TEST(PatchTest, TransactionalBitComesWithTheRightCrc) {
  const std::string before = SomeBatch({.codec = Codec::kZstd, .producer = kProducer}, 20);
  std::string batch = before;
  SetTransactional(batch, true);
  EXPECT_TRUE(RecordBatchView(batch).header().transactional());
  EXPECT_EQ(RecordBatchView(batch).header().codec(), Codec::kZstd);
  EXPECT_EQ(batch, Seal(batch));
  SetTransactional(batch, false);
  EXPECT_EQ(batch, before);
}

TEST(PatchTest, HeaderAloneIsEnough) {
  std::string batch = SomeBatch({.codec = Codec::kZstd}, 200);
  std::string header = batch.substr(0, kBatchHeaderSize);
  SetProducer(header, kProducer);
  SetLogAppendTime(header, kNow + 1000);
  batch.replace(0, kBatchHeaderSize, header);
  EXPECT_EQ(batch, Seal(batch));
}

TEST(PatchTest, DamageStaysVisible) {
  std::string batch = SomeBatch();
  batch[70] = static_cast<char>(batch[70] ^ 1);
  SetProducer(batch, kProducer);
  EXPECT_FALSE(RecordBatchView(batch).CrcMatches());
}

TEST(PatchTest, LogAppendTimeReplacesEveryRecordsTime) {
  std::string batch = SomeBatch({.codec = Codec::kGzip});
  SetLogAppendTime(batch, 42);
  EXPECT_EQ(batch, Seal(batch));
  EXPECT_TRUE(RecordBatchView(batch).header().log_append_time());
  EXPECT_EQ(RecordBatchView(batch).header().codec(), Codec::kGzip);
  for (const OwnedRecord& record : ReadAll(batch)) EXPECT_EQ(record.timestamp, 42);
}

TEST(PatchTest, RebuiltHeaderMakesTheStoredBatchProducible) {
  const std::string produced = SomeBatch({.codec = Codec::kLz4, .producer = kProducer}, 100);
  std::string stored = produced;
  SetBaseOffset(stored, 5'000'000'000);
  SetPartitionLeaderEpoch(stored, 3);
  const RecordBatchView view(stored);
  const Producer own{.id = 900, .epoch = 4, .base_sequence = 123};
  const auto header = RebuildHeader(view, own);
  const std::string sent = std::string(header.data(), header.size()) + std::string(view.payload());
  EXPECT_EQ(Check(sent), ErrorCode::kNone);
  EXPECT_EQ(RecordBatchView(sent).header().producer, own);
  // With the client's producer it is, byte for byte, what the client sent.
  const auto original = RebuildHeader(view, kProducer);
  EXPECT_EQ(std::string(original.data(), original.size()) + std::string(view.payload()), produced);
}

// ---- Concatenations ----

TEST(BatchIteratorTest, WalksBatchesAndToleratesATruncatedTail) {
  const std::string one = SomeBatch({.base_offset = 0});
  const std::string two = SomeBatch({.codec = Codec::kLz4, .base_offset = 3}, 50);
  const std::string log = one + two;
  for (size_t size = 0; size <= log.size(); ++size) {
    BatchIterator batches(std::string_view(log).substr(0, size));
    size_t count = 0;
    size_t bytes = 0;
    while (auto batch = batches.Next()) {
      EXPECT_EQ(batch->bytes(), count == 0 ? one : two);
      ++count;
      bytes += batch->size();
    }
    EXPECT_EQ(count, size == log.size() ? 2u : size >= one.size() ? 1u : 0u);
    EXPECT_EQ(batches.rest().size(), size - bytes);
    EXPECT_EQ(batches.stop(),
              size == bytes ? BatchIterator::Stop::kEnd : BatchIterator::Stop::kTruncated);
  }
}

TEST(BatchIteratorTest, StopsAtDamage) {
  const std::string good = SomeBatch();
  for (const std::string& bad :
       {With(good, 8, int32_t{-5}), With(good, 8, int32_t{48}), With(good, 16, int8_t{1})}) {
    const std::string log = good + bad;
    BatchIterator batches(log);
    EXPECT_TRUE(batches.Next());
    EXPECT_FALSE(batches.Next());
    EXPECT_EQ(batches.stop(), BatchIterator::Stop::kDamaged);
    EXPECT_FALSE(RecordBatchView::Front(bad));
  }
}

TEST(BatchIteratorTest, HoldsEachBatchAgainstTheLimit) {
  const std::string batch = SomeBatch();
  EXPECT_TRUE(BatchIterator(batch, batch.size()).Next());
  BatchIterator strict(batch, batch.size() - 1);
  EXPECT_FALSE(strict.Next());
  EXPECT_EQ(strict.stop(), BatchIterator::Stop::kDamaged);
}

TEST(BatchIteratorTest, FrontIgnoresWhatFollows) {
  const std::string one = SomeBatch();
  const std::string log = one + "and then some";
  const auto front = RecordBatchView::Front(log);
  ASSERT_TRUE(front);
  EXPECT_EQ(front->size(), one.size());
  EXPECT_EQ(RecordBatchView::Front(one.substr(0, 50)).error().code, base::Code::kCorrupt);
}

TEST(BatchHeaderTest, ExtremeFieldsDoNotOverflow) {
  BatchHeader header;
  header.base_offset = std::numeric_limits<int64_t>::max();
  header.last_offset_delta = std::numeric_limits<int32_t>::max();
  header.producer = {.id = 1, .epoch = 1, .base_sequence = std::numeric_limits<int32_t>::max()};
  EXPECT_LT(header.next_offset(), 0);
  EXPECT_GE(header.last_sequence(), 0);
  EXPECT_LT(SequencedBatch::FromHeader(header).record_count, 0);
}

}  // namespace
}  // namespace holdfast::kafka
