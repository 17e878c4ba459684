// What the simulations of delivery share: a tier as Kafka is on bad days, and an agent that is
// killed now and then, both by a seed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/forwarder.h"
#include "base/random.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::agent {

class DeliverySimulation : public AgentFixture {
 protected:
  using ErrorCode = kafka::ErrorCode;
  using Fault = test::ScriptedTier::Fault;
  using hours = std::chrono::hours;
  using milliseconds = std::chrono::milliseconds;
  using seconds = std::chrono::seconds;
  static constexpr base::Duration kExpiration = hours(24);
  static constexpr std::array<std::pair<const char*, int32_t>, 3> kPartitions{
      {{"a", 0}, {"a", 1}, {"b", 0}}};

  DeliverySimulation(uint64_t seed, bool late_requests)
      : random_(seed), late_requests_(late_requests) {
    tier_.by_record_time = true;
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
  }
  ~DeliverySimulation() override { End(); }

  virtual void Begin() {
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = tier_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get(),
                                                                .lane = lane_.get()},
                                             options_, log_->kept(), 1);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      OnDurable();
      forwarder_->NoteDurable(streams);
    };
    tier_.SetObserver(forwarder_.get());
    forwarder_->Start();
  }
  void End() {
    tier_.SetObserver(nullptr);
    if (lane_) lane_->Stop();
    Break();
    on_durable_ = {};
    lane_.reset();
    forwarder_.reset();
    clock_.RunUntilIdle();
  }
  // The spool has more.
  virtual void OnDurable() {}

  virtual void Step() {
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

  virtual void ProduceSome() {
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
  virtual void PassTime(base::Duration duration) { clock_.Advance(duration); }
  void PassTime() {
    if (!stalled_ && random_.Below(50) == 0) {
      tier_.ServeStranded();
      return PassTime(hours(3 + random_.Below(30)));
    }
    if (random_.Below(10) == 0) return PassTime(seconds(1 + random_.Below(20)));
    PassTime(milliseconds(random_.Below(60)));
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
  virtual void CrashAgent() {
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
  test::ScriptedTier tier_{loop_, cache_};
  Forwarder::Options options_;
  std::unique_ptr<TransactionLane> lane_;  // None: nothing goes in transactions.
  std::unique_ptr<Forwarder> forwarder_;
  base::Random random_;
  bool stalled_ = false;
  // Requests of connections that broke come later. Where they do not there are records so old that
  // the tier forgets their producer at once, and takes whatever comes late.
  const bool late_requests_;
  std::map<std::pair<std::string, int32_t>, std::vector<std::string>> sent_;
};

}  // namespace holdfast::agent
