// Which of the streams that are ready goes next to one broker. Streams of one priority take turns;
// among priorities bytes go in the proportion of their weights while there is more of each
// (start-time fair queueing), so that none starves and what nobody else wants is not left unused.
//
//   order.BeginRequest();
//   while (Stream* stream = order.Front()) {
//     order.PopFront();
//     order.Took(priority, bytes, more);  // If it went into the request.
//   }
//
// A stream gives one batch to a request and comes back when the request is out. A priority whose
// streams have more holds those whose turn is later back until then.
//
// Ownership: none of the streams'. Threads: one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "agent/topic_policy.h"

namespace holdfast::agent {

template <class Stream>
class DrainOrder {
 public:
  using Priority = TopicPolicy::Priority;
  static constexpr std::array<double, 3> kWeights{1, 4, 16};  // By priority.

  void Push(Stream* stream, Priority priority) {
    Class& to = classes_[static_cast<size_t>(priority)];
    // Who had nothing to send has saved nothing up.
    if (to.ready.empty() && !to.more) to.turn = std::max(to.turn, now_);
    to.ready.push_back(stream);
    ++size_;
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }

  void BeginRequest() {
    for (Class& one : classes_) one.more = false;
  }
  // Null: the request is complete.
  [[nodiscard]] Stream* Front() const {
    const Class* next = Next();
    return next == nullptr || next->ready.empty() ? nullptr : next->ready.front();
  }
  void PopFront() {
    Next()->ready.pop_front();
    --size_;
  }
  void Took(Priority priority, uint64_t bytes, bool more) {
    const auto at = static_cast<size_t>(priority);
    now_ = std::max(now_, classes_[at].turn);
    classes_[at].turn += static_cast<double>(bytes) / kWeights[at];
    classes_[at].more |= more;
  }
  std::vector<Stream*> Clear() {
    std::vector<Stream*> all;
    for (Class& one : classes_) {
      all.insert(all.end(), one.ready.begin(), one.ready.end());
      one.ready.clear();
    }
    size_ = 0;
    return all;
  }

 private:
  struct Class {
    std::deque<Stream*> ready;
    double turn = 0;    // The smallest goes next.
    bool more = false;  // It gave to this request and will be back.
  };

  [[nodiscard]] const Class* Next() const {
    const Class* next = nullptr;
    for (const Class& one : classes_) {
      if (one.ready.empty() && !one.more) continue;
      if (next == nullptr || one.turn < next->turn) next = &one;
    }
    return next;
  }
  Class* Next() { return const_cast<Class*>(std::as_const(*this).Next()); }

  std::array<Class, 3> classes_;
  double now_ = 0;  // The turn of what went last.
  size_t size_ = 0;
};

}  // namespace holdfast::agent
