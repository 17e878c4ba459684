// What is dropped of the spool where there are local transactions: each of them whole, in all its
// streams, or not at all.
#include <algorithm>

#include "tests/agent/transactions_fixture.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Fault = test::ScriptedTier::Fault;

class TransactionDropsTest : public TransactionsFixture {
 protected:
  TransactionDropsTest() : TransactionsFixture(/*second=*/true) {
    sinks_.drop_oldest = [this](std::string topic, uint64_t bytes) {
      if (forwarder_) forwarder_->DropOldest(std::move(topic), bytes);
    };
    ReopenSpool();
    Begin();
    Init();
  }

  void SetRules(std::vector<Policies::TopicRule> rules) {
    rules_ = rules;
    SetPolicies(std::move(rules));
  }
  void Restart() {
    CrashAndRestart();
    SetPolicies(rules_);
  }
  // A transaction over a/0, a/1 and b/0, each record of about 1,100 bytes.
  void PutTransaction(const std::string& tag) {
    ASSERT_EQ(Put("a", 0, {tag + Filling()}), ErrorCode::kNone) << tag;
    ASSERT_EQ(Put("b", 0, {tag + Filling()}), ErrorCode::kNone) << tag;
    ASSERT_EQ(Put("a", 1, {tag + Filling()}), ErrorCode::kNone) << tag;
    ASSERT_EQ(Commit(), ErrorCode::kNone) << tag;
  }
  static std::string Filling() { return std::string(1000, '.'); }
  Values Arrived(const std::string& topic, int32_t partition) {
    Values values = tier_.Values(topic, partition);
    for (std::string& value : values) value.resize(value.find('.'));
    return values;
  }
  void ExpectArrived(const Values& tags) {
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(Arrived("a", 0), tags);
    EXPECT_EQ(Arrived("a", 1), tags);
    EXPECT_EQ(Arrived("b", 0), tags);
    EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
  }
  // In place of the spool, which is empty.
  void EncryptSpool() {
    End();
    ReplaceByEncryptedSpool();
    Begin();
    Init();
  }
  void RestartDamaged() {
    End();
    CloseSpool();
    DamageLargest();
    ReopenSpool();
    Begin();
  }
  uint64_t Dropped(const char* cause) { return metrics_.dropped_records.With(cause).Value(); }

  std::vector<Policies::TopicRule> rules_;
};

TEST_F(TransactionDropsTest, ATransactionExpiresWhenTheLastOfItsTopicsAllowsIt) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}},
            {.pattern = "b", .policy = {.ttl_ms = 10000}}});
  for (const char* tag : {"1", "2", "3"}) PutTransaction(tag);
  clock_.Advance(seconds(7));
  EXPECT_EQ(Dropped("expired"), 0);
  PutTransaction("4");
  clock_.Advance(seconds(5));
  EXPECT_EQ(Dropped("expired"), 9);
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 1);
  Reconnect();
  ExpectArrived({"4"});
}

// What was dropped before it leaves a gap, which makes the tier's word on the producer useless.
TEST_F(TransactionDropsTest, ATransactionBehindADropIsOneAtTheTierAfterARestart) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}}});
  tier_.Connect();
  Produce("a", 0, Values{"0" + Filling()});
  EXPECT_EQ(Backlog(), 0);
  tier_.Disconnect();
  Produce("a", 0, Values{"1" + Filling()});
  clock_.Advance(seconds(4));
  ASSERT_EQ(Put("a", 0, {"2" + Filling()}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"2" + Filling()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  clock_.Advance(seconds(3));
  EXPECT_EQ(Dropped("expired"), 1);
  Restart();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(Arrived("a", 0), (Values{"0", "2"}));
  EXPECT_EQ(Arrived("b", 0), Values{"2"});
  for (const char* topic : {"a", "b"}) {
    const std::string& last = tier_.logs[{topic, 0}].batches.back();
    EXPECT_TRUE(kafka::RecordBatchView(last).header().transactional()) << topic;
  }
}

TEST_F(TransactionDropsTest, ATransactionIsOneAfterARestartAlsoIfTheTierDoesNotLetUsLook) {
  tier_.Connect();
  Produce("a", 0, Values{"0" + Filling()});
  EXPECT_EQ(Backlog(), 0);
  tier_.Disconnect();
  PutTransaction("1");
  Restart();
  tier_.describe_error = tier_.fetch_error = ErrorCode::kTopicAuthorizationFailed;
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(Arrived("a", 0), (Values{"0", "1"}));
  EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 1);
  const std::string& last = tier_.logs[{"a", 0}].batches.back();
  EXPECT_TRUE(kafka::RecordBatchView(last).header().transactional());
}

TEST_F(TransactionDropsTest, ATopicThatKeepsItsRecordsKeepsTheWholeTransaction) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}}});
  Produce("a", 0, Values{"old" + Filling()});
  PutTransaction("1");
  clock_.Advance(seconds(60));
  EXPECT_EQ(Dropped("expired"), 1) << "what is in no transaction";
  Reconnect();
  ExpectArrived({"1"});
}

TEST_F(TransactionDropsTest, TransactionsMakeRoomAsAWhole) {
  SetRules({{.pattern = "*", .policy = {.bytes_max = 6000, .when_full = WhenFull::kDropOldest}}});
  for (int i = 0; i < 12; ++i) {
    const std::string tag = std::to_string(i);
    for (const auto& [topic, partition] : {std::pair("a", 0), {"b", 0}, {"a", 1}}) {
      ErrorCode error = Put(topic, partition, {tag + Filling()});
      if (error == ErrorCode::kUnknownServerError) {
        clock_.Advance(milliseconds(300));
        error = answers_.back();
        ++sequences_[{topic, partition}];
      }
      ASSERT_EQ(error, ErrorCode::kNone);
    }
    ASSERT_EQ(Commit(), ErrorCode::kNone);
    if (i % 5 == 4) Restart();
  }
  EXPECT_GE(Dropped("made room"), 24);
  EXPECT_EQ(Dropped("made room") % 3, 0);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  const Values left = Arrived("a", 0);
  EXPECT_EQ(left.size(), 12 - Dropped("made room") / 3);
  EXPECT_EQ(left.back(), "11");
  ExpectArrived(left);
}

// The room that is needed is that of one topic; what stands before the transaction in the others
// stays, and the transaction is passed over when it is its turn there, whatever happens meanwhile.
TEST_F(TransactionDropsTest, WhatStandsBeforeATransactionInOtherStreamsIsDelivered) {
  for (const int crash_after_ms : {-1, 0, 1, 50, 150}) {
    SetRules({{.pattern = "*", .policy = {.bytes_max = 9000, .when_full = WhenFull::kDropOldest}}});
    const uint64_t before = Dropped("made room");
    const size_t a_before = tier_.Values("a", 0).size();
    const size_t b_before = tier_.Values("b", 0).size();
    tier_.Disconnect();
    Produce("b", 0, Values{"first" + Filling()});
    PutTransaction("dropped");
    Produce("b", 0, Values{"last" + Filling()});
    forwarder_->DropOldest("a", 1);
    if (crash_after_ms >= 0) {
      clock_.Advance(milliseconds(crash_after_ms));
      Restart();
    }
    clock_.Advance(seconds(1));
    Reconnect();
    EXPECT_EQ(Backlog(), 0);
    const size_t a = tier_.Values("a", 0).size() - a_before;
    EXPECT_EQ(tier_.Values("b", 0).size() - b_before, 2 + a);
    EXPECT_EQ(tier_.Values("a", 1).size(), tier_.Values("a", 0).size());
    EXPECT_EQ(Dropped("made room") - before, a == 1 ? 0 : 3) << crash_after_ms;
    if (crash_after_ms < 0 || crash_after_ms > 10) {
      EXPECT_EQ(a, 0);
    }
    EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
  }
}

TEST_F(TransactionDropsTest, WhatTheTierRefusesExpiresTooAndTheRestGoesOn) {
  SetRules({{.pattern = "*", .policy = {.ttl_ms = 60000}}});
  tier_.Connect();
  for (int i = 0; i < 1000; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed, "b"});
  }
  PutTransaction("1");
  clock_.Advance(seconds(40));
  PutTransaction("2");
  clock_.Advance(seconds(30));
  EXPECT_EQ(Dropped("expired"), 3);
  tier_.faults.clear();
  clock_.Advance(seconds(30));
  ExpectArrived({"2"});
}

// The lane gives the stream back each second, and has it again: the rest of the transaction stays.
TEST_F(TransactionDropsTest, WhatIsTooOldAndMayNotBeDroppedIsTriedNoMoreOften) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 2000}}});
  tier_.Connect();
  for (int i = 0; i < 1000; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed, "a"});
  }
  PutTransaction("1");
  clock_.Advance(seconds(80));
  EXPECT_GE(metrics_.upstream_transactions.With("failed").Value(), 2);
  EXPECT_LE(metrics_.upstream_transactions.With("failed").Value(), 6);
  tier_.faults.clear();
  clock_.Advance(seconds(30));
  ExpectArrived({"1"});
}

TEST_F(TransactionDropsTest, WhatIsTooOldAndMayNotBeDroppedStaysWhereItIs) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 2000}}});
  ASSERT_EQ(Put("a", 0, {"1" + Filling()}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"1" + Filling()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  tier_.RemoveTopic("b");
  tier_.Connect();
  clock_.Advance(seconds(10));
  const uint64_t before = spool_->GetStatus().durable.value();
  clock_.Advance(seconds(60));
  EXPECT_EQ(spool_->GetStatus().durable.value(), before) << "nothing is written down";
  std::map<std::string, std::string> troubles;
  for (const auto& stream : forwarder_->GetStatus().worst) troubles[stream.name] = stream.trouble;
  EXPECT_EQ(troubles["a/0"], "waits for b/0, of its local transaction");
  tier_.AddTopic("b", 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(Arrived("a", 0), Values{"1"});
  EXPECT_EQ(Arrived("b", 0), Values{"1"});
}

// It may be there, so it is not dropped while the tier has not answered.
TEST_F(TransactionDropsTest, WhatIsOnItsWayIsNotDropped) {
  SetRules({{.pattern = "*", .policy = {.ttl_ms = 2000}}});
  tier_.Connect();
  clock_.Advance(seconds(1));
  PutTransaction("0");
  ExpectArrived({"0"});
  tier_.held = true;
  PutTransaction("1");
  clock_.Advance(seconds(10));
  EXPECT_EQ(Dropped("expired"), 0);
  tier_.Release();
  ExpectArrived({"0", "1"});
}

TEST_F(TransactionDropsTest, RecordsThatAreDeliveredInTransactionsExpireAsOthersDo) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Restart();
  SetRules({{.pattern = "*", .policy = {.ttl_ms = 60000}}});
  tier_.Connect();
  Produce("a", 0, Values{"0" + Filling()});
  EXPECT_EQ(Backlog(), 0);
  for (int i = 0; i < 1000; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed});
  }
  Produce("a", 0, Values{"1" + Filling()});
  clock_.Advance(seconds(50));
  Produce("a", 0, Values{"2" + Filling()});
  clock_.Advance(seconds(20));
  EXPECT_EQ(Dropped("expired"), 1);
  tier_.faults.clear();
  clock_.Advance(seconds(30));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(Arrived("a", 0), (Values{"0", "2"}));
}

// The spool has lost one record of it: its others are not delivered either.
TEST_F(TransactionDropsTest, ATransactionWithADamagedRecordIsGivenUpAsAWhole) {
  EncryptSpool();
  ASSERT_EQ(Put("a", 0, {std::string(400'000, 'x')}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"sound"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  PutTransaction("next");
  RestartDamaged();
  Reconnect();
  ExpectArrived({"next"});
  EXPECT_EQ(Dropped("damaged"), 2);
}

TEST_F(TransactionDropsTest, ATransactionWhoseLaterRecordIsDamagedIsGivenUpAsAWhole) {
  EncryptSpool();
  ASSERT_EQ(Put("a", 0, {"sound"}), ErrorCode::kNone);
  ASSERT_EQ(Put("a", 0, {std::string(400'000, 'x')}), ErrorCode::kNone);
  ASSERT_EQ(Put("b", 0, {"sound"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  PutTransaction("next");
  RestartDamaged();
  Reconnect();
  ExpectArrived({"next"});
  EXPECT_EQ(Dropped("damaged"), 3);
}

// The whole commit is gone, and what the agent knew of the transaction with it.
TEST_F(TransactionDropsTest, ATransactionThatIsDamagedAsAWholeHoldsNobody) {
  PutTransaction("first");
  PutTransaction("damaged");
  PutTransaction("last");
  End();
  CloseSpool();
  Damage("damaged");
  ReopenSpool();
  Begin();
  Reconnect();
  ExpectArrived({"first", "last"});
  EXPECT_EQ(Dropped("damaged"), 3);
}

TEST_F(TransactionDropsTest, WhatIsDroppedByHandTakesItsTransactionsWithIt) {
  PutTransaction("cut");
  ASSERT_EQ(Put("b", 0, {"whole" + Filling()}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  const spool::StreamId a0 = *spool_->FindStream("a/0");
  End();
  spool_.reset();
  clock_.RunUntilIdle();
  DropByHand({a0});
  OpenSpool();
  Begin();
  clock_.Advance(seconds(1));
  EXPECT_EQ(Dropped("by hand"), 2);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(Arrived("a", 0), Values{});
  EXPECT_EQ(Arrived("a", 1), Values{});
  EXPECT_EQ(Arrived("b", 0), Values{"whole"});
  EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
}

}  // namespace
}  // namespace holdfast::agent
