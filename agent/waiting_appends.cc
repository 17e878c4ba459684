#include "agent/waiting_appends.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

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

void WaitingAppends::OnSpoolFull(AppendJob& job, const std::string& why) {
  for (size_t at = 0; at < job.entries.size(); ++at) {
    if (job.entries[at].step != Step::kTry) continue;
    OnNoRoom(job, at, context_.usage.policies().ForTopic(job.request->entries[at].topic).when_full,
             /*for_client=*/false, why);
  }
  spool_full_ = true;
}

void WaitingAppends::Park(std::unique_ptr<AppendJob> job) {
  if (job->ticket == 0) job->ticket = next_ticket_++;
  bytes_.Add(job->memory);
  context_.metrics.waiting_for_room.Set(static_cast<double>(jobs_.size() + 1));
  auto before = jobs_.end();
  while (before != jobs_.begin() && (*std::prev(before))->ticket > job->ticket) --before;
  jobs_.insert(before, std::move(job));
  if (closed_) return Expire();
  if (returning_ == 0 && (jobs_.size() == 1 || spool_full_)) AskForRoom();
  Plan();
}

void WaitingAppends::Plan() {
  if (jobs_.empty() || std::exchange(planned_, true)) return;
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
  if (std::exchange(spool_full_, false)) OnRoom();
}

void WaitingAppends::TryAll() {
  std::set<const SpoolUsage::Account*> blocked;
  std::map<const SpoolUsage::Account*, uint64_t> granted;
  for (auto next = jobs_.begin(); next != jobs_.end();) {
    const auto at_job = next++;
    AppendJob& job = **at_job;
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
    bytes_.Remove(job.memory);
    std::unique_ptr<AppendJob> going = std::move(*at_job);
    jobs_.erase(at_job);
    context_.metrics.waiting_for_room.Set(static_cast<double>(jobs_.size()));
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
    bytes_.Remove(job.memory);
    std::unique_ptr<AppendJob> ended = std::move(*at_job);
    jobs_.erase(at_job);
    context_.metrics.waiting_for_room.Set(static_cast<double>(jobs_.size()));
    context_.settle(std::move(ended));
  }
}

// How many bytes more. None while nobody can know yet whether there is room by now.
uint64_t WaitingAppends::MayDropForSpool() {
  const base::Duration passed = context_.writer.Now() - asked_for_spool_at_;
  if (returning_ > 0 || passed < kTick) return 0;
  if (passed >= kSpoolPause) dropped_for_spool_ = 0;
  const uint64_t most = kSpoolRoom + context_.segment_bytes() * 3 / 2;
  const uint64_t left = most - std::min(most, dropped_for_spool_);
  return left < kSpoolRoom ? 0 : left;
}

void WaitingAppends::AskForRoom() {
  const uint64_t spool_most = spool_full_ ? MayDropForSpool() : 0;
  if (spool_full_) {
    if (spool_most == 0) return;
    asked_for_spool_at_ = context_.writer.Now();
  }
  const uint64_t spool_room =
      spool_full_ ? std::max(kSpoolRoom, context_.segment_bytes() / kSpoolRoomShare) : 0;
  std::map<std::string_view, uint64_t> wanted;
  for (const auto& job : jobs_) {
    for (size_t at = 0; at < job->entries.size(); ++at) {
      // The limit of a client drops nothing: it would be what others produced.
      if (job->entries[at].step != Step::kWaiting || job->entries[at].for_client) continue;
      const proxy::SinkEntry& entry = job->request->entries[at];
      const SpoolUsage::Account& topic = context_.usage.Topic(entry.topic);
      if (topic.topic.when_full != WhenFull::kDropOldest) continue;
      // Some more than is needed, so that not each request drops for itself.
      uint64_t& bytes = wanted[spool_full_ ? std::string_view() : std::string_view(topic.name)];
      if (bytes == 0) bytes = spool_full_ ? spool_room : topic.topic.bytes_max / kTopicRoomShare;
      bytes += entry.batch.size();
    }
  }
  for (auto& [topic, bytes] : wanted) {
    if (spool_full_) {
      bytes = std::min(bytes, spool_most);
      dropped_for_spool_ += bytes;
    }
    context_.drop_oldest(std::string(topic), bytes);
  }
}

void WaitingAppends::Close() {
  closed_ = true;
  Expire();
  timer_.Cancel();
}

}  // namespace holdfast::agent
