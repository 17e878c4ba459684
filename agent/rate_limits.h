// How fast topics and clients may produce. Each has a bucket that fills at its rate and holds a
// second's worth; a request is always served, and what it takes too much is a time for which its
// connection is not read.
//
// Threads: any; one short lock per request, none while no rule has a rate.
// Limits: kClientsMax clients are remembered; past that those within their rate are forgotten,
//   which changes nothing for them. A connection is held for kThrottleMax at a time; what is owed
//   beyond stays owed.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "agent/topic_policy.h"
#include "base/executor.h"
#include "base/mutex.h"
#include "proxy/record_sink.h"

namespace holdfast::agent {

// Bytes that may be spent, at an average rate. Owing is allowed: the time until it is paid back is
// what the caller waits.
class TokenBucket {
 public:
  // Takes the bytes; how long until none are owed.
  base::Duration Take(uint64_t bytes, uint64_t bytes_per_second, base::TimePoint now);
  // How long until none are owed.
  [[nodiscard]] base::Duration Owed(uint64_t bytes_per_second, base::TimePoint now);

 private:
  void Fill(uint64_t bytes_per_second, base::TimePoint now);

  double bytes_ = 0;
  base::TimePoint filled_;
  bool begun_ = false;
};

class RateLimits {
 public:
  static constexpr size_t kClientsMax = 10000;
  static constexpr base::Duration kThrottleMax = std::chrono::seconds(10);

  void SetPolicies(PoliciesPtr policies);
  base::Duration Charge(const proxy::SinkRequest& request, base::TimePoint now);

 private:
  struct Limit {
    uint64_t bytes_per_second = 0;
    TokenBucket bucket;
  };

  Limit& TopicLimit(std::string_view topic) HF_REQUIRES(mutex_);
  Limit& ClientLimit(std::string_view client, base::TimePoint now) HF_REQUIRES(mutex_);

  std::atomic<bool> active_{false};
  base::Mutex mutex_;
  PoliciesPtr policies_ HF_GUARDED_BY(mutex_);
  std::map<std::string, Limit, std::less<>> topics_ HF_GUARDED_BY(mutex_);
  std::map<std::string, Limit, std::less<>> clients_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::agent
