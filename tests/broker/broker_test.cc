// Whole brokers, spoken to in frames: produce with its checks and duplicates, fetch with its
// waiting, topics, offsets and groups, and all of it again after a crash.
#include "broker/broker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/sync_group.h"
#include "net/admin_server.h"
#include "tests/broker/broker_fixture.h"
#include "tests/spool/faulty_disk.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::Producer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

kafka::MetadataRequest AskFor(std::string_view topic, bool create) {
  kafka::MetadataRequest request;
  request.topics.emplace().emplace_back().name = topic;
  request.allow_auto_topic_creation = create;
  return request;
}

// --- Produce ------------------------------------------------------------------------------------

TEST(BrokerTest, RecordsComeBackAsTheyWereProduced) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto first = broker.Produce("t", 0, broker.Batch({"a", "b"}, {}, kafka::Codec::kZstd));
  EXPECT_EQ(first.error_code, ErrorCode::kNone);
  EXPECT_EQ(first.base_offset, 0);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"c"})).base_offset, 2);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a", "b", "c"));
  EXPECT_THAT(broker.Values("t", 0, 2), ElementsAre("c"));
}

TEST(BrokerTest, ProduceIsAnsweredOnlyWhenItIsDurable) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const std::string batch = broker.Batch({"a"});
  const auto pending = broker.Send(BrokerFixture::MakeProduce("t", 0, batch, /*acks=*/1), 9);
  EXPECT_FALSE(pending.answered());
  const auto fetch = broker.Send(BrokerFixture::MakeFetch("t", 0, 0), 12);
  EXPECT_FALSE(fetch.answered()) << "nothing is to be seen yet, either";
  broker.clock().RunUntilIdle();
  EXPECT_TRUE(pending.answered());
  EXPECT_TRUE(fetch.answered());
}

TEST(BrokerTest, ProduceWithoutAcksIsNotAnsweredAndClosesTheConnectionOnError) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const std::string batch = broker.Batch({"a"});
  const auto good = broker.Ask(BrokerFixture::MakeProduce("t", 0, batch, /*acks=*/0), 9);
  EXPECT_EQ(good.kind(), kafka::Answer::Kind::kNothing);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a"));
  const auto bad = broker.Ask(BrokerFixture::MakeProduce("t", 7, batch, /*acks=*/0), 9);
  EXPECT_EQ(bad.kind(), kafka::Answer::Kind::kClose);
}

TEST(BrokerTest, BadBatchesAreRefusedWithKafkasCodes) {
  Options options;
  options.max_message_bytes = 300;
  BrokerFixture broker(options);
  broker.CreateTopic("t", 1);
  const auto code = [&](std::string_view batch) {
    return broker.Produce("t", 0, batch).error_code;
  };
  std::string damaged = broker.Batch({"a"});
  damaged.back() ^= 1;
  EXPECT_EQ(code(damaged), ErrorCode::kCorruptMessage);
  EXPECT_EQ(code(broker.Batch({std::string(400, 'x')})), ErrorCode::kMessageTooLarge);
  EXPECT_EQ(code(""), ErrorCode::kInvalidRecord);
  kafka::RecordBatchBuilder ahead({});
  ahead.Add({.timestamp = broker.clock().wall_clock_ms() + 2 * 3600 * 1000, .value = "v"});
  EXPECT_EQ(code(std::move(ahead).Build()), ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(broker.Produce("t", 1, broker.Batch({"a"})).error_code,
            ErrorCode::kUnknownTopicOrPartition);
  const std::string batch = broker.Batch({"a"});
  const auto acks = broker.Ask(BrokerFixture::MakeProduce("t", 0, batch, /*acks=*/2), 9);
  EXPECT_EQ(acks.Get().responses[0].partition_responses[0].error_code,
            ErrorCode::kInvalidRequiredAcks);
  EXPECT_THAT(broker.Values("t", 0, 0), IsEmpty());
}

TEST(BrokerTest, ADamagedBatchIsLeftOut) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const std::string rest(30'000, '.');  // Larger than what the spool sums itself.
  for (const char* const value : {"first", "second", "third"})
    EXPECT_EQ(broker.Produce("t", 0, broker.Batch({value + rest})).error_code, ErrorCode::kNone);
  broker.Damage("second...");
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("first" + rest, "third" + rest));
}

TEST(BrokerTest, LogAppendTimeTopicsStampBatches) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"message.timestamp.type", "LogAppendTime", {}}});
  const std::string batch = broker.Batch({"a"});
  broker.clock().Advance(seconds(5));
  const auto response = broker.Produce("t", 0, batch);
  EXPECT_EQ(response.log_append_time_ms, broker.clock().wall_clock_ms());
  const auto fetched = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12).Get();
  const auto stored = kafka::RecordBatchView::Front(*fetched.responses[0].partitions[0].records);
  ASSERT_TRUE(stored.has_value());
  EXPECT_TRUE(stored->CrcMatches());
  EXPECT_TRUE(stored->header().log_append_time());
  EXPECT_EQ(stored->max_timestamp(), response.log_append_time_ms);
}

TEST(BrokerTest, CompactedTopicsRefuseRecordsWithoutKey) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"cleanup.policy", "compact", {}}});
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = 1, .value = "v"});
  EXPECT_EQ(broker.Produce("t", 0, std::move(builder).Build()).error_code,
            ErrorCode::kInvalidRecord);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"a"})).error_code, ErrorCode::kNone);
}

// --- Idempotence --------------------------------------------------------------------------------

TEST(BrokerTest, DuplicateIsAnsweredWithTheOriginalsOffsetAndNotAppended) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const std::string first = broker.Batch({"a", "b"}, {.id = 7, .epoch = 0, .base_sequence = 0});
  const std::string second = broker.Batch({"c"}, {.id = 7, .epoch = 0, .base_sequence = 2});
  EXPECT_EQ(broker.Produce("t", 0, first).base_offset, 0);
  EXPECT_EQ(broker.Produce("t", 0, second).base_offset, 2);
  const auto again = broker.Produce("t", 0, first);
  EXPECT_EQ(again.error_code, ErrorCode::kNone);
  EXPECT_EQ(again.base_offset, 0);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a", "b", "c"));
}

TEST(BrokerTest, DuplicateWaitsForTheDurabilityOfItsOriginal) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const std::string batch = broker.Batch({"a"}, {.id = 7, .epoch = 0, .base_sequence = 0});
  const auto original = broker.Send(BrokerFixture::MakeProduce("t", 0, batch), 9);
  const auto duplicate = broker.Send(BrokerFixture::MakeProduce("t", 0, batch), 9);
  EXPECT_FALSE(original.answered());
  EXPECT_FALSE(duplicate.answered());
  broker.clock().RunUntilIdle();
  EXPECT_EQ(duplicate.Get().responses[0].partition_responses[0].base_offset, 0);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a"));
}

TEST(BrokerTest, GapsAndOldEpochsAreRefused) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto produce = [&](const Producer& producer) {
    return broker.Produce("t", 0, broker.Batch({"x"}, producer)).error_code;
  };
  EXPECT_EQ(produce({7, 1, 0}), ErrorCode::kNone);
  EXPECT_EQ(produce({7, 1, 2}), ErrorCode::kOutOfOrderSequenceNumber);
  EXPECT_EQ(produce({7, 0, 1}), ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(produce({7, 1, 1}), ErrorCode::kNone);
}

TEST(BrokerTest, DuplicatesAreRecognisedAfterACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  std::vector<std::string> batches;
  for (int32_t i = 0; i < 5; ++i) {
    batches.push_back(broker.Batch({"v" + std::to_string(i)}, {7, 0, i}));
    EXPECT_EQ(broker.Produce("t", 1, batches.back()).base_offset, i);
  }
  broker.CrashAndRestart();
  for (int32_t i = 0; i < 5; ++i) EXPECT_EQ(broker.Produce("t", 1, batches[i]).base_offset, i);
  EXPECT_EQ(broker.Values("t", 1, 0).size(), 5u);
  EXPECT_EQ(broker.Produce("t", 1, broker.Batch({"next"}, {7, 0, 5})).base_offset, 5);
}

TEST(BrokerTest, DuplicatesAreRecognisedAcrossSegmentsAndACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  const std::string quiet = broker.Batch({"quiet"}, {7, 0, 0});
  EXPECT_EQ(broker.Produce("t", 0, quiet).base_offset, 0);
  // Enough for several segments of 4 MiB, so that only checkpoints still know of the quiet one.
  const std::string large(900 << 10, 'x');
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(broker.Produce("t", 1, broker.Batch({large})).error_code, ErrorCode::kNone);
  }
  broker.CrashAndRestart();
  EXPECT_EQ(broker.Produce("t", 0, quiet).base_offset, 0);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("quiet"));
}

TEST(BrokerTest, ProducersOfAFailedCommitMaySendAgain) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"a"}, {7, 0, 0})).base_offset, 0);
  const std::string next = broker.Batch({"b"}, {7, 0, 1});
  spool::FaultyDisk disk;
  bool failed = false;
  disk.OnCall([&](spool::FaultyDisk::Call call, int) {
    if (failed || call != spool::FaultyDisk::Call::kSync) return 0;
    failed = true;
    return EIO;
  });
  EXPECT_NE(broker.Produce("t", 0, next).error_code, ErrorCode::kNone);
  EXPECT_TRUE(failed);
  broker.clock().Advance(seconds(10));
  EXPECT_EQ(broker.Produce("t", 0, next).base_offset, 1)
      << "it was never stored, so it is no duplicate";
  EXPECT_EQ(broker.Produce("t", 0, next).base_offset, 1);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a", "b"));
}

TEST(BrokerTest, DescribeProducersTellsWhatIsDurable) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({"a", "b"}, {.id = 7, .epoch = 3, .base_sequence = 0}));
  kafka::DescribeProducersRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "t";
  topic.partition_indexes = {0, 9};
  const auto response = broker.Ask(request, 0).Get();
  const auto& known = response.topics[0].partitions[0];
  ASSERT_EQ(known.active_producers.size(), 1u);
  EXPECT_EQ(known.active_producers[0].producer_id, 7);
  EXPECT_EQ(known.active_producers[0].producer_epoch, 3);
  EXPECT_EQ(known.active_producers[0].last_sequence, 1);
  EXPECT_EQ(response.topics[0].partitions[1].error_code, ErrorCode::kUnknownTopicOrPartition);
}

TEST(BrokerTest, ProducerIdsAreNeverGivenTwice) {
  BrokerFixture broker;
  const auto next = [&] { return broker.Ask(kafka::InitProducerIdRequest(), 4).Get(); };
  const int64_t first = next().producer_id;
  EXPECT_EQ(next().producer_id, first + 1);
  broker.CrashAndRestart();
  EXPECT_GT(next().producer_id, first + 1);
}

TEST(BrokerTest, SilentProducersAreForgotten) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"retention.ms", "-1", {}}});
  broker.Produce("t", 0, broker.Batch({"a"}, {7, 0, 0}));
  broker.clock().Advance(std::chrono::hours(25));
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"b"}, {7, 0, 40})).error_code, ErrorCode::kNone)
      << "an unknown producer may begin anywhere";
}

// --- Fetch --------------------------------------------------------------------------------------

TEST(BrokerTest, FetchWaitsForRecordsAndIsWokenOnEveryLoop) {
  BrokerFixture broker({}, /*workers=*/2);
  broker.CreateTopic("t", 1);
  const auto fetch = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12, /*worker=*/1);
  EXPECT_FALSE(fetch.answered());
  broker.Produce("t", 0, broker.Batch({"a"}));
  ASSERT_TRUE(fetch.answered());
  const auto response = fetch.Get();
  EXPECT_EQ(response.responses[0].partitions[0].high_watermark, 1);
  EXPECT_THAT(BrokerFixture::ReadValues(response.responses[0].partitions[0]), ElementsAre("a"));
}

TEST(BrokerTest, FetchIsAnsweredEmptyWhenItsTimeIsUp) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto fetch = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
  broker.clock().Advance(milliseconds(499));
  EXPECT_FALSE(fetch.answered());
  broker.clock().Advance(milliseconds(1));
  ASSERT_TRUE(fetch.answered());
  EXPECT_EQ(fetch.Get().responses[0].partitions[0].records, "");
}

TEST(BrokerTest, FetchWaitsForAsManyBytesAsItAskedFor) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  auto second = request.topics[0].partitions[0];
  second.partition = 1;
  request.topics[0].partitions.push_back(second);
  const std::string batch = broker.Batch({"0123456789"});
  request.min_bytes = static_cast<int32_t>(3 * batch.size());
  broker.Produce("t", 0, batch);
  const auto fetch = broker.Ask(request, 12);
  EXPECT_FALSE(fetch.answered());
  broker.Produce("t", 1, batch);
  EXPECT_FALSE(fetch.answered());
  broker.Produce("t", 1, batch);
  ASSERT_TRUE(fetch.answered());
  EXPECT_EQ(fetch.Get().responses[0].partitions[0].records->size(), batch.size());
  EXPECT_EQ(fetch.Get().responses[0].partitions[1].records->size(), 2 * batch.size());
}

TEST(BrokerTest, FetchOutsideTheLogIsRefused) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({"a"}));
  const auto error = [&](int64_t offset) {
    const auto response = broker.Ask(BrokerFixture::MakeFetch("t", 0, offset), 12).Get();
    return response.responses[0].partitions[0].error_code;
  };
  EXPECT_EQ(error(2), ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(error(-1), ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(error(0), ErrorCode::kNone);
}

TEST(BrokerTest, FirstBatchIsGivenHoweverSmallTheLimits) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  for (int partition = 0; partition < 2; ++partition) {
    broker.Produce("t", partition, broker.Batch({"a"}));
    broker.Produce("t", partition, broker.Batch({"b"}));
  }
  kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  request.topics[0].partitions[0].partition_max_bytes = 1;
  auto second = request.topics[0].partitions[0];
  second.partition = 1;
  request.topics[0].partitions.push_back(second);
  const auto response = broker.Ask(request, 12).Get();
  EXPECT_THAT(BrokerFixture::ReadValues(response.responses[0].partitions[0]), ElementsAre("a"));
  EXPECT_THAT(BrokerFixture::ReadValues(response.responses[0].partitions[1]), IsEmpty());
}

TEST(BrokerTest, LargeBatchesLeaveFromWhereTheyAreStored) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  const std::string large = broker.Batch({std::string(20000, 'x')});
  const std::string small = broker.Batch({"a"});
  broker.Produce("t", 0, small);
  broker.Produce("t", 0, large);
  broker.Produce("t", 0, small);
  broker.Produce("t", 1, small);
  broker.Produce("t", 1, small);
  kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  auto second = request.topics[0].partitions[0];
  second.partition = 1;
  request.topics[0].partitions.push_back(second);
  const auto frame = kafka::EncodeRequest(request, 12, 7, "test");
  ASSERT_TRUE(frame);
  kafka::Answer answer;
  auto peer = std::make_shared<const kafka::Peer>();
  ASSERT_TRUE(broker.broker().worker(0).Serve(
      peer, base::Buffer::Copy(frame->view().substr(kafka::kLengthPrefixBytes)),
      [&answer](kafka::Answer given) { answer = std::move(given); }));

  std::string lent;
  std::string all(answer.frame.view());
  for (const base::Buffer& piece : answer.rest) {
    if (piece.borrowed()) lent += piece.view();
    all += piece.view();
  }
  // The log has put the offset and the leader's epoch into the batch, outside of its checksum.
  constexpr size_t kChecked = 16;
  EXPECT_EQ(lent.substr(kChecked), large.substr(kChecked));
  EXPECT_EQ(base::LoadBig<uint32_t>(all.data()), all.size() - kafka::kLengthPrefixBytes);
  const auto response = kafka::DecodeResponse<kafka::FetchResponse>(
      std::string_view(all).substr(kafka::kLengthPrefixBytes), 12);
  ASSERT_TRUE(response);
  const auto& partitions = response->responses.at(0).partitions;
  EXPECT_THAT(BrokerFixture::ReadValues(partitions.at(0)),
              ElementsAre("a", std::string(20000, 'x'), "a"));
  EXPECT_THAT(BrokerFixture::ReadValues(partitions.at(1)), ElementsAre("a", "a"));
}

// As for consumers that were all woken by the same batch. A lent batch keeps a read transaction of
// the spool until the turn ends, and there are 1,024 of these.
TEST(BrokerTest, MoreAnswersAreMadeInATurnThanTheSpoolHasReadersFor) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({std::string(5000, 'x')}));
  const auto frame = kafka::EncodeRequest(BrokerFixture::MakeFetch("t", 0, 0), 12, 7, "test");
  ASSERT_TRUE(frame);
  auto peer = std::make_shared<const kafka::Peer>();
  std::vector<kafka::Answer> answers;
  for (int i = 0; i < 1100; ++i) {
    ASSERT_TRUE(broker.broker().worker(0).Serve(
        peer, base::Buffer::Copy(frame->view().substr(kafka::kLengthPrefixBytes)),
        [&answers](kafka::Answer given) { answers.push_back(std::move(given)); }));
  }
  ASSERT_EQ(answers.size(), 1100u);
  for (const kafka::Answer& answer : answers) {
    std::string all(answer.frame.view());
    for (const base::Buffer& piece : answer.rest) all += piece.view();
    const auto response = kafka::DecodeResponse<kafka::FetchResponse>(
        std::string_view(all).substr(kafka::kLengthPrefixBytes), 12);
    ASSERT_TRUE(response);
    ASSERT_THAT(BrokerFixture::ReadValues(response->responses.at(0).partitions.at(0)),
                ElementsAre(std::string(5000, 'x')));
  }
}

TEST(BrokerTest, FetchOfADeletedTopicIsWokenAndTold) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  request.max_wait_ms = 60000;
  const auto fetch = broker.Ask(request, 12);
  EXPECT_FALSE(fetch.answered());
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names = {"t"};
  EXPECT_EQ(broker.Ask(deletion, 4).Get().responses[0].error_code, ErrorCode::kNone);
  ASSERT_TRUE(fetch.answered());
  EXPECT_EQ(fetch.Get().responses[0].partitions[0].error_code, ErrorCode::kUnknownTopicOrPartition);
}

TEST(BrokerTest, OffsetsAreFoundByTimeWithinABatch) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const int64_t now = broker.clock().wall_clock_ms();
  kafka::RecordBatchBuilder builder({.codec = kafka::Codec::kGzip});
  for (int i = 0; i < 10; ++i) builder.Add({.timestamp = now + 10 * i, .value = "v"});
  broker.Produce("t", 0, broker.Batch({"before"}));
  broker.Produce("t", 0, std::move(builder).Build());
  const auto find = [&](int64_t timestamp) {
    kafka::ListOffsetsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = timestamp;
    return broker.Ask(request, 7).Get().topics[0].partitions[0];
  };
  EXPECT_EQ(find(-1).offset, 11);
  EXPECT_EQ(find(-2).offset, 0);
  EXPECT_EQ(find(now + 35).offset, 5);
  EXPECT_EQ(find(now + 35).timestamp, now + 40);
  EXPECT_EQ(find(-3).offset, 10);
  EXPECT_EQ(find(-3).timestamp, now + 90);
  EXPECT_EQ(find(now + 1000).offset, -1);
}

TEST(BrokerTest, OffsetsAreFoundByTimeFromAStartWithinABatch) {
  for (const bool append_time : {false, true}) {
    for (const bool rising : {true, false}) {
      BrokerFixture broker;
      broker.CreateTopic(
          "t", 1, {{"message.timestamp.type", append_time ? "LogAppendTime" : "CreateTime", {}}});
      const int64_t now = broker.clock().wall_clock_ms();
      kafka::RecordBatchBuilder builder({});
      for (int i = 0; i < 10; ++i) {
        builder.Add({.timestamp = now + 10 * (rising ? i : 9 - i), .value = "v"});
      }
      broker.Produce("t", 0, std::move(builder).Build());
      broker.clock().Advance(milliseconds(30));
      broker.Produce("t", 0, broker.Batch({"next"}));
      kafka::DeleteRecordsRequest deletion;
      deletion.topics.emplace_back().name = "t";
      deletion.topics.back().partitions.push_back({0, 5, {}});
      ASSERT_EQ(broker.Ask(deletion, 2).Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
      const auto find = [&](int64_t timestamp) {
        kafka::ListOffsetsRequest request;
        auto& topic = request.topics.emplace_back();
        topic.name = "t";
        topic.partitions.emplace_back().timestamp = timestamp;
        const auto found = broker.Ask(request, 7).Get().topics[0].partitions[0];
        EXPECT_EQ(found.error_code, ErrorCode::kNone);
        return found.offset;
      };
      EXPECT_EQ(find(0), 5);
      EXPECT_EQ(find(now), 5);
      EXPECT_EQ(find(now + 20), append_time ? 10 : 5);
      EXPECT_EQ(find(now + 70), append_time ? -1 : rising ? 7 : -1);
      EXPECT_EQ(find(-3), append_time ? 10 : rising ? 9 : 5);
    }
  }
}

// Else a worker would take all of the partition apart for one question.
TEST(BrokerTest, OffsetsByTimeAreNotSoughtLongWhereHeadersLie) {
  for (const int lies : {17, 18}) {
    BrokerFixture broker;
    broker.CreateTopic("t", 1);
    const int64_t now = broker.clock().wall_clock_ms();
    const auto make = [](std::vector<int64_t> times, int64_t promised) {
      kafka::RecordBatchBuilder builder({.codec = kafka::Codec::kGzip});
      for (const int64_t time : times) builder.Add({.timestamp = time, .value = "v"});
      std::string batch = std::move(builder).Build();
      base::StoreBig(batch.data() + 35, promised);
      base::StoreBig(batch.data() + 17, base::Crc32c(std::string_view(batch).substr(21)));
      return batch;
    };
    for (int i = 0; i < lies; ++i) broker.Produce("t", 0, make({now, now + 1}, now + 900));
    broker.Produce("t", 0, make({now + 600}, now + 600));
    kafka::DeleteRecordsRequest deletion;
    deletion.topics.emplace_back().name = "t";
    deletion.topics.back().partitions.push_back({0, 1, {}});
    ASSERT_EQ(broker.Ask(deletion, 2).Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
    kafka::ListOffsetsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = now + 500;
    const auto found = broker.Ask(request, 7).Get().topics[0].partitions[0];
    EXPECT_EQ(found.error_code, ErrorCode::kNone);
    EXPECT_EQ(found.offset, 34) << "behind the one at the start, and 16 others";
    EXPECT_EQ(found.timestamp, lies == 17 ? now + 600 : now + 900);
  }
}

TEST(BrokerTest, TheNewestRecordIsNotSoughtLongAmongThoseWithoutATime) {
  for (const int timeless : {16, 17}) {
    BrokerFixture broker;
    broker.CreateTopic("t", 1);
    const int64_t now = broker.clock().wall_clock_ms();
    for (const int64_t time : std::vector<int64_t>(timeless, -1)) {
      kafka::RecordBatchBuilder builder({});
      builder.Add({.timestamp = time, .value = "v"});
      broker.Produce("t", 0, std::move(builder).Build());
    }
    kafka::RecordBatchBuilder builder({});
    builder.Add({.timestamp = now - 500, .value = "v"});
    broker.Produce("t", 0, std::move(builder).Build());
    kafka::ListOffsetsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().timestamp = -3;
    const auto found = broker.Ask(request, 7).Get().topics[0].partitions[0];
    EXPECT_EQ(found.offset, 16);
    EXPECT_EQ(found.timestamp, timeless == 16 ? now - 500 : now) << "it has come at that time";
  }
}

TEST(BrokerTest, OffsetsOfAPartitionThatIsNamedTwiceAreRefusedOnce) {
  BrokerFixture broker;
  broker.CreateTopic("t", 3);
  kafka::ListOffsetsRequest request;
  for (const std::vector<int32_t>& partitions :
       std::vector<std::vector<int32_t>>{{0, 1, 0}, {1}, {2}}) {
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    for (const int32_t partition : partitions) {
      topic.partitions.emplace_back().partition_index = partition;
      topic.partitions.back().timestamp = -1;
    }
  }
  const auto pending = broker.Ask(request, 7);
  std::vector<std::pair<int32_t, ErrorCode>> answers;
  for (const auto& topic : pending.Get().topics) {
    EXPECT_FALSE(topic.partitions.empty());
    for (const auto& partition : topic.partitions)
      answers.emplace_back(partition.partition_index, partition.error_code);
  }
  EXPECT_EQ(answers, (std::vector{std::pair(0, ErrorCode::kInvalidRequest),
                                  std::pair(1, ErrorCode::kInvalidRequest),
                                  std::pair(2, ErrorCode::kNone)}));
}

// --- Topics -------------------------------------------------------------------------------------

TEST(BrokerTest, MetadataMakesTheTopicItIsAskedFor) {
  Options options;
  options.num_partitions = 3;
  BrokerFixture broker(options);
  EXPECT_EQ(broker.Ask(AskFor("t", false), 9).Get().topics[0].error_code,
            ErrorCode::kUnknownTopicOrPartition);
  const auto made = broker.Ask(AskFor("t", true), 9).Get();
  EXPECT_EQ(made.topics[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(made.topics[0].partitions.size(), 3u);
  EXPECT_EQ(made.brokers[0].host, "10.0.0.1") << "the address that the client connected to";
  EXPECT_EQ(made.brokers[0].port, 9092);
  EXPECT_EQ(broker.Ask(AskFor("not/valid", true), 9).Get().topics[0].error_code,
            ErrorCode::kInvalidTopicException);
}

TEST(BrokerTest, TopicsAndTheirConfigsSurviveACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2, {{"retention.ms", "1234", {}}});
  const auto before = broker.Ask(AskFor("t", false), 12).Get();
  const kafka::Uuid id = before.topics[0].topic_id;
  const std::string cluster = broker.broker().cluster_id();
  broker.CrashAndRestart();
  const auto after = broker.Ask(AskFor("t", false), 12).Get();
  EXPECT_EQ(after.topics[0].topic_id, id);
  EXPECT_EQ(after.topics[0].partitions.size(), 2u);
  EXPECT_EQ(broker.broker().cluster_id(), cluster);
  kafka::DescribeConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = 2;
  resource.resource_name = "t";
  resource.configuration_keys = {{"retention.ms"}};
  const auto configs = broker.Ask(request, 4).Get();
  ASSERT_EQ(configs.results[0].configs.size(), 1u);
  EXPECT_EQ(configs.results[0].configs[0].value, "1234");
}

TEST(BrokerTest, CreationIsRefusedWithKafkasCodes) {
  BrokerFixture broker;
  broker.CreateTopic("taken", 1);
  const auto create = [&](std::string_view name, int32_t partitions, int16_t replication,
                          std::string_view config = "", bool validate_only = false) {
    kafka::CreateTopicsRequest request;
    request.validate_only = validate_only;
    auto& topic = request.topics.emplace_back();
    topic.name = name;
    topic.num_partitions = partitions;
    topic.replication_factor = replication;
    if (!config.empty()) topic.configs.push_back({config, "1", {}});
    return broker.Ask(request, 7).Get().topics[0].error_code;
  };
  EXPECT_EQ(create("taken", 1, 1), ErrorCode::kTopicAlreadyExists);
  EXPECT_EQ(create("a b", 1, 1), ErrorCode::kInvalidTopicException);
  EXPECT_EQ(create("t", 0, 1), ErrorCode::kInvalidPartitions);
  EXPECT_EQ(create("t", 1, 3), ErrorCode::kInvalidReplicationFactor);
  EXPECT_EQ(create("t", 1, 1, "no.such.config"), ErrorCode::kInvalidConfig);
  EXPECT_EQ(create("t", 1, 1, "", /*validate_only=*/true), ErrorCode::kNone);
  EXPECT_EQ(create("t", -1, -1), ErrorCode::kNone) << "the trial created nothing";
}

TEST(BrokerTest, TopicMadeAnewBeginsAtZeroAndForgetsProducersAndOffsets) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({"old"}, {7, 0, 0}));
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names = {"t"};
  broker.Ask(deletion, 4);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"x"})).error_code,
            ErrorCode::kUnknownTopicOrPartition);
  broker.CreateTopic("t", 1);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"new"}, {7, 0, 0})).base_offset, 0);
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("new"));
  broker.CrashAndRestart();
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("new"));
}

TEST(BrokerTest, PartitionsAreAddedBehindThoseThatAreThere) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({"a"}));
  const auto grow = [&](int32_t count) {
    kafka::CreatePartitionsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.count = count;
    return broker.Ask(request, 3).Get().results[0].error_code;
  };
  EXPECT_EQ(grow(1), ErrorCode::kInvalidPartitions);
  EXPECT_EQ(grow(3), ErrorCode::kNone);
  EXPECT_EQ(broker.Produce("t", 2, broker.Batch({"c"})).base_offset, 0);
  broker.CrashAndRestart();
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a"));
  EXPECT_THAT(broker.Values("t", 2, 0), ElementsAre("c"));
}

TEST(BrokerTest, OldRecordsAreDropped) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"retention.ms", "60000", {}}});
  broker.Produce("t", 0, broker.Batch({"old"}));
  broker.clock().Advance(seconds(50));
  broker.Produce("t", 0, broker.Batch({"young"}));
  // Until the next look at the clock, which must find only the first one too old.
  broker.clock().Advance(seconds(255));
  EXPECT_THAT(broker.Values("t", 0, 1), IsEmpty());
  broker.Produce("t", 0, broker.Batch({"now"}));
  EXPECT_THAT(broker.Values("t", 0, 2), ElementsAre("now"));
}

TEST(BrokerTest, RecordsAreDeletedUpToAnOffset) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  broker.CreateTopic("compacted", 1, {{"cleanup.policy", "compact", {}}});
  broker.Produce("t", 0, broker.Batch({"a", "b", "c"}));
  const auto erase = [&](std::string_view topic, int32_t partition, int64_t offset) {
    kafka::DeleteRecordsRequest request;
    auto& out = request.topics.emplace_back();
    out.name = topic;
    out.partitions.push_back({partition, offset, {}});
    const auto result = broker.Ask(request, 2).Get().topics[0].partitions[0];
    return std::pair(result.error_code, result.low_watermark);
  };
  EXPECT_EQ(erase("t", 0, 2), std::pair(ErrorCode::kNone, int64_t{2}));
  EXPECT_EQ(erase("t", 0, 1), std::pair(ErrorCode::kNone, int64_t{2})) << "never back";
  const auto before = broker.Ask(BrokerFixture::MakeFetch("t", 0, 1), 12);
  EXPECT_EQ(before.Get().responses[0].partitions[0].error_code, ErrorCode::kOffsetOutOfRange);
  broker.CrashAndRestart();
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"d"})).log_start_offset, 2);
  EXPECT_EQ(erase("t", 0, 5).first, ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(erase("t", 0, -2).first, ErrorCode::kOffsetOutOfRange);
  EXPECT_EQ(erase("t", 0, -1), std::pair(ErrorCode::kNone, int64_t{4}));
  EXPECT_EQ(erase("t", 7, 0).first, ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(erase("compacted", 0, 0).first, ErrorCode::kPolicyViolation);
}

TEST(BrokerTest, RecordsBeyondTheSizeLimitAreDropped) {
  BrokerFixture broker;
  const std::string batch = broker.Batch({std::string(100, 'x')});
  const std::string limit = std::to_string(2 * batch.size());
  broker.CreateTopic("t", 1, {{"retention.bytes", limit, {}}, {"retention.ms", "-1", {}}});
  for (int i = 0; i < 5; ++i) broker.Produce("t", 0, batch);
  broker.clock().Advance(seconds(301));
  EXPECT_EQ(broker.Produce("t", 0, batch).log_start_offset, 3);
}

// What cannot be opened is counted, so nothing is opened for it.
TEST(BrokerTest, WhatIsEncryptedIsNotOpenedForTheSizeLimit) {
  Options options;
  options.spool.encryption_keys = *spool::KeyRing::Parse(std::vector{std::string(64, 'a')});
  BrokerFixture broker(options);
  const std::string batch = broker.Batch({std::string(40'000, 'x')});
  const std::string limit = std::to_string(2 * batch.size());
  broker.CreateTopic("t", 1, {{"retention.bytes", limit, {}}, {"retention.ms", "-1", {}}});
  for (int i = 0; i < 5; ++i) broker.Produce("t", 0, batch);
  broker.CreateTopic("u", 1);  // The newest commit has to be whole.
  ASSERT_EQ(broker.DamageLargeBatches(), 5);
  ASSERT_THAT(broker.Values("t", 0, 0), IsEmpty()) << "they cannot be opened";
  broker.clock().Advance(seconds(301));
  EXPECT_EQ(broker.Produce("t", 0, batch).log_start_offset, 3);
}

// --- Groups and offsets -------------------------------------------------------------------------

kafka::OffsetCommitRequest MakeCommit(std::string_view group, int64_t offset,
                                      std::string_view metadata = "m") {
  kafka::OffsetCommitRequest request;
  request.group_id = group;
  auto& topic = request.topics.emplace_back();
  topic.name = "t";
  auto& partition = topic.partitions.emplace_back();
  partition.committed_offset = offset;
  partition.committed_metadata = metadata;
  return request;
}

int64_t CommittedOffset(BrokerFixture& broker, std::string_view group) {
  kafka::OffsetFetchRequest request;
  auto& group_request = request.groups.emplace_back();
  group_request.group_id = group;
  auto& topic = group_request.topics.emplace().emplace_back();
  topic.name = "t";
  topic.partition_indexes = {0};
  const auto pending = broker.Ask(request, 9);
  return pending.Get().groups[0].topics[0].partitions[0].committed_offset;
}

TEST(BrokerTest, CommittedOffsetsSurviveACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
  const auto commit = broker.Send(MakeCommit("g", 42), 8);
  EXPECT_FALSE(commit.answered()) << "before it is durable";
  broker.clock().RunUntilIdle();
  EXPECT_EQ(commit.Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_EQ(CommittedOffset(broker, "g"), 42);
  EXPECT_EQ(CommittedOffset(broker, "other"), -1);
}

TEST(BrokerTest, CommitsAreRefusedWithKafkasCodes) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto error = [&](const kafka::OffsetCommitRequest& request) {
    return broker.Ask(request, 8).Get().topics[0].partitions[0].error_code;
  };
  EXPECT_EQ(error(MakeCommit("", 1)), ErrorCode::kInvalidGroupId);
  const std::string large(4097, 'x');
  EXPECT_EQ(error(MakeCommit("g", 1, large)), ErrorCode::kOffsetMetadataTooLarge);
  kafka::OffsetCommitRequest unknown = MakeCommit("g", 1);
  unknown.topics[0].partitions[0].partition_index = 5;
  EXPECT_EQ(error(unknown), ErrorCode::kUnknownTopicOrPartition);
  kafka::OffsetCommitRequest stranger = MakeCommit("g", 1);
  stranger.generation_id_or_member_epoch = 3;
  stranger.member_id = "stranger";
  EXPECT_EQ(error(stranger), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
}

TEST(BrokerTest, OffsetsGoWithTheirTopicAndTheirGroup) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Ask(MakeCommit("g", 42), 8);
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names = {"t"};
  broker.Ask(deletion, 4);
  broker.CreateTopic("t", 1);
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
  broker.Ask(MakeCommit("g", 43), 8);
  kafka::DeleteGroupsRequest groups;
  groups.groups_names = {"g", "nobody"};
  const auto deleted = broker.Ask(groups, 2).Get();
  EXPECT_EQ(deleted.results[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(deleted.results[1].error_code, ErrorCode::kGroupIdNotFound);
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
  broker.CrashAndRestart();
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
}

TEST(BrokerTest, OffsetsOfAbandonedGroupsExpire) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Ask(MakeCommit("g", 42), 8);
  broker.clock().Advance(std::chrono::hours(7 * 24 - 1));
  EXPECT_EQ(CommittedOffset(broker, "g"), 42);
  broker.clock().Advance(std::chrono::hours(2));
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
}

kafka::JoinGroupRequest MakeJoin(std::string_view member_id) {
  kafka::JoinGroupRequest request;
  request.group_id = "g";
  request.session_timeout_ms = 10000;
  request.rebalance_timeout_ms = 60000;
  request.member_id = member_id;
  request.protocol_type = "consumer";
  request.protocols.push_back({"range", "metadata", {}});
  return request;
}

TEST(BrokerTest, GroupMembersGoOnAfterACrash) {
  BrokerFixture broker({}, /*workers=*/2);
  broker.CreateTopic("t", 1);
  const auto refused = broker.Ask(MakeJoin(""), 5, /*worker=*/1);
  EXPECT_EQ(refused.Get().error_code, ErrorCode::kMemberIdRequired);
  const std::string member(refused.Get().member_id);
  const auto join = broker.Ask(MakeJoin(member), 5, /*worker=*/1);
  EXPECT_FALSE(join.answered()) << "the first rebalance waits for others";
  broker.clock().Advance(seconds(3));
  const int32_t generation = join.Get().generation_id;
  EXPECT_EQ(join.Get().leader, member);

  kafka::SyncGroupRequest sync;
  sync.group_id = "g";
  sync.member_id = member;
  sync.generation_id = generation;
  sync.assignments.push_back({member, "mine", {}});
  EXPECT_EQ(broker.Ask(sync, 3, /*worker=*/1).Get().assignment, "mine");
  kafka::OffsetCommitRequest commit = MakeCommit("g", 5);
  commit.member_id = member;
  commit.generation_id_or_member_epoch = generation;
  broker.Ask(commit, 8);

  broker.CrashAndRestart();
  kafka::HeartbeatRequest heartbeat;
  heartbeat.group_id = "g";
  heartbeat.member_id = member;
  heartbeat.generation_id = generation;
  EXPECT_EQ(broker.Ask(heartbeat, 3).Get().error_code, ErrorCode::kNone);
  EXPECT_EQ(CommittedOffset(broker, "g"), 5);
  kafka::DescribeGroupsRequest describe;
  describe.groups = {"g"};
  const auto described = broker.Ask(describe, 5);
  EXPECT_EQ(described.Get().groups[0].group_state, "Stable");
  EXPECT_EQ(described.Get().groups[0].members[0].member_assignment, "mine");
  EXPECT_EQ(described.Get().groups[0].members[0].client_host, "/10.1.2.3");
}

kafka::OffsetDeleteRequest MakeOffsetDelete(std::string_view group, std::string_view topic,
                                            int32_t partition) {
  kafka::OffsetDeleteRequest request;
  request.group_id = group;
  auto& out = request.topics.emplace_back();
  out.name = topic;
  out.partitions.push_back({partition});
  return request;
}

TEST(BrokerTest, OffsetsAreDeletedForGood) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Ask(MakeCommit("g", 42), 8);
  const auto ask = [&](std::string_view group, std::string_view topic, int32_t partition) {
    return broker.Ask(MakeOffsetDelete(group, topic, partition), 0).Get();
  };
  EXPECT_EQ(ask("", "t", 0).error_code, ErrorCode::kInvalidGroupId);
  EXPECT_EQ(ask("nobody", "t", 0).error_code, ErrorCode::kGroupIdNotFound);
  const auto error = [&](std::string_view topic, int32_t partition) {
    const auto response = ask("g", topic, partition);
    EXPECT_EQ(response.error_code, ErrorCode::kNone);
    return response.topics.at(0).partitions.at(0).error_code;
  };
  EXPECT_EQ(error("other", 0), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(error("t", 1), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(CommittedOffset(broker, "g"), 42);
  EXPECT_EQ(error("t", 0), ErrorCode::kNone);
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
  EXPECT_EQ(error("t", 0), ErrorCode::kNone) << "it is gone, as asked";
  broker.CrashAndRestart();
  EXPECT_EQ(CommittedOffset(broker, "g"), -1);
}

TEST(BrokerTest, OffsetsOfTopicsThatAGroupConsumesStay) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.CreateTopic("u", 1);
  // Version 0, one topic, no user data: as the consumer protocol has it.
  constexpr std::string_view kSubscription("\0\0\0\0\0\1\0\1t\377\377\377\377", 13);
  kafka::JoinGroupRequest join = MakeJoin("");
  join.protocols[0].metadata = kSubscription;
  join.member_id = broker.Ask(join, 5).Get().member_id;
  const auto joined = broker.Ask(join, 5);
  const auto error = [&](std::string_view topic) {
    const auto response = broker.Ask(MakeOffsetDelete("g", topic, 0), 0).Get();
    return response.topics.at(0).partitions.at(0).error_code;
  };
  EXPECT_EQ(error("u"), ErrorCode::kGroupSubscribedToTopic) << "no protocol is chosen yet";
  broker.clock().Advance(seconds(3));
  ASSERT_TRUE(joined.answered());
  EXPECT_EQ(error("t"), ErrorCode::kGroupSubscribedToTopic);
  EXPECT_EQ(error("u"), ErrorCode::kNone);

  kafka::JoinGroupRequest connect = MakeJoin("");
  connect.group_id = "workers";
  connect.protocol_type = "connect";
  connect.member_id = broker.Ask(connect, 5).Get().member_id;
  broker.Ask(connect, 5);
  EXPECT_EQ(broker.Ask(MakeOffsetDelete("workers", "t", 0), 0).Get().error_code,
            ErrorCode::kNonEmptyGroup);
}

TEST(BrokerTest, SessionTimeoutsOutsideTheLimitsAreRefused) {
  BrokerFixture broker;
  kafka::JoinGroupRequest request = MakeJoin("");
  request.session_timeout_ms = 5999;
  EXPECT_EQ(broker.Ask(request, 5).Get().error_code, ErrorCode::kInvalidSessionTimeout);
}

// --- The whole ----------------------------------------------------------------------------------

TEST(BrokerTest, StopAnswersWhoWaits) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto fetch = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
  const auto produce = broker.Send(BrokerFixture::MakeProduce("t", 0, broker.Batch({"last"})), 9);
  const auto join = broker.Send(MakeJoin("stranger"), 5);
  broker.broker().Stop();
  broker.clock().RunUntilIdle();
  EXPECT_TRUE(fetch.answered());
  EXPECT_TRUE(produce.answered());
  EXPECT_TRUE(join.answered());
}

TEST(BrokerTest, GarbageClosesItsOwnConnectionOnly) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  auto peer = std::make_shared<const kafka::Peer>();
  for (const std::string_view bytes :
       {std::string_view("\0\0\0\x9\0\0\0\x1\0\4test\x7f\xff\xff\xff", 18),
        std::string_view("\x7f\x7f\0\0\0\0\0\0", 8), std::string_view("x", 1)}) {
    auto served = broker.broker().worker(0).Serve(
        peer, base::Buffer::Copy(bytes), [](kafka::Answer) { FAIL() << "not to be answered"; });
    EXPECT_FALSE(served.has_value());
  }
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"a"})).error_code, ErrorCode::kNone);
}

TEST(BrokerTest, StatusShowsTopicsAndGroups) {
  BrokerFixture broker;
  broker.CreateTopic("orders", 1);
  std::string body;
  for (const net::AdminRoute& route : broker.broker().AdminRoutes()) {
    const auto response = route.handler({net::HttpMethod::kGet, route.path, {}, {}});
    EXPECT_EQ(response.status, 200) << route.path;
    body += response.body;
  }
  EXPECT_THAT(body, testing::HasSubstr("\"orders\""));
  EXPECT_THAT(body, testing::HasSubstr("holdfast_broker_partitions 1"));
}

}  // namespace
}  // namespace holdfast::broker
