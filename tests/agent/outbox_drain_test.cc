#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/outbox/drain.h"
#include "base/random.h"
#include "kafka/api/metadata.h"
#include "kafka/record_reader.h"
#include "metrics/registry.h"
#include "tests/agent/table_source.h"
#include "tests/support/manual_executor.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Unexpected;
using test::Table;
using test::TableSource;

class DrainTest : public testing::Test {
 protected:
  DrainTest() { Know({{"outbox.event.a", 4}, {"outbox.event.b", 1}}); }

  void Know(const std::map<std::string, int32_t>& topics) {
    kafka::MetadataResponse response;
    response.brokers.push_back({.node_id = 1, .host = "tier", .port = 9092});
    for (const auto& [name, partitions] : topics) {
      auto& topic = response.topics.emplace_back();
      topic.name = name;
      topic.topic_id.bytes[0] = static_cast<uint8_t>(response.topics.size());
      for (int32_t at = 0; at < partitions; ++at) {
        topic.partitions.push_back({.partition_index = at, .leader_id = 1});
      }
    }
    cache_.Learn(response, clock_.wall_clock_ms());
  }

  // As after the start of a process.
  void Start() {
    auto router = Router::Make({.topic = topic_});
    drain_ = std::make_unique<Drain>(
        Drain::Context{.loop = loop_,
                       .cache = cache_,
                       .metrics = metrics_,
                       .append = [this](auto append,
                                        auto done) { Append(std::move(append), std::move(done)); },
                       .want_topic = [this](std::string topic) { wanted_.insert(topic); },
                       .want_settings = [](const std::string&) {},
                       .taken = std::make_shared<Drain::Taken>(
                           [](std::vector<agent::StreamEnd> ends) { return ends; },
                           std::vector<agent::StreamEnd>())},
        Drain::Options{.name = "orders", .batch_rows = 10}, *std::move(router),
        std::make_unique<TableSource>(table_), note_);
    drain_->Start();
  }

  // Stands for the spool: takes everything at a later turn, or says that it cannot.
  void Append(agent::NotedAppend append, agent::RecordLog::NotedDone done) {
    spool_.Post([this, append = std::move(append), done = std::move(done)]() mutable {
      if (table_.random.Below(100) < spool_failures_percent_)
        return done({.result = Unexpected(Code::kFull, "no room")});
      for (const agent::NewBatch& batch : append.batches) {
        const kafka::RecordBatchView view(batch.bytes);
        kafka::RecordReader reader(view.header(), kafka::UncompressedRecords::Of(view)->bytes());
        kafka::Record record;
        while (reader.Next(&record)) {
          spooled_.emplace_back(fmt::format("{} {}", batch.topic, record.key.value_or("")),
                                *record.headers[0].value);
        }
      }
      note_ = append.note.value_or("");
      if (on_append_) on_append_();
      EXPECT_EQ(append.key, "agent/outbox/orders");
      done({});
    });
  }

  void Insert(std::string route, std::string key) {
    const int64_t position = next_++;
    table_.rows[position] = {.position = position,
                             .id = fmt::format("{:06}", position),
                             .route = std::move(route),
                             .key = std::move(key),
                             .payload = "p"};
  }

  void ExpectExactlyOnceAndInOrder(int64_t rows) {
    EXPECT_EQ(spooled_.size(), static_cast<size_t>(rows));
    std::map<std::string, std::string> last;
    std::set<std::string> ids;
    for (const auto& [key, id] : spooled_) {
      EXPECT_TRUE(ids.insert(id).second) << id << " twice";
      EXPECT_LT(last[key], id) << "out of order";
      last[key] = id;
    }
  }

  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
  test::ManualExecutor spool_{clock_};
  metrics::Registry registry_;
  metrics::OutboxMetrics metrics_{registry_};
  proxy::MetadataCache cache_{{}};
  Table table_;
  std::string topic_ = "outbox.event.${aggregatetype}";
  std::set<std::string> wanted_;
  uint64_t spool_failures_percent_ = 0;
  std::vector<std::pair<std::string, std::string>> spooled_;  // Topic and key, and id.
  std::string note_;
  std::function<void()> on_append_;
  int64_t next_ = 1;
  std::unique_ptr<Drain> drain_;
};

TEST_F(DrainTest, TakesEachRowOnceWhateverFailsAndWhenever) {
  constexpr int64_t kRows = 3000;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    table_ = Table{.random = base::Random(seed), .failures_percent = 10};
    spool_failures_percent_ = 10;
    spooled_.clear();
    note_.clear();
    next_ = 1;
    base::Random random(seed);
    Start();
    while (next_ <= kRows || !table_.rows.empty()) {
      for (uint64_t n = random.Below(30); n > 0 && next_ <= kRows; --n) {
        Insert(random.Below(3) == 0 ? "b" : "a", fmt::format("key-{}", random.Below(7)));
      }
      clock_.Advance(std::chrono::milliseconds(random.Below(200)));
      if (random.Below(10) == 0) {
        // Dies: with what is on its way to the spool, which may come to pass nevertheless.
        drain_.reset();
        clock_.RunUntilIdle();
        Start();
      }
    }
    ExpectExactlyOnceAndInOrder(kRows);
    EXPECT_TRUE(table_.quarantine.empty());
  }
}

// Of rows that can be no records the quarantine takes some and refuses some.
TEST_F(DrainTest, TakesEachRowOnceWhateverTheQuarantineRefuses) {
  constexpr int64_t kRows = 1000;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    table_ = Table{.random = base::Random(seed), .failures_percent = 5};
    spool_failures_percent_ = 5;
    spooled_.clear();
    note_.clear();
    next_ = 1;
    base::Random random(seed);
    size_t bad = 0;
    int turns = 0;
    Start();
    while (next_ <= kRows || table_.rows.size() > table_.refused.size()) {
      ASSERT_LT(++turns, 5000) << table_.rows.size() << " rows are left";
      for (uint64_t n = random.Below(30); n > 0 && next_ <= kRows; --n) {
        const bool good = random.Below(5) != 0;
        if (!good) ++bad;
        if (!good && random.Below(3) == 0) table_.refused.insert(next_);
        Insert(good ? "a" : "no good", fmt::format("key-{}", random.Below(7)));
      }
      clock_.Advance(std::chrono::milliseconds(random.Below(200)));
      if (random.Below(20) == 0) {
        drain_.reset();
        clock_.RunUntilIdle();
        Start();
      }
    }
    ExpectExactlyOnceAndInOrder(kRows - static_cast<int64_t>(bad));
    for (const auto& [position, row] : table_.rows) EXPECT_EQ(row.route, "no good") << position;
    EXPECT_EQ(table_.quarantine.size(), bad - table_.refused.size());
  }
}

TEST_F(DrainTest, ATableThatCannotBeCountedIsReadAllTheSame) {
  table_.countable = false;
  for (int at = 0; at < 25; ++at) Insert("a", "k");
  Start();
  clock_.Advance(std::chrono::seconds(5));
  ExpectExactlyOnceAndInOrder(25);
}

TEST_F(DrainTest, AQuarantineThatIsLockedHoldsUpNoGoodRow) {
  Insert("no good", "k");
  table_.refused = {1};
  Start();
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(drain_->GetStatus().stuck_rows, 1U);
  table_.lockable = false;
  clock_.Advance(Drain::kTryStuckEvery);
  for (int at = 0; at < 25; ++at) Insert("a", "k");
  clock_.Advance(std::chrono::seconds(5));
  ExpectExactlyOnceAndInOrder(25);
}

TEST_F(DrainTest, ARowThatTheQuarantineRefusesHoldsUpNobody) {
  Insert("no good", "k");
  table_.refused = {1};
  for (int at = 0; at < 25; ++at) {
    Insert("a", "k");
    Insert("no good", "k");
  }
  Start();
  clock_.Advance(std::chrono::seconds(5));
  ExpectExactlyOnceAndInOrder(25);
  EXPECT_EQ(table_.rows.size(), 1U);
  EXPECT_EQ(table_.quarantine.size(), 25U);
  EXPECT_EQ(table_.opens, 1) << "connected anew";
  Drain::Status status = drain_->GetStatus();
  EXPECT_EQ(status.stuck_rows, 1U);
  EXPECT_EQ(status.stuck_reason, "no place for 1");
  EXPECT_EQ(status.trouble, "");
  // It is said once, and tried again once in a while.
  const int tries = table_.refusals;
  clock_.Advance(10 * Drain::kTryStuckEvery);
  EXPECT_EQ(table_.refusals, tries + 10);
  table_.refused.clear();
  clock_.Advance(Drain::kTryStuckEvery);
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_EQ(table_.quarantine.size(), 26U);
  status = drain_->GetStatus();
  EXPECT_EQ(status.stuck_rows, 0U);
  EXPECT_EQ(status.stuck_reason, "");
  EXPECT_EQ(status.quarantined_rows, 26U);
}

// Those behind it have been sent by then.
TEST_F(DrainTest, AStuckRowIsNeverSent) {
  Insert("new", "k");
  table_.refused = {1};
  Start();
  clock_.Advance(std::chrono::seconds(70));
  ASSERT_EQ(drain_->GetStatus().stuck_rows, 1U);
  Know({{"outbox.event.new", 1}});
  Insert("new", "k");
  clock_.Advance(2 * Drain::kTryStuckEvery);
  ASSERT_EQ(spooled_.size(), 1U);
  EXPECT_EQ(spooled_[0].second, "000002");
  table_.refused.clear();
  clock_.Advance(Drain::kTryStuckEvery);
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_EQ(table_.quarantine.size(), 1U);
  EXPECT_EQ(spooled_.size(), 1U);
}

TEST_F(DrainTest, WhatTakesThePositionOfAStuckRowIsSentAtOnce) {
  Insert("no good", "k");
  table_.refused = {1};
  Start();
  clock_.Advance(std::chrono::seconds(1));
  ASSERT_EQ(drain_->GetStatus().stuck_rows, 1U);
  table_.rows[1] = {.position = 1, .id = "000009", .route = "a", .key = "k", .payload = "p"};
  clock_.Advance(std::chrono::seconds(1));
  ExpectExactlyOnceAndInOrder(1);
  EXPECT_TRUE(table_.rows.empty());
  clock_.Advance(Drain::kTryStuckEvery);
  EXPECT_EQ(drain_->GetStatus().stuck_rows, 0U);
  EXPECT_TRUE(table_.quarantine.empty());
}

TEST_F(DrainTest, PassesOverSoManyStuckRowsAndNoMore) {
  for (size_t at = 0; at < Drain::kStuckMost + 1; ++at) {
    table_.refused.insert(next_);
    Insert("no good", "k");
  }
  Start();
  clock_.Advance(std::chrono::seconds(30));
  EXPECT_EQ(drain_->GetStatus().stuck_rows, Drain::kStuckMost);
  EXPECT_EQ(drain_->GetStatus().trouble,
            "1000 rows that can be no records are not taken by the quarantine either, and no more "
            "than that are passed over: no place for 1001");
  table_.refused.clear();
  clock_.Advance(2 * Drain::kTryStuckEvery);
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_EQ(drain_->GetStatus().trouble, "");
  EXPECT_EQ(drain_->GetStatus().stuck_rows, 0U);
}

TEST_F(DrainTest, ATableMadeAnewLosesNothing) {
  Insert("a", "k");
  Start();
  ASSERT_TRUE(clock_.RunUntil([&] { return table_.rows.empty(); }));
  drain_.reset();
  // The same position, another event.
  table_.rows[1] = {.position = 1, .id = "999999", .route = "a", .key = "k", .payload = "p"};
  Start();
  ASSERT_TRUE(clock_.RunUntil([&] { return table_.rows.empty(); }));
  ExpectExactlyOnceAndInOrder(2);
}

// As SQLite without AUTOINCREMENT does with an id that is the position. What is kept for longer
// than the row is there would be taken for the next one.
TEST_F(DrainTest, WhatIsNotedIsForgottenOnceTheRowsAreGone) {
  const auto insert = [this] {
    Insert("a", "k");
    spooled_.clear();
    if (drain_) drain_->Nudge();
  };
  const auto pause = [this] {
    loop_.Post([this] { drain_->Pause(); });
    clock_.RunUntilIdle();
    EXPECT_TRUE(table_.rows.empty());
  };
  const auto kill_and_give_the_position_again = [&] {
    drain_.reset();
    --next_;
    insert();
    Start();
    clock_.Advance(std::chrono::seconds(5));
    ExpectExactlyOnceAndInOrder(1);
    EXPECT_TRUE(table_.rows.empty());
  };
  insert();
  Start();
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_FALSE(note_.empty()) << "it says that there was a run before";
  kill_and_give_the_position_again();
  // An agent that stops does not wait for that, also not one that has a row in hand.
  insert();
  ASSERT_TRUE(clock_.RunUntil([&] { return table_.rows.empty(); }));
  pause();
  kill_and_give_the_position_again();
  insert();
  ASSERT_TRUE(clock_.RunUntil([&] { return !spooled_.empty(); }));
  ASSERT_FALSE(table_.rows.empty());
  pause();
  kill_and_give_the_position_again();
  // The spool has no room for a while.
  insert();
  ASSERT_TRUE(clock_.RunUntil([&] { return table_.rows.empty(); }));
  spool_failures_percent_ = 100;
  clock_.Advance(std::chrono::seconds(5));
  spool_failures_percent_ = 0;
  clock_.Advance(std::chrono::seconds(5));
  kill_and_give_the_position_again();
}

// Once with another event at the position, and once with one that cannot be sent.
TEST_F(DrainTest, ATableMadeAnewWhileARowIsInHandLosesNothing) {
  Insert("a", "k");
  Insert("no good", "k");
  on_append_ = [&] {
    on_append_ = {};
    table_.rows.clear();
    table_.rows[1] = {.position = 1, .id = "000003", .route = "a", .key = "k", .payload = "p"};
    table_.rows[2] = {.position = 2, .id = "000004", .route = "a", .key = "k", .payload = "p"};
  };
  Start();
  ASSERT_TRUE(clock_.RunUntil([&] { return spooled_.size() == 3 && table_.rows.empty(); }));
  ExpectExactlyOnceAndInOrder(3);
  EXPECT_TRUE(table_.quarantine.empty());
}

TEST_F(DrainTest, AsksMoreAndMoreRarelyAndAtOnceWhenNudged) {
  Start();
  clock_.Advance(std::chrono::seconds(10));
  const int after_ten = table_.reads;
  EXPECT_LT(after_ten, 30);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(table_.reads, after_ten + 10);
  Insert("a", "k");
  drain_->Nudge();
  clock_.RunUntilIdle();
  EXPECT_TRUE(table_.rows.empty());
  // And is quick for a while.
  const int reads = table_.reads;
  clock_.Advance(std::chrono::milliseconds(20));
  EXPECT_GE(table_.reads, reads + 2);
}

TEST_F(DrainTest, WaitsForTheDatabaseAndSaysSo) {
  table_.reachable = false;
  Insert("a", "k");
  Start();
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_FALSE(drain_->GetStatus().connected);
  EXPECT_EQ(drain_->GetStatus().trouble, "the connection is lost");
  table_.reachable = true;
  clock_.Advance(std::chrono::seconds(11));
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_TRUE(drain_->GetStatus().connected);
  EXPECT_EQ(drain_->GetStatus().trouble, "");
  EXPECT_EQ(metrics_.connected.With("orders").Value(), 1);
}

// As in the tables that `holdfast outbox sql` makes.
TEST_F(DrainTest, ARowWithoutATimestampHasWaitedSinceItWasSeenFirst) {
  spool_failures_percent_ = 100;
  Insert("a", "k");
  const int64_t begun_ms = clock_.wall_clock_ms();
  Start();
  clock_.Advance(std::chrono::minutes(5));
  Insert("a", "k");
  clock_.Advance(std::chrono::minutes(6));
  const auto oldest_ms = [this] {
    return metrics_.oldest_row_timestamp_seconds.With("orders").Value() * 1000;
  };
  EXPECT_NEAR(oldest_ms(), static_cast<double>(begun_ms), 30'000);
  EXPECT_GT(metrics_.partition_lag_seconds.With("orders/0").Value(), 600);
  EXPECT_EQ(metrics_.waiting_rows.With("orders").Value(), 2);
  spool_failures_percent_ = 0;
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_EQ(oldest_ms(), 0);
  EXPECT_EQ(metrics_.partition_lag_seconds.With("orders/0").Value(), 0);
}

TEST_F(DrainTest, TellsOfThePartsThatItOwnsAlone) {
  const auto lag = [this](int part) {
    return metrics_.partition_lag_seconds.With(fmt::format("orders/{}", part)).Value();
  };
  table_.parts = 100;
  spool_failures_percent_ = 100;
  Insert("a", "k");
  Start();
  clock_.Advance(std::chrono::minutes(11));
  EXPECT_GT(lag(99), 600);
  EXPECT_EQ(lag(98), 0);
  // Another agent begins and takes them over.
  table_.owned = false;
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_EQ(lag(99), 0);
  EXPECT_EQ(metrics_.foreign_rows.With("orders").Value(), 1);
}

// As in SQLite without AUTOINCREMENT.
TEST_F(DrainTest, ARowAtThePositionOfOneThatIsGoneHasNotWaitedForThatLong) {
  const auto oldest_ms = [this] {
    return metrics_.oldest_row_timestamp_seconds.With("orders").Value() * 1000;
  };
  const auto expect_young = [&] {
    const int64_t inserted_ms = clock_.wall_clock_ms();
    next_ = 1;
    Insert("a", "k");
    clock_.Advance(std::chrono::seconds(10));
    EXPECT_EQ(table_.rows.size(), 1U);
    EXPECT_NEAR(oldest_ms(), static_cast<double>(inserted_ms), 10'000);
  };
  spool_failures_percent_ = 100;
  Insert("a", "k");
  Start();
  clock_.Advance(std::chrono::minutes(10));
  spool_failures_percent_ = 0;
  ASSERT_TRUE(clock_.RunUntil([&] { return table_.rows.empty(); }));
  EXPECT_GT(oldest_ms(), 0) << "not measured since";
  spool_failures_percent_ = 100;
  expect_young();
  // Of one that somebody else took out, too.
  clock_.Advance(std::chrono::minutes(10));
  table_.rows.clear();
  clock_.Advance(std::chrono::minutes(10));
  expect_young();
}

TEST_F(DrainTest, LeavesRowsOfUnknownTopicsUntilTheTierHasThem) {
  Insert("new", "k");
  Insert("a", "k");
  Start();
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_EQ(table_.rows.size(), 1U);
  EXPECT_TRUE(wanted_.contains("outbox.event.new"));
  EXPECT_EQ(drain_->GetStatus().held, std::vector<std::string>{"new"});
  Know({{"outbox.event.new", 1}});
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(table_.rows.empty());
  Insert("never", "k");
  clock_.Advance(std::chrono::seconds(50));
  clock_.SetWallClockMs(clock_.wall_clock_ms() + 3'600'000);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(table_.rows.size(), 1U) << "the clock was set, no time has gone by";
  clock_.Advance(std::chrono::seconds(15));
  EXPECT_TRUE(table_.rows.empty());
  ASSERT_EQ(table_.quarantine.size(), 1U);
  EXPECT_NE(table_.quarantine.begin()->second.find("outbox.event.never"), std::string::npos);
  EXPECT_EQ(metrics_.quarantined_rows.With("orders").Value(), 1U);
}

TEST_F(DrainTest, ATopicThatBecomesKnownDuringAReadLetsNoRowOvertakeAnother) {
  topic_ = "all";
  Insert("a", "k");
  Start();
  clock_.RunUntilIdle();
  ASSERT_EQ(drain_->GetStatus().held, std::vector<std::string>{"a"});
  Insert("b", "k");  // To the same topic by another route.
  table_.on_read = [this] {
    table_.on_read = {};
    Know({{"all", 1}});
  };
  clock_.Advance(std::chrono::seconds(1));
  ExpectExactlyOnceAndInOrder(2);
}

TEST_F(DrainTest, LooksAgainAtRowsOfUnknownTopicsThoughTheServiceIsQuiet) {
  table_.tells_changes = true;
  Insert("new", "k");
  Start();
  clock_.Advance(std::chrono::seconds(2));
  EXPECT_EQ(table_.rows.size(), 1U);
  Know({{"outbox.event.new", 1}});
  clock_.Advance(std::chrono::seconds(1));
  EXPECT_TRUE(table_.rows.empty());
  ExpectExactlyOnceAndInOrder(1);
  Insert("never", "k");
  clock_.Advance(std::chrono::seconds(70));
  EXPECT_EQ(table_.quarantine.size(), 1U);
  const int reads = table_.reads;
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_EQ(table_.reads, reads) << "nothing was committed";
}

TEST_F(DrainTest, StopsBetweenRowsAndTellsTheSourceHow) {
  for (int at = 0; at < 100; ++at) Insert("a", "k");
  Start();
  ASSERT_TRUE(clock_.RunUntil([&] { return spooled_.size() >= 30; }));
  loop_.Post([&] { drain_->Pause(); });
  clock_.RunUntilIdle();
  const size_t taken = spooled_.size();
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_EQ(spooled_.size(), taken);
  EXPECT_EQ(table_.rows.size(), 100 - taken) << "rows in hand were not removed";
  loop_.Post([&] { drain_->Close(/*clean=*/true); });
  clock_.RunUntilIdle();
  EXPECT_TRUE(table_.clean);
}

}  // namespace
}  // namespace holdfast::outbox
