#include "base/executor.h"

#include <algorithm>

namespace holdfast::base {
namespace {

// Of this thread's batch.
thread_local std::vector<Executor*>* current = nullptr;

}  // namespace

WakeBatch::WakeBatch() {
  if (current == nullptr) current = &asleep_;
}

WakeBatch::~WakeBatch() {
  if (current != &asleep_) return;
  current = nullptr;
  for (Executor* const executor : asleep_) executor->Wake();
}

bool WakeBatch::Lives() { return current != nullptr; }

bool WakeBatch::Take(Executor* executor) {
  if (current == nullptr) return false;
  if (std::ranges::find(*current, executor) == current->end()) current->push_back(executor);
  return true;
}

}  // namespace holdfast::base
