#include "cli/doctor/topic_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/doctor/finding_matchers.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using kafka::ErrorCode;
using testing::HasSubstr;
using Problems = std::vector<Event>;
using Topic = kafka::MetadataResponse::MetadataResponseTopic;
using Configs = kafka::DescribeConfigsResponse::DescribeConfigsResult;

constexpr int64_t kNow = 1'800'000'000'000;
constexpr int64_t kHour = 3'600'000;
constexpr int32_t kDescribeOnly = 1 << 8;
constexpr int32_t kWrite = kDescribeOnly | 1 << 4;
constexpr int32_t kWriteAndRead = kWrite | 1 << 3;

class TopicCheckTest : public testing::Test {
 protected:
  TopicCheckTest() {
    topic_.name = "orders";
    for (int32_t i = 0; i < 2; ++i)
      topic_.partitions.push_back(
          {.partition_index = i, .leader_id = 1, .replica_nodes = {1, 2}, .isr_nodes = {1, 2}});
  }

  void Set(std::string_view name, std::string_view value) {
    configs_.configs.push_back({.name = name, .value = value});
  }
  void Waits(int64_t age_ms, uint32_t largest = 100) {
    question_.waiting = SpoolFacts::Waiting{
        .records = 5, .bytes = 500, .largest_entry = largest, .oldest_timestamp_ms = kNow - age_ms};
  }
  Findings Check() { return CheckTopic(question_, topic_, &configs_); }

  TopicQuestion question_{
      .name = "orders", .declared = true, .batch_bytes_max = 1048588, .now_ms = kNow};
  Topic topic_;
  Configs configs_;
};

TEST_F(TopicCheckTest, ATopicThatTakesEverythingIsGood) {
  topic_.topic_authorized_operations = kWriteAndRead;
  Waits(kHour);
  const auto findings = Check();
  EXPECT_EQ(ProblemsOf(findings), Problems{});
  EXPECT_EQ(findings.all()[0].what, "topic orders: 2 partitions; 5 records (500 B) wait for it");
}

TEST_F(TopicCheckTest, RightsAreThoseThatTheTierTells) {
  topic_.topic_authorized_operations = kDescribeOnly;
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kMayNotWrite});
  topic_.topic_authorized_operations = kWrite;
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kMayNotAsk});
  topic_.topic_authorized_operations = 0;
  EXPECT_EQ(ProblemsOf(Check()), Problems{}) << "it does not tell";
  topic_.error_code = ErrorCode::kTopicAuthorizationFailed;
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kMayNotWrite});
}

TEST_F(TopicCheckTest, ATopicThatIsNotThereIsMadeIfItIsDeclared) {
  topic_.error_code = ErrorCode::kUnknownTopicOrPartition;
  EXPECT_EQ(ProblemsOf(Check()), Problems{});
  question_.may_create = false;
  auto findings = Check();
  EXPECT_EQ(Find(findings, Event::kTopicMissing)->severity, Severity::kWarning);
  question_.declared = false;
  Waits(kHour);
  findings = Check();
  EXPECT_EQ(Find(findings, Event::kTopicMissing)->severity, Severity::kError);
}

TEST_F(TopicCheckTest, BatchesThatWaitCountMoreThanThoseThatMayCome) {
  Set("max.message.bytes", "2000");
  auto findings = Check();
  ASSERT_EQ(ProblemsOf(findings), Problems{Event::kBatchesTooLarge});
  EXPECT_EQ(findings.all()[0].severity, Severity::kWarning);
  Waits(kHour, 2001);
  findings = Check();
  EXPECT_EQ(Find(findings, Event::kBatchesTooLarge)->severity, Severity::kError);
  question_.batch_bytes_max = 2000;
  Waits(kHour, 2000);
  EXPECT_EQ(ProblemsOf(Check()), Problems{});
}

TEST_F(TopicCheckTest, RecordsMayBeTooOldForTheTopic) {
  Set("message.timestamp.before.max.ms", "7200000");
  EXPECT_EQ(Check().all()[0].severity, Severity::kWarning);
  Waits(kHour);
  EXPECT_EQ(Find(Check(), Event::kTimestampsTooOld)->severity, Severity::kWarning);
  Waits(3 * kHour);
  EXPECT_EQ(Find(Check(), Event::kTimestampsTooOld)->severity, Severity::kError);
  Set("message.timestamp.type", "LogAppendTime");
  EXPECT_EQ(ProblemsOf(Check()), Problems{});
}

TEST_F(TopicCheckTest, WhatWaitsForLongerThanATopicKeepsItIsDeletedThere) {
  Set("retention.ms", "7200000");
  Waits(kHour);
  EXPECT_EQ(ProblemsOf(Check()), Problems{});
  Waits(3 * kHour);
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kRetentionTooShort});
}

TEST_F(TopicCheckTest, ReplicasAndLeadersHaveToBeThere) {
  Set("min.insync.replicas", "2");
  EXPECT_EQ(ProblemsOf(Check()), Problems{});
  topic_.partitions[1].isr_nodes = {1};
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kTooFewReplicas});
  topic_.partitions[1].leader_id = -1;
  const auto findings = Check();
  EXPECT_THAT(Find(findings, Event::kNoLeader)->what,
              HasSubstr("no leader for 1 of its 2 partitions, such as 1"));
}

TEST_F(TopicCheckTest, SettingsThatAreNotToldAreNoGuess) {
  configs_.error_code = ErrorCode::kTopicAuthorizationFailed;
  EXPECT_EQ(ProblemsOf(Check()), Problems{Event::kSettingsNotTold});
}

}  // namespace
}  // namespace holdfast::cli::doctor
