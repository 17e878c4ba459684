// What the tests of transactions share: an agent's forwarder, lane and local coordinator on a real
// spool and a scripted tier, all of which survive a kill as they would.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/forwarder.h"
#include "agent/local_transactions.h"
#include "agent/transaction_lane.h"
#include "tests/agent/agent_fixture.h"
#include "tests/support/scripted_tier.h"

namespace holdfast::agent {

class TransactionsFixture : public AgentFixture {
 protected:
  using Values = std::vector<std::string>;
  using Producer = proxy::LocalTransactions::Producer;
  using Protocol = proxy::LocalTransactions::Protocol;

  explicit TransactionsFixture(bool second)
      : protocol_(second ? Protocol::kSecond : Protocol::kFirst), transactions_(second) {
    tier_.transactions = &transactions_;
    tier_.AddTopic("a", 2);
    tier_.AddTopic("b", 1);
    cache_.Learn(transactions_.ApiVersions());
    options_.rules = {{.pattern = "local-*", .local = true}};
  }
  ~TransactionsFixture() override { End(); }

  void Begin() {
    lane_ = std::make_unique<TransactionLane>(
        TransactionLane::Context{loop_, *spool_, tier_, cache_, metrics_}, lane_options_,
        log_->kept().transactions, 1);
    forwarder_ = std::make_unique<Forwarder>(Forwarder::Context{.loop = loop_,
                                                                .spool = *spool_,
                                                                .tier = tier_,
                                                                .cache = cache_,
                                                                .metrics = metrics_,
                                                                .records = log_.get(),
                                                                .acks = acks_.get(),
                                                                .lane = lane_.get()},
                                             forward_options_, log_->kept(), 1);
    local_ = std::make_unique<LocalTransactions>(
        LocalTransactions::Context{loop_, *spool_, cache_, *log_, *lane_, *forwarder_, metrics_},
        options_, log_->kept().transactions.producers);
    on_durable_ = [this](std::span<const spool::StreamId> streams) {
      forwarder_->NoteDurable(streams);
    };
    tier_.SetObserver(forwarder_.get());
    forwarder_->Start();
    clock_.RunUntilIdle();
  }
  void End() {
    if (!forwarder_) return;
    if (acks_) acks_->Close();
    tier_.SetObserver(nullptr);
    lane_->Stop();
    tier_.Disconnect();
    on_durable_ = {};
    local_.reset();
    lane_.reset();
    forwarder_.reset();
    clock_.RunUntilIdle();
  }
  void CrashAndRestart() {
    End();
    ReopenSpool();
    Begin();
  }
  // As Upstream does some time after a connection was lost.
  void Reconnect() {
    tier_.Connect();
    clock_.Advance(std::chrono::seconds(20));
  }

  struct Ended {
    kafka::ErrorCode error = kafka::ErrorCode::kUnknownServerError;
    Producer producer;
  };
  Ended Init(const std::string& id = "local-1", int32_t timeout_ms = 60000, Producer known = {}) {
    Ended ended;
    local_->InitProducer({id, principal_}, timeout_ms, known,
                         [&](kafka::ErrorCode error, Producer producer) {
                           ended = {error, producer};
                         });
    clock_.RunUntilIdle();
    if (ended.error == kafka::ErrorCode::kNone) producer_ = ended.producer;
    sequences_.clear();
    return ended;
  }
  // In the open transaction, which is begun if need be.
  kafka::ErrorCode Put(const std::string& topic, int32_t partition, const Values& values,
                       const std::string& id = "local-1") {
    if (protocol_ == Protocol::kFirst) {
      kafka::ErrorCode error = kafka::ErrorCode::kUnknownServerError;
      local_->AddPartitions({id, principal_}, producer_, {{topic, partition}},
                            [&](kafka::ErrorCode code) { error = code; });
      clock_.RunUntilIdle();
      if (error != kafka::ErrorCode::kNone) return error;
    }
    int32_t& sequence = sequences_[{topic, partition}];
    const kafka::ErrorCode error = PutAt(topic, partition, values, sequence, id);
    if (error == kafka::ErrorCode::kNone) sequence += static_cast<int32_t>(values.size());
    return error;
  }
  kafka::ErrorCode PutAt(const std::string& topic, int32_t partition, const Values& values,
                         int32_t sequence, const std::string& id = "local-1") {
    kafka::RecordBatchBuilder builder(
        {.producer = {.id = producer_.id, .epoch = producer_.epoch, .base_sequence = sequence},
         .transactional = true});
    for (const std::string& value : values) {
      builder.Add({.timestamp = clock_.wall_clock_ms(), .value = value});
    }
    kafka::ErrorCode& error = answers_.emplace_back(kafka::ErrorCode::kUnknownServerError);
    auto request = std::make_unique<Appended>(error, topic, std::move(builder).Build());
    request->client = client_;
    request->entries.push_back(
        {.topic = request->topic, .partition = partition, .batch = request->bytes});
    local_->Append({id, principal_}, protocol_, std::move(request));
    clock_.RunUntilIdle();
    return error;
  }
  Ended EndTransaction(bool commit, std::optional<Producer> as = {},
                       const std::string& id = "local-1") {
    Ended ended;
    local_->End({id, principal_}, as.value_or(producer_), commit, protocol_,
                [&](kafka::ErrorCode error, Producer producer) {
                  ended = {error, producer};
                });
    clock_.RunUntilIdle();
    if (ended.error == kafka::ErrorCode::kNone && !as) {
      if (ended.producer != producer_) sequences_.clear();
      producer_ = ended.producer;
    }
    return ended;
  }
  void SetPolicies(std::vector<Policies::TopicRule> topics,
                   std::vector<Policies::ClientRule> clients = {}) {
    const auto policies = std::make_shared<const Policies>(std::move(topics), std::move(clients));
    log_->SetPolicies(policies);
    forwarder_->SetPolicies(policies);
    clock_.RunUntilIdle();
  }
  kafka::ErrorCode Commit() { return EndTransaction(true).error; }
  kafka::ErrorCode Abort() { return EndTransaction(false).error; }
  int64_t Backlog() {
    clock_.Advance(std::chrono::seconds(20));
    return forwarder_->GetStatus().backlog_records;
  }

  const Protocol protocol_;
  test::ManualExecutor loop_{clock_};
  proxy::MetadataCache cache_{{}};
  test::ScriptedTransactions transactions_;
  test::ScriptedTier tier_{loop_, cache_};
  TransactionLane::Options lane_options_;
  Forwarder::Options forward_options_;
  LocalTransactions::Options options_;
  std::unique_ptr<WaitingAcks> acks_;  // None: nobody waits for the tier.
  std::unique_ptr<TransactionLane> lane_;
  std::unique_ptr<Forwarder> forwarder_;
  std::unique_ptr<LocalTransactions> local_;
  std::string principal_;  // Who asks.
  Producer producer_;
  std::map<std::pair<std::string, int32_t>, int32_t> sequences_;
  std::string client_;                    // As whom batches are put.
  std::deque<kafka::ErrorCode> answers_;  // To them, in their order; kUnknownServerError: none yet.

 private:
  struct Appended final : proxy::SinkRequest {
    Appended(kafka::ErrorCode& to, std::string name, std::string batch)
        : error(to), topic(std::move(name)), bytes(std::move(batch)) {}
    void Complete(std::unique_ptr<SinkRequest> /*self*/) override { error = entries[0].error; }
    kafka::ErrorCode& error;
    std::string topic;
    std::string bytes;
  };
};

}  // namespace holdfast::agent
