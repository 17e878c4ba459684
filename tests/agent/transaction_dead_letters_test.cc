// Records of transactions that the tier refuses for good: they are set aside, each once, and the
// rest is delivered whole.
#include "agent/dead_letter_replay.h"
#include "tests/agent/transactions_fixture.h"
#include "tests/support/sanitizers.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Fault = test::ScriptedTransactions::Fault;

class TransactionDeadLettersTest : public TransactionsFixture,
                                   public testing::WithParamInterface<bool> {
 protected:
  TransactionDeadLettersTest() : TransactionsFixture(GetParam()) {}

  void PutAll(const Values& a0, const Values& a1, const Values& b0) {
    ASSERT_EQ(Put("a", 0, a0), ErrorCode::kNone);
    ASSERT_EQ(Put("a", 1, a1), ErrorCode::kNone);
    ASSERT_EQ(Put("b", 0, b0), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
  }
  void ExpectArrived(const Values& a0, const Values& a1, const Values& b0) {
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values("a", 0), a0);
    EXPECT_EQ(tier_.Values("a", 1), a1);
    EXPECT_EQ(tier_.Values("b", 0), b0);
    EXPECT_EQ(metrics_.undelivered_transactions.Value(), 0);
  }
  Values Letters(const std::string& stream = "a/0/dead-letters") { return ValuesIn(stream); }
};

TEST_P(TransactionDeadLettersTest, ARefusedRecordIsSetAsideAndTheRestIsOneTransaction) {
  tier_.poison = {"bad", "worse"};
  Begin();
  Init();
  PutAll({"1", "bad", "2", "worse", "3"}, {"4"}, {"5"});
  PutAll({"6"}, {"7"}, {"8"});
  Reconnect();
  ExpectArrived({"1", "2", "3", "6"}, {"4", "7"}, {"5", "8"});
  EXPECT_EQ(transactions_.commits, 1);
  EXPECT_EQ(Letters(), (Values{"bad", "worse"}));
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 2);
  EXPECT_EQ(metrics_.forwarded_records.Value(), 8);
  for (const std::string& batch : tier_.logs[{"a", 0}].batches) {
    EXPECT_TRUE(kafka::RecordBatchView(batch).header().transactional());
  }
  // Put back, they are records like any others.
  tier_.poison.clear();
  DeadLetterReplay::Start(*spool_, *log_, loop_, "a/0",
                          [](const auto& replayed) { EXPECT_EQ(replayed->records, 2); });
  ExpectArrived({"1", "2", "3", "6", "bad", "worse"}, {"4", "7"}, {"5", "8"});
}

// It is too old before the rest of its batch is delivered.
TEST_P(TransactionDeadLettersTest, WhatIsGivenUpAroundADeadLetterIsListedWithoutIt) {
  lane_options_.mode = DeliveryMode::kTransactional;
  tier_.poison = {"bad"};
  tier_.faults = {{}};
  tier_.faults.resize(1000, {test::ScriptedTier::Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
  Begin();
  SetPolicies({{.pattern = "a", .policy = {.ttl_ms = 60'000}}});
  Produce("a", 0, Values{"1", "bad", "2", "3"});
  Reconnect();
  EXPECT_EQ(Letters(), Values{"bad"});
  clock_.Advance(seconds(120));
  const CommitPoint& point = forwarder_->GetLedger()->streams.front();
  EXPECT_EQ(point.confirmed, 4);
  EXPECT_EQ(point.drops.records(), 4);
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 1);
  EXPECT_EQ(metrics_.dropped_records.With("expired").Value(), 3);
}

TEST_P(TransactionDeadLettersTest, WhoWaitsForTheTierHearsWhatBecameOfABatchWithADeadLetter) {
  lane_options_.mode = DeliveryMode::kTransactional;
  sinks_.wait_for_tier = [this](std::unique_ptr<AppendJob> job) { acks_->Take(std::move(job)); };
  ReopenSpool();
  acks_ = std::make_unique<WaitingAcks>(loop_, metrics_, *waiting_bytes_);
  tier_.poison = {"bad"};
  tier_.faults = {{}, {}};
  tier_.faults.resize(1000, {test::ScriptedTier::Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
  Begin();
  acks_->SetWhenRecorded([this](base::Task done) { forwarder_->Flush(std::move(done)); });
  SetPolicies(
      {{.pattern = "a", .policy = {.acks = TopicPolicy::Acks::kUpstream, .ttl_ms = 60'000}}});
  const auto later = milliseconds(seconds(300));
  Answer& first = ProduceLater("a", 0, {.values = {"bad", "1", "2"}}, "", later);
  Answer& amid = ProduceLater("a", 1, {.values = {"1", "bad", "2", "3"}}, "", later);
  Reconnect();
  EXPECT_EQ(Letters(), Values{"bad"});
  EXPECT_EQ(Letters("a/1/dead-letters"), Values{"bad"});
  clock_.Advance(seconds(120));
  EXPECT_EQ(first.error, ErrorCode::kPolicyViolation);
  EXPECT_EQ(amid.error, ErrorCode::kPolicyViolation);
}

TEST_P(TransactionDeadLettersTest, OfWhatIsTooLargeTheRecordsThatFitAreDelivered) {
  tier_.batch_bytes_max = 150;
  Begin();
  Init();
  const std::string large(200, 'x');
  PutAll({"0", "1", large, "3", "4", "5", "6", "7", "8", "9"}, {"a"}, {"b"});
  Reconnect();
  clock_.Advance(seconds(30));
  ExpectArrived({"0", "1", "3", "4", "5", "6", "7", "8", "9"}, {"a"}, {"b"});
  EXPECT_EQ(transactions_.commits, 1);
  EXPECT_EQ(Letters(), Values{large});
}

TEST_P(TransactionDeadLettersTest, WhatCannotBeUncompressedIsSetAsideAndTheRestGoesOn) {
  lane_options_.mode = DeliveryMode::kTransactional;
  Begin();
  Produce("a", 0, Values{"1"});
  const std::string unreadable = BuildUnreadable({"2", "3"});
  ProduceBytes("a", 0, unreadable);
  Produce("a", 0, Values{"4"});
  Reconnect();
  ExpectArrived({"1", "4"}, {}, {});
  ASSERT_EQ(Letters().size(), 1);
  EXPECT_EQ(kafka::RecordBatchView(Letters()[0]).payload(),
            kafka::RecordBatchView(unreadable).payload());
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 2);
}

TEST_P(TransactionDeadLettersTest, ATransactionOfWhichNothingIsLeftHoldsNothingUp) {
  tier_.poison = {"bad"};
  Begin();
  Init();
  ASSERT_EQ(Put("a", 0, {"bad"}), ErrorCode::kNone);
  ASSERT_EQ(Commit(), ErrorCode::kNone);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  PutAll({"1"}, {"2"}, {"3"});
  ExpectArrived({"1"}, {"2"}, {"3"});
  EXPECT_EQ(Letters(), Values{"bad"});
}

TEST_P(TransactionDeadLettersTest, EachIsThereOnceWheneverTheAgentDies) {
  tier_.poison = {"bad", "worse"};
  Begin();
  Init();
  Values a0;
  Values a1;
  Values b0;
  Values letters;
  for (int i = 0; i < 24; i += 2 * test::kEveryOf) {
    const std::string tag = std::to_string(i);
    tier_.calls = 0;
    tier_.lose_answer_at = 1 + i;
    PutAll({tag, "bad", tag, "worse"}, {tag}, {tag});
    a0.insert(a0.end(), {tag, tag});
    a1.push_back(tag);
    b0.push_back(tag);
    letters.insert(letters.end(), {"bad", "worse"});
    tier_.Connect();
    clock_.Advance(milliseconds(i));
    CrashAndRestart();
    tier_.lose_answer_at = -1;
    Reconnect();
    ASSERT_EQ(Backlog(), 0) << i;
    ASSERT_EQ(Letters(), letters) << i;
  }
  ExpectArrived(a0, a1, b0);
}

// What one transaction left out is passed while that of the next one is set aside.
TEST_P(TransactionDeadLettersTest, EachIsThereOnceIfTheNextTransactionLeavesOneOutAtOnce) {
  forward_options_.record_interval = seconds(60);
  tier_.poison = {"bad", "worse"};
  Begin();
  Init();
  Reconnect();
  PutAll({"1", "bad"}, {"2"}, {"3"});
  clock_.Advance(seconds(1));
  ASSERT_EQ(tier_.Values("a", 0), Values{"1"});
  transactions_.end_faults.push_back(Fault::kLoseRequest);
  PutAll({"4", "worse"}, {"5"}, {"6"});
  ASSERT_EQ(Letters(), (Values{"bad", "worse"}));
  ASSERT_TRUE(transactions_.end_faults.empty());
  clock_.Advance(seconds(120));
  CrashAndRestart();
  Reconnect();
  clock_.Advance(seconds(120));
  ExpectArrived({"1", "4"}, {"2", "5"}, {"3", "6"});
  EXPECT_EQ(Letters(), (Values{"bad", "worse"}));
}

// Only what was committed here belongs to a transaction, so nobody would ever deliver it otherwise.
TEST_P(TransactionDeadLettersTest, ABatchThatNobodyCanReadComesBackOutsideOfTransactions) {
  kafka::RecordBatchBuilder builder({.transactional = true});
  builder.Add({.timestamp = clock_.wall_clock_ms(), .value = "0"});
  std::string bytes = std::move(builder).Build();
  bytes[kafka::kBatchHeaderSize] = 7;  // A record's length that is none.
  const auto restored = RestoreDeadLetters(BuildDeadLetters(bytes, {.topic = "a"}).batch);
  ASSERT_TRUE(restored);
  EXPECT_FALSE(kafka::RecordBatchView(restored->batch).header().transactional());
}

TEST_P(TransactionDeadLettersTest, WithPolicyParkTheWholeTransactionWaits) {
  forward_options_.dead_letters = DeadLetterPolicy::kPark;
  tier_.poison = {"bad"};
  Begin();
  Init();
  PutAll({"1", "bad"}, {"2"}, {"3"});
  Reconnect();
  EXPECT_EQ(Backlog(), 4);
  EXPECT_EQ(tier_.Values("b", 0), Values{});
  tier_.poison.clear();
  clock_.Advance(seconds(30));
  ExpectArrived({"1", "bad"}, {"2"}, {"3"});
  EXPECT_EQ(Letters(), Values{});
}

TEST_P(TransactionDeadLettersTest, ADeadLetterTopicGetsThem) {
  forward_options_.dead_letters = DeadLetterPolicy::kTopic;
  forward_options_.dead_letter_topic = "dead";
  tier_.AddTopic("dead", 1);
  tier_.poison = {"bad"};
  Begin();
  Init();
  PutAll({"1", "bad"}, {"2"}, {"3"});
  Reconnect();
  // There it is refused again, and what it came from has gone on.
  clock_.Advance(seconds(5));
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
  EXPECT_EQ(Letters("dead/0"), Values{"bad"});
  tier_.poison.clear();
  clock_.Advance(seconds(30));
  ExpectArrived({"1"}, {"2"}, {"3"});
  EXPECT_EQ(tier_.Values("dead", 0), Values{"bad"});
}

TEST_P(TransactionDeadLettersTest, RecordsThatAreDeliveredInTransactionsAreSetAsideAsOthers) {
  lane_options_.mode = DeliveryMode::kTransactional;
  tier_.poison = {"bad"};
  Begin();
  Produce("a", 0, Values{"1", "bad", "2"});
  Produce("a", 0, Values{"3"});
  Produce("a", 1, Values{"bad"});
  transactions_.end_faults.push_back(Fault::kLoseAnswer);
  Reconnect();
  Reconnect();
  ExpectArrived({"1", "2", "3"}, {}, {});
  EXPECT_EQ(Letters(), Values{"bad"});
  EXPECT_EQ(Letters("a/1/dead-letters"), Values{"bad"});
}

INSTANTIATE_TEST_SUITE_P(Protocols, TransactionDeadLettersTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Second" : "First"; });

}  // namespace
}  // namespace holdfast::agent
