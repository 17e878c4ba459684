// A tier of three brokers with transactions, on virtual time, as Apache Kafka 4.2 keeps them: logs
// with aborted batches and markers, which follow a decision one by one, later; what producers have
// sent; a coordinator and a group that are anywhere. By a seed it fails in every way in which
// answers, requests and connections can get lost, or be late.
//
//   ScriptedCluster cluster(loop, broker_loop, cache, {.second = true, .seed = 7});
//   cluster.AddTopic("orders", 2);
//   cluster.trouble.percent = 10;
//   cluster.Connect();
//   ...
//   EXPECT_EQ(cluster.Committed({"orders", 0}), expected);  // As a read_committed reader has it.
//
// Its brokers run on an executor of their own, so that all that is on its way is that for a while,
// also when the agent dies of it (Drop).
//
// Ownership: executors and cache outlive it. Threads: that of the ManualClock.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/produce.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/codec.h"
#include "kafka/producer_state.h"
#include "kafka/record_batch.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"
#include "proxy/metadata_cache.h"
#include "proxy/tier.h"
#include "tests/support/manual_executor.h"
#include "tests/support/scripted_coordinator.h"
#include "tests/support/transaction_versions.h"

namespace holdfast::test {

class ScriptedCluster final : public proxy::Tier {
 public:
  using ErrorCode = kafka::ErrorCode;
  using Partition = ScriptedCoordinator::Partition;
  using Producer = ScriptedCoordinator::Producer;

  static constexpr int32_t kNodes = 3;  // 1 to 3.

  struct Options {
    bool second = true;  // Form of the protocol.
    uint64_t seed = 0;
    int16_t first_epoch = 0;  // Of transactional producers.
  };
  struct Trouble {
    uint64_t percent = 0;         // Of requests that fail in some way.
    uint64_t latency_ms_max = 0;  // Of a request,
    uint64_t marker_ms_max = 0;   // and of a marker after the decision.
    bool strands = false;         // What was on its way when a connection broke may come later.
    int64_t strands_for_ms = 0;   // If it has nothing that is older than that.
  };

  ScriptedCluster(ManualExecutor& loop, ManualExecutor& brokers, proxy::MetadataCache& cache,
                  const Options& options)
      : loop_(loop),
        brokers_(brokers),
        cache_(cache),
        second_(options.second),
        coordinator_(options.second, options.first_epoch),
        random_(options.seed) {
    cache_.Learn(ApiVersions());
    ScanForExpired();
  }

  void AddTopic(const std::string& name, int32_t partitions) {
    for (int32_t i = 0; i < partitions; ++i) logs_[{name, i}].leader = AnyNode();
    TellMetadata();
  }
  void Lead(const Partition& name, int32_t node) {
    logs_.at(name).leader = node;
    TellMetadata();
  }
  void SetObserver(proxy::TierObserver* observer) { observer_ = observer; }
  // All that are up.
  void Connect() {
    TellMetadata();
    for (int32_t node = 1; node <= kNodes; ++node) {
      Node& at = NodeAt(node);
      if (at.connected || at.down) continue;
      at.connected = at.alive = true;
      at.busy_until = {};
      if (observer_ != nullptr) observer_->OnNodeReady(node);
    }
  }
  void Break(int32_t node) {
    Cut(node);
    Lose(node);
  }
  // The agent died: what it had sent may come or not, and nobody hears of an answer.
  void Drop() {
    for (int32_t node = 1; node <= kNodes; ++node) {
      NodeAt(node).pending.clear();
      Cut(node);
      NodeAt(node).connected = false;
    }
  }
  void ServeStranded() {
    for (auto& [node, frame] : std::exchange(stranded_, {})) Serve(node, frame, std::nullopt);
  }
  // It is down until Revive; others lead what it led.
  void Kill(int32_t node) {
    if (std::ranges::count(nodes_, true, &Node::down) > 0) return;
    NodeAt(node).down = true;
    Break(node);
    for (auto& [name, log] : logs_) {
      if (log.leader == node) MoveLeader(name);
    }
    if (transaction_node_ == node) MoveTransactionCoordinator();
    if (group_node_ == node) MoveGroupCoordinator();
  }
  void Revive() {
    for (Node& node : nodes_) node.down = false;
  }
  void MoveLeader(const Partition& name) {
    Log& log = logs_.at(name);
    log.leader = AnyNode();
    // One that was restarted not long ago remembers less.
    Recall(log, random_.Below(2) == 0);
  }
  void MoveSomeLeader() {
    MoveLeader(
        std::next(logs_.begin(), static_cast<ptrdiff_t>(random_.Below(logs_.size())))->first);
  }
  void MoveTransactionCoordinator() {
    transaction_node_ = AnyNode();
    loading_ = static_cast<int>(random_.Below(3));
  }
  void MoveGroupCoordinator() {
    group_node_ = AnyNode();
    group_loading_ = static_cast<int>(random_.Below(3));
  }
  void RestartAll() {
    for (int32_t node = 1; node <= kNodes; ++node) Break(node);
    for (auto& [name, log] : logs_) Recall(log, /*last_only=*/true);
    loading_ = group_loading_ = 2;
  }
  // The next request of one of the APIs of transactions fails.
  void Aim() {
    constexpr std::array kApis{kafka::ProduceRequest::kApi.key,
                               kafka::InitProducerIdRequest::kApi.key,
                               kafka::AddPartitionsToTxnRequest::kApi.key,
                               kafka::AddOffsetsToTxnRequest::kApi.key,
                               kafka::TxnOffsetCommitRequest::kApi.key,
                               kafka::EndTxnRequest::kApi.key,
                               kafka::EndTxnRequest::kApi.key,
                               kafka::OffsetFetchRequest::kApi.key};
    aimed_at_ = kApis[random_.Below(kApis.size())];
  }
  // As when a copy of the agent's spool is used.
  void FenceAll() {
    for (const std::string& id : coordinator_.Ids()) coordinator_.Init(id, std::chrono::minutes(1));
    WriteMarkers();
  }
  void ExpireProducers(base::Duration after) {
    const int64_t before_ms = brokers_.WallClockMs() -
                              std::chrono::duration_cast<std::chrono::milliseconds>(after).count();
    for (auto& [name, log] : logs_) log.producers.ExpireBefore(before_ms);
  }

  // What a read_committed reader has of the partition, by its markers: up to the first transaction
  // that is open.
  [[nodiscard]] std::vector<std::string> Committed(const Partition& name) const {
    const Log& log = logs_.at(name);
    std::vector<std::string> values;
    for (size_t at = 0; at < log.entries.size(); ++at) {
      const Entry& entry = log.entries[at];
      if (entry.control) continue;
      if (entry.transaction >= 0) {
        const auto marker = std::find_if(
            log.entries.begin() + static_cast<ptrdiff_t>(at), log.entries.end(),
            [&](const Entry& other) { return other.control && other.producer == entry.producer; });
        if (marker == log.entries.end()) break;
        if (!marker->commit) continue;
      }
      values.insert(values.end(), entry.values.begin(), entry.values.end());
    }
    return values;
  }
  // What one will have if nothing else comes, since it is decided.
  [[nodiscard]] std::vector<std::string> Decided(const Partition& name) const {
    std::vector<std::string> values;
    for (const Entry& entry : logs_.at(name).entries) {
      if (entry.control) continue;
      if (entry.transaction >= 0 && !coordinator_.Committed(entry.transaction)) continue;
      values.insert(values.end(), entry.values.begin(), entry.values.end());
    }
    return values;
  }

  bool Ready(int32_t node) override {
    if (node == proxy::kAnyNode) return std::ranges::any_of(nodes_, &Node::connected);
    return node >= 1 && node <= kNodes && NodeAt(node).connected;
  }
  std::optional<int16_t> Version(int32_t node, const kafka::Api& api, int16_t cap) override {
    if (!Ready(node)) return std::nullopt;
    return std::min(api.newest, cap);
  }
  void RefreshMetadata(std::string_view /*topic*/) override {
    if (!Ready(proxy::kAnyNode) || std::exchange(refreshing_, true)) return;
    loop_.Post([this] {
      refreshing_ = false;
      if (Ready(proxy::kAnyNode)) TellMetadata();
    });
  }
  void Send(int32_t node, base::Buffer frame, OnAnswer on_answer) override {
    HF_CHECK(Ready(node));
    if (node == proxy::kAnyNode) {
      do {
        node = 1 + static_cast<int32_t>(random_.Below(kNodes));
      } while (!NodeAt(node).connected);
    }
    Node& at = NodeAt(node);
    const int64_t number = next_request_++;
    at.pending.emplace_back(number, std::move(on_answer));
    if (!at.alive) return;  // The agent is about to hear of that.
    at.requests.push_back({number, std::string(frame.view().substr(kafka::kLengthPrefixBytes))});
    const uint64_t travels_ms = TravelsMs(at, frame.size());
    brokers_.Post([this, node, generation = at.generation, number, travels_ms] {
      if (answer_within > base::Duration::zero()) {
        Later(Milliseconds(answer_within), [this, node, number] { GiveUpOn(node, number); });
      }
      Arrive(node, generation, travels_ms);
    });
  }

  // What records are refused for good with. If it is INVALID_RECORD, they are named.
  static constexpr char kPoison = 'x';
  ErrorCode poison_error = ErrorCode::kInvalidRecord;
  Trouble trouble;
  // Nodes that do not serve Produce, nor what comes behind one.
  std::set<int32_t> silent;
  uint64_t bytes_per_second = 0;  // That go to each node; 0: any.
  bool one_link = false;          // To all nodes together.
  // As many batches for a topic are not taken, for want of replicas.
  std::map<std::string, int> short_of_replicas;
  // A connection without an answer for so long is lost, as with proxy::Link, and begun again; zero:
  // it stays.
  base::Duration answer_within = base::Duration::zero();
  ScriptedCoordinator& coordinator() { return coordinator_; }

 private:
  struct Entry {
    std::string bytes;
    std::vector<std::string> values;
    int64_t producer = -1;
    int64_t transaction = -1;  // The coordinator's number, if it is in one.
    bool control = false;
    bool commit = false;
  };
  struct Log {
    int32_t leader = 1;
    std::vector<Entry> entries;
    int64_t end = 0;
    kafka::ProducerTable producers;
    std::map<int64_t, int64_t> open;  // Transactions' numbers, by producer.
  };
  struct Request {
    int64_t number = 0;
    std::string frame;
  };
  struct Node {
    bool connected = false;  // As far as the agent knows.
    bool alive = false;      // That is still so.
    bool down = false;
    int generation = 0;
    base::TimePoint busy_until;  // With what was sent before.
    std::deque<Request> requests;
    std::deque<std::pair<int64_t, OnAnswer>> pending;
  };
  struct Fault {
    enum Kind : uint8_t { kNone, kLoseRequest, kLoseAnswer, kRefuse, kServeAndRefuse };
    Kind kind = kNone;
    ErrorCode error = ErrorCode::kNone;
  };
  struct Progress {
    int64_t offset = -1;
    std::string metadata;
  };
  struct Pending {
    int16_t epoch = -1;
    std::map<Partition, Progress> offsets;
  };

  static inline const Partition kGroup{"__consumer_offsets", 0};

  [[nodiscard]] kafka::ApiVersionsResponse ApiVersions() const {
    return TransactionVersions(second_);
  }

  // ---- Connections ----

  Node& NodeAt(int32_t node) { return nodes_.at(static_cast<size_t>(node - 1)); }
  int32_t AnyNode() {
    for (;;) {
      const auto node = static_cast<int32_t>(1 + random_.Below(kNodes));
      if (!NodeAt(node).down) return node;
    }
  }
  void TellMetadata() {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = "scripted";
    metadata.controller_id = 1;
    for (int32_t node = 1; node <= kNodes; ++node) {
      if (!NodeAt(node).down)
        metadata.brokers.push_back({.node_id = node, .host = "tier", .port = 9092});
    }
    for (const auto& [name, log] : logs_) {
      if (metadata.topics.empty() || metadata.topics.back().name != name.first) {
        metadata.topics.push_back({.name = name.first, .topic_id = IdOf(name.first)});
      }
      metadata.topics.back().partitions.push_back(
          {.partition_index = name.second, .leader_id = log.leader});
    }
    cache_.Learn(metadata, loop_.WallClockMs());
    if (observer_ != nullptr && Ready(proxy::kAnyNode)) observer_->OnMetadata();
  }
  static kafka::Uuid IdOf(const std::string& topic) {
    return {{1, static_cast<uint8_t>(topic.front())}};
  }

  // On the brokers' side. Of what is on its way some first ones arrive, the rest perhaps later.
  void Cut(int32_t node) {
    Node& at = NodeAt(node);
    if (!std::exchange(at.alive, false)) return;
    ++at.generation;
    std::deque<Request> requests = std::exchange(at.requests, {});
    for (uint64_t arrive = random_.Below(requests.size() + 1); arrive > 0; --arrive) {
      Serve(node, requests.front().frame, std::nullopt);
      requests.pop_front();
    }
    const int64_t since_ms = brokers_.WallClockMs() - trouble.strands_for_ms;
    for (Request& request : requests) {
      if (!trouble.strands || random_.Below(2) == 0 || OldestIn(request.frame) < since_ms) continue;
      stranded_.emplace_back(node, std::move(request.frame));
    }
  }
  // On the agent's side.
  void Lose(int32_t node) {
    Node& at = NodeAt(node);
    if (!std::exchange(at.connected, false)) return;
    for (auto& [number, lost] : std::exchange(at.pending, {})) {
      lost(base::Unexpected(base::Code::kUnavailable, "connection lost"));
    }
    if (observer_ != nullptr) observer_->OnNodeLost(node);
  }
  void CutNow(int32_t node) {
    Cut(node);
    loop_.Post([this, node, generation = NodeAt(node).generation] {
      const Node& at = NodeAt(node);
      if (generation == at.generation && !at.alive) Lose(node);
    });
  }

  static uint64_t Milliseconds(base::Duration duration) {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
  }
  uint64_t TravelsMs(Node& at, size_t bytes) {
    if (bytes_per_second == 0) return 0;
    const base::TimePoint now = brokers_.Now();
    base::TimePoint& busy_until = one_link ? link_busy_until_ : at.busy_until;
    busy_until =
        std::max(busy_until, now) + std::chrono::milliseconds(bytes * 1000 / bytes_per_second);
    return Milliseconds(busy_until - now);
  }
  void GiveUpOn(int32_t node, int64_t number) {
    const Node& at = NodeAt(node);
    if (std::ranges::find(at.pending, number, &std::pair<int64_t, OnAnswer>::first) ==
        at.pending.end()) {
      return;
    }
    CutNow(node);
    Later(10, [this] { loop_.Post([this] { Connect(); }); });
  }

  void Arrive(int32_t node, int generation, uint64_t travels_ms) {
    const uint64_t latency_ms =
        travels_ms + (trouble.latency_ms_max == 0 ? 0 : random_.Below(trouble.latency_ms_max + 1));
    if (latency_ms == 0) return ServeNext(node, generation);
    Later(latency_ms, [=, this] { ServeNext(node, generation); });
  }
  void ServeNext(int32_t node, int generation) {
    Node& at = NodeAt(node);
    if (generation != at.generation || at.requests.empty()) return;
    if (silent.contains(node) && IsProduce(at.requests.front().frame)) return;
    const Request request = std::move(at.requests.front());
    at.requests.pop_front();
    Serve(node, request.frame, request.number);
  }

  void Later(uint64_t delay_ms, base::Task task) {
    const uint64_t number = next_timer_++;
    under_way_[number] = brokers_.After(std::chrono::milliseconds(delay_ms),
                                        [this, number, task = std::move(task)]() mutable {
                                          const auto done = under_way_.extract(number);
                                          task();
                                        });
  }

  // ---- Requests ----

  // With a number: somebody waits for the answer.
  void Serve(int32_t node, const std::string& frame, std::optional<int64_t> number) {
    const auto header = kafka::ReadRequestHeader(frame);
    HF_CHECK(header.has_value());
    switch (header->api_key) {
      case kafka::ProduceRequest::kApi.key:
        return Handle<kafka::ProduceRequest>(node, frame, *header, number);
      case kafka::InitProducerIdRequest::kApi.key:
        return Handle<kafka::InitProducerIdRequest>(node, frame, *header, number);
      case kafka::AddPartitionsToTxnRequest::kApi.key:
        return Handle<kafka::AddPartitionsToTxnRequest>(node, frame, *header, number);
      case kafka::AddOffsetsToTxnRequest::kApi.key:
        return Handle<kafka::AddOffsetsToTxnRequest>(node, frame, *header, number);
      case kafka::TxnOffsetCommitRequest::kApi.key:
        return Handle<kafka::TxnOffsetCommitRequest>(node, frame, *header, number);
      case kafka::EndTxnRequest::kApi.key:
        return Handle<kafka::EndTxnRequest>(node, frame, *header, number);
      case kafka::OffsetFetchRequest::kApi.key:
        return Handle<kafka::OffsetFetchRequest>(node, frame, *header, number);
      case kafka::FindCoordinatorRequest::kApi.key:
        return Handle<kafka::FindCoordinatorRequest>(node, frame, *header, number);
      case kafka::DescribeProducersRequest::kApi.key:
        return Handle<kafka::DescribeProducersRequest>(node, frame, *header, number);
      case kafka::DescribeConfigsRequest::kApi.key:
        return Handle<kafka::DescribeConfigsRequest>(node, frame, *header, number);
      case kafka::FetchRequest::kApi.key:
        return Handle<kafka::FetchRequest>(node, frame, *header, number);
      case kafka::ListOffsetsRequest::kApi.key:
        return Handle<kafka::ListOffsetsRequest>(node, frame, *header, number);
      default:
        HF_CHECK(false);
    }
  }

  template <class Request>
  void Handle(int32_t node, const std::string& frame, const kafka::RequestHeader& header,
              std::optional<int64_t> number) {
    const auto request = kafka::DecodeRequest<Request>(frame, header);
    HF_CHECK(request.has_value());
    Fault fault;
    const bool aimed = number && aimed_at_ == header.api_key;
    if (aimed || (number && random_.Below(100) < trouble.percent)) {
      if (aimed) aimed_at_.reset();
      fault.kind = static_cast<Fault::Kind>(1 + random_.Below(4));
      const auto errors = ErrorsOf(*request, fault.kind);
      if (errors.empty() && fault.kind >= Fault::kRefuse) fault.kind = Fault::kLoseAnswer;
      if (fault.kind >= Fault::kRefuse) fault.error = errors[random_.Below(errors.size())];
    }
    if (fault.kind == Fault::kLoseRequest) return CutNow(node);
    const bool serves = fault.kind != Fault::kRefuse;
    auto response = Answer(*request, node, header.api_version, serves);
    WriteMarkers();
    if (!number) return;
    if (fault.kind == Fault::kLoseAnswer) return CutNow(node);
    if (fault.error != ErrorCode::kNone) Refuse(response, fault.error, serves);
    base::Buffer bytes = kafka::EncodeResponse(response, header.api_version, header.correlation_id);
    std::string answer(bytes.view().substr(kafka::kLengthPrefixBytes));
    loop_.Post([this, node, generation = NodeAt(node).generation, number = *number,
                answer = std::move(answer)] {
      Node& at = NodeAt(node);
      if (generation != at.generation || !at.connected) return;
      const auto waits =
          std::ranges::find(at.pending, number, &std::pair<int64_t, OnAnswer>::first);
      HF_CHECK(waits != at.pending.end());
      OnAnswer on_answer = std::move(waits->second);
      at.pending.erase(waits);
      on_answer(std::string_view(answer));
    });
  }

  // What may be answered in place of the right answer, if nothing was done, or if all was.
  template <class Request>
  static std::span<const ErrorCode> ErrorsOf(const Request& /*request*/, Fault::Kind kind) {
    static constexpr std::array kProduce{
        ErrorCode::kNotEnoughReplicas,       ErrorCode::kNotLeaderOrFollower,
        ErrorCode::kRequestTimedOut,         ErrorCode::kUnknownServerError,
        ErrorCode::kUnknownTopicOrPartition, ErrorCode::kCorruptMessage,
        ErrorCode::kTopicAuthorizationFailed};
    static constexpr std::array kProduced{ErrorCode::kNotEnoughReplicasAfterAppend,
                                          ErrorCode::kNotLeaderOrFollower,
                                          ErrorCode::kRequestTimedOut};
    static constexpr std::array kCoordinator{
        ErrorCode::kCoordinatorNotAvailable, ErrorCode::kNotCoordinator,
        ErrorCode::kCoordinatorLoadInProgress, ErrorCode::kConcurrentTransactions};
    static constexpr std::array kDone{ErrorCode::kCoordinatorNotAvailable};
    static constexpr std::array kGroupErrors{
        ErrorCode::kCoordinatorNotAvailable, ErrorCode::kNotCoordinator,
        ErrorCode::kCoordinatorLoadInProgress, ErrorCode::kUnknownTopicOrPartition};
    static constexpr std::array kFetch{ErrorCode::kUnstableOffsetCommit, ErrorCode::kNotCoordinator,
                                       ErrorCode::kCoordinatorLoadInProgress};
    static constexpr std::array kLeader{ErrorCode::kNotLeaderOrFollower};
    const bool done = kind == Fault::kServeAndRefuse;
    if constexpr (std::is_same_v<Request, kafka::ProduceRequest>) {
      if (done) return kProduced;
      return kProduce;
    } else if constexpr (std::is_same_v<Request, kafka::TxnOffsetCommitRequest>) {
      if (done) return kDone;
      return kGroupErrors;
    } else if constexpr (std::is_same_v<Request, kafka::OffsetFetchRequest>) {
      return kFetch;
    } else if constexpr (std::is_same_v<Request, kafka::FindCoordinatorRequest>) {
      return kDone;
    } else if constexpr (std::is_same_v<Request, kafka::DescribeProducersRequest> ||
                         std::is_same_v<Request, kafka::FetchRequest> ||
                         std::is_same_v<Request, kafka::ListOffsetsRequest>) {
      return kLeader;
    } else if constexpr (std::is_same_v<Request, kafka::DescribeConfigsRequest>) {
      return {};
    } else {
      if (done) return kDone;
      return kCoordinator;
    }
  }
  // All: also what was served.
  template <class Response>
  static void Refuse(Response& response, ErrorCode error, bool all = true) {
    if constexpr (requires { response.coordinators; }) {
      for (auto& one : response.coordinators) one.error_code = error;
    } else if constexpr (requires { response.groups; }) {
      for (auto& one : response.groups) one.error_code = error;
    } else if constexpr (requires { response.results_by_topic_v3_and_below; }) {
      for (auto& topic : response.results_by_topic_v3_and_below) {
        for (auto& one : topic.results_by_partition) one.partition_error_code = error;
      }
    } else if constexpr (std::is_same_v<Response, kafka::ProduceResponse>) {
      for (auto& topic : response.responses) {
        for (auto& one : topic.partition_responses) {
          if (one.error_code == ErrorCode::kNone && (all || one.base_offset == kNotServed))
            one.error_code = error;
        }
      }
    } else if constexpr (std::is_same_v<Response, kafka::FetchResponse>) {
      for (auto& topic : response.responses) {
        for (auto& one : topic.partitions) one.error_code = error;
      }
    } else if constexpr (requires { response.topics.front().partitions.front().error_code; }) {
      for (auto& topic : response.topics) {
        for (auto& one : topic.partitions) one.error_code = error;
      }
    } else if constexpr (requires { response.error_code; }) {
      response.error_code = error;
    }
  }

  // ---- Logs ----

  // Not served: the shape of an answer alone, that errors go into. Here some partitions are.
  kafka::ProduceResponse Answer(const kafka::ProduceRequest& request, int32_t node, int16_t version,
                                bool serves) {
    kafka::ProduceResponse response;
    for (const auto& topic : request.topic_data) {
      auto& answer = response.responses.emplace_back();
      answer.name = topic.name;
      for (const auto& partition : topic.partition_data) {
        auto& result = answer.partition_responses.emplace_back();
        result.index = partition.index;
        result.base_offset = serves ? -1 : kNotServed;
        if (!serves && random_.Below(3) > 0) continue;
        const Partition name(topic.name, partition.index);
        const auto found = logs_.find(name);
        if (found == logs_.end()) {
          result.error_code = ErrorCode::kUnknownTopicOrPartition;
        } else if (found->second.leader != node) {
          result.error_code = ErrorCode::kNotLeaderOrFollower;
        } else {
          result.error_code = Store(name, found->second, *partition.records, version,
                                    std::string(request.transactional_id.value_or("")), result);
        }
      }
    }
    return response;
  }

  ErrorCode Store(const Partition& name, Log& log, std::string_view records, int16_t version,
                  const std::string& transactional_id,
                  kafka::ProduceResponse::PartitionProduceResponse& result) {
    using Kind = kafka::ProducerVerdict::Kind;
    HF_CHECK(kafka::CheckProduced(records, {}).ok());
    const kafka::RecordBatchView batch(records);
    const kafka::BatchHeader& header = batch.header();
    const Producer producer{header.producer.id, header.producer.epoch};
    auto sequenced = kafka::SequencedBatch::FromHeader(header);
    sequenced.transactions_v2 = version >= kSecondProduce;
    if (header.transactional() &&
        log.producers.transaction_start(producer.id, producer.epoch) < 0) {
      const ErrorCode error = Enter(name, transactional_id, producer, version >= kSecondProduce);
      if (error != ErrorCode::kNone) return error;
    }
    if (int& left = short_of_replicas[name.first]; left > 0) {
      --left;
      return ErrorCode::kNotEnoughReplicas;
    }
    if (!Acceptable(batch, result)) return poison_error;
    const kafka::ProducerVerdict verdict = log.producers.Check(sequenced);
    if (verdict.kind == Kind::kRefuse) return verdict.error;
    if (verdict.kind == Kind::kDuplicate) {
      result.base_offset = verdict.base_offset;
      return ErrorCode::kNone;
    }
    Entry& entry = log.entries.emplace_back();
    entry.bytes = records;
    entry.producer = producer.id;
    kafka::SetBaseOffset(entry.bytes, log.end);
    entry.values = ValuesOf(batch);
    if (header.transactional()) {
      const int64_t number = coordinator_.NumberOf(transactional_id);
      entry.transaction = log.open.try_emplace(producer.id, number).first->second;
    }
    Remember(log, entry);
    result.base_offset = log.end;
    log.end += batch.record_count();
    return ErrorCode::kNone;
  }
  // A partition's leader, or the group's, asks the coordinator before the first of a transaction.
  ErrorCode Enter(const Partition& name, const std::string& id, const Producer& producer,
                  bool second) {
    if (loading_ > 0) {
      --loading_;
      return ErrorCode::kNotEnoughReplicas;
    }
    const ErrorCode error = second ? coordinator_.Add(id, producer, {name}, brokers_.Now())
                                   : coordinator_.Verify(id, producer, name);
    if (error == ErrorCode::kProducerFenced) return ErrorCode::kInvalidProducerEpoch;
    if (error == ErrorCode::kConcurrentTransactions && !second) {
      return ErrorCode::kNotEnoughReplicas;
    }
    return error;
  }
  // Before sequences are looked at.
  [[nodiscard]] bool Acceptable(const kafka::RecordBatchView& batch,
                                kafka::ProduceResponse::PartitionProduceResponse& result) const {
    const std::vector<std::string> values = ValuesOf(batch);
    bool acceptable = true;
    for (size_t at = 0; at < values.size(); ++at) {
      if (!values[at].starts_with(kPoison)) continue;
      acceptable = false;
      if (poison_error != ErrorCode::kInvalidRecord) continue;
      result.record_errors.push_back(
          {.batch_index = static_cast<int32_t>(at), .batch_index_error_message = "no good"});
    }
    return acceptable;
  }
  static std::vector<std::string> ValuesOf(const kafka::RecordBatchView& batch) {
    std::vector<std::string> values;
    const auto records = kafka::UncompressedRecords::Of(batch);
    kafka::RecordReader reader(batch.header(), records->bytes());
    kafka::Record record;
    while (reader.Next(&record)) values.emplace_back(record.value.value_or(""));
    return values;
  }
  static void Remember(Log& log, const Entry& entry) {
    const kafka::RecordBatchView batch(entry.bytes);
    const kafka::BatchHeader& header = batch.header();
    if (entry.control) {
      log.producers.RecordMarker({.producer_id = header.producer.id,
                                  .producer_epoch = header.producer.epoch,
                                  .timestamp = header.max_timestamp});
    } else {
      log.producers.Record(kafka::SequencedBatch::FromHeader(header),
                           {.base_offset = header.base_offset, .timestamp = header.max_timestamp});
    }
  }
  // As another replica has it, or one that has restarted: from snapshots of the last batch alone.
  void Recall(Log& log, bool last_only) {
    log.producers = {};
    std::map<int64_t, size_t> last;
    std::map<int64_t, size_t> first_open;
    for (size_t at = 0; at < log.entries.size(); ++at) {
      const Entry& entry = log.entries[at];
      if (entry.control) {
        first_open.erase(entry.producer);
        continue;
      }
      last[entry.producer] = at;
      if (entry.transaction >= 0) first_open.try_emplace(entry.producer, at);
    }
    for (size_t at = 0; at < log.entries.size(); ++at) {
      const Entry& entry = log.entries[at];
      const auto open = first_open.find(entry.producer);
      const bool begins = open != first_open.end() && open->second == at;
      if (last_only && !entry.control && last.at(entry.producer) != at && !begins) continue;
      Remember(log, entry);
    }
  }

  kafka::DescribeProducersResponse Answer(const kafka::DescribeProducersRequest& request,
                                          int32_t node, int16_t /*version*/, bool /*serves*/) {
    kafka::DescribeProducersResponse response;
    for (const auto& topic : request.topics) {
      auto& answer = response.topics.emplace_back();
      answer.name = topic.name;
      for (const int32_t index : topic.partition_indexes) {
        auto& partition = answer.partitions.emplace_back();
        partition.partition_index = index;
        const Log& log = logs_.at({std::string(topic.name), index});
        if (log.leader != node) partition.error_code = ErrorCode::kNotLeaderOrFollower;
        for (const auto& known : log.producers.List()) {
          partition.active_producers.push_back({.producer_id = known.id,
                                                .producer_epoch = known.epoch,
                                                .last_sequence = known.last_sequence});
        }
      }
    }
    return response;
  }
  // One batch at a time, so that reading back goes through several answers.
  kafka::FetchResponse Answer(const kafka::FetchRequest& request, int32_t node, int16_t version,
                              bool /*serves*/) {
    const auto& asked = request.topics[0];
    const int32_t index = asked.partitions[0].partition;
    const int64_t offset = asked.partitions[0].fetch_offset;
    const auto found = std::ranges::find_if(logs_, [&](const auto& log) {
      return log.first.second == index && (version >= 13 ? IdOf(log.first.first) == asked.topic_id
                                                         : log.first.first == asked.topic);
    });
    HF_CHECK(found != logs_.end());
    const Log& log = found->second;
    kafka::FetchResponse response;
    auto& topic = response.responses.emplace_back();
    topic.topic = asked.topic;
    topic.topic_id = asked.topic_id;
    auto& partition = topic.partitions.emplace_back();
    partition.partition_index = index;
    partition.high_watermark = log.end;
    if (log.leader != node) partition.error_code = ErrorCode::kNotLeaderOrFollower;
    if (offset > log.end) partition.error_code = ErrorCode::kOffsetOutOfRange;
    for (const Entry& entry : log.entries) {
      if (kafka::RecordBatchView(entry.bytes).last_offset() < offset) continue;
      partition.records = entry.bytes;
      break;
    }
    return response;
  }
  kafka::ListOffsetsResponse Answer(const kafka::ListOffsetsRequest& request, int32_t node,
                                    int16_t /*version*/, bool /*serves*/) {
    const auto& asked = request.topics[0];
    const int64_t timestamp = asked.partitions[0].timestamp;
    const Log& log = logs_.at({std::string(asked.name), asked.partitions[0].partition_index});
    kafka::ListOffsetsResponse response;
    auto& topic = response.topics.emplace_back();
    topic.name = asked.name;
    auto& partition = topic.partitions.emplace_back();
    partition.partition_index = asked.partitions[0].partition_index;
    if (log.leader != node) partition.error_code = ErrorCode::kNotLeaderOrFollower;
    for (const Entry& entry : log.entries) {
      const kafka::RecordBatchView batch(entry.bytes);
      if (timestamp >= 0 && batch.max_timestamp() < timestamp) continue;
      partition.offset = batch.base_offset();
      break;
    }
    if (timestamp < 0 && partition.offset < 0) partition.offset = 0;
    return response;
  }
  static bool IsProduce(const std::string& frame) {
    return kafka::ReadRequestHeader(frame)->api_key == kafka::ProduceRequest::kApi.key;
  }
  static int64_t OldestIn(const std::string& frame) {
    int64_t oldest_ms = std::numeric_limits<int64_t>::max();
    if (!IsProduce(frame)) return oldest_ms;
    const auto header = kafka::ReadRequestHeader(frame);
    const auto request = kafka::DecodeRequest<kafka::ProduceRequest>(frame, *header);
    for (const auto& topic : request->topic_data) {
      for (const auto& partition : topic.partition_data) {
        const kafka::RecordBatchView batch(*partition.records);
        oldest_ms = std::min(oldest_ms, batch.max_timestamp());
      }
    }
    return oldest_ms;
  }

  // ---- Transactions ----

  static ErrorCode Coordinates(int32_t node, int32_t right, int& loading) {
    if (node != right) return ErrorCode::kNotCoordinator;
    if (loading == 0) return ErrorCode::kNone;
    --loading;
    return ErrorCode::kCoordinatorLoadInProgress;
  }

  kafka::FindCoordinatorResponse Answer(const kafka::FindCoordinatorRequest& request,
                                        int32_t /*node*/, int16_t /*version*/, bool /*serves*/) {
    kafka::FindCoordinatorResponse response;
    response.coordinators.push_back(
        {.key = request.coordinator_keys[0],
         .node_id = request.key_type == 0 ? group_node_ : transaction_node_});
    return response;
  }
  kafka::InitProducerIdResponse Answer(const kafka::InitProducerIdRequest& request, int32_t node,
                                       int16_t /*version*/, bool serves) {
    if (!serves) return {};
    if (!request.transactional_id) return {.producer_id = next_producer_id_++};
    const ErrorCode error = Coordinates(node, transaction_node_, loading_);
    if (error != ErrorCode::kNone) return {.error_code = error};
    const auto answer =
        coordinator_.Init(std::string(*request.transactional_id),
                          std::chrono::milliseconds(request.transaction_timeout_ms));
    return {.error_code = answer.error,
            .producer_id = answer.producer.id,
            .producer_epoch = answer.producer.epoch};
  }
  kafka::AddPartitionsToTxnResponse Answer(const kafka::AddPartitionsToTxnRequest& request,
                                           int32_t node, int16_t /*version*/, bool serves) {
    kafka::AddPartitionsToTxnResponse response;
    std::set<Partition> partitions;
    for (const auto& topic : request.v3_and_below_topics) {
      auto& result = response.results_by_topic_v3_and_below.emplace_back();
      result.name = topic.name;
      for (const int32_t index : topic.partitions) {
        result.results_by_partition.push_back({.partition_index = index});
        partitions.emplace(topic.name, index);
      }
    }
    if (!serves) return response;
    ErrorCode error = Coordinates(node, transaction_node_, loading_);
    if (error == ErrorCode::kNone) {
      error =
          coordinator_.Add(std::string(request.v3_and_below_transactional_id),
                           {request.v3_and_below_producer_id, request.v3_and_below_producer_epoch},
                           partitions, brokers_.Now());
    }
    Refuse(response, error);
    return response;
  }
  kafka::AddOffsetsToTxnResponse Answer(const kafka::AddOffsetsToTxnRequest& request, int32_t node,
                                        int16_t /*version*/, bool serves) {
    if (!serves) return {};
    ErrorCode error = Coordinates(node, transaction_node_, loading_);
    if (error == ErrorCode::kNone) {
      error =
          coordinator_.Add(std::string(request.transactional_id),
                           {request.producer_id, request.producer_epoch}, {kGroup}, brokers_.Now());
    }
    return {.error_code = error};
  }
  kafka::EndTxnResponse Answer(const kafka::EndTxnRequest& request, int32_t node,
                               int16_t /*version*/, bool serves) {
    if (!serves) return {};
    const ErrorCode error = Coordinates(node, transaction_node_, loading_);
    if (error != ErrorCode::kNone) return {.error_code = error};
    const auto answer =
        coordinator_.End(std::string(request.transactional_id),
                         {request.producer_id, request.producer_epoch}, request.committed);
    return {.error_code = answer.error,
            .producer_id = answer.producer.id,
            .producer_epoch = answer.producer.epoch};
  }
  kafka::TxnOffsetCommitResponse Answer(const kafka::TxnOffsetCommitRequest& request, int32_t node,
                                        int16_t version, bool serves) {
    kafka::TxnOffsetCommitResponse response;
    ErrorCode error = ErrorCode::kNone;
    if (serves) error = Coordinates(node, group_node_, group_loading_);
    const Producer producer{request.producer_id, request.producer_epoch};
    const auto known = group_epochs_.find(producer.id);
    const auto open = pending_.find(producer.id);
    if (serves && error == ErrorCode::kNone) {
      if (known != group_epochs_.end() && producer.epoch < known->second) {
        error = ErrorCode::kInvalidProducerEpoch;
      } else if (open == pending_.end() || open->second.epoch != producer.epoch) {
        error = Enter(kGroup, std::string(request.transactional_id), producer,
                      version >= kSecondTxnOffsetCommit);
        // As the group's coordinator puts it.
        if (error == ErrorCode::kNotEnoughReplicas) error = ErrorCode::kCoordinatorLoadInProgress;
      }
    }
    const bool stores = serves && error == ErrorCode::kNone;
    for (const auto& topic : request.topics) {
      auto& result = response.topics.emplace_back();
      result.name = topic.name;
      for (const auto& partition : topic.partitions) {
        result.partitions.push_back(
            {.partition_index = partition.partition_index, .error_code = error});
        if (!stores) continue;
        Pending& pending = pending_[producer.id];
        pending.epoch = producer.epoch;
        pending.offsets[{std::string(topic.name), partition.partition_index}] = {
            partition.committed_offset, std::string(partition.committed_metadata.value_or(""))};
      }
    }
    return response;
  }
  kafka::OffsetFetchResponse Answer(const kafka::OffsetFetchRequest& request, int32_t node,
                                    int16_t /*version*/, bool serves) {
    kafka::OffsetFetchResponse response;
    auto& group = response.groups.emplace_back();
    if (serves) group.error_code = Coordinates(node, group_node_, group_loading_);
    if (!serves || group.error_code != ErrorCode::kNone) return response;
    HF_CHECK(request.require_stable);
    for (const auto& topic : *request.groups[0].topics) {
      auto& result = group.topics.emplace_back();
      result.name = topic.name;
      for (const int32_t index : topic.partition_indexes) {
        const Partition name(topic.name, index);
        const auto known = progress_.find(name);
        const bool stable = std::ranges::none_of(
            pending_, [&](const auto& one) { return one.second.offsets.contains(name); });
        auto& partition = result.partitions.emplace_back();
        partition.partition_index = index;
        partition.committed_offset = -1;
        partition.metadata = "";
        if (!stable) {
          partition.error_code = ErrorCode::kUnstableOffsetCommit;
        } else if (known != progress_.end()) {
          partition.committed_offset = known->second.offset;
          partition.metadata = known->second.metadata;
        }
      }
    }
    return response;
  }
  kafka::DescribeConfigsResponse Answer(const kafka::DescribeConfigsRequest& /*request*/,
                                        int32_t /*node*/, int16_t /*version*/, bool /*serves*/) {
    kafka::DescribeConfigsResponse response;
    auto& result = response.results.emplace_back();
    result.configs.emplace_back().name = "producer.id.expiration.ms";
    result.configs[0].value = "86400000";
    return response;
  }

  // Of all that is decided, each at its own time.
  void WriteMarkers() {
    for (const ScriptedCoordinator::Marker& marker : coordinator_.Unmarked()) {
      if (!writing_.emplace(marker.transactional_id, marker.partition).second) continue;
      brokers_.Post([this, marker] {
        const uint64_t late_ms =
            trouble.marker_ms_max == 0 ? 0 : random_.Below(trouble.marker_ms_max + 1);
        Later(late_ms, [this, marker] { Write(marker); });
      });
    }
  }
  void Write(const ScriptedCoordinator::Marker& marker) {
    writing_.erase({marker.transactional_id, marker.partition});
    if (marker.partition == kGroup) {
      group_epochs_[marker.producer.id] = marker.producer.epoch;
      const auto pending = pending_.extract(marker.producer.id);
      if (marker.commit && !pending.empty()) {
        for (const auto& [name, stored] : pending.mapped().offsets) progress_[name] = stored;
      }
    } else {
      Log& log = logs_.at(marker.partition);
      Entry& entry = log.entries.emplace_back();
      entry.bytes = kafka::BuildTransactionMarker(
          marker.commit ? kafka::TransactionEnd::kCommit : kafka::TransactionEnd::kAbort,
          marker.producer.id, marker.producer.epoch, 0, brokers_.WallClockMs());
      kafka::SetBaseOffset(entry.bytes, log.end++);
      entry.producer = marker.producer.id;
      entry.control = true;
      entry.commit = marker.commit;
      Remember(log, entry);
      log.open.erase(marker.producer.id);
    }
    coordinator_.Marked(marker);
  }
  // As Kafka does it every ten seconds.
  void ScanForExpired() {
    scan_ = brokers_.After(std::chrono::seconds(10), [this] {
      coordinator_.AbortExpired(brokers_.Now());
      WriteMarkers();
      ScanForExpired();
    });
  }

  static constexpr int64_t kNotServed = -2;
  static constexpr int16_t kSecondProduce = 12;
  static constexpr int16_t kSecondTxnOffsetCommit = 5;

  ManualExecutor& loop_;
  ManualExecutor& brokers_;
  proxy::MetadataCache& cache_;
  const bool second_;
  ScriptedCoordinator coordinator_;
  base::Random random_;
  proxy::TierObserver* observer_ = nullptr;
  std::array<Node, kNodes> nodes_;
  base::TimePoint link_busy_until_;
  std::map<Partition, Log> logs_;
  int64_t next_producer_id_ = 500;
  int64_t next_request_ = 0;
  bool refreshing_ = false;
  std::optional<int16_t> aimed_at_;
  int32_t transaction_node_ = 1;
  int32_t group_node_ = 2;
  int loading_ = 0;  // As many calls find that the coordinator is not ready.
  int group_loading_ = 0;
  std::map<Partition, Progress> progress_;
  std::map<int64_t, Pending> pending_;       // By producer.
  std::map<int64_t, int16_t> group_epochs_;  // The same: what a marker said.
  std::set<std::pair<std::string, Partition>> writing_;
  std::deque<std::pair<int32_t, std::string>> stranded_;
  std::map<uint64_t, base::Timer> under_way_;
  uint64_t next_timer_ = 0;
  base::Timer scan_;
};

}  // namespace holdfast::test
