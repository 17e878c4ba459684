// Delivery in transactions against a tier that misbehaves on purpose: each local transaction whole,
// everything once and in order, in both forms of the protocol.
#include "agent/transaction_lane.h"

#include "agent/delivery_journal.h"
#include "base/event.h"
#include "base/log.h"
#include "spool/offline.h"
#include "tests/agent/transactions_fixture.h"
#include "tests/support/cpu_time.h"
#include "tests/support/sanitizers.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using Fault = test::ScriptedTransactions::Fault;

class TransactionLaneTest : public TransactionsFixture, public testing::WithParamInterface<bool> {
 protected:
  TransactionLaneTest() : TransactionsFixture(GetParam()) {}

  // One transaction over three partitions.
  void PutTransaction(const std::string& tag) {
    ASSERT_EQ(Put("a", 0, {tag + "1", tag + "2"}), ErrorCode::kNone);
    ASSERT_EQ(Put("a", 1, {tag + "3"}), ErrorCode::kNone);
    ASSERT_EQ(Put("a", 0, {tag + "4"}), ErrorCode::kNone);
    ASSERT_EQ(Put("b", 0, {tag + "5"}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
  }
  // As far as something of it is at the tier, which takes a second for each answer.
  void BeginARound() {
    Begin();
    tier_.Connect();
    Init();
    tier_.latency = std::chrono::seconds(1);
    PutTransaction("x");
    for (int i = 0; i < 100 && !transactions_.AnyStored(); ++i) {
      clock_.Advance(std::chrono::milliseconds(100));
    }
    ASSERT_TRUE(transactions_.AnyStored());
  }
  void ExpectOnce(const Values& tags) {
    Values a0;
    Values a1;
    Values b0;
    for (const std::string& tag : tags) {
      a0.insert(a0.end(), {tag + "1", tag + "2", tag + "4"});
      a1.push_back(tag + "3");
      b0.push_back(tag + "5");
    }
    EXPECT_EQ(tier_.Values("a", 0), a0);
    EXPECT_EQ(tier_.Values("a", 1), a1);
    EXPECT_EQ(tier_.Values("b", 0), b0);
  }
};

TEST_P(TransactionLaneTest, ATransactionIsOneAtTheTierToo) {
  Begin();
  tier_.Connect();
  Init();
  PutTransaction("x");
  EXPECT_EQ(Backlog(), 0);
  ExpectOnce({"x"});
  EXPECT_EQ(transactions_.commits, 1);
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
  const std::vector<Delivery> deliveries = ParseBlock(forwarder_->UnwrittenDeliveries());
  ASSERT_EQ(deliveries.size(), 3) << "of three streams";
  for (const Delivery& one : deliveries) EXPECT_EQ(one.proof, DeliveryProof::kTransaction);
  PutTransaction("y");
  EXPECT_EQ(Backlog(), 0);
  ExpectOnce({"x", "y"});
  EXPECT_EQ(metrics_.forwarded_bytes.Value(), metrics_.acknowledged_bytes.Value());
}

// The tier goes before the lane does, and the spool closes in between.
TEST_P(TransactionLaneTest, NothingIsAskedOfTheTierOnceTheLaneIsStopped) {
  for (const bool answers : {true, false}) {
    Begin();
    tier_.Connect();
    Init();
    PutTransaction("x");
    EXPECT_EQ(Backlog(), 0);
    tier_.held = true;
    PutTransaction("y");
    forwarder_->Stop();
    lane_->Stop();
    const int before = tier_.uses;
    if (answers) tier_.Release();
    clock_.Advance(std::chrono::minutes(1));
    lane_->Wake();
    clock_.Advance(std::chrono::minutes(1));
    EXPECT_EQ(tier_.uses, before) << answers;
    End();
    tier_.held = false;
    ReopenSpool();
  }
}

TEST_P(TransactionLaneTest, ARestWaitsForTheRoundThatIsOutAndBeginsNoOther) {
  Begin();
  tier_.Connect();
  Init();
  PutTransaction("x");
  EXPECT_EQ(Backlog(), 0);
  tier_.held = true;
  PutTransaction("y");
  bool rested = false;
  lane_->Rest([&] { rested = true; });
  PutTransaction("z");
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_FALSE(rested);
  tier_.Release();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(rested);
  EXPECT_FALSE(transactions_.AnyStored());
  EXPECT_EQ(Backlog(), 5);
  ExpectOnce({"x", "y"});
}

TEST_P(TransactionLaneTest, ARoundThatIsAbortedIsEndedByTheTier) {
  ASSERT_NO_FATAL_FAILURE(BeginARound());
  bool rested = false;
  lane_->Rest([&] { rested = true; });
  lane_->Abort();
  clock_.RunUntilIdle();
  EXPECT_FALSE(rested);
  clock_.Advance(std::chrono::seconds(15));
  EXPECT_TRUE(rested);
  EXPECT_FALSE(transactions_.AnyStored());
  EXPECT_EQ(transactions_.commits, 0);
  ExpectOnce({});
}

TEST_P(TransactionLaneTest, WhatARoundLeftOpenIsEndedAlsoIfAllOfItIsGivenUp) {
  ASSERT_NO_FATAL_FAILURE(BeginARound());
  tier_.Disconnect();
  clock_.RunUntilIdle();
  const CommittedTransaction* left = lane_->Next(*spool_->FindStream("a/0"), 0);
  ASSERT_TRUE(left != nullptr && lane_->GiveUp(left->number, DropCause::kExpired));
  clock_.Advance(std::chrono::minutes(1));
  ASSERT_EQ(Backlog(), 0);
  tier_.Connect();
  clock_.RunUntilIdle();
  bool rested = false;
  lane_->Rest([&] { rested = true; });
  clock_.Advance(std::chrono::seconds(15));
  EXPECT_TRUE(rested);
  EXPECT_FALSE(transactions_.AnyStored());
  ExpectOnce({});
}

TEST_P(TransactionLaneTest, AnOrdinaryBacklogThatGrowsKeepsNoTransactionWaiting) {
  lane_options_.mode = DeliveryMode::kTransactional;
  lane_options_.round_bytes_max = 1000;
  tier_.latency = std::chrono::seconds(1);
  Begin();
  Init();
  ASSERT_EQ(Put("b", 0, {"x"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  const auto grow = [&] {
    for (int i = 0; i < 10; ++i) {
      ASSERT_EQ(Produce("a", 0, Values{std::string(300, '.')}).error, ErrorCode::kNone);
    }
  };
  grow();
  tier_.Connect();
  for (int i = 0; i < 60; ++i) {
    clock_.Advance(std::chrono::seconds(1));
    grow();
  }
  EXPECT_GE(transactions_.commits, 3);
  EXPECT_FALSE(tier_.Values("a", 0).empty());
  EXPECT_EQ(tier_.Values("b", 0), Values{"x"});
}

// Each step of the lane, of which there is one with each commit here.
TEST_P(TransactionLaneTest, TransactionsThatWaitBehindTheFirstCostNothing) {
  Begin();
  Init();
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"2"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  tier_.RemoveTopic("b");
  Reconnect();
  const spool::StreamId stream = *spool_->FindStream("a/0");
  uint64_t waiting = 0;
  const auto cost_with = [&](uint64_t count) {
    for (; waiting < count; ++waiting) {
      const auto begin = static_cast<int64_t>(1000 + waiting);
      lane_->Add({.number = 1000 + waiting, .ranges = {{stream, begin, begin + 1}}});
    }
    clock_.RunUntilIdle();
    const double begun = test::CpuSeconds();
    for (int i = 0; i < 300; ++i) {
      lane_->Wake();
      clock_.RunUntilIdle();
    }
    return test::CpuSeconds() - begun;
  };
  cost_with(10);
  const double few = cost_with(1000);
  EXPECT_LT(cost_with(100'000), 20 * few) << "and not 100 times as much";
  EXPECT_EQ(lane_->waiting_partitions(), 100'002);
}

TEST_P(TransactionLaneTest, TransactionsThatWaitedGoTogether) {
  Begin();
  Init();
  PutTransaction("x");
  PutTransaction("y");
  PutTransaction("z");
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ExpectOnce({"x", "y", "z"});
  EXPECT_EQ(transactions_.commits, 1);
}

TEST_P(TransactionLaneTest, OrdinaryBatchesKeepTheirPlaceAroundATransaction) {
  Begin();
  Init();
  Produce("a", 0, {"before"});
  ASSERT_EQ(Put("a", 0, {"in"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  Produce("a", 0, {"after"});
  ASSERT_EQ(Put("a", 0, {"again"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  Produce("a", 0, {"last"});
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"before", "in", "after", "again", "last"}));
  // All but the transactions is one range of sequence numbers of one epoch.
  int32_t next = 0;
  for (const kafka::Producer& producer : tier_.seen) {
    if (producer.id == transactions_.producer_id) continue;
    EXPECT_EQ(producer.epoch, 0);
    EXPECT_EQ(producer.base_sequence, next++);
  }
  EXPECT_EQ(next, 3);
}

TEST_P(TransactionLaneTest, ACrashBetweenOrdinaryBatchesAndTransactionsDoublesNothing) {
  Begin();
  tier_.Connect();
  Init();
  Values expected;
  for (int i = 0; i < 12; ++i) {
    const std::string value = std::to_string(i);
    if (i % 3 == 1) {
      ASSERT_EQ(Put("a", 0, {value}), ErrorCode::kNone);
      ASSERT_EQ(Commit(), ErrorCode::kNone);
    } else {
      ASSERT_EQ(Produce("a", 0, {value}).error, ErrorCode::kNone);
    }
    expected.push_back(value);
    clock_.Advance(std::chrono::milliseconds(i * 5));
    CrashAndRestart();
    Reconnect();
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values("a", 0), expected);
  }
}

TEST_P(TransactionLaneTest, ALostAnswerToTheCommitIsFoundOut) {
  Begin();
  tier_.Connect();
  Init();
  for (const Fault fault : {Fault::kLoseAnswer, Fault::kLoseRequest}) {
    transactions_.end_faults.push_back(fault);
    const std::string tag = fault == Fault::kLoseAnswer ? "answer" : "request";
    PutTransaction(tag);
    clock_.Advance(std::chrono::seconds(1));
    Reconnect();
    EXPECT_EQ(Backlog(), 0);
  }
  ExpectOnce({"answer", "request"});
  EXPECT_EQ(transactions_.commits, 2);
}

TEST_P(TransactionLaneTest, ACrashAfterALostAnswerToTheCommitIsFoundOut) {
  Begin();
  tier_.Connect();
  Init();
  for (const Fault fault : {Fault::kLoseAnswer, Fault::kLoseRequest}) {
    transactions_.end_faults.push_back(fault);
    PutTransaction(fault == Fault::kLoseAnswer ? "answer" : "request");
    CrashAndRestart();
    Reconnect();
    Init();
    EXPECT_EQ(Backlog(), 0);
  }
  ExpectOnce({"answer", "request"});
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
}

TEST_P(TransactionLaneTest, BatchesWaitWhileTheLastTransactionIsBeingEnded) {
  Begin();
  tier_.Connect();
  Init();
  transactions_.busy_answers = 3;
  transactions_.loading_answers = 2;
  PutTransaction("x");
  EXPECT_EQ(Backlog(), 0);
  ExpectOnce({"x"});
  EXPECT_EQ(metrics_.upstream_transactions.With("failed").Value(), 0);
}

TEST_P(TransactionLaneTest, ALostProduceAbortsAndTheWholeIsDeliveredOnce) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  tier_.faults.push_back({.kind = Kind::kLoseAnswer});
  PutTransaction("x");
  clock_.Advance(std::chrono::seconds(1));
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ExpectOnce({"x"});
}

// By a copy of the spool, or by the tier, which ends what is open for too long.
TEST_P(TransactionLaneTest, AProducerThatIsFencedTakesTheNextEpochAndDeliversOnce) {
  Begin();
  tier_.Connect();
  Init();
  PutTransaction("first");
  EXPECT_EQ(Backlog(), 0);
  ++transactions_.epoch;
  PutTransaction("at the produce");
  EXPECT_EQ(Backlog(), 0);
  transactions_.end_faults.push_back(Fault::kFence);
  PutTransaction("at the end");
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(metrics_.upstream_transactions.With("failed").Value(), 2);
  ExpectOnce({"first", "at the produce", "at the end"});
}

// Whichever call of a delivery is lost, or its answer; every other time the agent dies of it.
TEST_P(TransactionLaneTest, NothingIsLostDoubledOrCutWhicheverCallIsLost) {
  Begin();
  tier_.Connect();
  Init();
  Values tags;
  Values before;
  constexpr int kCalls = 14;
  for (int at = 0; at < 2 * kCalls; at += test::kEveryOf) {
    const bool request = at % 2 == 0;
    const bool dies = at % 4 > 1;
    const std::string tag = std::to_string(at) + ":";
    tier_.calls = 0;
    (request ? tier_.lose_request_at : tier_.lose_answer_at) = at / 2;
    ASSERT_EQ(Produce("b", 0, {tag + "5"}).error, ErrorCode::kNone);
    tags.push_back(tag);
    PutTransaction(tag);
    clock_.Advance(std::chrono::milliseconds(at * 7 % 200));
    if (dies) CrashAndRestart();
    Reconnect();
    tier_.lose_request_at = tier_.lose_answer_at = -1;
    Reconnect();
    ASSERT_EQ(Backlog(), 0) << at;
    before.insert(before.end(), 2, tag + "5");
    ASSERT_EQ(tier_.Values("b", 0), before) << at;
    ASSERT_EQ(tier_.Values("a", 1).size(), tags.size()) << at;
  }
  Values a0;
  Values a1;
  for (const std::string& tag : tags) {
    a0.insert(a0.end(), {tag + "1", tag + "2", tag + "4"});
    a1.push_back(tag + "3");
  }
  EXPECT_EQ(tier_.Values("a", 0), a0);
  EXPECT_EQ(tier_.Values("a", 1), a1);
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
}

TEST_P(TransactionLaneTest, ARefusedStreamHoldsItsTransactionAndNoOther) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  Init();
  ASSERT_EQ(Put("a", 0, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 1, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"free"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  tier_.faults.push_back(
      {.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed, .topic = "a"});
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(tier_.Values("b", 0), Values{"free"});
  EXPECT_EQ(tier_.Values("a", 0), Values{});
  EXPECT_EQ(tier_.Values("a", 1), Values{});
  clock_.Advance(std::chrono::seconds(60));
  EXPECT_EQ(tier_.Values("a", 0), Values{"held"});
  EXPECT_EQ(tier_.Values("a", 1), Values{"held"});
}

TEST_P(TransactionLaneTest, AStreamThatIsHeldIsParkedAndTriedAtOnceWhenSomebodyAsks) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  for (int i = 0; i < 2; ++i) {
    tier_.faults.push_back(
        {.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed, .topic = "a"});
  }
  ASSERT_EQ(Put("a", 0, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  const auto expect_parked = [&](uint64_t errors) {
    const Forwarder::Status status = forwarder_->GetStatus();
    ASSERT_EQ(status.parked_streams, 1);
    EXPECT_EQ(status.parked.front().name, "a/0");
    EXPECT_NE(status.parked.front().trouble.find("TOPIC_AUTHORIZATION_FAILED"), std::string::npos);
    EXPECT_EQ(metrics_.parked_streams.Value(), 1);
    EXPECT_EQ(metrics_.forward_errors.With("TOPIC_AUTHORIZATION_FAILED").Value(), errors);
    EXPECT_TRUE(forwarder_->GetLedger()->streams.front().parked);
    EXPECT_EQ(forwarder_->WhatIsLeft().parked_streams, 1);
    EXPECT_EQ(base::RecentLines().back().event, base::Event::kStreamHeld);
  };
  clock_.Advance(std::chrono::seconds(2));
  expect_parked(1);
  const auto view = spool::OfflineView::Open(directory_);
  ASSERT_TRUE(view);
  const auto noted = (*view)->state().Get(StreamKey(kTroublePrefix, *spool_->FindStream("a/0")));
  ASSERT_TRUE(noted) << "for a trace";
  EXPECT_TRUE(agent::Trouble::Parse(*noted)->parked);
  EXPECT_FALSE(forwarder_->Resume("a/1"));
  EXPECT_TRUE(forwarder_->Resume("a/0"));
  clock_.Advance(std::chrono::seconds(2));
  expect_parked(2);
  EXPECT_TRUE(forwarder_->Resume(""));
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(tier_.Values("a", 0), Values{"held"});
  EXPECT_EQ(forwarder_->GetStatus().parked_streams, 0);
  EXPECT_EQ(metrics_.parked_streams.Value(), 0);
}

// The host has it for a moment, to see whether something of it is to be dropped.
TEST_P(TransactionLaneTest, AStreamThatIsHeldStaysSoWhenItLeavesAndComesBack) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  tier_.faults.push_back(
      {.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed, .topic = "a"});
  ASSERT_EQ(Put("a", 0, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(2));
  const spool::StreamId stream = *spool_->FindStream("a/0");
  ASSERT_TRUE(lane_->Release(stream));
  clock_.RunUntilIdle();
  // When it is tried again, the tier goes away, which says nothing about it.
  tier_.calls = 0;
  tier_.lose_request_at = 0;
  clock_.Advance(std::chrono::seconds(31));
  ASSERT_EQ(tier_.calls, 1);
  EXPECT_EQ(forwarder_->WhatIsLeft().parked_streams, 1);
  tier_.lose_request_at = -1;
  tier_.faults.push_back(
      {.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed, .topic = "a"});
  Reconnect();
  ASSERT_TRUE(tier_.faults.empty());
  // It is not in the lane when somebody asks.
  ASSERT_TRUE(lane_->Release(stream));
  EXPECT_TRUE(forwarder_->Resume("a/0"));
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(tier_.Values("a", 0), Values{"held"});
}

TEST_P(TransactionLaneTest, APartitionThatIsSickForLongDelaysNoOther) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  for (int i = 0; i < 50; ++i) {
    tier_.faults.push_back(
        {.kind = Kind::kRefuse, .error = ErrorCode::kNotEnoughReplicas, .topic = "a"});
  }
  ASSERT_EQ(Put("a", 0, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 1, {"held"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  Values free;
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(Put("b", 0, {std::to_string(i)}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    free.push_back(std::to_string(i));
    clock_.Advance(std::chrono::seconds(1));
    EXPECT_EQ(tier_.Values("b", 0), free);
  }
  EXPECT_EQ(tier_.Values("a", 0), Values{});
  tier_.faults.clear();
  clock_.Advance(std::chrono::seconds(11));
  EXPECT_EQ(tier_.Values("a", 0), Values{"held"});
  EXPECT_EQ(tier_.Values("a", 1), Values{"held"});
  EXPECT_EQ(tier_.Values("b", 0), free);
}

// Each failure takes longer than either is held back for, so one of them may always be tried.
TEST_P(TransactionLaneTest, TwoPartitionsThatTimeOutAgainAndAgainDelayNoOtherForLong) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  for (int i = 0; i < 200; ++i) {
    tier_.faults.push_back(
        {.kind = Kind::kTimeOut, .error = ErrorCode::kRequestTimedOut, .topic = "a"});
  }
  for (const int32_t partition : {0, 1}) {
    ASSERT_EQ(Put("a", partition, {"held"}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    clock_.Advance(std::chrono::seconds(5));
  }
  clock_.Advance(std::chrono::minutes(3));
  Values free;
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(Put("b", 0, {std::to_string(i)}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    free.push_back(std::to_string(i));
    clock_.Advance(std::chrono::seconds(20));
    EXPECT_EQ(tier_.Values("b", 0), free);
  }
  EXPECT_EQ(tier_.Values("a", 0), Values{});
  EXPECT_EQ(tier_.Values("a", 1), Values{});
  tier_.faults.clear();
  clock_.Advance(std::chrono::seconds(40));
  EXPECT_EQ(tier_.Values("a", 0), Values{"held"});
  EXPECT_EQ(tier_.Values("a", 1), Values{"held"});
}

// On a link so slow that the one that is sick is due again whenever the other could be tried.
TEST_P(TransactionLaneTest, APartitionThatIsWellAgainNeedNotWaitForOneThatTimesOut) {
  using Kind = test::ScriptedTier::Fault;
  tier_.AddTopic("c", 1);
  Begin();
  tier_.Connect();
  Init();
  tier_.faults.assign(1000,
                      {.kind = Kind::kTimeOut, .error = ErrorCode::kRequestTimedOut, .topic = "a"});
  tier_.faults.push_front(
      {.kind = Kind::kRefuse, .error = ErrorCode::kNotEnoughReplicas, .topic = "b"});
  tier_.latency = std::chrono::seconds(4);
  tier_.held = true;
  for (const char* topic : {"a", "b", "c"}) {
    ASSERT_EQ(Put(topic, 0, {topic}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
  }
  tier_.Release();
  clock_.Advance(std::chrono::minutes(5));
  EXPECT_EQ(tier_.Values("c", 0), Values{"c"});
  EXPECT_EQ(tier_.Values("b", 0), Values{"b"});
  EXPECT_EQ(tier_.Values("a", 0), Values{});
  tier_.faults.clear();
  clock_.Advance(std::chrono::minutes(2));
  EXPECT_EQ(tier_.Values("a", 0), Values{"a"});
}

// Each time that it is tried takes as long as 15 seconds in which nothing else goes.
TEST_P(TransactionLaneTest, PartitionsThatTimeOutTakeHalfOfTheTimeAtMost) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  tier_.faults.assign(1000,
                      {.kind = Kind::kTimeOut, .error = ErrorCode::kRequestTimedOut, .topic = "a"});
  for (const int32_t partition : {0, 1}) {
    ASSERT_EQ(Put("a", partition, {"held"}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    clock_.Advance(std::chrono::seconds(5));
  }
  clock_.Advance(std::chrono::minutes(3));
  int at_once = 0;
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(Put("b", 0, {std::to_string(i)}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    clock_.Advance(std::chrono::seconds(1));
    at_once += std::ssize(tier_.Values("b", 0)) == i + 1 ? 1 : 0;
  }
  EXPECT_GE(at_once, 150);
}

TEST_P(TransactionLaneTest, APartitionThatTimedOutIsTriedAgainSoonIfThereIsNoOther) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  tier_.faults = {{.kind = Kind::kTimeOut, .error = ErrorCode::kRequestTimedOut, .topic = "a"}};
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  clock_.Advance(test::ScriptedTier::kTimeOutAfter + std::chrono::seconds(2));
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
}

TEST_P(TransactionLaneTest, ATopicThatIsNotAllowedHoldsItselfOnlyWhicheverCallSaysSo) {
  std::vector<kafka::Api> apis = {kafka::TxnOffsetCommitRequest::kApi,
                                  kafka::OffsetFetchRequest::kApi};
  if (!GetParam()) apis.push_back(kafka::AddPartitionsToTxnRequest::kApi);
  Begin();
  Init();
  Values values;
  for (const kafka::Api& api : apis) {
    transactions_.refusals[{api.key, "a"}] = ErrorCode::kTopicAuthorizationFailed;
    const Values before = values;
    values.emplace_back(api.name);
    ASSERT_EQ(Put("a", 0, {values.back()}), ErrorCode::kNone);
    ASSERT_EQ(Put("a", 1, {values.back()}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    ASSERT_EQ(Put("b", 0, {values.back()}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    tier_.Connect();
    clock_.Advance(std::chrono::seconds(5));
    EXPECT_EQ(tier_.Values("b", 0), values) << api.name;
    EXPECT_EQ(tier_.Values("a", 0), before) << api.name;
    EXPECT_LT(transactions_.asked.size(), 60) << "it is asked again rarely";
    transactions_.refusals.clear();
    clock_.Advance(std::chrono::seconds(60));
    EXPECT_EQ(tier_.Values("a", 0), values) << api.name;
    EXPECT_EQ(tier_.Values("a", 1), values) << api.name;
    CrashAndRestart();  // So that progress is asked for.
    Init();
    transactions_.asked.clear();
  }
}

// Nobody who reads committed records could read past it.
TEST_P(TransactionLaneTest, WhatARefusedStreamLeftOpenIsEndedBeforeItIsTriedAgain) {
  using Kind = test::ScriptedTier::Fault;
  Begin();
  tier_.Connect();
  Init();
  tier_.faults = {{.kind = Kind::kServe},
                  {.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed}};
  ASSERT_EQ(Put("a", 0, {"1"}), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(tier_.faults.empty());
  EXPECT_FALSE(transactions_.AnyStored());
  clock_.Advance(std::chrono::seconds(30));
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2"}));
}

// A topic is made anew with fewer partitions, before the lane has its stream or after that.
TEST_P(TransactionLaneTest, WhoWaitsForAnotherStreamSaysForWhich) {
  Begin();
  Init();
  for (const bool before : {true, false}) {
    tier_.Disconnect();
    ASSERT_EQ(Put("b", 0, {"1"}), ErrorCode::kNone);
    ASSERT_EQ(Put("a", 1, {"2"}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    tier_.RemoveTopic("a");
    tier_.AddTopic("a", 1);
    tier_.Connect();
    clock_.Advance(std::chrono::seconds(10));
    std::map<std::string, std::string> troubles;
    for (const auto& stream : forwarder_->GetStatus().worst) troubles[stream.name] = stream.trouble;
    ASSERT_EQ(troubles.size(), 2) << before;
    EXPECT_EQ(troubles["b/0"], "waits for a/1, of its local transaction");
    EXPECT_EQ(troubles["a/1"], "the tier has no leader for this partition, or not the partition");
    tier_.AddTopic("a", 2);
    EXPECT_EQ(Backlog(), 0) << before;
    EXPECT_EQ(tier_.Values("a", 1), Values{"2"});
  }
}

TEST_P(TransactionLaneTest, TransactionalDeliveryKeepsProgressInTheTier) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  tier_.Connect();
  for (int i = 0; i < 10; ++i) Produce("a", 0, {std::to_string(i)});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ((transactions_.progress[{"a", 0}]), 10);
  transactions_.end_faults.push_back(Fault::kLoseAnswer);
  for (int i = 10; i < 20; ++i) Produce("a", 0, {std::to_string(i)});
  CrashAndRestart();
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  Values expected;
  for (int i = 0; i < 20; ++i) expected.push_back(std::to_string(i));
  EXPECT_EQ(tier_.Values("a", 0), expected);
}

// As by a tool that resets the offsets of all groups.
TEST_P(TransactionLaneTest, ProgressThatSomebodyElseHasCommittedIsNotBelieved) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1", "2"});
  Produce("b", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 0);
  tier_.Disconnect();
  Produce("a", 0, Values{"3", "4"});
  Produce("b", 0, Values{"2"});
  transactions_.progress[{"a", 0}] = 4;
  transactions_.metadata[{"a", 0}] = "";
  CrashAndRestart();
  Reconnect();
  EXPECT_EQ(Backlog(), 2) << "of a alone";
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2"}));
  EXPECT_EQ(tier_.Values("b", 0), (Values{"1", "2"}));
  const auto worst = forwarder_->GetStatus().worst;
  ASSERT_EQ(worst.size(), 1);
  EXPECT_NE(worst[0].trouble.find("somebody else has committed position 4"), std::string::npos);
  // Until it is taken away.
  transactions_.progress.erase({"a", 0});
  clock_.Advance(std::chrono::seconds(40));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3", "4"}));
}

TEST_P(TransactionLaneTest, WhatTheSpoolCannotReadForNowIsTriedAgain) {
  using Kind = test::ScriptedTier::Fault;
  lane_options_.mode = DeliveryMode::kAuto;
  Begin();
  tier_.Connect();
  const int64_t old = clock_.wall_clock_ms() - int64_t{13} * 3600 * 1000;
  Produce("a", 0, Batch{.values = {"1"}, .timestamp = old});
  EXPECT_EQ(Backlog(), 0);
  tier_.faults.push_back({.kind = Kind::kRefuse, .error = ErrorCode::kTopicAuthorizationFailed});
  Produce("b", 0, Values{"waits"});
  // As many as there may be at a time.
  const spool::StreamId stream = *spool_->FindStream("b/0");
  std::vector<spool::Lease> leases;
  for (auto lease = spool_->Read(stream, 0, 1); lease; lease = spool_->Read(stream, 0, 1)) {
    leases.push_back(*std::move(lease));
    ASSERT_LT(leases.size(), 10'000);
  }
  Produce("a", 0, Batch{.values = {"2"}, .timestamp = old});
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
  leases.clear();
  clock_.Advance(std::chrono::seconds(40));
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2"}));
}

TEST_P(TransactionLaneTest, AutoTakesOldRecordsInTransactionsAndFreshOnesWithout) {
  lane_options_.mode = DeliveryMode::kAuto;
  Begin();
  const int64_t old = clock_.wall_clock_ms() - int64_t{13} * 3600 * 1000;
  Produce("a", 0, Values{"fresh 1"});
  Produce("a", 0, Batch{.values = {"old 1"}, .timestamp = old});
  Produce("a", 0, Batch{.values = {"old 2"}, .timestamp = old});
  Produce("a", 0, Values{"fresh 2"});
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"fresh 1", "old 1", "old 2", "fresh 2"}));
  std::vector<bool> transactional;
  for (const std::string& batch : tier_.logs[{"a", 0}].batches) {
    transactional.push_back(kafka::RecordBatchView(batch).header().transactional());
  }
  EXPECT_EQ(transactional, (std::vector<bool>{false, true, true, false}));
}

TEST_P(TransactionLaneTest, AutoGoesByWhatTheTierSaysOfItsMemory) {
  lane_options_.mode = DeliveryMode::kAuto;
  transactions_.expiration_ms = std::to_string(3600 * 1000);
  Begin();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(1));
  for (const int64_t minutes : {20, 40}) {
    Produce("a", 0, Batch{.values = {"x"}, .timestamp = clock_.wall_clock_ms() - minutes * 60'000});
  }
  EXPECT_EQ(Backlog(), 0);
  const auto& batches = tier_.logs[{"a", 0}].batches;
  ASSERT_EQ(batches.size(), 2);
  EXPECT_FALSE(kafka::RecordBatchView(batches[0]).header().transactional());
  EXPECT_TRUE(kafka::RecordBatchView(batches[1]).header().transactional());
}

// Several in flight could overtake one that is refused while the tier does not know the producer.
TEST_P(TransactionLaneTest, BatchesGoOneByOneIfTheTierHasAShortMemory) {
  using Kind = test::ScriptedTier::Fault;
  transactions_.expiration_ms = std::to_string(3600 * 1000);
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"0"});
  clock_.Advance(std::chrono::minutes(40));
  tier_.ForgetProducers();
  tier_.most_in_flight = 0;
  tier_.held = true;
  tier_.faults = {{Kind::kRefuse, ErrorCode::kNotEnoughReplicas}};
  tier_.faults.resize(3, {.kind = Kind::kAccept});
  for (int i = 1; i < 4; ++i) Produce("a", 0, {std::to_string(i)});
  EXPECT_EQ(tier_.most_in_flight, 1);
  tier_.Release();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "2", "3"}));
}

TEST_P(TransactionLaneTest, WhatTheLeaderHasIsNotRepeatedBlindlyIfTheTierHasAShortMemory) {
  using Kind = test::ScriptedTier::Fault;
  transactions_.expiration_ms = std::to_string(3600 * 1000);
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"0"});
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Kind::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend}};
  tier_.held = true;
  Produce("a", 0, Values{"1"});
  tier_.Release();
  clock_.RunUntilIdle();
  ASSERT_TRUE(tier_.faults.empty());
  tier_.Disconnect();
  clock_.Advance(std::chrono::minutes(65));
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1"}));
}

// The one in flight is young enough to go without a transaction when it is sent, and no more when
// the tier, whose leader has it, has replicas again.
TEST_P(TransactionLaneTest, WhatTheLeaderHasIsNotSentInATransactionWhenItIsOld) {
  using Kind = test::ScriptedTier::Fault;
  lane_options_.mode = DeliveryMode::kAuto;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"0"});
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults.assign(1000, {Kind::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend});
  const int64_t limit = clock_.wall_clock_ms() - int64_t{12} * 3600 * 1000;
  tier_.held = true;
  Produce("a", 0, Batch{.values = {"1"}, .timestamp = limit + 20'000});
  Produce("a", 0, Batch{.values = {"2"}, .timestamp = limit - 1000});
  tier_.Release();
  clock_.Advance(std::chrono::seconds(60));
  ASSERT_EQ(tier_.Values("a", 0), (Values{"0", "1"}));
  tier_.faults.clear();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "2"}));
  EXPECT_TRUE(kafka::RecordBatchView(tier_.logs[{"a", 0}].batches.back()).header().transactional());
}

// The tier does not say what it has, but it recognises a repeat under the same sequences.
TEST_P(TransactionLaneTest, WhatWentWithoutATransactionIsNotSentInOneAfterARestart) {
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 0);
  tier_.faults.push_back({.kind = test::ScriptedTier::Fault::kLoseAnswer});
  Produce("a", 0, Values{"2"});
  lane_options_.mode = DeliveryMode::kTransactional;
  tier_.describe_error = tier_.fetch_error = ErrorCode::kTopicAuthorizationFailed;
  CrashAndRestart();
  Reconnect();
  Produce("a", 0, Values{"3"});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 1);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3"}));
  EXPECT_TRUE(kafka::RecordBatchView(tier_.logs[{"a", 0}].batches.back()).header().transactional());
}

// What comes late is there twice, since the tier does not know that it came in a transaction. What
// comes next is not taken for it.
TEST_P(TransactionLaneTest, WhatComesLateDoesNotStandForWhatFollowsATransaction) {
  lane_options_.mode = DeliveryMode::kAuto;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"0"});
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  const int64_t limit = clock_.wall_clock_ms() - int64_t{12} * 3600 * 1000;
  Produce("a", 0, Batch{.values = {"1"}, .timestamp = limit + 5000});
  tier_.Strand(0);
  tier_.Release();
  clock_.Advance(std::chrono::seconds(10));
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_TRUE(kafka::RecordBatchView(tier_.logs[{"a", 0}].batches.back()).header().transactional());
  tier_.ServeStranded();
  Produce("a", 0, Values{"2"});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "1", "2"}));
}

// Streams of transactional delivery, of which the agent is then to deliver the rest otherwise.
class ChangedDeliveryTest : public TransactionLaneTest {
 protected:
  // "1" and "2" are at the tier, and so is "3" if not even the request to commit it is lost; nobody
  // has heard.
  void LoseACommit(Fault fault) {
    lane_options_.mode = DeliveryMode::kTransactional;
    Begin();
    tier_.Connect();
    Produce("a", 0, Values{"1", "2"});
    EXPECT_EQ(Backlog(), 0);
    transactions_.end_faults.push_back(fault);
    Produce("a", 0, Values{"3"});
    EXPECT_TRUE(transactions_.end_faults.empty());
  }
  void StopCleanly() {
    forwarder_->CloseJournal();
    forwarder_->Flush([] {});
    clock_.RunUntilIdle();
  }
  void Restart(DeliveryMode mode) {
    lane_options_.mode = mode;
    CrashAndRestart();
    Reconnect();
  }
  // With nothing in the spool and nothing at the tier.
  void StartAnew() {
    End();
    tier_.cluster_id = "scripted";
    tier_.logs[{"a", 0}] = {};
    transactions_.progress.clear();
    CloseSpool();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
    OpenSpool();
  }
  bool IsLastTransactional() {
    return kafka::RecordBatchView(tier_.logs[{"a", 0}].batches.back()).header().transactional();
  }
  void LearnATierWithoutTransactions() {
    kafka::ApiVersionsResponse none = transactions_.ApiVersions();
    none.api_keys.clear();
    cache_.Learn(none);
  }
};

TEST_P(ChangedDeliveryTest, WhatALostCommitBroughtIsNotSentAgain) {
  int64_t next_id = 0;
  for (const DeliveryMode mode : {DeliveryMode::kIdempotent, DeliveryMode::kAuto}) {
    for (const Fault fault : {Fault::kLoseAnswer, Fault::kLoseRequest}) {
      for (const bool cleanly : {true, false}) {
        const std::string tag = std::to_string(next_id++);
        LoseACommit(fault);
        if (cleanly) StopCleanly();
        Restart(mode);
        EXPECT_EQ(Backlog(), 0) << tag;
        Produce("a", 0, Values{"4"});
        EXPECT_EQ(Backlog(), 0) << tag;
        EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3", "4"})) << tag;
        EXPECT_FALSE(IsLastTransactional()) << tag;
        // The tier has said it, and is not asked again.
        Restart(mode);
        const size_t asked = transactions_.asked.size();
        Produce("a", 0, Values{"5"});
        EXPECT_EQ(Backlog(), 0) << tag;
        EXPECT_EQ(transactions_.asked.size(), asked) << tag;
        EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3", "4", "5"})) << tag;
        StartAnew();
      }
    }
  }
}

// The tier could say that it has nothing of what it was sent without transactions.
TEST_P(ChangedDeliveryTest, NorIsItWhereTheTierKnowsTheStreamFromBefore) {
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"0"});
  EXPECT_EQ(Backlog(), 0);
  End();
  ReopenSpool();
  LoseACommit(Fault::kLoseAnswer);
  Restart(DeliveryMode::kIdempotent);
  Produce("a", 0, Values{"4"});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "2", "3", "4"}));
  EXPECT_EQ(metrics_.forward_errors.With("fenced").Value(), 0);
}

TEST_P(ChangedDeliveryTest, AfterACleanStopTheTierIsNotAsked) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 0);
  StopCleanly();
  transactions_.refusals[{kafka::OffsetFetchRequest::kApi.key, "a"}] =
      ErrorCode::kTopicAuthorizationFailed;
  Restart(DeliveryMode::kIdempotent);
  Produce("a", 0, Values{"2"});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2"}));
}

TEST_P(ChangedDeliveryTest, NorIsItOfWhatItHasConfirmed) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 0);
  transactions_.refusals[{kafka::OffsetFetchRequest::kApi.key, "a"}] =
      ErrorCode::kTopicAuthorizationFailed;
  Restart(DeliveryMode::kIdempotent);
  Produce("a", 0, Values{"2"});
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2"}));
}

TEST_P(ChangedDeliveryTest, ATierThatDoesNotSayWhatItHasIsWaitedFor) {
  LoseACommit(Fault::kLoseAnswer);
  transactions_.refusals[{kafka::OffsetFetchRequest::kApi.key, "a"}] =
      ErrorCode::kTopicAuthorizationFailed;
  Restart(DeliveryMode::kIdempotent);
  EXPECT_EQ(Backlog(), 1);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3"}));
  transactions_.refusals.clear();
  clock_.Advance(std::chrono::seconds(40));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3"}));
}

TEST_P(ChangedDeliveryTest, ATierThatNeverHadTransactionsNeedNotSay) {
  LearnATierWithoutTransactions();
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 1);
  Restart(DeliveryMode::kIdempotent);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
  EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 0);
}

TEST_P(ChangedDeliveryTest, ATierThatHasTransactionsNoMoreCannotSay) {
  LoseACommit(Fault::kLoseRequest);
  LearnATierWithoutTransactions();
  Restart(DeliveryMode::kIdempotent);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 1);
}

TEST_P(ChangedDeliveryTest, NorIsATierWaitedForThatLosesThemMeanwhile) {
  for (const DeliveryMode mode : {DeliveryMode::kIdempotent, DeliveryMode::kAuto}) {
    const uint64_t before = metrics_.forward_errors.With("unknowable").Value();
    LoseACommit(Fault::kLoseRequest);
    transactions_.refusals[{kafka::OffsetFetchRequest::kApi.key, "a"}] =
        ErrorCode::kTopicAuthorizationFailed;
    Restart(mode);
    EXPECT_EQ(Backlog(), 1);
    LearnATierWithoutTransactions();
    Reconnect();
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), before + 1);
    transactions_.refusals.clear();
    cache_.Learn(transactions_.ApiVersions());
    StartAnew();
  }
}

TEST_P(ChangedDeliveryTest, AnotherClusterIsNotAsked) {
  LoseACommit(Fault::kLoseAnswer);
  tier_.cluster_id = "another";
  tier_.logs[{"a", 0}] = {};
  const size_t asked = transactions_.asked.size();
  Restart(DeliveryMode::kIdempotent);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(transactions_.asked.size(), asked);
  EXPECT_EQ(tier_.Values("a", 0), Values{"3"});
}

TEST_P(ChangedDeliveryTest, WhatMayPassByAClosedScheduleIsAskedAboutAndGoes) {
  LoseACommit(Fault::kLoseAnswer);
  forward_options_.schedule =
      Schedule({*Schedule::ParseWindow("Sun 00:00-00:01")}, Schedule::Clock::kUtc);
  forward_options_.high_priority_always = true;
  lane_options_.mode = DeliveryMode::kIdempotent;
  CrashAndRestart();
  SetPolicies({{.pattern = "a", .policy = {.priority = TopicPolicy::Priority::kHigh}}});
  Produce("a", 0, Values{"4"});
  ASSERT_FALSE(forwarder_->GetStatus().schedule.open);
  tier_.held = true;
  tier_.Connect();
  clock_.RunUntilIdle();
  EXPECT_EQ(forwarder_->HeldBacklog(), 0) << "only the answer is waited for";
  tier_.Release();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3", "4"}));
  // What goes in transactions waits.
  Restart(DeliveryMode::kTransactional);
  SetPolicies({{.pattern = "a", .policy = {.priority = TopicPolicy::Priority::kHigh}}});
  Produce("a", 0, Values{"5"});
  EXPECT_EQ(Backlog(), 1);
  EXPECT_EQ(forwarder_->HeldBacklog(), 1);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"1", "2", "3", "4"}));
}

// Old records, so that it may have forgotten the producer.
TEST_P(ChangedDeliveryTest, WhatAnotherClusterGotIsAskedOfIt) {
  forward_options_.fresh_for = std::chrono::milliseconds(1);
  for (const DeliveryMode then : {DeliveryMode::kIdempotent, DeliveryMode::kTransactional}) {
    LoseACommit(Fault::kLoseAnswer);
    tier_.cluster_id = "another";
    tier_.logs[{"a", 0}] = {};
    tier_.faults.push_back({.kind = test::ScriptedTier::Fault::kLoseAnswer});
    clock_.Advance(std::chrono::seconds(1));
    lane_options_.mode = DeliveryMode::kIdempotent;
    CrashAndRestart();
    tier_.Connect();
    clock_.RunUntilIdle();
    EXPECT_EQ(tier_.Values("a", 0), Values{"3"});
    tier_.ForgetProducers();
    Restart(then);
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values("a", 0), Values{"3"});
    StartAnew();
  }
}

// All of it might have been sent to the one before, but none to this one.
TEST_P(ChangedDeliveryTest, ALocalTransactionIsOneAtAnotherClusterToo) {
  Begin();
  tier_.Connect();
  Produce("a", 0, Values{"1"});
  EXPECT_EQ(Backlog(), 0);
  Init();
  tier_.Disconnect();
  ASSERT_EQ(Put("a", 0, {"2"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  tier_.cluster_id = "another";
  tier_.logs[{"a", 0}] = {};
  Restart(DeliveryMode::kIdempotent);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Values{"2"});
  EXPECT_EQ(transactions_.commits, 1);
}

INSTANTIATE_TEST_SUITE_P(Protocols, ChangedDeliveryTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Second" : "First"; });

INSTANTIATE_TEST_SUITE_P(Protocols, TransactionLaneTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Second" : "First"; });

}  // namespace
}  // namespace holdfast::agent
