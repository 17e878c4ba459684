#include "broker/fetch.h"

#include <algorithm>

#include "base/log.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;

constexpr int16_t kTopicIdsSince = 13;
constexpr int8_t kReadCommitted = 1;
constexpr base::Duration kWaitMax = std::chrono::minutes(5);

ErrorCode CheckLeaderEpoch(int32_t asked, int32_t own) {
  if (asked == -1 || asked == own) return ErrorCode::kNone;
  return asked < own ? ErrorCode::kFencedLeaderEpoch : ErrorCode::kUnknownLeaderEpoch;
}

}  // namespace

struct FetchHandler::Answer {
  FetchResponse response;
  std::vector<base::Buffer> records;  // What the response's views borrow.
  size_t bytes = 0;
  size_t bytes_max = 0;
  bool committed_only = false;  // No records of transactions that are open.
  bool any_error = false;
};

struct FetchHandler::Parked {
  struct Wait {
    Partition* partition;
    int64_t counted_to;  // Entries below it are in `bytes`.
  };
  [[nodiscard]] int64_t ReadableEnd(const Partition& partition) const {
    return call.request.isolation_level == kReadCommitted ? partition.last_stable_offset.load()
                                                          : partition.high_watermark.load();
  }

  Call call;
  base::TimePoint started;
  std::vector<Wait> waits;
  size_t bytes = 0;
  base::Timer timer;
};

FetchHandler::FetchHandler(Context& context, CatalogReader& catalog, Authorizer& authorizer,
                           base::Executor& loop, size_t worker)
    : context_(context),
      catalog_(catalog),
      authorizer_(authorizer),
      loop_(loop),
      worker_bit_(uint64_t{1} << worker) {}

FetchHandler::~FetchHandler() = default;

void FetchHandler::Handle(Call call) {
  const FetchRequest& request = call.request;
  const base::TimePoint started = loop_.Now();
  if (request.session_id != 0 && request.session_epoch > 0) {
    FetchResponse response;
    response.error_code = ErrorCode::kFetchSessionIdNotFound;
    call.Respond(response);
    return;
  }
  Answer answer;
  Evaluate(call, &answer);
  const bool enough = answer.bytes >= BytesWanted(request);
  if (enough || answer.any_error || request.max_wait_ms <= 0 || request.topics.empty()) {
    Respond(call, answer, started);
  } else {
    Park(std::move(call), answer, started);
  }
}

size_t FetchHandler::BytesAllowed(const FetchRequest& request) const {
  return static_cast<size_t>(std::clamp(request.max_bytes, 0, context_.options.fetch_bytes_max));
}

size_t FetchHandler::BytesWanted(const FetchRequest& request) const {
  return std::min(static_cast<size_t>(std::max(request.min_bytes, 0)), BytesAllowed(request));
}

void FetchHandler::Evaluate(const Call& call, Answer* answer) {
  const FetchRequest& request = call.request;
  answer->bytes_max = BytesAllowed(request);
  answer->committed_only = request.isolation_level == kReadCommitted;
  answer->response.responses.reserve(request.topics.size());
  const bool by_id = call.version() >= kTopicIdsSince;
  for (const auto& topic_request : request.topics) {
    auto& topic_out = answer->response.responses.emplace_back();
    topic_out.topic = topic_request.topic;
    topic_out.topic_id = topic_request.topic_id;
    topic_out.partitions.reserve(topic_request.partitions.size());
    const Topic* topic = by_id ? catalog_.topics().Find(topic_request.topic_id)
                               : catalog_.topics().Find(topic_request.topic);
    const std::string_view name = topic == nullptr ? topic_request.topic : topic->name;
    const bool allowed =
        (topic == nullptr && by_id) ||
        authorizer_.Allows(call.caller(), AclOperation::kRead, ResourceType::kTopic, name);
    for (const auto& partition_request : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      if (allowed) {
        ReadPartition(partition_request, topic, by_id, answer, &out);
      } else {
        out.partition_index = partition_request.partition;
        out.records = std::string_view("");
        out.high_watermark = -1;
        out.error_code = ErrorCode::kTopicAuthorizationFailed;
      }
      answer->any_error |= out.error_code != ErrorCode::kNone;
    }
  }
}

void FetchHandler::ReadPartition(const FetchRequest::FetchPartition& request, const Topic* topic,
                                 bool by_id, Answer* answer, FetchResponse::PartitionData* out) {
  out->partition_index = request.partition;
  out->records = std::string_view("");
  out->high_watermark = -1;
  const Partition* partition = topic == nullptr ? nullptr : topic->Find(request.partition);
  if (partition == nullptr) {
    out->error_code = topic == nullptr && by_id ? ErrorCode::kUnknownTopicId
                                                : ErrorCode::kUnknownTopicOrPartition;
    return;
  }
  out->error_code = CheckLeaderEpoch(request.current_leader_epoch, partition->leader_epoch);
  if (out->error_code != ErrorCode::kNone) return;

  // In this order, or it might be seen above the watermark.
  const int64_t last_stable = partition->last_stable_offset.load();
  const int64_t high_watermark = partition->high_watermark.load();
  const int64_t log_start = partition->log_start.load();
  if (request.fetch_offset < log_start || request.fetch_offset > high_watermark) {
    out->error_code = ErrorCode::kOffsetOutOfRange;
    return;
  }
  out->high_watermark = high_watermark;
  out->last_stable_offset = std::max(last_stable, log_start);
  out->log_start_offset = log_start;
  if (answer->committed_only) out->aborted_transactions.emplace();
  const int64_t end = answer->committed_only ? last_stable : high_watermark;
  if (request.fetch_offset < end && answer->bytes < answer->bytes_max) {
    ReadEntries(*partition, request, end, answer, out);
  }
}

// Damage on the disk costs the batches it hit; consumers see a gap in the offsets and go on.
base::Result<spool::Lease> FetchHandler::ReadFrom(const Partition& partition, int64_t offset,
                                                  size_t bytes_max) {
  spool::Spool& spool = context_.log->spool();
  auto lease = spool.Read(partition.stream, offset, bytes_max);
  if (lease || lease.error().code != base::Code::kCorrupt) return lease;
  HF_ASSIGN_OR_RETURN(const int64_t next, spool.NextReadable(partition.stream, offset));
  base::Log(base::LogLevel::kError, "broker", "offsets {} to {} are damaged and left out: {}",
            offset, next, lease.error().message);
  return spool.Read(partition.stream, next, bytes_max);
}

// The first batch of the whole answer is given however large it is, so that a consumer with small
// limits still gets on (KIP-74).
void FetchHandler::ReadEntries(const Partition& partition,
                               const FetchRequest::FetchPartition& request, int64_t end,
                               Answer* answer, FetchResponse::PartitionData* out) {
  const size_t limit = std::min(static_cast<size_t>(std::max(request.partition_max_bytes, 0)),
                                answer->bytes_max - answer->bytes);
  std::vector<spool::Lease> leases;  // One for each segment that the answer draws from.
  std::vector<std::string_view> batches;
  size_t size = 0;
  int64_t offset = request.fetch_offset;
  for (bool full = false; !full && offset < end && (size == 0 || size < limit);) {
    auto lease = ReadFrom(partition, offset, limit - size);
    if (!lease && size == 0) {
      // Trimmed meanwhile, or the disk does not answer.
      out->error_code = lease.error().code == base::Code::kNotFound
                            ? ErrorCode::kOffsetOutOfRange
                            : kafka::ToPartitionError(lease.error().code);
      return;
    }
    if (!lease || lease->empty()) break;
    for (const spool::EntryView& entry : lease->entries()) {
      const bool fits = size + entry.bytes.size() <= limit || (answer->bytes == 0 && size == 0);
      full = !fits || entry.info.base_offset >= end;
      if (full) break;
      batches.push_back(entry.bytes);
      size += entry.bytes.size();
      offset = entry.info.end_offset();
    }
    leases.push_back(*std::move(lease));
  }
  if (size == 0) return;
  base::Buffer& buffer = answer->records.emplace_back(size);
  char* to = buffer.data();
  for (const std::string_view batch : batches) {
    std::memcpy(to, batch.data(), batch.size());
    to += batch.size();
  }
  out->records = buffer.view();
  answer->bytes += size;
  if (!answer->committed_only) return;
  for (const AbortedTransaction& aborted :
       partition.transactions.Aborted(request.fetch_offset, offset)) {
    out->aborted_transactions->push_back({aborted.producer_id, aborted.first_offset, {}});
  }
}

void FetchHandler::Respond(Call& call, const Answer& answer, base::TimePoint started) {
  if (answer.any_error) {
    for (const auto& topic : answer.response.responses) {
      for (const auto& partition : topic.partitions) {
        if (partition.error_code == ErrorCode::kNone) continue;
        context_.metrics.errors.With(kafka::ErrorName(partition.error_code)).Add();
      }
    }
  }
  context_.metrics.fetched_bytes.Add(answer.bytes);
  context_.metrics.fetch_seconds.Observe(loop_.Now() - started);
  call.Respond(answer.response);
}

void FetchHandler::Park(Call call, const Answer& answer, base::TimePoint started) {
  const uint64_t id = next_id_++;
  const base::Duration wait =
      std::min<base::Duration>(std::chrono::milliseconds(call.request.max_wait_ms), kWaitMax);
  const bool by_id = call.version() >= kTopicIdsSince;
  Parked& parked =
      parked_.emplace(id, Parked{std::move(call), started, {}, answer.bytes, {}}).first->second;
  context_.metrics.parked_fetches.Add();

  size_t topic_at = 0;
  for (const auto& topic_request : parked.call.request.topics) {
    const auto& topic_out = answer.response.responses[topic_at++];
    const Topic* topic = by_id ? catalog_.topics().Find(topic_request.topic_id)
                               : catalog_.topics().Find(topic_request.topic);
    for (size_t i = 0; i < topic_request.partitions.size(); ++i) {
      // What the answer holds is counted; the rest up to the end was beyond its limits.
      Partition* partition = topic->Find(topic_request.partitions[i].partition);
      const auto& out = topic_out.partitions[i];
      parked.waits.push_back(
          {partition, answer.committed_only ? out.last_stable_offset : out.high_watermark});
      std::unordered_set<uint64_t>& waiting = waiting_[partition->stream];
      waiting.insert(id);
      if (waiting.size() == 1) partition->waiting_workers.fetch_or(worker_bit_);
    }
  }
  parked.timer = loop_.After(wait, [this, id] {
    catalog_.Refresh();
    authorizer_.Refresh();
    Finish(id);
  });
  // Entries that became durable before the bits were set woke nobody.
  if (Enough(parked)) Finish(id);
}

bool FetchHandler::Enough(Parked& parked) {
  const size_t wanted = BytesWanted(parked.call.request);
  for (Parked::Wait& wait : parked.waits) {
    if (catalog_.topics().Find(wait.partition->id.topic) == nullptr) return true;
    const int64_t end = parked.ReadableEnd(*wait.partition);
    while (wait.counted_to < end && parked.bytes < wanted) {
      auto lease = context_.log->spool().Read(wait.partition->stream, wait.counted_to,
                                              wanted - parked.bytes);
      if (!lease) return true;  // The answer will say what is wrong.
      if (lease->empty()) break;
      for (const spool::EntryView& entry : lease->entries()) {
        if (entry.info.base_offset >= end) break;
        parked.bytes += entry.bytes.size();
        wait.counted_to = entry.info.end_offset();
      }
    }
    if (parked.bytes >= wanted) return true;
  }
  return false;
}

void FetchHandler::Wake(std::span<const spool::StreamId> streams) {
  catalog_.Refresh();
  authorizer_.Refresh();
  std::unordered_set<uint64_t> touched;
  for (const spool::StreamId stream : streams) {
    const auto waiting = waiting_.find(stream);
    if (waiting != waiting_.end()) touched.insert(waiting->second.begin(), waiting->second.end());
  }
  for (const uint64_t id : touched) {
    if (Enough(parked_.at(id))) Finish(id);
  }
}

void FetchHandler::Finish(uint64_t id) {
  const auto found = parked_.find(id);
  if (found == parked_.end()) return;
  Parked parked = std::move(found->second);
  parked_.erase(found);
  context_.metrics.parked_fetches.Sub();
  StopWaiting(id, parked);
  Answer answer;
  Evaluate(parked.call, &answer);
  Respond(parked.call, answer, parked.started);
}

void FetchHandler::StopWaiting(uint64_t id, const Parked& parked) {
  for (const Parked::Wait& wait : parked.waits) {
    const auto waiting = waiting_.find(wait.partition->stream);
    if (waiting == waiting_.end()) continue;
    waiting->second.erase(id);
    if (!waiting->second.empty()) continue;
    waiting_.erase(waiting);
    wait.partition->waiting_workers.fetch_and(~worker_bit_);
  }
}

void FetchHandler::Close() {
  while (!parked_.empty()) Finish(parked_.begin()->first);
}

}  // namespace holdfast::broker
