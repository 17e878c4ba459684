// What a scripted tier has of transactions: the coordinator of one transactional id and the group
// that its progress is kept in, in both forms of the protocol. Aborted batches leave the logs, so
// that these hold what a read_committed consumer sees once the transaction has ended.
//
//   ScriptedTransactions transactions(/*second=*/true);
//   tier.transactions = &transactions;
//   cache.Learn(transactions.ApiVersions());
//
// Threads: that of the tier.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/codec.h"
#include "kafka/record_batch.h"
#include "tests/support/transaction_versions.h"

namespace holdfast::test {

class ScriptedTransactions {
 public:
  using Partition = std::pair<std::string, int32_t>;
  using Log = std::vector<std::string>;
  enum class Fault : uint8_t { kNone, kLoseRequest, kLoseAnswer, kFence };
  enum class Served : uint8_t { kAnswered, kLost };

  static constexpr int32_t kNode = 1;

  explicit ScriptedTransactions(bool second) : second_(second) {}

  [[nodiscard]] kafka::ApiVersionsResponse ApiVersions() const {
    return TransactionVersions(second_);
  }

  // Whether a transactional batch may be stored.
  kafka::ErrorCode Check(const Partition& partition, std::string_view batch) {
    const kafka::BatchHeader header = kafka::RecordBatchView(batch).header();
    if (!header.transactional()) return kafka::ErrorCode::kNone;
    if (header.producer.id != producer_id || header.producer.epoch != epoch) {
      return kafka::ErrorCode::kInvalidProducerEpoch;
    }
    if (busy_answers > 0) {
      --busy_answers;
      return kafka::ErrorCode::kConcurrentTransactions;
    }
    if (!second_ && !added_.contains(partition)) return kafka::ErrorCode::kInvalidTxnState;
    return kafka::ErrorCode::kNone;
  }
  // It is deleted, and with it what the group has of it.
  void Forget(const Partition& partition, const Log& log) {
    progress.erase(partition);
    metadata.erase(partition);
    pending_.erase(partition);
    std::erase_if(open_, [&](const auto& one) { return one.first == &log; });
  }
  // The tier ends what is open for too long, and fences who began it.
  void TimeOut() { Init(); }
  void Stored(Log& log) { open_.emplace_back(&log, log.back()); }
  // Of the transaction that is open.
  [[nodiscard]] bool AnyStored() const { return !open_.empty(); }

  // None: not one of its APIs.
  template <class Answer>
  std::optional<Served> Serve(std::string_view frame, const kafka::RequestHeader& header,
                              Answer answer) {
    if (header.api_key != kafka::DescribeConfigsRequest::kApi.key) asked.push_back(header.api_key);
    switch (header.api_key) {
      case kafka::FindCoordinatorRequest::kApi.key:
        answer(Find(*kafka::DecodeRequest<kafka::FindCoordinatorRequest>(frame, header)));
        return Served::kAnswered;
      case kafka::InitProducerIdRequest::kApi.key:
        answer(Init());
        return Served::kAnswered;
      case kafka::AddPartitionsToTxnRequest::kApi.key:
        answer(Add(*kafka::DecodeRequest<kafka::AddPartitionsToTxnRequest>(frame, header)));
        return Served::kAnswered;
      case kafka::AddOffsetsToTxnRequest::kApi.key:
        answer(kafka::AddOffsetsToTxnResponse());
        return Served::kAnswered;
      case kafka::TxnOffsetCommitRequest::kApi.key:
        answer(Store(*kafka::DecodeRequest<kafka::TxnOffsetCommitRequest>(frame, header)));
        return Served::kAnswered;
      case kafka::OffsetFetchRequest::kApi.key:
        answer(Fetch(*kafka::DecodeRequest<kafka::OffsetFetchRequest>(frame, header)));
        return Served::kAnswered;
      case kafka::DescribeConfigsRequest::kApi.key:
        answer(Describe());
        return Served::kAnswered;
      case kafka::EndTxnRequest::kApi.key:
        return End(*kafka::DecodeRequest<kafka::EndTxnRequest>(frame, header), answer);
      default:
        return std::nullopt;
    }
  }

  std::deque<Fault> end_faults;  // One for each EndTxn to come.
  int busy_answers = 0;        // As many batches are refused: the last transaction is being ended.
  int loading_answers = 0;     // As many calls find a coordinator that is not ready.
  std::vector<int16_t> asked;  // API keys, but for that of settings.
  std::string expiration_ms = "86400000";
  std::map<Partition, int64_t> progress;
  std::map<Partition, std::string> metadata;  // Of the same.
  // What the API of this key says of all partitions of a topic.
  std::map<std::pair<int16_t, std::string>, kafka::ErrorCode> refusals;
  int64_t producer_id = 9000;
  int16_t epoch = -1;
  int commits = 0;

 private:
  kafka::ErrorCode Refusal(const kafka::Api& api, std::string_view topic) const {
    const auto found = refusals.find({api.key, std::string(topic)});
    return found == refusals.end() ? kafka::ErrorCode::kNone : found->second;
  }
  kafka::FindCoordinatorResponse Find(const kafka::FindCoordinatorRequest& request) {
    kafka::FindCoordinatorResponse response;
    response.coordinators.push_back({.key = request.coordinator_keys[0], .node_id = kNode});
    if (loading_answers > 0) {
      --loading_answers;
      response.coordinators[0].error_code = kafka::ErrorCode::kCoordinatorNotAvailable;
    }
    return response;
  }
  kafka::InitProducerIdResponse Init() {
    Finish(/*commit=*/false);
    ++epoch;
    return {.producer_id = producer_id, .producer_epoch = epoch};
  }
  kafka::AddPartitionsToTxnResponse Add(const kafka::AddPartitionsToTxnRequest& request) {
    kafka::AddPartitionsToTxnResponse response;
    const auto refusal = [this](const auto& topic) {
      return Refusal(kafka::AddPartitionsToTxnRequest::kApi, topic.name);
    };
    const bool all = std::ranges::all_of(request.v3_and_below_topics, [&](const auto& topic) {
      return refusal(topic) == kafka::ErrorCode::kNone;
    });
    for (const auto& topic : request.v3_and_below_topics) {
      auto& result = response.results_by_topic_v3_and_below.emplace_back();
      result.name = topic.name;
      kafka::ErrorCode error = refusal(topic);
      if (!all && error == kafka::ErrorCode::kNone) {
        error = kafka::ErrorCode::kOperationNotAttempted;
      }
      for (const int32_t index : topic.partitions) {
        if (all) added_.emplace(topic.name, index);
        result.results_by_partition.push_back(
            {.partition_index = index, .partition_error_code = error});
      }
    }
    return response;
  }
  kafka::TxnOffsetCommitResponse Store(const kafka::TxnOffsetCommitRequest& request) {
    kafka::TxnOffsetCommitResponse response;
    for (const auto& topic : request.topics) {
      auto& result = response.topics.emplace_back();
      result.name = topic.name;
      const kafka::ErrorCode error = Refusal(kafka::TxnOffsetCommitRequest::kApi, topic.name);
      for (const auto& partition : topic.partitions) {
        result.partitions.push_back(
            {.partition_index = partition.partition_index, .error_code = error});
        if (error != kafka::ErrorCode::kNone) continue;
        pending_[{std::string(topic.name), partition.partition_index}] = {
            partition.committed_offset, std::string(partition.committed_metadata.value_or(""))};
      }
    }
    return response;
  }
  kafka::OffsetFetchResponse Fetch(const kafka::OffsetFetchRequest& request) {
    kafka::OffsetFetchResponse response;
    auto& group = response.groups.emplace_back();
    for (const auto& topic : *request.groups[0].topics) {
      auto& result = group.topics.emplace_back();
      result.name = topic.name;
      for (const int32_t index : topic.partition_indexes) {
        const kafka::ErrorCode error = Refusal(kafka::OffsetFetchRequest::kApi, topic.name);
        const auto known = error == kafka::ErrorCode::kNone
                               ? progress.find({std::string(topic.name), index})
                               : progress.end();
        result.partitions.push_back(
            {.partition_index = index,
             .committed_offset = known == progress.end() ? -1 : known->second,
             .metadata = known == progress.end() ? std::string_view() : metadata[known->first],
             .error_code = error});
      }
    }
    return response;
  }
  kafka::DescribeConfigsResponse Describe() {
    kafka::DescribeConfigsResponse response;
    auto& result = response.results.emplace_back();
    result.configs.emplace_back().name = "producer.id.expiration.ms";
    result.configs[0].value = expiration_ms;
    return response;
  }
  template <class Answer>
  Served End(const kafka::EndTxnRequest& request, Answer answer) {
    Fault fault = Fault::kNone;
    if (!end_faults.empty()) {
      fault = end_faults.front();
      end_faults.pop_front();
    }
    if (fault == Fault::kLoseRequest) return Served::kLost;
    // A copy of the producer has begun, or the tier has ended what was open for too long.
    if (fault == Fault::kFence) Init();
    if (request.producer_epoch != epoch) {
      answer(kafka::EndTxnResponse{.error_code = kafka::ErrorCode::kProducerFenced});
      return Served::kAnswered;
    }
    Finish(request.committed);
    if (second_) ++epoch;
    if (fault == Fault::kLoseAnswer) return Served::kLost;
    kafka::EndTxnResponse response;
    if (second_) response = {.producer_id = producer_id, .producer_epoch = epoch};
    answer(response);
    return Served::kAnswered;
  }
  void Finish(bool commit) {
    if (commit) {
      ++commits;
      for (const auto& [partition, stored] : pending_)
        std::tie(progress[partition], metadata[partition]) = stored;
    } else {
      for (const auto& [log, batch] : open_) std::erase(*log, batch);
    }
    open_.clear();
    pending_.clear();
    added_.clear();
  }

  const bool second_;
  std::set<Partition> added_;
  std::map<Partition, std::pair<int64_t, std::string>> pending_;
  std::vector<std::pair<Log*, std::string>> open_;
};

}  // namespace holdfast::test
