// The part of agent/forwarder.h that finds the way back after a batch was not confirmed.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/forwarder.h"
#include "base/event.h"
#include "base/log.h"
#include "proxy/backoff.h"

namespace holdfast::agent {
namespace {

using base::LogLevel;
using kafka::ErrorCode;

constexpr uint32_t kAttemptsUntilWarning = 3;
// Clocks of producers and brokers differ.
constexpr int64_t kClockSlackMs = 5 * 60 * 1000;
// So long before a tier may forget a producer nothing is repeated any more on the strength of that;
// of a short memory it is an eighth.
constexpr int64_t kMemoryMarginMs = 60 * 60 * 1000;

}  // namespace

// All answers are there, and the first flight that is left failed: what follows from it?
void Forwarder::Recover(Stream& stream) {
  stream.failed = false;
  const std::deque<Flight> flights = std::exchange(stream.flights, {});
  stream.next = stream.rewind;
  if (flights.empty()) return Step(stream);
  const Flight& first = flights.front();
  // Behind a batch that was refused the tier refuses the rest for being out of order. If it did
  // not, it no longer knew the producer, or it was another log: what it says of him hides the gap,
  // so its log is looked at.
  bool unsure = false;
  bool hidden = false;
  bool overtaken = false;
  Stored least = Stored::kYes;
  for (const Flight& flight : flights) {
    Stored stored = StoredBy(flight.outcome, flight.error);
    unsure |= stored == Stored::kMaybe;
    if (flight.base < stream.at_leader) stored = Stored::kYes;
    hidden |= stored > least;
    overtaken |= stored == Stored::kYes && least == Stored::kNo;
    least = std::min(least, stored);
  }
  stream.read_back |= hidden;
  stream.overtaken = hidden || (stream.doubt && stream.overtaken);
  if (overtaken) {
    base::Log(base::Event::kBatchOvertaken, {"forward", StreamName(stream.topic, stream.partition)},
              "the tier took a batch while the one before it failed");
    context_.metrics.forward_errors.With("overtaken").Add();
  }
  // A repeat that is refused is there from before, and what was taken behind it is now as well.
  for (const Flight& flight : flights) {
    const bool taken = StoredBy(flight.outcome, flight.error) == Stored::kYes;
    if (!taken && flight.base >= stream.at_leader) break;
    stream.at_leader = std::max(stream.at_leader, flight.end);
  }
  // What the leader has by its own account it may refuse without a look at what it has.
  const bool denied =
      first.base < stream.at_leader &&
      (first.outcome == Outcome::kRefused || first.error == ErrorCode::kOutOfOrderSequenceNumber);
  stream.read_back |= denied;
  stream.overtaken |= denied;
  stream.doubt |= denied || unsure || hidden || first.outcome == Outcome::kReconcile ||
                  first.outcome == Outcome::kNewEpoch;
  stream.epoch_unusable |= first.outcome == Outcome::kNewEpoch ||
                           (!denied && first.error == ErrorCode::kOutOfOrderSequenceNumber);
  if (stream.ahead.attempts++ == 0) {
    stream.ahead.since_ms = context_.loop.WallClockMs();
    stream.ahead.first_error = first.error;
  }
  stream.ahead.last_error = first.error;
  NoteUnexplained(stream, first);
  const std::string trouble =
      fmt::format("records {} to {}: {} ({})", first.base, first.end - 1,
                  kafka::ErrorName(first.error), OutcomeName(first.outcome));
  context_.metrics.forward_retries.With(OutcomeName(first.outcome)).Add();
  switch (first.outcome) {
    case Outcome::kDelivered:
    case Outcome::kRetry:
      return Backoff(stream, trouble);
    case Outcome::kRefresh:
    case Outcome::kReconcile:
    case Outcome::kNewEpoch:
      stream.epoch_refused = first.outcome == Outcome::kNewEpoch;
      context_.tier.RefreshMetadata(stream.topic);
      return Backoff(stream, trouble);
    case Outcome::kRefused:
      // Not a word about the rest: it is sent again when this is out of the way.
      if (!stream.doubt) {
        return Refuse(stream,
                      {.begin = first.base,
                       .end = first.end,
                       .error = first.error,
                       .message = first.message,
                       .refused = first.refused},
                      trouble);
      }
      return Backoff(stream, trouble);
    case Outcome::kParked:
      return Park(stream, trouble);
  }
}

// Whether what comes next is on the leader already, and the tier may forget the producer before the
// answer to the repeat is good: then it would take it for something new. It goes by the time of the
// last batch that it took, and forgets one without a time at once.
bool Forwarder::RepeatsBlindly(const Stream& stream) {
  if (stream.next >= stream.at_leader) return false;
  const auto last = context_.spool.Read(stream.id, stream.at_leader - 1, 1);
  if (!last || IsLost(last, stream.at_leader - 1)) return true;
  const int64_t age_ms =
      context_.loop.WallClockMs() - last->entries().front().info.max_timestamp_ms;
  return age_ms > expiration_ms_ - std::min(kMemoryMarginMs, expiration_ms_ / 8);
}

// The next batch begins a new range of sequence numbers, at 0. Written down before it is used. What
// a leader had above the cursor under the old ones may be in a log that is no more, and a log that
// does not know the producer takes any sequence: sending begins at the cursor.
void Forwarder::Renew(Stream& stream) {
  BeginAtCursor(stream);
  if (!stream.record.identity.Advance(producer_, stream.record.confirmed)) {
    producer_.id = kafka::kNoProducerId;
    return AskProducer();
  }
  stream.new_epoch = stream.epoch_unusable = false;
  log_.Note(stream.id, stream.record);
  AwaitRecord(stream);
}

// One batch after the other, until the tier certainly knows the producer.
void Forwarder::BeginAtCursor(Stream& stream) {
  stream.newest_ms = -1;
  stream.next = stream.rewind = stream.record.confirmed;
  stream.at_leader = stream.recognised = -1;
}

// Nothing is sent before all that was noted of the stream is durable.
void Forwarder::AwaitRecord(Stream& stream) {
  stream.phase = Phase::kAwaitingRecord;
  log_.Flush([this, &stream] {
    stream.phase = Phase::kReady;
    Step(stream);
  });
}

void Forwarder::Backoff(Stream& stream, std::string trouble) {
  // What passes by itself is not worth a line for each of thousands of streams.
  if (stream.attempts == kAttemptsUntilWarning)
    base::Log(base::Event::kStreamDelayed, {"forward", StreamName(stream.topic, stream.partition)},
              "{}", trouble);
  else if (base::LogEnabled(LogLevel::kDebug, "forward"))
    base::Log(LogLevel::kDebug, {"forward", StreamName(stream.topic, stream.partition)}, "{}",
              trouble);
  stream.trouble = std::move(trouble);
  if (stream.attempts >= kAttemptsUntilWarning) NoteTrouble(stream, /*parked=*/false);
  stream.phase = Phase::kBackoff;
  stream.no_leader = false;
  const base::Duration wait =
      proxy::Backoff(options_.backoff_min, options_.backoff_max, stream.attempts++, random_);
  stream.timer = context_.loop.After(wait, [this, &stream] {
    stream.phase = Phase::kReady;
    Step(stream);
  });
}

void Forwarder::TellParked(Stream& stream) {
  base::Log(base::Event::kStreamHeld, {"forward", StreamName(stream.topic, stream.partition)},
            "held, its records wait in the spool: {}", stream.trouble);
  NoteTrouble(stream, /*parked=*/true);
}

void Forwarder::Park(Stream& stream, std::string trouble) {
  stream.trouble = std::move(trouble);
  TellParked(stream);
  stream.phase = Phase::kParked;
  stream.timer = context_.loop.After(options_.park_retry, [this, &stream] {
    stream.phase = Phase::kReady;
    Step(stream);
  });
}

// For who looks at the spool from outside; once for each trouble.
void Forwarder::NoteTrouble(Stream& stream, bool parked) {
  if (std::exchange(stream.trouble_noted, stream.trouble) == stream.trouble) return;
  log_.Note(StreamKey(kTroublePrefix, stream.id), Trouble{.cursor = stream.record.confirmed,
                                                          .since_ms = context_.loop.WallClockMs(),
                                                          .parked = parked,
                                                          .text = stream.trouble}
                                                      .Serialize());
}

Doubt Forwarder::DoubtOf(const Stream& stream) {
  Doubt doubt{.node = stream.node,
              .topic = stream.topic,
              .partition = stream.partition,
              .identity = stream.record.identity,
              .confirmed = stream.record.confirmed,
              .sent_limit = stream.end,
              .tier_offset = stream.record.tier_offset,
              .topic_id = stream.record.topic_id,
              .may_be_forgotten = stream.read_back,
              .may_have_gaps = stream.overtaken};
  const auto first = context_.spool.Read(stream.id, stream.record.confirmed, 1);
  if (!first || IsLost(first, stream.record.confirmed)) return doubt;
  const spool::EntryInfo& info = first->entries().front().info;
  const int64_t earliest = std::min(info.max_timestamp_ms, info.commit_time_ms) - kClockSlackMs;
  doubt.not_before_ms = info.max_timestamp_ms < 0 ? -1 : std::max<int64_t>(earliest, 0);
  doubt.may_be_forgotten |= info.max_timestamp_ms >= 0 && !IsFresh(info.max_timestamp_ms);
  return doubt;
}

// Zero: the tier has not said it. Looked at before each batch: the usual answer costs a comparison.
kafka::Uuid Forwarder::TierId(const Stream& stream) {
  const proxy::Topic* topic = CurrentCluster().FindTopic(stream.topic);
  if (topic == nullptr) return {};
  if (topic->id == stream.record.topic_id) return topic->id;
  return proxy::TierIdOf(stream.topic, *topic);
}

bool Forwarder::MadeAnew(const Stream& stream) {
  const kafka::Uuid id = TierId(stream);
  return !id.IsZero() && !stream.record.topic_id.IsZero() && id != stream.record.topic_id;
}

// A topic that was deleted and made anew is another log: old offsets mean nothing there. A batch in
// doubt may be in it nevertheless, if it was sent before we knew.
void Forwarder::TakeTopicId(Stream& stream) {
  const kafka::Uuid id = TierId(stream);
  if (id.IsZero() || id == stream.record.topic_id) return;
  if (!stream.record.topic_id.IsZero()) {
    base::Log(base::Event::kTopicMadeAnew, {"forward", StreamName(stream.topic, stream.partition)},
              "the topic was deleted at the tier and made anew; the records below {} went to "
              "the old one ({}), the rest goes to the new one ({})",
              stream.record.confirmed, stream.record.topic_id.ToString(), id.ToString());
    context_.metrics.forward_errors.With("topic made anew").Add();
    stream.record.tier_offset = -1;
    // A leader that said that it has one may have meant the new log.
    stream.doubt |= stream.at_leader > stream.record.confirmed;
    stream.read_back = stream.doubt;
    stream.new_epoch = true;
  }
  stream.record.topic_id = id;
}

void Forwarder::Reconcile(Stream& stream) {
  stream.phase = Phase::kReconciling;
  reconciler_.Ask(DoubtOf(stream), [this, &stream](const Finding& finding) {
    stream.phase = Phase::kReady;
    OnFinding(stream, finding);
  });
}

void Forwarder::OnFinding(Stream& stream, const Finding& finding) {
  const int64_t confirmed = stream.record.confirmed;
  stream.late = std::max(stream.late, stream.tried);
  switch (finding.kind) {
    case Finding::Kind::kRemembered:
      // It knows this epoch, and takes no more of it: what arrived is read, then comes the next.
      if (std::exchange(stream.epoch_refused, false)) {
        stream.read_back = true;
        break;
      }
      stream.doubt = stream.epoch_unusable = false;
      stream.recognised = finding.end;
      stream.at_leader = finding.end;
      stream.tried = finding.end;
      ResumeAt(stream, finding.end);
      break;
    case Finding::Kind::kReadBack:
      stream.doubt = stream.read_back = false;
      stream.new_epoch |= stream.epoch_unusable || !finding.epoch_goes_on;
      Confirm(stream, finding.end, finding.tier_offset);
      stream.tried = stream.record.confirmed;
      BeginAtCursor(stream);
      break;
    case Finding::Kind::kLost:
      if (!stream.gap) {
        base::Log(base::Event::kTierLostRecords,
                  {"forward", StreamName(stream.topic, stream.partition)},
                  "the tier has lost records that it had confirmed; going on behind them");
        context_.metrics.forward_errors.With("tier lost records").Add();
      }
      stream.doubt = false;
      stream.new_epoch = true;
      stream.record.tier_offset = -1;
      stream.tried = confirmed;
      break;
    case Finding::Kind::kFenced:
      base::Log(base::Event::kFenced, {"forward", StreamName(stream.topic, stream.partition)},
                "somebody else writes with this agent's producer id (a copied spool directory?); "
                "taking a new one");
      context_.metrics.forward_errors.With("fenced").Add();
      stream.read_back = true;
      stream.new_epoch = true;
      if (producer_.id == stream.record.identity.producer_id) producer_.id = kafka::kNoProducerId;
      break;
    case Finding::Kind::kUnknowable:
      base::Log(base::Event::kArrivalUnknown,
                {"forward", StreamName(stream.topic, stream.partition)},
                "the tier does not tell what arrived ({}); sending again may duplicate records",
                kafka::ErrorName(finding.error));
      context_.metrics.forward_errors.With("unknowable").Add();
      stream.doubt = false;
      // The tier refuses a repeat that is too far back, too, and would do so for ever.
      stream.new_epoch |= stream.epoch_unusable;
      // What the spool has lost of it nobody will find any more.
      stream.next = stream.rewind = confirmed;
      stream.at_leader = stream.recognised = -1;
      // Local transactions went in no other way. All before the first may have been sent: under the
      // same sequences the tier recognises it.
      if (stream.taken_up && context_.lane != nullptr) {
        const CommittedTransaction* next = context_.lane->Next(stream.id, confirmed);
        if (next != nullptr) stream.tried = std::min(stream.tried, next->RangeIn(stream.id)->begin);
      }
      break;
    case Finding::Kind::kFailed:
      context_.tier.RefreshMetadata(stream.topic);
      return Backoff(stream,
                     fmt::format("asking what arrived: {}", kafka::ErrorName(finding.error)));
  }
  // The tier has nothing of what follows what was dropped, so the next batch would leave a gap.
  const bool followed = finding.kind == Finding::Kind::kRemembered && finding.end > confirmed;
  if (stream.gap && !stream.doubt && !followed) stream.new_epoch = true;
  stream.gap &= stream.doubt;
  if (IsToBeJudged(stream, finding)) return JudgeUnexplained(stream);
  Step(stream);
}

// The tier's leader has what ends at `end`. What may have been in flight with it is sent once more:
// the tier recognises what it has, and answers when its followers have it, too. If it had forgotten
// the producer, it may have taken the last without those before, which it refuses then.
void Forwarder::ResumeAt(Stream& stream, int64_t end) {
  const int64_t confirmed = stream.record.confirmed;
  stream.next = stream.rewind = confirmed;
  int64_t begin = std::max(end, confirmed);
  for (size_t batches = 0; batches < kWindow && begin > confirmed; ++batches) {
    const auto batch = context_.spool.ReadSound(stream.id, begin - 1, 1);
    if (IsLost(batch, begin - 1)) {
      // It cannot be sent once more.
      stream.doubt = stream.read_back = true;
      return;
    }
    if (!batch) return Park(stream, batch.error().message);
    const spool::EntryInfo& info = batch->entries().front().info;
    if (batches == 0 && info.end_offset() != end) {
      base::Log(base::Event::kTierSequenceUnknown,
                {"forward", StreamName(stream.topic, stream.partition)},
                "the tier's last sequence is no batch's end");
      stream.doubt = stream.read_back = true;
      return;
    }
    begin = std::max(info.base_offset, confirmed);
  }
  stream.next = stream.rewind = begin;
}

}  // namespace holdfast::agent
