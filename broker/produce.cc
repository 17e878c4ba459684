#include "broker/produce.h"

#include <algorithm>
#include <limits>

#include "base/event.h"
#include "broker/internal_topics.h"
#include "kafka/error_map.h"
#include "kafka/produce_reasons.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

constexpr int16_t kTopicIdsSince = 13;
constexpr int16_t kZstdSince = 7;
constexpr int16_t kAbortableSince = 11;
// From here on the first batch for a partition adds that to the transaction (KIP-890).
constexpr int16_t kAddsPartitionsSince = 12;
// Operations larger than that are split between batches, so that a huge request neither fills the
// spool's queue nor makes a huge frame.
constexpr size_t kOperationBytesMax = size_t{1} << 20;

// Walks the records of a batch that is not compressed. Retention and the search by time go by the
// largest time among them then, not by what the producer says that is.
kafka::BatchVerdict CheckUncompressed(const kafka::RecordBatchView& batch,
                                      const kafka::RecordRules& rules, int64_t* max_timestamp) {
  const kafka::BatchHeader header = batch.header();
  *max_timestamp = header.max_timestamp;
  if (header.codec() != kafka::Codec::kNone) return {};
  kafka::RecordReader reader(header, batch.payload());
  kafka::Record record;
  int64_t latest = -1;
  while (reader.Next(&record)) latest = std::max(latest, record.timestamp);
  if (const auto whole = reader.status(); !whole) {
    return {.error = ErrorCode::kInvalidRecord, .message = whole.error().message};
  }
  *max_timestamp = latest;
  if (latest <= rules.latest_timestamp) return {};
  return kafka::CheckRecords(header, batch.payload(), rules);  // Names them.
}

}  // namespace

// One partition of a request.
struct ProduceHandler::Batch {
  bool admitted = false;  // By the worker: Apply is to append it.
  bool duplicate = false;
  bool log_append_time = false;
  Partition* partition = nullptr;
  std::span<char> bytes;
  std::string recompressed;  // What `bytes` are then, and not the request's.
  kafka::SequencedBatch sequenced;
  int64_t max_timestamp = -1;

  ErrorCode error = ErrorCode::kNone;
  std::vector<int32_t> bad_records;
  std::string message;
  int64_t base_offset = -1;
  int64_t append_time_ms = -1;  // Only of a topic with LogAppendTime.

  void Refuse(ErrorCode code, std::string why) {
    error = code;
    message = std::move(why);
    admitted = false;
  }
};

struct ProduceHandler::Production {
  Production(kafka::Call<ProduceRequest> produce_call, base::TimePoint now, int64_t wall_clock_ms)
      : call(std::move(produce_call)),
        started(now),
        started_ms(wall_clock_ms),
        decompression(call.frame().size()) {}

  kafka::Call<ProduceRequest> call;
  const base::TimePoint started;
  const int64_t started_ms;
  kafka::DecompressionBudget decompression;
  std::vector<Batch> batches;  // In the order of the request.
  size_t operations = 0;       // Not yet done. Of the worker's loop.
};

class ProduceHandler::Append final : public spool::Operation {
 public:
  Append(ProduceHandler& handler, std::shared_ptr<Production> production, std::span<Batch> batches,
         size_t bytes)
      : handler_(handler), production_(std::move(production)), batches_(batches), bytes_(bytes) {}

  [[nodiscard]] size_t Bytes() const override { return bytes_; }

  void Apply(spool::Transaction& transaction) override {
    for (Batch& batch : batches_) {
      if (batch.admitted) ApplyOne(transaction, batch);
    }
  }

  void Done(const base::Result<spool::CommitNumber>& result) override {
    if (!result) {
      // The one is for a batch that is too large by itself.
      const bool too_large = result.error().event == base::Event::kTooLargeForSpool &&
                             std::ranges::count_if(batches_, &Batch::admitted) == 1;
      for (Batch& batch : batches_) {
        if (!batch.admitted) continue;
        batch.error =
            too_large ? ErrorCode::kMessageTooLarge : kafka::ToPartitionError(result.error().code);
        batch.message = result.error().message;
      }
    }
    handler_.loop_.Post([&handler = handler_, production = std::move(production_)] {
      if (--production->operations == 0) handler.Finish(*production);
    });
  }

 private:
  void ApplyOne(spool::Transaction& transaction, Batch& batch) {
    Partition& partition = *batch.partition;
    batch.error = ErrorCode::kNone;
    if (partition.deleted) {
      batch.error = production_->call.version() >= kTopicIdsSince
                        ? ErrorCode::kUnknownTopicId
                        : ErrorCode::kUnknownTopicOrPartition;
      return;
    }
    const bool sequenced = batch.sequenced.producer.id != kafka::kNoProducerId;
    if (batch.sequenced.transactional && !JoinTransaction(transaction, batch)) return;
    if (sequenced && !CheckProducer(partition, batch)) return;

    batch.base_offset = transaction.EndOffset(partition.stream);
    kafka::SetBaseOffset(batch.bytes, batch.base_offset);
    kafka::SetPartitionLeaderEpoch(batch.bytes, partition.leader_epoch);
    const int64_t now_ms = transaction.commit_time_ms();
    if (batch.log_append_time) {
      kafka::SetLogAppendTime(batch.bytes, now_ms);
      batch.max_timestamp = batch.append_time_ms = now_ms;
    }
    // Records without a time count as of now, so that they are not dropped by age at once.
    handler_.context_.log->AppendBatch(transaction, partition,
                                       {batch.bytes.data(), batch.bytes.size()}, batch.sequenced,
                                       batch.max_timestamp < 0 ? now_ms : batch.max_timestamp);
  }

  // The first batch of a transaction in this partition asks whether it may. False if not.
  bool JoinTransaction(spool::Transaction& transaction, Batch& batch) {
    const auto& [id, epoch, sequence] = batch.sequenced.producer;
    if (batch.partition->producers.transaction_start(id, epoch) >= 0) return true;
    const int16_t version = production_->call.version();
    const std::string_view transactional_id = *production_->call.request.transactional_id;
    Transactions& transactions = handler_.context_.log->transactions();
    batch.error =
        version >= kAddsPartitionsSince
            ? transactions.AddPartition(transaction, transactional_id, {id, epoch},
                                        *batch.partition)
            : transactions.CheckPartition(transactional_id, {id, epoch}, batch.partition->id);
    if (batch.error == ErrorCode::kNone) return true;
    batch.message = "the producer may not write to this partition in a transaction: " +
                    std::string(kafka::ErrorName(batch.error));
    batch.error = ForVersion(batch.error, version, kInNoVersion, kAbortableSince);
    return false;
  }

  // False if there is nothing to append.
  static bool CheckProducer(const Partition& partition, Batch& batch) {
    kafka::ProducerVerdict verdict = partition.producers.Check(batch.sequenced);
    switch (verdict.kind) {
      case kafka::ProducerVerdict::Kind::kAppend:
        return true;
      case kafka::ProducerVerdict::Kind::kDuplicate:
        batch.duplicate = true;
        batch.base_offset = verdict.base_offset;
        if (batch.log_append_time) batch.append_time_ms = verdict.timestamp;
        return false;
      case kafka::ProducerVerdict::Kind::kRefuse:
        batch.error = verdict.error;
        batch.message = std::move(verdict.message);
        return false;
    }
    return false;
  }

  ProduceHandler& handler_;
  std::shared_ptr<Production> production_;
  const std::span<Batch> batches_;
  const size_t bytes_;
};

void ProduceHandler::Handle(kafka::Call<ProduceRequest> call) {
  auto production = std::make_shared<Production>(std::move(call), loop_.Now(), loop_.WallClockMs());
  CheckAll(*production);
  SubmitAll(production);
  if (production->operations == 0) Finish(*production);
}

void ProduceHandler::CheckAll(Production& production) {
  const ProduceRequest& request = production.call.request;
  size_t count = 0;
  for (const auto& topic : request.topic_data) count += topic.partition_data.size();
  production.batches.resize(count);

  size_t at = 0;
  for (const auto& topic_request : request.topic_data) {
    const Topic* topic = production.call.version() >= kTopicIdsSince
                             ? catalog_.topics().Find(topic_request.topic_id)
                             : catalog_.topics().Find(topic_request.name);
    for (const auto& partition_request : topic_request.partition_data) {
      CheckOne(partition_request, topic, production, production.batches[at++]);
    }
  }
}

// In the order of Kafka's checks.
void ProduceHandler::CheckOne(const ProduceRequest::PartitionProduceData& request,
                              const Topic* topic, Production& production, Batch& batch) {
  const int16_t version = production.call.version();
  const int16_t acks = production.call.request.acks;
  if (acks < -1 || acks > 1) {
    return batch.Refuse(ErrorCode::kInvalidRequiredAcks, "acks must be 0, 1 or -1 (all)");
  }
  batch.partition = topic == nullptr ? nullptr : topic->Find(request.index);
  if (batch.partition == nullptr) {
    return version >= kTopicIdsSince && topic == nullptr
               ? batch.Refuse(ErrorCode::kUnknownTopicId, "no topic has this id")
               : batch.Refuse(ErrorCode::kUnknownTopicOrPartition,
                              "there is no such topic or partition");
  }
  if (IsInternalTopic(topic->name) && production.call.caller().client_id != kAdminClientId) {
    return batch.Refuse(ErrorCode::kInvalidTopicException,
                        "Cannot append to internal topic " + topic->name);
  }
  const int32_t own_limit = topic->config.max_message_bytes();
  batch.log_append_time = topic->config.log_append_time();
  kafka::ProduceRules rules{.max_batch_bytes = static_cast<size_t>(
                                own_limit >= 0 ? own_limit : context_.options.max_message_bytes),
                            .zstd_allowed = version >= kZstdSince};
  const int64_t now_ms = production.started_ms;
  const int64_t ahead_ms = topic->config.timestamp_after_max_ms();
  kafka::RecordRules record_rules{.keys_required = topic->config.compacted(),
                                  .budget = &production.decompression};
  if (!batch.log_append_time) {
    if (ahead_ms < std::numeric_limits<int64_t>::max() - now_ms) {
      rules.latest_timestamp = record_rules.latest_timestamp = now_ms + ahead_ms;
    }
    record_rules.earliest_timestamp = now_ms - topic->config.timestamp_before_max_ms();
  }
  const std::string_view records = request.records.value_or(std::string_view());
  kafka::BatchVerdict verdict = kafka::CheckProduced(records, rules);
  if (verdict.ok()) {
    verdict =
        CheckUncompressed(kafka::RecordBatchView(records), record_rules, &batch.max_timestamp);
  }
  if (verdict.ok()) {
    verdict = CheckContents(topic->config, rules.max_batch_bytes, record_rules,
                            kafka::RecordBatchView(records), &batch.recompressed);
  }
  if (!verdict.ok()) {
    batch.bad_records = std::move(verdict.records);
    return batch.Refuse(verdict.error, std::move(verdict.message));
  }
  const kafka::BatchHeader header = kafka::RecordBatchView(records).header();
  if (header.transactional() && !production.call.request.transactional_id) {
    return batch.Refuse(ErrorCode::kTransactionalIdAuthorizationFailed,
                        "a transactional batch in a request without a transactional id");
  }
  // The call owns the frame and nobody else reads it: offsets are written into it in place.
  batch.bytes = batch.recompressed.empty()
                    ? std::span(const_cast<char*>(records.data()), records.size())
                    : std::span(batch.recompressed);
  batch.sequenced = kafka::SequencedBatch::FromHeader(header);
  batch.sequenced.transactions_v2 = version >= kAddsPartitionsSince;
  batch.admitted = true;
}

// Looks into the records where the topic's settings ask for it: keys, the oldest time allowed,
// another codec, which goes to `recompressed`.
kafka::BatchVerdict ProduceHandler::CheckContents(const TopicConfig& config, size_t max_batch_bytes,
                                                  const kafka::RecordRules& rules,
                                                  const kafka::RecordBatchView& batch,
                                                  std::string* recompressed) {
  const kafka::BatchHeader header = batch.header();
  const std::optional<kafka::Codec> codec = config.codec();
  const bool other_codec = codec && *codec != header.codec();
  const bool has_earliest = !config.log_append_time() &&
                            config.timestamp_before_max_ms() != std::numeric_limits<int64_t>::max();
  if (!other_codec && !rules.keys_required && !has_earliest) return {};
  const auto records =
      kafka::UncompressedRecords::Of(batch, rules.decompressed_limit, rules.budget);
  if (!records) return kafka::RefuseUncompressed(records.error());
  kafka::BatchVerdict verdict = kafka::CheckRecords(header, records->bytes(), rules);
  if (!verdict.ok() || !other_codec) return verdict;
  *recompressed = kafka::Recompress(batch, records->bytes(), *codec, config.compression_level());
  if (recompressed->size() <= max_batch_bytes) return {};
  return {.error = ErrorCode::kMessageTooLarge,
          .message = "batch of " + std::to_string(recompressed->size()) +
                     " bytes, compressed as the topic's compression.type says, exceeds the "
                     "topic's " +
                     std::to_string(max_batch_bytes)};
}

void ProduceHandler::SubmitAll(const std::shared_ptr<Production>& production) {
  std::vector<std::unique_ptr<Append>> operations;
  const std::span<Batch> all(production->batches);
  size_t from = 0;
  size_t bytes = 0;
  bool any = false;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].admitted) continue;
    if (any && bytes + all[i].bytes.size() > kOperationBytesMax) {
      operations.push_back(
          std::make_unique<Append>(*this, production, all.subspan(from, i - from), bytes));
      from = i;
      bytes = 0;
    }
    any = true;
    bytes += all[i].bytes.size();
  }
  if (any) {
    operations.push_back(std::make_unique<Append>(*this, production, all.subspan(from), bytes));
  }
  production->operations = operations.size();
  for (auto& operation : operations) submitter_.Submit(std::move(operation));
}

bool ProduceHandler::CountOutcomes(const Production& production) {
  uint64_t records = 0;
  uint64_t bytes = 0;
  uint64_t duplicates = 0;
  bool refused = false;
  for (const Batch& batch : production.batches) {
    if (batch.error != ErrorCode::kNone) {
      refused = true;
      context_.metrics.errors.With(kafka::ErrorName(batch.error)).Add();
    } else if (batch.duplicate) {
      ++duplicates;
    } else {
      records += static_cast<uint64_t>(batch.sequenced.record_count);
      bytes += batch.bytes.size();
    }
  }
  context_.metrics.produced_records.Add(records);
  context_.metrics.produced_bytes.Add(bytes);
  context_.metrics.duplicate_batches.Add(duplicates);
  context_.metrics.produce_seconds.Observe(loop_.Now() - production.started);
  return refused;
}

void ProduceHandler::Finish(Production& production) {
  const bool refused = CountOutcomes(production);
  const ProduceRequest& request = production.call.request;
  production.call.Throttle(quotas_.Record(QuotaKind::kProduce, production.call.caller(),
                                          production.call.frame().size(), loop_.Now()));
  if (request.acks == 0) {
    // The client cannot be told what failed; a lost connection makes it ask for metadata again.
    if (refused) return production.call.Close("a produce request with acks=0 failed");
    return production.call.NoResponse();
  }
  ProduceResponse response;
  kafka::ProduceReasons reasons;
  response.responses.reserve(request.topic_data.size());
  size_t at = 0;
  for (const auto& topic : request.topic_data) {
    auto& topic_response = response.responses.emplace_back();
    topic_response.name = topic.name;
    topic_response.topic_id = topic.topic_id;
    topic_response.partition_responses.reserve(topic.partition_data.size());
    for (const auto& partition : topic.partition_data) {
      Batch& batch = production.batches[at++];
      auto& out = topic_response.partition_responses.emplace_back();
      out.index = partition.index;
      out.error_code = batch.error;
      out.base_offset = -1;
      if (batch.error == ErrorCode::kNone) {
        out.base_offset = batch.base_offset;
        out.log_append_time_ms = batch.append_time_ms;
        out.log_start_offset = batch.partition->log_start.load(std::memory_order_relaxed);
      } else {
        reasons.Explain(response, out, std::move(batch.message));
        reasons.Name(batch.bad_records, out);
      }
    }
  }
  production.call.Respond(response);
}

}  // namespace holdfast::broker
