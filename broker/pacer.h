// Keeps work that reads and writes old records at a rate, so that clients are not kept waiting for
// the disk, and ends it when it is told to.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace holdfast::broker {

// Ends the waits of a thread. From any thread.
class StopSignal {
 public:
  void Set() {
    const std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  [[nodiscard]] bool IsSet() { return WaitFor({}); }
  // Whether it is set, after at most that long.
  bool WaitFor(std::chrono::milliseconds limit) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [this] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

// Of one thread.
class Pacer {
 public:
  // 0: no limit.
  Pacer(uint64_t bytes_per_second, StopSignal& stop) : rate_(bytes_per_second), stop_(stop) {}

  // So many bytes were read or written since the last call: waits as long as they should have
  // taken, a few of them together. Says whether to go on.
  bool operator()(size_t bytes) {
    unpaced_bytes_ += bytes;
    if (rate_ == 0 || unpaced_bytes_ < kPacedAtOnce) return !stop_.IsSet();
    const std::chrono::milliseconds pause(unpaced_bytes_ * 1000 / rate_);
    unpaced_bytes_ = 0;
    return !stop_.WaitFor(pause);
  }

 private:
  static constexpr uint64_t kPacedAtOnce = uint64_t{1} << 20;

  const uint64_t rate_;
  StopSignal& stop_;
  uint64_t unpaced_bytes_ = 0;
};

}  // namespace holdfast::broker
