// Delivery against a tier that misbehaves on purpose: whatever happens on the way, each stream
// arrives whole, in order and once.
#include "agent/forwarder.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "agent/dead_letter.h"
#include "agent/dead_letter_replay.h"
#include "spool/offline.h"
#include "spool/verify.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using test::ScriptedTier;
using Fault = ScriptedTier::Fault;
using Values = std::vector<std::string>;

class ForwarderTest : public AgentFixture {
 protected:
  ForwarderTest() {
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
    Begin();
  }
  ~ForwarderTest() override { End(); }

  void Begin() { Begin(log_->kept()); }
  void Begin(const KeptState& kept) {
    forwarder_ = std::make_unique<Forwarder>(
        Forwarder::Context{loop_, *spool_, tier_, cache_, metrics_}, options_, kept, 1);
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
    forwarder_.reset();
    clock_.RunUntilIdle();
  }
  // What a kill -9 leaves: everything acknowledged, and cursors as they were last written down.
  void CrashAndRestart() {
    End();
    ReopenSpool();
    Begin();
  }
  // As Upstream does some time after a connection was lost.
  void Reconnect() {
    tier_.Connect();
    clock_.Advance(std::chrono::seconds(1));
  }
  void ProduceNumbers(const std::string& topic, int32_t partition, int from, int to,
                      int64_t timestamp = -1) {
    for (int i = from; i < to; ++i) {
      ASSERT_EQ(
          Produce(topic, partition, Batch{.values = {std::to_string(i)}, .timestamp = timestamp})
              .error,
          ErrorCode::kNone);
    }
  }
  static Values Numbers(int from, int to) {
    Values values;
    for (int i = from; i < to; ++i) values.push_back(std::to_string(i));
    return values;
  }
  int64_t Backlog() {
    clock_.Advance(std::chrono::seconds(2));
    return forwarder_->GetStatus().backlog_records;
  }

  test::ManualExecutor loop_{clock_};
  proxy::MetadataCache cache_{{{"declared", 1}}};
  ScriptedTier tier_{loop_, cache_};
  Forwarder::Options options_;
  std::unique_ptr<Forwarder> forwarder_;
};

TEST_F(ForwarderTest, DeliversInOrderAndOnce) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 20);
  ProduceNumbers("b", 0, 0, 5);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 20));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 5));
  EXPECT_EQ(metrics_.forwarded_records.Value(), 25);
}

TEST_F(ForwarderTest, KeepsTheBatchesAsTheClientMadeThem) {
  tier_.Connect();
  ASSERT_EQ(Produce("a", 0, {"1", "2", "3"}).error, ErrorCode::kNone);
  ASSERT_EQ(Produce("a", 0, {"4"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  const auto& batches = tier_.logs[{"a", 0}].batches;
  ASSERT_EQ(batches.size(), 2);
  EXPECT_EQ(kafka::RecordBatchView(batches[0]).record_count(), 3);
  // Sequences are ordinals.
  EXPECT_EQ(tier_.seen[0].base_sequence, 0);
  EXPECT_EQ(tier_.seen[1].base_sequence, 3);
  EXPECT_EQ(tier_.seen[0].id, 500);
  EXPECT_TRUE(kafka::RecordBatchView(batches[0]).CrcMatches());
}

TEST_F(ForwarderTest, DeliversABacklogWhenTheTierComesBack) {
  ProduceNumbers("a", 0, 0, 50);
  ProduceNumbers("a", 1, 100, 150);
  EXPECT_EQ(Backlog(), 100);
  EXPECT_GT(metrics_.oldest_undelivered_timestamp_seconds.Value(), 0);
  tier_.Connect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 50));
  EXPECT_EQ(tier_.Values("a", 1), Numbers(100, 150));
  EXPECT_EQ(metrics_.oldest_undelivered_timestamp_seconds.Value(), 0);
}

TEST_F(ForwarderTest, SendsSeveralBatchesOfAStreamAheadOnceTheTierKnowsIt) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.Disconnect();
  ProduceNumbers("a", 0, 1, 10);
  tier_.held = true;
  tier_.Connect();
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.most_in_flight, Forwarder::kWindow);
  tier_.Release();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 10));
}

TEST_F(ForwarderTest, PutsManyStreamsIntoOneRequest) {
  ProduceNumbers("a", 0, 0, 1);
  ProduceNumbers("a", 1, 0, 1);
  ProduceNumbers("b", 0, 0, 1);
  tier_.Connect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.produces, 1);
}

struct FaultCase {
  const char* name;
  Fault fault;
  bool breaks = false;  // The connection.
};

class ForwarderFaultTest : public ForwarderTest, public testing::WithParamInterface<FaultCase> {};

// Each fault hits a batch in the middle, with others in flight behind it.
TEST_P(ForwarderFaultTest, NothingIsLostDoubledOrReordered) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  tier_.faults = {{}, {}, GetParam().fault};
  ProduceNumbers("a", 0, 3, 12);
  ProduceNumbers("b", 0, 0, 3);
  tier_.Release();
  clock_.RunUntilIdle();
  if (GetParam().breaks) Reconnect();
  clock_.Advance(std::chrono::seconds(30));
  EXPECT_TRUE(tier_.faults.empty());
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 12));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 3));
  EXPECT_EQ(Backlog(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, ForwarderFaultTest,
    testing::Values(
        FaultCase{"LostRequest", {.kind = Fault::kLoseRequest}, true},
        FaultCase{"LostAnswer", {.kind = Fault::kLoseAnswer}, true},
        FaultCase{"NotEnoughReplicas", {Fault::kRefuse, ErrorCode::kNotEnoughReplicas}},
        FaultCase{"NotLeader", {Fault::kRefuse, ErrorCode::kNotLeaderOrFollower}},
        FaultCase{"NotLeaderAfterAppend", {Fault::kStoreRefuse, ErrorCode::kNotLeaderOrFollower}},
        FaultCase{"TimedOutAfterAppend", {Fault::kStoreRefuse, ErrorCode::kRequestTimedOut}},
        FaultCase{"TimedOut", {Fault::kRefuse, ErrorCode::kRequestTimedOut}},
        FaultCase{"AfterAppend", {Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend}},
        FaultCase{"OutOfOrder", {Fault::kRefuse, ErrorCode::kOutOfOrderSequenceNumber}},
        FaultCase{"UnknownServerError", {Fault::kRefuse, ErrorCode::kUnknownServerError}},
        FaultCase{"UnknownTopic", {Fault::kRefuse, ErrorCode::kUnknownTopicOrPartition}},
        FaultCase{"Corrupt", {Fault::kRefuse, ErrorCode::kCorruptMessage}},
        FaultCase{"DuplicateOfAnOldBroker",
                  {Fault::kStoreRefuse, ErrorCode::kDuplicateSequenceNumber}}),
    [](const auto& test) { return test.param.name; });

TEST_F(ForwarderTest, MorePartitionsThanASegmentHasReadersAreAllDelivered) {
  constexpr int32_t kPartitions = 1100;
  tier_.AddTopic("many", kPartitions);
  for (int32_t i = 0; i < kPartitions; ++i) Produce("many", i, Values{"v"});
  tier_.Connect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(forwarder_->GetStatus().parked_streams, 0);
}

TEST_F(ForwarderTest, ASickStreamDelaysOnlyItself) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  ProduceNumbers("b", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  for (int i = 0; i < 100; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kNotEnoughReplicas, "b"});
  }
  ProduceNumbers("b", 0, 1, 4);
  ProduceNumbers("a", 0, 1, 50);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 50));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 1));
  tier_.faults.clear();
  clock_.Advance(std::chrono::seconds(30));
  EXPECT_EQ(tier_.Values("b", 0), Numbers(0, 4));
}

TEST_F(ForwarderTest, BackoffGrowsWhileATierRefuses) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  const int before = tier_.produces;
  for (int i = 0; i < 1000; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
  }
  ProduceNumbers("a", 0, 1, 2);
  clock_.Advance(std::chrono::minutes(2));
  // 0.1 s doubled up to 10 s, of which half to all is waited.
  EXPECT_LT(tier_.produces - before, 40);
  EXPECT_GT(tier_.produces - before, 12);
}

TEST_F(ForwarderTest, RestartAsksBeforeItSendsAgain) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  // Everything arrives, and the agent dies before it could write that down.
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 3, 4);
  CrashAndRestart();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_GE(tier_.describe_calls, 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  ProduceNumbers("a", 0, 4, 8);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 8));
}

// Of several it refuses the first when they are repeated, and yet it has them all.
TEST_F(ForwarderTest, BatchesThatARestartedTierDoesNotRecogniseAreReadBack) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  ProduceNumbers("a", 0, 1, 4);
  clock_.RunUntilIdle();
  CrashAndRestart();
  tier_.ForgetAllButLastBatches();
  tier_.Connect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_GE(tier_.fetches, 1);
  EXPECT_EQ(metrics_.forward_errors.With("overtaken").Value(), 0);
}

class ForwarderDamageTest : public ForwarderTest {
 protected:
  // A new one, which looks at what it has each time that it is read.
  void EncryptSpool() {
    End();
    ReplaceByEncryptedSpool();
    Begin();
  }
  // The second of three batches that wait is damaged, or with a repair gone.
  void LoseTheSecond(bool repair) {
    for (const char* value : {"entry one", "entry two", "entry three"}) {
      ASSERT_EQ(Produce("a", 0, Values{value}).error, ErrorCode::kNone);
    }
    DamageAndReopen("entry two", repair);
  }
  void DamageAndReopen(const std::string& needle, bool repair) {
    End();
    CloseSpool();
    Damage(needle);
    if (repair) {
      ASSERT_TRUE(spool::Repair(directory_, {}, {}));
    }
    ReopenSpool();
    Begin();
  }
  void ExpectTheRest(const Values& values) {
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values("a", 0), values);
    EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), 1);
    const std::shared_ptr<const Ledger> ledger = forwarder_->GetLedger();
    ASSERT_EQ(ledger->streams.size(), 1);
    ASSERT_EQ(ledger->streams[0].drops.ranges().size(), 1);
    EXPECT_EQ(ledger->streams[0].drops.ranges()[0].cause, DropCause::kDamaged);
    EXPECT_EQ(ledger->streams[0].drops.ranges()[0].end, values.size());
  }
};

TEST_F(ForwarderDamageTest, WhatIsDamagedIsGivenUpAndTheRestDelivered) {
  LoseTheSecond(/*repair=*/false);
  tier_.Connect();
  ExpectTheRest({"entry one", "entry three"});
}

TEST_F(ForwarderDamageTest, WhatCannotBeReadDoesNotHideSinceWhenTheRestWaits) {
  tier_.Connect();
  ASSERT_EQ(Produce("a", 0, Values{"entry one"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(2));
  tier_.Disconnect();
  ASSERT_EQ(Produce("a", 0, Values{"entry two"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  const int64_t readable_ms = clock_.wall_clock_ms();
  ASSERT_EQ(Produce("a", 0, Values{"entry three"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  ASSERT_EQ(Produce("b", 0, Values{"other"}).error, ErrorCode::kNone);
  DamageAndReopen("entry two", /*repair=*/false);
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(forwarder_->GetStatus().backlog_records, 3);
  EXPECT_EQ(forwarder_->GetStatus().oldest_ms, readable_ms);
  EXPECT_EQ(metrics_.oldest_undelivered_timestamp_seconds.Value() * 1000, readable_ms);
  EXPECT_EQ(forwarder_->GetLedger()->complete_until_ms, 0);
}

TEST_F(ForwarderDamageTest, AStreamThatHasLostItsNameIsListedAndHoldsCompletenessBack) {
  const int64_t spooled_ms = clock_.wall_clock_ms();
  int64_t readable_ms = 0;
  for (const char* value : {"entry one", "entry two", "entry three"}) {
    readable_ms = clock_.wall_clock_ms();
    ASSERT_EQ(Produce("a", 0, Values{value}).error, ErrorCode::kNone);
    clock_.Advance(std::chrono::seconds(1));
  }
  ASSERT_EQ(Produce("b", 0, Values{"other"}).error, ErrorCode::kNone);
  End();
  CloseSpool();
  Damage("entry one");
  Damage("entry two");
  for (int starts = 0; starts < 2; ++starts) {
    ReopenSpool();
    Begin();
    tier_.Connect();
    clock_.Advance(std::chrono::minutes(1));
    EXPECT_EQ(tier_.Values("b", 0), Values{"other"});
    const std::shared_ptr<const Ledger> ledger = forwarder_->GetLedger();
    ASSERT_EQ(ledger->streams.size(), 2);
    const CommitPoint& lost = ledger->streams[0];
    EXPECT_EQ(lost.stream, "?0");
    EXPECT_EQ(lost.confirmed, 0);
    EXPECT_EQ(lost.end, 3);
    EXPECT_LE(ledger->complete_until_ms, spooled_ms);
    EXPECT_EQ(forwarder_->GetStatus().backlog_records, 3);
    EXPECT_EQ(forwarder_->GetStatus().oldest_ms, readable_ms) << "as far as can be told";
    const Left left = forwarder_->WhatIsLeft();
    EXPECT_TRUE(left.none()) << "nothing that a drain could wait for";
    EXPECT_FALSE(left.empty()) << "and yet something is left";
    EXPECT_EQ(left.nameless_records, 3);
    EXPECT_EQ(left.nameless_streams, 1);
    EXPECT_TRUE(left.Text().starts_with("3 records of 1 partition without a name (HF2110)"));
    // It waits, and is not given up.
    EXPECT_EQ(lost.drops.records(), 0);
    EXPECT_EQ(ledger->dropped_records, 0);
    EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), 0);
    End();
    CloseSpool();
  }
  ReopenSpool();
  Begin();
}

// Whose frame is sound: the spool sums the entries of long ones only when they are handed on.
TEST_F(ForwarderDamageTest, ALongBatchThatIsDamagedIsGivenUpAndTheRestDelivered) {
  const std::string padding(20'000, '.');
  const Values values{"entry one" + padding, "entry two" + padding, "entry three" + padding};
  for (const std::string& value : values) {
    ASSERT_EQ(Produce("a", 0, Values{value}).error, ErrorCode::kNone);
  }
  DamageAndReopen("entry two", /*repair=*/false);
  tier_.Connect();
  ExpectTheRest({values[0], values[2]});
}

TEST_F(ForwarderDamageTest, ALongBatchWhoseHeaderIsDamagedIsGivenUpAndTheRestDelivered) {
  constexpr size_t kMagicAt = 16;
  const std::string padding(20'000, '.');
  const Values values{"entry one" + padding, "entry two" + padding, "entry three" + padding};
  for (const std::string& value : values) {
    ASSERT_EQ(Produce("a", 0, Values{value}).error, ErrorCode::kNone);
  }
  // Its magic, and what follows.
  DamageAndReopen(Build({.values = {values[1]}}).substr(kMagicAt, 10), /*repair=*/false);
  forwarder_->DropOldest("a", 1);
  clock_.RunUntilIdle();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(tier_.Values("a", 0) == Values{values[2]});
  EXPECT_EQ(metrics_.dropped_records.With("made room").Value(), 1);
  EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), 1);
}

TEST_F(ForwarderDamageTest, WhatARepairLeftOutIsGivenUpAndTheRestDelivered) {
  LoseTheSecond(/*repair=*/true);
  tier_.Connect();
  ExpectTheRest({"entry one", "entry three"});
}

// Several batches are in flight before the damage.
TEST_F(ForwarderDamageTest, DamageBehindBatchesInFlightWaitsForTheirAnswers) {
  tier_.Connect();
  ASSERT_EQ(Produce("a", 0, Values{"entry zero"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  tier_.Disconnect();
  LoseTheSecond(/*repair=*/false);
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  tier_.Connect();
  clock_.RunUntilIdle();
  Reconnect();
  ExpectTheRest({"entry zero", "entry one", "entry three"});
}

// The tier's leader has it, and it cannot be repeated.
TEST_F(ForwarderDamageTest, ADamagedBatchThatTheTierHasIsNotLost) {
  tier_.Connect();
  ASSERT_EQ(Produce("a", 0, Values{"entry zero"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{}, {.kind = Fault::kLoseAnswer}};
  LoseTheSecond(/*repair=*/false);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"entry zero", "entry one", "entry two", "entry three"}));
  EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), 0);
}

// It is damaged while it waits for replicas, and is what comes next.
TEST_F(ForwarderDamageTest, ADamagedBatchThatOnlyTheLeaderHasIsNotLost) {
  for (const bool may_look : {true, false}) {
    EncryptSpool();
    tier_.Connect();
    clock_.Advance(std::chrono::seconds(1));
    tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend}};
    if (!may_look) {
      tier_.describe_error = tier_.fetch_error = ErrorCode::kTopicAuthorizationFailed;
    }
    const Values value = {std::string(400'000, may_look ? 'x' : 'y')};
    ASSERT_EQ(Produce("a", 0, value).error, ErrorCode::kNone);
    DamageLargest();
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values("a", 0).back(), value[0]);
    EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), may_look ? 0 : 1);
  }
}

TEST_F(ForwarderDamageTest, WhatIsDamagedDoesNotKeepFromMakingRoom) {
  LoseTheSecond(/*repair=*/false);
  forwarder_->DropOldest("a", 1000);
  clock_.RunUntilIdle();
  EXPECT_EQ(metrics_.dropped_records.With("made room").Value(), 2);
  EXPECT_EQ(metrics_.dropped_records.With("damaged").Value(), 1);
}

// Of which the spool takes the checksum from their header.
TEST_F(ForwarderTest, LargeBatchesAreThereAfterARestart) {
  const Values values(20, std::string(2000, 'v'));
  EXPECT_EQ(Produce("a", 0, values).error, ErrorCode::kNone);
  CrashAndRestart();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(tier_.Values("a", 0), values);
}

TEST_F(ForwarderTest, CursorsAreWrittenDownAndTrimTheSpool) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 10);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(spool_->Range(*spool_->FindStream("a/0")).start, 10);
  const int before = tier_.produces;
  CrashAndRestart();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(tier_.produces, before);
  EXPECT_EQ(tier_.describe_calls, 0);
}

TEST_F(ForwarderTest, CrashAtEveryBatchLosesAndDoublesNothing) {
  tier_.Connect();
  int produced = 0;
  for (int round = 0; round < 12; ++round) {
    ProduceNumbers("a", 0, produced, produced + 4);
    produced += 4;
    clock_.Advance(std::chrono::milliseconds(30));
    tier_.faults = {Fault{.kind = round % 2 == 0 ? Fault::kLoseAnswer : Fault::kLoseRequest}};
    ProduceNumbers("a", 0, produced, produced + 3);
    produced += 3;
    CrashAndRestart();
    Reconnect();
  }
  tier_.faults.clear();
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, produced));
}

TEST_F(ForwarderTest, ReadsBackWhenTheTierHasForgottenTheProducer) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  ProduceNumbers("a", 0, 3, 6);
  tier_.faults = {{}, {}, {.kind = Fault::kLoseAnswer}};
  tier_.Release();
  clock_.RunUntilIdle();
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_GE(tier_.fetches, 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 6));
  EXPECT_EQ(metrics_.forwarded_bytes.Value(), 6 * Build({.values = {"0"}}).size());
  // Whatever is still on its way of what came before is told from this by its sequence.
  ProduceNumbers("a", 0, 6, 7);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.seen.back().epoch, 0);
  EXPECT_EQ(tier_.seen.back().base_sequence, 6);
}

// As after an unclean election: the newest are gone, and with them who wrote what.
TEST_F(ForwarderTest, ALogThatBecameShorterIsReadFromWhereTheDoubtBegins) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 100);
  clock_.Advance(std::chrono::minutes(10));
  auto& log = tier_.logs[{"a", 0}];
  log.batches.resize(90);
  log.end = 90;
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 100, 101);
  clock_.RunUntilIdle();
  tier_.ForgetProducers();
  tier_.fetches = 0;
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_LE(tier_.fetches, 5) << "each has one batch";
  Values expected = Numbers(0, 90);
  expected.emplace_back("100");
  EXPECT_EQ(tier_.Values("a", 0), expected);
}

// A sequence was refused once, and the tier says that it knows the epoch.
TEST_F(ForwarderTest, AnEpochThatTheTierKnowsAfterAllGoesOn) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kRefuse, ErrorCode::kOutOfOrderSequenceNumber}};
  ProduceNumbers("a", 0, 1, 2);
  EXPECT_EQ(Backlog(), 0);
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 2, 3);
  clock_.RunUntilIdle();
  tier_.ForgetProducers();
  Reconnect();
  ProduceNumbers("a", 0, 3, 4);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_EQ(tier_.seen.back().epoch, 0);
}

// The agent dies with five batches of which it did not write down that they are there, and is away
// for so long that the first three are gone from the log again.
TEST_F(ForwarderTest, WhatRetentionLeftOfABurstSpeaksForAllOfIt) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  ProduceNumbers("a", 0, 1, 6);
  tier_.Release();
  clock_.RunUntilIdle();
  ASSERT_EQ(tier_.Values("a", 0), Numbers(0, 6));
  CrashAndRestart();
  tier_.ForgetProducers();
  tier_.Trim("a", 0, 4);
  clock_.Advance(std::chrono::hours(48));
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ProduceNumbers("a", 0, 6, 7);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(4, 7));
}

TEST_F(ForwarderTest, OldRecordsAreSentOneByOneAndReadBack) {
  const int64_t two_days_ago = clock_.wall_clock_ms() - 48 * 3600 * 1000LL;
  ProduceNumbers("a", 0, 0, 6, two_days_ago);
  tier_.faults = {{}, {.kind = Fault::kLoseAnswer}};
  tier_.Connect();
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.most_in_flight, 1);
  // As a restarted Kafka does with records that old.
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_GE(tier_.fetches, 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 6));
}

// A follower hangs: the leader has the batch, and nobody may read it.
TEST_F(ForwarderTest, OldRecordsThatOnlyTheLeaderHasAreWaitedFor) {
  const int64_t two_days_ago = clock_.wall_clock_ms() - 48 * 3600 * 1000LL;
  tier_.logs[{"a", 0}].high_watermark = 0;
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kRequestTimedOut}};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3, two_days_ago);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 1));
  tier_.logs[{"a", 0}].high_watermark = 1000;
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

TEST_F(ForwarderTest, OldRecordsThatAreOnTheLeaderAreNotRepeatedBlindly) {
  const int64_t two_days_ago = clock_.wall_clock_ms() - 48 * 3600 * 1000LL;
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend},
                  {Fault::kRefuse, ErrorCode::kNotEnoughReplicas}};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2, two_days_ago);
  while (!tier_.faults.empty()) clock_.Advance(std::chrono::milliseconds(10));
  tier_.ForgetProducers();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
}

// They became a day old in between.
TEST_F(ForwarderTest, RecordsThatAreOnTheLeaderAreNotRepeatedBlindlyAfterALongOutage) {
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend}};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2, clock_.wall_clock_ms() - 20 * 3600 * 1000LL);
  while (!tier_.faults.empty()) clock_.Advance(std::chrono::milliseconds(10));
  tier_.Disconnect();
  clock_.Advance(std::chrono::hours(5));
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
}

// The tier goes by the time of the last one that its leader took.
TEST_F(ForwarderTest, ARecordBeforeAnOldOneIsNotRepeatedBlindlyAfterALongOutage) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults.assign(2, {Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend});
  tier_.held = true;
  ProduceNumbers("a", 0, 1, 2);
  ProduceNumbers("a", 0, 2, 3, clock_.wall_clock_ms() - 20 * 3600 * 1000LL);
  tier_.Release();
  clock_.RunUntilIdle();
  ASSERT_TRUE(tier_.faults.empty());
  tier_.Disconnect();
  clock_.Advance(std::chrono::hours(5));
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

// The same, if the old one was taken while the repeat of what is before it was refused.
TEST_F(ForwarderTest, ARepeatBeforeAnOldRecordIsNotRepeatedBlindly) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend},
                  {Fault::kRefuse, ErrorCode::kNotEnoughReplicas},
                  {}};
  ProduceNumbers("a", 0, 1, 2);
  clock_.RunUntilIdle();
  ASSERT_EQ(tier_.faults.size(), 2);
  ProduceNumbers("a", 0, 2, 3, clock_.wall_clock_ms() - 48 * 3600 * 1000LL);
  while (!tier_.faults.empty()) clock_.Advance(std::chrono::milliseconds(1));
  ASSERT_EQ(tier_.Values("a", 0), Numbers(0, 3));
  tier_.ForgetProducers();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

// The tier remembers the producer for a day, so its answer to the repeat can be waited for.
TEST_F(ForwarderTest, OfHalfADaysAgeTheReplicasMustHaveARecord) {
  const int64_t old = clock_.wall_clock_ms() - 13 * 3600 * 1000LL;
  tier_.faults.assign(1000, {Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend});
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2, old);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 2);
  tier_.faults.clear();
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
  EXPECT_EQ(tier_.fetches, 0);
}

// A tier goes by the time of a producer's last batch, whatever came before.
TEST_F(ForwarderTest, BehindAnOldRecordBatchesAreSentOneByOne) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  ProduceNumbers("a", 0, 1, 2, clock_.wall_clock_ms() - 48 * 3600 * 1000LL);
  clock_.Advance(std::chrono::seconds(1));
  tier_.Disconnect();
  ProduceNumbers("a", 0, 2, 8);
  tier_.most_in_flight = 0;
  tier_.held = true;
  tier_.Connect();
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.most_in_flight, 1);
  tier_.Release();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 8));
}

// It got another leader, which never had the batch.
TEST_F(ForwarderTest, OldRecordsThatOnlyTheOldLeaderHadAreSentAgain) {
  const int64_t two_days_ago = clock_.wall_clock_ms() - 48 * 3600 * 1000LL;
  tier_.logs[{"a", 0}].high_watermark = 0;
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kRequestTimedOut}};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3, two_days_ago);
  clock_.Advance(std::chrono::seconds(2));
  tier_.logs[{"a", 0}] = {};
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

TEST_F(ForwarderTest, ReadsBackFromATierThatDescribesNoProducers) {
  tier_.describes = false;
  tier_.Connect();
  // The very first answer is lost: no offset is known to begin at.
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 0, 3);
  clock_.RunUntilIdle();
  // It would not recognise a repeat.
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
  EXPECT_GE(tier_.fetches, 1);
}

TEST_F(ForwarderTest, ReadsBackFromATierThatDeniesUsItsProducers) {
  tier_.describe_error = ErrorCode::kTopicAuthorizationFailed;
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{.kind = Fault::kLoseRequest}};
  ProduceNumbers("a", 0, 2, 4);
  clock_.RunUntilIdle();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_GE(tier_.describe_calls, 1);
  EXPECT_GE(tier_.fetches, 1);
}

// One more batch stands in line while the rate is used up, and the one before it fails.
TEST_F(ForwarderTest, AStreamInLineIsAskedAboutBeforeItIsSentAgain) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  forwarder_->SetRate(1);
  tier_.held = true;
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kRequestTimedOut}};
  ProduceNumbers("a", 0, 1, 3);
  tier_.Release();
  clock_.RunUntilIdle();
  ASSERT_TRUE(tier_.faults.empty());
  const int before = tier_.produces;
  forwarder_->SetRate(0);
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.produces, before);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_GE(tier_.describe_calls, 1);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

struct OvertakenCase {
  const char* name;
  ErrorCode first;   // That is not stored.
  ErrorCode behind;  // Of the two that are.
  int told;          // As overtaken.
};
class ForwarderOvertakenTest : public ForwarderTest,
                               public testing::WithParamInterface<OvertakenCase> {};

// A tier without memory of the producer takes what comes; its last sequence then hides the gap.
TEST_P(ForwarderOvertakenTest, ABatchThatWasOvertakenIsNotLost) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  tier_.faults = {{Fault::kRefuse, GetParam().first}};
  tier_.faults.resize(3, {Fault::kAccept, GetParam().behind});
  ProduceNumbers("a", 0, 1, 4);
  tier_.Release();
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "2", "3", "1", "2", "3"}));
  EXPECT_EQ(metrics_.forward_errors.With("overtaken").Value(), GetParam().told);
}

INSTANTIATE_TEST_SUITE_P(
    All, ForwarderOvertakenTest,
    testing::Values(
        OvertakenCase{"ByOneThatIsDelivered", ErrorCode::kNotEnoughReplicas, ErrorCode::kNone, 1},
        OvertakenCase{"ByOneThatTheLeaderHas", ErrorCode::kNotEnoughReplicas,
                      ErrorCode::kNotEnoughReplicasAfterAppend, 1},
        OvertakenCase{"ByOneThatMayBeThere", ErrorCode::kNotEnoughReplicas,
                      ErrorCode::kRequestTimedOut, 0},
        OvertakenCase{"InAnotherLog", ErrorCode::kUnknownTopicOrPartition,
                      ErrorCode::kNotEnoughReplicasAfterAppend, 1},
        OvertakenCase{"AfterAnUnclearAnswer", ErrorCode::kNotLeaderOrFollower, ErrorCode::kNone, 0},
        OvertakenCase{"AfterAnUnclearAnswerByOneThatTheLeaderHas", ErrorCode::kNotLeaderOrFollower,
                      ErrorCode::kNotEnoughReplicasAfterAppend, 0}),
    [](const auto& test) { return test.param.name; });

// All that a restart finds is the last sequence, which hides the gap as well.
TEST_F(ForwarderTest, ABatchThatWasOvertakenBeforeACrashIsNotLost) {
  for (const bool answered : {true, false}) {
    const std::string topic = answered ? "a" : "b";
    tier_.Connect();
    ProduceNumbers(topic, 0, 0, 1);
    clock_.Advance(std::chrono::seconds(1));
    tier_.held = true;
    tier_.faults = {{Fault::kRefuse, ErrorCode::kNotEnoughReplicas}, {.kind = Fault::kAccept}};
    if (!answered) tier_.lose_answer_at = tier_.calls + 1;
    ProduceNumbers(topic, 0, 1, 3);
    tier_.Release();
    clock_.RunUntilIdle();
    EXPECT_EQ(tier_.Values(topic, 0), (Values{"0", "2"}));
    CrashAndRestart();
    tier_.Connect();
    EXPECT_EQ(Backlog(), 0);
    EXPECT_EQ(tier_.Values(topic, 0), (Values{"0", "2", "1", "2"}));
  }
}

// Retention of the tier, meanwhile, has deleted all that came before what overtook it.
class ForwarderTrimmedTest : public ForwarderTest, public testing::WithParamInterface<bool> {};

TEST_P(ForwarderTrimmedTest, WhatOvertookABatchDoesNotSpeakForIt) {
  const bool crash = GetParam();
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  kafka::RecordBatchBuilder builder({.base_offset = 1});
  builder.Add({.timestamp = clock_.wall_clock_ms(), .value = "other"});
  auto& log = tier_.logs[{"a", 0}];
  log.batches.push_back(std::move(builder).Build());
  log.end = 2;
  tier_.held = true;
  tier_.faults = {{Fault::kRefuse, ErrorCode::kNotEnoughReplicas}, {.kind = Fault::kAccept}};
  ProduceNumbers("a", 0, 1, 3);
  tier_.Release();
  clock_.RunUntilIdle();
  tier_.Trim("a", 0, 2);
  if (crash) {
    CrashAndRestart();
    tier_.Connect();
  }
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"2", "1", "2"}));
}

INSTANTIATE_TEST_SUITE_P(Both, ForwarderTrimmedTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "Crash" : "NoCrash"; });

// Fewer replicas than it wants have what the leader has: that one of the repeats is refused for it,
// and the next are not, says nothing new.
TEST_F(ForwarderTest, ARepeatThatIsRefusedWasNotOvertaken) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  tier_.faults.assign(3, {Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend});
  tier_.faults.push_back({Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
  ProduceNumbers("a", 0, 1, 4);
  tier_.Release();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_EQ(metrics_.forward_errors.With("overtaken").Value(), 0);
  EXPECT_EQ(tier_.fetches, 0);
}

// It recognises the last five batches of a producer, and refuses what is further back.
TEST_F(ForwarderTest, ATierThatDoesNotLetUsLookDoesNotHoldUpAStreamForEver) {
  tier_.describe_error = tier_.fetch_error = ErrorCode::kTopicAuthorizationFailed;
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  ProduceNumbers("a", 0, 1, 9);
  clock_.RunUntilIdle();
  ASSERT_EQ(tier_.Values("a", 0), Numbers(0, 9));
  CrashAndRestart();
  tier_.Connect();
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  Values doubled = Numbers(0, 9);
  for (const std::string& value : Numbers(1, 9)) doubled.push_back(value);
  EXPECT_EQ(tier_.Values("a", 0), doubled);
  EXPECT_EQ(metrics_.forward_errors.With("unknowable").Value(), 2);
}

TEST_F(ForwarderTest, AForeignWriterUnderOurIdMakesUsTakeANewOne) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  // A copy of the spool's directory runs elsewhere, and has gone on to the next epoch.
  auto& log = tier_.logs[{"a", 0}];
  log.producers.Record({.producer = {500, 3, 0}, .record_count = 1},
                       {.base_offset = 100, .timestamp = clock_.wall_clock_ms()});
  ProduceNumbers("a", 0, 2, 4);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_EQ(tier_.seen.back().id, 501);
  EXPECT_EQ(metrics_.forward_errors.With("fenced").Value(), 1);
}

TEST_F(ForwarderTest, ATierThatLostRecordsGetsTheRest) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 5);
  clock_.Advance(std::chrono::seconds(1));
  // As after an unclean election: the newest three are gone, and the producer stands where it
  // stood.
  auto& log = tier_.logs[{"a", 0}];
  log.batches.resize(2);
  log.end = 2;
  log.producers = {};
  log.producers.Record({.producer = {500, 0, 0}, .record_count = 2},
                       {.base_offset = 0, .timestamp = clock_.wall_clock_ms()});
  ProduceNumbers("a", 0, 5, 7);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "5", "6"}));
  EXPECT_EQ(metrics_.forward_errors.With("tier lost records").Value(), 1);
}

TEST_F(ForwarderTest, ATopicThatIsMissingIsAskedForUntilItIsThere) {
  tier_.Connect();
  ProduceNumbers("new", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(tier_.refreshed.front(), "new");
  EXPECT_GT(tier_.refreshes, 3);
  tier_.AddTopic("new", 1);
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.Values("new", 0), Numbers(0, 3));
}

TEST_F(ForwarderTest, ATopicThatIsDeletedForGoodHoldsItsRecordsAndNobodyElses) {
  tier_.Connect();
  ProduceNumbers("b", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  tier_.RemoveTopic("b");
  ProduceNumbers("b", 0, 2, 4);
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::minutes(5));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
  EXPECT_EQ(Backlog(), 2);
  EXPECT_EQ(forwarder_->GetStatus().worst.front().name, "b/0");
  EXPECT_FALSE(forwarder_->GetStatus().worst.front().trouble.empty());
}

TEST_F(ForwarderTest, ATopicThatWasMadeAnewGetsWhatTheOldOneDidNot) {
  tier_.Connect();
  ProduceNumbers("b", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.RemoveTopic("b");
  tier_.AddTopic("b", 1);
  ProduceNumbers("b", 0, 3, 5);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(3, 5));
  // Under an identity of its own, whose sequences begin anew.
  EXPECT_EQ(tier_.seen[3].epoch, 1);
  EXPECT_EQ(tier_.seen[3].base_sequence, 0);
  EXPECT_EQ(metrics_.forward_errors.With("topic made anew").Value(), 1);
  EXPECT_EQ(tier_.describe_calls, 0);
}

// Old offsets would lead past it: others have written more into the new log than was in the old.
TEST_F(ForwarderTest, ABatchThatReachedTheNewTopicBeforeWeKnewIsNotSentTwice) {
  tier_.Connect();
  ProduceNumbers("b", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.RemoveTopic("b");
  tier_.logs[{"b", 0}];  // It is there again, and no metadata says so.
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("b", 0, 3, 4);
  clock_.RunUntilIdle();
  kafka::RecordBatchBuilder builder({.base_offset = 1});
  for (int i = 0; i < 10; ++i) builder.Add({.timestamp = clock_.wall_clock_ms(), .value = "other"});
  auto& log = tier_.logs[{"b", 0}];
  log.batches.push_back(std::move(builder).Build());
  log.end = 11;
  ProduceNumbers("b", 0, 4, 5);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  Values expected = Numbers(3, 4);
  expected.insert(expected.end(), 10, "other");
  expected.emplace_back("4");
  EXPECT_EQ(tier_.Values("b", 0), expected);
}

// The leader has it there, and too few replicas.
TEST_F(ForwarderTest, ABatchThatTheNewTopicsLeaderHasIsNotSentTwice) {
  tier_.Connect();
  ProduceNumbers("b", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.RemoveTopic("b");
  tier_.logs[{"b", 0}];  // It is there again, and no metadata says so.
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend}};
  ProduceNumbers("b", 0, 3, 4);
  clock_.RunUntilIdle();
  tier_.AddTopic("b", 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(3, 4));
}

// Of three batches that the leader has and did not confirm only the last is sent again, and that is
// refused: the first two are in no other log.
class ForwarderUnconfirmedTest : public ForwarderTest {
 protected:
  void SendAgainTheLastOfThree() {
    tier_.Connect();
    ProduceNumbers("b", 0, 0, 1);
    clock_.Advance(std::chrono::seconds(1));
    tier_.held = true;
    ProduceNumbers("b", 0, 1, 4);
    tier_.faults.assign(3, {Fault::kStoreRefuse, ErrorCode::kRequestTimedOut});
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kNotEnoughReplicas});
    tier_.Release();
    while (!tier_.faults.empty()) clock_.Advance(std::chrono::milliseconds(10));
    ASSERT_EQ(tier_.Values("b", 0), Numbers(0, 4));
    ASSERT_EQ(tier_.seen.back().base_sequence, 3);
  }
};

TEST_F(ForwarderUnconfirmedTest, ATopicThatIsMadeAnewGetsAllOfThem) {
  SendAgainTheLastOfThree();
  tier_.RemoveTopic("b");
  tier_.AddTopic("b", 1);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(1, 4));
}

TEST_F(ForwarderUnconfirmedTest, AnotherClusterGetsAllOfThem) {
  SendAgainTheLastOfThree();
  tier_.Disconnect();
  tier_.cluster_id = "another";
  tier_.RemoveTopic("b");
  tier_.AddTopic("b", 1);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(1, 4));
}

// The last one stands in line when the tier says that it is another log now.
TEST_F(ForwarderUnconfirmedTest, ATopicThatIsMadeAnewBeforeAQueuedBatchIsSentGetsAllOfThem) {
  SendAgainTheLastOfThree();
  forwarder_->SetRate(1);
  tier_.faults = {{Fault::kRefuse, ErrorCode::kNotEnoughReplicas}};
  while (!tier_.faults.empty()) clock_.Advance(std::chrono::milliseconds(10));
  clock_.Advance(std::chrono::seconds(2));
  tier_.RemoveTopic("b");
  tier_.AddTopic("b", 1);
  forwarder_->SetRate(0);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(1, 4));
}

TEST_F(ForwarderTest, ATopicThatIsMadeAnewWhileTheAgentIsAwayIsNoticed) {
  tier_.Connect();
  ProduceNumbers("b", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.Disconnect();
  ProduceNumbers("b", 0, 3, 5);
  CrashAndRestart();
  tier_.RemoveTopic("b");
  tier_.AddTopic("b", 1);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 0), Numbers(3, 5));
}

TEST_F(ForwarderTest, ATierThatTellsNoTopicIdsIsServedAsWell) {
  tier_.topic_ids = false;
  tier_.AddTopic("c", 1);
  tier_.Connect();
  ProduceNumbers("c", 0, 0, 2);
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  tier_.describes = false;
  ProduceNumbers("c", 0, 2, 4);
  clock_.RunUntilIdle();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("c", 0), Numbers(0, 4));
}

// A declared topic's provisional id stays in the cache until an answer has the tier's own.
TEST_F(ForwarderTest, AnIdThatTheTierTellsLateIsNotANewTopic) {
  tier_.topic_ids = false;
  tier_.AddTopic("declared", 1);
  tier_.Connect();
  ProduceNumbers("declared", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(Backlog(), 0);
  tier_.topic_ids = true;
  tier_.Disconnect();
  ProduceNumbers("declared", 0, 3, 5);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("declared", 0), Numbers(0, 5));
  EXPECT_EQ(metrics_.forward_errors.With("topic made anew").Value(), 0);
  EXPECT_EQ(tier_.seen.back().epoch, 0);
}

TEST_F(ForwarderTest, PartitionsThatAreAddedAreDeliveredTo) {
  tier_.Connect();
  ProduceNumbers("b", 1, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(Backlog(), 2);
  tier_.AddTopic("b", 2);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("b", 1), Numbers(0, 2));
}

struct EpochCase {
  const char* name;
  ErrorCode error;
};
class ForwarderEpochTest : public ForwarderTest, public testing::WithParamInterface<EpochCase> {};

// The tier knows the producer as we do, and refuses it all the same: the next epoch ends that.
TEST_P(ForwarderEpochTest, AnEpochThatIsRefusedIsFollowedByTheNext) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kRefuse, GetParam().error}};
  ProduceNumbers("a", 0, 2, 4);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_EQ(tier_.seen.back().id, 500);
  EXPECT_EQ(tier_.seen.back().epoch, 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, ForwarderEpochTest,
    testing::Values(EpochCase{"InvalidEpoch", ErrorCode::kInvalidProducerEpoch},
                    EpochCase{"UnknownProducer", ErrorCode::kUnknownProducerId},
                    EpochCase{"Fenced", ErrorCode::kProducerFenced}),
    [](const auto& test) { return test.param.name; });

// It came to a tier that had just forgotten the producer, which then knows him by that.
TEST_F(ForwarderTest, ALateRequestOfAnOlderEpochDoesNotHoldUpItsStream) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kRefuse, ErrorCode::kInvalidProducerEpoch}};
  ProduceNumbers("a", 0, 1, 3);
  EXPECT_EQ(Backlog(), 0);
  ASSERT_EQ(tier_.seen.back().epoch, 1);
  tier_.ForgetProducers();
  tier_.logs[{"a", 0}].producers.Record(
      {.producer = {.id = 500, .epoch = 0, .base_sequence = 7}, .record_count = 1}, {});
  ProduceNumbers("a", 0, 3, 5);
  clock_.Advance(std::chrono::seconds(20));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 5));
}

TEST_F(ForwarderTest, ARefusedBatchIsHeldAndNothingOvertakesItIfSoWished) {
  options_.dead_letters = DeadLetterPolicy::kPark;
  CrashAndRestart();
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kRefuse, ErrorCode::kMessageTooLarge}};
  ProduceNumbers("a", 0, 1, 3);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 1));
  EXPECT_FALSE(forwarder_->GetStatus().worst.front().trouble.empty());
  // Somebody has raised the limit.
  clock_.Advance(options_.park_retry);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

TEST_F(ForwarderTest, TheProducerIdIsDurableBeforeItIsUsed) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  ASSERT_EQ(tier_.seen.size(), 1);
  CrashAndRestart();
  EXPECT_EQ(log_->kept().upstream.id, 500);
  ASSERT_EQ(log_->kept().forward.size(), 1);
  EXPECT_EQ(log_->kept().forward.begin()->second.identity.producer_id, 500);
  Reconnect();
  ProduceNumbers("a", 0, 1, 2);
  EXPECT_EQ(tier_.seen.back().id, 500);
  EXPECT_EQ(tier_.seen.back().base_sequence, 1);
}

TEST_F(ForwarderTest, SequencesGoOnBehindTheWrap) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  End();
  ReopenSpool();
  // As if 2^31 - 3 records had gone before.
  KeptState kept = log_->kept();
  Identity& identity = kept.forward.begin()->second.identity;
  identity.base_ordinal = 1 - 0x7ffffffd;
  auto& log = tier_.logs[{"a", 0}];
  log.producers = {};
  log.producers.Record({.producer = {500, 0, 0x7ffffffc}, .record_count = 1},
                       {.base_offset = 0, .timestamp = clock_.wall_clock_ms()});
  Begin(kept);
  tier_.Connect();
  ProduceNumbers("a", 0, 1, 3);
  // Across the wrap, and in doubt there.
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ASSERT_EQ(Produce("a", 0, {"3", "4", "5"}).error, ErrorCode::kNone);
  clock_.RunUntilIdle();
  Reconnect();
  ProduceNumbers("a", 0, 6, 8);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 8));
  EXPECT_EQ(tier_.seen.back().epoch, 0);
  EXPECT_EQ(tier_.seen.back().base_sequence, 3);
}

TEST_F(ForwarderTest, ANewProducerIdFollowsTheLastEpoch) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  End();
  ReopenSpool();
  KeptState kept = log_->kept();
  kept.forward.begin()->second.identity.epoch = 32000;
  tier_.ForgetProducers();
  Begin(kept);
  tier_.Connect();
  ProduceNumbers("a", 0, 1, 2);
  tier_.faults = {{Fault::kRefuse, ErrorCode::kUnknownProducerId}};
  ProduceNumbers("a", 0, 2, 4);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
  EXPECT_EQ(tier_.seen.back().id, 501);
  EXPECT_EQ(tier_.seen.back().epoch, 0);
}

TEST_F(ForwarderTest, WithoutTheRightToWriteAStreamIsHeldAndTriedRarely) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  for (int i = 0; i < 3; ++i) {
    tier_.faults.push_back({Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed, "a"});
  }
  const int before = tier_.produces;
  ProduceNumbers("a", 0, 1, 2);
  clock_.Advance(options_.park_retry * 2 + std::chrono::seconds(1));
  EXPECT_EQ(tier_.produces - before, 3);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 1));
  EXPECT_TRUE(cache_.Denied("a", clock_.wall_clock_ms())) << "clients are to hear of it";
  clock_.Advance(options_.park_retry);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
}

TEST_F(ForwarderTest, APartitionThatIsParkedIsTriedAtOnceWhenSomebodyAsks) {
  tier_.Connect();
  EXPECT_FALSE(forwarder_->Resume("a/0"));
  tier_.faults = {{Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed}};
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(2));
  ASSERT_EQ(forwarder_->GetStatus().parked_streams, 1);
  EXPECT_EQ(forwarder_->GetStatus().parked.front().name, "a/0");
  EXPECT_EQ(metrics_.parked_streams.Value(), 1);
  EXPECT_FALSE(forwarder_->Resume("a/1"));
  EXPECT_TRUE(forwarder_->Resume("a/0"));
  clock_.RunUntilIdle();
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(forwarder_->GetStatus().parked_streams, 0);
}

// There is nothing wrong with it that could be seen from here.
TEST_F(ForwarderTest, APartitionWhoseBatchATierCannotTakeIsParked) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults.assign(4, {Fault::kRefuse, ErrorCode::kUnknownServerError});
  ProduceNumbers("a", 0, 1, 2);
  clock_.Advance(std::chrono::seconds(10));
  ASSERT_EQ(tier_.faults.size(), 1);
  ASSERT_EQ(forwarder_->GetStatus().parked_streams, 1);
  EXPECT_EQ(forwarder_->GetStatus().parked.front().trouble,
            "records 1 to 1: UNKNOWN_SERVER_ERROR (parked)");
  clock_.Advance(options_.park_retry);
  EXPECT_EQ(tier_.faults.size(), 0);
  EXPECT_EQ(forwarder_->GetStatus().parked_streams, 1);
  clock_.Advance(options_.park_retry);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 2));
}

TEST_F(ForwarderTest, AnotherClusterGetsTheRest) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 3, 5);
  clock_.RunUntilIdle();
  tier_.cluster_id = "another";
  tier_.RemoveTopic("a");
  tier_.AddTopic("a", 2);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(3, 5));
  EXPECT_EQ(tier_.seen.back().id, 501);
  EXPECT_EQ(tier_.seen.back().epoch, 0);
}

// What the journal says of deliveries that it was told of.
class ForwarderJournalTest : public ForwarderTest {
 protected:
  // One is delivered, and the next ones are not joined with it.
  void DeliverTheFirst() {
    tier_.Connect();
    ProduceNumbers("a", 0, 0, 1);
    clock_.Advance(std::chrono::milliseconds(DeliveryJournal::kSpanMs + 2000));
  }
  // Those that begin at `from` or later, in order.
  std::vector<Delivery> Deliveries(int64_t from) const {
    std::vector<Delivery> deliveries = ParseBlock(forwarder_->UnwrittenDeliveries());
    std::erase_if(deliveries, [from](const Delivery& one) { return one.begin < from; });
    std::ranges::sort(deliveries, {}, &Delivery::begin);
    return deliveries;
  }
  void CloseJournal() {
    forwarder_->CloseJournal();
    forwarder_->Flush([] {});
    clock_.RunUntilIdle();
  }
};

TEST_F(ForwarderJournalTest, SaysWhenAndWhereRecordsWere) {
  tier_.logs[{"a", 0}].end = 70;  // Of others.
  DeliverTheFirst();
  tier_.held = true;
  const int64_t sent = clock_.wall_clock_ms();
  ASSERT_EQ(Produce("a", 0, {"1", "2", "3"}).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::milliseconds(40));
  tier_.Release();
  clock_.RunUntilIdle();
  EXPECT_THAT(Deliveries(1), testing::ElementsAre(Delivery{.stream = *spool_->FindStream("a/0"),
                                                           .begin = 1,
                                                           .end = 4,
                                                           .tier_begin = 71,
                                                           .node = ScriptedTier::kNode,
                                                           .sent_ms = sent,
                                                           .confirmed_ms = sent + 40,
                                                           .last_ms = sent + 40}));
}

TEST_F(ForwarderJournalTest, CountsWhatFailedBefore) {
  DeliverTheFirst();
  tier_.faults = {{Fault::kRefuse, ErrorCode::kNotEnoughReplicas},
                  {Fault::kRefuse, ErrorCode::kNotLeaderOrFollower}};
  const int64_t since = clock_.wall_clock_ms();
  ProduceNumbers("a", 0, 1, 2);
  clock_.Advance(std::chrono::seconds(5));
  ProduceNumbers("a", 0, 2, 3);
  EXPECT_EQ(Backlog(), 0);
  const std::vector<Delivery> deliveries = Deliveries(1);
  ASSERT_EQ(deliveries.size(), 2);
  EXPECT_EQ(deliveries[0].attempts, 2);
  EXPECT_EQ(deliveries[0].first_error, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(deliveries[0].last_error, ErrorCode::kNotLeaderOrFollower);
  EXPECT_EQ(deliveries[0].since_ms, since);
  EXPECT_GT(deliveries[0].sent_ms, since) << "the last time";
  EXPECT_EQ(deliveries[0].proof, DeliveryProof::kAnswer);
  EXPECT_EQ(deliveries[1].attempts, 0);
}

TEST_F(ForwarderJournalTest, ALostAnswerIsAnErrorOfTheNetwork) {
  DeliverTheFirst();
  tier_.faults = {{.kind = Fault::kLoseRequest}};
  ProduceNumbers("a", 0, 1, 2);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ASSERT_EQ(Deliveries(1).size(), 1);
  EXPECT_EQ(Deliveries(1)[0].attempts, 1);
  EXPECT_EQ(Deliveries(1)[0].first_error, ErrorCode::kNetworkException);
  EXPECT_EQ(Deliveries(1)[0].proof, DeliveryProof::kAnswer) << "the tier did not have it";
}

TEST_F(ForwarderJournalTest, WhatTheTierHadWhenItWasAskedIsToldApart) {
  DeliverTheFirst();
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  ProduceNumbers("a", 0, 1, 2);
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ASSERT_EQ(Deliveries(1).size(), 1);
  EXPECT_EQ(Deliveries(1)[0].proof, DeliveryProof::kRecognised);

  tier_.held = true;
  ProduceNumbers("a", 0, 2, 3);
  tier_.faults = {{.kind = Fault::kLoseAnswer}};
  tier_.Release();
  clock_.RunUntilIdle();
  tier_.ForgetProducers();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  ASSERT_EQ(Deliveries(2).size(), 1);
  EXPECT_EQ(Deliveries(2)[0].proof, DeliveryProof::kReadBack);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
}

TEST_F(ForwarderJournalTest, AllThatTheTierHadWhenItWasAskedIsToldApart) {
  DeliverTheFirst();
  ProduceNumbers("a", 0, 1, 4);
  clock_.RunUntilIdle();
  CrashAndRestart();
  ProduceNumbers("a", 0, 4, 5);
  tier_.Connect();
  EXPECT_EQ(Backlog(), 0);
  CloseJournal();
  const std::vector<Delivery> all = Deliveries(1);
  ASSERT_EQ(all.size(), 4);
  for (size_t at = 0; at < 3; ++at) EXPECT_EQ(all[at].proof, DeliveryProof::kRecognised) << at;
  EXPECT_EQ(all[3].proof, DeliveryProof::kAnswer);
}

TEST_F(ForwarderJournalTest, GoesOnAfterARestart) {
  for (int64_t round = 0; round < 2; ++round) {
    tier_.Connect();
    ProduceNumbers("a", 0, static_cast<int>(2 * round), static_cast<int>(2 * round + 2));
    EXPECT_EQ(Backlog(), 0);
    CloseJournal();
    CrashAndRestart();
    EXPECT_EQ(log_->kept().journal.size(), round + 1);
  }
  End();
  spool_.reset();
  clock_.RunUntilIdle();
  const auto view = spool::OfflineView::Open(directory_);
  ASSERT_TRUE(view);
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const Delivery& one : ReadJournal((*view)->state())) ranges.emplace_back(one.begin, one.end);
  EXPECT_THAT(ranges, testing::ElementsAre(std::pair(0, 2), std::pair(2, 4)));
}

TEST_F(ForwarderJournalTest, KeepsToItsLimit) {
  End();
  options_.journal_bytes_max = 1;
  for (int round = 0; round < 3; ++round) {
    Begin();
    tier_.Connect();
    ProduceNumbers("a", 0, round, round + 1);
    EXPECT_EQ(Backlog(), 0);
    CloseJournal();
    End();
    ReopenSpool();
    EXPECT_EQ(log_->kept().journal.size(), 1) << "the newest";
  }
}

class DeadLetterTest : public ForwarderTest {
 protected:
  struct Letter {
    std::string value;
    std::map<std::string, std::string> headers;
  };
  std::vector<Letter> Letters(const std::string& stream = "a/0/dead-letters") {
    std::vector<Letter> letters;
    const auto id = spool_->FindStream(stream);
    if (!id) return letters;
    const spool::OffsetRange range = spool_->Range(*id);
    for (int64_t at = range.start; at < range.end;) {
      const auto lease = spool_->Read(*id, at, 1);
      EXPECT_TRUE(lease);
      const kafka::RecordBatchView batch(lease->entries().front().bytes);
      AddLetters(batch, letters);
      at = lease->entries().front().info.end_offset();
    }
    return letters;
  }
  static void AddLetters(const kafka::RecordBatchView& batch, std::vector<Letter>& letters) {
    const auto records = kafka::UncompressedRecords::Of(batch);
    kafka::RecordReader reader(batch.header(), records->bytes());
    kafka::Record record;
    while (reader.Next(&record)) {
      Letter& letter = letters.emplace_back(Letter{.value = std::string(*record.value)});
      for (const auto& header : record.headers) {
        letter.headers[std::string(header.key)] = header.value.value_or("");
      }
    }
  }
  static Values ValuesOf(const std::vector<Letter>& letters) {
    Values values;
    for (const Letter& letter : letters) values.push_back(letter.value);
    return values;
  }
};

TEST_F(DeadLetterTest, ARefusedRecordIsSetAsideAndItsStreamGoesOn) {
  tier_.poison = {"3"};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 10);
  EXPECT_EQ(Backlog(), 0);
  Values expected = Numbers(0, 10);
  std::erase(expected, "3");
  EXPECT_EQ(tier_.Values("a", 0), expected);
  const std::vector<Letter> letters = Letters();
  ASSERT_EQ(ValuesOf(letters), Values{"3"});
  std::map<std::string, std::string> headers = letters[0].headers;
  EXPECT_GT(std::stoll(headers.extract("holdfast.dlq.time").mapped()), 0);
  EXPECT_EQ(headers, (std::map<std::string, std::string>{{"holdfast.dlq.topic", "a"},
                                                         {"holdfast.dlq.partition", "0"},
                                                         {"holdfast.dlq.offset", "3"},
                                                         {"holdfast.dlq.error", "INVALID_RECORD"},
                                                         {"holdfast.dlq.message", "no good"}}));
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 1);
  const std::vector<Delivery> deliveries = ParseBlock(forwarder_->UnwrittenDeliveries());
  const auto next = std::ranges::find(deliveries, 4, &Delivery::begin);
  ASSERT_NE(next, deliveries.end());
  EXPECT_EQ(next->attempts, 0) << "those were of the one before";
}

TEST_F(DeadLetterTest, OnlyTheRecordsThatTheTierNamesAreSetAside) {
  tier_.poison = {"1", "2", "5"};
  tier_.Connect();
  ASSERT_EQ(Produce("a", 0, {"0", "1", "2", "3", "4", "5"}).error, ErrorCode::kNone);
  ProduceNumbers("a", 0, 6, 9);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "3", "4", "6", "7", "8"}));
  const std::vector<Letter> letters = Letters();
  EXPECT_EQ(ValuesOf(letters), (Values{"1", "2", "5"}));
  EXPECT_EQ(letters[1].headers.at("holdfast.dlq.offset"), "2");
}

TEST_F(DeadLetterTest, OfABatchThatIsTooLargeTheRecordsThatFitAreDelivered) {
  tier_.batch_bytes_max = 150;
  tier_.Connect();
  const std::string large(200, 'x');
  ASSERT_EQ(Produce("a", 0, {"0", "1", large, "3", "4", "5", "6", "7", "8", "9"}).error,
            ErrorCode::kNone);
  ProduceNumbers("a", 0, 10, 11);
  EXPECT_EQ(Backlog(), 0);
  Values expected = Numbers(0, 11);
  expected.erase(expected.begin() + 2);
  EXPECT_EQ(tier_.Values("a", 0), expected);
  EXPECT_EQ(ValuesOf(Letters()), Values{large});
}

TEST_F(DeadLetterTest, NothingIsLostOrDoubledWhateverDiesMeanwhile) {
  tier_.Connect();
  int produced = 0;
  Values expected;
  Values poison;
  for (int round = 0; round < 24; ++round) {
    Values values = Numbers(produced, produced + 5);
    const std::string bad = values[static_cast<size_t>(round) % 5];
    tier_.poison.insert(bad);
    poison.push_back(bad);
    ASSERT_EQ(Produce("a", 0, values).error, ErrorCode::kNone);
    std::erase(values, bad);
    expected.insert(expected.end(), values.begin(), values.end());
    produced += 5;
    for (int i = 0; i < round % 7; ++i) tier_.faults.push_back({});
    tier_.faults.push_back({.kind = round % 2 == 0 ? Fault::kLoseAnswer : Fault::kLoseRequest});
    clock_.Advance(std::chrono::milliseconds(40 * (round % 6)));
    if (round % 3 != 0) CrashAndRestart();
    tier_.faults.clear();
    Reconnect();
  }
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(tier_.Values("a", 0), expected);
  EXPECT_EQ(ValuesOf(Letters()), poison);
}

TEST_F(DeadLetterTest, TheyAreDeliveredWhenTheyAreReplayed) {
  tier_.poison = {"1", "3"};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 5);
  EXPECT_EQ(Backlog(), 0);
  ASSERT_EQ(Letters().size(), 2);
  const auto replay = [&](const std::string& stream) {
    base::Result<DeadLetterReplay::Replayed> replayed;
    DeadLetterReplay::Start(*spool_, *log_, loop_, stream,
                            [&](const auto& result) { replayed = result; });
    clock_.RunUntilIdle();
    return replayed;
  };
  EXPECT_EQ(replay("a/1").error().code, base::Code::kNotFound);
  // One is still no good, and is a dead letter again.
  tier_.poison = {"3"};
  EXPECT_EQ(replay("a/0"), (DeadLetterReplay::Replayed{.records = 2}));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "2", "4", "1"}));
  const std::vector<Letter> letters = Letters();
  ASSERT_EQ(ValuesOf(letters), Values{"3"});
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.offset"), "6");
  // Without what we had put into it.
  std::vector<Letter> delivered;
  AddLetters(kafka::RecordBatchView(tier_.logs[{"a", 0}].batches.back()), delivered);
  EXPECT_TRUE(delivered[0].headers.empty());
}

TEST_F(DeadLetterTest, TwoReplaysAtATimePutEachBackOnce) {
  tier_.poison = {"0", "1", "2", "3"};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 4);
  ASSERT_EQ(Letters().size(), 4);
  tier_.poison.clear();
  uint64_t replayed = 0;
  const auto dead = spool_->FindStream(DeadLetterStreamName("a/0"));
  const auto start = [&] {
    DeadLetterReplay::Start(*spool_, *log_, loop_, "a/0", [&](const auto& result) {
      ASSERT_TRUE(result) << result.error().message;
      replayed += result->records;
    });
  };
  start();
  start();
  // And one that begins when the others are at the second.
  while (spool_->Range(*dead).start == 0) {
    loop_.RunOne();
    writer_.RunOne();
  }
  start();
  clock_.RunUntilIdle();
  EXPECT_EQ(replayed, 4);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 4));
}

// One between others, and the last.
TEST_F(DeadLetterTest, DamagedOnesAreNotReplayedAndDoNotKeepOthers) {
  // A long one is summed when it is read, and its place is known.
  tier_.poison = {"poison 1", "poison 2", "poison 3", "poison 4" + std::string(20'000, '.')};
  tier_.Connect();
  for (const std::string& value : tier_.poison) {
    ASSERT_EQ(Produce("a", 0, Values{value}).error, ErrorCode::kNone);
  }
  ASSERT_EQ(Produce("a", 0, Values{"good"}).error, ErrorCode::kNone);
  EXPECT_EQ(Backlog(), 0);
  End();
  CloseSpool();
  // Only there their headers follow: the number of these, and the length of the first one's name.
  Damage("poison 2\x0c\x24holdfast.dlq.topic");
  Damage("....\x0c\x24holdfast.dlq.topic");
  ReopenSpool();
  Begin();
  tier_.poison.clear();
  tier_.Connect();
  base::Result<DeadLetterReplay::Replayed> replayed;
  DeadLetterReplay::Start(*spool_, *log_, loop_, "a/0",
                          [&](const auto& result) { replayed = result; });
  clock_.RunUntilIdle();
  EXPECT_EQ(replayed, (DeadLetterReplay::Replayed{.records = 2, .lost = 2}));
  EXPECT_EQ(tier_.Values("a", 0), (Values{"good", "poison 1", "poison 3"}));
  const auto dead = spool_->FindStream(DeadLetterStreamName("a/0"));
  EXPECT_EQ(spool_->Range(*dead).start, spool_->Range(*dead).end);
}

TEST_F(DeadLetterTest, ATopicTakesThemIfSoWished) {
  options_.dead_letters = DeadLetterPolicy::kTopic;
  options_.dead_letter_topic = "b";
  CrashAndRestart();
  tier_.poison = {"1"};
  tier_.Connect();
  ProduceNumbers("a", 1, 0, 3);
  // This tier judges by the value, so it refuses the dead letter as well, at first.
  tier_.poison.clear();
  clock_.Advance(options_.park_retry);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 1), (Values{"0", "2"}));
  EXPECT_EQ(tier_.Values("b", 0), Values{"1"});
  std::vector<Letter> letters;
  AddLetters(kafka::RecordBatchView(tier_.logs[{"b", 0}].batches[0]), letters);
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.topic"), "a");
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.partition"), "1");
}

// What is refused in the dead letter topic is not a dead letter of its own.
TEST_F(DeadLetterTest, ADeadLetterTopicThatRefusesIsHeld) {
  options_.dead_letters = DeadLetterPolicy::kTopic;
  options_.dead_letter_topic = "b";
  CrashAndRestart();
  tier_.poison = {"1"};
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 3);
  EXPECT_EQ(Backlog(), 1);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "2"}));
  EXPECT_EQ(forwarder_->GetStatus().worst.front().name, "b/0");
}

TEST_F(DeadLetterTest, ABatchThatNobodyCanReadIsSetAsideAsItIs) {
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = clock_.wall_clock_ms(), .value = "0"});
  builder.Add({.timestamp = clock_.wall_clock_ms(), .value = "1"});
  std::string bytes = std::move(builder).Build();
  bytes[kafka::kBatchHeaderSize] = 7;  // A record's length that is none.
  const DeadLetters dead = BuildDeadLetters(bytes, {.topic = "a", .offset = 4});
  EXPECT_EQ(dead.record_count, 1);
  std::vector<Letter> letters;
  AddLetters(kafka::RecordBatchView(dead.batch), letters);
  EXPECT_EQ(letters[0].value, bytes);
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.batch"), "2");
  const auto restored = RestoreDeadLetters(dead.batch);
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_EQ(restored->batch, bytes);
  EXPECT_EQ(restored->record_count, 2);
}

// The tier answers UNKNOWN_SERVER_ERROR to it, whatever is in flight behind it.
TEST_F(DeadLetterTest, ABatchThatCannotBeUncompressedIsSetAsideAndItsStreamGoesOn) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.held = true;
  ProduceNumbers("a", 0, 1, 2);
  const std::string unreadable = BuildUnreadable({"2", "3"});
  ASSERT_EQ(ProduceBytes("a", 0, unreadable).error, ErrorCode::kNone);
  ProduceNumbers("a", 0, 4, 6);
  tier_.Release();
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), (Values{"0", "1", "4", "5"}));
  const std::vector<Letter> letters = Letters();
  ASSERT_EQ(letters.size(), 1);
  EXPECT_EQ(kafka::RecordBatchView(letters[0].value).payload(),
            kafka::RecordBatchView(unreadable).payload());
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.batch"), "2");
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.error"), "INVALID_RECORD");
  EXPECT_EQ(letters[0].headers.at("holdfast.dlq.message"),
            "cannot be uncompressed (lz4: blocks depend on each other); the tier answers "
            "UNKNOWN_SERVER_ERROR");
  EXPECT_EQ(metrics_.dead_letter_records.With("INVALID_RECORD").Value(), 2);
  EXPECT_EQ(metrics_.forward_errors.With("UNKNOWN_SERVER_ERROR").Value(), 3);
}

TEST_F(DeadLetterTest, SoIsOneOfATierThatHasNothingOfItsStream) {
  tier_.Connect();
  ASSERT_EQ(ProduceBytes("a", 0, BuildUnreadable({"0"})).error, ErrorCode::kNone);
  ProduceNumbers("a", 0, 1, 3);
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(1, 3));
  EXPECT_EQ(Letters().size(), 1);
}

TEST_F(DeadLetterTest, ABatchThatCannotBeUncompressedIsHeldIfSoWished) {
  options_.dead_letters = DeadLetterPolicy::kPark;
  CrashAndRestart();
  tier_.Connect();
  ASSERT_EQ(ProduceBytes("a", 0, BuildUnreadable({"0"})).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(10));
  EXPECT_EQ(Backlog(), 1);
  EXPECT_EQ(forwarder_->GetStatus().parked_streams, 1);
  EXPECT_TRUE(Letters().empty());
}

// Whether the tier has it nobody says, so it is not given up.
TEST_F(DeadLetterTest, ABatchOfWhichTheTierTellsNothingIsNoDeadLetter) {
  tier_.describe_error = ErrorCode::kTopicAuthorizationFailed;
  tier_.fetch_error = ErrorCode::kTopicAuthorizationFailed;
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  ASSERT_EQ(ProduceBytes("a", 0, BuildUnreadable({"1"})).error, ErrorCode::kNone);
  clock_.Advance(std::chrono::seconds(60));
  EXPECT_EQ(Backlog(), 1);
  EXPECT_GT(metrics_.forward_errors.With("UNKNOWN_SERVER_ERROR").Value(), 3);
  EXPECT_TRUE(Letters().empty());
}

// A tier that does not look inside took it, and failed behind that.
TEST_F(DeadLetterTest, ABatchThatTheTierHasIsNoDeadLetterWhateverItAnswers) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 1);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults.assign(3, {Fault::kRefuse, ErrorCode::kUnknownServerError});
  tier_.faults[1].kind = Fault::kStoreRefuse;
  ProduceNumbers("a", 0, 1, 2);
  clock_.Advance(std::chrono::seconds(5));
  ProduceNumbers("a", 0, 2, 3);
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 3));
  EXPECT_TRUE(Letters().empty());
}

// It is stored, and its repeat is refused: the limit was lowered meanwhile.
TEST_F(DeadLetterTest, WhatTheLeaderHasIsNoDeadLetter) {
  tier_.Connect();
  ProduceNumbers("a", 0, 0, 2);
  clock_.Advance(std::chrono::seconds(1));
  tier_.faults = {{Fault::kStoreRefuse, ErrorCode::kNotEnoughReplicasAfterAppend},
                  {Fault::kRefuse, ErrorCode::kMessageTooLarge}};
  ProduceNumbers("a", 0, 2, 3);
  clock_.Advance(std::chrono::seconds(5));
  ProduceNumbers("a", 0, 3, 4);
  tier_.faults = {{.kind = Fault::kLoseAnswer}, {Fault::kRefuse, ErrorCode::kMessageTooLarge}};
  ProduceNumbers("a", 0, 4, 5);
  clock_.RunUntilIdle();
  Reconnect();
  EXPECT_EQ(Backlog(), 0);
  EXPECT_EQ(tier_.Values("a", 0), Numbers(0, 5));
  EXPECT_TRUE(Letters().empty());
}

TEST(IdentityTest, SequencesWrapAsKafkasDo) {
  const Identity identity{.producer_id = 1, .base_ordinal = 10};
  const int64_t wrap = int64_t{1} << 31;
  EXPECT_EQ(identity.SequenceOf(10), 0);
  EXPECT_EQ(identity.SequenceOf(10 + wrap - 1), 2147483647);
  EXPECT_EQ(identity.SequenceOf(10 + wrap), 0);
  // The tier's last record is the fourth behind the wrap, ours confirmed two before it.
  EXPECT_EQ(identity.RecordsBeyond(10 + wrap - 2, 3), 6);
  EXPECT_EQ(identity.RecordsBeyond(10, -1), 0);
}

}  // namespace
}  // namespace holdfast::agent
