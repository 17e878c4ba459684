// How many lines of the log there may be of one event, so that a storm neither fills the disk nor
// hides what else happens.
//
// Each event has a token bucket, and so has each of its subjects (a stream, a peer, a group), a
// smaller one: ten thousand streams that fail at once write kBurst lines and then one in kInterval,
// and a single noisy one leaves most of these to the others. What was left out is counted, and told
// with the event's next line.
//
// Threads: any; one short lock.
// Limits: kSubjects buckets of subjects, whatever their number; one that is forgotten begins anew,
//   within its event's bucket.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/log.h"
#include "base/mutex.h"

namespace holdfast::base {

class LogLimit {
 public:
  static constexpr int kBurst = 10;
  static constexpr Duration kInterval = std::chrono::seconds(10);
  static constexpr int kSubjectBurst = 3;
  static constexpr Duration kSubjectInterval = std::chrono::minutes(1);
  static constexpr size_t kSubjects = 1024;

  LogLimit();

  // Nothing if the line is to be left out, else how many were since the event's last one. An empty
  // subject is none.
  [[nodiscard]] std::optional<uint64_t> Admit(Event event, std::string_view subject, TimePoint now);
  // As in the beginning.
  void Reset();

 private:
  // As the time at which it will be full again: a generic cell rate algorithm.
  struct Bucket {
    TimePoint full_at = TimePoint::min();

    [[nodiscard]] bool HasToken(TimePoint now, int burst, Duration interval) const {
      return full_at <= now + (burst - 1) * interval;
    }
    void Take(TimePoint now, Duration interval) { full_at = std::max(full_at, now) + interval; }
  };
  struct OfEvent {
    Bucket bucket;
    uint64_t left_out = 0;
  };
  struct OfSubject {
    uint64_t hash = 0;
    Bucket bucket;
  };
  static constexpr size_t kWays = 4;
  using Set = std::array<OfSubject, kWays>;

  [[nodiscard]] OfSubject& Find(uint64_t hash) HF_REQUIRES(mutex_);

  Mutex mutex_;
  std::vector<OfEvent> events_ HF_GUARDED_BY(mutex_);  // In the catalogue's order.
  std::vector<Set> subjects_ HF_GUARDED_BY(mutex_);
};

// For tests: as if Log had written no event yet in this process.
void ResetLogLimit();

}  // namespace holdfast::base
