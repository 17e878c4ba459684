#include "broker/fetch.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "broker/isolation_level.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;

constexpr int16_t kTopicIdsSince = 13;
constexpr base::Duration kWaitMax = std::chrono::minutes(5);

ErrorCode CheckLeaderEpoch(int32_t asked, int32_t own) {
  if (asked == -1 || asked == own) return ErrorCode::kNone;
  return asked < own ? ErrorCode::kFencedLeaderEpoch : ErrorCode::kUnknownLeaderEpoch;
}

// A partition that is named twice counts once, in the place of the first and with what the last
// says.
void MergeRepeated(std::vector<FetchRequest::FetchTopic>* topics) {
  using Key = std::tuple<std::string_view, kafka::Uuid, int32_t>;
  std::map<Key, FetchRequest::FetchPartition> last;
  size_t named = 0;
  for (const auto& topic : *topics) {
    named += topic.partitions.size();
    for (const auto& partition : topic.partitions) {
      last.insert_or_assign({topic.topic, topic.topic_id, partition.partition}, partition);
    }
  }
  if (last.size() < named) {
    for (auto& topic : *topics) {
      std::vector<FetchRequest::FetchPartition> kept;
      for (const auto& partition : topic.partitions) {
        auto node = last.extract(Key{topic.topic, topic.topic_id, partition.partition});
        if (node) kept.push_back(std::move(node.mapped()));
      }
      topic.partitions = std::move(kept);
    }
  }
  std::erase_if(*topics, [](const auto& topic) { return topic.partitions.empty(); });
}

// From here on a batch is cheaper lent to the kernel than copied.
constexpr size_t kLentBytesMin = 4096;
// Of all loops together: half of what a segment can have of readers (spool/lmdb.cc). More answers
// than that are made in one turn when a batch wakes many consumers.
constexpr size_t kLentReadsMax = 512;

// A read of the spool, and whether batches may leave from it.
class Loan {
 public:
  Loan(spool::Lease lease, std::shared_ptr<std::atomic<size_t>> lent)
      : lease_(std::move(lease)), lent_(std::move(lent)) {
    if (lease_.lasting()) return;
    counted_ = lent_->fetch_add(1) < kLentReadsMax;
    if (!counted_) lent_->fetch_sub(1);
  }
  ~Loan() {
    if (counted_) lent_->fetch_sub(1);
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

  [[nodiscard]] const spool::Lease& lease() const { return lease_; }
  [[nodiscard]] bool given() const { return counted_ || lease_.lasting(); }

 private:
  const spool::Lease lease_;
  const std::shared_ptr<std::atomic<size_t>> lent_;
  bool counted_ = false;
};

// However much waits to leave already, an answer may hold this much.
constexpr size_t kAlwaysGiven = size_t{1} << 20;

// Records of an answer that take memory until they have left.
class Waiting {
 public:
  explicit Waiting(std::shared_ptr<std::atomic<size_t>> total) : total_(std::move(total)) {}
  ~Waiting() { total_->fetch_sub(bytes_); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  void Add(size_t bytes) {
    bytes_ += bytes;
    total_->fetch_add(bytes);
  }

 private:
  const std::shared_ptr<std::atomic<size_t>> total_;
  size_t bytes_ = 0;
};

// Moves the batches behind `pieces`, as one.
void AppendCopy(std::vector<std::string_view>& batches, std::vector<base::Buffer>& pieces) {
  if (batches.empty()) return;
  size_t size = 0;
  for (const std::string_view batch : batches) size += batch.size();
  char* to = pieces.emplace_back(size).data();
  for (const std::string_view batch : batches) {
    std::memcpy(to, batch.data(), batch.size());
    to += batch.size();
  }
  batches.clear();
}

}  // namespace

struct FetchHandler::Answer {
  // What a partition of a session has to tell.
  struct News {
    SessionPartition* partition;
    int64_t high_watermark;
    int64_t log_start;
    int64_t counted_to;
    bool more;  // There may be more than was given.
  };
  FetchResponse response;
  // Those of the response, whose own views say no more than how many bytes there are.
  std::vector<std::vector<base::Buffer>> records;
  std::vector<News> news;
  size_t bytes = 0;
  size_t bytes_max = 0;
  size_t bytes_wanted = 0;
  bool committed_only = false;  // No records of transactions that are open.
  bool any_error = false;
};

struct FetchHandler::Parked {
  [[nodiscard]] int64_t ReadableEnd(const Partition& partition) const {
    return call.request.isolation_level == kReadCommitted ? partition.last_stable_offset.load()
                                                          : partition.high_watermark.load();
  }

  Call call;
  base::TimePoint started;
  FetchSession* session = nullptr;  // It watches; otherwise these do.
  std::vector<Watch> watches = {};
  size_t bytes = 0;
  base::Timer timer = {};
};

FetchHandler::FetchHandler(Context& context, CatalogReader& catalog, Authorizer& authorizer,
                           ClientQuotas& quotas, base::Executor& loop, size_t worker)
    : context_(context),
      catalog_(catalog),
      authorizer_(authorizer),
      quotas_(quotas),
      loop_(loop),
      watches_(worker) {}

FetchHandler::~FetchHandler() = default;

void FetchHandler::Handle(Call call) {
  if (closed_) return call.Close("the broker is shutting down");
  const FetchRequest& request = call.request;
  if (request.session_epoch != kSessionBegins && request.session_epoch != kSessionEnds) {
    return HandleIncremental(std::move(call));
  }
  if (request.session_id != 0) {
    FetchHandler* const owner = context_.fetch_sessions.Close(request.session_id);
    if (owner == this) {
      EndSession(request.session_id);
    } else if (owner != nullptr) {
      owner->OnEvicted(request.session_id);
    }
  }
  HandleWhole(std::move(call));
}

void FetchHandler::HandleWhole(Call call) {
  MergeRepeated(&call.request.topics);
  const FetchRequest& request = call.request;
  const base::TimePoint started = loop_.Now();
  Answer answer = NewAnswer(call);
  Evaluate(call, &answer);
  if (answer.bytes >= answer.bytes_wanted || answer.any_error || request.max_wait_ms <= 0 ||
      request.topics.empty()) {
    return Respond(call, answer, started, nullptr);
  }
  const uint64_t id = next_id_;
  Parked& parked = Park(std::move(call), answer, started);
  WatchAll(id, parked, answer);
  // Entries that became durable before the partitions were watched woke nobody.
  for (Watch& watch : parked.watches) {
    if (Enough(parked, watch)) return Finish(id);
  }
}

void FetchHandler::HandleIncremental(Call call) {
  FetchHandler* const owner = context_.fetch_sessions.FindOwner(call.request.session_id);
  if (owner != this && owner != nullptr) {
    return owner->loop_.Post([owner, call = std::move(call)]() mutable {
      owner->Refresh();
      owner->Handle(std::move(call));
    });
  }
  FetchSession* const session = Enter(call);
  if (session == nullptr) return;
  const FetchRequest& request = call.request;
  const base::TimePoint started = loop_.Now();
  const bool waits = request.max_wait_ms > 0 && BytesWanted(call) > 0;
  // The news of what was acknowledged before may still be on its way here. A right that was taken
  // away is told though its partition is silent.
  const uint64_t rules_version = authorizer_.version();
  if (!waits || session->rules_version != rules_version) session->MarkAllReady();
  session->rules_version = rules_version;
  Answer answer = NewAnswer(call);
  Evaluate(call, *session, &answer);
  if (!waits || answer.bytes >= answer.bytes_wanted || answer.any_error) {
    return Respond(call, answer, started, session);
  }
  for (const Answer::News& news : answer.news) news.partition->counted_to = news.counted_to;
  session->parked = next_id_;
  Park(std::move(call), answer, started).session = session;
}

FetchSession* FetchHandler::Enter(Call& call) {
  const FetchRequest& request = call.request;
  FetchResponse response;
  const auto found = sessions_.find(request.session_id);
  const bool by_id = call.version() >= kTopicIdsSince;
  if (found == sessions_.end()) {
    response.error_code = ErrorCode::kFetchSessionIdNotFound;
  } else if (found->second->epoch != request.session_epoch) {
    response.error_code = ErrorCode::kInvalidFetchSessionEpoch;
  } else if (found->second->by_topic_id != by_id) {
    response.error_code = ErrorCode::kFetchSessionTopicIdError;
  }
  if (response.error_code != ErrorCode::kNone) {
    context_.metrics.errors.With(kafka::ErrorName(response.error_code)).Add();
    call.Respond(response);
    return nullptr;
  }
  FetchSession& session = *found->second;
  // The request before this one has lost its turn.
  session.epoch = NextSessionEpoch(session.epoch);
  if (session.parked != 0) Finish(session.parked);
  for (const auto& topic : request.topics) {
    for (const auto& partition : topic.partitions) session.Put(topic, partition);
  }
  for (const auto& topic : request.forgotten_topics_data) {
    for (const int32_t partition : topic.partitions) session.Forget(topic, partition);
  }
  if (session.size() == 0) {  // Answered as a request without a session.
    context_.fetch_sessions.Close(session.id);
    EndSession(session.id);
    call.request.session_epoch = kSessionEnds;
    HandleWhole(std::move(call));
    return nullptr;
  }
  context_.fetch_sessions.Touch(session.id, session.size(), loop_.Now());
  return &session;
}

int32_t FetchHandler::BeginSession(const Call& call, const Answer& answer) {
  const FetchRequest& request = call.request;
  if (request.session_epoch != kSessionBegins) return 0;
  size_t partitions = 0;
  for (const auto& topic : request.topics) partitions += topic.partitions.size();
  const int32_t id = context_.fetch_sessions.Open(*this, partitions, loop_.Now());
  if (id == 0) return 0;
  const bool by_id = call.version() >= kTopicIdsSince;
  auto session = std::make_unique<FetchSession>(id, by_id, watches_);
  session->rules_version = authorizer_.version();
  for (size_t t = 0; t < request.topics.size(); ++t) {
    const auto& topic = request.topics[t];
    const Topic* const found = FindTopic(by_id, topic.topic, topic.topic_id);
    for (size_t p = 0; p < topic.partitions.size(); ++p) {
      const auto& told = answer.response.responses[t].partitions[p];
      SessionPartition& put = session->Put(topic, topic.partitions[p]);
      put.known_high_watermark = told.high_watermark;
      put.known_log_start = told.log_start_offset;
      session->Resolve(put, found == nullptr ? nullptr : found->Find(put.index));
    }
  }
  sessions_.emplace(id, std::move(session));
  return id;
}

void FetchHandler::EndSession(int32_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  if (found->second->parked != 0) Finish(found->second->parked);
  sessions_.erase(found);
}

void FetchHandler::OnEvicted(int32_t session) {
  loop_.Post([this, session] {
    Refresh();
    EndSession(session);
  });
}

size_t FetchHandler::BytesAllowed(const Call& call) const {
  const auto asked =
      static_cast<size_t>(std::clamp(call.request.max_bytes, 0, context_.options.fetch_bytes_max));
  return std::min(asked, quotas_.BytesMax(QuotaKind::kConsume, call.caller()));
}

size_t FetchHandler::BytesWanted(const Call& call) const {
  return std::min(static_cast<size_t>(std::max(call.request.min_bytes, 0)), BytesAllowed(call));
}

const Topic* FetchHandler::FindTopic(bool by_id, std::string_view name,
                                     const kafka::Uuid& id) const {
  return by_id ? catalog_.topics().Find(id) : catalog_.topics().Find(name);
}

FetchHandler::Answer FetchHandler::NewAnswer(const Call& call) const {
  Answer answer;
  const size_t waiting = context_.fetched_waiting->load();
  const size_t waiting_max = context_.options.fetched_waiting_bytes_max;
  const size_t free = waiting_max - std::min(waiting, waiting_max);
  const size_t allowed = BytesAllowed(call);
  answer.bytes_max = std::min(allowed, std::max(free, kAlwaysGiven));
  answer.bytes_wanted = BytesWanted(call);
  // One that is made short is not to wait for what does not go in.
  if (answer.bytes_max < allowed)
    answer.bytes_wanted = std::min(answer.bytes_wanted, answer.bytes_max / 2);
  answer.committed_only = call.request.isolation_level == kReadCommitted;
  return answer;
}

void FetchHandler::Evaluate(const Call& call, Answer* answer) {
  const FetchRequest& request = call.request;
  answer->response.responses.reserve(request.topics.size());
  const bool by_id = call.version() >= kTopicIdsSince;
  for (const auto& topic_request : request.topics) {
    auto& topic_out = answer->response.responses.emplace_back();
    topic_out.topic = topic_request.topic;
    topic_out.topic_id = topic_request.topic_id;
    topic_out.partitions.reserve(topic_request.partitions.size());
    const Topic* topic = FindTopic(by_id, topic_request.topic, topic_request.topic_id);
    const bool allowed = MayRead(call, topic, topic_request.topic);
    for (const auto& partition_request : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      ReadPartition(partition_request, topic, allowed, by_id, answer, &out);
      answer->any_error |= out.error_code != ErrorCode::kNone;
    }
  }
}

bool FetchHandler::MayRead(const Call& call, const Topic* topic, std::string_view name) {
  if (topic == nullptr && call.version() >= kTopicIdsSince) return true;
  return authorizer_.Allows(call.caller(), AclOperation::kRead, ResourceType::kTopic,
                            topic == nullptr ? name : topic->name);
}

void FetchHandler::Evaluate(const Call& call, FetchSession& session, Answer* answer) {
  answer->response.session_id = session.id;
  FetchSession::Partitions& ready = session.ready();
  for (auto at = ready.begin(); at != ready.end();) {
    if (answer->bytes > 0 && answer->bytes >= answer->bytes_max) return;
    at = EvaluateOne(call, session, *at, answer) ? std::next(at) : session.MarkIdle(at);
  }
}

bool FetchHandler::EvaluateOne(const Call& call, FetchSession& session, SessionPartition& partition,
                               Answer* answer) {
  const bool by_id = session.by_topic_id;
  const Topic* const topic = FindTopic(by_id, partition.topic->name, partition.topic->id);
  session.Resolve(partition, topic == nullptr ? nullptr : topic->Find(partition.index));
  const FetchRequest::FetchPartition request{.partition = partition.index,
                                             .current_leader_epoch = partition.leader_epoch,
                                             .fetch_offset = partition.offset,
                                             .partition_max_bytes = partition.bytes_max,
                                             .replica_directory_id = {},
                                             .unknown_tags = {}};
  FetchResponse::PartitionData out;
  ReadPartition(request, topic, MayRead(call, topic, partition.topic->name), by_id, answer, &out);
  const bool error = out.error_code != ErrorCode::kNone;
  const bool records = !out.records->empty();
  const int64_t end = answer->committed_only ? out.last_stable_offset : out.high_watermark;
  if (!error && !records && out.high_watermark == partition.known_high_watermark &&
      out.log_start_offset == partition.known_log_start) {
    return partition.offset < end;  // Its turn comes when an answer has room for it.
  }
  answer->any_error |= error;
  // Told again when the error has gone.
  answer->news.push_back({.partition = &partition,
                          .high_watermark = error ? -1 : out.high_watermark,
                          .log_start = out.log_start_offset,
                          .counted_to = end,
                          .more = error || partition.offset < end});
  auto& topics = answer->response.responses;
  if (topics.empty() || topics.back().topic != partition.topic->name ||
      topics.back().topic_id != partition.topic->id) {
    auto& topic_out = topics.emplace_back();
    topic_out.topic = partition.topic->name;
    topic_out.topic_id = partition.topic->id;
  }
  topics.back().partitions.push_back(std::move(out));
  return true;
}

void FetchHandler::NoteTold(FetchSession& session, const Answer& answer) {
  for (const Answer::News& news : answer.news) {
    SessionPartition& partition = *news.partition;
    partition.known_high_watermark = news.high_watermark;
    partition.known_log_start = news.log_start;
    if (news.more) {
      session.MoveBack(partition);
    } else {
      session.MarkIdle(session.IteratorOf(partition));
    }
  }
}

void FetchHandler::ReadPartition(const FetchRequest::FetchPartition& request, const Topic* topic,
                                 bool allowed, bool by_id, Answer* answer,
                                 FetchResponse::PartitionData* out) {
  out->partition_index = request.partition;
  out->records = std::string_view("");
  out->high_watermark = -1;
  if (!allowed) {
    out->error_code = ErrorCode::kTopicAuthorizationFailed;
    out->aborted_transactions.emplace();
    return;
  }
  const Partition* partition = topic == nullptr ? nullptr : topic->Find(request.partition);
  if (partition == nullptr) {
    out->error_code = topic == nullptr && by_id ? ErrorCode::kUnknownTopicId
                                                : ErrorCode::kUnknownTopicOrPartition;
    out->aborted_transactions.emplace();
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
  if (request.fetch_offset < end && (answer->bytes == 0 || answer->bytes < answer->bytes_max)) {
    ReadEntries(*partition, request, end, answer, out);
  }
}

// Damage on the disk costs the batches it hit; consumers see a gap in the offsets and go on.
base::Result<spool::Lease> FetchHandler::ReadFrom(const Partition& partition, int64_t offset,
                                                  size_t bytes_max) {
  spool::Spool& spool = context_.log->spool();
  auto lease = spool.ReadSound(partition.stream, offset, bytes_max);
  if (lease || lease.error().code != base::Code::kCorrupt) return lease;
  HF_ASSIGN_OR_RETURN(const int64_t next, spool.NextReadable(partition.stream, offset));
  const Topic* const topic = catalog_.topics().Find(partition.id.topic);
  const std::string name =
      fmt::format("{}-{}", topic == nullptr ? "?" : topic->name, partition.id.partition);
  base::Log(base::Event::kRecordsDamaged, {"broker", name},
            "offsets {} to {} are damaged and left out: {}", offset, next, lease.error().message);
  return spool.ReadSound(partition.stream, next, bytes_max);
}

// The first batch of the whole answer is given however large it is, so that a consumer with small
// limits still gets on (KIP-74).
void FetchHandler::ReadEntries(const Partition& partition,
                               const FetchRequest::FetchPartition& request, int64_t end,
                               Answer* answer, FetchResponse::PartitionData* out) {
  const size_t limit = std::min(static_cast<size_t>(std::max(request.partition_max_bytes, 0)),
                                answer->bytes_max - answer->bytes);
  std::vector<base::Buffer> pieces;
  std::vector<std::string_view> copied;  // Batches that follow each other, to be one piece.
  const auto waiting = std::make_shared<Waiting>(context_.fetched_waiting);
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
    const auto loan = std::make_shared<const Loan>(*std::move(lease), context_.lent);
    const size_t counted = pieces.size();
    std::string_view stretch;  // Batches that lie together, as in a segment that was sorted.
    const auto end_stretch = [&] {
      if (stretch.size() < kLentBytesMin || !loan->given()) {
        copied.push_back(stretch);
      } else {
        AppendCopy(copied, pieces);
        pieces.push_back(loan->lease().lasting() ? base::Buffer::Share(stretch, loan)
                                                 : base::Buffer::Borrow(stretch, loan));
      }
    };
    for (const spool::EntryView& entry : loan->lease().entries()) {
      const bool fits = size + entry.bytes.size() <= limit || (answer->bytes == 0 && size == 0);
      full = !fits || entry.info.base_offset >= end;
      if (full) break;
      if (stretch.data() + stretch.size() == entry.bytes.data()) {
        stretch = {stretch.data(), stretch.size() + entry.bytes.size()};
      } else {
        if (!stretch.empty()) end_stretch();
        stretch = entry.bytes;
      }
      size += entry.bytes.size();
      offset = entry.info.end_offset();
    }
    if (!stretch.empty()) end_stretch();
    AppendCopy(copied, pieces);
    for (base::Buffer& piece : std::span(pieces).subspan(counted)) {
      if (piece.shared() && !loan->lease().decrypted()) continue;
      waiting->Add(piece.size());
      piece.Attach(waiting);
    }
  }
  if (size == 0) return;
  if (answer->committed_only) {
    const auto aborted = partition.transactions.Aborted(request.fetch_offset, offset);
    // Then some may be forgotten already: that comes after the start has moved.
    if (partition.log_start.load() > request.fetch_offset) {
      out->error_code = ErrorCode::kOffsetOutOfRange;
      return;
    }
    for (const AbortedTransaction& one : aborted) {
      out->aborted_transactions->push_back({one.producer_id, one.first_offset, {}});
    }
  }
  out->records = std::string_view(pieces.front().view().data(), size);
  answer->records.push_back(std::move(pieces));
  answer->bytes += size;
}

base::Duration FetchHandler::Charge(Call& call, const Answer& answer) {
  const base::TimePoint now = loop_.Now();
  if (!quotas_.Holds(QuotaKind::kConsume, call.caller())) return call.Settle();
  std::vector<kafka::Gap> gaps;
  const size_t bytes =
      kafka::EncodeResponseAround(answer.response, call.version(), 0, &gaps).size() + answer.bytes;
  base::Duration wait = quotas_.Record(QuotaKind::kConsume, call.caller(), bytes, now);
  wait = std::max(wait, call.Settle());
  // They are not given.
  if (wait > base::Duration::zero())
    quotas_.TakeBack(QuotaKind::kConsume, call.caller(), bytes, now);
  return wait;
}

void FetchHandler::Respond(Call& call, Answer& answer, base::TimePoint started,
                           FetchSession* session) {
  context_.metrics.fetch_seconds.Observe(loop_.Now() - started);
  if (const base::Duration wait = Charge(call, answer); wait > base::Duration::zero()) {
    FetchResponse empty;
    empty.error_code = answer.response.error_code;
    empty.session_id = session == nullptr ? 0 : session->id;
    call.Throttle(wait);
    return call.Respond(empty);
  }
  if (answer.any_error) {
    for (const auto& topic : answer.response.responses) {
      for (const auto& partition : topic.partitions) {
        if (partition.error_code == ErrorCode::kNone) continue;
        context_.metrics.errors.With(kafka::ErrorName(partition.error_code)).Add();
      }
    }
  }
  context_.metrics.fetched_bytes.Add(answer.bytes);
  if (session == nullptr) {
    answer.response.session_id = BeginSession(call, answer);
  } else {
    NoteTold(*session, answer);
  }
  call.Respond(answer.response, std::move(answer.records));
}

void FetchHandler::Refresh() {
  catalog_.Refresh();
  authorizer_.Refresh();
  quotas_.Refresh();
}

FetchHandler::Parked& FetchHandler::Park(Call call, const Answer& answer, base::TimePoint started) {
  const uint64_t id = next_id_++;
  const base::Duration wait =
      std::min<base::Duration>(std::chrono::milliseconds(call.request.max_wait_ms), kWaitMax);
  Parked& parked =
      *parked_
           .emplace(id, std::make_unique<Parked>(Parked{
                            .call = std::move(call), .started = started, .bytes = answer.bytes}))
           .first->second;
  context_.metrics.parked_fetches.Add();
  parked.timer = loop_.After(wait, [this, id] {
    Refresh();
    Finish(id);
  });
  return parked;
}

void FetchHandler::WatchAll(uint64_t id, Parked& parked, const Answer& answer) {
  const FetchRequest& request = parked.call.request;
  const bool by_id = parked.call.version() >= kTopicIdsSince;
  for (size_t t = 0; t < request.topics.size(); ++t) {
    const auto& topic_request = request.topics[t];
    const Topic* topic = FindTopic(by_id, topic_request.topic, topic_request.topic_id);
    for (size_t p = 0; p < topic_request.partitions.size(); ++p) {
      // What the answer holds is counted; the rest up to the end was beyond its limits.
      const auto& asked = topic_request.partitions[p];
      const auto& out = answer.response.responses[t].partitions[p];
      parked.watches.push_back(
          {.partition = topic->Find(asked.partition),
           .offset = asked.fetch_offset,
           .counted_to = answer.committed_only ? out.last_stable_offset : out.high_watermark,
           .fetch = id});
    }
  }
  for (Watch& watch : parked.watches) watches_.Add(watch);
}

bool FetchHandler::Enough(Parked& parked, Watch& watch) {
  const Partition& partition = *watch.partition;
  // The answer will say what is wrong.
  if (catalog_.topics().Find(partition.id.topic) == nullptr) return true;
  if (watch.offset < partition.log_start.load()) return true;
  const size_t wanted = BytesWanted(parked.call);
  const int64_t end = parked.ReadableEnd(partition);
  while (watch.counted_to < end && parked.bytes < wanted) {
    auto lease =
        context_.log->spool().Read(partition.stream, watch.counted_to, wanted - parked.bytes);
    if (!lease) return true;
    if (lease->empty()) break;
    for (const spool::EntryView& entry : lease->entries()) {
      if (entry.info.base_offset >= end) break;
      parked.bytes += entry.bytes.size();
      watch.counted_to = entry.info.end_offset();
    }
  }
  return parked.bytes >= wanted;
}

void FetchHandler::Wake(std::span<const spool::StreamId> streams) {
  Refresh();
  std::vector<uint64_t> finished;
  for (const spool::StreamId stream : streams) {
    for (Watch* watch = watches_.First(stream); watch != nullptr; watch = watch->next) {
      uint64_t id = watch->fetch;
      if (watch->session != nullptr) {
        watch->session->MarkReady(static_cast<SessionPartition&>(*watch));
        id = watch->session->parked;
      }
      if (id != 0 && Enough(*parked_.at(id), *watch)) finished.push_back(id);
    }
  }
  for (const uint64_t id : finished) Finish(id);
}

void FetchHandler::Finish(uint64_t id) {
  const auto found = parked_.find(id);
  if (found == parked_.end()) return;
  const std::unique_ptr<Parked> parked = std::move(found->second);
  parked_.erase(found);
  context_.metrics.parked_fetches.Sub();
  for (Watch& watch : parked->watches) watches_.Remove(watch);
  Answer answer = NewAnswer(parked->call);
  if (parked->session == nullptr) {
    Evaluate(parked->call, &answer);
    return Respond(parked->call, answer, parked->started, nullptr);
  }
  FetchSession& session = *parked->session;
  session.parked = 0;
  if (session.epoch != NextSessionEpoch(parked->call.request.session_epoch)) {
    answer.response.session_id = session.id;
    answer.response.error_code = ErrorCode::kInvalidFetchSessionEpoch;
  } else {
    Evaluate(parked->call, session, &answer);
  }
  Respond(parked->call, answer, parked->started, &session);
}

void FetchHandler::Close() {
  closed_ = true;
  while (!parked_.empty()) Finish(parked_.begin()->first);
}

}  // namespace holdfast::broker
