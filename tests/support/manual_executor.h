// Executors for tests that run on the test's own thread and on virtual time: nothing happens until
// the test says so, and the same test always does the same.
//
//   ManualClock clock;
//   ManualExecutor writer(clock), background(clock);  // As many as the code has threads.
//   ... code posts tasks, sets timers ...
//   clock.RunUntilIdle();                    // All posted tasks, and what they post.
//   clock.Advance(std::chrono::seconds(5));  // Timers in order of time, tasks in between.
//
// The order is that of posting, over all executors of a clock; timers due at the same time fire in
// the order in which they were set. A test that wants interleavings runs single steps of one
// executor with RunOne, or holds one back.
//
// Ownership: the clock outlives its executors. Tasks left over are destroyed with their executor.
// Threads: one only, which stands for all loops: InLoop() is true on it while no task runs, and
//   while a task runs only for the executor whose task it is, so that a call on the wrong loop is
//   seen. Post from other threads is a mistake (it aborts); use ThreadExecutor for tests with real
//   threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/executor.h"

namespace holdfast::test {

class ManualExecutor;

class ManualClock {
 public:
  ManualClock() = default;
  ManualClock(const ManualClock&) = delete;
  ManualClock& operator=(const ManualClock&) = delete;

  // Runs tasks until there are none. Aborts after `tasks_max`, which is a loop that posts for ever.
  // Returns how many ran.
  size_t RunUntilIdle(size_t tasks_max = 10'000'000);
  // Moves the time, and fires what becomes due at its own time, with all tasks that follow from it.
  void Advance(base::Duration duration);
  // Advances from timer to timer until `done` or nothing is left to do. Says whether `done` came
  // true.
  template <class Condition>
  bool RunUntil(Condition done, base::Duration limit = std::chrono::hours(1)) {
    const base::TimePoint end = now_ + limit;
    while (!done()) {
      if (RunOneTask()) continue;
      const std::optional<base::TimePoint> next = NextTimer();
      if (!next || *next > end) return done();
      Advance(*next - now_);
    }
    return true;
  }

  [[nodiscard]] base::TimePoint now() const { return now_; }
  [[nodiscard]] int64_t wall_clock_ms() const {
    return wall_offset_ms_ +
           std::chrono::duration_cast<std::chrono::milliseconds>(now_.time_since_epoch()).count();
  }
  // As when somebody sets the host's clock: monotonic time is not touched.
  void SetWallClockMs(int64_t ms) { wall_offset_ms_ += ms - wall_clock_ms(); }

 private:
  friend class ManualExecutor;

  [[nodiscard]] std::optional<base::TimePoint> NextTimer() const;
  bool RunOneTask();

  std::vector<ManualExecutor*> executors_;
  uint64_t next_id_ = 1;
  // Far from zero, so that code that mistakes zero for "never" is not helped.
  base::TimePoint now_{std::chrono::hours(1)};
  int64_t wall_offset_ms_ = 1'767'225'600'000;  // 2026-01-01T00:00:00Z
  ManualExecutor* running_ = nullptr;
  std::thread::id thread_ = std::this_thread::get_id();
};

class ManualExecutor final : public base::Executor {
 public:
  explicit ManualExecutor(ManualClock& clock) : clock_(clock) { clock_.executors_.push_back(this); }
  ~ManualExecutor() override;
  ManualExecutor(const ManualExecutor&) = delete;
  ManualExecutor& operator=(const ManualExecutor&) = delete;

  void Post(base::Task task) override;
  [[nodiscard]] bool TryPost(base::Task task) override;
  [[nodiscard]] bool InLoop() const override;
  [[nodiscard]] base::TimePoint Now() const override { return clock_.now_; }
  [[nodiscard]] int64_t WallClockMs() const override { return clock_.wall_clock_ms(); }
  [[nodiscard]] base::Timer After(base::Duration delay, base::Task task) override;

  // Runs the oldest task of this executor alone; false if there is none.
  bool RunOne();
  // The same for timers that are due: a loop may come to them before the tasks that are queued.
  bool RunOneTimer();
  // As a loop that is at one task for long: none of its tasks run but by RunOne.
  void set_held(bool held) { held_ = held; }
  // As a loop that has stopped: tasks still queued have run, later ones are destroyed unrun.
  void Stop();
  // As a process that was killed.
  void Forget() { tasks_.clear(); }
  // TryPost refuses while this many tasks are queued.
  void set_queue_limit(size_t tasks) { queue_limit_ = tasks; }
  [[nodiscard]] bool running() const { return clock_.running_ == this; }  // A task of this one.
  [[nodiscard]] size_t queued() const { return tasks_.size(); }
  [[nodiscard]] size_t timers() const { return timers_->size(); }

 private:
  friend class ManualClock;
  using TimerKey = std::pair<base::TimePoint, uint64_t>;
  using Timers = std::map<TimerKey, base::Task>;

  void FireFirstTimer();
  void RunTask(base::Task task);

  ManualClock& clock_;
  std::deque<std::pair<uint64_t, base::Task>> tasks_;
  // Shared with the Timer handles, which may outlive the executor in a test that tears down.
  std::shared_ptr<Timers> timers_ = std::make_shared<Timers>();
  size_t queue_limit_ = SIZE_MAX;
  bool stopped_ = false;
  bool held_ = false;
};

inline size_t ManualClock::RunUntilIdle(size_t tasks_max) {
  size_t count = 0;
  while (RunOneTask()) HF_CHECK(++count <= tasks_max);
  return count;
}

inline void ManualClock::Advance(base::Duration duration) {
  const base::TimePoint end = now_ + duration;
  RunUntilIdle();
  for (;;) {
    ManualExecutor* first = nullptr;
    for (ManualExecutor* executor : executors_) {
      if (executor->timers_->empty() || executor->timers_->begin()->first.first > end) continue;
      if (first == nullptr || executor->timers_->begin()->first < first->timers_->begin()->first)
        first = executor;
    }
    if (first == nullptr) break;
    now_ = std::max(now_, first->timers_->begin()->first.first);
    first->FireFirstTimer();
    RunUntilIdle();
  }
  now_ = end;
}

inline std::optional<base::TimePoint> ManualClock::NextTimer() const {
  std::optional<base::TimePoint> next;
  for (const ManualExecutor* executor : executors_) {
    if (executor->timers_->empty()) continue;
    const base::TimePoint due = executor->timers_->begin()->first.first;
    if (!next || due < *next) next = std::max(due, now_);
  }
  return next;
}

inline bool ManualClock::RunOneTask() {
  ManualExecutor* first = nullptr;
  for (ManualExecutor* executor : executors_) {
    if (executor->tasks_.empty() || executor->held_) continue;
    if (first == nullptr || executor->tasks_.front().first < first->tasks_.front().first)
      first = executor;
  }
  return first != nullptr && first->RunOne();
}

inline ManualExecutor::~ManualExecutor() {
  std::erase(clock_.executors_, this);
  timers_->clear();
}

inline void ManualExecutor::Post(base::Task task) {
  HF_CHECK(std::this_thread::get_id() == clock_.thread_);
  if (!stopped_) tasks_.emplace_back(clock_.next_id_++, std::move(task));
}

inline bool ManualExecutor::TryPost(base::Task task) {
  if (tasks_.size() >= queue_limit_) return false;
  Post(std::move(task));
  return true;
}

inline bool ManualExecutor::InLoop() const {
  if (std::this_thread::get_id() != clock_.thread_) return false;
  return clock_.running_ == nullptr || clock_.running_ == this;
}

inline base::Timer ManualExecutor::After(base::Duration delay, base::Task task) {
  HF_CHECK(InLoop());
  const TimerKey key{clock_.now_ + std::max(delay, base::Duration::zero()), clock_.next_id_++};
  timers_->emplace(key, std::move(task));
  return base::Timer([timers = std::weak_ptr<Timers>(timers_), key] {
    if (const std::shared_ptr<Timers> alive = timers.lock()) alive->erase(key);
  });
}

inline bool ManualExecutor::RunOne() {
  if (tasks_.empty()) return false;
  base::Task task = std::move(tasks_.front().second);
  tasks_.pop_front();
  RunTask(std::move(task));
  return true;
}

inline bool ManualExecutor::RunOneTimer() {
  if (timers_->empty() || timers_->begin()->first.first > clock_.now_) return false;
  FireFirstTimer();
  return true;
}

inline void ManualExecutor::Stop() {
  while (RunOne()) {
  }
  stopped_ = true;
  timers_->clear();
}

inline void ManualExecutor::FireFirstTimer() {
  auto node = timers_->extract(timers_->begin());
  RunTask(std::move(node.mapped()));
}

// The task is destroyed before the executor counts as idle again, as on a real loop.
inline void ManualExecutor::RunTask(base::Task task) {
  ManualExecutor* const outer = std::exchange(clock_.running_, this);
  {
    base::Task running = std::move(task);
    running();
  }
  clock_.running_ = outer;
}

}  // namespace holdfast::test
