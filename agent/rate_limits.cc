#include "agent/rate_limits.h"

#include <algorithm>
#include <utility>

namespace holdfast::agent {

void TokenBucket::Fill(uint64_t bytes_per_second, base::TimePoint now) {
  const auto rate = static_cast<double>(bytes_per_second);
  // The loops' clocks differ by a turn.
  const double seconds = std::max(std::chrono::duration<double>(now - filled_).count(), 0.0);
  bytes_ = begun_ ? std::min(bytes_ + seconds * rate, rate) : rate;
  filled_ = begun_ ? std::max(filled_, now) : now;
  begun_ = true;
}

base::Duration TokenBucket::Owed(uint64_t bytes_per_second, base::TimePoint now) {
  Fill(bytes_per_second, now);
  if (bytes_ >= 0) return {};
  return std::chrono::duration_cast<base::Duration>(
      std::chrono::duration<double>(-bytes_ / static_cast<double>(bytes_per_second)));
}

base::Duration TokenBucket::Take(uint64_t bytes, uint64_t bytes_per_second, base::TimePoint now) {
  Fill(bytes_per_second, now);
  bytes_ -= static_cast<double>(bytes);
  return Owed(bytes_per_second, now);
}

void RateLimits::SetPolicies(PoliciesPtr policies) {
  base::MutexLock lock(mutex_);
  policies_ = std::move(policies);
  for (auto& [name, limit] : topics_) {
    limit.bytes_per_second = policies_->ForTopic(name).bytes_per_second_max;
  }
  for (auto& [name, limit] : clients_) {
    const ClientPolicy* policy = policies_->ForClient(name);
    limit.bytes_per_second = policy == nullptr ? 0 : policy->bytes_per_second_max;
  }
  active_ = policies_->limits_rates();
}

RateLimits::Limit& RateLimits::TopicLimit(std::string_view topic) {
  auto found = topics_.find(topic);
  if (found == topics_.end()) {
    found = topics_.try_emplace(std::string(topic)).first;
    found->second.bytes_per_second = policies_->ForTopic(topic).bytes_per_second_max;
  }
  return found->second;
}

RateLimits::Limit& RateLimits::ClientLimit(std::string_view client, base::TimePoint now) {
  auto found = clients_.find(client);
  if (found != clients_.end()) return found->second;
  if (clients_.size() >= kClientsMax) {
    for (auto at = clients_.begin(); at != clients_.end();) {
      Limit& limit = at->second;
      const bool idle = limit.bytes_per_second == 0 ||
                        limit.bucket.Owed(limit.bytes_per_second, now) == base::Duration::zero();
      at = idle ? clients_.erase(at) : std::next(at);
    }
  }
  Limit& added = clients_.try_emplace(std::string(client)).first->second;
  const ClientPolicy* policy = policies_->ForClient(client);
  added.bytes_per_second = policy == nullptr ? 0 : policy->bytes_per_second_max;
  return added;
}

base::Duration RateLimits::Charge(const proxy::SinkRequest& request, base::TimePoint now) {
  if (!active_.load(std::memory_order_relaxed)) return {};
  base::Duration throttle{};
  uint64_t total = 0;
  base::MutexLock lock(mutex_);
  for (const proxy::SinkEntry& entry : request.entries) {
    total += entry.batch.size();
    Limit& limit = TopicLimit(entry.topic);
    if (limit.bytes_per_second == 0) continue;
    throttle =
        std::max(throttle, limit.bucket.Take(entry.batch.size(), limit.bytes_per_second, now));
  }
  Limit& limit = ClientLimit(request.client, now);
  if (limit.bytes_per_second > 0) {
    throttle = std::max(throttle, limit.bucket.Take(total, limit.bytes_per_second, now));
  }
  return std::min(throttle, kThrottleMax);
}

}  // namespace holdfast::agent
