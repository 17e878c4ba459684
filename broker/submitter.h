// The way of one loop's operations into the spool. When the spool's queue is full they wait here in
// order, so that nothing of one connection overtakes, and are offered again shortly after.
//
// Ownership: spool and loop outlive it.
// Threads: the loop's.
// Shutdown: Close fails what waits, and what comes later, as kClosed.
// Limits: none of its own. What waits holds the memory that the server reserved for its request,
//   and the server stops reading when that is used up.
#pragma once

#include <chrono>
#include <deque>
#include <memory>

#include "base/executor.h"
#include "spool/spool.h"

namespace holdfast::broker {

class Submitter {
 public:
  Submitter(spool::Spool& spool, base::Executor& loop) : spool_(spool), loop_(loop) {}

  void Submit(std::unique_ptr<spool::Operation> operation) {
    loop_.AssertInLoop();
    if (closed_) {
      Fail(*operation);
    } else if (!waiting_.empty() || !spool_.Submit(operation)) {
      waiting_.push_back(std::move(operation));
      if (waiting_.size() == 1) RetryLater();
    }
  }

  void Close() {
    loop_.AssertInLoop();
    closed_ = true;
    retry_.Cancel();
    for (; !waiting_.empty(); waiting_.pop_front()) Fail(*waiting_.front());
  }

  [[nodiscard]] size_t waiting() const { return waiting_.size(); }

 private:
  static constexpr base::Duration kRetryDelay = std::chrono::milliseconds(1);

  static void Fail(spool::Operation& operation) {
    operation.Done(base::Unexpected(base::Code::kClosed, "the broker is shutting down"));
  }
  void RetryLater() {
    retry_ = loop_.After(kRetryDelay, [this] {
      while (!waiting_.empty() && spool_.Submit(waiting_.front())) waiting_.pop_front();
      if (!waiting_.empty()) RetryLater();
    });
  }

  spool::Spool& spool_;
  base::Executor& loop_;
  std::deque<std::unique_ptr<spool::Operation>> waiting_;
  base::Timer retry_;
  bool closed_ = false;
};

}  // namespace holdfast::broker
