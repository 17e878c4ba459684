// Runs a task on a loop and waits for it, for start-up, shutdown and status pages.
//
// Threads: any that the loop does not wait for. If the loop has stopped, the task is dropped.
#pragma once

#include <latch>
#include <memory>

#include "base/check.h"
#include "base/executor.h"

namespace holdfast::broker {

inline void RunAndWait(base::Executor& loop, base::Task task) {
  if (loop.InLoop()) return task();
  HF_CHECK(!base::WakeBatch::Lives());
  // Counts down when the posted task is destroyed, whether it ran or not.
  struct Signal {
    explicit Signal(std::latch* latch) : done(latch) {}
    Signal(Signal&& other) noexcept : done(std::exchange(other.done, nullptr)) {}
    ~Signal() {
      if (done != nullptr) done->count_down();
    }
    std::latch* done;
  };
  std::latch done(1);
  loop.Post([signal = Signal(&done), task = std::move(task)]() mutable { task(); });
  done.wait();
}

}  // namespace holdfast::broker
