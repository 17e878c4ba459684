// What a spool tells of one record, when it tells nothing, and that it mixes up none.
#include "agent/record_trace.h"

#include <gmock/gmock.h>

#include <utility>

#include "agent/dead_letter.h"
#include "tests/agent/transactions_fixture.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using Fault = test::ScriptedTier::Fault;
using Fate = RecordTrace::Fate;

// A dead letter of a/0, and a list.
class SetAside final : public spool::Operation {
 public:
  SetAside(std::string key, std::string drops, DeadLetters dead)
      : key_(std::move(key)), drops_(std::move(drops)), dead_(std::move(dead)) {}

  [[nodiscard]] size_t Bytes() const override { return dead_.batch.size(); }
  void Apply(spool::Transaction& transaction) override {
    transaction.Append({.stream = transaction.OpenStream(DeadLetterStreamName("a/0")),
                        .bytes = dead_.batch,
                        .record_count = dead_.record_count});
    transaction.Put(key_, drops_);
  }
  void Done(const base::Result<spool::CommitNumber>& result) override { EXPECT_TRUE(result); }

 private:
  const std::string key_;
  const std::string drops_;
  const DeadLetters dead_;
};

class RecordTraceTest : public TransactionsFixture {
 protected:
  RecordTraceTest() : TransactionsFixture(/*second=*/true) { Begin(); }

  void ProduceMany(const std::string& topic, int32_t partition, int records) {
    for (int i = 0; i < records; ++i)
      ASSERT_EQ(Produce(topic, partition, {"value"}).error, ErrorCode::kNone);
  }
  // Those with even offsets are refused.
  void ProduceRefused(int refused) {
    tier_.poison = {"bad"};
    for (int i = 0; i < refused; ++i) {
      ASSERT_EQ(Produce("a", 0, {"bad"}).error, ErrorCode::kNone);
      ASSERT_EQ(Produce("a", 0, {"good"}).error, ErrorCode::kNone);
      clock_.Advance(milliseconds(200));
    }
    EXPECT_EQ(Backlog(), 0);
  }
  void Stop(bool stopped = true) {
    if (stopped) {
      forwarder_->CloseJournal();
      forwarder_->Flush([] {});
      clock_.RunUntilIdle();
    }
    End();
    CloseSpool();
  }
  // Segments of before are sealed then, and can be given back.
  void FillSegments() {
    for (int i = 0; i < 5; ++i)
      ASSERT_EQ(Produce("a", 1, {std::string(300'000, '.')}).error, ErrorCode::kNone);
    EXPECT_EQ(Backlog(), 0);
  }
  void ThrowAway(const std::string& stream) {
    OpenView();
    const spool::StreamId dropped = Stream(stream);
    view_.reset();
    DropByHand({dropped});
  }
  // From here on the spool is looked at, as a crash leaves it or a stop.
  void Look(bool stopped = true) {
    Stop(stopped);
    OpenView();
  }
  void OpenView() {
    auto opened = spool::OfflineView::Open(directory_);
    ASSERT_TRUE(opened) << opened.error().message;
    view_ = *std::move(opened);
  }
  [[nodiscard]] spool::StreamId Stream(const std::string& name) const {
    return *view_->state().FindStream(name);
  }
  [[nodiscard]] std::vector<Delivery> Deliveries(const std::string& stream) const {
    return DeliveriesOf(*view_, Stream(stream), {});
  }
  base::Result<int64_t> OffsetOf(const std::string& stream, int64_t tier_offset) {
    return OffsetAtTier(*view_, Stream(stream), tier_offset, Deliveries(stream), sinks_);
  }
  RecordTrace Trace(const std::string& stream, int64_t offset) {
    auto trace = TraceRecord(*view_, Stream(stream), offset, Deliveries(stream), sinks_);
    EXPECT_TRUE(trace) << (trace ? "" : trace.error().message);
    return trace ? *std::move(trace) : RecordTrace();
  }
  std::vector<int64_t> Find(const RecordFilter& filter) {
    std::vector<int64_t> offsets;
    EXPECT_TRUE(FindRecords(
        *view_, Stream("a/0"), filter,
        [&](const spool::EntryInfo&, const kafka::Record&, int64_t offset) {
          offsets.push_back(offset);
          return true;
        },
        sinks_));
    return offsets;
  }

  const TraceSinks sinks_{
      .damaged = [](const base::Error& error) { ADD_FAILURE() << error.message; }, .progress = {}};
  std::unique_ptr<spool::OfflineView> view_;
};

TEST_F(RecordTraceTest, TheDeliveryIsThatOfTheRecord) {
  tier_.logs[{"a", 1}].end = 50;  // Of others.
  tier_.Connect();
  ProduceMany("a", 0, 2);
  ProduceMany("a", 1, 4);
  clock_.Advance(milliseconds(DeliveryJournal::kSpanMs + 2000));
  ProduceMany("a", 0, 2);
  EXPECT_EQ(Backlog(), 0);
  Look();
  for (const int64_t offset : {0, 1, 2, 3}) {
    const RecordTrace trace = Trace("a/0", offset);
    EXPECT_EQ(trace.fate, Fate::kDelivered);
    ASSERT_TRUE(trace.delivery && trace.tier_offsets);
    EXPECT_EQ(trace.delivery->begin, offset < 2 ? 0 : 2);
    EXPECT_EQ(trace.tier_offsets->first, offset);
    EXPECT_EQ(trace.tier_offsets->last, offset);
  }
  EXPECT_EQ(Trace("a/1", 3).tier_offsets->first, 53);
  EXPECT_EQ(*OffsetOf("a/1", 52), 2);
  EXPECT_EQ(*OffsetOf("a/0", 3), 3);
  EXPECT_FALSE(OffsetOf("a/1", 3));
}

TEST_F(RecordTraceTest, WhatTheJournalLostTheCursorsTellWithinBounds) {
  tier_.Connect();
  ProduceMany("a", 0, 3);
  clock_.Advance(std::chrono::seconds(2));
  tier_.logs[{"a", 0}].end += 5;  // Of others: 3 to 7.
  ProduceMany("a", 0, 4);         // 8 to 11.
  clock_.Advance(std::chrono::seconds(2));
  Look(/*stopped=*/false);
  EXPECT_FALSE(Trace("a/0", 4).delivery);
  const auto between = Trace("a/0", 4).tier_offsets;
  ASSERT_TRUE(between);
  EXPECT_EQ(between->first, 4) << "if the others came behind it";
  EXPECT_EQ(between->last, 9);
  EXPECT_EQ(Trace("a/0", 6).tier_offsets->first, 11) << "where the cursor stood then";
  for (const int64_t tier_offset : {4, 7, 9})
    EXPECT_FALSE(OffsetOf("a/0", tier_offset)) << "it may be of others";
  EXPECT_EQ(*OffsetOf("a/0", 11), 6);
}

TEST_F(RecordTraceTest, ItIsOnTheDiskForCertainWithTheNextCommit) {
  std::vector<int64_t> times;
  for (int i = 0; i < 4; ++i) {
    times.push_back(clock_.wall_clock_ms());
    ProduceMany("a", 0, 1);
    clock_.Advance(milliseconds(10));
  }
  Look(/*stopped=*/false);
  EXPECT_EQ(Trace("a/0", 0).accepted->entry.commit_time_ms, times[0]);
  EXPECT_EQ(Trace("a/0", 0).accepted->on_disk_by_ms, times[1]);
  EXPECT_EQ(Trace("a/0", 2).accepted->on_disk_by_ms, times[3]);
  EXPECT_EQ(Trace("a/0", 3).accepted->on_disk_by_ms, std::nullopt) << "nothing says so";
  EXPECT_EQ(Trace("a/0", 3).ahead, 3);
  EXPECT_FALSE(TraceRecord(*view_, Stream("a/0"), 4, Deliveries("a/0"), sinks_));
  // Of times, the first counts and the last does not.
  EXPECT_THAT(Find({.from_ms = times[1], .to_ms = times[3]}), testing::ElementsAre(1, 2));
  EXPECT_THAT(Find({.to_ms = times[1]}), testing::ElementsAre(0));
  EXPECT_THAT(Find({.from_ms = times[3]}), testing::ElementsAre(3));
}

TEST_F(RecordTraceTest, TroubleThatIsOverIsNotSaidOfTheNext) {
  tier_.Connect();
  tier_.faults = {{Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed}};
  ProduceMany("a", 0, 1);
  clock_.Advance(std::chrono::minutes(1));
  tier_.Disconnect();
  ProduceMany("a", 0, 1);
  clock_.Advance(std::chrono::seconds(2));
  Look();
  EXPECT_EQ(Trace("a/0", 0).fate, Fate::kDelivered);
  EXPECT_EQ(Trace("a/0", 0).delivery->first_error, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(Trace("a/0", 1).fate, Fate::kWaits);
  EXPECT_FALSE(Trace("a/0", 1).trouble);
}

TEST_F(RecordTraceTest, TroubleIsSaidOfWhatWaitsForIt) {
  tier_.Connect();
  tier_.faults = {{Fault::kRefuse, ErrorCode::kTopicAuthorizationFailed}};
  ProduceMany("a", 0, 2);
  clock_.Advance(std::chrono::seconds(2));
  Look();
  for (const int64_t offset : {0, 1}) {
    ASSERT_TRUE(Trace("a/0", offset).trouble);
    EXPECT_TRUE(Trace("a/0", offset).trouble->parked);
  }
}

TEST_F(RecordTraceTest, WhereTheListOfDropsDoesNotReachNothingIsGuessed) {
  tier_.Connect();
  ProduceRefused(40);
  FillSegments();
  Look();
  const auto fates = [this] {
    std::vector<Fate> found;
    for (const int64_t offset : {0, 1, 14, 15, 16, 17, 79})
      found.push_back(TraceRecord(*view_, Stream("a/0"), offset, /*deliveries=*/{}, sinks_)->fate);
    return found;
  };
  EXPECT_THAT(fates(), testing::ElementsAre(Fate::kDeadLetter, Fate::kDelivered, Fate::kDeadLetter,
                                            Fate::kDelivered, Fate::kDeadLetter, Fate::kDelivered,
                                            Fate::kDelivered))
      << "the commits have it";
  EXPECT_TRUE(Trace("a/0", 0).dead_letter->there);
  view_.reset();
  ThrowAway("a/0/dead-letters");
  OpenView();
  EXPECT_THAT(fates(), testing::ElementsAre(Fate::kDoneWith, Fate::kDoneWith, Fate::kDoneWith,
                                            Fate::kDoneWith, Fate::kDeadLetter, Fate::kDelivered,
                                            Fate::kDelivered));
  const auto unlisted = Trace("a/0", 0).unlisted;
  ASSERT_TRUE(unlisted);
  EXPECT_EQ(unlisted->records, 8);
  EXPECT_EQ(unlisted->before, 16);
}

// As where the list of then cannot be read.
TEST_F(RecordTraceTest, ADeadLetterIsFoundThatNoListHas) {
  tier_.Connect();
  ProduceMany("a", 0, 1);
  FillSegments();
  Drops drops;
  for (int64_t at = 0; at < 80; at += 2)
    drops.Add({.begin = at, .end = at + 1, .cause = DropCause::kDeadLetter});
  const DeadLetters dead = BuildDeadLetters(
      Build({.values = {"bad"}}),
      {.topic = "a", .partition = 0, .offset = 0, .error = ErrorCode::kInvalidRecord});
  std::unique_ptr<spool::Operation> set_aside = std::make_unique<SetAside>(
      StreamKey(kDropsPrefix, *spool_->FindStream("a/0")), drops.Serialize(), dead);
  ASSERT_TRUE(spool_->Submit(set_aside));
  clock_.RunUntilIdle();
  Stop(/*stopped=*/false);
  ThrowAway("a/1");
  OpenView();
  const auto trace = TraceRecord(*view_, Stream("a/0"), 0, /*deliveries=*/{}, sinks_);
  ASSERT_TRUE(trace && trace->dead_letter);
  EXPECT_EQ(trace->fate, Fate::kDeadLetter);
  EXPECT_EQ(trace->dead_letter->error, "INVALID_RECORD");
  EXPECT_FALSE(trace->drop || trace->unlisted);
}

TEST_F(RecordTraceTest, TheJournalSaysWhatWasDeliveredBeforeTheListBegins) {
  tier_.Connect();
  ProduceRefused(40);
  FillSegments();
  Stop();
  ThrowAway("a/0/dead-letters");
  OpenView();
  EXPECT_EQ(Trace("a/0", 0).fate, Fate::kDoneWith);
  EXPECT_EQ(Trace("a/0", 1).fate, Fate::kDelivered);
  EXPECT_EQ(Trace("a/0", 15).fate, Fate::kDelivered);
}

TEST_F(RecordTraceTest, AListThatNeverOverflowedSaysWhatWasDelivered) {
  tier_.Connect();
  ProduceMany("a", 0, 2);
  ProduceRefused(32);
  FillSegments();
  Stop(/*stopped=*/false);
  ThrowAway("a/0/dead-letters");
  OpenView();
  EXPECT_EQ(Trace("a/0", 0).fate, Fate::kDelivered);
  EXPECT_EQ(Trace("a/0", 2).fate, Fate::kDeadLetter);
  EXPECT_EQ(Trace("a/0", 3).fate, Fate::kDelivered);
}

TEST_F(RecordTraceTest, WhatWasThrownAwayIsKnownWhenTheCommitThatSaysSoIsGone) {
  ProduceMany("a", 0, 2);
  const int64_t thrown_ms = clock_.wall_clock_ms();
  Stop();
  ThrowAway("a/0");
  OpenView();
  EXPECT_EQ(Trace("a/0", 1).fate, Fate::kByHand);
  view_.reset();
  ReopenSpool();
  Begin();
  tier_.Connect();
  FillSegments();
  ProduceMany("a", 0, 1);
  EXPECT_EQ(Backlog(), 0);
  Stop();
  ThrowAway("a/1");  // Nothing of it waits, but segments are given back.
  OpenView();
  const RecordTrace trace = Trace("a/0", 1);
  EXPECT_FALSE(trace.accepted) << "the segment is gone that says so as well";
  EXPECT_EQ(trace.fate, Fate::kByHand);
  ASSERT_TRUE(trace.drop);
  EXPECT_EQ(trace.drop->when_ms, thrown_ms);
  EXPECT_EQ(Trace("a/0", 2).fate, Fate::kDelivered);
}

TEST_F(RecordTraceTest, TheTransactionIsThatOfTheRecord) {
  Init();
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(Put("a", 0, {"1", "2"}), ErrorCode::kNone);
    ASSERT_EQ(Put("b", 0, {"3"}), ErrorCode::kNone);
    ASSERT_EQ(Commit(), ErrorCode::kNone);
  }
  ProduceMany("a", 0, 1);
  Look();
  for (const int64_t offset : {0, 1, 2, 3}) {
    const auto transaction = Trace("a/0", offset).accepted->transaction;
    ASSERT_TRUE(transaction);
    const int64_t begin = offset < 2 ? 0 : 2;
    EXPECT_THAT(transaction->ranges,
                testing::UnorderedElementsAre(
                    CommittedTransaction::Range{Stream("a/0"), begin, begin + 2},
                    CommittedTransaction::Range{Stream("b/0"), begin / 2, begin / 2 + 1}));
  }
  EXPECT_FALSE(Trace("a/0", 4).accepted->transaction);
}

}  // namespace
}  // namespace holdfast::agent
