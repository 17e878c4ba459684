#include "net/memory_budget.h"

#include "base/check.h"

namespace holdfast::net {

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    Release();
    budget_ = std::exchange(other.budget_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Reservation::Release() {
  MemoryBudget* const budget = std::exchange(budget_, nullptr);
  const size_t bytes = std::exchange(bytes_, 0);
  if (budget != nullptr) budget->Release(bytes);
}

MemoryBudget::MemoryBudget(size_t limit, metrics::NetMetrics& metrics) : limit_(limit) {
  gauge_ = metrics.memory_in_flight_bytes.Bind([this] { return static_cast<double>(used()); });
}

MemoryBudget::~MemoryBudget() = default;

bool MemoryBudget::TryReserve(size_t bytes, Reservation* reservation) {
  if (HasWaiters()) return false;
  size_t used = used_.load();
  do {
    if (used != 0 && (bytes > limit_ || used > limit_ - bytes)) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  *reservation = Reservation(this, bytes);
  return true;
}

void MemoryBudget::Wait(size_t bytes, Granted granted) {
  {
    const base::MutexLock lock(mutex_);
    line_.push_back({bytes, std::move(granted)});
    // From here on whoever releases looks at the line, so nothing is missed between the check
    // below and the next release.
    waiting_.fetch_add(1);
  }
  MoveLine();
}

void MemoryBudget::Release(size_t bytes) {
  [[maybe_unused]] const size_t before = used_.fetch_sub(bytes);
  HF_DCHECK(before >= bytes);
  if (HasWaiters()) MoveLine();
}

void MemoryBudget::MoveLine() {
  while (true) {
    Waiter first;
    {
      const base::MutexLock lock(mutex_);
      if (line_.empty()) return;
      size_t used = used_.load();
      const size_t bytes = line_.front().bytes;
      const bool fits = bytes <= limit_ && used <= limit_ - bytes;
      if (used != 0 && !(used <= limit_ / 2 && fits)) return;
      if (!used_.compare_exchange_strong(used, used + bytes)) continue;
      first = std::move(line_.front());
      line_.pop_front();
      waiting_.fetch_sub(1);
    }
    first.granted(Reservation(this, first.bytes));
  }
}

}  // namespace holdfast::net
