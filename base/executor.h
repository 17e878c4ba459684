// A thread that runs tasks in turn, and tells the time. net::EventLoop in production; a test may
// put several executors on one thread and one virtual clock.
//
// Threads: Post, TryPost and InLoop may be called from any thread. Tasks of one sender run in the
//   order in which they were posted. After, Now and WallClock belong to the executor's own thread.
// Ownership: a task is destroyed on the executor's thread, right after it ran. What travels inside
//   it are values and ids, never pointers to what another thread owns.
// Shutdown: tasks that are queued when the executor stops still run; those posted later are
//   destroyed unrun, on the posting thread.
// Limits: Post always takes the task and is for work whose amount is bounded elsewhere (an answer
//   to something admitted). TryPost refuses past the executor's queue limit, and the sender then
//   waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "base/thread_annotations.h"
#include "base/unique_function.h"

namespace holdfast::base {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

// Destroying it, or calling Cancel, cancels the task if that has not begun. Belongs to the loop's
// thread.
class Timer {
 public:
  Timer() = default;
  explicit Timer(Task cancel) : cancel_(std::move(cancel)) {}
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&& other) noexcept {
    Cancel();
    cancel_ = std::move(other.cancel_);
    return *this;
  }
  ~Timer() { Cancel(); }
  void Cancel() {
    if (cancel_) std::exchange(cancel_, Task())();
  }

 private:
  Task cancel_;
};

// While one lives, executors that its thread posts to are not woken; they are at its end, once
// each. For whoever answers many at once: an executor that is woken for the first answer has run
// out of them, and sleeps again, before the next one is posted.
//
// Limits: what is posted meanwhile must not be waited for. One inside another does nothing.
class WakeBatch {
 public:
  WakeBatch();
  ~WakeBatch();
  WakeBatch(const WakeBatch&) = delete;
  WakeBatch& operator=(const WakeBatch&) = delete;

  // For executors: true if the calling thread has a batch, which will wake this one.
  static bool Take(class Executor* executor);
  // Whether the calling thread has one, and so must not wait.
  [[nodiscard]] static bool Lives();

 private:
  std::vector<class Executor*> asleep_;
};

class HF_CAPABILITY("loop") Executor {
 public:
  virtual ~Executor() = default;

  virtual void Post(Task task) = 0;
  [[nodiscard]] virtual bool TryPost(Task task) = 0;
  [[nodiscard]] virtual bool InLoop() const = 0;

  // Monotonic; read once per turn of the loop, so that all work of one turn sees one time.
  [[nodiscard]] virtual TimePoint Now() const = 0;
  // Milliseconds since the Unix epoch, as Kafka's timestamps are. It may jump with the host's
  // clock.
  [[nodiscard]] virtual int64_t WallClockMs() const = 0;
  // The task runs once, after at least `delay`, unless the returned timer goes first.
  [[nodiscard]] virtual Timer After(Duration delay, Task task) = 0;

  // Aborts if called from another thread; tells clang that the loop's state may be touched.
  void AssertInLoop() const HF_ASSERT_CAPABILITY(this) { HF_CHECK(InLoop()); }

 protected:
  friend class WakeBatch;
  // Ends its sleep. From any thread.
  virtual void Wake() {}
};

}  // namespace holdfast::base
