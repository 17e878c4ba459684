// Takes events from one source into the spool, each exactly once:
//
//   1. read rows;
//   2. append their events and, in the same commit, a note of which rows they were;
//   3. remove the rows; the next note takes the place of this one.
//
// Whatever dies in between, the note says which rows are in the spool although they may still be in
// the source: after a start, and after every error, those are removed before anything is read. The
// note is looked up by position and event id, and so are rows as they are removed: a table that is
// made anew at any moment loses nothing, if no id comes twice. For tables in which one does, as an
// id that is the position, no note outlives its rows for long: once they are gone, and nothing was
// taken for kForgetAfter, or at Pause, a note of no rows takes its place. Killed in between, the
// next run removes an event that has their position and id.
//
// What it cannot do: a spool that is lost loses what was in it, and a database that is set back to
// an earlier state gives rows again; consumers tell these by the header `id`.
//
//   Drain drain(context, options, std::move(router), std::move(source), kept_note);
//   drain.Start();
//   drain.Nudge();                                // A service says that it has just committed.
//   loop.RunAndWait([&] { drain.Pause(); });
//   loop.RunAndWait([&] { drain.Close(true); });  // Best once the tier has it all.
//
// While there is nothing to do it asks ever more rarely, from poll_min to poll_max. When the spool
// has no room rows stay where they are. Rows that cannot be sent go to the source's quarantine,
// those whose topic is not known yet, or has no room for more, stay, and the others flow.
//
// Rows that the quarantine refuses are stuck: they stay in the source and are passed over. They are
// tried again one by one, each every kTryStuckEvery, and go nowhere but to the quarantine: the rows
// of their keys that follow have passed them. A later run knows nothing of this.
//
// Ownership: what the context names outlives it.
// Threads: all on the context's loop, which is its own: the source may block it. Start, Nudge and
//   GetStatus and GiveUp from any thread, TellIfBusy from one at a time.
// Shutdown: Pause, Close, then the destructor. Rows in hand are removed at the next start.
// Limits: batch_rows rows, and Router::kBytesAtOnce of them, at a time. kStuckMost rows are passed
//   over; one more is an error of the source.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/outbox/router.h"
#include "agent/outbox/source.h"
#include "agent/record_log.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "metrics/catalogue.h"
#include "proxy/metadata_cache.h"

namespace holdfast::outbox {

class Drain {
 public:
  static constexpr size_t kStuckMost = 1000;
  static constexpr base::Duration kTryStuckEvery = std::chrono::minutes(1);
  static constexpr base::Duration kForgetAfter = std::chrono::seconds(1);

  // Those of them that are not at the tier yet. Blocks.
  using Undelivered = std::function<std::vector<agent::StreamEnd>(std::vector<agent::StreamEnd>)>;
  // What a source has taken that may not be at the tier yet: the ends of the streams that have it.
  class Taken {
   public:
    // `before`: by an earlier run.
    Taken(Undelivered undelivered, const std::vector<agent::StreamEnd>& before)
        : undelivered_(std::move(undelivered)) {
      Add(before);
    }
    void Add(const std::vector<agent::StreamEnd>& ends);
    [[nodiscard]] bool Delivered();

   private:
    const Undelivered undelivered_;
    std::map<uint32_t, int64_t> ends_;  // By stream id.
  };

  struct Context {
    base::Executor& loop;
    proxy::MetadataCache& cache;
    metrics::OutboxMetrics& metrics;
    std::function<void(agent::NotedAppend, agent::RecordLog::NotedDone)> append;
    // From any thread: the tier shall make the topic, if it does that; and tell its settings.
    std::function<void(std::string topic)> want_topic;
    std::function<void(std::string topic)> want_settings;
    std::shared_ptr<Taken> taken;
  };
  struct Options {
    std::string name;
    size_t batch_rows = 1000;
    base::Duration poll_min = std::chrono::milliseconds(5);
    base::Duration poll_max = std::chrono::milliseconds(500);
    base::Duration busy_after = std::chrono::seconds(10);  // Then a source in use is in trouble.
  };
  struct Status {
    bool connected = false;
    std::string trouble;  // Empty if there is none.
    uint64_t taken_rows = 0;
    uint64_t quarantined_rows = 0;
    uint64_t stuck_rows = 0;
    std::string stuck_reason;       // Of the lowest of them.
    std::vector<std::string> held;  // Routes whose topics are not known.
    Source::Lag lag;
  };

  // The source's key in the spool's state.
  static std::string NoteKey(std::string_view name);

  // `kept`: what stood there when the spool was opened, or empty.
  Drain(Context context, Options options, Router router, std::unique_ptr<Source> source,
        std::string_view kept);
  ~Drain();
  Drain(const Drain&) = delete;
  Drain& operator=(const Drain&) = delete;

  void Start();
  void Nudge();
  [[nodiscard]] Status GetStatus() const;
  // The log has a source that keeps its loop for too long, once each time.
  void TellIfBusy();
  [[nodiscard]] const std::string& name() const { return options_.name; }

  // Takes nothing more, and keeps what it owns.
  void Pause();
  // Behind Pause and Close that wait for the source: it shall not keep them waiting.
  void GiveUp() { source_->GiveUp(); }
  // Runs once all that was taken is at the tier, unless it is closed before.
  void WhenDelivered(base::Task done);
  // `handed_over`: others may go on with what it owns, if all that it took is at the tier.
  void Close(bool handed_over);

 private:
  class Busy;

  // Not set: since when the source is in use is no trouble, or it is not.
  [[nodiscard]] std::optional<std::string> TroubleOfBusy(int64_t since) const;
  void Turn();
  // Whether it is worth going on at once. If so, and appending_ is set, the spool has some.
  base::Result<bool> TakeSome();
  base::Result<void> RemoveNoted();
  void OnNotedGone();
  // What the spool has of rows that are gone.
  void ForgetNote();
  base::Result<Source::Refusal> Remove(std::span<const RowId> spooled,
                                       std::span<const Source::Poison> poison);
  base::Result<void> Quarantine(std::span<const Source::Poison> poison);
  base::Result<void> TryStuckIfDue();
  void SayStuck();
  void OnAppended(const agent::NotedOutcome& outcome, const std::vector<RowId>& rows,
                  const std::vector<Source::Poison>& poison);
  void OnNoRoom(const agent::NotedOutcome& outcome);
  [[nodiscard]] bool holds() const { return !held_.empty() || router_.limited(); }
  // `version`: of the cache.
  void ForgetHeldIfDue(uint64_t version);
  void OnError(const base::Error& error);
  void OnPoison(std::span<const Source::Poison> poison);
  void Ask(const Router::Placed& placed);
  base::Result<void> MeasureIfDue();
  [[nodiscard]] std::optional<int64_t> WaitsSince(const Source::Lag::Part& part);
  void TurnAfter(base::Duration delay);
  void Say(std::string trouble);

  const Context context_;
  const Options options_;
  Router router_;
  const std::unique_ptr<Source> source_;

  bool open_ = false;
  bool paused_ = false;
  bool closed_ = false;
  bool appending_ = false;
  bool empty_ = false;                       // The last read gave nothing.
  std::vector<RowRef> note_;                 // In the spool, and maybe still in the source.
  bool noted_ = false;                       // The spool has a note of some rows,
  base::TimePoint noted_gone_;               // which are gone since then if note_ has none.
  std::set<std::string, std::less<>> held_;  // Routes of topics that are not known,
  std::set<std::string, std::less<>> full_;  // and of those that the router's limits hold back.
  uint64_t held_of_ = 0;                     // The cache's version at that time.
  base::TimePoint held_until_;
  base::TimePoint measured_;
  struct Stuck {
    Source::Poison poison;
    Source::Refusal refusal;  // Empty: it was not alone.
    base::TimePoint again;    // When it is tried.
  };
  std::map<int64_t, Stuck> stuck_;  // By position.
  struct Lowest {
    int64_t position = 0;
    int64_t since_ms = 0;
  };
  std::map<int32_t, Lowest> lowest_;  // Rows without timestamps, by part.
  std::set<int32_t> owned_once_;      // The parts of which a metric tells.
  base::Duration pause_;
  base::Duration backoff_{};
  base::Timer timer_;
  base::Timer delivered_timer_;
  std::shared_ptr<Drain*> self_;  // Null in it once this is gone.

  metrics::Gauge& connected_;
  metrics::Counter& taken_rows_;
  metrics::Counter& quarantined_rows_;
  metrics::Counter& errors_;
  metrics::Histogram& read_seconds_;
  metrics::Histogram& remove_seconds_;

  std::atomic<int64_t> busy_since_ = 0;  // Of the steady clock. 0: the source is not in use.
  int64_t told_busy_ = 0;                // The one of them that the log has.

  mutable base::Mutex mutex_;
  Status status_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::outbox
