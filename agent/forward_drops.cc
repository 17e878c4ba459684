// The part of agent/forwarder.h that gives records up: because they are too old for their topic, to
// make room for newer ones, or because the spool has lost them. Nothing that may be on its way is
// given up; a transaction is given up as a whole: if all its topics allow it, or if it has a part
// that is lost.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "agent/forwarder.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

constexpr size_t kReadAtOnce = size_t{256} << 10;
// Of one stream, in one go: the loop has other work.
constexpr uint64_t kExpireAtOnce = uint64_t{64} << 20;
constexpr int64_t kReportEveryMs = 10'000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

void Forwarder::SetPolicies(PoliciesPtr policies) {
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), policies = std::move(policies)] {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    Forwarder& forwarder = **alive;
    forwarder.policies_ = policies;
    for (auto& [id, stream] : forwarder.streams_) {
      stream->policy = policies->ForTopic(stream->topic);
    }
  });
}

void Forwarder::DropOldest(std::string topic, uint64_t bytes) {
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), topic = std::move(topic), bytes] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->MakeRoom(topic, bytes);
  });
}

// What was sent and is not answered may arrive; and while something is written down, or the tier
// is asked, somebody counts on the cursor.
bool Forwarder::MayGiveUp(const Stream& stream) {
  return stream.flights.empty() && stream.record.confirmed < stream.end &&
         (stream.phase == Phase::kReady || stream.phase == Phase::kBackoff ||
          stream.phase == Phase::kParked);
}

void Forwarder::MakeRoom(const std::string& topic, uint64_t bytes) {
  // Until the last time's is released, it would be dropped twice.
  if (stopped_ || !making_room_.insert(topic).second) return;
  uint64_t freed = 0;
  std::set<const Stream*> passed_over;
  while (freed < bytes) {
    Stream* oldest = nullptr;
    for (auto& [id, stream] : streams_) {
      const bool meant = topic.empty() ? stream->policy.when_full == WhenFull::kDropOldest
                                       : stream->topic == topic;
      const bool in_lane =
          stream->phase == Phase::kInLane && stream->record.confirmed < stream->end;
      if (meant && (MayGiveUp(*stream) || in_lane) && !passed_over.contains(stream.get()) &&
          (oldest == nullptr || OldestOf(*stream) < OldestOf(*oldest))) {
        oldest = stream.get();
      }
    }
    if (oldest == nullptr) break;
    if (oldest->phase == Phase::kInLane && context_.lane->Release(oldest->id)) {
      room_wanted_[topic] = bytes - freed;
      break;
    }
    const uint64_t more = oldest->phase == Phase::kInLane
                              ? 0
                              : GiveUpSome(*oldest, bytes - freed, kNever, DropCause::kMadeRoom);
    if (more == 0) passed_over.insert(oldest);
    freed += more;
  }
  // What is written down has who waits ask again.
  if (freed == 0) {
    making_room_.erase(topic);
    return;
  }
  // Transactions are passed over once it is durable that they are given up.
  log_.Flush([this, topic] { log_.Flush([this, topic] { making_room_.erase(topic); }); });
}

void Forwarder::DropExpired() {
  if (!KnowsTier()) return;
  for (auto& [id, stream] : streams_) DropExpired(*stream);
}

void Forwarder::DropExpired(Stream& stream) {
  if (stream.policy.ttl_ms == 0 || stopped_) return;
  const int64_t before_ms = context_.loop.WallClockMs() - stream.policy.ttl_ms;
  if (stream.phase == Phase::kInLane) {
    const int64_t oldest_ms = OldestOf(stream);
    if (oldest_ms == 0 || oldest_ms >= before_ms) return;
    // One that may not be dropped would only come back.
    const CommittedTransaction* next = context_.lane->Find(stream.id, stream.record.confirmed);
    if (next != nullptr && !AllowsGivingUp(*next, DropCause::kExpired)) return;
    context_.lane->Release(stream.id);
    return;
  }
  uint64_t dropped = 0;
  while (dropped < kExpireAtOnce && MayGiveUp(stream) && OldestOf(stream) < before_ms) {
    const uint64_t more = GiveUpSome(stream, kExpireAtOnce, before_ms, DropCause::kExpired);
    if (more == 0) break;
    dropped += more;
  }
}

// Whole batches from the beginning of what waits that were spooled before `before_ms`, until
// `bytes` are reached; or, if it begins with some, transactions. Returns how many bytes those were.
uint64_t Forwarder::GiveUpSome(Stream& stream, uint64_t bytes, int64_t before_ms, DropCause cause) {
  Release release;
  uint64_t passed = 0;
  int64_t end = stream.record.confirmed;
  bool at_transaction = false;
  {
    const auto lease =
        context_.spool.ReadSound(stream.id, end, std::min<size_t>(kReadAtOnce, bytes));
    if (IsLost(lease, end)) {
      if (!GiveUpDamaged(stream) || !MayGiveUp(stream)) return 0;
      return GiveUpSome(stream, bytes, before_ms, cause);
    }
    if (!lease) return 0;
    for (const spool::EntryView& entry : lease->entries()) {
      if (passed >= bytes || entry.info.base_offset > end || entry.info.end_offset() > stream.end ||
          entry.info.commit_time_ms >= before_ms) {
        break;
      }
      at_transaction = kafka::RecordBatchView(entry.bytes).header().transactional();
      if (at_transaction) break;
      passed += entry.info.bytes;
      // The rest of one that was begun: it is released already.
      if (entry.info.base_offset >= stream.record.confirmed) {
        release.Add(OwnerOfTag(entry.info.tag), entry.info.bytes);
      }
      end = entry.info.end_offset();
    }
  }
  if (end > stream.record.confirmed) GiveUp(stream, end, release, cause);
  if (passed == 0 && at_transaction) return GiveUpTransactions(stream, bytes, cause);
  return passed;
}

// Those at the beginning of what waits, each with all its streams or not at all. The stream moves
// past them once that is durable.
uint64_t Forwarder::GiveUpTransactions(Stream& stream, uint64_t bytes, DropCause cause) {
  uint64_t given_up = 0;
  int64_t at = stream.record.confirmed;
  while (context_.lane != nullptr && given_up < bytes) {
    const CommittedTransaction* transaction = context_.lane->Find(stream.id, at);
    if (transaction == nullptr || !AllowsGivingUp(*transaction, cause)) break;
    if (!context_.lane->GiveUp(transaction->number, cause)) break;
    const int64_t begin = std::exchange(at, transaction->RangeIn(stream.id)->end);
    given_up += ReleaseOf(context_.spool, stream.id, begin, at).bytes;
  }
  return given_up;
}

// A record is in no transaction that is given up against the rule of its own topic.
bool Forwarder::AllowsGivingUp(const CommittedTransaction& transaction, DropCause cause) {
  const CommittedTransaction::Range& any = transaction.ranges.front();
  const auto lease = context_.spool.Read(any.stream, any.begin, 1);
  if (!lease || lease->empty()) return false;
  const int64_t age_ms = context_.loop.WallClockMs() - lease->entries().front().info.commit_time_ms;
  return std::ranges::all_of(transaction.ranges, [&](const auto& range) {
    const auto stream = streams_.find(range.stream.value());
    if (stream == streams_.end()) return false;
    const TopicPolicy& policy = stream->second->policy;
    return cause == DropCause::kExpired ? policy.ttl_ms != 0 && age_ms > policy.ttl_ms
                                        : policy.when_full == WhenFull::kDropOldest;
  });
}

void Forwarder::OnGivenUp(const CommittedTransaction& transaction) {
  for (const CommittedTransaction::Range& range : transaction.ranges) {
    const auto stream = streams_.find(range.stream.value());
    if (stream == streams_.end()) continue;
    PassOver(*stream->second);
    DropExpired(*stream->second);
  }
}

// What was given up, if the stream has come to it.
void Forwarder::PassOver(Stream& stream) {
  while (context_.lane != nullptr && MayGiveUp(stream)) {
    const CommittedTransaction* transaction =
        context_.lane->GivenUp(stream.id, stream.record.confirmed);
    if (transaction == nullptr) return;
    const int64_t end = transaction->RangeIn(stream.id)->end;
    stream.for_lane = false;
    GiveUp(stream, end, ReleaseOf(context_.spool, stream.id, stream.record.confirmed, end),
           *transaction->given_up);
    // Nobody else may look at it soon.
    log_.Flush([this] { context_.lane->Wake(); });
  }
}

// What the spool has lost of what comes next. False: nothing, or not yet: a transaction that has a
// part of it must be given up first.
bool Forwarder::GiveUpDamaged(Stream& stream) {
  const int64_t at = stream.record.confirmed;
  if (!MayGiveUp(stream) || !IsLost(context_.spool.ReadSound(stream.id, at, 1), at)) return false;
  const auto sound = context_.spool.NextReadable(stream.id, at);
  if (!sound) return false;
  int64_t end = std::min(*sound, stream.end);
  const CommittedTransaction* transaction =
      context_.lane == nullptr ? nullptr : context_.lane->Next(stream.id, at);
  if (transaction != nullptr) end = std::min(end, transaction->RangeIn(stream.id)->begin);
  if (end > at) {
    GiveUp(stream, end, ReleaseOf(context_.spool, stream.id, at, end), DropCause::kDamaged);
  } else if (transaction != nullptr && transaction->RangeIn(stream.id)->begin == at) {
    context_.lane->GiveUp(transaction->number, DropCause::kDamaged);
  }
  return end > at;
}

void Forwarder::GiveUp(Stream& stream, int64_t end, const Release& release, DropCause cause) {
  uint64_t bytes = release.bytes;
  const auto list = [&](int64_t from, int64_t to) {
    if (from >= to) return;
    CountDrop(cause, static_cast<uint64_t>(to - from));
    stream.drops.Add({.begin = from,
                      .end = to,
                      .cause = cause,
                      .when_ms = context_.loop.WallClockMs(),
                      .bytes = std::exchange(bytes, 0)});
    if (context_.acks == nullptr) return;
    context_.acks->OnGone(stream.id, {.begin = from, .end = to, .cause = cause});
  };
  int64_t at = stream.record.confirmed;
  // In their order: who waits is told up to where all is settled.
  while (!stream.left_out.empty() && stream.left_out.front().end <= end) {
    const LeftOut dead = stream.left_out.front();
    list(at, dead.begin);
    PassLeftOut(stream, dead.end);
    at = dead.end;
  }
  list(at, end);
  // The tier would miss the sequence numbers between, unless it has the records after all. If its
  // leader has more than these, what follows is repeats, which it knows under this epoch only.
  if (stream.doubt) {
    stream.gap = true;
  } else if (end > stream.next && end >= stream.at_leader && stream.record.identity.known()) {
    stream.new_epoch = true;
  }
  stream.ahead = {};
  stream.lane_parked = false;
  stream.record.confirmed = end;
  stream.next = std::max(stream.next, end);
  stream.rewind = std::max(stream.rewind, end);
  DropPieces(stream);
  log_.Note(stream.id, stream.record, release);
  log_.Note(StreamKey(kDropsPrefix, stream.id), stream.drops.Serialize());
  if (stream.phase == Phase::kReady) return;
  // What it was held for may be gone.
  stream.timer.Cancel();
  stream.phase = Phase::kReady;
  stream.trouble.clear();
  Step(stream);
}

void Forwarder::CountDrop(DropCause cause, uint64_t records) {
  context_.metrics.dropped_records.With(DropCauseName(cause)).Add(records);
  unreported_drops_[cause] += records;
}

// What earlier runs gave up: a client may send it once more. The tier's own errors are not kept.
void Forwarder::TellGone(const Stream& stream) {
  if (context_.acks == nullptr) return;
  for (const DropRange& range : stream.drops.ranges()) {
    context_.acks->OnGone(stream.id, {.begin = range.begin,
                                      .end = range.end,
                                      .cause = range.cause,
                                      .error = range.cause == DropCause::kDeadLetter
                                                   ? kafka::ErrorCode::kInvalidRecord
                                                   : kafka::ErrorCode::kPolicyViolation});
  }
}

void Forwarder::ReportDrops() {
  const int64_t now_ms = context_.loop.WallClockMs();
  if (unreported_drops_.empty() || now_ms - drops_reported_ms_ < kReportEveryMs) return;
  drops_reported_ms_ = now_ms;
  for (const auto& [cause, records] : std::exchange(unreported_drops_, {})) {
    base::Log(base::Event::kRecordsDropped, "forward",
              "{} records dropped ({}); /ledger lists them", records, DropCauseName(cause));
  }
}

}  // namespace holdfast::agent
