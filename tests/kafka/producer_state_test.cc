// The table below is what Apache Kafka 4.2.1 was observed to answer to raw Produce requests.
#include "kafka/producer_state.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/error_code.h"

namespace holdfast::kafka {
namespace {

constexpr int64_t kPid = 4000;
constexpr int32_t kMax = std::numeric_limits<int32_t>::max();

SequencedBatch Batch(int16_t epoch, int32_t first, int32_t count) {
  return {.producer = {.id = kPid, .epoch = epoch, .base_sequence = first}, .record_count = count};
}

// Checks a batch and, if it may be appended, appends it at the end of an imaginary log.
class Partition {
 public:
  // "ok", "dup@<offset>" or the error's name.
  std::string Produce(const SequencedBatch& batch, int64_t timestamp = 0) {
    const ProducerVerdict verdict = table.Check(batch);
    switch (verdict.kind) {
      case ProducerVerdict::Kind::kAppend:
        table.Record(batch, {.base_offset = end, .timestamp = timestamp});
        end += batch.record_count;
        return "ok";
      case ProducerVerdict::Kind::kDuplicate:
        return "dup@" + std::to_string(verdict.base_offset);
      case ProducerVerdict::Kind::kRefuse:
        EXPECT_FALSE(verdict.message.empty());
        return std::string(ErrorName(verdict.error));
    }
    return "?";
  }
  std::string Produce(int16_t epoch, int32_t first, int32_t last) {
    return Produce(Batch(epoch, first, last - first + 1));
  }

  ProducerTable table;
  int64_t end = 0;
};

constexpr char kOutOfOrder[] = "OUT_OF_ORDER_SEQUENCE_NUMBER";
constexpr char kFenced[] = "INVALID_PRODUCER_EPOCH";

// One produce after the other on one partition; the log moves on where the answer is "ok".
struct Step {
  int16_t epoch;
  int32_t first;
  int32_t last;
  std::string answer;
};
struct Case {
  std::string name;
  std::vector<Step> steps;
};

class ObservedOnKafka : public testing::TestWithParam<Case> {};

TEST_P(ObservedOnKafka, IsAnsweredAlike) {
  Partition partition;
  for (const Step& step : GetParam().steps) {
    const int64_t before = partition.end;
    EXPECT_EQ(partition.Produce(step.epoch, step.first, step.last), step.answer)
        << step.first << "-" << step.last;
    if (step.answer != "ok") {
      EXPECT_EQ(partition.end, before);
    }
  }
}

std::vector<Step> After(std::vector<Step> steps, const std::vector<Step>& more) {
  steps.insert(steps.end(), more.begin(), more.end());
  return steps;
}
// Row a: 0-9 at offset 0, 10-14 at 10, 15-15 at 15.
const std::vector<Step> kThree = {{0, 0, 9, "ok"}, {0, 10, 14, "ok"}, {0, 15, 15, "ok"}};
// Seven batches of ten; the last five are remembered.
const std::vector<Step> kSeven = {{0, 0, 9, "ok"},   {0, 10, 19, "ok"}, {0, 20, 29, "ok"},
                                  {0, 30, 39, "ok"}, {0, 40, 49, "ok"}, {0, 50, 59, "ok"},
                                  {0, 60, 69, "ok"}};

INSTANTIATE_TEST_SUITE_P(
    ProducerStateTest, ObservedOnKafka,
    testing::Values(
        Case{"AnyCutIsTaken", After(kThree, {{0, 16, 115, "ok"}, {0, 116, 116, "ok"}})},
        Case{"LastFiveAreDuplicates", After(kSeven, {{0, 60, 69, "dup@60"},
                                                     {0, 50, 59, "dup@50"},
                                                     {0, 40, 49, "dup@40"},
                                                     {0, 30, 39, "dup@30"},
                                                     {0, 20, 29, "dup@20"},
                                                     {0, 70, 79, "ok"}})},
        Case{"SixthAndSeventhLastAreNot",
             After(kSeven, {{0, 10, 19, kOutOfOrder}, {0, 0, 9, kOutOfOrder}, {0, 70, 70, "ok"}})},
        Case{"Overlap", After(kThree, {{0, 12, 20, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"OverlapOfTheLast", After(kThree, {{0, 15, 19, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"OtherCutOfTwo", After(kThree, {{0, 10, 15, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"OtherCutOfAll", After(kThree, {{0, 0, 15, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"Prefix", After(kThree, {{0, 0, 4, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"Suffix", After(kThree, {{0, 12, 14, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"Gap", After(kThree, {{0, 17, 17, kOutOfOrder}, {0, 16, 16, "ok"}})},
        Case{"NewEpochBeginsAtZero", After(kThree, {{1, 16, 16, kOutOfOrder},
                                                    {1, 0, 0, "ok"},
                                                    {0, 0, 9, kFenced},
                                                    {0, 15, 15, kFenced},
                                                    {1, 0, 0, "dup@16"},
                                                    {1, 1, 1, "ok"}})},
        Case{"SequenceWraps",
             {{0, kMax - 7, kMax, "ok"},
              {0, 0, 4, "ok"},
              {0, 0, 4, "dup@8"},
              {0, kMax - 7, kMax, "dup@0"},
              {0, 5, 5, "ok"}}},
        Case{"NewProducerBeginsAnywhere",
             {{0, 1000, 1002, "ok"}, {0, 1003, 1003, "ok"}, {0, 0, 0, kOutOfOrder}}},
        Case{"NewProducerBeginsWithAnyEpoch", {{3, 7, 7, "ok"}, {3, 7, 7, "dup@0"}}}),
    [](const auto& each) { return each.param.name; });

TEST(ProducerStateTest, BatchAcrossTheWrapIsOneRange) {
  Partition partition;
  ASSERT_EQ(partition.Produce(Batch(0, kMax - 2, 6)), "ok");  // ...645-...647, 0-2.
  EXPECT_EQ(partition.table.List().at(0).last_sequence, 2);
  EXPECT_EQ(partition.Produce(Batch(0, kMax - 2, 6)), "dup@0");
  EXPECT_EQ(partition.Produce(Batch(0, kMax - 2, 3)), kOutOfOrder);
  EXPECT_EQ(partition.Produce(Batch(0, 3, 1)), "ok");
}

TEST(ProducerStateTest, ProducersDoNotTouchEachOther) {
  Partition partition;
  ASSERT_EQ(partition.Produce(0, 0, 9), "ok");
  SequencedBatch other = Batch(5, 70, 1);
  other.producer.id = kPid + 1;
  EXPECT_EQ(partition.Produce(other), "ok");
  EXPECT_EQ(partition.Produce(0, 10, 10), "ok");
  EXPECT_EQ(partition.Produce(other), "dup@10");
}

TEST(ProducerStateTest, DuplicateCarriesTheTimestampItWasRecordedWith) {
  Partition partition;
  ASSERT_EQ(partition.Produce(Batch(0, 0, 1), 111), "ok");
  ASSERT_EQ(partition.Produce(Batch(0, 1, 1), 222), "ok");
  EXPECT_EQ(partition.table.Check(Batch(0, 0, 1)).timestamp, 111);
}

TEST(ProducerStateTest, CheckAloneChangesNothing) {
  ProducerTable table;
  EXPECT_EQ(table.Check(Batch(0, 5, 1)).kind, ProducerVerdict::Kind::kAppend);
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(table.Check(Batch(0, 99, 1)).kind, ProducerVerdict::Kind::kAppend);
}

TEST(ProducerStateTest, RefusalNamesWhatWasExpected) {
  Partition partition;
  ASSERT_EQ(partition.Produce(0, 0, 9), "ok");
  const std::string message = partition.table.Check(Batch(0, 12, 1)).message;
  EXPECT_NE(message.find("4000"), std::string::npos) << message;
  EXPECT_NE(message.find("12"), std::string::npos) << message;
  EXPECT_NE(message.find("expected 10"), std::string::npos) << message;
}

// Expiry goes by the timestamps that were recorded: those of old records expire at the next check.
TEST(ProducerStateTest, ForgottenProducerMayBeginAnywhereEvenAtADuplicate) {
  Partition partition;
  ASSERT_EQ(partition.Produce(Batch(0, 0, 10), 1000), "ok");
  EXPECT_EQ(partition.table.ExpireBefore(1000), 0u);
  EXPECT_EQ(partition.table.ExpireBefore(1001), 1u);
  EXPECT_EQ(partition.table.size(), 0u);
  EXPECT_EQ(partition.Produce(Batch(0, 0, 10), 1000), "ok");
  EXPECT_EQ(partition.table.ExpireBefore(1001), 1u);
  EXPECT_EQ(partition.Produce(Batch(0, 40, 1), 1000), "ok");
  EXPECT_EQ(partition.Produce(Batch(0, 26, 1), 1000), kOutOfOrder);
}

TEST(ProducerStateTest, OpenTransactionDoesNotExpire) {
  ProducerTable table;
  SequencedBatch batch = Batch(0, 0, 1);
  batch.transactional = true;
  table.Record(batch, {.base_offset = 7, .timestamp = 1000});
  EXPECT_EQ(table.ExpireBefore(5000), 0u);
  EXPECT_EQ(table.List().at(0).transaction_start_offset, 7);
  table.RecordMarker(
      {.producer_id = kPid, .producer_epoch = 1, .coordinator_epoch = 3, .timestamp = 2000});
  EXPECT_EQ(table.ExpireBefore(5000), 1u);
}

TEST(ProducerStateTest, UnknownTransactionalProducerBeginsAtZero) {
  Partition partition;
  SequencedBatch batch = Batch(0, 9, 1);
  batch.transactional = true;
  batch.transactions_v2 = true;
  EXPECT_EQ(partition.Produce(batch), kOutOfOrder);
  batch.producer.base_sequence = 0;
  EXPECT_EQ(partition.Produce(batch), "ok");
}

// Row g: EndTxn v5 writes its marker with the next epoch.
TEST(ProducerStateTest, MarkerOfTheNextEpochStartsSequencesAnew) {
  Partition partition;
  SequencedBatch batch = Batch(0, 0, 5);
  batch.transactional = true;
  ASSERT_EQ(partition.Produce(batch), "ok");
  partition.table.RecordMarker(
      {.producer_id = kPid, .producer_epoch = 1, .coordinator_epoch = 2, .timestamp = 9});
  EXPECT_EQ(partition.table.List().at(0), (ActiveProducer{.id = kPid,
                                                          .epoch = 1,
                                                          .last_sequence = -1,
                                                          .last_timestamp = 9,
                                                          .coordinator_epoch = 2,
                                                          .transaction_start_offset = -1}));
  EXPECT_EQ(partition.Produce(1, 5, 5), kOutOfOrder);
  EXPECT_EQ(partition.Produce(0, 0, 4), kFenced);  // Though an exact duplicate.
  EXPECT_EQ(partition.Produce(1, 0, 0), "ok");
}

TEST(ProducerStateTest, MarkerOfTheSameEpochKeepsTheWindow) {
  Partition partition;
  ASSERT_EQ(partition.Produce(0, 0, 4), "ok");
  partition.table.RecordMarker({.producer_id = kPid, .producer_epoch = 0, .timestamp = 9});
  EXPECT_EQ(partition.Produce(0, 0, 4), "dup@0");
  EXPECT_EQ(partition.Produce(0, 5, 5), "ok");
}

TEST(ProducerStateTest, NothingGoesBesideAnOpenTransaction) {
  Partition partition;
  SequencedBatch batch = Batch(0, 0, 5);
  batch.transactional = true;
  ASSERT_EQ(partition.Produce(batch), "ok");
  EXPECT_EQ(partition.table.transaction_start(kPid), 0);
  EXPECT_EQ(partition.table.transaction_start(kPid, 0), 0);
  EXPECT_EQ(partition.table.transaction_start(kPid, 1), -1);
  EXPECT_EQ(partition.table.transaction_start(kPid + 1), -1);
  const ProducerVerdict beside = partition.table.Check(Batch(0, 5, 1));
  EXPECT_EQ(beside.kind, ProducerVerdict::Kind::kRefuse);
  EXPECT_EQ(beside.error, ErrorCode::kInvalidTxnState);
  EXPECT_EQ(partition.table.Check(Batch(1, 0, 1)).error, ErrorCode::kInvalidTxnState);
  EXPECT_EQ(partition.table.RecordMarker({.producer_id = kPid, .producer_epoch = 0}), 0);
  EXPECT_EQ(partition.table.RecordMarker({.producer_id = kPid, .producer_epoch = 0}), -1);
  EXPECT_EQ(partition.Produce(0, 5, 5), "ok");
}

TEST(ProducerStateTest, MarkersOfThePastAreRefused) {
  ProducerTable table;
  const ProducerTable::Marker now{.producer_id = kPid, .producer_epoch = 3, .coordinator_epoch = 2};
  EXPECT_EQ(table.CheckMarker(now), ErrorCode::kNone);
  table.RecordMarker(now);
  EXPECT_EQ(table.CheckMarker(now), ErrorCode::kNone);
  ProducerTable::Marker old = now;
  old.producer_epoch = 2;
  EXPECT_EQ(table.CheckMarker(old), ErrorCode::kInvalidProducerEpoch);
  old = now;
  old.coordinator_epoch = 1;
  EXPECT_EQ(table.CheckMarker(old), ErrorCode::kTransactionCoordinatorFenced);
}

TEST(ProducerStateTest, ListIsInOrderOfIds) {
  ProducerTable table;
  for (const int64_t id : {90, 7, 300}) {
    table.Record({.producer = {.id = id, .epoch = 2, .base_sequence = 4}, .record_count = 3},
                 {.base_offset = 0, .timestamp = id});
  }
  const std::vector<ActiveProducer> list = table.List();
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0].id, 7);
  EXPECT_EQ(list[2],
            (ActiveProducer{.id = 300, .epoch = 2, .last_sequence = 6, .last_timestamp = 300}));
}

TEST(ProducerStateTest, HeaderOfACompactedBatchStillSpansItsSequences) {
  BatchHeader header;
  header.producer = {.id = 1, .epoch = 0, .base_sequence = 10};
  header.last_offset_delta = 9;
  header.record_count = 0;
  EXPECT_EQ(SequencedBatch::FromHeader(header).record_count, 10);
}

// ---- Checkpoints ----

ProducerTable SomeTable() {
  Partition partition;
  for (const Step& step : kSeven) partition.Produce(step.epoch, step.first, step.last);
  SequencedBatch other{.producer = {.id = 2, .epoch = 7, .base_sequence = kMax},
                       .record_count = 2,
                       .transactional = true};
  partition.Produce(other, 55);
  partition.table.RecordMarker(
      {.producer_id = 3, .producer_epoch = 1, .coordinator_epoch = 4, .timestamp = 66});
  return std::move(partition.table);
}

TEST(ProducerStateTest, CheckpointKeepsEverything) {
  const ProducerTable table = SomeTable();
  const std::string bytes = table.Serialize();
  EXPECT_EQ(bytes.size(), 5u + 3 * 31 + 6 * 24 + 4);
  auto parsed = ProducerTable::Parse(bytes);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->List(), table.List());
  EXPECT_EQ(parsed->Serialize(), bytes);
  // All five batches, where Kafka's own snapshots keep one.
  EXPECT_EQ(parsed->Check(Batch(0, 20, 10)).base_offset, 20);
  EXPECT_EQ(parsed->Check(Batch(0, 70, 1)).kind, ProducerVerdict::Kind::kAppend);
}

TEST(ProducerStateTest, EmptyTableHasACheckpoint) {
  auto parsed = ProducerTable::Parse(ProducerTable().Serialize());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->size(), 0u);
}

TEST(ProducerStateTest, DamagedCheckpointIsRefusedAtEveryByte) {
  const std::string bytes = SomeTable().Serialize();
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x20);
    auto parsed = ProducerTable::Parse(damaged);
    ASSERT_FALSE(parsed) << i;
    EXPECT_EQ(parsed.error().code, i == 0 ? base::Code::kInvalid : base::Code::kCorrupt);
    ASSERT_FALSE(ProducerTable::Parse(bytes.substr(0, i))) << i;
  }
}

// A CRC is no proof against a writer's bug: counts are held against the bytes.
TEST(ProducerStateTest, CheckpointWithWrongCountsIsRefusedDespiteItsCrc) {
  const std::string bytes = SomeTable().Serialize();
  const auto seal = [](std::string table) {
    base::StoreLittle(table.data() + table.size() - 4,
                      base::Crc32c({table.data(), table.size() - 4}));
    return table;
  };
  ASSERT_TRUE(ProducerTable::Parse(seal(bytes)));
  for (const uint32_t count : {0u, 2u, 4u, 0xffffffffu}) {
    std::string wrong = bytes;
    base::StoreLittle(wrong.data() + 1, count);
    EXPECT_FALSE(ProducerTable::Parse(seal(wrong))) << count;
  }
  for (const int batches : {0, 2, 5, 6, 127}) {  // The first producer has one.
    std::string wrong = bytes;
    wrong[5 + 30] = static_cast<char>(batches);
    EXPECT_FALSE(ProducerTable::Parse(seal(wrong))) << batches;
  }
}

}  // namespace
}  // namespace holdfast::kafka
