// Produce requests that wait for room in the spool: their topic or their client has as much there
// as it may, or the spool is full. They are tried again in the order in which they came, whenever
// something was delivered; what finds no room within its client's timeout is refused, and what was
// stored of the same request goes on to wait for the tier if it has to.
//
// What has to wait never delays what has not: an entry waits for one account, its topic's or its
// client's, and only what needs the same account waits behind it. Entries of other topics in the
// same request are stored at once, and only the answer waits. What goes in keeps its place before
// all that comes later until it is applied: meanwhile others may be before it in the spool's queue.
//
// What is too large for the room that the spool has for others is tried again when space was freed
// there. Only what needs the same account waits behind it, and drops nothing to go in. No room is
// kept for it: others may take what is freed, until its time is over.
//
// For a spool without room nothing is dropped before what the spool can do by itself is done, and
// was found not to help.
//
// Ownership: everything in the context outlives it.
// Threads: the spool's writer, on which all callbacks run.
// Shutdown: Close refuses what waits and lets nothing wait any more; before the destructor.
// Limits: those of WaitingBytes; more are refused at once.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/append_job.h"
#include "agent/spool_usage.h"
#include "agent/waiting_bytes.h"
#include "base/executor.h"
#include "metrics/catalogue.h"

namespace holdfast::agent {

class WaitingAppends {
 public:
  struct Context {
    base::Executor& writer;
    SpoolUsage& usage;
    metrics::AgentMetrics& metrics;
    // Submits the job's entries that say kTry once more.
    std::function<void(std::unique_ptr<AppendJob>)> submit;
    // Takes a job of which nothing waits for room any more.
    std::function<void(std::unique_ptr<AppendJob>)> settle;
    // Asks that the oldest of a topic be dropped, or, with an empty name, of all topics that allow
    // it. Called anew while it does not help.
    std::function<void(std::string topic, uint64_t bytes)> drop_oldest;
    // What a segment of the spool takes, about.
    std::function<uint64_t()> segment_bytes;
    // Of the spool: rises when there may be room that was not there before.
    std::function<uint64_t()> space_freed;
    // Of the spool, too: nobody knows yet whether there will be room without anything dropped.
    std::function<bool()> making_room;
  };
  static constexpr base::Duration kTick = std::chrono::milliseconds(50);
  // What is dropped gives a full spool no room before nothing else is in its segment, or that was
  // written anew, which takes it its time. So no more is dropped for it than was stored meanwhile
  // and a segment and a half: that leaves nothing of theirs in the oldest segment, though their
  // order is not exact. If that did not help, more is dropped after this pause.
  static constexpr base::Duration kSpoolPause = std::chrono::seconds(45);
  // Large ones are tried that often even if the spool freed nothing: others may have, on its disk.
  static constexpr base::Duration kLargePause = std::chrono::seconds(1);
  // So long the spool may take to make room by itself before others are dropped nevertheless.
  static constexpr base::Duration kOwnRoomMax = std::chrono::seconds(5);

  WaitingAppends(Context context, WaitingBytes& bytes)
      : context_(std::move(context)), bytes_(bytes) {}

  // While an operation is applied: there is no room for this entry, what becomes of it? It waits,
  // or is refused.
  void OnNoRoom(AppendJob& job, size_t at, WhenFull when_full, bool for_client,
                std::string_view why);
  // The spool was full, or had no room for one so large: nothing of the job was stored. Entries
  // that may not wait are refused.
  void OnSpoolFull(AppendJob& job, const base::Error& why);
  // Takes a job with entries that wait.
  void Park(std::unique_ptr<AppendJob> job);
  // Something was released, or stored.
  void OnRoom();
  void OnStored(const AppendJob& job);
  // The spool had no room for a transaction that may drop others; its client commits it again.
  void OnCommitRefused(uint64_t bytes);
  void OnCommitStored(uint64_t bytes, bool was_refused);
  // While an operation is applied, before anything else is asked of the entry.
  void OnApply(AppendJob& job, size_t at);
  // Whether a large one waits for the account that the job, which waited itself, must not overtake.
  [[nodiscard]] bool LargeBefore(const AppendJob& job, const SpoolUsage::Account& account);
  // A job that was submitted comes back, whatever became of it.
  void OnTried(AppendJob& job);

  void Close();

 private:
  std::unique_ptr<AppendJob> TakeOut(std::list<std::unique_ptr<AppendJob>>::iterator at_job);
  void Tick();
  void Plan();
  void TryAll();
  bool MayTryLarge();
  void Expire();
  void BeginWait(AppendJob& job, size_t at, bool for_client);
  void EndWait(AppendJob& job, size_t at);
  [[nodiscard]] SpoolUsage::Account& AccountOf(const AppendJob& job, size_t at);
  void AskForRoom();
  [[nodiscard]] std::map<std::string_view, uint64_t> WantedDrops(bool for_spool, uint64_t commit);
  [[nodiscard]] uint64_t MayDropForSpool();

  const Context context_;
  WaitingBytes& bytes_;
  std::list<std::unique_ptr<AppendJob>> jobs_;  // By ticket.
  size_t returning_ = 0;                        // Submitted once more and not back.
  uint64_t next_ticket_ = 1;
  bool spool_full_ = false;
  size_t large_ = 0;                    // Jobs that are.
  uint64_t space_freed_ = 0;            // As of when large ones were tried the last time,
  base::TimePoint large_tried_at_;      // which was then.
  uint64_t dropped_for_spool_ = 0;      // Beyond what was stored since.
  uint64_t dropped_for_large_ = 0;      // Of it, for those of which none was stored since.
  base::TimePoint asked_for_spool_at_;  // The last time.
  std::optional<base::TimePoint> making_room_since_;  // As far as it was asked.
  uint64_t refused_commit_ = 0;      // The bytes of the largest since the last look,
  uint64_t commit_space_freed_ = 0;  // and as of when that was refused.
  bool planned_ = false;
  bool try_posted_ = false;
  bool closed_ = false;
  base::Timer timer_;
};

}  // namespace holdfast::agent
