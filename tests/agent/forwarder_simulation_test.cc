// Delivery to a tier as Kafka is on bad days: whatever comes together, by a seed, each partition
// arrives whole, in order and once.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/forwarder.h"
#include "base/random.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using test::ScriptedTier;
using Fault = ScriptedTier::Fault;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr base::Duration kExpiration = hours(24);
constexpr std::array<std::pair<const char*, int32_t>, 3> kPartitions{
    {{"a", 0}, {"a", 1}, {"b", 0}}};

class ForwarderSimulationTest : public AgentFixture, public testing::WithParamInterface<uint64_t> {
 protected:
  ForwarderSimulationTest() {
    tier_.by_record_time = true;
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
    Begin();
    tier_.Connect();
  }
  ~ForwarderSimulationTest() override { End(); }

  void Begin() {
    forwarder_ = std::make_unique<Forwarder>(
        Forwarder::Context{loop_, *spool_, tier_, cache_, metrics_}, options_, log_->kept(), 1);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    tier_.SetObserver(forwarder_.get());
    forwarder_->Start();
  }
  void End() {
    tier_.SetObserver(nullptr);
    Break();
    on_durable_ = {};
    forwarder_.reset();
    clock_.RunUntilIdle();
  }

  void Step() {
    const uint64_t what = random_.Below(100);
    // Followers that hang while the tier forgets a producer leave what nobody can ask for or read.
    if (stalled_ && what >= 82 && what < 87) return;
    if (what < 40) return ProduceSome();
    if (what < 65) return PassTime();
    if (what < 75) return AddFault();
    if (what < 79) return BreakConnection();
    if (what < 82) return CrashAgent();
    if (what < 84) return RestartTier();
    if (what < 87) return tier_.ExpireProducers(kExpiration);
    if (what < 90) return Stall(!stalled_);
    if (what < 92) return FailOver();
    if (what < 95) return tier_.ServeStranded();
    tier_.latency = milliseconds(std::array{0, 1, 20}[random_.Below(3)]);
  }

  void ProduceSome() {
    const auto& [topic, partition] = kPartitions[random_.Below(kPartitions.size())];
    std::vector<std::string>& sent = sent_[{topic, partition}];
    for (uint64_t batches = 1 + random_.Below(4); batches > 0; --batches) {
      Batch batch;
      for (uint64_t records = 1 + random_.Below(3); records > 0; --records) {
        batch.values.push_back(std::to_string(sent.size()));
        sent.push_back(batch.values.back());
      }
      if (!late_requests_ && random_.Below(20) == 0) {
        batch.timestamp = clock_.wall_clock_ms() - Milliseconds(hours(10 + random_.Below(40)));
      }
      ASSERT_EQ(Produce(topic, partition, batch).error, ErrorCode::kNone);
    }
  }
  void PassTime() {
    if (!stalled_ && random_.Below(50) == 0) {
      tier_.ServeStranded();
      return clock_.Advance(hours(3 + random_.Below(30)));
    }
    if (random_.Below(10) == 0) return clock_.Advance(seconds(1 + random_.Below(20)));
    clock_.Advance(milliseconds(random_.Below(60)));
  }
  // While followers hang nothing is good.
  Fault AnyFault() {
    constexpr std::array kNotStored{
        ErrorCode::kNotEnoughReplicas,       ErrorCode::kNotLeaderOrFollower,
        ErrorCode::kRequestTimedOut,         ErrorCode::kUnknownServerError,
        ErrorCode::kUnknownTopicOrPartition, ErrorCode::kCorruptMessage};
    constexpr std::array kStored{ErrorCode::kNotEnoughReplicasAfterAppend,
                                 ErrorCode::kNotLeaderOrFollower, ErrorCode::kRequestTimedOut};
    switch (random_.Below(4)) {
      case 0:
        return {.kind = Fault::kLoseRequest};
      case 1:
        return {.kind = Fault::kLoseAnswer};
      case 2:
        return {Fault::kRefuse, kNotStored[random_.Below(kNotStored.size())]};
      default:
        return {Fault::kStoreRefuse, kStored[random_.Below(kStored.size())]};
    }
  }
  void AddFault() {
    for (uint64_t good = random_.Below(3); good > 0 && !stalled_; --good)
      tier_.faults.push_back({});
    tier_.faults.push_back(AnyFault());
  }
  void BreakConnection() {
    Break();
    if (random_.Below(2) == 0) tier_.Connect();
  }
  void Break() {
    // Of what is nearly as old as that nothing comes late: no client can tell a tier that has
    // forgotten it by then (docs/delivery.md, what is not promised).
    const int64_t since_ms = clock_.wall_clock_ms() - Milliseconds(kExpiration - hours(1));
    if (late_requests_ && random_.Below(2) == 0) return tier_.Strand(since_ms);
    tier_.Disconnect();
  }
  void CrashAgent() {
    End();
    ReopenSpool();
    Begin();
    if (random_.Below(2) == 0) tier_.Connect();
  }
  void RestartTier() {
    tier_.Disconnect();
    tier_.ForgetAllButLastBatches();
    tier_.ExpireProducers(kExpiration);
    tier_.Connect();
  }
  // Followers hang, or are there again.
  void Stall(bool stalled) {
    stalled_ = stalled;
    tier_.faults.clear();
    for (auto& [name, log] : tier_.logs) {
      log.high_watermark = stalled ? log.end : std::numeric_limits<int64_t>::max();
    }
    for (int fault = 0; stalled && fault < 10'000; ++fault) tier_.faults.push_back(AnyFault());
  }
  void FailOver() {
    tier_.Disconnect();
    tier_.FailOver();
    tier_.ExpireProducers(kExpiration);
    Stall(false);
    tier_.Connect();
  }

  static int64_t Milliseconds(base::Duration duration) {
    return std::chrono::duration_cast<milliseconds>(duration).count();
  }

  test::ManualExecutor loop_{clock_};
  proxy::MetadataCache cache_{{}};
  ScriptedTier tier_{loop_, cache_};
  Forwarder::Options options_;
  std::unique_ptr<Forwarder> forwarder_;
  base::Random random_{GetParam()};
  bool stalled_ = false;
  // Requests of connections that broke come later, with every other seed. With the rest there are
  // records so old that the tier forgets their producer at once, and takes whatever comes late.
  const bool late_requests_ = GetParam() % 2 == 0;
  std::map<std::pair<std::string, int32_t>, std::vector<std::string>> sent_;
};

TEST_P(ForwarderSimulationTest, AllArrivesOnceAndInOrder) {
  for (int step = 0; step < 400; ++step) {
    Step();
    if (HasFatalFailure()) return;
  }
  Stall(false);
  tier_.ServeStranded();
  for (int wait = 0; wait < 10; ++wait) {
    tier_.Connect();
    clock_.Advance(seconds(30));
  }
  for (const auto& [name, sent] : sent_) {
    EXPECT_EQ(tier_.Values(name.first, name.second), sent) << name.first << "/" << name.second;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ForwarderSimulationTest, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace holdfast::agent
