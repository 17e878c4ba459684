#include "agent/waiting_acks.h"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <utility>

#include "kafka/record_batch.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

// Deadlines this near to each other share a timer.
constexpr base::Duration kTick = std::chrono::milliseconds(20);

constexpr std::string_view kTooLate =
    "the tier has not confirmed the records in time; they are on this host's disk and will be "
    "delivered";

std::string WhyGone(DropCause cause) {
  if (cause == DropCause::kDeadLetter)
    return "the tier refuses the record for good; it is a dead letter now";
  return fmt::format("the record was dropped: {}", DropCauseName(cause));
}

}  // namespace

WaitingAcks::WaitingAcks(base::Executor& loop, metrics::AgentMetrics& metrics, WaitingBytes& bytes)
    : loop_(loop), metrics_(metrics), bytes_(bytes), self_(std::make_shared<WaitingAcks*>(this)) {}

WaitingAcks::~WaitingAcks() { *self_ = nullptr; }

void WaitingAcks::Take(std::unique_ptr<AppendJob> job) {
  loop_.Post([self = std::weak_ptr<WaitingAcks*>(self_), job = std::move(job)]() mutable {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->Add(std::move(job));
  });
}

void WaitingAcks::Add(std::unique_ptr<AppendJob> job) {
  const uint64_t id = next_job_++;
  const auto added = jobs_.emplace(id, Job{.job = std::move(job)}).first;
  Job& entry = added->second;
  deadlines_.emplace(entry.job->deadline, id);
  std::vector<std::pair<Waiter, Settled>> settled;
  for (size_t at = 0; at < entry.job->entries.size(); ++at) {
    if (!entry.job->WantsTier(at)) continue;
    ++entry.open;
    const int64_t end = entry.job->entries[at].end;
    Stream& stream = streams_[entry.job->entries[at].stream.value()];
    stream.asked_about = true;
    if (end > stream.settled) {
      stream.waiters.emplace(end, Waiter{id, at});
      continue;
    }
    // A retry, or the tier was faster than this request. Its offset may be forgotten by now.
    const auto known = std::ranges::find(stream.newest, end, &Settled::end);
    settled.emplace_back(Waiter{id, at}, known != stream.newest.end() ? *known : Settled{end});
  }
  for (const auto& [waiter, how] : settled) Answer(waiter, how);
  const auto still = jobs_.find(id);
  if (still == jobs_.end()) return;
  if (still->second.open == 0) return Finish(still);
  const bool late = still->second.job->deadline <= loop_.Now();
  if (closed_ || late || !still->second.job->counted) return TimeOut(still);
  Show();
  if (deadlines_.begin()->second == id) Plan();
}

void WaitingAcks::OnGone(spool::StreamId id, const Gone& gone) {
  Stream& stream = streams_[id.value()];
  Gone* const last = stream.gone.empty() ? nullptr : &stream.gone.back();
  if (last != nullptr && last->end == gone.begin && last->cause == gone.cause &&
      last->error == gone.error) {
    last->end = gone.end;
  } else {
    if (stream.gone.size() == kGoneRemembered) stream.gone.erase(stream.gone.begin());
    stream.gone.push_back(gone);
  }
  if (gone.begin <= stream.settled) Settle(stream, {.end = gone.end});
}

void WaitingAcks::OnConfirmed(spool::StreamId stream, int64_t end, int64_t tier_end) {
  Settle(streams_[stream.value()], {.end = end, .tier_end = tier_end});
}

void WaitingAcks::Settle(Stream& stream, const Settled& settled) {
  if (settled.end <= stream.settled) return;
  stream.settled = settled.end;
  std::vector<std::pair<Waiter, Settled>> answers;
  while (!stream.waiters.empty() && stream.waiters.begin()->first <= settled.end) {
    const auto& [end, waiter] = *stream.waiters.begin();
    // Several batches were confirmed at once: only the last one's offset is known.
    answers.emplace_back(waiter, end == settled.end ? settled : Settled{end});
    stream.waiters.erase(stream.waiters.begin());
  }
  if (stream.asked_about) {
    if (stream.newest.size() == kRemembered) stream.newest.erase(stream.newest.begin());
    stream.newest.push_back(settled);
  }
  for (const auto& [waiter, how] : answers) Answer(waiter, how);
}

void WaitingAcks::Answer(const Waiter& waiter, const Settled& settled) {
  const auto found = jobs_.find(waiter.job);
  if (found == jobs_.end()) return;
  AppendJob& job = *found->second.job;
  proxy::SinkEntry& entry = job.request->entries[waiter.entry];
  const int64_t records = kafka::RecordBatchView(entry.batch).record_count();
  const auto newest_first =
      std::views::reverse(streams_[job.entries[waiter.entry].stream.value()].gone);
  const auto gone = std::ranges::find_if(newest_first, [&](const Gone& range) {
    return range.begin < settled.end && settled.end - records < range.end;
  });
  if (gone != newest_first.end()) {
    job.Refuse(waiter.entry, gone->error, WhyGone(gone->cause));
    return EndOne(waiter);
  }
  entry.base_offset = settled.tier_end >= 0 ? settled.tier_end - records : -1;
  if (job.entries[waiter.entry].acks != TopicPolicy::Acks::kBoth || !when_recorded_) {
    return EndOne(waiter);
  }
  // The forwarder notes first and tells then.
  when_recorded_([self = std::weak_ptr<WaitingAcks*>(self_), waiter] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->EndOne(waiter);
  });
}

void WaitingAcks::EndOne(const Waiter& waiter) {
  const auto found = jobs_.find(waiter.job);
  if (found == jobs_.end()) return;
  found->second.job->entries[waiter.entry].end = -1;  // It wants the tier no more.
  if (--found->second.open == 0) Finish(found);
}

void WaitingAcks::Finish(std::map<uint64_t, Job>::iterator job) {
  const auto [first, last] = deadlines_.equal_range(job->second.job->deadline);
  for (auto at = first; at != last; ++at) {
    if (at->second != job->first) continue;
    deadlines_.erase(at);
    break;
  }
  if (job->second.job->counted) bytes_.Remove(job->second.job->memory);
  std::unique_ptr<AppendJob> ended = std::move(job->second.job);
  jobs_.erase(job);
  Show();
  AppendJob::Complete(std::move(ended));
}

void WaitingAcks::TimeOut(std::map<uint64_t, Job>::iterator job) {
  AppendJob& ended = *job->second.job;
  for (size_t at = 0; at < ended.entries.size(); ++at) {
    if (!ended.WantsTier(at)) continue;
    Stream& stream = streams_[ended.entries[at].stream.value()];
    const auto [first, last] = stream.waiters.equal_range(ended.entries[at].end);
    const auto mine = std::find_if(
        first, last, [&](const auto& waiter) { return waiter.second.job == job->first; });
    if (mine != last) stream.waiters.erase(mine);
    ended.Refuse(at, ErrorCode::kRequestTimedOut, std::string(kTooLate));
  }
  metrics_.full.With("tier too late").Add();
  Finish(job);
}

void WaitingAcks::Plan() {
  if (deadlines_.empty()) return timer_.Cancel();
  const base::Duration wait = deadlines_.begin()->first - loop_.Now();
  timer_ = loop_.After(std::max<base::Duration>(wait, base::Duration::zero()) + kTick, [this] {
    while (!deadlines_.empty() && deadlines_.begin()->first <= loop_.Now()) {
      TimeOut(jobs_.find(deadlines_.begin()->second));
    }
    Plan();
  });
}

void WaitingAcks::Show() { metrics_.waiting_for_tier.Set(static_cast<double>(jobs_.size())); }

void WaitingAcks::Close() {
  closed_ = true;
  while (!jobs_.empty()) TimeOut(jobs_.begin());
  timer_.Cancel();
}

}  // namespace holdfast::agent
