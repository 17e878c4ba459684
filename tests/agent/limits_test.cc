// Who may have how much waiting in the spool, and what happens to who has it: with a tier that
// takes nothing until the test connects it.
#include <gmock/gmock.h>

#include <set>

#include "agent/dead_letter_replay.h"
#include "agent/forwarder.h"
#include "agent/ledger_topic.h"
#include "agent/waiting_acks.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Fault = test::ScriptedTier::Fault;
using Values = std::vector<std::string>;

constexpr ErrorCode kOpen = ErrorCode::kUnknownServerError;  // No answer so far.

class LimitsTest : public AgentFixture {
 protected:
  LimitsTest() {
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
    sinks_.wait_for_tier = [this](std::unique_ptr<AppendJob> job) { acks_->Take(std::move(job)); };
    ReopenSpool();
    Begin();
  }
  ~LimitsTest() override { End(); }

  void Begin() {
    acks_ = std::make_unique<WaitingAcks>(loop_, metrics_, *waiting_bytes_);
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = tier_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get(),
                                                                .acks = acks_.get()},
                                             Forwarder::Options(), log_->kept(), 1);
    acks_->SetWhenRecorded([this](base::Task done) { forwarder_->Flush(std::move(done)); });
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    tier_.SetObserver(forwarder_.get());
    forwarder_->Start();
    clock_.RunUntilIdle();
  }
  void End() {
    tier_.SetObserver(nullptr);
    tier_.Disconnect();
    on_durable_ = {};
    log_->Close();
    clock_.RunUntilIdle();
    acks_->Close();
    forwarder_.reset();
    acks_.reset();
    clock_.RunUntilIdle();
  }
  void CrashAndRestart() {
    End();
    ReopenSpool();
    Begin();
    SetPolicies(topics_, clients_);
  }
  void SetPolicies(std::vector<Policies::TopicRule> topics,
                   std::vector<Policies::ClientRule> clients = {}) {
    topics_ = topics;
    clients_ = clients;
    const auto policies = std::make_shared<const Policies>(std::move(topics), std::move(clients));
    log_->SetPolicies(policies);
    clock_.RunUntilIdle();
  }
  // A batch of about 1,100 bytes.
  static Batch Kilobyte(const std::string& name = "x") {
    return {.values = {name + std::string(1000, '.')}};
  }

  test::ManualExecutor loop_{clock_};
  proxy::MetadataCache cache_{{}};
  test::ScriptedTier tier_{loop_, cache_};
  std::vector<Policies::TopicRule> topics_;
  std::vector<Policies::ClientRule> clients_;
  std::unique_ptr<WaitingAcks> acks_;
  std::unique_ptr<Forwarder> forwarder_;
};

TEST_F(LimitsTest, ATopicAtItsLimitIsRefusedAndOthersAreNot) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000}}});
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  EXPECT_EQ(Produce("a", 1, Kilobyte()).error, ErrorCode::kNone);
  const Answer refused = Produce("a", 0, Kilobyte());
  EXPECT_EQ(refused.error, ErrorCode::kNotEnoughReplicas);
  EXPECT_NE(refused.message.find("bytes_max"), std::string::npos);
  EXPECT_EQ(Produce("b", 0, Kilobyte()).error, ErrorCode::kNone);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
}

TEST_F(LimitsTest, DeadLettersThatArePutBackAreCounted) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500}}});
  tier_.poison = {Kilobyte().values[0]};
  tier_.Connect();
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  clock_.Advance(seconds(1));
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 1);
  tier_.Disconnect();
  tier_.poison.clear();
  DeadLetterReplay::Start(*spool_, *log_, loop_, "a/0",
                          [](const auto& replayed) { EXPECT_EQ(replayed->records, 1); });
  clock_.RunUntilIdle();
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNotEnoughReplicas);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
}

TEST_F(LimitsTest, WhatWaitsIsCountedTheSameAfterARestart) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000}}},
              {{.pattern = "c*", .policy = {.bytes_max = 1500}}});
  ProduceLater("a", 0, Kilobyte(), "c1");
  ProduceLater("a", 1, Kilobyte(), "c2");
  CrashAndRestart();
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c1").error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c3").error, ErrorCode::kNone);
  tier_.Connect();
  clock_.Advance(seconds(1));
  CrashAndRestart();
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c1").error, ErrorCode::kNone);
}

TEST_F(LimitsTest, TheBacklogInBytesIsWhatWaitsAndNothingThatIsDelivered) {
  tier_.Connect();
  tier_.faults.push_back({Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed, "b"});
  ASSERT_EQ(Produce("b", 0, Kilobyte("parked")).error, ErrorCode::kNone);
  const size_t parked =
      spool_->Read(*spool_->FindStream("b/0"), 0, 1)->entries().front().bytes.size();
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  }
  clock_.Advance(seconds(5));
  EXPECT_EQ(forwarder_->GetStatus().backlog_records, 1);
  EXPECT_EQ(metrics_.backlog_bytes.Value(), static_cast<double>(parked));
  CrashAndRestart();
  clock_.Advance(seconds(2));
  EXPECT_EQ(metrics_.backlog_bytes.Value(), static_cast<double>(parked));
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(metrics_.backlog_bytes.Value(), 0);
}

TEST_F(LimitsTest, WhatIsLeftOfAStreamThatHasLostItsNameIsBacklog) {
  for (const std::string name : {"entry one", "entry two", "entry three"}) {
    ASSERT_EQ(Produce("a", 0, Kilobyte(name)).error, ErrorCode::kNone);
  }
  const size_t left =
      spool_->Read(*spool_->FindStream("a/0"), 2, 1)->entries().front().bytes.size();
  End();
  CloseSpool();
  Damage("entry one");
  Damage("entry two");
  ReopenSpool();
  Begin();
  clock_.Advance(seconds(2));
  EXPECT_EQ(forwarder_->GetStatus().backlog_records, 3);
  EXPECT_EQ(metrics_.backlog_bytes.Value(), static_cast<double>(left));
}

TEST_F(LimitsTest, CountsSurviveSegmentsThatComeAndGo) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 500000}}},
              {{.pattern = "c", .policy = {.bytes_max = 400000}}});
  tier_.Connect();
  // Four segments' worth, of which the tier has each part before the next comes.
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 30; ++i) {
      ASSERT_EQ(ProduceLater("a", 0, {.values = {std::string(12000, '.')}}, "c").error,
                ErrorCode::kNone);
    }
    clock_.Advance(seconds(1));
    if (round % 4 == 3) {
      CrashAndRestart();
      tier_.Connect();
    }
  }
}

TEST_F(LimitsTest, AClientAtItsLimitIsRefusedWhateverTheTopic) {
  SetPolicies({}, {{.pattern = "greedy", .policy = {.bytes_max = 2500}}});
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte(), "greedy").error, ErrorCode::kNone);
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "greedy").error, ErrorCode::kNone);
  EXPECT_EQ(ProduceLater("a", 1, Kilobyte(), "greedy").error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(ProduceLater("a", 1, Kilobyte(), "modest").error, ErrorCode::kNone);
}

TEST_F(LimitsTest, WhatWaitsForRoomGoesInInTheOrderInWhichItCame) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000, .when_full = WhenFull::kWait}}});
  Values expected;
  for (int i = 0; i < 10; ++i) {
    expected.push_back(Kilobyte(std::to_string(i)).values[0]);
    ProduceLater("a", 0, Kilobyte(std::to_string(i)));
  }
  // Small enough to fit, but it came later.
  Answer& small = ProduceLater("a", 0, {.values = {"small"}});
  expected.push_back("small");
  EXPECT_EQ(small.error, kOpen);
  EXPECT_EQ(Produce("b", 0, Kilobyte()).error, ErrorCode::kNone);
  EXPECT_EQ(metrics_.waiting_for_room.Value(), 9);
  tier_.Connect();
  clock_.Advance(seconds(5));
  EXPECT_EQ(small.error, ErrorCode::kNone);
  EXPECT_EQ(small.base_offset, 10);
  EXPECT_EQ(tier_.Values("a", 0), expected);
  EXPECT_EQ(metrics_.waiting_for_room.Value(), 0);
}

TEST_F(LimitsTest, AnIdempotentProducersBatchesKeepTheirOrderWhileTheyWait) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500, .when_full = WhenFull::kWait}}});
  std::vector<Answer*> answers;
  for (int i = 0; i < 5; ++i) {
    Batch batch = Kilobyte(std::to_string(i));
    batch.producer = {.id = 9, .epoch = 0, .base_sequence = i};
    answers.push_back(&ProduceLater("a", 0, batch));
  }
  tier_.Connect();
  clock_.Advance(seconds(5));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(answers[i]->error, ErrorCode::kNone) << i << answers[i]->message;
    EXPECT_EQ(answers[i]->base_offset, i);
  }
}

// What comes while the writer lets in what waited is before that in the spool's queue.
TEST_F(LimitsTest, NothingOvertakesWhatGoesInAfterItWaited) {
  for (const auto policy : {WhenFull::kWait, WhenFull::kDropOldest}) {
    for (const int64_t id : {kafka::kNoProducerId, int64_t{9} + static_cast<int64_t>(policy)}) {
      const auto number = [&](int i) {
        Batch batch = Kilobyte(std::to_string(i));
        if (id != kafka::kNoProducerId) batch.producer = {.id = id, .base_sequence = i};
        return batch;
      };
      bool dropped = false;
      sinks_.drop_oldest = [&](const std::string&, uint64_t) { dropped = true; };
      CrashAndRestart();
      SetPolicies({{.pattern = "b", .policy = {.bytes_max = 1500, .when_full = policy}}});
      const int64_t begin = ProduceLater("b", 0, number(0)).base_offset;
      const Answer& waiting = ProduceLater("b", 0, number(1));
      EXPECT_EQ(waiting.error, kOpen);
      SetPolicies({{.pattern = "b", .policy = {.bytes_max = 1 << 20, .when_full = policy}}});
      dropped = false;
      const Answer& later = *Submit("b", {{0, number(2)}})[0];
      ASSERT_TRUE(writer_.RunOneTimer());
      clock_.Advance(seconds(1));
      EXPECT_EQ(waiting.error, ErrorCode::kNone) << waiting.message;
      EXPECT_EQ(waiting.base_offset, begin + 1);
      EXPECT_EQ(later.error, ErrorCode::kNone) << later.message;
      EXPECT_EQ(later.base_offset, begin + 2);
      EXPECT_FALSE(dropped) << "there was room for both";
      tier_.Connect();
      clock_.Advance(seconds(2));
    }
  }
}

// Nor for anything that comes later.
TEST_F(LimitsTest, BatchesThatAreOutOfOrderDoNotWaitForEachOther) {
  for (const bool behind : {false, true}) {
    const auto batch = [behind](int64_t id, int32_t sequence) {
      return Batch{.values = {"x"},
                   .producer = {.id = id + (behind ? 10 : 0), .base_sequence = sequence}};
    };
    const auto limit = [this](uint64_t bytes_max) {
      SetPolicies(
          {{.pattern = "b", .policy = {.bytes_max = bytes_max, .when_full = WhenFull::kWait}}});
    };
    CrashAndRestart();
    for (const int64_t id : {1, 2})
      EXPECT_EQ(Produce("b", 0, batch(id, 0)).error, ErrorCode::kNone);
    limit(1);
    const Answer& waiting = ProduceLater("b", 0, Kilobyte());
    const Answer& first = ProduceLater("b", 0, batch(1, 5));
    const Answer& second = ProduceLater("b", 0, batch(2, 5));
    std::vector<const Answer*> large;
    if (behind) large.push_back(&ProduceLater("b", 0, Batch{.values = {std::string(5000, 'x')}}));
    EXPECT_EQ(waiting.error, kOpen);
    EXPECT_EQ(second.error, kOpen);
    limit(3000);
    const uint64_t before = metrics_.full.With("waited").Value();
    clock_.Advance(seconds(1));
    EXPECT_LT(metrics_.full.With("waited").Value() - before, 60) << "they are tried all the time";
    EXPECT_EQ(waiting.error, ErrorCode::kNone);
    limit(1 << 20);
    clock_.Advance(seconds(1));
    EXPECT_EQ(first.error, ErrorCode::kOutOfOrderSequenceNumber);
    EXPECT_EQ(second.error, ErrorCode::kOutOfOrderSequenceNumber);
    for (const Answer* answer : large) EXPECT_EQ(answer->error, ErrorCode::kNone);
    limit(0);
    tier_.Connect();
    clock_.Advance(seconds(2));
  }
}

TEST_F(LimitsTest, NobodyWaitsForRoomLongerThanHisTimeout) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500, .when_full = WhenFull::kWait}}});
  ProduceLater("a", 0, Kilobyte());
  Answer& late = ProduceLater("a", 0, Kilobyte(), "", seconds(2));
  clock_.Advance(milliseconds(1900));
  EXPECT_EQ(late.error, kOpen);
  clock_.Advance(milliseconds(200));
  EXPECT_EQ(late.error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Produce("a", 0, {"small"}).error, ErrorCode::kNone) << "nobody is before it any more";
}

TEST_F(LimitsTest, AFullSpoolIsWaitedForWhereTheTopicSaysSo) {
  SetPolicies({{.pattern = "a", .policy = {.when_full = WhenFull::kWait}}});
  End();
  spool_.reset();
  clock_.RunUntilIdle();
  OpenSpool(4 << 20);
  Begin();
  SetPolicies(topics_);
  Answer* waiting = nullptr;
  for (int i = 0; i < 100 && waiting == nullptr; ++i) {
    Answer& answer = ProduceLater("a", 0, {.values = {std::string(100000, '.')}});
    if (answer.error == kOpen) waiting = &answer;
  }
  ASSERT_NE(waiting, nullptr);
  EXPECT_EQ(Produce("b", 0, {std::string(100000, '.')}).error, ErrorCode::kNotEnoughReplicas);
  tier_.Connect();
  clock_.Advance(seconds(5));
  EXPECT_EQ(waiting->error, ErrorCode::kNone) << waiting->message;
}

// Of which one leaves a spool of 4 MiB room for others, but not for a second one.
Batch Large() { return {.values = {std::string(900'000, 'L')}}; }

class LargeTest : public LimitsTest {
 protected:
  void OpenSmallSpool(std::vector<Policies::TopicRule> topics) {
    sinks_.drop_oldest = [this](const std::string& topic, uint64_t bytes) {
      EXPECT_EQ(topic, "") << "no topic is at its limit";
      asked_for_ += bytes;
    };
    End();
    CloseSpool();
    OpenSpool(4 << 20);
    Begin();
    SetPolicies(std::move(topics));
  }

  uint64_t asked_for_ = 0;  // Of the drops for the spool.
};

TEST_F(LargeTest, ThatWaitsHoldsBackOnlyItsOwnTopic) {
  OpenSmallSpool({{.pattern = "a", .policy = {.when_full = WhenFull::kWait}},
                  {.pattern = "b", .policy = {.when_full = WhenFull::kDropOldest}}});
  ASSERT_EQ(Produce("a", 0, Large()).error, ErrorCode::kNone);
  const Answer& large = *Submit("a", {{0, Large()}})[0];
  const Answer& behind = *Submit("a", {{0, Kilobyte()}})[0];
  const Answer& other = *Submit("b", {{0, Kilobyte()}})[0];
  clock_.RunUntilIdle();
  EXPECT_EQ(large.error, kOpen);
  EXPECT_EQ(behind.error, kOpen);
  EXPECT_EQ(other.error, ErrorCode::kNone) << other.message;
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(ProduceLater("b", 0, Kilobyte()).error, ErrorCode::kNone);
    clock_.Advance(milliseconds(50));
  }
  EXPECT_EQ(asked_for_, 0);
  EXPECT_LE(metrics_.full.With("waited").Value(), 6) << "it is tried once a second";
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(large.error, ErrorCode::kNone) << large.message;
  EXPECT_EQ(large.base_offset, 1);
  EXPECT_EQ(behind.base_offset, 2);
}

TEST_F(LargeTest, ThatWaitedForItsTopicIsNotOvertakenWhereTheSpoolHasNoRoomForIt) {
  OpenSmallSpool(
      {{.pattern = "a", .policy = {.bytes_max = 900'000, .when_full = WhenFull::kWait}}});
  ASSERT_EQ(Produce("a", 0, Large()).error, ErrorCode::kNone);
  const Answer& large = ProduceLater("a", 0, Large());
  const Answer& behind = ProduceLater("a", 0, Kilobyte());
  SetPolicies({{.pattern = "a", .policy = {.when_full = WhenFull::kWait}}});
  clock_.Advance(seconds(3));
  EXPECT_EQ(large.error, kOpen);
  EXPECT_EQ(behind.error, kOpen);
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(large.base_offset, 1) << large.message;
  EXPECT_EQ(behind.base_offset, 2) << behind.message;
}

TEST_F(LargeTest, IsWhatIsNotStoredYetAlone) {
  OpenSmallSpool(
      {{.pattern = "a", .policy = {.bytes_max = 600'000, .when_full = WhenFull::kWait}}});
  const std::vector<Answer*> answers = ProduceTogether(
      "a",
      {{0, {.values = {std::string(500'000, 'x')}}}, {1, {.values = {std::string(800'000, 'y')}}}});
  clock_.Advance(seconds(2));
  ASSERT_EQ(spool_->Range(*spool_->FindStream("a/0")).end, 1);
  EXPECT_EQ(answers[1]->error, kOpen);
  SetPolicies({{.pattern = "a", .policy = {.when_full = WhenFull::kWait}}});
  clock_.Advance(milliseconds(100));
  for (const Answer* answer : answers) EXPECT_EQ(answer->error, ErrorCode::kNone);
}

// The rest of it waits for its client, and others do not.
TEST_F(LargeTest, HoldsBackOnlyTheAccountsThatItWaitsFor) {
  OpenSmallSpool({{.pattern = "*", .policy = {.when_full = WhenFull::kWait}}});
  const auto limit = [this](uint64_t bytes_max) {
    SetPolicies(
        topics_,
        {{.pattern = "large", .policy = {.bytes_max = 1'000'000, .when_full = WhenFull::kWait}},
         {.pattern = "small", .policy = {.bytes_max = bytes_max, .when_full = WhenFull::kWait}}});
  };
  limit(1500);
  ASSERT_EQ(Produce("a", 0, Large()).error, ErrorCode::kNone);
  ASSERT_EQ(ProduceLater("b", 0, Kilobyte(), "small").error, ErrorCode::kNone);
  const std::vector<Answer*> large =
      ProduceToTopics({{"a", Large()}, {"b", {.values = {std::string(200'000, 'x')}}}}, "large");
  clock_.Advance(milliseconds(1100));
  const Answer& other = ProduceLater("b", 0, Kilobyte(), "small");
  ASSERT_EQ(other.error, kOpen);
  limit(1 << 20);
  clock_.Advance(milliseconds(100));
  EXPECT_EQ(other.error, ErrorCode::kNone) << other.message;
  for (const Answer* answer : large) EXPECT_EQ(answer->error, kOpen);
  tier_.Connect();
  clock_.Advance(seconds(3));
  for (const Answer* answer : large) EXPECT_EQ(answer->error, ErrorCode::kNone);
}

// However much of others is stored meanwhile.
TEST_F(LargeTest, DropsTheOldestForItselfAlone) {
  OpenSmallSpool({{.pattern = "*", .policy = {.when_full = WhenFull::kDropOldest}}});
  ASSERT_EQ(Produce("a", 0, Large()).error, ErrorCode::kNone);
  const Answer& large = ProduceLater("a", 0, Large());
  const Answer& behind = ProduceLater("a", 0, Kilobyte());
  clock_.Advance(milliseconds(900));
  EXPECT_EQ(asked_for_, 0) << "it was not tried again";
  clock_.Advance(milliseconds(300));
  EXPECT_GT(asked_for_, 900'000);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(ProduceLater("b", 0, {.values = {std::string(20'000, '.')}}).error, ErrorCode::kNone);
    clock_.Advance(milliseconds(100));
  }
  EXPECT_LE(asked_for_, (1 << 20) + 3 * spool_->GetStatus().disk_bytes / 2);
  EXPECT_EQ(large.error, kOpen);
  EXPECT_EQ(behind.error, kOpen);
}

TEST_F(LargeTest, DropsNothingWhereTheSpoolMakesTheRoomByItself) {
  OpenSmallSpool({{.pattern = "*", .policy = {.when_full = WhenFull::kDropOldest}}});
  const Answer& large = ProduceLater("a", 0, {.values = {std::string(1'300'000, 'L')}});
  EXPECT_EQ(large.error, kOpen);
  clock_.Advance(seconds(2));
  EXPECT_EQ(large.error, ErrorCode::kNone) << large.message;
  EXPECT_EQ(asked_for_, 0);
}

// Nor for others, unless that takes it too long.
TEST_F(LargeTest, NothingIsDroppedWhileTheSpoolMayStillMakeRoom) {
  OpenSmallSpool({{.pattern = "a", .policy = {.when_full = WhenFull::kDropOldest}}});
  const Batch batch{.values = {std::string(100'000, '.')}};
  for (const bool soon : {true, false}) {
    background_.set_held(true);
    while (Produce("b", 0, batch).error == ErrorCode::kNone) {
    }
    const Answer& waiting = ProduceLater("a", 0, batch);
    clock_.Advance(soon ? seconds(2) : WaitingAppends::kOwnRoomMax - milliseconds(100));
    EXPECT_EQ(waiting.error, kOpen);
    EXPECT_EQ(asked_for_, 0);
    if (soon) background_.set_held(false);
    clock_.Advance(milliseconds(300));
    EXPECT_GT(asked_for_, 0);
    background_.set_held(false);
    tier_.Connect();
    clock_.Advance(seconds(60));
    EXPECT_EQ(waiting.error, ErrorCode::kNone);
    tier_.Disconnect();
    asked_for_ = 0;
  }
}

// Nothing is dropped for it, and nobody waits.
TEST_F(LargeTest, ThatNeverFitsIsRefusedAtOnce) {
  OpenSmallSpool({{.pattern = "*", .policy = {.when_full = WhenFull::kDropOldest}}});
  EXPECT_EQ(ProduceLater("a", 0, {.values = {std::string(3 << 20, '.')}}).error,
            ErrorCode::kMessageTooLarge);
  for (const Answer* answer : ProduceTogether("a", {{0, Large()}, {1, Large()}}))
    EXPECT_EQ(answer->error, ErrorCode::kNotEnoughReplicas);
  clock_.Advance(seconds(1));
  EXPECT_EQ(asked_for_, 0);
}

// What `holdfast spool drop` took away comes back into no account.
TEST_F(LimitsTest, WhatWasDroppedWhileTheAgentWasStoppedIsHeldByNobody) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 3000}}},
              {{.pattern = "c", .policy = {.bytes_max = 3000}}});
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(ProduceLater("a", 0, Kilobyte(), "c").error, ErrorCode::kNone);
  const spool::StreamId stream = *spool_->FindStream("a/0");
  End();
  CloseSpool();
  DropByHand({stream});
  ReopenSpool();
  Begin();
  SetPolicies(topics_, clients_);
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte(), "c").error, ErrorCode::kNone);
  CrashAndRestart();
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c").error, ErrorCode::kNone);
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNotEnoughReplicas);
}

class DropsTest : public LimitsTest {
 protected:
  void SetRules(std::vector<Policies::TopicRule> topics) {
    SetPolicies(std::move(topics), clients_);
    forwarder_->SetPolicies(std::make_shared<const Policies>(topics_, clients_));
    clock_.RunUntilIdle();
  }
  void Restart() {
    CrashAndRestart();
    SetRules(topics_);
  }
  // What finds no room where the rules say drop_oldest.
  void LetDrop() {
    sinks_.drop_oldest = [this](std::string topic, uint64_t bytes) {
      forwarder_->DropOldest(std::move(topic), bytes);
    };
    Restart();
  }
  // The same with a spool of so many segments of 1 MiB.
  void LetDropIn(uint64_t segments) {
    LetDrop();
    End();
    CloseSpool();
    OpenSpool(segments << 20);
    Begin();
    SetRules(topics_);
  }
  static Values Numbers(int from, int to) {
    Values values;
    for (int i = from; i < to; ++i) values.push_back(Kilobyte(std::to_string(i)).values[0]);
    return values;
  }
  void ProduceNumbers(const std::string& topic, int from, int to) {
    for (int i = from; i < to; ++i) {
      ASSERT_EQ(Produce(topic, 0, Kilobyte(std::to_string(i))).error, ErrorCode::kNone);
    }
  }
  Drops DropsOf(const std::string& stream) {
    clock_.Advance(seconds(2));
    for (const CommitPoint& point : forwarder_->GetLedger()->streams) {
      if (point.stream == stream) return point.drops;
    }
    return {};
  }
};

// A record of a transaction that is left out is listed before what lies in front of it.
TEST(DropListTest, WhatIsListedLaterStandsInItsPlace) {
  Drops drops;
  drops.Add({.begin = 1, .end = 2, .cause = DropCause::kDeadLetter});
  EXPECT_FALSE(drops.LeaveGapAt(2));
  drops.Add({.begin = 0, .end = 1, .cause = DropCause::kExpired});
  EXPECT_TRUE(drops.LeaveGapAt(2));
  drops.Add({.begin = 2, .end = 4, .cause = DropCause::kExpired});
  EXPECT_EQ(drops.ranges().size(), 3);
  for (int64_t at = 10; drops.ranges().size() < Drops::kRangesMax; at += 2)
    drops.Add({.begin = at, .end = at + 1, .cause = DropCause::kExpired});
  for (int64_t begin = 1; begin < 3; ++begin) {
    drops.Add({.begin = 1000 * begin, .end = 1000 * begin + 1, .cause = DropCause::kByHand});
    EXPECT_EQ(drops.ListedFrom(), begin) << "all that is not listed lies before";
  }
  EXPECT_EQ(Drops::Parse(drops.Serialize())->ranges(), drops.ranges());
}

TEST_F(DropsTest, TheOldestMakeRoomAndAreCounted) {
  topics_ = {{.pattern = "a", .policy = {.bytes_max = 5000, .when_full = WhenFull::kDropOldest}}};
  LetDrop();
  ProduceNumbers("b", 0, 3);
  std::vector<Answer*> answers;
  for (int i = 0; i < 20; ++i) {
    answers.push_back(&ProduceLater("a", 0, Kilobyte(std::to_string(i))));
    clock_.Advance(milliseconds(200));
  }
  for (Answer* answer : answers) EXPECT_EQ(answer->error, ErrorCode::kNone) << answer->message;
  const Drops drops = DropsOf("a/0");
  EXPECT_EQ(drops.records(), metrics_.dropped_records.With("made room").Value());
  EXPECT_GE(drops.records(), 15);
  ASSERT_EQ(drops.ranges().size(), 1) << "adjoining drops are one range";
  EXPECT_EQ(drops.ranges()[0].begin, 0);
  const auto dropped = static_cast<int>(drops.ranges()[0].end);
  // A restart knows what was dropped, and goes on behind it.
  Restart();
  EXPECT_EQ(DropsOf("a/0").ranges(), drops.ranges());
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(dropped, 20));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 3));
}

// Segments of which another topic needs some must be written anew before there is room, and are not
// if it needs much of them.
TEST_F(DropsTest, AFullSpoolGetsTheTimeToMakeRoomOfWhatWasDropped) {
  constexpr size_t kBytes = 20'000;
  topics_ = {{.pattern = "a", .policy = {.when_full = WhenFull::kDropOldest}}};
  LetDropIn(16);
  const auto fill = [&](int kept_each) {
    for (int i = 0; i < 1000; ++i) {
      if (i % kept_each == 0) Produce("b", 0, {std::string(kBytes, '.')});
      Answer& answer =
          ProduceLater("a", 0, {.values = {std::string(kBytes, '.')}}, "", seconds(300));
      if (answer.error == kOpen) return &answer;
    }
    return static_cast<Answer*>(nullptr);
  };
  const Answer* waiting = fill(/*kept_each=*/40);
  ASSERT_NE(waiting, nullptr);
  clock_.Advance(seconds(120));
  EXPECT_EQ(waiting->error, ErrorCode::kNone) << waiting->message;

  const uint64_t before = metrics_.dropped_records.With("made room").Value();
  tier_.Connect();
  clock_.Advance(seconds(60));
  tier_.Disconnect();
  waiting = fill(/*kept_each=*/8);
  ASSERT_NE(waiting, nullptr);
  clock_.Advance(seconds(40));
  const uint64_t dropped = metrics_.dropped_records.With("made room").Value() - before;
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped * kBytes, 3 << 20) << "a segment and a half, and a megabyte";
}

TEST_F(DropsTest, AFullSpoolGoesOnTakingWhatDropsTheOldest) {
  topics_ = {{.pattern = "a", .policy = {.when_full = WhenFull::kDropOldest}}};
  LetDropIn(8);
  for (int i = 0; i < 300; ++i) {
    const Answer& answer = ProduceLater("a", 0, {.values = {std::string(100'000, '.')}});
    clock_.Advance(milliseconds(answer.error == kOpen ? 2000 : 10));
    ASSERT_EQ(answer.error, ErrorCode::kNone) << i << answer.message;
  }
  EXPECT_GT(metrics_.dropped_records.With("made room").Value(), 200);
  EXPECT_GT(spool_->Range(*spool_->FindStream("a/0")).end -
                spool_->Range(*spool_->FindStream("a/0")).start,
            20);
}

TEST_F(DropsTest, ALargeRequestHasNoMoreDroppedThanItTakes) {
  topics_ = {{.pattern = "a", .policy = {.when_full = WhenFull::kDropOldest}}};
  LetDropIn(8);
  while (spool_->GetStatus().disk_bytes < 6 << 20)
    ASSERT_EQ(Produce("a", 0, {std::string(100'000, '.')}).error, ErrorCode::kNone);
  const Answer& large = ProduceLater("a", 0, {.values = {std::string(1'200'000, '.')}});
  clock_.Advance(seconds(20));
  EXPECT_EQ(large.error, ErrorCode::kNone) << large.message;
  const uint64_t dropped = metrics_.dropped_records.With("made room").Value();
  EXPECT_GT(dropped, 0);
  EXPECT_LE(dropped, 30);
}

TEST_F(DropsTest, AClientThatWaitsForItsOwnLimitDropsNothing) {
  topics_ = {{.pattern = "a", .policy = {.when_full = WhenFull::kDropOldest}}};
  clients_ = {{.pattern = "greedy", .policy = {.bytes_max = 2500, .when_full = WhenFull::kWait}}};
  LetDrop();
  for (int i = 0; i < 18; ++i) ProduceLater("a", 0, Kilobyte(), "other");
  ProduceLater("a", 0, Kilobyte(), "greedy");
  ProduceLater("a", 0, Kilobyte(), "greedy");
  Answer& third = ProduceLater("a", 0, Kilobyte(), "greedy", seconds(5));
  clock_.Advance(seconds(4));
  EXPECT_EQ(third.error, kOpen);
  clock_.Advance(seconds(2));
  EXPECT_EQ(third.error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(metrics_.dropped_records.With("made room").Value(), 0);
}

// What is on its way is not dropped.
TEST_F(DropsTest, WhatCannotMakeRoomIsNotAskedToAllTheTime) {
  topics_ = {{.pattern = "a", .policy = {.bytes_max = 1500, .when_full = WhenFull::kDropOldest}}};
  int asked = 0;
  sinks_.drop_oldest = [&](std::string topic, uint64_t bytes) {
    if (++asked < 1000) forwarder_->DropOldest(std::move(topic), bytes);
  };
  Restart();
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  clock_.Advance(seconds(1));
  tier_.held = true;
  ProduceNumbers("a", 1, 2);
  const Answer& answer = ProduceLater("a", 0, Kilobyte("2"));
  clock_.Advance(seconds(1));
  EXPECT_EQ(answer.error, kOpen);
  EXPECT_LT(asked, 30);
  tier_.Release();
  clock_.Advance(seconds(1));
  EXPECT_EQ(answer.error, ErrorCode::kNone);
  EXPECT_EQ(metrics_.dropped_records.With("made room").Value(), 0);
}

TEST_F(DropsTest, ATierThatKnowsTheProducerTakesWhatFollowsADrop) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}}});
  tier_.Connect();
  ProduceNumbers("a", 0, 3);
  clock_.Advance(seconds(1));
  tier_.Disconnect();
  ProduceNumbers("a", 3, 6);
  clock_.Advance(seconds(10));
  ProduceNumbers("a", 6, 8);
  EXPECT_EQ(DropsOf("a/0").records(), 3);
  tier_.Connect();
  clock_.Advance(seconds(2));
  Values expected = Numbers(0, 3);
  for (const std::string& value : Numbers(6, 8)) expected.push_back(value);
  EXPECT_EQ(tier_.Values("a", 0), expected);
  EXPECT_EQ(metrics_.dropped_records.With("expired").Value(), 3);
}

// `holdfast spool drop`: the tier has not lost what it never got.
TEST_F(DropsTest, WhatWasDroppedByHandIsNotTakenForLost) {
  tier_.Connect();
  ProduceNumbers("a", 0, 3);
  ProduceNumbers("b", 0, 3);
  clock_.Advance(seconds(1));
  tier_.Disconnect();
  ProduceNumbers("a", 3, 6);
  ProduceNumbers("b", 3, 6);
  const std::vector streams{*spool_->FindStream("a/0"), *spool_->FindStream("b/0")};
  const int64_t dropped_ms = clock_.wall_clock_ms();
  End();
  CloseSpool();
  DropByHand(streams);
  ReopenSpool();
  Begin();
  const Drops drops = DropsOf("a/0");
  EXPECT_THAT(drops.ranges(), testing::ElementsAre(DropRange{.begin = 3,
                                                             .end = 6,
                                                             .cause = DropCause::kByHand,
                                                             .when_ms = dropped_ms,
                                                             .bytes = 1000}));
  EXPECT_EQ(forwarder_->GetLedger()->dropped_records, 6);
  ProduceNumbers("a", 6, 7);
  CrashAndRestart();  // With one of them in doubt.
  ProduceNumbers("b", 6, 7);
  tier_.Connect();
  clock_.Advance(seconds(2));
  Values expected = Numbers(0, 3);
  expected.push_back(Numbers(6, 7)[0]);
  EXPECT_EQ(tier_.Values("a", 0), expected);
  EXPECT_EQ(tier_.Values("b", 0), expected);
  EXPECT_EQ(metrics_.forward_errors.With("tier lost records").Value(), 0);
}

TEST_F(DropsTest, WhatFailedBeforeADropIsNotSaidOfWhatFollows) {
  SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}}});
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  clock_.Advance(seconds(1));
  tier_.faults.assign(1000, Fault{Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
  ProduceNumbers("a", 1, 2);
  clock_.Advance(seconds(10));
  EXPECT_EQ(DropsOf("a/0").records(), 1);
  tier_.faults.clear();
  ProduceNumbers("a", 2, 3);
  clock_.Advance(seconds(2));
  const std::vector<Delivery> deliveries = ParseBlock(forwarder_->UnwrittenDeliveries());
  const auto next = std::ranges::find(deliveries, 2, &Delivery::begin);
  ASSERT_NE(next, deliveries.end());
  EXPECT_EQ(next->attempts, 0);
}

// By its age, or for want of room; and what the tier says to repeats meanwhile.
class DropsOnLeaderTest : public DropsTest,
                          public testing::WithParamInterface<std::pair<bool, ErrorCode>> {};

// Three batches are on the tier's leader, which has too few replicas for them; of these the oldest
// is given up, and then the replicas are back.
TEST_P(DropsOnLeaderTest, WhatFollowsADropIsNotDoubledIfTheLeaderHasIt) {
  const auto [expires, repeated] = GetParam();
  TopicPolicy policy;
  if (expires) policy.ttl_ms = 60'000;
  if (!expires) policy.when_full = WhenFull::kDropOldest;
  SetRules({{.pattern = "a", .policy = policy}});
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  clock_.Advance(seconds(1));
  tier_.held = true;
  tier_.faults.assign(3, {Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend});
  tier_.faults.resize(1000, {Fault::kStoreRefuse, repeated});
  ProduceNumbers("a", 1, 2);
  clock_.Advance(seconds(40));
  ProduceNumbers("a", 2, 4);
  tier_.Release();
  clock_.Advance(seconds(1));
  ASSERT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  ASSERT_EQ(DropsOf("a/0").records(), 0);
  if (!expires) forwarder_->DropOldest("a", 1);
  clock_.Advance(seconds(25));
  EXPECT_EQ(DropsOf("a/0").records(), 1);
  tier_.faults.clear();
  ProduceNumbers("a", 4, 5);
  clock_.Advance(seconds(20));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 5));
  EXPECT_EQ(forwarder_->GetStatus().backlog_records, 0);
  EXPECT_EQ(DropsOf("a/0").records(), 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, DropsOnLeaderTest,
    testing::Values(std::pair(true, ErrorCode::kNotEnoughReplicas),
                    std::pair(true, ErrorCode::kNotEnoughReplicasAfterAppend),
                    std::pair(false, ErrorCode::kNotEnoughReplicas),
                    std::pair(false, ErrorCode::kNotEnoughReplicasAfterAppend)),
    [](const auto& test) {
      return std::string(test.param.first ? "Expired" : "MadeRoom") +
             (test.param.second == ErrorCode::kNotEnoughReplicas ? "Refused" : "OnTheLeader");
    });

// The answer was lost: what was dropped may have arrived, and so may what follows.
TEST_F(DropsTest, WhatWasInDoubtIsDroppedWithoutDoublingOrLosingWhatFollows) {
  for (const bool arrived : {true, false}) {
    SetRules({{.pattern = "a", .policy = {.ttl_ms = 5000}}});
    tier_.Connect();
    clock_.Advance(seconds(1));
    const auto before = tier_.Values("a", 0).size();
    const int begin = arrived ? 0 : 100;
    ProduceNumbers("a", begin, begin + 1);
    clock_.Advance(seconds(1));
    tier_.faults = {{.kind = arrived ? Fault::kLoseAnswer : Fault::kLoseRequest}};
    ProduceNumbers("a", begin + 1, begin + 4);
    clock_.Advance(seconds(8));
    Restart();
    ProduceNumbers("a", begin + 4, begin + 6);
    clock_.Advance(seconds(2));
    tier_.Connect();
    clock_.Advance(seconds(5));
    const Values all = tier_.Values("a", 0);
    const Values values(all.begin() + static_cast<ptrdiff_t>(before), all.end());
    ASSERT_GE(values.size(), 3);
    EXPECT_EQ(values.front(), Numbers(begin, begin + 1)[0]);
    const Values tail(values.end() - 2, values.end());
    EXPECT_EQ(tail, Numbers(begin + 4, begin + 6));
    EXPECT_EQ(std::set<std::string>(values.begin(), values.end()).size(), values.size());
    EXPECT_EQ(metrics_.forward_errors.With("tier lost records").Value(), 0);
  }
}

TEST_F(DropsTest, OneTopicsTroubleCostsOnlyItsOwnRecords) {
  SetRules({{.pattern = "b", .policy = {.ttl_ms = 5000}}});
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  ProduceNumbers("b", 0, 1);
  clock_.Advance(seconds(1));
  for (int i = 0; i < 1000; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kNotEnoughReplicas, "b"});
  }
  ProduceNumbers("b", 1, 4);
  ProduceNumbers("a", 1, 30);
  clock_.Advance(seconds(20));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 30));
  EXPECT_EQ(DropsOf("b/0").records(), 3);
  tier_.faults.clear();
  ProduceNumbers("b", 4, 6);
  clock_.Advance(seconds(20));
  EXPECT_EQ(tier_.Values("b", 0).size(), 3);
}

TEST_F(DropsTest, TheLedgerSaysUntilWhenAllIsThere) {
  SetRules({});
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  clock_.Advance(seconds(3));
  const int64_t delivered_ms = clock_.wall_clock_ms();
  EXPECT_GE(forwarder_->GetLedger()->complete_until_ms, delivered_ms - 1100);
  tier_.Disconnect();
  clock_.Advance(seconds(10));
  const int64_t spooled_ms = clock_.wall_clock_ms();
  ProduceNumbers("b", 0, 2);
  clock_.Advance(seconds(60));
  auto ledger = forwarder_->GetLedger();
  EXPECT_EQ(ledger->complete_until_ms, spooled_ms);
  ASSERT_EQ(ledger->streams.size(), 2);
  EXPECT_GT(ledger->streams[0].complete_until_ms, spooled_ms);
  EXPECT_EQ(ledger->streams[1].end, 2);
  EXPECT_EQ(ledger->streams[1].confirmed, 0);
  EXPECT_NE(ledger->Print().find("\"stream\": \"b/0\""), std::string::npos);
}

TEST_F(DropsTest, WhatTheLedgersTopicHadNoRoomForIsSaidLater) {
  tier_.AddTopic("ledger", 2);
  SetRules({{.pattern = "ledger", .policy = {.bytes_max = 1000}}});
  EXPECT_EQ(Produce("a", 0, {"1"}).error, ErrorCode::kNone);
  EXPECT_EQ(Produce("ledger", 1, Kilobyte()).error, ErrorCode::kNone);
  LedgerTopic ledger(loop_, *log_, *forwarder_,
                     {.topic = "ledger", .agent = "host", .interval = seconds(10)});
  clock_.Advance(seconds(25));
  EXPECT_EQ(spool_->Range(*spool_->FindStream("ledger/0")).end, 0);
  SetRules({});
  clock_.Advance(seconds(10));
  tier_.Connect();
  clock_.Advance(seconds(2));
  const Values said = tier_.Values("ledger", 0);
  EXPECT_TRUE(std::ranges::any_of(said, [](const std::string& value) {
    return value.find("\"stream\":\"a/0\"") != std::string::npos;
  }));
}

TEST_F(DropsTest, TheLedgerTopicSaysAllStreamsInTurn) {
  constexpr int kStreams = 600;
  tier_.AddTopic("ledger", 1);
  tier_.AddTopic("many", kStreams);
  SetRules({});
  tier_.Connect();
  LedgerTopic ledger(loop_, *log_, *forwarder_,
                     {.topic = "ledger", .agent = "host", .interval = seconds(10)});
  std::vector<std::pair<int32_t, Batch>> one_each;
  for (int i = 0; i < kStreams; ++i) one_each.emplace_back(i, Batch{.values = {"1"}});
  // All of them move each time.
  for (int round = 0; round < 3; ++round) {
    ProduceTogether("many", one_each);
    clock_.Advance(seconds(10));
  }
  const Values said = tier_.Values("ledger", 0);
  for (const int stream : {0, kStreams / 2, kStreams - 1, 99}) {
    const std::string name = "\"stream\":\"many/" + std::to_string(stream) + "\"";
    EXPECT_TRUE(std::ranges::any_of(said, [&](const std::string& value) {
      return value.find(name) != std::string::npos;
    })) << name;
  }
}

TEST_F(DropsTest, TheUplinkKeepsItsRateAndPrioritiesTell) {
  SetRules({{.pattern = "a", .policy = {.priority = TopicPolicy::Priority::kHigh}},
            {.pattern = "b", .policy = {.priority = TopicPolicy::Priority::kLow}}});
  tier_.Connect();
  ProduceNumbers("a", 0, 1);
  ProduceNumbers("b", 0, 1);
  clock_.Advance(seconds(2));
  forwarder_->SetRate(20000);
  clock_.RunUntilIdle();
  ProduceNumbers("b", 1, 100);
  ProduceNumbers("a", 1, 100);
  const size_t b_before = tier_.Values("b", 0).size();
  clock_.Advance(seconds(4));
  const size_t a = tier_.Values("a", 0).size();
  const size_t b = tier_.Values("b", 0).size();
  EXPECT_LT(a + b, 130) << "about 18 batches in a second, and a second's worth at once";
  EXPECT_GT(a, 4 * (b - b_before));
  EXPECT_GT(b, b_before);
  clock_.Advance(seconds(15));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 100));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 100));
}

// At midnight, UTC.
constexpr int64_t kMondayMs = 1'780'272'000'000;

class ScheduledTest : public DropsTest {
 protected:
  ScheduledTest() {
    SetRules({{.pattern = "a", .policy = {.priority = TopicPolicy::Priority::kHigh}}});
    clock_.SetWallClockMs(kMondayMs);
    tier_.Connect();
    ProduceNumbers("a", 0, 1);
    ProduceNumbers("b", 0, 1);
    clock_.Advance(seconds(2));
  }

  void SetWindows(std::initializer_list<const char*> windows, uint64_t bytes_per_second_max = 0,
                  bool high_priority_always = false) {
    std::vector<Schedule::Window> parsed;
    for (const char* text : windows) {
      parsed.push_back(*Schedule::ParseWindow(text));
      parsed.back().bytes_per_second_max = bytes_per_second_max;
    }
    forwarder_->SetSchedule({std::move(parsed), Schedule::Clock::kUtc}, high_priority_always);
    clock_.RunUntilIdle();
  }
};

TEST_F(ScheduledTest, NothingGoesOutsideOfTheWindowsAndAllOfItInThem) {
  SetWindows({"22:00-06:00"});
  ProduceNumbers("b", 1, 10);
  clock_.Advance(seconds(1));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 10));
  clock_.Advance(std::chrono::hours(6));
  EXPECT_EQ(metrics_.forward_paused.Value(), 1);
  ProduceNumbers("a", 1, 10);
  ProduceNumbers("b", 10, 20);
  clock_.Advance(std::chrono::hours(15));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 1));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 10));
  const Forwarder::Status status = forwarder_->GetStatus();
  EXPECT_FALSE(status.schedule.open);
  EXPECT_EQ(status.schedule_changes_ms, kMondayMs + 22 * 3'600'000);
  clock_.Advance(std::chrono::hours(1) + seconds(2));
  EXPECT_EQ(metrics_.forward_paused.Value(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 10));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 20));
}

TEST_F(ScheduledTest, WhatWasQueuedWhenAWindowEndsStays) {
  SetWindows({"00:00-01:00"}, 2000);
  ProduceNumbers("b", 1, 300);
  clock_.Advance(std::chrono::minutes(1));
  const size_t sent = tier_.Values("b", 0).size();
  EXPECT_GT(sent, 100);
  EXPECT_LT(sent, 200) << "the window has a rate";
  SetWindows({"12:00-13:00"});
  clock_.Advance(seconds(10));
  const size_t after = tier_.Values("b", 0).size();
  EXPECT_LT(after, 200);
  clock_.Advance(std::chrono::hours(3));
  EXPECT_EQ(tier_.Values("b", 0).size(), after);
  SetWindows({});
  clock_.Advance(seconds(10));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 300));
}

TEST_F(ScheduledTest, HighPriorityMayPassByIt) {
  SetWindows({"12:00-13:00"}, 0, /*high_priority_always=*/true);
  ProduceNumbers("a", 1, 10);
  ProduceNumbers("b", 1, 10);
  clock_.Advance(seconds(5));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 10));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 1));
}

TEST_F(ScheduledTest, ADrainWaitsForWhatMayPassByIt) {
  SetWindows({"12:00-13:00"}, 0, /*high_priority_always=*/true);
  tier_.Disconnect();
  ProduceNumbers("a", 1, 10);
  ProduceNumbers("b", 1, 10);
  bool sent = false;
  forwarder_->WhenSent([&] { sent = true; });
  clock_.Advance(seconds(5));
  EXPECT_FALSE(sent);
  EXPECT_EQ(forwarder_->HeldBacklog(), 9);
  tier_.Connect();
  clock_.Advance(seconds(5));
  EXPECT_TRUE(sent);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 10));
  EXPECT_EQ(forwarder_->Backlog(), 9);
  EXPECT_EQ(forwarder_->HeldBacklog(), 9);
  SetWindows({});
  clock_.Advance(seconds(5));
  EXPECT_EQ(forwarder_->HeldBacklog(), 0);
}

TEST_F(ScheduledTest, OfTwoRatesTheLowerCounts) {
  forwarder_->SetRate(1'000'000);
  SetWindows({"00:00-12:00"}, 2000);
  ProduceNumbers("b", 1, 300);
  clock_.Advance(seconds(10));
  EXPECT_LT(tier_.Values("b", 0).size(), 100);
  SetWindows({"00:00-12:00"}, 0);
  clock_.Advance(seconds(10));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 300));
}

// The last that waits is damaged: nobody can say any more how large it was, nor whose.
TEST_F(DropsTest, WhatIsDamagedIsNotHeldAgainstItsTopicAndClient) {
  SetPolicies({{.pattern = "a", .policy = {.bytes_max = 1500}}},
              {{.pattern = "c", .policy = {.bytes_max = 1500}}});
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte("lost"), "c").error, ErrorCode::kNone);
  // The next segment begins with what is in the accounts.
  for (int i = 0; i < 12; ++i) Produce("b", 0, {std::string(100'000, '.')});
  End();
  CloseSpool();
  Damage(Kilobyte("lost").values[0]);
  ReopenSpool();
  Begin();
  SetRules(topics_);
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNotEnoughReplicas);
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(DropsOf("a/0").records(), 1);
  EXPECT_EQ(Produce("a", 0, Kilobyte()).error, ErrorCode::kNone);
  clock_.Advance(seconds(2));
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c").error, ErrorCode::kNotEnoughReplicas);
  Restart();
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte(), "c").error, ErrorCode::kNone);
}

class AcksTest : public LimitsTest {
 protected:
  AcksTest() {
    SetPolicies({{.pattern = "a", .policy = {.acks = TopicPolicy::Acks::kUpstream}},
                 {.pattern = "b", .policy = {.acks = TopicPolicy::Acks::kBoth}}});
  }
};

TEST_F(AcksTest, TheAnswerComesFromTheTierWithItsOffset) {
  tier_.logs[{"a", 0}].end = 1000;
  Answer& answer = ProduceLater("a", 0, {.values = {"1", "2"}});
  Answer& second = ProduceLater("a", 0, {.values = {"3"}});
  clock_.Advance(seconds(1));
  EXPECT_EQ(answer.error, kOpen);
  EXPECT_EQ(metrics_.waiting_for_tier.Value(), 2);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(answer.error, ErrorCode::kNone);
  EXPECT_EQ(answer.base_offset, 1000);
  EXPECT_EQ(second.base_offset, 1002);
  EXPECT_EQ(metrics_.waiting_for_tier.Value(), 0);
}

TEST_F(AcksTest, BothWaitsUntilThisDiskKnowsToo) {
  tier_.Connect();
  clock_.RunUntilIdle();
  ProduceLater("b", 0, {.values = {"first"}});
  clock_.Advance(seconds(1));
  tier_.held = true;
  Answer& answer = ProduceLater("b", 0, {.values = {"1"}});
  EXPECT_EQ(answer.error, kOpen);
  tier_.Release();
  clock_.RunUntil([&] { return answer.error != kOpen; });
  EXPECT_EQ(answer.error, ErrorCode::kNone);
  EXPECT_EQ(answer.base_offset, 1);
  // Without any asking: the cursor was written down before the answer.
  EXPECT_EQ(spool_->Range(*spool_->FindStream("b/0")).start, 2);
}

TEST_F(AcksTest, OfTopicAndListenerTheStricterCounts) {
  SetPolicies({{.pattern = "b", .policy = {.acks = TopicPolicy::Acks::kBoth}}});
  listener_acks_ = proxy::Acks::kUpstream;
  Answer& by_listener = ProduceLater("a", 0, {.values = {"1"}});
  Answer& by_topic = ProduceLater("b", 0, {.values = {"1"}});
  listener_acks_ = proxy::Acks::kLocal;
  EXPECT_EQ(ProduceLater("a", 0, {.values = {"2"}}).error, ErrorCode::kNone);
  clock_.Advance(seconds(1));
  EXPECT_EQ(by_listener.error, kOpen);
  EXPECT_EQ(by_topic.error, kOpen);
  tier_.Connect();
  clock_.RunUntil([&] { return by_listener.error != kOpen && by_topic.error != kOpen; });
  EXPECT_EQ(by_listener.error, ErrorCode::kNone);
  EXPECT_EQ(by_topic.error, ErrorCode::kNone);
  EXPECT_EQ(spool_->Range(*spool_->FindStream("b/0")).start, 1);
}

TEST_F(AcksTest, ATierThatIsAwayTimesTheRequestOutAndGetsTheRecordsLater) {
  Answer& answer = ProduceLater("a", 0, {.values = {"1"}}, "", seconds(2));
  clock_.Advance(milliseconds(1900));
  EXPECT_EQ(answer.error, kOpen);
  clock_.Advance(milliseconds(200));
  EXPECT_EQ(answer.error, ErrorCode::kRequestTimedOut);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
}

TEST_F(AcksTest, AnIdempotentClientsRetryIsRecognisedAndGetsTheTiersOffset) {
  tier_.logs[{"a", 0}].end = 1000;
  const Batch batch{.values = {"1"}, .producer = {.id = 9, .epoch = 0, .base_sequence = 0}};
  Answer& first = ProduceLater("a", 0, batch, "", seconds(1));
  clock_.Advance(seconds(2));
  EXPECT_EQ(first.error, ErrorCode::kRequestTimedOut);
  Answer& retry = ProduceLater("a", 0, batch, "", seconds(20));
  EXPECT_EQ(retry.error, kOpen);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(retry.error, ErrorCode::kNone);
  EXPECT_EQ(retry.base_offset, 1000);
  Answer& again = ProduceLater("a", 0, batch);
  EXPECT_EQ(again.base_offset, 1000);
  EXPECT_EQ(tier_.Values("a", 0), Values{"1"});
}

TEST_F(AcksTest, WhatWaitsForRoomInVainDoesNotSpeakForWhatWasStoredWithIt) {
  SetPolicies({{.pattern = "a",
                .policy = {.acks = TopicPolicy::Acks::kUpstream,
                           .bytes_max = 1500,
                           .when_full = WhenFull::kWait}}});
  const std::vector<Answer*> late =
      ProduceTogether("a", {{0, Kilobyte()}, {1, Kilobyte()}}, "", seconds(2));
  clock_.Advance(milliseconds(1900));
  EXPECT_EQ(late[0]->error, kOpen);
  clock_.Advance(milliseconds(200));
  EXPECT_EQ(late[0]->error, ErrorCode::kRequestTimedOut) << "one timeout for both waits";
  EXPECT_EQ(late[1]->error, ErrorCode::kNotEnoughReplicas);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(tier_.Values("a", 0), Kilobyte().values);

  tier_.Disconnect();
  const std::vector<Answer*> closed = ProduceTogether("a", {{0, Kilobyte()}, {1, Kilobyte()}});
  log_->Close();
  clock_.RunUntilIdle();
  EXPECT_EQ(closed[0]->error, kOpen) << "the tier may yet take it";
  acks_->Close();
  EXPECT_EQ(closed[0]->error, ErrorCode::kRequestTimedOut);
  EXPECT_EQ(closed[1]->error, ErrorCode::kNotEnoughReplicas);
}

TEST_F(AcksTest, ABatchOfWhichOneRecordIsADeadLetterIsNotAtTheTier) {
  tier_.poison = {"bad"};
  const Batch batch{.values = {"ok", "bad", "fine"},
                    .producer = {.id = 9, .epoch = 0, .base_sequence = 0}};
  Answer& in_part = ProduceLater("a", 0, batch);
  Answer& after_it = ProduceLater("a", 0, {.values = {"good"}});
  tier_.Connect();
  clock_.Advance(seconds(5));
  EXPECT_EQ(tier_.Values("a", 0), (Values{"ok", "fine", "good"}));
  EXPECT_EQ(in_part.error, ErrorCode::kInvalidRecord);
  EXPECT_EQ(after_it.error, ErrorCode::kNone);
  EXPECT_EQ(after_it.base_offset, 2);
  EXPECT_EQ(ProduceLater("a", 0, batch).error, ErrorCode::kInvalidRecord);
}

TEST_F(AcksTest, TheRetryOfWhatWasDroppedHearsOfIt) {
  topics_ = {{.pattern = "a", .policy = {.acks = TopicPolicy::Acks::kUpstream, .ttl_ms = 5000}}};
  CrashAndRestart();
  forwarder_->SetPolicies(std::make_shared<const Policies>(topics_, clients_));
  tier_.Connect();
  clock_.Advance(seconds(1));
  tier_.Disconnect();
  const auto batch = [](int number) {
    return Batch{.values = {std::to_string(number)},
                 .producer = {.id = 9, .epoch = 0, .base_sequence = number}};
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ProduceLater("a", 0, batch(i), "", milliseconds(500)).error, kOpen);
  }
  clock_.Advance(seconds(10));
  EXPECT_EQ(ProduceLater("a", 0, batch(0)).error, ErrorCode::kPolicyViolation);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(ProduceLater("a", 0, batch(2)).error, ErrorCode::kNone);
  EXPECT_EQ(tier_.Values("a", 0), Values{"2"});
  clock_.Advance(seconds(1));  // The cursor is written down.
  CrashAndRestart();
  EXPECT_EQ(ProduceLater("a", 0, batch(0)).error, ErrorCode::kPolicyViolation);
  EXPECT_EQ(ProduceLater("a", 0, batch(1)).error, ErrorCode::kPolicyViolation);
  EXPECT_EQ(ProduceLater("a", 0, batch(2)).error, ErrorCode::kNone);
}

TEST_F(AcksTest, TheRetryOfWhatWasDroppedByHandHearsOfIt) {
  tier_.Connect();
  clock_.Advance(seconds(1));
  const auto batch = [](int number) {
    return Batch{.values = {std::to_string(number)},
                 .producer = {.id = 9, .epoch = 0, .base_sequence = number}};
  };
  EXPECT_EQ(ProduceLater("a", 0, batch(0)).error, ErrorCode::kNone);
  clock_.Advance(seconds(1));  // The cursor is written down.
  tier_.Disconnect();
  EXPECT_EQ(ProduceLater("a", 0, batch(1), "", milliseconds(500)).error, kOpen);
  const spool::StreamId stream = *spool_->FindStream("a/0");
  End();
  CloseSpool();
  DropByHand({stream});
  ReopenSpool();
  Begin();
  SetPolicies(topics_, clients_);
  tier_.Connect();
  clock_.Advance(seconds(1));
  EXPECT_EQ(ProduceLater("a", 0, batch(0)).error, ErrorCode::kNone);
  EXPECT_EQ(ProduceLater("a", 0, batch(1)).error, ErrorCode::kPolicyViolation);
  EXPECT_EQ(ProduceLater("a", 0, batch(2)).error, ErrorCode::kNone);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "2"}));
}

TEST_F(AcksTest, PastTheirLimitRequestsAreAnsweredAtOnce) {
  waiting_bytes_max_ = 2500;
  CrashAndRestart();
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte()).error, kOpen);
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte()).error, kOpen);
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte()).error, ErrorCode::kRequestTimedOut);
}

// The loop on which they wait may be long in coming to them.
TEST_F(AcksTest, WhatIsOnItsWayToWaitIsCountedAlready) {
  waiting_bytes_max_ = 2500;
  std::vector<std::unique_ptr<AppendJob>> handed_over;
  sinks_.wait_for_tier = [&](std::unique_ptr<AppendJob> job) {
    handed_over.push_back(std::move(job));
  };
  CrashAndRestart();
  const Answer& first = ProduceLater("a", 0, Kilobyte());
  const Answer& second = ProduceLater("a", 0, Kilobyte());
  const Answer& third = ProduceLater("a", 0, Kilobyte());
  ASSERT_EQ(handed_over.size(), 3);
  EXPECT_TRUE(first.waited);
  EXPECT_TRUE(second.waited);
  EXPECT_FALSE(third.waited) << "it is a request in flight until it has its answer";
  EXPECT_FALSE(waiting_bytes_->Fits(1000));
  for (auto& job : handed_over) acks_->Take(std::move(job));
  clock_.RunUntilIdle();
  EXPECT_EQ(second.error, kOpen);
  EXPECT_EQ(third.error, ErrorCode::kRequestTimedOut);
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(second.error, ErrorCode::kNone);
  EXPECT_TRUE(waiting_bytes_->Fits(2500));
}

TEST_F(AcksTest, WhatWaitsForRoomAndForTheTierHasOneLimit) {
  waiting_bytes_max_ = 2500;
  topics_.push_back({.pattern = "b", .policy = {.bytes_max = 1500, .when_full = WhenFull::kWait}});
  topics_.erase(topics_.begin() + 1);
  CrashAndRestart();
  const Answer& stored = ProduceLater("b", 0, Kilobyte());
  EXPECT_EQ(stored.error, ErrorCode::kNone);
  EXPECT_FALSE(stored.waited);
  const Answer& for_tier = ProduceLater("a", 0, Kilobyte());
  EXPECT_EQ(for_tier.error, kOpen);
  EXPECT_TRUE(for_tier.waited) << "its memory is no request's in flight any more";
  const Answer& for_room = ProduceLater("b", 0, Kilobyte());
  EXPECT_EQ(for_room.error, kOpen);
  EXPECT_TRUE(for_room.waited);
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte()).error, ErrorCode::kRequestTimedOut);
  EXPECT_EQ(ProduceLater("b", 0, Kilobyte()).error, ErrorCode::kNotEnoughReplicas);
  tier_.Connect();
  clock_.Advance(seconds(2));
  EXPECT_EQ(for_room.error, ErrorCode::kNone);
  EXPECT_EQ(ProduceLater("a", 0, Kilobyte()).error, ErrorCode::kNone);
}

}  // namespace
}  // namespace holdfast::agent
