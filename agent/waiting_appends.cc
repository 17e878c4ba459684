#include "agent/waiting_appends.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/event.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;
using Step = AppendJob::Step;

// What is dropped beyond what is needed: of the topic's limit, and when the spool is full.
constexpr uint64_t kTopicRoomShare = 32;
constexpr uint64_t kSpoolRoom = uint64_t{1} << 20;
constexpr uint64_t kSpoolRoomShare = 16;  // Of a segment, if that is more.

}  // namespace

SpoolUsage::Account& WaitingAppends::AccountOf(const AppendJob& job, size_t at) {
  // A client's account with somebody waiting stays, whatever the rules say by now.
  if (job.entries[at].for_client) return *context_.usage.Client(job.request->client);
  return context_.usage.Topic(job.request->entries[at].topic);
}

void WaitingAppends::BeginWait(AppendJob& job, size_t at, bool for_client) {
  job.entries[at].step = Step::kWaiting;
  job.entries[at].for_client = for_client;
  ++AccountOf(job, at).waiting;
}

void WaitingAppends::EndWait(AppendJob& job, size_t at) { --AccountOf(job, at).waiting; }

void WaitingAppends::OnApply(AppendJob& job, size_t at) {
  if (!std::exchange(job.entries[at].going_in, false)) return;
  --AccountOf(job, at).going_in;
  EndWait(job, at);
}

bool WaitingAppends::LargeBefore(const AppendJob& job, const SpoolUsage::Account& account) {
  if (large_ == 0) return false;
  for (const auto& other : jobs_) {
    if (other->ticket >= job.ticket) return false;
    for (size_t at = 0; other->large && at < other->entries.size(); ++at) {
      if (other->entries[at].step == Step::kWaiting && &AccountOf(*other, at) == &account)
        return true;
    }
  }
  return false;
}

void WaitingAppends::OnNoRoom(AppendJob& job, size_t at, WhenFull when_full, bool for_client,
                              std::string_view why) {
  if (when_full == WhenFull::kRefuse || closed_ || (job.ticket == 0 && !bytes_.Fits(job.memory))) {
    context_.metrics.full.With("refused").Add();
    // The code on which clients wait and send again: nothing was stored.
    return job.Refuse(at, ErrorCode::kNotEnoughReplicas, std::string(why));
  }
  context_.metrics.full.With(when_full == WhenFull::kWait ? "waited" : "dropped others").Add();
  BeginWait(job, at, for_client);
}

void WaitingAppends::OnSpoolFull(AppendJob& job, const base::Error& why) {
  bool waits = false;
  for (size_t at = 0; at < job.entries.size(); ++at) {
    if (job.entries[at].step != Step::kTry) continue;
    OnNoRoom(job, at, context_.usage.policies().ForTopic(job.request->entries[at].topic).when_full,
             /*for_client=*/false, why.message);
    waits |= job.entries[at].step == Step::kWaiting;
  }
  if (why.event != base::Event::kNoRoomForLarge) {
    spool_full_ = true;
    return;
  }
  job.large = waits;
  job.may_drop = std::exchange(job.was_large, true);
  if (std::exchange(spool_full_, false)) OnRoom();  // For what waits with it.
}

void WaitingAppends::Park(std::unique_ptr<AppendJob> job) {
  if (job->ticket == 0) {
    if (jobs_.empty() && returning_ == 0) making_room_since_.reset();
    job->ticket = next_ticket_++;
  }
  bytes_.Add(job->memory);
  if (job->large && large_++ == 0) {
    space_freed_ = context_.space_freed();
    large_tried_at_ = context_.writer.Now();
  }
  context_.metrics.waiting_for_room.Set(static_cast<double>(jobs_.size() + 1));
  auto before = jobs_.end();
  while (before != jobs_.begin() && (*std::prev(before))->ticket > job->ticket) --before;
  jobs_.insert(before, std::move(job));
  if (closed_) return Expire();
  if (returning_ == 0 && (jobs_.size() == 1 || spool_full_)) AskForRoom();
  Plan();
}

std::unique_ptr<AppendJob> WaitingAppends::TakeOut(
    std::list<std::unique_ptr<AppendJob>>::iterator at_job) {
  std::unique_ptr<AppendJob> job = std::move(*at_job);
  jobs_.erase(at_job);
  bytes_.Remove(job->memory);
  if (job->large) --large_;
  context_.metrics.waiting_for_room.Set(static_cast<double>(jobs_.size()));
  return job;
}

void WaitingAppends::Plan() {
  if ((jobs_.empty() && refused_commit_ == 0) || std::exchange(planned_, true)) return;
  timer_ = context_.writer.After(kTick, [this] { Tick(); });
}

void WaitingAppends::Tick() {
  planned_ = false;
  Expire();
  // What goes in is not counted yet: nobody knows whether there is room for the others.
  if (returning_ == 0) {
    TryAll();
    AskForRoom();
  }
  Plan();
}

// Not inside the operation that released it, whose commit may fail.
void WaitingAppends::OnRoom() {
  if (jobs_.empty() || closed_ || std::exchange(try_posted_, true)) return;
  Plan();
  timer_ = context_.writer.After({}, [this] {
    try_posted_ = false;
    Tick();
  });
}

void WaitingAppends::OnTried(AppendJob& job) {
  if (job.ticket == 0) return;
  --returning_;
  for (size_t at = 0; at < job.entries.size(); ++at) OnApply(job, at);  // What never was.
  // While the spool is full, or the job waits on as it did before, the tick is often enough.
  if (!spool_full_ && job.Unanswered() < job.unanswered) OnRoom();
}

void WaitingAppends::OnStored(const AppendJob& job) {
  for (size_t at = 0; at < job.entries.size(); ++at) {
    if (job.entries[at].end < 0) continue;
    dropped_for_spool_ -= std::min(dropped_for_spool_, job.request->entries[at].batch.size());
  }
  if (job.was_large) dropped_for_large_ = 0;
  making_room_since_.reset();
  if (std::exchange(spool_full_, false)) OnRoom();
}

void WaitingAppends::OnCommitRefused(uint64_t bytes) {
  if (closed_) return;
  refused_commit_ = std::max(refused_commit_, bytes);
  commit_space_freed_ = context_.space_freed();
  Plan();
}

void WaitingAppends::OnCommitStored(uint64_t bytes, bool was_refused) {
  dropped_for_spool_ -= std::min(dropped_for_spool_, bytes);
  if (was_refused) refused_commit_ = dropped_for_large_ = 0;
}

// Whether those may find room by now that are too large for what there was.
bool WaitingAppends::MayTryLarge() {
  const uint64_t freed = context_.space_freed();
  const base::TimePoint now = context_.writer.Now();
  if (freed == space_freed_ && now - large_tried_at_ < kLargePause) return false;
  space_freed_ = freed;
  large_tried_at_ = now;
  return true;
}

void WaitingAppends::TryAll() {
  std::set<const SpoolUsage::Account*> blocked;
  std::optional<bool> may_try_large;
  std::map<const SpoolUsage::Account*, uint64_t> granted;
  for (auto next = jobs_.begin(); next != jobs_.end();) {
    const auto at_job = next++;
    AppendJob& job = **at_job;
    if (job.large && !may_try_large) may_try_large = MayTryLarge();
    if (job.large && !*may_try_large) {
      for (size_t at = 0; at < job.entries.size(); ++at) {
        if (job.entries[at].step == Step::kWaiting) blocked.insert(&AccountOf(job, at));
      }
      continue;
    }
    if (std::exchange(job.large, false)) --large_;
    SpoolUsage::Account* const client = context_.usage.Client(job.request->client);
    for (size_t at = 0; at < job.entries.size(); ++at) {
      if (job.entries[at].step != Step::kWaiting) continue;
      const proxy::SinkEntry& entry = job.request->entries[at];
      SpoolUsage::Account& topic = context_.usage.Topic(entry.topic);
      const uint64_t bytes = entry.batch.size();
      const bool for_topic = blocked.contains(&topic) || !topic.FitsTopic(bytes, granted[&topic]);
      const bool for_client = client != nullptr && (blocked.contains(client) ||
                                                    !client->FitsClient(bytes, granted[client]));
      if (for_topic || for_client) {
        blocked.insert(for_topic ? &topic : client);
        EndWait(job, at);
        BeginWait(job, at, !for_topic);
        continue;
      }
      granted[&topic] += bytes;
      if (client != nullptr) granted[client] += bytes;
      job.entries[at].step = Step::kTry;
      job.entries[at].going_in = true;
      ++AccountOf(job, at).going_in;
    }
    if (!job.Has(Step::kTry)) continue;
    std::unique_ptr<AppendJob> going = TakeOut(at_job);
    ++returning_;
    going->unanswered = going->Unanswered();
    context_.submit(std::move(going));
    // One is enough to see whether there is room again.
    if (spool_full_) return;
  }
}

void WaitingAppends::Expire() {
  const base::TimePoint now = context_.writer.Now();
  for (auto next = jobs_.begin(); next != jobs_.end();) {
    const auto at_job = next++;
    AppendJob& job = **at_job;
    if (job.deadline > now && !closed_) continue;
    for (size_t at = 0; at < job.entries.size(); ++at) {
      if (job.entries[at].step != Step::kWaiting) continue;
      EndWait(job, at);
      job.Refuse(at, ErrorCode::kNotEnoughReplicas,
                 closed_ ? "the agent shuts down" : "there was no room in the spool in time");
    }
    context_.settle(TakeOut(at_job));
  }
}

// How many bytes more.
uint64_t WaitingAppends::MayDropForSpool() {
  const base::TimePoint now = context_.writer.Now();
  if (context_.making_room()) {
    if (!making_room_since_) making_room_since_ = now;
    if (now - *making_room_since_ < kOwnRoomMax) return 0;
  }
  making_room_since_.reset();
  if (now - asked_for_spool_at_ >= kSpoolPause) dropped_for_spool_ = dropped_for_large_ = 0;
  const uint64_t most = kSpoolRoom + context_.segment_bytes() * 3 / 2;
  const uint64_t dropped =
      spool_full_ ? dropped_for_spool_ : std::max(dropped_for_spool_, dropped_for_large_);
  const uint64_t left = most - std::min(most, dropped);
  return left < kSpoolRoom ? 0 : left;
}

void WaitingAppends::AskForRoom() {
  const base::TimePoint now = context_.writer.Now();
  // Otherwise nobody can know yet whether the spool has room by now.
  const bool known = returning_ == 0 && now - asked_for_spool_at_ >= kTick;
  // Who commits asks again with each try. Of what was freed since, nobody knows if it is enough.
  uint64_t commit = known ? std::exchange(refused_commit_, 0) : 0;
  if (commit != 0 && context_.space_freed() != commit_space_freed_) commit = 0;
  const bool for_spool = known && (spool_full_ || large_ > 0 || commit > 0);
  const uint64_t spool_most = for_spool ? MayDropForSpool() : 0;
  if (spool_full_ && spool_most == 0) return;
  for (auto& [topic, bytes] : WantedDrops(/*for_spool=*/spool_most != 0, commit)) {
    if (topic.empty()) {
      bytes = std::min(bytes, spool_most);
      dropped_for_spool_ += bytes;
      if (!spool_full_) dropped_for_large_ += bytes;
      asked_for_spool_at_ = now;
    }
    context_.drop_oldest(std::string(topic), bytes);
  }
}

// By topic, with an empty name for the spool if that may drop any now.
std::map<std::string_view, uint64_t> WaitingAppends::WantedDrops(bool for_spool, uint64_t commit) {
  const uint64_t spool_room =
      for_spool ? std::max(kSpoolRoom, context_.segment_bytes() / kSpoolRoomShare) : 0;
  std::map<std::string_view, uint64_t> wanted;
  if (for_spool && commit != 0) wanted[""] = spool_room + commit;
  std::set<const SpoolUsage::Account*> behind_large;
  const bool for_large = for_spool && large_ > 0 && context_.space_freed() == space_freed_;
  for (const auto& job : jobs_) {
    const bool for_job = job->large ? for_large && std::exchange(job->may_drop, false) : for_spool;
    for (size_t at = 0; at < job->entries.size(); ++at) {
      // The limit of a client drops nothing: it would be what others produced.
      if (job->entries[at].step != Step::kWaiting || job->entries[at].for_client) continue;
      const proxy::SinkEntry& entry = job->request->entries[at];
      const SpoolUsage::Account& topic = context_.usage.Topic(entry.topic);
      const bool of_spool = spool_full_ || job->large;
      if (job->large) behind_large.insert(&topic);
      if (of_spool ? !for_job : behind_large.contains(&topic)) continue;
      if (topic.topic.when_full != WhenFull::kDropOldest) continue;
      // Some more than is needed, so that not each request drops for itself.
      uint64_t& bytes = wanted[of_spool ? std::string_view() : std::string_view(topic.name)];
      if (bytes == 0) bytes = of_spool ? spool_room : topic.topic.bytes_max / kTopicRoomShare;
      bytes += entry.batch.size();
    }
  }
  return wanted;
}

void WaitingAppends::Close() {
  closed_ = true;
  refused_commit_ = 0;
  Expire();
  timer_.Cancel();
}

}  // namespace holdfast::agent
