// Outbox sources on a spool that others use, too: with a bytes_max, and with what is stuck there.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/forwarder.h"
#include "agent/outbox/drain.h"
#include "tests/agent/agent_fixture.h"
#include "tests/agent/table_source.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::outbox {
namespace {

using agent::Forwarder;
using agent::Policies;
using std::chrono::seconds;
using Values = std::vector<std::string>;

class OutboxRoomTest : public agent::AgentFixture {
 protected:
  OutboxRoomTest() {
    tier_.AddTopic("full", 1);
    tier_.AddTopic("other", 1);
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = tier_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get()},
                                             Forwarder::Options(), log_->kept(), 1);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    tier_.SetObserver(forwarder_.get());
    forwarder_->Start();
    drain_ = std::make_unique<Drain>(
        Drain::Context{
            .loop = loop_,
            .cache = cache_,
            .metrics = outbox_metrics_,
            .append = [this](auto append,
                             auto done) { log_->AppendNoted(std::move(append), std::move(done)); },
            .want_topic = [](const std::string&) {},
            .want_settings = [](const std::string&) {},
            .taken = std::make_shared<Drain::Taken>(
                [this](std::vector<agent::StreamEnd> ends) {
                  return forwarder_->Undelivered(std::move(ends));
                },
                std::vector<agent::StreamEnd>())},
        Drain::Options{.name = "orders"}, *Router::Make({.topic = "${topic}"}),
        std::make_unique<test::TableSource>(table_), "");
  }
  ~OutboxRoomTest() override {
    drain_.reset();
    tier_.SetObserver(nullptr);
    tier_.Disconnect();
    on_durable_ = {};
    log_->Close();
    clock_.RunUntilIdle();
    forwarder_.reset();
    clock_.RunUntilIdle();
  }

  void SetPolicies(std::vector<Policies::TopicRule> topics,
                   std::vector<Policies::ClientRule> clients = {}) {
    log_->SetPolicies(std::make_shared<const Policies>(std::move(topics), std::move(clients)));
    clock_.RunUntilIdle();
  }
  // Rows of about ten kilobytes; two routes, which share the topic.
  void Insert(const std::string& topic, int rows) {
    for (int i = 0; i < rows; ++i) {
      const int64_t position = next_++;
      const std::string id = fmt::format("{:06}", position);
      table_.rows[position] = {.position = position,
                               .id = id,
                               .route = fmt::format("{}-{}", topic, position % 2),
                               .key = "key",
                               .payload = id + std::string(10'000, '.'),
                               .fields = {{"topic", topic}}};
      inserted_[topic].push_back(id);
    }
  }
  Values Arrived(const std::string& topic) {
    Values ids = tier_.Values(topic, 0);
    for (std::string& id : ids) id.resize(6);
    return ids;
  }
  size_t WaitingIn(const std::string& topic) {
    return static_cast<size_t>(log_->usage().Topic(topic).held);
  }

  test::ManualExecutor loop_{clock_};
  metrics::OutboxMetrics outbox_metrics_{registry_};
  proxy::MetadataCache cache_{{}};
  test::ScriptedTier tier_{loop_, cache_};
  test::Table table_;
  int64_t next_ = 1;
  std::map<std::string, Values> inserted_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<Drain> drain_;
};

TEST_F(OutboxRoomTest, MoreThanATopicMayHaveComesInPartsAndInOrder) {
  SetPolicies({{.pattern = "full", .policy = {.bytes_max = 1'000'000}}});
  Insert("full", 300);
  Insert("other", 1);
  tier_.Connect();
  drain_->Start();
  clock_.Advance(seconds(10));
  EXPECT_TRUE(table_.rows.empty());
  EXPECT_EQ(Arrived("full"), inserted_["full"]);
  EXPECT_EQ(Arrived("other"), inserted_["other"]);
  EXPECT_EQ(drain_->GetStatus().trouble, "");
}

TEST_F(OutboxRoomTest, WhatIsTakenCountsAsWhatComesIn) {
  Insert("other", 7);
  drain_->Start();
  clock_.Advance(seconds(2));
  ASSERT_TRUE(table_.rows.empty());
  EXPECT_EQ(metrics_.accepted_records.Value(), 7);
  EXPECT_EQ(metrics_.acknowledged_records.Value(), 7);
  EXPECT_EQ(metrics_.acknowledged_bytes.Value(), WaitingIn("other"));
}

TEST_F(OutboxRoomTest, AFullTopicDoesNotHoldUpOthers) {
  SetPolicies({{.pattern = "full", .policy = {.bytes_max = 1'000'000}}});
  Insert("full", 150);
  drain_->Start();
  clock_.Advance(seconds(10));
  EXPECT_GT(WaitingIn("full"), 900'000U);
  EXPECT_LE(WaitingIn("full"), 1'000'000U);
  EXPECT_NE(drain_->GetStatus().trouble.find("topic full"), std::string::npos);
  EXPECT_TRUE(drain_->GetStatus().held.empty()) << "its topic is known";
  EXPECT_TRUE(drain_->GetStatus().connected);
  const size_t left = table_.rows.size();
  Insert("other", 20);
  clock_.Advance(seconds(2));
  EXPECT_EQ(table_.rows.size(), left);
  tier_.Connect();
  clock_.Advance(seconds(5));
  EXPECT_EQ(Arrived("full"), inserted_["full"]);
  EXPECT_EQ(Arrived("other"), inserted_["other"]);
}

TEST_F(OutboxRoomTest, WhatIsLargerThanTheLimitComesAlone) {
  SetPolicies({{.pattern = "full", .policy = {.bytes_max = 5000}}});
  Insert("full", 60);
  tier_.Connect();
  drain_->Start();
  clock_.Advance(seconds(60));
  EXPECT_EQ(Arrived("full"), inserted_["full"]);
}

TEST_F(OutboxRoomTest, MoreThanItsClientMayHaveComesInPartsAndInOrder) {
  SetPolicies({}, {{.pattern = "outbox/*", .policy = {.bytes_max = 1'000'000}}});
  Insert("full", 150);
  Insert("other", 150);
  drain_->Start();
  clock_.Advance(seconds(10));
  EXPECT_GT(WaitingIn("full"), 900'000U);
  EXPECT_EQ(WaitingIn("other"), 0U);
  tier_.Connect();
  clock_.Advance(seconds(10));
  EXPECT_EQ(Arrived("full"), inserted_["full"]);
  EXPECT_EQ(Arrived("other"), inserted_["other"]);
}

TEST_F(OutboxRoomTest, IsHandedOverThoughSomethingElseIsStuck) {
  Produce("unknown", 0, Values{"stuck"});
  tier_.Connect();
  Insert("other", 10);
  drain_->Start();
  bool delivered = false;
  loop_.Post([&] { drain_->WhenDelivered([&] { delivered = true; }); });
  clock_.Advance(seconds(1));
  EXPECT_TRUE(delivered);
  EXPECT_EQ(Arrived("other"), inserted_["other"]);
  EXPECT_GT(forwarder_->Backlog(), 0);
  drain_->Close(/*handed_over=*/true);
  EXPECT_TRUE(table_.clean);
}

TEST_F(OutboxRoomTest, IsNotHandedOverBeforeTheTierHasIt) {
  Insert("other", 10);
  drain_->Start();
  clock_.Advance(seconds(1));
  EXPECT_TRUE(table_.rows.empty());
  drain_->Close(/*handed_over=*/true);
  EXPECT_FALSE(table_.clean);
}

TEST_F(OutboxRoomTest, WhatWaitedBeforeCountsForAnEarlierRun) {
  Produce("unknown", 0, Values{"stuck"});
  Produce("other", 0, Values{"delivered"});
  tier_.Connect();
  const std::vector<agent::StreamEnd> waiting = forwarder_->Waiting();
  EXPECT_EQ(waiting.size(), 2U);
  clock_.Advance(seconds(1));
  Drain::Taken taken(
      [this](std::vector<agent::StreamEnd> ends) {
        return forwarder_->Undelivered(std::move(ends));
      },
      waiting);
  EXPECT_FALSE(taken.Delivered());
  tier_.AddTopic("unknown", 1);
  clock_.Advance(seconds(30));
  Produce("other", 0, Values{"newer"});
  EXPECT_TRUE(taken.Delivered());
}

}  // namespace
}  // namespace holdfast::outbox
