// A broker tier of one node for the forwarder's tests, on virtual time: it keeps what it is given
// in logs, recognises producers as Kafka does, and fails when the test says so. Requests and
// answers are real frames.
//
//   tier.AddTopic("orders", 2);
//   tier.faults.push_back({.kind = ScriptedTier::Fault::kLoseAnswer});  // For the next Produce.
//   ...
//   EXPECT_EQ(tier.Values("orders", 0), expected);
//
// Ownership: loop and cache outlive it. Threads: that of the ManualClock.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kafka/api/describe_producers.h"
#include "kafka/api/fetch.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/codec.h"
#include "kafka/producer_state.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"
#include "tests/support/manual_executor.h"
#include "tests/support/scripted_transactions.h"

namespace holdfast::test {

class ScriptedTier final : public proxy::Tier {
 public:
  // What happens to a Produce request instead of being served.
  struct Fault {
    enum Kind : uint8_t {
      kServe,        // Nothing: for scripts that fail a later one.
      kLoseRequest,  // The connection breaks, and nothing was stored.
      kLoseAnswer,   // All of it is stored, then the connection breaks.
      kRefuse,       // Every partition gets `error`, and nothing was stored.
      kStoreRefuse,  // Stored, and every partition gets `error`.
      kAccept,       // Stored without looking at sequences.
      kTimeOut,      // kRefuse after kTimeOutAfter; all that comes behind waits.
    };
    Kind kind = kServe;
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    // Of kRefuse: only its partitions; empty: all. Of kTimeOut, which is for requests with any.
    std::string topic = {};
  };
  struct Partition {
    std::vector<std::string> batches;  // As in a log: with offsets.
    int64_t start = 0;                 // Nobody reads from before it.
    int64_t end = 0;
    // What lies behind it only the leader has, and nobody reads.
    int64_t high_watermark = std::numeric_limits<int64_t>::max();
    kafka::ProducerTable producers;
  };

  static constexpr int32_t kNode = 1;
  static constexpr auto kRefreshGap = std::chrono::milliseconds(500);  // Upstream's is shorter.
  static constexpr auto kTimeOutAfter = std::chrono::seconds(15);

  ScriptedTier(ManualExecutor& loop, proxy::MetadataCache& cache) : loop_(loop), cache_(cache) {}

  void AddTopic(const std::string& name, int32_t partitions) {
    for (int32_t i = 0; i < partitions; ++i) logs[{name, i}];
    TellMetadata();
  }
  // Deletes it; it comes back with AddTopic, under another id.
  void RemoveTopic(const std::string& name) {
    for (auto& [partition, log] : logs) {
      if (partition.first == name && transactions != nullptr) {
        transactions->Forget(partition, log.batches);
      }
    }
    std::erase_if(logs, [&](const auto& log) { return log.first.first == name; });
    ++topic_generations_[name];
  }
  void SetObserver(proxy::TierObserver* observer) { observer_ = observer; }
  void Connect() {
    connected_ = true;
    TellMetadata();
    if (observer_ != nullptr) observer_->OnNodeReady(kNode);
  }
  // Calls in flight get errors.
  void Disconnect() {
    connected_ = false;
    ++generation_;
    requests_.clear();
    for (OnAnswer& lost : std::exchange(pending_, {})) {
      lost(base::Unexpected(base::Code::kUnavailable, "connection lost"));
    }
    if (observer_ != nullptr) observer_->OnNodeLost(kNode);
  }
  // The connection breaks, and what was on its way arrives all the same, later; but for requests
  // with a record from before `since_ms`, by its own time.
  void Strand(int64_t since_ms) {
    for (base::Buffer& request : requests_) {
      if (OldestIn(request) >= since_ms) stranded_.push_back(std::move(request));
    }
    Disconnect();
  }
  void ServeStranded() {
    for (const base::Buffer& request : std::exchange(stranded_, {})) {
      const std::string_view frame = request.view().substr(kafka::kLengthPrefixBytes);
      const auto header = kafka::ReadRequestHeader(frame);
      if (header->api_key == kafka::ProduceRequest::kApi.key) StoreAll(frame, *header, {});
    }
  }
  // As retention does with so many of the oldest batches.
  void Trim(const std::string& topic, int32_t partition, size_t count) {
    Partition& log = logs[{topic, partition}];
    log.batches.erase(log.batches.begin(), log.batches.begin() + static_cast<ptrdiff_t>(count));
    log.start = kafka::RecordBatchView(log.batches.front()).base_offset();
  }
  // As after a day, or a restart with old records.
  void ForgetProducers() {
    for (auto& [name, log] : logs) log.producers = {};
  }
  // As a restart of Kafka does.
  void ForgetAllButLastBatches() {
    for (auto& [name, log] : logs) {
      log.producers = {};
      if (!log.batches.empty()) Remember(log, kafka::RecordBatchView(log.batches.back()).header());
    }
  }
  // Those without a batch for so long.
  void ExpireProducers(base::Duration after) {
    const int64_t before_ms =
        loop_.WallClockMs() - std::chrono::duration_cast<std::chrono::milliseconds>(after).count();
    for (auto& [name, log] : logs) log.producers.ExpireBefore(before_ms);
  }
  // Another replica leads, which has what all have.
  void FailOver() {
    for (auto& [name, log] : logs) {
      log.producers = {};
      log.end = std::min(log.end, log.high_watermark);
      std::erase_if(log.batches, [&log](const std::string& bytes) {
        return kafka::RecordBatchView(bytes).base_offset() >= log.end;
      });
      for (const std::string& bytes : log.batches) {
        Remember(log, kafka::RecordBatchView(bytes).header());
      }
    }
  }

  // All values of the partition, in order.
  std::vector<std::string> Values(const std::string& topic, int32_t partition) {
    std::vector<std::string> values;
    for (const std::string& bytes : logs[{topic, partition}].batches) {
      const kafka::RecordBatchView batch(bytes);
      const auto records = kafka::UncompressedRecords::Of(batch);
      kafka::RecordReader reader(batch.header(), records->bytes());
      kafka::Record record;
      while (reader.Next(&record)) values.emplace_back(record.value.value_or(""));
    }
    return values;
  }

  bool Ready(int32_t node) override {
    ++uses;
    return connected_ && (node == kNode || node == proxy::kAnyNode);
  }
  std::optional<int16_t> Version(int32_t node, const kafka::Api& api, int16_t cap) override {
    if (!Ready(node) || (api.key == kafka::DescribeProducersRequest::kApi.key && !describes)) {
      return std::nullopt;
    }
    return std::min(api.newest, cap);
  }
  void RefreshMetadata(std::string_view topic) override {
    ++uses;
    ++refreshes;
    if (!topic.empty()) refreshed.emplace_back(topic);
    if (!answers_refreshes || !connected_) return;
    if (std::exchange(refreshing_, true)) return;
    refresh_ = loop_.After(kRefreshGap, [this] {
      refreshing_ = false;
      if (connected_) TellMetadata();
    });
  }
  void Send(int32_t node, base::Buffer frame, OnAnswer on_answer) override {
    HF_CHECK(Ready(node));
    pending_.push_back(std::move(on_answer));
    most_in_flight = std::max(most_in_flight, pending_.size());
    requests_.push_back(std::move(frame));
    if (!held) Schedule();
  }
  // Serves what came while `held` was true.
  void Release() {
    held = false;
    for (size_t i = 0; i < requests_.size(); ++i) Schedule();
  }

  std::map<std::pair<std::string, int32_t>, Partition> logs;
  std::deque<Fault> faults;  // One for each Produce request to come.
  bool held = false;         // Requests wait.
  base::Duration latency = base::Duration::zero();
  bool describes = true;        // Serves DescribeProducers.
  bool by_record_time = false;  // Producers expire by their batches' times, as Kafka's do.
  std::string cluster_id = "scripted";
  bool topic_ids = true;  // Tells the ids of topics.
  // Batches with such values are refused, for these records; larger batches for their size. Before
  // anything else is looked at, as Kafka does it.
  std::set<std::string> poison;
  kafka::ErrorCode poison_error = kafka::ErrorCode::kInvalidRecord;
  bool names_poison = true;  // Says which records it refuses.
  // Topics that nobody may write to, before anything else is looked at.
  std::set<std::string, std::less<>> denied;
  size_t batch_bytes_max = std::numeric_limits<size_t>::max();
  kafka::ErrorCode describe_error = kafka::ErrorCode::kNone;
  kafka::ErrorCode fetch_error = kafka::ErrorCode::kNone;
  kafka::ErrorCode init_error = kafka::ErrorCode::kNone;  // Of InitProducerId.
  bool answers_refreshes = false;                         // Tells metadata when it is asked to.
  int64_t next_producer_id = 500;
  int produces = 0;  // Produce requests that came.
  int calls = 0;     // Requests that came, of any kind.
  int uses = 0;      // Whatever was asked of it.
  // With which number a request is lost with its connection, or its answer is.
  int lose_request_at = -1;
  int lose_answer_at = -1;
  int describe_calls = 0;
  int fetches = 0;
  int refreshes = 0;
  std::vector<std::string> refreshed;
  size_t most_in_flight = 0;
  ScriptedTransactions* transactions = nullptr;  // None: it has no transactions.
  // The producer of each batch that came, stored or not.
  std::vector<kafka::Producer> seen;

 private:
  void TellMetadata() {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = cluster_id;
    metadata.controller_id = kNode;
    metadata.brokers.push_back({.node_id = kNode, .host = "tier", .port = 9092});
    for (const auto& [name, log] : logs) {
      if (metadata.topics.empty() || metadata.topics.back().name != name.first) {
        metadata.topics.push_back({.name = name.first, .topic_id = IdOf(name.first)});
      }
      metadata.topics.back().partitions.push_back(
          {.partition_index = name.second, .leader_id = kNode});
    }
    cache_.Learn(metadata, loop_.WallClockMs());
    if (observer_ != nullptr && connected_) observer_->OnMetadata();
  }

  // Of a Produce request: the time of its oldest batch.
  static int64_t OldestIn(const base::Buffer& request) {
    const std::string_view frame = request.view().substr(kafka::kLengthPrefixBytes);
    const auto header = kafka::ReadRequestHeader(frame);
    int64_t oldest_ms = std::numeric_limits<int64_t>::max();
    if (header->api_key != kafka::ProduceRequest::kApi.key) return oldest_ms;
    const auto produce = kafka::DecodeRequest<kafka::ProduceRequest>(frame, *header);
    for (const auto& topic : produce->topic_data) {
      for (const auto& partition : topic.partition_data) {
        const kafka::RecordBatchView batch(*partition.records);
        oldest_ms = std::min(oldest_ms, batch.max_timestamp());
      }
    }
    return oldest_ms;
  }

  kafka::Uuid IdOf(const std::string& topic) {
    if (!topic_ids) return {};
    return {{1, static_cast<uint8_t>(std::hash<std::string>()(topic)),
             static_cast<uint8_t>(topic_generations_[topic])}};
  }

  // Serves the next request.
  void Schedule() {
    auto serve = [this, generation = generation_] {
      if (generation != generation_ || held || requests_.empty()) return;
      if (TimesOut(requests_.front().view().substr(kafka::kLengthPrefixBytes))) return;
      const base::Buffer frame = std::move(requests_.front());
      requests_.pop_front();
      Serve(frame.view().substr(kafka::kLengthPrefixBytes));
    };
    if (latency == base::Duration::zero()) return loop_.Post(serve);
    under_way_.push_back(loop_.After(latency, serve));
  }

  bool TimesOut(std::string_view frame) {
    if (faults.empty() || faults.front().kind != Fault::kTimeOut) return false;
    const auto header = kafka::ReadRequestHeader(frame);
    if (header->api_key != kafka::ProduceRequest::kApi.key) return false;
    const auto request = kafka::DecodeRequest<kafka::ProduceRequest>(frame, *header);
    Fault& fault = faults.front();
    if (std::ranges::none_of(request->topic_data,
                             [&](const auto& topic) { return topic.name == fault.topic; })) {
      return false;
    }
    fault.kind = Fault::kRefuse;
    held = true;
    timer_ = loop_.After(kTimeOutAfter, [this] { Release(); });
    return true;
  }

  void Serve(std::string_view frame) {
    const auto header = kafka::ReadRequestHeader(frame);
    HF_CHECK(header.has_value());
    const int call = calls++;
    if (call == lose_request_at) return Disconnect();
    losing_answer_ = call == lose_answer_at;
    if (transactions != nullptr && IsTransactional(frame, *header)) {
      const auto served = transactions->Serve(
          frame, *header, [&](const auto& response) { Answer(response, *header); });
      HF_CHECK(served.has_value());
      if (*served == ScriptedTransactions::Served::kLost) Disconnect();
      return;
    }
    switch (header->api_key) {
      case kafka::ProduceRequest::kApi.key:
        return ServeProduce(frame, *header);
      case kafka::InitProducerIdRequest::kApi.key:
        return Answer(InitProducer(), *header);
      case kafka::DescribeProducersRequest::kApi.key:
        return ServeDescribe(frame, *header);
      case kafka::FetchRequest::kApi.key:
        return ServeFetch(frame, *header);
      case kafka::ListOffsetsRequest::kApi.key:
        return ServeListOffsets(frame, *header);
      default:
        HF_CHECK(false);
    }
  }

  kafka::InitProducerIdResponse InitProducer() {
    if (init_error != kafka::ErrorCode::kNone) return {.error_code = init_error};
    return {.producer_id = next_producer_id++};
  }

  static bool IsTransactional(std::string_view frame, const kafka::RequestHeader& header) {
    switch (header.api_key) {
      case kafka::InitProducerIdRequest::kApi.key: {
        const auto request = kafka::DecodeRequest<kafka::InitProducerIdRequest>(frame, header);
        return request && request->transactional_id.has_value();
      }
      case kafka::ProduceRequest::kApi.key:
      case kafka::DescribeProducersRequest::kApi.key:
      case kafka::FetchRequest::kApi.key:
      case kafka::ListOffsetsRequest::kApi.key:
        return false;
      default:
        return true;
    }
  }

  template <class Response>
  void Answer(const Response& response, const kafka::RequestHeader& header) {
    if (std::exchange(losing_answer_, false)) return Disconnect();
    const base::Buffer frame =
        kafka::EncodeResponse(response, header.api_version, header.correlation_id);
    OnAnswer answer = std::move(pending_.front());
    pending_.pop_front();
    answer(frame.view().substr(kafka::kLengthPrefixBytes));
  }

  void ServeProduce(std::string_view frame, const kafka::RequestHeader& header) {
    ++produces;
    Fault fault;
    if (!faults.empty()) {
      fault = faults.front();
      faults.pop_front();
    }
    if (fault.kind == Fault::kLoseRequest) return Disconnect();
    const kafka::ProduceResponse response = StoreAll(frame, header, fault);
    if (fault.kind == Fault::kLoseAnswer) return Disconnect();
    Answer(response, header);
  }

  kafka::ProduceResponse StoreAll(std::string_view frame, const kafka::RequestHeader& header,
                                  const Fault& fault) {
    const auto request = kafka::DecodeRequest<kafka::ProduceRequest>(frame, header);
    HF_CHECK(request.has_value());
    kafka::ProduceResponse response;
    for (const auto& topic : request->topic_data) {
      auto& answer = response.responses.emplace_back();
      answer.name = topic.name;
      for (const auto& partition : topic.partition_data) {
        auto& result = answer.partition_responses.emplace_back();
        result.index = partition.index;
        Fault own = fault;
        if (!fault.topic.empty() && fault.topic != topic.name) own = {};
        const std::pair name(std::string(topic.name), partition.index);
        if (denied.contains(topic.name)) {
          result.error_code = kafka::ErrorCode::kTopicAuthorizationFailed;
          continue;
        }
        if (!logs.contains(name)) {
          result.error_code = kafka::ErrorCode::kUnknownTopicOrPartition;
          continue;
        }
        if (transactions != nullptr) {
          result.error_code = transactions->Check(name, *partition.records);
          if (result.error_code != kafka::ErrorCode::kNone) continue;
        }
        Partition& log = logs[name];
        const size_t before = log.batches.size();
        Store(log, *partition.records, own, result);
        const bool transactional =
            kafka::RecordBatchView(*partition.records).header().transactional();
        if (transactional && log.batches.size() > before) transactions->Stored(log.batches);
      }
    }
    return response;
  }

  void Remember(Partition& log, const kafka::BatchHeader& header) {
    const int64_t timestamp = by_record_time ? header.max_timestamp : loop_.WallClockMs();
    log.producers.Record(kafka::SequencedBatch::FromHeader(header),
                         {.base_offset = header.base_offset, .timestamp = timestamp});
  }

  void Store(Partition& log, std::string_view records, const Fault& fault,
             kafka::ProduceResponse::PartitionProduceResponse& result) {
    using Kind = kafka::ProducerVerdict::Kind;
    const kafka::BatchVerdict sound = kafka::CheckProduced(records, {});
    HF_CHECK(sound.ok());
    const kafka::RecordBatchView batch(records);
    seen.push_back(batch.header().producer);
    result.base_offset = -1;
    result.error_code = fault.error;
    if (fault.kind == Fault::kRefuse) return;
    if (!Acceptable(batch, result)) return;
    const auto sequenced = kafka::SequencedBatch::FromHeader(batch.header());
    const kafka::ProducerVerdict verdict = log.producers.Check(sequenced);
    if (fault.kind != Fault::kAccept && verdict.kind == Kind::kRefuse) {
      result.error_code = verdict.error;
      return;
    }
    if (verdict.kind == Kind::kDuplicate) {
      result.base_offset = verdict.base_offset;
      return;
    }
    std::string stored(records);
    kafka::SetBaseOffset(stored, log.end);
    result.base_offset = log.end;
    Remember(log, kafka::RecordBatchView(stored).header());
    log.end += batch.record_count();
    log.batches.push_back(std::move(stored));
  }

  bool Acceptable(const kafka::RecordBatchView& batch,
                  kafka::ProduceResponse::PartitionProduceResponse& result) {
    if (batch.size() > batch_bytes_max) result.error_code = kafka::ErrorCode::kMessageTooLarge;
    const auto records = kafka::UncompressedRecords::Of(batch);
    if (!records) {
      // Kafka has no error for it.
      result.error_code = kafka::ErrorCode::kUnknownServerError;
      return false;
    }
    if (poison.empty()) return batch.size() <= batch_bytes_max;
    kafka::RecordReader reader(batch.header(), records->bytes());
    kafka::Record record;
    while (reader.Next(&record)) {
      if (!poison.contains(std::string(record.value.value_or("")))) continue;
      result.error_code = poison_error;
      if (!names_poison) return false;
      result.record_errors.push_back(
          {.batch_index = reader.count() - 1, .batch_index_error_message = "no good"});
    }
    return result.error_code == kafka::ErrorCode::kNone;
  }

  void ServeDescribe(std::string_view frame, const kafka::RequestHeader& header) {
    ++describe_calls;
    const auto request = kafka::DecodeRequest<kafka::DescribeProducersRequest>(frame, header);
    kafka::DescribeProducersResponse response;
    for (const auto& topic : request->topics) {
      auto& answer = response.topics.emplace_back();
      answer.name = topic.name;
      for (const int32_t index : topic.partition_indexes) {
        auto& partition = answer.partitions.emplace_back();
        partition.partition_index = index;
        partition.error_code = describe_error;
        const auto log = logs.find({std::string(topic.name), index});
        if (log == logs.end()) partition.error_code = kafka::ErrorCode::kUnknownTopicOrPartition;
        if (partition.error_code != kafka::ErrorCode::kNone) continue;
        for (const auto& known : log->second.producers.List()) {
          partition.active_producers.push_back({.producer_id = known.id,
                                                .producer_epoch = known.epoch,
                                                .last_sequence = known.last_sequence});
        }
      }
    }
    Answer(response, header);
  }

  void ServeFetch(std::string_view frame, const kafka::RequestHeader& header) {
    ++fetches;
    const auto request = kafka::DecodeRequest<kafka::FetchRequest>(frame, header);
    const auto& asked = request->topics[0];
    std::string name(asked.topic);
    for (const auto& [topic_partition, log] : logs) {
      if (header.api_version >= 13 && IdOf(topic_partition.first) == asked.topic_id) {
        name = topic_partition.first;
      }
    }
    const auto found = logs.find({name, asked.partitions[0].partition});
    if (found == logs.end()) {
      kafka::FetchResponse response;
      response.responses.push_back({.topic_id = asked.topic_id});
      response.responses[0].partitions.push_back(
          {.partition_index = asked.partitions[0].partition,
           .error_code = header.api_version >= 13 ? kafka::ErrorCode::kUnknownTopicId
                                                  : kafka::ErrorCode::kUnknownTopicOrPartition});
      return Answer(response, header);
    }
    Partition& log = found->second;
    const int64_t offset = asked.partitions[0].fetch_offset;
    kafka::FetchResponse response;
    auto& topic = response.responses.emplace_back();
    topic.topic = asked.topic;
    topic.topic_id = asked.topic_id;
    auto& partition = topic.partitions.emplace_back();
    partition.partition_index = asked.partitions[0].partition;
    partition.high_watermark = std::min(log.end, log.high_watermark);
    partition.error_code = fetch_error;
    if (fetch_error != kafka::ErrorCode::kNone) return Answer(response, header);
    if (offset > log.end || offset < log.start) {
      partition.error_code = kafka::ErrorCode::kOffsetOutOfRange;
    }
    // What was aborted at the end has left the log, and nothing stands there in its place.
    const int64_t written =
        log.batches.empty() ? 0 : kafka::RecordBatchView(log.batches.back()).last_offset() + 1;
    partition.high_watermark = std::min(std::max(written, offset), partition.high_watermark);
    // One batch at a time, so that reading back goes through several answers.
    for (const std::string& batch : log.batches) {
      if (kafka::RecordBatchView(batch).last_offset() < offset) continue;
      if (kafka::RecordBatchView(batch).last_offset() >= log.high_watermark) break;
      partition.records = batch;
      break;
    }
    Answer(response, header);
  }

  void ServeListOffsets(std::string_view frame, const kafka::RequestHeader& header) {
    const auto request = kafka::DecodeRequest<kafka::ListOffsetsRequest>(frame, header);
    const auto& asked = request->topics[0];
    const int64_t timestamp = asked.partitions[0].timestamp;
    const auto log = logs.find({std::string(asked.name), asked.partitions[0].partition_index});
    kafka::ListOffsetsResponse response;
    auto& topic = response.topics.emplace_back();
    topic.name = asked.name;
    auto& partition = topic.partitions.emplace_back();
    partition.partition_index = asked.partitions[0].partition_index;
    if (log == logs.end()) {
      partition.error_code = kafka::ErrorCode::kUnknownTopicOrPartition;
      return Answer(response, header);
    }
    for (const std::string& bytes : log->second.batches) {
      const kafka::RecordBatchView batch(bytes);
      if (timestamp >= 0 && batch.max_timestamp() < timestamp) continue;
      partition.offset = batch.base_offset();
      break;
    }
    if (timestamp < 0 && partition.offset < 0) partition.offset = 0;
    Answer(response, header);
  }

  ManualExecutor& loop_;
  proxy::MetadataCache& cache_;
  proxy::TierObserver* observer_ = nullptr;
  bool connected_ = false;
  int generation_ = 0;  // Of the connection.
  bool losing_answer_ = false;
  std::deque<OnAnswer> pending_;
  std::deque<base::Buffer> requests_;  // That are not served yet.
  std::deque<base::Buffer> stranded_;
  base::Timer timer_;
  bool refreshing_ = false;
  base::Timer refresh_;
  std::vector<base::Timer> under_way_;
  std::map<std::string, int> topic_generations_;
};

}  // namespace holdfast::test
