// Quotas of clients: what administrators have set, and what clients have used of it.
//
// A quota holds for a user and a client id, a user, or a client id, each by name or by default; the
// first of Kafka's eight combinations that is set counts. Clients that fall under the same one
// share it. Rates are Kafka's: the sum of the last 11 samples of a second each, over the time that
// they span, at least 10 s. Who is over it has to wait until he no longer would be.
//
// Threads: Quotas are values, immutable when published. QuotaMeters any, with a lock that is taken
//   once for each request that a quota holds for. ClientQuotas are one loop's.
// Limits: the names of an entity have at most kNameBytesMax bytes together.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/executor.h"
#include "base/mutex.h"
#include "broker/published.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

inline constexpr std::string_view kUserEntity = "user";
inline constexpr std::string_view kClientIdEntity = "client-id";
inline constexpr std::string_view kIpEntity = "ip";

// For whom a quota is: by type the name, or none for the default.
struct QuotaEntity {
  static constexpr size_t kNameBytesMax = 480;  // The spool's keys have at most 511.

  std::map<std::string, std::optional<std::string>, std::less<>> parts;

  auto operator<=>(const QuotaEntity&) const = default;
};

using QuotaValues = std::map<std::string, double, std::less<>>;

enum class QuotaKind : uint8_t { kProduce, kConsume };

class Quotas {
 public:
  struct Limit {
    double bytes_per_second = 0;
    std::string shared_by;  // Whoever has the same has it together.
  };

  [[nodiscard]] const std::map<QuotaEntity, QuotaValues>& all() const { return all_; }
  void Put(const QuotaEntity& entity, QuotaValues values);
  void Erase(const QuotaEntity& entity) { all_.erase(entity); }

  [[nodiscard]] std::optional<Limit> Find(QuotaKind kind, std::string_view user,
                                          std::string_view client_id) const;

 private:
  [[nodiscard]] std::optional<double> ValueOf(const QuotaEntity& entity,
                                              std::string_view key) const;

  std::map<QuotaEntity, QuotaValues> all_;
};

// Kafka's sampled rate.
class SampledRate {
 public:
  static constexpr size_t kSamples = 11;
  static constexpr base::Duration kSampleTime = std::chrono::seconds(1);

  void Record(double value, base::TimePoint now);
  [[nodiscard]] double PerSecond(base::TimePoint now);
  // How long to wait until the rate is `limit`; zero if it is not above.
  [[nodiscard]] base::Duration OverBy(double limit, base::TimePoint now);
  [[nodiscard]] bool idle(base::TimePoint now) const {
    return samples_.empty() || now - samples_.back().begun >= kSamples * kSampleTime;
  }

 private:
  struct Sample {
    base::TimePoint begun;
    double sum = 0;
  };

  void Forget(base::TimePoint now);
  [[nodiscard]] base::Duration Span(base::TimePoint now) const;

  std::deque<Sample> samples_;
};

// Of all clients, on all loops.
class QuotaMeters {
 public:
  // How long the client has to wait.
  base::Duration Record(QuotaKind kind, const Quotas::Limit& limit, double bytes,
                        base::TimePoint now);

 private:
  static constexpr size_t kCleanEvery = 10000;

  SampledRate& Find(QuotaKind kind, const std::string& shared_by, base::TimePoint now)
      HF_REQUIRES(mutex_);

  base::Mutex mutex_;
  std::unordered_map<std::string, SampledRate> rates_ HF_GUARDED_BY(mutex_);
  size_t clean_at_ HF_GUARDED_BY(mutex_) = kCleanEvery;
};

class ClientQuotas {
 public:
  ClientQuotas(const Published<Quotas>& quotas, QuotaMeters& meters)
      : quotas_(quotas), meters_(meters) {}

  void Refresh() { quotas_.Refresh(); }
  base::Duration Record(QuotaKind kind, const kafka::Caller& caller, size_t bytes,
                        base::TimePoint now);
  // The most that one answer may hold, so that it can ever be within the quota.
  [[nodiscard]] size_t BytesMax(QuotaKind kind, const kafka::Caller& caller) const;

 private:
  [[nodiscard]] std::optional<Quotas::Limit> Find(QuotaKind kind,
                                                  const kafka::Caller& caller) const;

  PublishedReader<Quotas> quotas_;
  QuotaMeters& meters_;
};

}  // namespace holdfast::broker
