#include "agent/upstream_transaction.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/produce_request.h"
#include "agent/tier_transactions.h"
#include "base/log.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/produce.h"
#include "kafka/api/txn_offset_commit.h"
#include "proxy/backoff.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

// The newest versions of the first protocol.
constexpr int16_t kFirstProduceCap = 11;
constexpr int16_t kFirstTxnOffsetCommitCap = 4;
constexpr int16_t kFirstEndTxnCap = 4;
constexpr int16_t kAddPartitionsCap = 3;  // Later ones are for brokers.
constexpr int16_t kOffsetFetchByNameCap = 9;
constexpr int16_t kOffsetFetchGroupsSince = 8;
constexpr int16_t kManyCoordinatorKeysSince = 4;
constexpr std::chrono::milliseconds kTransactionTimeoutMin = std::chrono::seconds(1);

std::optional<int64_t> ParseOffset(std::string_view text) {
  int64_t offset = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), offset);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return offset;
}

// About the producer, its group or their coordinators, whichever partition it is said of.
bool ConcernsAll(ErrorCode error) {
  switch (error) {
    case ErrorCode::kCoordinatorNotAvailable:
    case ErrorCode::kNotCoordinator:
    case ErrorCode::kCoordinatorLoadInProgress:
    case ErrorCode::kConcurrentTransactions:
    case ErrorCode::kUnstableOffsetCommit:
    case ErrorCode::kInvalidTxnState:
    case ErrorCode::kInvalidProducerIdMapping:
    case ErrorCode::kTransactionAbortable:
    case ErrorCode::kTransactionCoordinatorFenced:
    case ErrorCode::kTransactionalIdAuthorizationFailed:
    case ErrorCode::kGroupAuthorizationFailed:
    case ErrorCode::kOperationNotAttempted:
      return true;
    default:
      return OutcomeOf(error) == Outcome::kNewEpoch;
  }
}

// The same without a copy of the name, to search by.
std::pair<std::string_view, int32_t> KeyOf(const UpstreamTransactions::Partition& partition) {
  return partition;
}

// Topics in the shape that requests want them: a name and its partitions. These are sorted.
template <class Topics, class Add>
void GroupByTopic(const std::vector<UpstreamTransactions::Partition>& partitions, Topics& topics,
                  Add add) {
  for (size_t i = 0; i < partitions.size(); ++i) {
    const auto& [name, index] = partitions[i];
    if (topics.empty() || topics.back().name != name) topics.emplace_back().name = name;
    add(topics.back(), index, i);
  }
}

}  // namespace

struct UpstreamTransactions::Part {
  struct Flight {
    int64_t base = 0;
    int64_t end = 0;
  };
  TransactionPart what;
  int64_t next = 0;  // To be sent.
  int32_t sent = 0;  // So many records were.
  std::deque<Flight> flights;
  bool any_stored = false;
  int64_t tier_offset = -1;  // Behind the last stored record.

  explicit Part(TransactionPart part) : what(std::move(part)) { Rewind(); }

  void Rewind() {
    flights.clear();
    sent = 0;
    MoveTo(what.begin);
  }
  void MoveTo(int64_t ordinal) {
    next = ordinal;
    for (const LeftOut& range : what.left_out) {
      if (range.begin <= next) next = std::max(next, std::min(range.end, what.end));
    }
  }
  // Where a batch that begins at `next` ends.
  [[nodiscard]] int64_t EndOf(const spool::EntryInfo& info) const {
    int64_t end = info.end_offset();
    if (const auto cut = what.cuts.upper_bound(next); cut != what.cuts.end()) {
      end = std::min(end, *cut);
    }
    for (const LeftOut& range : what.left_out) {
      if (range.begin > next) end = std::min(end, range.begin);
    }
    return end;
  }
  [[nodiscard]] bool done() const { return next >= what.end && flights.empty(); }
};

struct UpstreamTransactions::Job {
  std::vector<Partition> partitions;
  // Of Run.
  std::vector<Part> parts;
  Done done;
  bool partitions_added = false;
  bool group_added = false;
  bool progress_stored = false;
  bool writing = false;                 // The parts, until all are done.
  std::map<int32_t, size_t> in_flight;  // Requests, by node.
  // Of Ask.
  Asked asked;
};

UpstreamTransactions::UpstreamTransactions(const Context& context, Options options, uint64_t seed)
    : context_(context),
      options_(std::move(options)),
      random_(seed),
      transaction_timeout_(options_.transaction_timeout) {}

UpstreamTransactions::~UpstreamTransactions() = default;

void UpstreamTransactions::Run(std::vector<TransactionPart> parts, Done done) {
  auto job = std::make_unique<Job>();
  for (TransactionPart& part : parts) {
    job->partitions.emplace_back(part.topic, part.partition);
    job->parts.emplace_back(std::move(part));
  }
  job->done = std::move(done);
  Begin(std::move(job));
}

void UpstreamTransactions::Ask(std::vector<Partition> partitions, Asked done) {
  auto job = std::make_unique<Job>();
  job->partitions = std::move(partitions);
  job->asked = std::move(done);
  Begin(std::move(job));
}

void UpstreamTransactions::Begin(std::unique_ptr<Job> job) {
  HF_CHECK(!job_);
  HF_CHECK(std::ranges::is_sorted(job->partitions));
  job_ = std::move(job);
  ++job_number_;
  waiting_ = false;
  NoteProgress();
  Advance();
}

// The job has got further, and has its time anew.
void UpstreamTransactions::NoteProgress() {
  attempts_ = 0;
  deadline_ = context_.loop.After(options_.job_timeout, [this] {
    if (!job_) return;
    Fail(ErrorCode::kRequestTimedOut, "the tier's brokers are not there, or not ready",
         NotDone(std::nullopt, ErrorCode::kRequestTimedOut));
  });
}

void UpstreamTransactions::Wake() { Advance(); }

void UpstreamTransactions::Abort() {
  if (job_) Fail(ErrorCode::kOperationNotAttempted, "the agent stops");
}

void UpstreamTransactions::Stop() {
  job_.reset();
  timer_.Cancel();
  deadline_.Cancel();
}

// The only place that decides what is done next.
void UpstreamTransactions::Advance() {
  if (!job_ || waiting_) return;
  if (producer_.id == kafka::kNoProducerId && !LearnProtocol()) return;
  if (coordinator_ == proxy::kNoNode) {
    return FindCoordinator(Coordinator::kTransaction, options_.transactional_id, &coordinator_);
  }
  if (group_coordinator_ == proxy::kNoNode) {
    return FindCoordinator(Coordinator::kGroup, options_.group, &group_coordinator_);
  }
  if (producer_.id == kafka::kNoProducerId) return InitProducer();
  if (job_->asked) return FetchProgress();
  if (!second_protocol_ && !job_->partitions_added) return AddPartitions();
  if (!std::ranges::all_of(job_->parts, &Part::done)) return Produce();
  if (!second_protocol_ && !job_->group_added) return AddGroup();
  if (!job_->progress_stored) return CommitProgress();
  End();
}

// Which one the tier has; false if it has none, or was not heard of yet.
bool UpstreamTransactions::LearnProtocol() {
  const TierTransactions tier = TransactionsOf(*context_.cache.cluster());
  second_protocol_ = tier == TierTransactions::kSecond;
  if (tier == TierTransactions::kNone) {
    Fail(ErrorCode::kUnsupportedVersion, "the tier has no transactions");
  }
  return second_protocol_ || tier == TierTransactions::kFirst;
}

void UpstreamTransactions::Retry() {
  waiting_ = true;
  timer_ = context_.loop.After(
      proxy::Backoff(options_.backoff_min, options_.backoff_max, attempts_++, random_), [this] {
        waiting_ = false;
        Advance();
      });
}

void UpstreamTransactions::Fail(ErrorCode error, std::string trouble, std::vector<Guilty> guilty) {
  base::Log(base::LogLevel::kDebug, "transaction", "{}: {}", trouble, kafka::ErrorName(error));
  producer_ = {};
  sequences_.clear();
  // Whoever is asked next says where they are.
  coordinator_ = group_coordinator_ = proxy::kNoNode;
  deadline_.Cancel();
  timer_.Cancel();
  ++job_number_;
  const std::unique_ptr<Job> job = std::move(job_);
  if (job->asked) {
    job->asked(base::Unexpected(base::Code::kUnavailable,
                                fmt::format("{}: {}", trouble, kafka::ErrorName(error))));
  } else {
    job->done({.error = error, .trouble = std::move(trouble), .guilty = std::move(guilty)});
  }
}

template <class Request, class Then>
void UpstreamTransactions::Call(int32_t node, const Request& request, int16_t cap, Then then) {
  waiting_ = true;
  context_.tier.Call(
      node, request,
      [this, number = job_number_,
       then = std::move(then)](base::Result<typename Request::Response> response) mutable {
        if (!job_ || number != job_number_) return;
        waiting_ = false;
        if (response) return then(*response);
        const bool lost = response.error().code != base::Code::kInvalid;
        Fail(lost ? ErrorCode::kNetworkException : ErrorCode::kUnsupportedVersion,
             fmt::format("{}: {}", Request::kApi.name, response.error().message));
      },
      cap);
}

bool UpstreamTransactions::TryAgain(ErrorCode error, int32_t* coordinator) {
  switch (error) {
    case ErrorCode::kCoordinatorNotAvailable:
    case ErrorCode::kNotCoordinator:
      *coordinator = proxy::kNoNode;
      break;
    case ErrorCode::kCoordinatorLoadInProgress:
    case ErrorCode::kConcurrentTransactions:
    case ErrorCode::kUnstableOffsetCommit:
      break;
    default:
      return false;
  }
  Retry();
  return true;
}

void UpstreamTransactions::NoteError(std::string_view topic, int32_t partition, ErrorCode error,
                                     std::vector<Guilty>& errors) const {
  if (error == ErrorCode::kNone) return;
  const std::pair named(topic, partition);
  const auto place = std::ranges::lower_bound(job_->partitions, named, {}, KeyOf);
  if (place == job_->partitions.end() || KeyOf(*place) != named) return;
  errors.push_back({.part = static_cast<size_t>(place - job_->partitions.begin()), .error = error});
}

// If parts are being written: those that are not done, of the node or of all.
std::vector<UpstreamTransactions::Guilty> UpstreamTransactions::NotDone(std::optional<int32_t> node,
                                                                        ErrorCode error) const {
  std::vector<Guilty> errors;
  for (size_t i = 0; job_->writing && i < job_->parts.size(); ++i) {
    const Part& part = job_->parts[i];
    if (!part.done() && part.what.node == node.value_or(part.what.node)) {
      errors.push_back({.part = i, .error = error});
    }
  }
  return errors;
}

void UpstreamTransactions::TakeErrors(std::vector<Guilty> errors, std::string trouble,
                                      int32_t* coordinator) {
  const auto attempted = [](const Guilty& one) {
    return one.error != ErrorCode::kOperationNotAttempted;
  };
  // Said of all others when one is not allowed.
  if (std::ranges::any_of(errors, attempted)) std::erase_if(errors, std::not_fn(attempted));
  const auto common = std::ranges::find_if(errors, ConcernsAll, &Guilty::error);
  if (common == errors.end()) {
    const ErrorCode first = errors.front().error;
    return Fail(first, std::move(trouble), std::move(errors));
  }
  if (coordinator != nullptr && TryAgain(common->error, coordinator)) return;
  Fail(common->error, std::move(trouble));
}

void UpstreamTransactions::FindCoordinator(Coordinator kind, const std::string& key,
                                           int32_t* node) {
  const auto version = context_.tier.Version(proxy::kAnyNode, kafka::FindCoordinatorRequest::kApi);
  if (!context_.tier.Ready(proxy::kAnyNode) || !version) return;
  kafka::FindCoordinatorRequest request{.key_type = static_cast<int8_t>(kind)};
  if (*version >= kManyCoordinatorKeysSince) {
    request.coordinator_keys = {key};
  } else {
    request.key = key;
  }
  Call(proxy::kAnyNode, request, kafka::kNever,
       [this, node](const kafka::FindCoordinatorResponse& response) {
         ErrorCode error = response.error_code;
         int32_t found = response.node_id;
         if (!response.coordinators.empty()) {
           error = response.coordinators[0].error_code;
           found = response.coordinators[0].node_id;
         }
         if (TryAgain(error, node)) return;
         if (error != ErrorCode::kNone) return Fail(error, "looking for a coordinator");
         *node = found;
         Advance();
       });
}

// If not, it is asked for anew, after a while: somebody else may have taken over from it.
bool UpstreamTransactions::IsThere(int32_t& coordinator) {
  if (context_.tier.Ready(coordinator)) return true;
  coordinator = proxy::kNoNode;
  Retry();
  return false;
}

void UpstreamTransactions::InitProducer() {
  if (!IsThere(coordinator_)) return;
  const kafka::InitProducerIdRequest request{
      .transactional_id = options_.transactional_id,
      .transaction_timeout_ms = static_cast<int32_t>(transaction_timeout_.count())};
  Call(coordinator_, request, kafka::kNever, [this](const kafka::InitProducerIdResponse& response) {
    if (TryAgain(response.error_code, &coordinator_)) return;
    // The tier allows less (transaction.max.timeout.ms).
    if (response.error_code == ErrorCode::kInvalidTransactionTimeout &&
        transaction_timeout_ > kTransactionTimeoutMin) {
      transaction_timeout_ /= 2;
      return Advance();
    }
    if (response.error_code != ErrorCode::kNone) {
      return Fail(response.error_code, "no transactional producer id from the tier");
    }
    producer_ = {.id = response.producer_id, .epoch = response.producer_epoch};
    sequences_.clear();
    attempts_ = 0;
    Advance();
  });
}

void UpstreamTransactions::FetchProgress() {
  if (!IsThere(group_coordinator_)) return;
  const auto version = context_.tier.Version(group_coordinator_, kafka::OffsetFetchRequest::kApi,
                                             kOffsetFetchByNameCap);
  kafka::OffsetFetchRequest request{.require_stable = true};
  const auto add = [](auto& topic, int32_t index, size_t /*place*/) {
    topic.partition_indexes.push_back(index);
  };
  if (version && *version >= kOffsetFetchGroupsSince) {
    auto& group = request.groups.emplace_back();
    group.group_id = options_.group;
    GroupByTopic(job_->partitions, group.topics.emplace(), add);
  } else {
    request.group_id = options_.group;
    GroupByTopic(job_->partitions, request.topics.emplace(), add);
  }
  Call(group_coordinator_, request, kOffsetFetchByNameCap,
       [this](const kafka::OffsetFetchResponse& response) {
         ErrorCode error = response.error_code;
         std::map<std::pair<std::string_view, int32_t>, TierProgress> found;
         const auto take = [&](const auto& topics) {
           for (const auto& topic : topics) {
             for (const auto& partition : topic.partitions) {
               if (error == ErrorCode::kNone && ConcernsAll(partition.error_code)) {
                 error = partition.error_code;
               }
               const auto tier_offset = ParseOffset(partition.metadata.value_or(""));
               found[{topic.name, partition.partition_index}] = {
                   .end = partition.committed_offset,
                   .tier_offset = tier_offset.value_or(-1),
                   .foreign = partition.committed_offset >= 0 && !tier_offset,
                   .error = partition.error_code};
             }
           }
         };
         take(response.topics);
         for (const auto& group : response.groups) {
           if (error == ErrorCode::kNone) error = group.error_code;
           take(group.topics);
         }
         if (TryAgain(error, &group_coordinator_)) return;
         if (error != ErrorCode::kNone) return Fail(error, "asking how far transactions have come");
         std::vector<TierProgress> progress;
         for (const auto& [topic, index] : job_->partitions)
           progress.push_back(found[{topic, index}]);
         deadline_.Cancel();
         const std::unique_ptr<Job> job = std::move(job_);
         job->asked(std::move(progress));
       });
}

void UpstreamTransactions::AddPartitions() {
  if (!IsThere(coordinator_)) return;
  kafka::AddPartitionsToTxnRequest request{
      .v3_and_below_transactional_id = options_.transactional_id,
      .v3_and_below_producer_id = producer_.id,
      .v3_and_below_producer_epoch = producer_.epoch};
  GroupByTopic(job_->partitions, request.v3_and_below_topics,
               [](auto& topic, int32_t index, size_t) { topic.partitions.push_back(index); });
  Call(coordinator_, request, kAddPartitionsCap,
       [this](const kafka::AddPartitionsToTxnResponse& response) {
         std::vector<Guilty> errors;
         for (const auto& topic : response.results_by_topic_v3_and_below) {
           for (const auto& partition : topic.results_by_partition) {
             NoteError(topic.name, partition.partition_index, partition.partition_error_code,
                       errors);
           }
         }
         if (!errors.empty()) {
           return TakeErrors(std::move(errors), "adding it to a transaction", &coordinator_);
         }
         job_->partitions_added = true;
         NoteProgress();
         Advance();
       });
}

void UpstreamTransactions::Produce() {
  job_->writing = true;
  std::set<int32_t> nodes;
  for (const Part& part : job_->parts) nodes.insert(part.what.node);
  for (const int32_t node : nodes) {
    // A read that fails ends the job.
    while (job_ && !waiting_ && context_.tier.Ready(node) && ProduceTo(node)) {
    }
  }
}

// One request with a batch of each part that may send one. False if there is none.
bool UpstreamTransactions::ProduceTo(int32_t node) {
  if (job_->in_flight[node] >= kWindow) return false;
  std::vector<size_t> sent;
  std::vector<spool::Lease> leases;
  std::deque<std::string> pieces;
  std::vector<OutgoingBatch> batches;
  size_t bytes = 0;
  for (size_t i = 0; i < job_->parts.size() && batches.size() < kRequestBatchesMax; ++i) {
    Part& part = job_->parts[i];
    if (part.what.node != node || part.next >= part.what.end) continue;
    // The first batch of a transaction may have to wait until the last one has ended.
    if (!part.flights.empty() && !part.any_stored) continue;
    auto lease = context_.spool.ReadSound(part.what.stream, part.next, 1);
    if (!lease || lease->empty()) {
      Fail(ErrorCode::kCorruptMessage, lease ? "the spool ends" : lease.error().message,
           {{.part = i, .error = ErrorCode::kCorruptMessage}});
      return false;
    }
    const spool::EntryView& entry = lease->entries().front();
    std::string_view batch = entry.bytes;
    if (!batches.empty() && bytes + batch.size() > options_.request_bytes_max) break;
    const int64_t end = part.EndOf(entry.info);
    if (part.next != entry.info.base_offset || end != entry.info.end_offset()) {
      auto piece = SliceBatch(batch, static_cast<int32_t>(part.next - entry.info.base_offset),
                              static_cast<int32_t>(end - part.next));
      if (!piece) {
        Fail(ErrorCode::kCorruptMessage, piece.error().message,
             {{.part = i, .error = ErrorCode::kCorruptMessage}});
        return false;
      }
      batch = pieces.emplace_back(*std::move(piece));
    }
    bytes += batch.size();
    const auto first = sequences_.find({part.what.topic, part.what.partition});
    const int32_t base = first == sequences_.end() ? 0 : first->second;
    batches.push_back({.topic = part.what.topic,
                       .partition = part.what.partition,
                       .bytes = batch,
                       .producer = {.id = producer_.id,
                                    .epoch = producer_.epoch,
                                    .base_sequence = kafka::AdvanceSequence(base, part.sent)}});
    part.flights.push_back({.base = part.next, .end = end});
    part.sent += static_cast<int32_t>(end - part.next);
    part.MoveTo(end);
    sent.push_back(i);
    leases.push_back(*std::move(lease));
  }
  if (batches.empty()) return false;
  const auto version = context_.tier.Version(
      node, kafka::ProduceRequest::kApi, second_protocol_ ? kForwardProduceCap : kFirstProduceCap);
  const auto timeout =
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.produce_timeout);
  auto frame = version
                   ? BuildProduceRequest(batches, *version, static_cast<int32_t>(timeout.count()),
                                         options_.transactional_id)
                   : base::Unexpected(base::Code::kInvalid, "no common version of Produce");
  leases.clear();
  if (!frame) {
    Fail(ErrorCode::kUnsupportedVersion, frame.error().message);
    return false;
  }
  ++job_->in_flight[node];
  context_.tier.Send(node, *std::move(frame),
                     [this, number = job_number_, node, version = *version,
                      sent = std::move(sent)](base::Result<std::string_view> answer) {
                       if (!job_ || number != job_number_) return;
                       --job_->in_flight[node];
                       if (!answer) {
                         return Fail(ErrorCode::kNetworkException, answer.error().message,
                                     NotDone(node, ErrorCode::kNetworkException));
                       }
                       OnProduced(sent,
                                  kafka::DecodeResponse<kafka::ProduceResponse>(*answer, version));
                     });
  return job_ != nullptr;
}

void UpstreamTransactions::OnProduced(const std::vector<size_t>& sent,
                                      const base::Result<kafka::ProduceResponse>& response) {
  if (!response) return Fail(ErrorCode::kUnknownServerError, response.error().message);
  // As the parts themselves, what was sent is sorted by topic and partition.
  const auto key = [&](size_t part) { return KeyOf(job_->partitions[part]); };
  size_t answered = 0;
  bool again = false;
  std::vector<Guilty> errors;
  for (const auto& topic : response->responses) {
    for (const auto& partition : topic.partition_responses) {
      const std::pair named(std::string_view(topic.name), partition.index);
      const auto index = std::ranges::lower_bound(sent, named, {}, key);
      if (index == sent.end() || key(*index) != named) continue;
      ++answered;
      again |= !TakeProduced(*index, AnswerOf(partition), errors);
    }
  }
  if (!errors.empty()) return TakeErrors(std::move(errors), "writing it in a transaction", nullptr);
  if (answered != sent.size()) {
    return Fail(ErrorCode::kUnknownServerError, "a partition was left out of an answer");
  }
  if (again) {
    if (!waiting_) Retry();
    return;
  }
  Advance();
}

// False: the batch is to be sent again.
bool UpstreamTransactions::TakeProduced(size_t index, const TierAnswer& answer,
                                        std::vector<Guilty>& errors) {
  Part& part = job_->parts[index];
  // The last transaction is still being ended; nothing of this one was stored here.
  if (answer.error == ErrorCode::kConcurrentTransactions && !part.any_stored) {
    part.Rewind();
    return false;
  }
  const Part::Flight flight = part.flights.front();
  part.flights.pop_front();
  if (answer.error != ErrorCode::kNone) {
    Guilty& guilty = errors.emplace_back(index, answer.error);
    if (OutcomeOf(answer.error) == Outcome::kRefused) {
      guilty.refused = {.begin = flight.base,
                        .end = flight.end,
                        .error = answer.error,
                        .message = answer.message,
                        .refused = answer.refused};
    } else if (answer.error == ErrorCode::kUnknownServerError) {
      // It is not stored: its transaction is not committed.
      const auto lease = context_.spool.ReadSound(part.what.stream, flight.base, 1);
      if (lease && !lease->empty())
        guilty.refused = RefuseUnreadable(lease->entries().front().bytes, flight.base, flight.end);
      if (guilty.refused) guilty.error = guilty.refused->error;
    }
    return true;
  }
  part.any_stored = true;
  part.tier_offset = answer.tier_offset < 0 ? -1 : answer.tier_offset + (flight.end - flight.base);
  NoteProgress();
  return true;
}

void UpstreamTransactions::AddGroup() {
  if (!IsThere(coordinator_)) return;
  const kafka::AddOffsetsToTxnRequest request{.transactional_id = options_.transactional_id,
                                              .producer_id = producer_.id,
                                              .producer_epoch = producer_.epoch,
                                              .group_id = options_.group};
  Call(coordinator_, request, kafka::kNever,
       [this](const kafka::AddOffsetsToTxnResponse& response) {
         if (TryAgain(response.error_code, &coordinator_)) return;
         if (response.error_code != ErrorCode::kNone) {
           return Fail(response.error_code, "adding progress to a transaction");
         }
         job_->group_added = true;
         NoteProgress();
         Advance();
       });
}

void UpstreamTransactions::CommitProgress() {
  if (!IsThere(group_coordinator_)) return;
  kafka::TxnOffsetCommitRequest request{.transactional_id = options_.transactional_id,
                                        .group_id = options_.group,
                                        .producer_id = producer_.id,
                                        .producer_epoch = producer_.epoch};
  GroupByTopic(job_->partitions, request.topics, [&](auto& topic, int32_t index, size_t place) {
    const Part& part = job_->parts[place];
    topic.partitions.push_back(
        {.partition_index = index,
         .committed_offset = part.what.end,
         .committed_metadata = request.strings.Keep(std::to_string(part.tier_offset))});
  });
  Call(group_coordinator_, request, second_protocol_ ? kafka::kNever : kFirstTxnOffsetCommitCap,
       [this](const kafka::TxnOffsetCommitResponse& response) { OnProgress(response); });
}

void UpstreamTransactions::OnProgress(const kafka::TxnOffsetCommitResponse& response) {
  std::vector<Guilty> errors;
  for (const auto& topic : response.topics) {
    for (const auto& partition : topic.partitions) {
      NoteError(topic.name, partition.partition_index, partition.error_code, errors);
    }
  }
  if (!errors.empty()) {
    return TakeErrors(std::move(errors), "storing its progress in a transaction",
                      &group_coordinator_);
  }
  job_->progress_stored = true;
  NoteProgress();
  Advance();
}

void UpstreamTransactions::End() {
  if (!IsThere(coordinator_)) return;
  const kafka::EndTxnRequest request{.transactional_id = options_.transactional_id,
                                     .producer_id = producer_.id,
                                     .producer_epoch = producer_.epoch,
                                     .committed = true};
  Call(coordinator_, request, second_protocol_ ? kafka::kNever : kFirstEndTxnCap,
       [this](const kafka::EndTxnResponse& response) {
         if (TryAgain(response.error_code, &coordinator_)) return;
         if (response.error_code != ErrorCode::kNone) {
           return Fail(response.error_code, "committing a transaction");
         }
         Commit(response.producer_id, response.producer_epoch);
       });
}

void UpstreamTransactions::Commit(int64_t producer_id, int16_t epoch) {
  const bool next_epoch = producer_id >= 0 && epoch >= 0;
  if (next_epoch) {
    producer_ = {.id = producer_id, .epoch = epoch};
    sequences_.clear();
  }
  TransactionResult result{.committed = true};
  for (const Part& part : job_->parts) {
    result.tier_offsets.push_back(part.tier_offset);
    if (next_epoch) continue;
    int32_t& sequence = sequences_[{part.what.topic, part.what.partition}];
    sequence = kafka::AdvanceSequence(sequence, part.sent);
  }
  deadline_.Cancel();
  const std::unique_ptr<Job> job = std::move(job_);
  job->done(result);
}

}  // namespace holdfast::agent
