// The part of agent/forwarder.h that says how far delivery has come.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/forwarder.h"

namespace holdfast::agent {
namespace {

constexpr base::Duration kMeasureEvery = std::chrono::seconds(1);
// What the last second says of the pace, against what was known before.
constexpr double kNewestCounts = 0.1;
constexpr base::Duration kLookForSent = std::chrono::milliseconds(50);

}  // namespace

int64_t Forwarder::OldestOf(Stream& stream) {
  if (stream.record.confirmed >= stream.end) return 0;
  if (!stream.flights.empty()) return stream.flights.front().commit_ms;
  if (stream.oldest_of != stream.record.confirmed) {
    const auto first = context_.spool.Read(stream.id, stream.record.confirmed, 1);
    if (!first || first->empty()) return 0;
    stream.oldest_of = stream.record.confirmed;
    stream.oldest_ms = first->entries().front().info.commit_time_ms;
  }
  return stream.oldest_ms;
}

int64_t Forwarder::OldestReadableOf(Stream& stream) {
  const int64_t oldest_ms = OldestOf(stream);
  if (oldest_ms != 0 || stream.record.confirmed >= stream.end) return oldest_ms;
  const auto next = context_.spool.NextReadable(stream.id, stream.record.confirmed);
  if (!next) return 0;
  const auto first = context_.spool.Read(stream.id, *next, 1);
  return first && !first->empty() ? first->entries().front().info.commit_time_ms : 0;
}

Forwarder::Status Forwarder::GetStatus() {
  base::MutexLock lock(mutex_);
  return status_;
}

bool Forwarder::Resume(const std::string& name) {
  const Status status = GetStatus();
  const bool known =
      name.empty()
          ? status.parked_streams > 0
          : status.parked_streams > kWorstShown ||
                std::ranges::find(status.parked, name, &StreamStatus::name) != status.parked.end();
  if (!known) return false;
  context_.loop.Post([self = std::weak_ptr<Forwarder*>(self_), name] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->ResumeParked(name);
  });
  return true;
}

bool Forwarder::IsParked(const Stream& stream) {
  return stream.phase == Phase::kParked || (stream.phase == Phase::kInLane && stream.lane_parked);
}

void Forwarder::ResumeParked(const std::string& name) {
  for (auto& [id, stream] : streams_) {
    if (!IsParked(*stream)) continue;
    if (!name.empty() && name != StreamName(stream->topic, stream->partition)) continue;
    if (stream->phase == Phase::kInLane) {
      stream->lane_parked = false;
      context_.lane->Retry(stream->id);
      continue;
    }
    stream->timer.Cancel();
    stream->phase = Phase::kReady;
    Step(*stream);
  }
}

int64_t Forwarder::Backlog() {
  TakeNews();
  int64_t backlog = 0;
  for (const auto& [id, stream] : streams_) backlog += stream->end - stream->record.confirmed;
  return backlog;
}

int64_t Forwarder::HeldBacklog() {
  if (scheduled_.open) return 0;
  TakeNews();
  int64_t backlog = 0;
  for (const auto& [id, stream] : streams_) {
    if (Held(*stream) || HeldInLane(*stream)) backlog += stream->end - stream->record.confirmed;
  }
  return backlog;
}

// The lane gives back what is not its own.
bool Forwarder::HeldInLane(const Stream& stream) const {
  if (stream.phase != Phase::kInLane || stream.record.confirmed >= stream.end) return false;
  const auto next = context_.spool.ReadSound(stream.id, stream.record.confirmed, 1);
  if (IsLost(next, stream.record.confirmed)) return false;
  return !next || context_.lane->Takes(next->entries().front()) || !stream.left_out.empty();
}

std::vector<StreamEnd> Forwarder::Waiting() {
  TakeNews();
  std::vector<StreamEnd> ends;
  for (const auto& [id, stream] : streams_) {
    if (stream->record.confirmed < stream->end) ends.push_back({spool::StreamId(id), stream->end});
  }
  return ends;
}

std::vector<StreamEnd> Forwarder::Undelivered(std::vector<StreamEnd> ends) {
  TakeNews();
  std::erase_if(ends, [this](const StreamEnd& one) {
    const auto found = streams_.find(one.stream.value());
    return found != streams_.end() && found->second->record.confirmed >= one.end;
  });
  return ends;
}

Left Forwarder::WhatIsLeft() {
  TakeNews();
  Left left{.other_cluster = other_cluster_,
            .withheld = options_.withheld,
            .nameless_streams = nameless_.size()};
  for (const auto& [id, point] : nameless_) left.nameless_records += point.end - point.confirmed;
  for (const auto& [id, stream] : streams_) {
    const int64_t backlog = stream->end - stream->record.confirmed;
    if (backlog <= 0) continue;
    left.records += backlog;
    ++left.streams;
    const bool parked = IsParked(*stream);
    if (parked) ++left.parked_streams;
    // What a parked one says is more to the point.
    if (!stream->trouble.empty() && (left.trouble.empty() || (parked && left.parked_streams == 1)))
      left.trouble = fmt::format("{}/{}: {}", stream->topic, stream->partition, stream->trouble);
  }
  return left;
}

void Forwarder::WhenSent(base::Task done) {
  if (Backlog() == HeldBacklog()) return done();
  sent_timer_ = context_.loop.After(
      kLookForSent, [this, done = std::move(done)]() mutable { WhenSent(std::move(done)); });
}

std::shared_ptr<const Ledger> Forwarder::GetLedger() {
  base::MutexLock lock(mutex_);
  return ledger_;
}

// What was acknowledged before now is durable, and told of in the news: when those are taken, a
// stream without backlog is complete until now.
void Forwarder::MeasureLedger() {
  auto ledger = std::make_shared<Ledger>();
  ledger->measured_ms = ledger->complete_until_ms = context_.loop.WallClockMs();
  TakeNews();
  for (auto& [id, stream] : streams_) {
    const bool complete = stream->record.confirmed >= stream->end;
    const int64_t until = complete ? ledger->measured_ms : OldestOf(*stream);
    ledger->complete_until_ms = std::min(ledger->complete_until_ms, until);
    ledger->dropped_records += stream->drops.records();
    const int64_t backlog = std::max<int64_t>(stream->end - stream->record.confirmed, 0);
    if (stream->measured_backlog >= 0) {
      const auto shrunk = static_cast<double>(stream->measured_backlog - backlog);
      stream->drain_per_second += kNewestCounts * (shrunk - stream->drain_per_second);
    }
    stream->measured_backlog = backlog;
    ledger->streams.push_back({.stream = StreamName(stream->topic, stream->partition),
                               .confirmed = stream->record.confirmed,
                               .end = stream->end,
                               .tier_offset = stream->record.tier_offset,
                               .complete_until_ms = until,
                               .drops = stream->drops,
                               .oldest_ms = OldestReadableOf(*stream),
                               .trouble = backlog > 0 ? stream->trouble : "",
                               .parked = IsParked(*stream),
                               .drain_per_second = stream->drain_per_second});
  }
  for (const auto& [id, point] : nameless_) {
    ledger->complete_until_ms = std::min(ledger->complete_until_ms, point.complete_until_ms);
    ledger->streams.push_back(point);
  }
  std::ranges::sort(ledger->streams, {}, &CommitPoint::stream);
  context_.metrics.complete_until_timestamp_seconds.Set(
      static_cast<double>(ledger->complete_until_ms) / 1000);
  base::MutexLock lock(mutex_);
  ledger_ = std::move(ledger);
}

void Forwarder::WriteJournal(bool all) {
  for (auto& [key, value] : journal_.Take(context_.loop.WallClockMs(), all))
    log_.Note(std::move(key), std::move(value));
}

void Forwarder::Measure() {
  if (schedule_.At(context_.loop.WallClockMs()) != scheduled_) FollowSchedule();
  DropExpired();
  ReportDrops();
  MeasureLedger();
  WriteJournal(/*all=*/false);
  Status status{.streams = streams_.size(),
                .schedule = scheduled_,
                .schedule_changes_ms = schedule_changes_ms_};
  for (auto& [id, stream] : streams_) {
    const int64_t backlog = stream->end - stream->record.confirmed;
    if (backlog <= 0) continue;
    status.backlog_records += backlog;
    status.worst.push_back({.name = StreamName(stream->topic, stream->partition),
                            .backlog_records = backlog,
                            .oldest_ms = OldestReadableOf(*stream),
                            .trouble = stream->trouble});
    if (!IsParked(*stream)) continue;
    ++status.parked_streams;
    if (status.parked.size() < kWorstShown) status.parked.push_back(status.worst.back());
  }
  for (const auto& [id, point] : nameless_) {
    const int64_t backlog = point.end - point.confirmed;
    status.backlog_records += backlog;
    status.worst.push_back({.name = point.stream,
                            .backlog_records = backlog,
                            .oldest_ms = point.oldest_ms,
                            .trouble = point.trouble});
  }
  std::ranges::sort(status.worst, {}, &StreamStatus::oldest_ms);
  // Those of which nothing can be read come first, and say nothing of the others.
  const auto known = std::ranges::upper_bound(status.worst, 0, {}, &StreamStatus::oldest_ms);
  if (known != status.worst.end()) status.oldest_ms = known->oldest_ms;
  if (status.worst.size() > kWorstShown) status.worst.resize(kWorstShown);
  metrics::AgentMetrics& metrics = context_.metrics;
  metrics.parked_streams.Set(static_cast<double>(status.parked_streams));
  metrics.backlog_records.Set(static_cast<double>(status.backlog_records));
  if (context_.records != nullptr && !stopped_) context_.records->ReportHeldBytes();
  metrics.oldest_undelivered_timestamp_seconds.Set(static_cast<double>(status.oldest_ms) / 1000);
  {
    base::MutexLock lock(mutex_);
    status_ = std::move(status);
  }
  measure_timer_ = context_.loop.After(kMeasureEvery, [this] { Measure(); });
}

}  // namespace holdfast::agent
