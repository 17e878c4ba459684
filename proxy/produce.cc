#include "proxy/produce.h"

#include <algorithm>

#include "kafka/produce_reasons.h"
#include "kafka/record_batch.h"
#include "proxy/record_rules.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::ProduceResponse;

constexpr int16_t kZstdSince = 7;
constexpr int16_t kSecondProtocolSince = 12;  // Of transactions.
constexpr int16_t kTransactionAbortableSince = 11;

bool ValidAcks(int16_t acks) { return acks >= -1 && acks <= 1; }

class ProduceJob final : public SinkRequest {
 public:
  ProduceJob(FrontDoor& front, net::EventLoop& loop, base::Buffer frame,
             const kafka::RequestHeader& header, kafka::ProduceRequest request, net::Reply reply)
      : front_(front),
        loop_(loop),
        frame_(std::move(frame)),
        version_(header.api_version),
        correlation_id_(header.correlation_id),
        client_id_(header.client_id.value_or("")),
        request_(std::move(request)),
        reply_(std::move(reply)),
        begun_(loop.Now()) {
    timeout = std::chrono::milliseconds(std::max(request_.timeout_ms, 0));
    acks = front_.options.acks;
    memory = frame_.size();
  }

  // A loop that has stopped drops what is posted to it.
  ~ProduceJob() override {
    if (reply_) reply_.Close("the agent shuts down");
  }

  // Fills in the answers of what is refused and the entries of what is not.
  void Check(const Cluster& cluster, const Gate& gate) {
    client_ = gate.user().empty() ? client_id_ : gate.user();
    client = client_;
    now_ms_ = loop_.WallClockMs();
    const TopicSettings defaults{
        .max_message_bytes = static_cast<int64_t>(front_.options.batch_bytes_max),
        .timestamp_after_max_ms = front_.options.timestamp_ahead_max.count()};
    response_.responses.reserve(request_.topic_data.size());
    for (const auto& asked : request_.topic_data) {
      auto& answer = response_.responses.emplace_back();
      const std::string_view name = NameOf(asked, cluster);
      answer.name = name;
      answer.topic_id = asked.topic_id;
      answer.partition_responses.reserve(asked.partition_data.size());
      const Topic* topic = cluster.FindTopic(name);
      const ErrorCode forbidden = gate.MayProduce(name);
      if (topic == nullptr && forbidden == ErrorCode::kNone)
        front_.refresh_topic(std::string(name));
      for (const auto& data : asked.partition_data) {
        auto& partition = answer.partition_responses.emplace_back();
        partition.index = data.index;
        partition.base_offset = -1;
        if (forbidden != ErrorCode::kNone) {
          SetError(partition, forbidden,
                   forbidden == ErrorCode::kTopicAuthorizationFailed
                       ? "this client may not produce to the topic"
                       : "the tier has not said yet whether this client may produce to the topic");
          continue;
        }
        const bool told = topic != nullptr && topic->settings && topic->settings->from_tier;
        CheckPartition(topic, name, data, told ? *topic->settings : defaults, partition);
      }
    }
  }

  void SetThrottle(base::Duration throttle) {
    response_.throttle_time_ms = static_cast<int32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(throttle).count());
  }

  void Complete(std::unique_ptr<SinkRequest> self) override {
    // Answers are put together on the connection's loop, not on the sink's thread.
    loop_.Post([self = std::move(self)] { static_cast<ProduceJob&>(*self).Answer(); });
  }

  // Clients that only want a heartbeat answered do not wait with it.
  void OnWait() override { reply_.ReleaseMemory(); }

  // The transactional id, if any: then it is a local transaction.
  [[nodiscard]] std::optional<std::string_view> transactional_id() const {
    return request_.transactional_id;
  }
  [[nodiscard]] LocalTransactions::Protocol protocol() const {
    return version_ >= kSecondProtocolSince ? LocalTransactions::Protocol::kSecond
                                            : LocalTransactions::Protocol::kFirst;
  }

  void Answer() {
    size_t records = 0;
    size_t bytes = 0;
    size_t next = 0;
    for (auto& topic : response_.responses) {
      for (auto& partition : topic.partition_responses) {
        if (partition.error_code != ErrorCode::kNone) continue;
        SinkEntry& entry = entries[next++];
        partition.error_code = entry.error;
        partition.base_offset = entry.base_offset;
        if (entry.error == ErrorCode::kNone) {
          records += static_cast<size_t>(kafka::RecordBatchView(entry.batch).record_count());
          bytes += entry.batch.size();
        } else {
          SetError(partition, ForVersion(entry.error), std::move(entry.message));
        }
      }
    }
    // What is in a transaction is acknowledged by its end.
    if (!request_.transactional_id) {
      front_.metrics.acknowledged_records.Add(records);
      front_.metrics.acknowledged_bytes.Add(bytes);
    }
    front_.metrics.produce_seconds.Observe(loop_.Now() - begun_);
    if (request_.acks != 0) {
      reply_.Send(kafka::EncodeResponse(response_, version_, correlation_id_));
    } else if (failed_) {
      // The only way to tell a client that does not listen.
      reply_.Close("a produce request with acks=0 was refused");
    } else {
      reply_.SendNothing();
    }
  }

 private:
  // Empty for an id that is not known. The cluster may be another one when the answer is due.
  std::string_view NameOf(const kafka::ProduceRequest::TopicProduceData& asked,
                          const Cluster& cluster) {
    if (version_ < kafka::kProduceByIdSince) return asked.name;
    return names_.Keep(std::string(cluster.NameOf(asked.topic_id)));
  }

  // See proxy/transaction_requests.cc. Produce never said PRODUCER_FENCED, and on
  // UNKNOWN_PRODUCER_ID Java's clients send the batch again: INVALID_TXN_STATE is what makes them
  // abort here.
  [[nodiscard]] ErrorCode ForVersion(ErrorCode error) const {
    if (error == ErrorCode::kProducerFenced) return ErrorCode::kInvalidProducerEpoch;
    if (error == ErrorCode::kTransactionAbortable && version_ < kTransactionAbortableSince) {
      return ErrorCode::kInvalidTxnState;
    }
    return error;
  }

  void CheckPartition(const Topic* topic, std::string_view name,
                      const kafka::ProduceRequest::PartitionProduceData& data,
                      const TopicSettings& settings,
                      ProduceResponse::PartitionProduceResponse& answer) {
    if (!ValidAcks(request_.acks)) {
      return SetError(answer, ErrorCode::kInvalidRequiredAcks, "acks is none of 0, 1 and -1");
    }
    if (front_.cache.Denied(name, now_ms_)) {
      return SetError(answer, ErrorCode::kTopicAuthorizationFailed,
                      "the tier does not let this agent write to the topic");
    }
    if (topic == nullptr && version_ >= kafka::kProduceByIdSince) {
      return SetError(answer, ErrorCode::kUnknownTopicId,
                      "no topic of this id is known so far; ask for metadata again");
    }
    if (topic == nullptr || data.index < 0 ||
        static_cast<size_t>(data.index) >= topic->leaders.size()) {
      return SetError(answer, ErrorCode::kUnknownTopicOrPartition,
                      "neither the tier nor the configuration has named this partition so far");
    }
    if (topic->internal) {
      return SetError(answer, ErrorCode::kInvalidTopicException,
                      "the topic is the tier's own, which writes to it itself");
    }
    kafka::BatchVerdict verdict = CheckForTopic(data.records.value_or(""), settings, now_ms_,
                                                version_ >= kZstdSince, &decompression_);
    if (!verdict.ok()) {
      SetError(answer, verdict.error, std::move(verdict.message));
      return reasons_.Name(verdict.records, answer);
    }
    const kafka::RecordBatchView batch(*data.records);
    if (batch.header().transactional() != request_.transactional_id.has_value()) {
      return SetError(answer, ErrorCode::kInvalidTxnState,
                      "batches are transactional if, and only if, their request has a "
                      "transactional id");
    }
    front_.metrics.accepted_records.Add(static_cast<uint64_t>(batch.record_count()));
    front_.metrics.accepted_bytes.Add(batch.size());
    entries.push_back({.topic = name, .partition = data.index, .batch = *data.records});
  }

  void SetError(ProduceResponse::PartitionProduceResponse& answer, ErrorCode error,
                std::string message) {
    failed_ = true;
    front_.metrics.refused.With(kafka::ErrorName(error)).Add();
    answer.error_code = error;
    reasons_.Explain(response_, answer, std::move(message));
  }

  FrontDoor& front_;
  net::EventLoop& loop_;
  const base::Buffer frame_;
  const int16_t version_;
  const int32_t correlation_id_;
  const std::string_view client_id_;  // Borrows from frame_.
  std::string client_;
  const kafka::ProduceRequest request_;  // Borrows from frame_.
  kafka::Strings names_;
  kafka::DecompressionBudget decompression_{frame_.size()};
  net::Reply reply_;
  const base::TimePoint begun_;
  int64_t now_ms_ = 0;
  ProduceResponse response_;
  bool failed_ = false;
  kafka::ProduceReasons reasons_;
};

}  // namespace

base::Duration BeginProduce(FrontDoor& front, net::EventLoop& loop, const Cluster& cluster,
                            const Gate& gate, base::Buffer frame,
                            const kafka::RequestHeader& header, kafka::ProduceRequest request,
                            net::Reply reply) {
  auto job = std::make_unique<ProduceJob>(front, loop, std::move(frame), header, std::move(request),
                                          std::move(reply));
  job->Check(cluster, gate);
  if (job->entries.empty()) {
    job->Answer();
    return {};
  }
  const base::Duration throttle = front.sink.Charge(*job, loop.Now());
  job->SetThrottle(throttle);
  if (const auto id = job->transactional_id()) {
    const LocalTransactions::Protocol protocol = job->protocol();
    front.transactions()->Append(
        {.transactional_id = std::string(*id), .principal = gate.transactions_principal()},
        protocol, std::move(job));
  } else {
    front.sink.Append(std::move(job));
  }
  return throttle;
}

}  // namespace holdfast::proxy
