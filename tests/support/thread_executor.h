// An executor with a thread of its own, for tests that want real threads (and ThreadSanitizer's
// opinion) without net::EventLoop.
//
// Shutdown: the destructor runs what is queued, drops timers that are not due, and joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/executor.h"

namespace holdfast::test {

class ThreadExecutor final : public base::Executor {
 public:
  ThreadExecutor() : thread_([this] { Run(); }) {}
  ~ThreadExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  void Post(base::Task task) override {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  [[nodiscard]] bool TryPost(base::Task task) override {
    Post(std::move(task));
    return true;
  }
  [[nodiscard]] bool InLoop() const override {
    return std::this_thread::get_id() == thread_.get_id();
  }
  [[nodiscard]] base::TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] int64_t WallClockMs() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  [[nodiscard]] base::Timer After(base::Duration delay, base::Task task) override {
    HF_CHECK(InLoop());
    const TimerKey key{std::chrono::steady_clock::now() + delay, next_id_++};
    timers_.emplace(key, std::move(task));
    return base::Timer([this, key] { timers_.erase(key); });
  }

 private:
  using TimerKey = std::pair<base::TimePoint, uint64_t>;

  void Run() {
    std::unique_lock lock(mutex_);
    while (true) {
      if (!tasks_.empty()) {
        base::Task task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        Consume(std::move(task));
        lock.lock();
      } else if (stopping_) {
        return;
      } else if (timers_.empty()) {
        wake_.wait(lock);
      } else if (const base::TimePoint due = timers_.begin()->first.first; due <= Now()) {
        auto node = timers_.extract(timers_.begin());
        lock.unlock();
        Consume(std::move(node.mapped()));
        lock.lock();
      } else {
        wake_.wait_until(lock, due);
      }
    }
  }
  static void Consume(base::Task task) { task(); }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<base::Task> tasks_;
  bool stopping_ = false;
  // Of the thread alone.
  std::map<TimerKey, base::Task> timers_;
  uint64_t next_id_ = 1;
  std::thread thread_;  // Last, since it uses the rest.
};

}  // namespace holdfast::test
