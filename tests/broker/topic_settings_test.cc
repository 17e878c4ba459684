// What topics' settings make of records: compression, timestamps, sizes, retention.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/list_offsets.h"
#include "tests/broker/broker_fixture.h"
#include "tests/support/noise.h"

namespace holdfast::broker {
namespace {

using kafka::Codec;
using kafka::ErrorCode;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

using Configs = std::vector<kafka::CreateTopicsRequest::CreatableTopicConfig>;

// The only batch of t-0.
struct Stored {
  std::string bytes;
  kafka::BatchHeader header;
};
Stored StoredBatch(BrokerFixture& broker) {
  const auto pending = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
  const auto response = pending.Get();
  Stored stored{std::string(response.responses.at(0).partitions.at(0).records.value_or("")), {}};
  const auto batch = kafka::RecordBatchView::Front(stored.bytes);
  HF_CHECK(batch.has_value());
  EXPECT_EQ(batch->size(), stored.bytes.size());
  EXPECT_TRUE(batch->CrcMatches());
  stored.header = batch->header();
  return stored;
}

std::vector<std::string> SomeValues() {
  std::vector<std::string> values;
  for (int i = 0; i < 100; ++i) values.push_back("a value like the others, " + std::to_string(i));
  return values;
}

class CompressionTypeTest : public testing::TestWithParam<std::tuple<const char*, Codec>> {};

TEST_P(CompressionTypeTest, EveryBatchIsStoredInTheTopicsCodec) {
  const auto& [type, codec] = GetParam();
  for (const Codec sent : {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    BrokerFixture broker;
    broker.CreateTopic("t", 1, {{"compression.type", type, {}}});
    const kafka::Producer producer{.id = 5, .epoch = 0, .base_sequence = 0};
    const std::string batch = broker.Batch(SomeValues(), producer, sent);
    EXPECT_EQ(broker.Produce("t", 0, batch).error_code, ErrorCode::kNone);
    const Stored stored = StoredBatch(broker);
    EXPECT_EQ(stored.header.codec(), codec) << kafka::CodecName(sent);
    EXPECT_EQ(stored.header.producer, producer);
    EXPECT_EQ(stored.header.record_count, 100);
    EXPECT_EQ(stored.header.max_timestamp, broker.clock().wall_clock_ms());
    EXPECT_EQ(broker.Values("t", 0, 0), SomeValues());
    if (sent == codec) {
      EXPECT_EQ(stored.bytes.substr(21), batch.substr(21)) << "as the producer made it";
    }
    // A retry is recognised, though what is stored is not what was sent.
    EXPECT_EQ(broker.Produce("t", 0, batch).base_offset, 0);
    EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"next"}, {5, 0, 100}, sent)).base_offset, 100);
  }
}

INSTANTIATE_TEST_SUITE_P(All, CompressionTypeTest,
                         testing::Values(std::tuple("uncompressed", Codec::kNone),
                                         std::tuple("gzip", Codec::kGzip),
                                         std::tuple("snappy", Codec::kSnappy),
                                         std::tuple("lz4", Codec::kLz4),
                                         std::tuple("zstd", Codec::kZstd)),
                         [](const auto& tested) { return std::get<0>(tested.param); });

TEST(TopicSettingsTest, ProducersChooseTheCodecByDefault) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch(SomeValues(), {}, Codec::kLz4));
  EXPECT_EQ(StoredBatch(broker).header.codec(), Codec::kLz4);
}

TEST(TopicSettingsTest, LevelsOfCompressionAreUsed) {
  std::vector<std::string> values = SomeValues();
  for (size_t i = 0; i < values.size(); ++i)
    values[i] += std::string(i, static_cast<char>('a' + i % 26));
  const auto size = [&values](const char* type, const char* level) {
    BrokerFixture broker;
    const std::string name = "compression." + std::string(type) + ".level";
    broker.CreateTopic("t", 1, {{"compression.type", type, {}}, {name, level, {}}});
    EXPECT_EQ(broker.Produce("t", 0, broker.Batch(values)).error_code, ErrorCode::kNone);
    EXPECT_EQ(broker.Values("t", 0, 0), values);
    return StoredBatch(broker).bytes.size();
  };
  EXPECT_LT(size("gzip", "9"), size("gzip", "1"));
  EXPECT_LT(size("lz4", "17"), size("lz4", "9"));
  EXPECT_LT(size("zstd", "19"), size("zstd", "-1000"));
}

TEST(TopicSettingsTest, LogAppendTimeIsKeptThroughRecompression) {
  BrokerFixture broker;
  broker.CreateTopic(
      "t", 1, {{"compression.type", "zstd", {}}, {"message.timestamp.type", "LogAppendTime", {}}});
  const std::string batch = broker.Batch(SomeValues());
  broker.clock().Advance(seconds(5));
  EXPECT_EQ(broker.Produce("t", 0, batch).log_append_time_ms, broker.clock().wall_clock_ms());
  const Stored stored = StoredBatch(broker);
  EXPECT_TRUE(stored.header.log_append_time());
  EXPECT_EQ(stored.header.codec(), Codec::kZstd);
  EXPECT_EQ(stored.header.max_timestamp, broker.clock().wall_clock_ms());
}

// Batches of which the spool takes the checksum from their header.
TEST(TopicSettingsTest, LargeBatchesThatTheBrokerChangedAreThereAfterARestart) {
  const std::string noise = test::Noise(20 * 2000);  // So that it stays large when compressed.
  std::vector<std::string> values;
  for (size_t at = 0; at < noise.size(); at += 2000) values.push_back(noise.substr(at, 2000));
  for (const char* const compression : {"producer", "zstd"}) {
    for (const char* const timestamps : {"CreateTime", "LogAppendTime"}) {
      for (const bool crash : {false, true}) {
        BrokerFixture broker;
        broker.CreateTopic(
            "t", 1,
            {{"compression.type", compression, {}}, {"message.timestamp.type", timestamps, {}}});
        broker.clock().Advance(seconds(5));
        EXPECT_EQ(broker.Produce("t", 0, broker.Batch(values)).error_code, ErrorCode::kNone);
        crash ? broker.CrashAndRestart() : broker.Restart();
        EXPECT_EQ(broker.Values("t", 0, 0), values) << compression << " " << timestamps;
      }
    }
  }
}

TEST(TopicSettingsTest, GarbageIsRefusedWhereItWouldHaveToBeCompressedAnew) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"compression.type", "gzip", {}}});
  const std::string good = broker.Batch(SomeValues());
  std::string garbage(good);
  std::fill(garbage.begin() + 61, garbage.end(), 'Z');
  const uint32_t crc = base::Crc32c(std::string_view(garbage).substr(21));
  base::StoreBig(garbage.data() + 17, crc);
  EXPECT_EQ(broker.Produce("t", 0, garbage).error_code, ErrorCode::kInvalidRecord);
  EXPECT_EQ(broker.Produce("t", 0, good).base_offset, 0);
}

// As in Kafka, both what is sent and what would be stored must fit.
TEST(TopicSettingsTest, SizesAreJudgedBeforeAndAfterRecompression) {
  BrokerFixture broker;
  const std::string packed = broker.Batch(SomeValues(), {}, Codec::kZstd);
  const std::string plain = broker.Batch(SomeValues());
  ASSERT_LT(packed.size(), 1000u);
  ASSERT_GT(plain.size(), 1000u);
  broker.CreateTopic("t", 1,
                     {{"compression.type", "uncompressed", {}}, {"max.message.bytes", "1000", {}}});
  broker.CreateTopic("u", 1, {{"compression.type", "zstd", {}}, {"max.message.bytes", "1000", {}}});
  EXPECT_EQ(broker.Produce("t", 0, packed).error_code, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(broker.Produce("u", 0, plain).error_code, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(broker.Produce("u", 0, packed).error_code, ErrorCode::kNone);
}

TEST(TopicSettingsTest, VeryManyGuiltyRecordsAreNotAllNamed) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"cleanup.policy", "compact", {}}});
  kafka::RecordBatchBuilder builder({});
  for (int i = 0; i < 2; ++i) builder.Add({.timestamp = broker.clock().wall_clock_ms()});
  const std::string keyless = std::move(builder).Build();
  kafka::ProduceRequest request = BrokerFixture::MakeProduce("t", 0, keyless);
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(1500, partitions[0]);
  const auto pending = broker.Ask(request, 9);
  const auto response = pending.Get();
  size_t named = 0;
  size_t messages = 0;
  for (const auto& partition : response.responses.at(0).partition_responses) {
    EXPECT_EQ(partition.error_code, ErrorCode::kInvalidRecord);
    named += partition.record_errors.size();
    messages += partition.error_message ? 1 : 0;
  }
  EXPECT_EQ(named, 2 * 500 + 1000);
  EXPECT_EQ(messages, 1000);
}

// Else an agent in front would take the batch's good records for bad, too.
TEST(TopicSettingsTest, EachRefusedBatchHasANamedRecord) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"cleanup.policy", "compact", {}}});
  kafka::RecordBatchBuilder builder({});
  const int64_t now = broker.clock().wall_clock_ms();
  builder.Add({.timestamp = now, .key = "k", .value = "good"});
  for (int i = 0; i < 100; ++i) builder.Add({.timestamp = now});
  const std::string batch = std::move(builder).Build();
  kafka::ProduceRequest request = BrokerFixture::MakeProduce("t", 0, batch);
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(12, partitions[0]);
  const auto pending = broker.Ask(request, 9);
  const auto response = pending.Get();
  std::vector<size_t> named;
  for (const auto& partition : response.responses.at(0).partition_responses) {
    EXPECT_EQ(partition.error_code, ErrorCode::kInvalidRecord);
    named.push_back(partition.record_errors.size());
    ASSERT_FALSE(partition.record_errors.empty());
    EXPECT_EQ(partition.record_errors.front().batch_index, 1);
    EXPECT_EQ(partition.record_errors.front().batch_index_error_message.has_value(),
              named.size() <= 10);
  }
  std::vector<size_t> expected(10, 100);
  expected.resize(12, 1);
  EXPECT_EQ(named, expected);
}

TEST(TopicSettingsTest, ALittleRequestIsNotTakenApartIntoGigabytes) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"cleanup.policy", "compact", {}}});
  const std::string batch = broker.Batch({std::string(60'000'000, '.')}, {}, Codec::kZstd);
  kafka::ProduceRequest request = BrokerFixture::MakeProduce("t", 0, batch);
  auto& partitions = request.topic_data[0].partition_data;
  partitions.resize(10, partitions[0]);
  const auto pending = broker.Ask(request, 9);
  const auto response = pending.Get();
  std::vector<ErrorCode> errors;
  for (const auto& partition : response.responses.at(0).partition_responses)
    errors.push_back(partition.error_code);
  std::vector<ErrorCode> expected(4, ErrorCode::kNone);
  expected.resize(10, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(errors, expected);
}

std::string BatchAt(int64_t timestamp_ms) {
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = timestamp_ms + 10, .key = "k", .value = "v"});
  builder.Add({.timestamp = timestamp_ms, .key = "k", .value = "v"});
  return std::move(builder).Build();
}

TEST(TopicSettingsTest, TimestampsOutsideTheBoundsAreRefused) {
  BrokerFixture broker;
  const int64_t now = broker.clock().wall_clock_ms();
  broker.CreateTopic("t", 1,
                     {{"message.timestamp.before.max.ms", "1000", {}},
                      {"message.timestamp.after.max.ms", "500", {}}});
  broker.CreateTopic("any", 1, {{"message.timestamp.after.max.ms", "9223372036854775807", {}}});
  broker.CreateTopic("ours", 1,
                     {{"message.timestamp.before.max.ms", "1000", {}},
                      {"message.timestamp.after.max.ms", "500", {}},
                      {"message.timestamp.type", "LogAppendTime", {}}});
  const auto error = [&](std::string_view topic, int64_t timestamp_ms) {
    return broker.Produce(topic, 0, BatchAt(timestamp_ms)).error_code;
  };
  EXPECT_EQ(error("t", now - 1001), ErrorCode::kInvalidTimestamp) << "one of two records is";
  EXPECT_EQ(error("t", now - 1000), ErrorCode::kNone);
  EXPECT_EQ(error("t", now + 490), ErrorCode::kNone);
  EXPECT_EQ(error("t", now + 491), ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(error("any", 1), ErrorCode::kNone);
  EXPECT_EQ(error("any", now + int64_t{1'000'000'000'000}), ErrorCode::kNone);
  EXPECT_EQ(error("ours", 1), ErrorCode::kNone) << "the broker's own time counts";
  EXPECT_EQ(error("ours", now + 100'000), ErrorCode::kNone);
}

// With one replica there is one in sync, and Kafka asks for no more than there are.
TEST(TopicSettingsTest, MoreReplicasInSyncThanThereAreAreNotAskedFor) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"min.insync.replicas", "3", {}}});
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"a"})).error_code, ErrorCode::kNone);
}

TEST(TopicSettingsTest, WithoutRetentionNothingIsDropped) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"retention.ms", "-1", {}}});
  broker.CreateTopic("compacted", 1,
                     {{"retention.ms", "1", {}}, {"cleanup.policy", "compact", {}}});
  broker.CreateTopic("both", 1,
                     {{"retention.ms", "1", {}}, {"cleanup.policy", "compact,delete", {}}});
  for (const char* topic : {"t", "compacted", "both"})
    broker.Produce(topic, 0, broker.Batch({"a"}));
  broker.clock().Advance(std::chrono::hours(24 * 30));
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a"));
  EXPECT_THAT(broker.Values("compacted", 0, 0), ElementsAre("a"));
  EXPECT_THAT(broker.Values("both", 0, 1), IsEmpty()) << "its start has moved";
  EXPECT_EQ(broker.Produce("both", 0, broker.Batch({"b"})).log_start_offset, 1);
}

ErrorCode CreationError(BrokerFixture& broker, const Configs& configs) {
  kafka::CreateTopicsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "t";
  topic.num_partitions = 1;
  topic.replication_factor = -1;
  topic.configs = configs;
  return broker.Ask(request, 7).Get().topics.at(0).error_code;
}

TEST(TopicSettingsTest, SettingsThatMakeNoSenseAreRefused) {
  BrokerFixture broker;
  EXPECT_EQ(CreationError(broker, {{"compression.type", "none", {}}}), ErrorCode::kInvalidConfig);
  EXPECT_EQ(CreationError(broker, {{"compression.gzip.level", "0", {}}}),
            ErrorCode::kInvalidConfig);
  EXPECT_EQ(CreationError(broker, {{"compression.lz4.level", "18", {}}}),
            ErrorCode::kInvalidConfig);
  EXPECT_EQ(CreationError(broker,
                          {{"min.compaction.lag.ms", "2", {}}, {"max.compaction.lag.ms", "1", {}}}),
            ErrorCode::kInvalidConfig);
  EXPECT_EQ(CreationError(broker, {{"segment.ms", "0", {}}}), ErrorCode::kInvalidConfig);
  EXPECT_EQ(CreationError(broker, {{"segment.ms", "1000", {}},
                                   {"segment.bytes", "1048576", {}},
                                   {"segment.jitter.ms", "5", {}},
                                   {"segment.index.bytes", "100", {}},
                                   {"min.compaction.lag.ms", "1", {}},
                                   {"max.compaction.lag.ms", "1", {}}}),
            ErrorCode::kNone);
}

// A newer version may have written it before this one was put in its place.
TEST(TopicSettingsTest, StoredSettingsThatAreNotKnownDoNotGetInTheWay) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1, {{"max.message.bytes", "1000", {}}});
  broker.Amend([](spool::Transaction& transaction) {
    const std::string id(*transaction.Get(TopicNameKey("t")));
    kafka::Uuid uuid;
    std::memcpy(uuid.bytes.data(), id.data(), id.size());
    const std::string bytes(*transaction.Get(TopicKey(uuid)));
    auto record = ParseTopic(bytes);
    HF_CHECK(record.has_value());
    record->configs.push_back({"setting.of.tomorrow", "1", {}});
    record->configs.push_back({"retention.ms", "a while", {}});
    transaction.Put(TopicKey(uuid), Encode(*record));
  });
  const auto change = [&](std::string_view name, std::string_view value) {
    kafka::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = 2;
    resource.resource_name = "t";
    resource.configs.push_back({name, 0, value, {}});
    return broker.Ask(request, 1).Get().responses.at(0).error_code;
  };
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({std::string(1000, 'x')})).error_code,
            ErrorCode::kMessageTooLarge);
  EXPECT_EQ(change("retention.ms", "60000"), ErrorCode::kNone);
  EXPECT_EQ(change("retention.ms", "a while"), ErrorCode::kInvalidConfig);
  broker.CrashAndRestart();
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({std::string(1000, 'x')})).error_code,
            ErrorCode::kMessageTooLarge);
  EXPECT_EQ(change("setting.of.tomorrow", "2"), ErrorCode::kInvalidConfig);
}

// --- What producers say of their records ---------------------------------------------------------

// Where a batch's header has them.
constexpr size_t kCrcAt = 17;
constexpr size_t kAttributesAt = 21;
constexpr size_t kMaxTimestampAt = 35;

std::string WithRightCrc(std::string batch) {
  base::StoreBig(&batch[kCrcAt], base::Crc32c(std::string_view(batch).substr(kAttributesAt)));
  return batch;
}

TEST(RecordsTest, GarbageUnderARightCrcIsRefused) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  std::string batch = broker.Batch({std::string(40, '.')});
  std::fill(batch.begin() + kafka::kBatchHeaderSize, batch.end(), '\xff');
  EXPECT_EQ(broker.Produce("t", 0, WithRightCrc(batch)).error_code, ErrorCode::kInvalidRecord);
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"good"})).base_offset, 0);
}

TEST(RecordsTest, TimesAreThoseOfTheRecordsWhateverTheHeaderSays) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const int64_t now = broker.clock().wall_clock_ms();
  const auto produce = [&](int64_t record_ms, int64_t header_ms) {
    kafka::RecordBatchBuilder builder({});
    builder.Add({.timestamp = now, .value = "v"});
    builder.Add({.timestamp = record_ms, .value = "v"});
    std::string batch = std::move(builder).Build();
    base::StoreBig(&batch[kMaxTimestampAt], header_ms);
    return broker.Produce("t", 0, WithRightCrc(batch)).error_code;
  };
  EXPECT_EQ(produce(now + 3'600'001, now), ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(produce(now + 1000, now - 1'000'000'000), ErrorCode::kNone);
  kafka::ListOffsetsRequest request;
  auto& topic = request.topics.emplace_back();
  topic.name = "t";
  topic.partitions.emplace_back().timestamp = now + 1;
  EXPECT_EQ(broker.Ask(request, 7).Get().topics[0].partitions[0].offset, 1);
  broker.clock().Advance(seconds(301));  // Retention looks.
  EXPECT_EQ(broker.Produce("t", 0, broker.Batch({"next"})).log_start_offset, 0);
}

}  // namespace
}  // namespace holdfast::broker
