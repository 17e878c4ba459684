// One thread's loop over sockets, timers, signals and a mailbox of tasks: base::Executor on
// libevent.
//
//   auto thread = net::LoopThread::Start({.name = "worker0", .metrics = &metrics});
//   (*thread)->loop().Post([] { ... });
//
// Ownership: whoever makes a loop. It outlives everything that was made on it (servers, clients,
//   replies); its Timers may outlive it, and then do nothing.
// Threads: a loop belongs to the thread that made it until Run is called, then to the one inside
//   Run. Post, TryPost, InLoop, Stop and RunAndWait may be called from any thread, the rest from
//   the loop's own.
// Shutdown: Stop lets the tasks queued so far run, then Run returns; it cannot be run again. Tasks
//   posted after Stop are destroyed unrun, on the posting thread, and timers no longer fire.
// Limits: TryPost refuses once `mailbox_max` tasks wait. SIGPIPE is ignored from the first loop on.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "metrics/catalogue.h"
#include "net/pipe.h"

struct event_base;
struct event;

namespace holdfast::net {

class EventLoop final : public base::Executor {
 public:
  struct Options {
    std::string name;  // Of the thread; at most 15 bytes show.
    // Null: not measured, for a loop whose tasks wait for others.
    metrics::NetMetrics* metrics = nullptr;
    size_t mailbox_max = 65536;
  };
  static base::Result<std::unique_ptr<EventLoop>> Create(Options options);
  ~EventLoop() override;

  void Post(base::Task task) override;
  [[nodiscard]] bool TryPost(base::Task task) override;
  [[nodiscard]] bool InLoop() const override;
  [[nodiscard]] base::TimePoint Now() const override;
  [[nodiscard]] int64_t WallClockMs() const override;
  [[nodiscard]] base::Timer After(base::Duration delay, base::Task task) override;

  // Until Stop.
  void Run();
  void Stop();

  // Runs the task on the loop's thread and returns when it is done; directly if this is that
  // thread or the loop has come to its end. Not from another loop that this one may wait for.
  void RunAndWait(base::Task task);

  // The task runs each time the signal comes, until the returned timer is destroyed. One loop of
  // the process handles signals.
  [[nodiscard]] base::Timer OnSignal(int signal, base::UniqueFunction<void()> task);
  // The same whenever a pipe or a terminal has something to be read, or has come to its end. The
  // descriptor stays the caller's.
  [[nodiscard]] base::Timer OnReadable(int fd, base::UniqueFunction<void()> task);

  // Runs before the loop waits again: where the work of one turn is put together, such as all
  // answers for one socket.
  void AtTurnEnd(base::Task task);

  // Destroyed with the loop. For what others reach by plain pointer as long as the loop lives.
  void Keep(std::shared_ptr<void> kept);

  [[nodiscard]] const std::string& name() const { return options_.name; }

  // For net/ alone. A callback from libevent calls BeginTurn first.
  [[nodiscard]] event_base* base() { return base_; }
  [[nodiscard]] PipePool& pipes() { return pipes_; }
  void BeginTurn();

 private:
  friend class LoopThread;
  struct TimedTask;
  struct Watched;
  // The longest turn within one window of time; two of them, used in turn.
  struct LongestTurn {
    std::atomic<int64_t> window{-1};
    std::atomic<int64_t> nanoseconds{0};
  };

  EventLoop(Options options, event_base* base, int wake_fd);
  bool Enqueue(base::Task& task, size_t limit);
  // Runs what is in the mailbox now. True if more has come meanwhile; if not, posters will wake
  // the loop.
  bool RunMailbox();
  void RunTurnEnd();
  void EndTurn();
  [[nodiscard]] bool IsDone();
  void Wake() override;
  void RunDueTimers();
  // Has libevent wake the loop for the earliest timer.
  void ArmTimer();
  [[nodiscard]] base::Timer Watch(int fd, short what, base::UniqueFunction<void()> task);
  void Unwatch(Watched& watched);
  [[nodiscard]] double LongestTurnSeconds() const;
  [[nodiscard]] size_t MailboxDepth();
  static void OnTimer(int fd, short what, void* loop) noexcept;
  static void OnWatched(int fd, short what, void* watched) noexcept;

  const Options options_;
  PipePool pipes_;
  event_base* const base_;
  const int wake_fd_;
  event* const wake_event_;
  event* const timer_event_;
  std::atomic<std::thread::id> owner_;

  base::Mutex mutex_;
  std::vector<base::Task> mailbox_ HF_GUARDED_BY(mutex_);
  // The loop waits, or is about to: who posts must wake it.
  bool polling_ HF_GUARDED_BY(mutex_) = false;
  std::atomic<bool> closed_{false};  // Stop was called. Written under mutex_.
  std::atomic<bool> ended_{false};   // Run has returned.

  // Of the loop's thread.
  std::vector<base::Task> running_;
  std::vector<base::Task> turn_end_;
  // By the time when they are due, then in the order in which they were set.
  std::map<std::pair<base::TimePoint, uint64_t>, std::shared_ptr<TimedTask>> timers_;
  uint64_t next_timer_ = 0;
  base::TimePoint armed_for_ = base::TimePoint::max();
  std::vector<std::shared_ptr<Watched>> watched_;
  std::vector<std::shared_ptr<void>> kept_;
  bool in_turn_ = false;
  base::TimePoint now_;

  std::array<LongestTurn, 2> longest_turns_;
  metrics::CallbackGauge::Binding longest_turn_gauge_;
  metrics::CallbackGauge::Binding mailbox_gauge_;
};

// A loop with a thread of its own. The destructor stops and joins.
class LoopThread {
 public:
  static base::Result<std::unique_ptr<LoopThread>> Start(EventLoop::Options options);
  ~LoopThread();
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  [[nodiscard]] EventLoop& loop() { return *loop_; }
  // Lets queued tasks run, then joins. The loop stays, so that what was made on it can be
  // destroyed.
  void Stop();

 private:
  explicit LoopThread(std::unique_ptr<EventLoop> loop);

  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace holdfast::net
