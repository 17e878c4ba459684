#include "proxy/record_rules.h"

#include <gtest/gtest.h>

#include "kafka/record_batch_builder.h"

namespace holdfast::proxy {
namespace {

using kafka::Codec;
using kafka::ErrorCode;

constexpr int64_t kNow = 1'700'000'000'000;

std::string BatchOf(Codec codec, const std::vector<kafka::RecordBatchBuilder::NewRecord>& records) {
  kafka::RecordBatchBuilder builder({.codec = codec});
  for (const auto& record : records) builder.Add(record);
  return std::move(builder).Build();
}
kafka::BatchVerdict Check(std::string_view batch, const TopicSettings& settings) {
  return CheckForTopic(batch, settings, kNow, /*zstd_allowed=*/true);
}

TEST(RecordRulesTest, ABatchMayBeAsLargeAsItsTopicAllows) {
  const std::string batch = BatchOf(Codec::kNone, {{.timestamp = kNow, .value = "v"}});
  const auto size = static_cast<int64_t>(batch.size());
  EXPECT_TRUE(Check(batch, {.max_message_bytes = size}).ok());
  EXPECT_EQ(Check(batch, {.max_message_bytes = size - 1}).error, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(Check(batch, {.segment_bytes = size - 1}).error, ErrorCode::kRecordListTooLarge);
}

TEST(RecordRulesTest, CompactedTopicsWantAKeyInEveryRecord) {
  for (const Codec codec : {Codec::kNone, Codec::kZstd}) {
    const std::string batch = BatchOf(codec, {{.timestamp = kNow, .key = "k"},
                                              {.timestamp = kNow},
                                              {.timestamp = kNow, .key = ""},
                                              {.timestamp = kNow}});
    EXPECT_TRUE(Check(batch, {}).ok());
    const auto verdict = Check(batch, {.compacted = true});
    EXPECT_EQ(verdict.error, ErrorCode::kInvalidRecord);
    EXPECT_EQ(verdict.records, (std::vector<int32_t>{1, 3}));
  }
}

TEST(RecordRulesTest, TimestampsAreHeldToTheTopicsWindow) {
  const std::string batch = BatchOf(
      Codec::kGzip, {{.timestamp = kNow}, {.timestamp = kNow + 10}, {.timestamp = kNow - 10}});
  const auto late = Check(batch, {.timestamp_after_max_ms = 9});
  EXPECT_EQ(late.error, ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(late.records, std::vector<int32_t>{1});
  const auto early = Check(batch, {.timestamp_before_max_ms = 9});
  EXPECT_EQ(early.error, ErrorCode::kInvalidTimestamp);
  EXPECT_EQ(early.records, std::vector<int32_t>{2});
  EXPECT_TRUE(Check(batch, {.timestamp_before_max_ms = 10, .timestamp_after_max_ms = 10}).ok());
  // The broker's own time counts there.
  EXPECT_TRUE(
      Check(batch,
            {.timestamp_before_max_ms = 0, .timestamp_after_max_ms = 0, .log_append_time = true})
          .ok());
  EXPECT_TRUE(Check(batch, {.timestamp_after_max_ms = std::numeric_limits<int64_t>::max()}).ok());
}

TEST(RecordRulesTest, ATopicThatStoresUncompressedIsHeldToThatSize) {
  const std::string batch =
      BatchOf(Codec::kZstd, {{.timestamp = kNow, .value = std::string(10'000, 'x')}});
  EXPECT_TRUE(Check(batch, {.max_message_bytes = 5'000}).ok());
  EXPECT_EQ(Check(batch, {.max_message_bytes = 5'000, .compression = Codec::kNone}).error,
            ErrorCode::kMessageTooLarge);
  EXPECT_TRUE(Check(batch, {.max_message_bytes = 10'500, .compression = Codec::kNone}).ok());
  // Recompressed by the broker, which is not foreseen here.
  EXPECT_TRUE(Check(batch, {.max_message_bytes = 5'000, .compression = Codec::kGzip}).ok());
}

TEST(TopicSettingsTest, AreReadAsKafkaTellsThem) {
  kafka::DescribeConfigsResponse::DescribeConfigsResult told;
  told.configs = {{.name = "max.message.bytes", .value = "77"},
                  {.name = "segment.bytes", .value = "garbage"},
                  {.name = "message.timestamp.before.max.ms", .value = "9223372036854775807"},
                  {.name = "message.timestamp.type", .value = "LogAppendTime"},
                  {.name = "cleanup.policy", .value = "delete, compact"},
                  {.name = "compression.type", .value = "uncompressed"},
                  {.name = "message.timestamp.after.max.ms", .value = std::nullopt}};
  const TopicSettings settings = ReadTopicSettings(told);
  EXPECT_EQ(settings.max_message_bytes, 77);
  EXPECT_EQ(settings.segment_bytes, TopicSettings().segment_bytes);
  EXPECT_EQ(settings.timestamp_after_max_ms, 3'600'000);
  EXPECT_TRUE(settings.log_append_time);
  EXPECT_TRUE(settings.compacted);
  EXPECT_EQ(settings.compression, Codec::kNone);
  told.configs = {{.name = "cleanup.policy", .value = "compacted"},
                  {.name = "compression.type", .value = "producer"}};
  EXPECT_FALSE(ReadTopicSettings(told).compacted);
  EXPECT_EQ(ReadTopicSettings(told).compression, std::nullopt);
}

}  // namespace
}  // namespace holdfast::proxy
