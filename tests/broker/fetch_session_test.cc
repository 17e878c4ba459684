// Fetch sessions: what their answers leave out, and what ends them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/metadata.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int16_t kByName = 12;
constexpr int16_t kById = 13;

// A client that keeps to the protocol.
class Session {
 public:
  Session(BrokerFixture& broker, std::string topic, size_t worker = 0)
      : broker_(broker), topic_(std::move(topic)), worker_(worker) {}

  // A whole request for the partitions, from their beginnings; does not wait.
  FetchResponse Begin(const std::vector<int32_t>& partitions) {
    FetchRequest request = Request();
    request.session_id = id_;
    request.session_epoch = 0;
    for (const int32_t partition : partitions) Name(request, partition, 0);
    const auto pending = broker_.Ask(request, kByName, worker_);
    const FetchResponse response = pending.Get();
    id_ = response.session_id;
    epoch_ = 1;
    return response;
  }

  [[nodiscard]] FetchRequest Request() const {
    FetchRequest request;
    request.min_bytes = 1;
    request.session_id = id_;
    request.session_epoch = epoch_;
    return request;
  }
  void Name(FetchRequest& request, int32_t partition, int64_t offset) const {
    if (request.topics.empty()) request.topics.emplace_back().topic = topic_;
    request.topics[0].partitions.push_back({.partition = partition,
                                            .current_leader_epoch = -1,
                                            .fetch_offset = offset,
                                            .partition_max_bytes = 1 << 20});
  }
  void Forget(FetchRequest& request, int32_t partition) const {
    if (request.forgotten_topics_data.empty())
      request.forgotten_topics_data.emplace_back().topic = topic_;
    request.forgotten_topics_data[0].partitions.push_back(partition);
  }
  Pending<FetchRequest> Send(const FetchRequest& request) {
    ++epoch_;
    return broker_.Ask(request, kByName, worker_);
  }
  // Asks for nothing new, and waits for news.
  Pending<FetchRequest> SendWaiting(int32_t max_wait_ms) {
    FetchRequest request = Request();
    request.max_wait_ms = max_wait_ms;
    return Send(request);
  }
  // Partitions of the answer to a request that does not wait.
  std::vector<int32_t> Told() { return Told(Request()); }
  std::vector<int32_t> Told(const FetchRequest& request) { return PartitionsOf(Send(request)); }

  static std::vector<int32_t> PartitionsOf(const Pending<FetchRequest>& pending) {
    const FetchResponse response = pending.Get();
    HF_CHECK(response.error_code == ErrorCode::kNone);
    std::vector<int32_t> told;
    for (const auto& topic : response.responses) {
      for (const auto& partition : topic.partitions) told.push_back(partition.partition_index);
    }
    return told;
  }
  [[nodiscard]] int32_t id() const { return id_; }
  void set_worker(size_t worker) { worker_ = worker; }

 private:
  BrokerFixture& broker_;
  const std::string topic_;
  size_t worker_;
  int32_t id_ = 0;
  int32_t epoch_ = 0;
};

void Delete(BrokerFixture& broker, std::string_view topic) {
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names = {topic};
  ASSERT_EQ(broker.Ask(deletion, 4).Get().responses[0].error_code, ErrorCode::kNone);
}

TEST(FetchSessionTest, APartitionNamedTwiceIsAnsweredOnceAsTheLastAsksForIt) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  broker.CreateTopic("u", 1);
  broker.Produce("t", 0, broker.Batch({"a"}));
  broker.Produce("t", 0, broker.Batch({"b"}));
  FetchRequest request;
  request.session_epoch = -1;
  const auto name = [&](std::string_view topic, int32_t partition, int64_t offset) {
    auto& out = request.topics.emplace_back();
    out.topic = topic;
    out.partitions.push_back({.partition = partition,
                              .current_leader_epoch = -1,
                              .fetch_offset = offset,
                              .partition_max_bytes = 1 << 20});
  };
  name("t", 0, 0);
  name("u", 0, 0);
  name("t", 0, 1);
  name("t", 1, 0);
  const auto pending = broker.Ask(request, kByName);
  const FetchResponse response = pending.Get();
  ASSERT_EQ(response.responses.size(), 3U);
  EXPECT_EQ(response.responses[0].topic, "t");
  ASSERT_EQ(response.responses[0].partitions.size(), 1U);
  EXPECT_THAT(BrokerFixture::ReadValues(response.responses[0].partitions[0]), ElementsAre("b"));
  EXPECT_EQ(response.responses[1].topic, "u");
  EXPECT_EQ(response.responses[2].partitions.at(0).partition_index, 1);
}

TEST(FetchSessionTest, AnswersHoldPartitionsWithNewsOnly) {
  BrokerFixture broker;
  broker.CreateTopic("t", 3);
  Session session(broker, "t");
  const FetchResponse whole = session.Begin({0, 1, 2});
  EXPECT_GT(whole.session_id, 0);
  EXPECT_EQ(whole.responses.at(0).partitions.size(), 3U);

  EXPECT_THAT(session.Told(), IsEmpty());
  broker.Produce("t", 1, broker.Batch({"a"}));
  EXPECT_THAT(session.Told(), ElementsAre(1));
  FetchRequest request = session.Request();
  request.max_wait_ms = 500;
  EXPECT_THAT(session.Told(request), ElementsAre(1)) << "it has not moved on: it gets it again";
  request = session.Request();
  session.Name(request, 1, 1);
  EXPECT_THAT(session.Told(request), IsEmpty());
}

TEST(FetchSessionTest, RequestsWithoutASessionGetNone) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  request.max_wait_ms = 0;
  EXPECT_EQ(broker.Ask(request, kByName).Get().session_id, 0);
}

TEST(FetchSessionTest, AFetchThatBeginsASessionMayWait) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
  request.session_epoch = 0;
  const auto pending = broker.Ask(request, kByName);
  EXPECT_FALSE(pending.answered());
  broker.Produce("t", 0, broker.Batch({"a"}));
  ASSERT_TRUE(pending.answered());
  EXPECT_GT(pending.Get().session_id, 0);
}

TEST(FetchSessionTest, WhatDoesNotFitTheSessionIsRefusedAndLeavesItAsItWas) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto error = [&](const FetchRequest& request, int16_t version) {
    const auto pending = broker.Ask(request, version);
    EXPECT_THAT(pending.Get().responses, IsEmpty());
    EXPECT_EQ(pending.Get().session_id, 0);
    return pending.Get().error_code;
  };
  FetchRequest request = session.Request();
  request.session_epoch = 2;
  EXPECT_EQ(error(request, kByName), ErrorCode::kInvalidFetchSessionEpoch);
  request = session.Request();
  request.session_id ^= 1;
  EXPECT_EQ(error(request, kByName), ErrorCode::kFetchSessionIdNotFound);
  request.session_id = 0;
  EXPECT_EQ(error(request, kByName), ErrorCode::kFetchSessionIdNotFound);
  EXPECT_EQ(error(session.Request(), kById), ErrorCode::kFetchSessionTopicIdError);
  EXPECT_THAT(session.Told(), IsEmpty());
}

TEST(FetchSessionTest, EpochsBeginAgainAtOne) {
  EXPECT_EQ(NextSessionEpoch(0), 1);
  EXPECT_EQ(NextSessionEpoch(7), 8);
  EXPECT_EQ(NextSessionEpoch(std::numeric_limits<int32_t>::max()), 1);
  EXPECT_EQ(NextSessionEpoch(-1), -1);
}

TEST(FetchSessionTest, PartitionsAreAddedAndForgotten) {
  BrokerFixture broker;
  broker.CreateTopic("t", 3);
  Session session(broker, "t");
  session.Begin({0, 1});
  FetchRequest request = session.Request();
  session.Name(request, 2, 0);
  session.Forget(request, 0);
  EXPECT_THAT(session.Told(request), ElementsAre(2)) << "an added one is told once";
  for (int partition = 0; partition < 3; ++partition)
    broker.Produce("t", partition, broker.Batch({"a"}));
  EXPECT_THAT(session.Told(), testing::UnorderedElementsAre(1, 2));

  request = session.Request();
  session.Forget(request, 1);
  session.Forget(request, 2);
  const auto last = session.Send(request);
  EXPECT_EQ(last.Get().error_code, ErrorCode::kNone);
  EXPECT_EQ(last.Get().session_id, 0) << "nothing is left of it";
  EXPECT_EQ(session.Send(session.Request()).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
}

TEST(FetchSessionTest, AWholeRequestEndsTheSessionItNames) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  const int32_t first = session.Begin({0}).session_id;
  const int32_t second = session.Begin({0}).session_id;
  EXPECT_NE(first, second);
  FetchRequest request = session.Request();
  request.session_id = first;
  EXPECT_EQ(broker.Ask(request, kByName).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
  request = session.Request();
  request.session_epoch = -1;
  session.Name(request, 0, 0);
  EXPECT_EQ(broker.Ask(request, kByName).Get().session_id, 0);
  EXPECT_EQ(session.Send(session.Request()).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
}

TEST(FetchSessionTest, AFetchOfASessionIsWokenByRecords) {
  BrokerFixture broker({}, /*workers=*/2);
  broker.CreateTopic("t", 2);
  Session session(broker, "t", /*worker=*/1);
  session.Begin({0, 1});
  const std::string batch = broker.Batch({"0123456789"});
  FetchRequest request = session.Request();
  request.max_wait_ms = 500;
  request.min_bytes = static_cast<int32_t>(2 * batch.size());
  const auto pending = session.Send(request);
  broker.Produce("t", 1, batch);
  EXPECT_FALSE(pending.answered());
  broker.Produce("t", 0, batch);
  ASSERT_TRUE(pending.answered());
  EXPECT_THAT(Session::PartitionsOf(pending), ElementsAre(1, 0));
}

TEST(FetchSessionTest, AnEmptyFetchWaitsAndIsAnsweredInTime) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto pending = session.SendWaiting(500);
  broker.clock().Advance(milliseconds(499));
  EXPECT_FALSE(pending.answered());
  broker.clock().Advance(milliseconds(1));
  ASSERT_TRUE(pending.answered());
  EXPECT_THAT(Session::PartitionsOf(pending), IsEmpty());
}

TEST(FetchSessionTest, AnErrorIsToldEachTimeUntilItHasGone) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto pending = session.SendWaiting(60000);
  EXPECT_FALSE(pending.answered());
  Delete(broker, "t");
  ASSERT_TRUE(pending.answered());
  EXPECT_EQ(pending.Get().responses.at(0).partitions.at(0).error_code,
            ErrorCode::kUnknownTopicOrPartition);
  const auto again = session.Send(session.Request());
  EXPECT_EQ(again.Get().responses.at(0).partitions.at(0).error_code,
            ErrorCode::kUnknownTopicOrPartition);

  broker.CreateTopic("t", 1);
  const auto cleared = session.Send(session.Request());
  EXPECT_EQ(cleared.Get().responses.at(0).partitions.at(0).error_code, ErrorCode::kNone);
  EXPECT_THAT(session.Told(), IsEmpty());
  broker.Produce("t", 0, broker.Batch({"a"}));
  EXPECT_THAT(session.Told(), ElementsAre(0)) << "the new topic's partition is watched";
}

TEST(FetchSessionTest, ALaterBeginningOfTheLogIsNews) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.Produce("t", 0, broker.Batch({"a", "b"}));
  Session session(broker, "t");
  session.Begin({0});
  FetchRequest request = session.Request();
  session.Name(request, 0, 2);
  EXPECT_THAT(session.Told(request), IsEmpty());
  kafka::DeleteRecordsRequest deletion;
  deletion.topics.emplace_back().name = "t";
  deletion.topics[0].partitions.push_back({.partition_index = 0, .offset = 2, .unknown_tags = {}});
  ASSERT_EQ(broker.Ask(deletion, 2).Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
  request = session.Request();
  request.max_wait_ms = 500;
  const auto pending = session.Send(request);
  EXPECT_FALSE(pending.answered()) << "it is no reason to answer at once";
  broker.clock().Advance(milliseconds(500));
  ASSERT_TRUE(pending.answered());
  EXPECT_EQ(pending.Get().responses.at(0).partitions.at(0).log_start_offset, 2);
  EXPECT_THAT(session.Told(), IsEmpty());
}

TEST(FetchSessionTest, PartitionsTakeTurnsWhenAnAnswerHasNoRoomForAll) {
  BrokerFixture broker;
  broker.CreateTopic("t", 3);
  Session session(broker, "t");
  session.Begin({0, 1, 2});
  const std::string batch = broker.Batch({"0123456789"});
  for (int partition = 0; partition < 3; ++partition) broker.Produce("t", partition, batch);
  std::vector<int32_t> turns;
  for (int i = 0; i < 6; ++i) {
    FetchRequest request = session.Request();
    request.max_wait_ms = 500;
    request.max_bytes = static_cast<int32_t>(batch.size());
    for (const int32_t partition : session.Told(request)) turns.push_back(partition);
  }
  EXPECT_THAT(turns, ElementsAre(0, 1, 2, 0, 1, 2));
}

TEST(FetchSessionTest, ASecondRequestTakesTheTurnOfOneThatWaits) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto first = session.SendWaiting(60000);
  EXPECT_FALSE(first.answered());
  EXPECT_THAT(session.Told(), IsEmpty());
  ASSERT_TRUE(first.answered());
  EXPECT_EQ(first.Get().error_code, ErrorCode::kInvalidFetchSessionEpoch);
  EXPECT_EQ(first.Get().session_id, session.id());
}

TEST(FetchSessionTest, ASessionGoesOnOverAnotherWorkersConnection) {
  BrokerFixture broker({}, /*workers=*/2);
  broker.CreateTopic("t", 1);
  Session session(broker, "t", /*worker=*/0);
  session.Begin({0});
  session.set_worker(1);
  EXPECT_THAT(session.Told(), IsEmpty());
  const auto pending = session.SendWaiting(500);
  EXPECT_FALSE(pending.answered());
  broker.Produce("t", 0, broker.Batch({"a"}));
  ASSERT_TRUE(pending.answered());
  EXPECT_THAT(Session::PartitionsOf(pending), ElementsAre(0));

  const int32_t before = session.id();
  EXPECT_NE(session.Begin({0}).session_id, before) << "ended from there, too";
  FetchRequest old = session.Request();
  old.session_id = before;
  EXPECT_EQ(broker.Ask(old, kByName).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
}

TEST(FetchSessionTest, SessionsGiveWayAsInKafka) {
  BrokerFixture broker({.fetch_sessions_max = 2});
  broker.CreateTopic("t", 3);
  Session one(broker, "t");
  Session two(broker, "t");
  one.Begin({0, 1});
  two.Begin({0});
  Session third(broker, "t");
  EXPECT_EQ(third.Begin({0, 1, 2}).session_id, 0) << "both are young and in use";

  broker.clock().Advance(minutes(2) + seconds(1));
  EXPECT_THAT(one.Told(), IsEmpty());
  EXPECT_THAT(two.Told(), IsEmpty());
  EXPECT_EQ(third.Begin({0}).session_id, 0) << "neither is smaller";
  EXPECT_GT(third.Begin({0, 1}).session_id, 0) << "the smaller one gives way";
  EXPECT_EQ(two.Send(two.Request()).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
  EXPECT_THAT(one.Told(), IsEmpty());

  broker.clock().Advance(minutes(2) + seconds(1));
  EXPECT_THAT(third.Told(), IsEmpty());
  Session fourth(broker, "t");
  EXPECT_GT(fourth.Begin({0}).session_id, 0) << "the one that nobody uses gives way to any";
  EXPECT_EQ(one.Send(one.Request()).Get().error_code, ErrorCode::kFetchSessionIdNotFound);
  EXPECT_THAT(third.Told(), IsEmpty());
}

TEST(FetchSessionTest, AnEvictedSessionAnswersTheFetchThatWaits) {
  BrokerFixture broker({.fetch_sessions_max = 1}, /*workers=*/2);
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto pending = session.SendWaiting(300000);
  broker.clock().Advance(minutes(2) + seconds(1));
  EXPECT_FALSE(pending.answered());
  Session other(broker, "t", /*worker=*/1);
  EXPECT_GT(other.Begin({0}).session_id, 0);
  ASSERT_TRUE(pending.answered());
  EXPECT_THAT(Session::PartitionsOf(pending), IsEmpty());
}

TEST(FetchSessionTest, StoppingAnswersFetchesOfSessions) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Session session(broker, "t");
  session.Begin({0});
  const auto pending = session.SendWaiting(60000);
  EXPECT_FALSE(pending.answered());
  broker.broker().Stop();
  ASSERT_TRUE(pending.answered());
}

TEST(FetchSessionTest, TopicsAreNamedByIdFromVersion13On) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  kafka::MetadataRequest metadata;
  metadata.topics.emplace().emplace_back().name = "t";
  const kafka::Uuid id = broker.Ask(metadata, 12).Get().topics.at(0).topic_id;
  FetchRequest request;
  request.session_epoch = 0;
  auto& topic = request.topics.emplace_back();
  topic.topic_id = id;
  for (int partition = 0; partition < 2; ++partition)
    topic.partitions.push_back({.partition = partition, .partition_max_bytes = 1 << 20});
  const auto whole = broker.Ask(request, kById);
  ASSERT_GT(whole.Get().session_id, 0);

  broker.Produce("t", 1, broker.Batch({"a"}));
  FetchRequest next;
  next.session_id = whole.Get().session_id;
  next.session_epoch = 1;
  const auto told = broker.Ask(next, kById);
  ASSERT_EQ(told.Get().responses.size(), 1U);
  EXPECT_EQ(told.Get().responses[0].topic_id, id);
  EXPECT_EQ(told.Get().responses[0].partitions.at(0).partition_index, 1);

  // One that does not exist yet is told each time.
  next.session_epoch = 2;
  next.topics.emplace_back().topic_id.bytes[0] = 1;
  next.topics[0].partitions.push_back({.partition = 0});
  const auto unknown = broker.Ask(next, kById);
  ASSERT_EQ(unknown.Get().responses.size(), 2U);
  EXPECT_EQ(unknown.Get().responses[1].partitions.at(0).error_code, ErrorCode::kUnknownTopicId);
}

}  // namespace
}  // namespace holdfast::broker
