// Delivery in transactions to several brokers, of which one is sick or all are far away.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "agent/forwarder.h"
#include "agent/transaction_lane.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_cluster.h"

namespace holdfast::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Values = std::vector<std::string>;

constexpr base::Duration kTimeout = seconds(30);

class TransactionClusterTest : public AgentFixture, public testing::WithParamInterface<bool> {
 protected:
  TransactionClusterTest() {
    lane_options_.mode = DeliveryMode::kTransactional;
    for (int32_t node = 1; node <= test::ScriptedCluster::kNodes; ++node) {
      cluster_.AddTopic(On(node), 1);
      cluster_.Lead({On(node), 0}, node);
    }
  }
  ~TransactionClusterTest() override {
    cluster_.SetObserver(nullptr);
    cluster_.Drop();
    lane_->Stop();
    forwarder_->Stop();
    on_durable_ = {};
    lane_.reset();
    forwarder_.reset();
    clock_.RunUntilIdle();
  }

  void Begin() {
    lane_ = std::make_unique<TransactionLane>(
        TransactionLane::Context{loop_, *spool_, cluster_, cache_, metrics_}, lane_options_,
        log_->kept().transactions, 1);
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = cluster_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get(),
                                                                .lane = lane_.get()},
                                             Forwarder::Options(), log_->kept(), 1);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    cluster_.SetObserver(forwarder_.get());
    forwarder_->Start();
    clock_.RunUntilIdle();
  }

  // The topic whose partition that node leads.
  static std::string On(int32_t node) { return "t" + std::to_string(node); }
  Values At(int32_t node) { return cluster_.Committed({On(node), 0}); }
  void ProduceOn(int32_t node, const std::string& value) {
    ASSERT_EQ(Produce(On(node), 0, Values{value}).error, kafka::ErrorCode::kNone);
  }

  test::ManualExecutor loop_{clock_};
  test::ManualExecutor brokers_{clock_};
  proxy::MetadataCache cache_{{}};
  test::ScriptedCluster cluster_{loop_, brokers_, cache_, {.second = GetParam(), .seed = 1}};
  TransactionLane::Options lane_options_;
  std::unique_ptr<TransactionLane> lane_;
  std::unique_ptr<Forwarder> forwarder_;
};

// It is none of those that coordinate.
TEST_P(TransactionClusterTest, ABrokerThatDoesNotAnswerHoldsUpItsOwnPartitionsOnly) {
  cluster_.answer_within = kTimeout;
  Begin();
  cluster_.Connect();
  cluster_.silent = {3};
  Values all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(std::to_string(i));
    for (const int32_t node : {1, 2, 3}) ProduceOn(node, all.back());
    clock_.Advance(2 * kTimeout);
    ASSERT_EQ(At(1), all);
    ASSERT_EQ(At(2), all);
    ASSERT_EQ(At(3), Values{});
  }
  cluster_.silent.clear();
  clock_.Advance(minutes(2));
  EXPECT_EQ(At(3), all);
}

// Rounds of those that have failed may be so small that one of them fills it.
TEST_P(TransactionClusterTest, ABrokerThatDoesNotAnswerKeepsNobodyElseOutOfWhatIsTried) {
  cluster_.answer_within = kTimeout;
  Begin();
  cluster_.Connect();
  cluster_.silent = {3};
  ProduceOn(1, "0");
  ProduceOn(3, std::string(size_t{64} << 10, '.'));
  clock_.Advance(minutes(2));
  cluster_.short_of_replicas[On(2)] = 2;
  ProduceOn(2, "0");
  Values all{"0"};
  for (int i = 1; i < 60; ++i) {
    all.push_back(std::to_string(i));
    ProduceOn(1, all.back());
    clock_.Advance(seconds(5));
  }
  clock_.Advance(kTimeout);
  EXPECT_EQ(At(1), all);
  EXPECT_EQ(At(2), Values{"0"});
  EXPECT_EQ(At(3), Values{});
}

TEST_P(TransactionClusterTest, OnASlowLinkRoundsBecomeSmallerUntilTheyGetThrough) {
  cluster_.bytes_per_second = 50'000;
  cluster_.answer_within = kTimeout;
  Begin();
  // 84 seconds, and the tier ends what is open after 60.
  for (int i = 0; i < 64; ++i) ProduceOn(3, std::string(size_t{64} << 10, '.'));
  cluster_.Connect();
  clock_.Advance(minutes(6));
  EXPECT_EQ(At(3).size(), 64);
  // Of the five that are in flight together the last one is not answered in time.
  cluster_.bytes_per_second = 10'000;
  for (int i = 0; i < 16; ++i) ProduceOn(3, std::string(size_t{64} << 10, '.'));
  clock_.Advance(minutes(10));
  EXPECT_EQ(At(3).size(), 80);
}

// It is not one broker that is slow, but the way to all.
TEST_P(TransactionClusterTest, OnASlowLinkRoundsOfManyPartitionsGetThroughToo) {
  constexpr int32_t kPartitions = 64;
  cluster_.AddTopic("many", kPartitions);
  for (int32_t at = 0; at < kPartitions; ++at) {
    cluster_.Lead({"many", at}, 1 + at % test::ScriptedCluster::kNodes);
  }
  cluster_.one_link = true;
  cluster_.bytes_per_second = 30'000;  // 1 MiB takes 35 seconds.
  cluster_.answer_within = kTimeout;
  Begin();
  for (int32_t at = 0; at < kPartitions; ++at) {
    ASSERT_EQ(Produce("many", at, Values{std::string(size_t{64} << 10, '.')}).error,
              kafka::ErrorCode::kNone);
  }
  cluster_.Connect();
  clock_.Advance(minutes(15));
  size_t there = 0;
  for (int32_t at = 0; at < kPartitions; ++at) there += cluster_.Committed({"many", at}).size();
  EXPECT_EQ(there, kPartitions);
}

TEST_P(TransactionClusterTest, ACoordinatorThatDiesUnaskedIsLookedUpAnew) {
  Begin();
  cluster_.Connect();
  Values all;
  const auto deliver = [&] {
    all.push_back(std::to_string(all.size()));
    ProduceOn(3, all.back());
    clock_.Advance(seconds(3));
    EXPECT_EQ(At(3), all);
  };
  deliver();
  for (const int32_t node : {1, 2}) {
    cluster_.Kill(node);
    clock_.Advance(seconds(1));
    deliver();
    cluster_.Revive();
    cluster_.Connect();
    deliver();
  }
}

INSTANTIATE_TEST_SUITE_P(Protocols, TransactionClusterTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Second" : "First"; });

}  // namespace
}  // namespace holdfast::agent
