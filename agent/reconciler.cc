#include "agent/reconciler.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/fetch.h"
#include "kafka/api/list_offsets.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

// Topics go by name up to the first, and by id in the second.
constexpr int16_t kFetchByNameCap = 12;
constexpr int16_t kFetchByIdCap = 13;
constexpr int16_t kListOffsetsCap = 10;
constexpr int32_t kFetchBytes = 4 << 20;
constexpr int64_t kEarliest = -2;
constexpr int kEmptyFetchesMax = 3;
// Of the sequence numbers: what is further ahead is behind.
constexpr int64_t kHalf = int64_t{1} << 30;

Finding Failed(ErrorCode error) { return {.kind = Finding::Kind::kFailed, .error = error}; }

bool Forbidden(ErrorCode error) {
  return error == ErrorCode::kTopicAuthorizationFailed ||
         error == ErrorCode::kClusterAuthorizationFailed;
}

// How far the tier has come if `last_sequence` is the last that it has of this identity.
std::optional<int64_t> EndAfter(const Doubt& doubt, int32_t last_sequence) {
  const int64_t beyond = doubt.identity.RecordsBeyond(doubt.confirmed, last_sequence);
  if (beyond > doubt.sent_limit - doubt.confirmed) return std::nullopt;
  return doubt.confirmed + beyond;
}

using Producers = std::vector<kafka::DescribeProducersResponse::ProducerState>;

auto FindOurs(const Doubt& doubt, const Producers& producers) {
  return std::ranges::find(producers, doubt.identity.producer_id,
                           &Producers::value_type::producer_id);
}

// None: the tier does not remember.
std::optional<Finding> Judge(const Doubt& doubt, const Producers& producers) {
  const auto ours = FindOurs(doubt, producers);
  if (ours == producers.end()) return std::nullopt;
  if (ours->producer_epoch > doubt.identity.epoch) return Finding{Finding::Kind::kFenced};
  if (ours->producer_epoch < doubt.identity.epoch) {
    // It has forgotten this epoch, and got to know the producer again by a request that came late.
    if (doubt.confirmed > doubt.identity.base_ordinal) return std::nullopt;
    // Nothing of this epoch has come; the first batch that does is checked against sequence 0.
    return Finding{.kind = Finding::Kind::kRemembered, .end = doubt.confirmed};
  }
  if (ours->last_sequence < 0) return std::nullopt;
  if (const auto end = EndAfter(doubt, ours->last_sequence)) {
    return Finding{.kind = Finding::Kind::kRemembered, .end = *end};
  }
  const bool behind = doubt.identity.RecordsBeyond(doubt.confirmed, ours->last_sequence) >= kHalf;
  return Finding{behind ? Finding::Kind::kLost : Finding::Kind::kFenced};
}

}  // namespace

// Reads one partition's log from where the last confirmed record stands to its end, looking for our
// own batches.
class Reconciler::ReadBack {
 public:
  ReadBack(Reconciler& owner, uint64_t id, Question question)
      : owner_(owner),
        id_(id),
        doubt_(std::move(question.doubt)),
        done_(std::move(question.done)),
        leader_end_(question.leader_end),
        forgotten_(question.forgotten),
        end_(doubt_.confirmed),
        tier_offset_(doubt_.tier_offset) {
    if (leader_end_ && *leader_end_ > doubt_.confirmed) {
      unread_ = doubt_.identity.SequenceOf(*leader_end_ - 1);
    }
  }

  void Start() {
    if (doubt_.tier_offset >= 0) return Fetch(doubt_.tier_offset);
    FindStart(doubt_.not_before_ms >= 0 ? doubt_.not_before_ms : kEarliest);
  }
  Done TakeDone() { return std::move(done_); }

 private:
  void Finish(const Finding& finding) { owner_.EndReadBack(id_, finding); }
  // Everything there is to read was read.
  void FinishRead() {
    // What the log has lost at its beginning is not waited for.
    if (unread_ && !from_earliest_) return Finish(Failed(ErrorCode::kOffsetNotAvailable));
    Finish({.kind = Finding::Kind::kReadBack,
            .end = end_,
            .tier_offset = tier_offset_,
            .epoch_goes_on = (forgotten_ || leader_end_ == end_) && !gap_seen_ && !from_earliest_});
  }

  void FindStart(int64_t timestamp) {
    if (!owner_.tier_.Ready(doubt_.node)) return Finish(Failed(ErrorCode::kNetworkException));
    kafka::ListOffsetsRequest request;
    request.topics.push_back(
        {.name = doubt_.topic,
         .partitions = {{.partition_index = doubt_.partition, .timestamp = timestamp}}});
    owner_.tier_.Call(
        doubt_.node, request,
        [this, timestamp](base::Result<kafka::ListOffsetsResponse> response) {
          if (!response) return Finish(Failed(ErrorCode::kNetworkException));
          if (response->topics.empty() || response->topics[0].partitions.empty()) {
            return Finish(Failed(ErrorCode::kUnknownServerError));
          }
          const auto& found = response->topics[0].partitions[0];
          if (found.error_code != ErrorCode::kNone) return FinishWith(found.error_code);
          // No record is that young: ours are not there.
          if (found.offset < 0) return FinishRead();
          // It begins where the old one did, or before: it ends earlier, and what is in doubt can
          // stand only behind that time.
          if (timestamp == kEarliest && from_earliest_ && found.offset <= doubt_.tier_offset &&
              doubt_.not_before_ms >= 0) {
            return FindStart(doubt_.not_before_ms);
          }
          // A log that was made anew, or is shorter now, begins no later than the old one ended,
          // wherever in it a time is found.
          trimmed_ = timestamp == kEarliest && from_earliest_ && doubt_.tier_offset >= 0 &&
                     found.offset > doubt_.tier_offset && !doubt_.may_have_gaps;
          Fetch(found.offset);
        },
        kListOffsetsCap);
  }

  void Fetch(int64_t offset) {
    if (!owner_.tier_.Ready(doubt_.node)) return Finish(Failed(ErrorCode::kNetworkException));
    next_ = offset;
    kafka::FetchRequest request{.max_bytes = kFetchBytes};
    request.topics.push_back({.topic = doubt_.topic,
                              .topic_id = doubt_.topic_id,
                              .partitions = {{.partition = doubt_.partition,
                                              .fetch_offset = offset,
                                              .partition_max_bytes = kFetchBytes}}});
    owner_.tier_.Call(
        doubt_.node, request,
        [this](base::Result<kafka::FetchResponse> response) {
          if (!response) return Finish(Failed(ErrorCode::kNetworkException));
          if (response->error_code != ErrorCode::kNone) return FinishWith(response->error_code);
          if (response->responses.empty() || response->responses[0].partitions.empty()) {
            return Finish(Failed(ErrorCode::kUnknownServerError));
          }
          OnFetched(response->responses[0].partitions[0]);
        },
        doubt_.topic_id.IsZero() ? kFetchByNameCap : kFetchByIdCap);
  }

  void OnFetched(const kafka::FetchResponse::PartitionData& partition) {
    if (partition.error_code == ErrorCode::kOffsetOutOfRange && !from_earliest_) {
      // The topic was made anew, or retention has been here: what there is decides.
      from_earliest_ = true;
      return FindStart(kEarliest);
    }
    if (partition.error_code != ErrorCode::kNone) return FinishWith(partition.error_code);
    if (until_ < 0) until_ = partition.high_watermark;
    const int64_t before = next_;
    kafka::BatchIterator batches(partition.records.value_or(""));
    while (const std::optional<kafka::RecordBatchView> batch = batches.Next()) {
      Look(batch->header());
    }
    empty_fetches_ = next_ == before ? empty_fetches_ + 1 : 0;
    if (next_ >= until_) return FinishRead();
    if (empty_fetches_ == kEmptyFetchesMax) return Finish(Failed(ErrorCode::kOffsetNotAvailable));
    Fetch(next_);
  }

  void Look(const kafka::BatchHeader& header) {
    next_ = std::max(next_, header.next_offset());
    if (header.producer.id != doubt_.identity.producer_id ||
        header.producer.epoch != doubt_.identity.epoch) {
      return;
    }
    if (unread_ ==
        kafka::AdvanceSequence(header.producer.base_sequence, header.last_offset_delta)) {
      unread_.reset();
    }
    const int64_t gone = doubt_.identity.RecordsBeyond(end_, header.producer.base_sequence - 1);
    if (std::exchange(trimmed_, false) && gone < doubt_.sent_limit - end_) end_ += gone;
    // Only what continues the range without a gap; what was confirmed before is passed over.
    const int64_t ahead = doubt_.identity.RecordsBeyond(end_, header.producer.base_sequence - 1);
    gap_seen_ |= ahead > 0 && ahead < kHalf;
    if (header.producer.base_sequence != doubt_.identity.SequenceOf(end_) ||
        end_ >= doubt_.sent_limit) {
      return;
    }
    end_ += header.last_offset_delta + 1;
    tier_offset_ = header.next_offset();
  }

  void FinishWith(ErrorCode error) {
    if (Forbidden(error)) return Finish({.kind = Finding::Kind::kUnknowable, .error = error});
    Finish(Failed(error));
  }

  Reconciler& owner_;
  const uint64_t id_;
  const Doubt doubt_;
  Done done_;
  const std::optional<int64_t> leader_end_;
  const bool forgotten_;
  std::optional<int32_t> unread_;  // The leader has a batch that ends there, and it was not read.
  int64_t end_;
  int64_t tier_offset_;
  int64_t next_ = 0;
  int64_t until_ = -1;  // The high watermark when reading began.
  bool from_earliest_ = false;
  bool gap_seen_ = false;  // Some of ours are there without what comes before them.
  bool trimmed_ = false;   // Behind what was confirmed, and none of ours was read so far.
  int empty_fetches_ = 0;
};

Reconciler::Reconciler(proxy::Tier& tier) : tier_(tier) {}
Reconciler::~Reconciler() = default;

void Reconciler::Ask(Doubt doubt, Done done) {
  Question question{std::move(doubt), std::move(done)};
  const int32_t node = question.doubt.node;
  if (!tier_.Ready(node)) return question.done(Failed(ErrorCode::kNetworkException));
  const bool can_ask = tier_.Version(node, kafka::DescribeProducersRequest::kApi).has_value();
  if (!can_ask) return BeginReadBack(std::move(question));
  nodes_[node].waiting.push_back(std::move(question));
  AskNode(node);
}

void Reconciler::AskNode(int32_t node) {
  Node& asked = nodes_[node];
  if (asked.asking || asked.waiting.empty()) return;
  std::vector<Question> questions;
  while (!asked.waiting.empty() && questions.size() < kAskedAtOnce) {
    questions.push_back(std::move(asked.waiting.front()));
    asked.waiting.pop_front();
  }
  if (!tier_.Ready(node)) {
    for (Question& question : questions) question.done(Failed(ErrorCode::kNetworkException));
    return AskNode(node);
  }
  std::ranges::sort(questions, {}, [](const Question& question) {
    return std::tie(question.doubt.topic, question.doubt.partition);
  });
  kafka::DescribeProducersRequest request;
  for (const Question& question : questions) {
    if (request.topics.empty() || request.topics.back().name != question.doubt.topic) {
      request.topics.push_back({.name = request.strings.Keep(question.doubt.topic)});
    }
    request.topics.back().partition_indexes.push_back(question.doubt.partition);
  }
  asked.asking = true;
  tier_.Call(node, request,
             [this, node, questions = std::move(questions)](
                 base::Result<kafka::DescribeProducersResponse> response) mutable {
               nodes_[node].asking = false;
               OnProducers(std::move(questions), response);
               AskNode(node);
             });
}

void Reconciler::OnProducers(std::vector<Question> questions,
                             const base::Result<kafka::DescribeProducersResponse>& response) {
  using Partition = kafka::DescribeProducersResponse::PartitionResponse;
  const auto answer_to = [&](const Doubt& doubt) -> const Partition* {
    for (const auto& topic : response->topics) {
      if (topic.name != doubt.topic) continue;
      const auto found =
          std::ranges::find(topic.partitions, doubt.partition, &Partition::partition_index);
      if (found != topic.partitions.end()) return &*found;
    }
    return nullptr;
  };
  for (Question& question : questions) {
    if (!response) {
      question.done(Failed(ErrorCode::kNetworkException));
      continue;
    }
    const Partition* answer = answer_to(question.doubt);
    if (answer == nullptr) {
      question.done(Failed(ErrorCode::kUnknownServerError));
    } else if (Forbidden(answer->error_code)) {
      BeginReadBack(std::move(question));
    } else if (answer->error_code != ErrorCode::kNone) {
      question.done(Failed(answer->error_code));
    } else {
      const auto finding = Judge(question.doubt, answer->active_producers);
      question.forgotten =
          FindOurs(question.doubt, answer->active_producers) == answer->active_producers.end();
      OnJudged(std::move(question), finding);
    }
  }
}

void Reconciler::OnJudged(Question question, const std::optional<Finding>& finding) {
  const Doubt& doubt = question.doubt;
  if (finding && !doubt.may_be_forgotten) return question.done(*finding);
  // What it says may not hold, but its log has at least that.
  if (finding && finding->kind == Finding::Kind::kRemembered) question.leader_end = finding->end;
  BeginReadBack(std::move(question));
}

void Reconciler::BeginReadBack(Question question) {
  if (read_backs_.size() >= kReadBacksMax) {
    read_back_queue_.push_back(std::move(question));
    return;
  }
  base::Log(base::LogLevel::kDebug, "forward", "reading back the tail of {}/{} at the tier",
            question.doubt.topic, question.doubt.partition);
  const uint64_t id = next_read_back_++;
  auto& read_back = read_backs_[id];
  read_back = std::make_unique<ReadBack>(*this, id, std::move(question));
  read_back->Start();
}

void Reconciler::EndReadBack(uint64_t id, const Finding& finding) {
  // Called by the read-back itself: it lives until this function ends.
  const auto ended = read_backs_.extract(id);
  Done done = ended.mapped()->TakeDone();
  done(finding);
  // Read-backs that fail at once come back here; they are begun from one place only.
  if (std::exchange(beginning_, true)) return;
  while (!read_back_queue_.empty() && read_backs_.size() < kReadBacksMax) {
    Question next = std::move(read_back_queue_.front());
    read_back_queue_.pop_front();
    BeginReadBack(std::move(next));
  }
  beginning_ = false;
}

}  // namespace holdfast::agent
