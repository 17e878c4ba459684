// The part of agent/forwarder.h that gives records up: because they are too old for their topic, or
// to make room for newer ones. Nothing that may be on its way is given up, nor anything that is
// part of a transaction.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "agent/forwarder.h"
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

// What was sent and is not answered may arrive; and while an identity is written down, or the tier
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
  while (freed < bytes) {
    Stream* oldest = nullptr;
    for (auto& [id, stream] : streams_) {
      const bool meant = topic.empty() ? stream->policy.when_full == WhenFull::kDropOldest
                                       : stream->topic == topic;
      if (meant && MayGiveUp(*stream) &&
          (oldest == nullptr || OldestOf(*stream) < OldestOf(*oldest))) {
        oldest = stream.get();
      }
    }
    const uint64_t more =
        oldest == nullptr ? 0 : GiveUpSome(*oldest, bytes - freed, kNever, DropCause::kMadeRoom);
    if (more == 0) break;
    freed += more;
  }
  log_.Flush([this, topic] { making_room_.erase(topic); });
}

void Forwarder::DropExpired() {
  for (auto& [id, stream] : streams_) {
    if (stream->policy.ttl_ms == 0 || !MayGiveUp(*stream)) continue;
    const int64_t before_ms = context_.loop.WallClockMs() - stream->policy.ttl_ms;
    uint64_t dropped = 0;
    while (dropped < kExpireAtOnce && MayGiveUp(*stream) && OldestOf(*stream) < before_ms) {
      const uint64_t more = GiveUpSome(*stream, kExpireAtOnce, before_ms, DropCause::kExpired);
      if (more == 0) break;
      dropped += more;
    }
  }
}

// Whole batches from the beginning of what waits that were spooled before `before_ms`, until
// `bytes` are reached. Returns how many bytes those were.
uint64_t Forwarder::GiveUpSome(Stream& stream, uint64_t bytes, int64_t before_ms, DropCause cause) {
  Release release;
  uint64_t passed = 0;
  int64_t end = stream.record.confirmed;
  {
    const auto lease = context_.spool.Read(stream.id, end, std::min<size_t>(kReadAtOnce, bytes));
    if (!lease) return 0;  // Damage has its own way out.
    for (const spool::EntryView& entry : lease->entries()) {
      if (passed >= bytes || entry.info.end_offset() > stream.end ||
          entry.info.commit_time_ms >= before_ms ||
          kafka::RecordBatchView(entry.bytes).header().transactional()) {
        break;
      }
      passed += entry.info.bytes;
      // The rest of one that was begun: it is released already.
      if (entry.info.base_offset >= stream.record.confirmed) {
        release.Add(OwnerOfTag(entry.info.tag), entry.info.bytes);
      }
      end = entry.info.end_offset();
    }
  }
  if (end > stream.record.confirmed) GiveUp(stream, end, release, cause);
  return passed;
}

void Forwarder::GiveUp(Stream& stream, int64_t end, const Release& release, DropCause cause) {
  const auto records = static_cast<uint64_t>(end - stream.record.confirmed);
  context_.metrics.dropped_records.With(DropCauseName(cause)).Add(records);
  unreported_drops_[cause] += records;
  stream.drops.Add({.begin = stream.record.confirmed,
                    .end = end,
                    .cause = cause,
                    .when_ms = context_.loop.WallClockMs(),
                    .bytes = release.bytes});
  // The tier would miss the sequence numbers between, unless it has the records after all.
  if (stream.doubt) {
    stream.gap = true;
  } else if (end > stream.next && stream.record.identity.known()) {
    stream.new_epoch = true;
  }
  stream.record.confirmed = end;
  stream.next = std::max(stream.next, end);
  stream.rewind = std::max(stream.rewind, end);
  DropPieces(stream);
  log_.Note(stream.id, stream.record, release);
  log_.Note(StreamKey(kDropsPrefix, stream.id), stream.drops.Serialize());
  if (context_.acks != nullptr) {
    context_.acks->OnGone(stream.id, end, kafka::ErrorCode::kPolicyViolation,
                          fmt::format("the record was dropped: {}", DropCauseName(cause)));
  }
  if (stream.phase == Phase::kReady) return;
  // What it was held for may be gone.
  stream.timer.Cancel();
  stream.phase = Phase::kReady;
  stream.trouble.clear();
  Step(stream);
}

void Forwarder::ReportDrops() {
  const int64_t now_ms = context_.loop.WallClockMs();
  if (unreported_drops_.empty() || now_ms - drops_reported_ms_ < kReportEveryMs) return;
  drops_reported_ms_ = now_ms;
  for (const auto& [cause, records] : std::exchange(unreported_drops_, {})) {
    base::Log(base::LogLevel::kWarn, "forward", "{} records dropped ({}); /ledger lists them",
              records, DropCauseName(cause));
  }
}

}  // namespace holdfast::agent
