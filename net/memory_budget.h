// How much memory the requests of the whole process may take: reserved by frame length before a
// byte of the frame's body is read, given back when the request was answered.
//
// Ownership: outlives all its reservations.
// Threads: any. A waiter's task runs on whichever thread releases memory, so it only posts.
// Limits: who does not get memory waits in line, and while anybody waits nobody overtakes. The line
//   moves again once half of the limit is free. A reservation larger than the whole limit is
//   granted when nothing else is reserved, so that it cannot wait for ever.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

#include "base/mutex.h"
#include "base/unique_function.h"
#include "metrics/catalogue.h"

namespace holdfast::net {

class MemoryBudget;

// Bytes of a budget; gives them back when destroyed.
class Reservation {
 public:
  Reservation() = default;
  Reservation(MemoryBudget* budget, size_t bytes) : budget_(budget), bytes_(bytes) {}
  Reservation(Reservation&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { Release(); }

  void Release();
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  MemoryBudget* budget_ = nullptr;
  size_t bytes_ = 0;
};

class MemoryBudget {
 public:
  using Granted = base::UniqueFunction<void(Reservation)>;

  MemoryBudget(size_t limit, metrics::NetMetrics& metrics);
  ~MemoryBudget();

  // False without a change if the memory is not there or somebody waits.
  [[nodiscard]] bool TryReserve(size_t bytes, Reservation* reservation);
  // Calls `granted` once, perhaps at once. Zero bytes wait for the line to move again.
  void Wait(size_t bytes, Granted granted);

  [[nodiscard]] bool HasWaiters() const { return waiting_.load() != 0; }
  [[nodiscard]] size_t used() const { return used_.load(std::memory_order_relaxed); }
  [[nodiscard]] size_t limit() const { return limit_; }

 private:
  friend class Reservation;
  struct Waiter {
    size_t bytes;
    Granted granted;
  };
  void Release(size_t bytes);
  void MoveLine();

  const size_t limit_;
  std::atomic<size_t> used_{0};
  std::atomic<size_t> waiting_{0};
  base::Mutex mutex_;
  std::deque<Waiter> line_ HF_GUARDED_BY(mutex_);
  metrics::CallbackGauge::Binding gauge_;
};

}  // namespace holdfast::net
