// One produce request on its way through the agent: to the spool's writer, perhaps into the line of
// those that wait for room (agent/waiting_appends.h), perhaps among those that wait for the tier
// (agent/waiting_acks.h), and back to its client. Whoever holds it completes it, or hands it on.
// One of an open local transaction is asked for room only, and goes back to its coordinator.
//
// Threads: one at a time.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "agent/spool_usage.h"
#include "agent/topic_policy.h"
#include "base/unique_function.h"
#include "proxy/record_sink.h"
#include "spool/spool.h"

namespace holdfast::agent {

struct AppendJob {
  enum class Step : uint8_t {
    kTry,      // To be appended, or found to be a duplicate or wrong.
    kWaiting,  // There is no room for it.
    kDone,     // It has its answer.
  };
  struct Entry {
    Step step = Step::kTry;
    spool::StreamId stream;
    int64_t end = -1;  // Behind its last record in the stream, if it is stored.
    TopicPolicy::Acks acks = TopicPolicy::Acks::kLocal;
    bool for_client = false;  // While it waits: for its client's account, not its topic's.
    // It waited and goes in. Until it is applied, its account counts it as waiting.
    bool going_in = false;
    // With on_room: what its transaction has of its topic and its client already, and the answer.
    uint64_t topic_has = 0;
    uint64_t client_has = 0;
    SpoolUsage::Room room;
  };

  explicit AppendJob(std::unique_ptr<proxy::SinkRequest> of) : request(std::move(of)) {
    entries.resize(request->entries.size());
    memory = std::max(BytesToTry(), request->memory);
  }

  void Refuse(size_t at, kafka::ErrorCode error, std::string message) {
    proxy::SinkEntry& entry = request->entries[at];
    entry.error = error;
    entry.base_offset = -1;
    entry.message = std::move(message);
    entries[at].step = Step::kDone;
  }
  [[nodiscard]] bool Has(Step step) const {
    return std::ranges::any_of(entries, [step](const Entry& entry) { return entry.step == step; });
  }
  [[nodiscard]] size_t Unanswered() const { return entries.size() - Count(Step::kDone); }
  [[nodiscard]] size_t Count(Step step) const {
    return static_cast<size_t>(std::ranges::count(entries, step, &Entry::step));
  }
  // Of the batches that are to be appended.
  [[nodiscard]] size_t BytesToTry() const {
    size_t sum = 0;
    for (size_t at = 0; at < entries.size(); ++at) {
      if (entries[at].step == Step::kTry) sum += request->entries[at].batch.size();
    }
    return sum;
  }
  [[nodiscard]] bool WantsTier(size_t at) const {
    return entries[at].acks != TopicPolicy::Acks::kLocal && entries[at].end >= 0 &&
           request->entries[at].error == kafka::ErrorCode::kNone;
  }
  [[nodiscard]] bool WantsTier() const {
    for (size_t at = 0; at < entries.size(); ++at) {
      if (WantsTier(at)) return true;
    }
    return false;
  }
  static void Complete(std::unique_ptr<AppendJob> job) {
    if (job->on_room) return std::exchange(job->on_room, {})(std::move(job));
    proxy::SinkRequest& target = *job->request;
    target.Complete(std::move(job->request));
  }

  std::unique_ptr<proxy::SinkRequest> request;
  std::vector<Entry> entries;  // As the request's.
  size_t memory = 0;           // What it takes while it waits.
  size_t unanswered = 0;       // Entries that were, when it was tried the last time.
  bool large = false;          // It waits for room that others need not,
  bool was_large = false;      // or did so before.
  bool may_drop = false;       // While it is: others, once, since it was tried in vain again.
  uint64_t ticket = 0;         // Its place among those that wait for room; 0: none so far.
  base::TimePoint deadline;    // Of all its waits together, from the first one on.
  bool counted = false;  // It waits for the tier, and is in WaitingBytes; or has no room there.
  // Set: room is kept for the entries, and nothing is appended. Takes the place of the request's
  // own Complete.
  base::UniqueFunction<void(std::unique_ptr<AppendJob>)> on_room;
};

}  // namespace holdfast::agent
