// How much of produce requests waits, be it for room (agent/waiting_appends.h) or for the tier
// (agent/waiting_acks.h): one limit for all of it.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstddef>

namespace holdfast::agent {

class WaitingBytes {
 public:
  explicit WaitingBytes(size_t max) : max_(max) {}

  // Whether so much more may wait. It is counted when it does.
  [[nodiscard]] bool Fits(size_t bytes) const { return used_ + bytes <= max_; }
  void Add(size_t bytes) { used_ += bytes; }
  void Remove(size_t bytes) { used_ -= bytes; }

 private:
  const size_t max_;
  std::atomic<size_t> used_{0};
};

}  // namespace holdfast::agent
