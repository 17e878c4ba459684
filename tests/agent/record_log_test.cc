// What local producers may rely on: a retry is recognised, also after a crash of the agent, and
// wrong sequences and epochs get Kafka's answers.
#include "agent/record_log.h"

#include "tests/agent/agent_fixture.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

using RecordLogTest = AgentFixture;

TEST_F(RecordLogTest, OffsetsAreOrdinalsOfTheStream) {
  EXPECT_EQ(Produce("a", 0, {"1", "2"}).base_offset, 0);
  EXPECT_EQ(Produce("a", 0, {"3"}).base_offset, 2);
  EXPECT_EQ(Produce("a", 1, {"4"}).base_offset, 0);
  const auto last = Produce("a", 0, {"5"});
  EXPECT_EQ(last.base_offset, 3);
  EXPECT_EQ(last.error, ErrorCode::kNone);
}

TEST_F(RecordLogTest, RetryIsAnsweredWithTheOriginalOffset) {
  const Batch batch{.values = {"1", "2"}, .producer = {7, 0, 0}};
  EXPECT_EQ(Produce("a", 0, batch).base_offset, 0);
  EXPECT_EQ(Produce("a", 0, {.values = {"3"}, .producer = {7, 0, 2}}).base_offset, 2);
  const auto retried = Produce("a", 0, batch);
  EXPECT_EQ(retried.error, ErrorCode::kNone);
  EXPECT_EQ(retried.base_offset, 0);
  EXPECT_EQ(spool_->Range(*spool_->FindStream("a/0")).end, 3);
  EXPECT_EQ(metrics_.duplicate_batches.Value(), 1);
}

TEST_F(RecordLogTest, RetryIsRecognisedAfterReopening) {
  const Batch batch{.values = {"1", "2"}, .producer = {7, 0, 0}};
  EXPECT_EQ(Produce("a", 0, batch).base_offset, 0);
  ReopenSpool();
  EXPECT_EQ(Produce("a", 0, batch).base_offset, 0);
  EXPECT_EQ(spool_->Range(*spool_->FindStream("a/0")).end, 2);
}

TEST_F(RecordLogTest, RetryIsRecognisedWhenItsSegmentIsNotTheNewest) {
  const Batch batch{.values = {"1"}, .producer = {7, 0, 0}};
  EXPECT_EQ(Produce("a", 0, batch).base_offset, 0);
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(Produce("other", 0, {std::string(100'000, 'x')}).error, ErrorCode::kNone);
  }
  EXPECT_GT(spool_->GetStatus().segments, 1);
  ReopenSpool();
  EXPECT_EQ(Produce("a", 0, batch).base_offset, 0);
  EXPECT_EQ(spool_->Range(*spool_->FindStream("a/0")).end, 1);
}

TEST_F(RecordLogTest, WrongSequencesAndEpochsGetKafkasCodes) {
  EXPECT_EQ(Produce("a", 0, {.values = {"1"}, .producer = {7, 1, 0}}).error, ErrorCode::kNone);
  const auto gap = Produce("a", 0, {.values = {"x"}, .producer = {7, 1, 5}});
  EXPECT_EQ(gap.error, ErrorCode::kOutOfOrderSequenceNumber);
  EXPECT_EQ(gap.base_offset, -1);
  EXPECT_FALSE(gap.message.empty());
  EXPECT_EQ(Produce("a", 0, {.values = {"x"}, .producer = {7, 0, 1}}).error,
            ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(Produce("a", 0, {.values = {"2"}, .producer = {7, 1, 1}}).base_offset, 1);
}

TEST_F(RecordLogTest, AFullSpoolIsARetriableError) {
  spool_.reset();
  clock_.RunUntilIdle();
  log_.reset();
  OpenSpool(/*bytes_max=*/4 << 20);
  Answer answer;
  for (int i = 0; i < 100; ++i) {
    answer = Produce("a", 0, {std::string(100'000, 'x')});
    if (answer.error != ErrorCode::kNone) break;
  }
  EXPECT_EQ(answer.error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(answer.base_offset, -1);
  EXPECT_TRUE(kafka::Retriable(answer.error));
}

TEST_F(RecordLogTest, WhatNeverFitsIsNotRetriable) {
  spool_.reset();
  clock_.RunUntilIdle();
  log_.reset();
  OpenSpool(/*bytes_max=*/4 << 20);
  const Answer answer = Produce("a", 0, {std::string(3 << 20, 'x')});
  EXPECT_EQ(answer.error, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(answer.base_offset, -1);
  EXPECT_FALSE(kafka::Retriable(answer.error));
}

// Each might fit alone, and clients that send less at once split batches, not requests.
TEST_F(RecordLogTest, BatchesThatFitOnlyAloneAreRetriable) {
  spool_.reset();
  clock_.RunUntilIdle();
  log_.reset();
  OpenSpool(/*bytes_max=*/4 << 20);
  const Batch batch{.values = {std::string(900'000, 'x')}};
  for (const Answer* answer : ProduceTogether("a", {{0, batch}, {1, batch}})) {
    EXPECT_EQ(answer->error, ErrorCode::kNotEnoughReplicas);
    EXPECT_NE(answer->message.find("too large"), std::string::npos) << answer->message;
  }
  EXPECT_EQ(Produce("a", 0, batch).error, ErrorCode::kNone);
}

TEST_F(RecordLogTest, ToItsOwnUsersTheSpoolIsFullForWhatNeverFits) {
  spool_.reset();
  clock_.RunUntilIdle();
  log_.reset();
  OpenSpool(/*bytes_max=*/4 << 20);
  NotedAppend append;
  append.batches.push_back({.topic = "a", .bytes = Build({.values = {std::string(3 << 20, 'x')}})});
  append.key = "note";
  base::Result<> result;
  log_->AppendNoted(std::move(append), [&](NotedOutcome outcome) { result = outcome.result; });
  clock_.RunUntilIdle();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, base::Code::kFull);
}

TEST_F(RecordLogTest, TellsOfWhatWaitsFromTheStartOn) {
  EXPECT_EQ(Produce("a", 0, {"1", "2"}).error, ErrorCode::kNone);
  ReopenSpool();
  const double backlog = metrics_.backlog_bytes.Value();
  EXPECT_GT(backlog, 0);
  metrics_.backlog_bytes.Set(0);
  ReopenSpool();
  EXPECT_EQ(metrics_.backlog_bytes.Value(), backlog);
}

TEST_F(RecordLogTest, ProducerIdsAreNeverGivenTwice) {
  std::vector<int64_t> ids;
  const auto take = [&](int count) {
    for (int i = 0; i < count; ++i) {
      log_->NewProducerId([&](base::Result<int64_t> id) { ids.push_back(*id); });
    }
    clock_.RunUntilIdle();
  };
  take(1500);
  ReopenSpool();
  take(1500);
  ASSERT_EQ(ids.size(), 3000);
  std::ranges::sort(ids);
  EXPECT_EQ(std::ranges::adjacent_find(ids), ids.end());
  EXPECT_GT(ids.front(), 0);
}

}  // namespace
}  // namespace holdfast::agent
