// Quotas of clients: what administrators have set, and what clients have used of it.
//
// A quota holds for a user and a client id, a user, or a client id, each by name or by default; the
// first of Kafka's eight combinations that is set counts. Clients that fall under the same one
// share it. Rates are Kafka's: the sum of the last 11 samples of a second each, over the time that
// they span, at least 10 s. Who is over it has to wait until he no longer would be; for the time
// that requests take, at most a second. Changes of topics are paid from a bucket that holds what
// 11 s bring: as long as it is not overdrawn, any change may overdraw it. An address has a rate of
// its own, or the default, of new connections; those too many are not counted. It is the same
// address whichever way it is written; if there are several, that of the usual way counts.
//
// Threads: Quotas are values, immutable when published. QuotaMeters and RequestMeter any; the
//   meters' lock is taken once for each quota that holds for a request. ClientQuotas are one
//   loop's.
// Limits: the names of an entity have at most kNameBytesMax bytes together.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

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

enum class QuotaKind : uint8_t {
  kProduce,     // Bytes.
  kConsume,     // Bytes.
  kRequest,     // Hundredths of a thread's time.
  kMutation,    // Partitions made or deleted.
  kConnection,  // Of an address.
};

class Quotas {
 public:
  struct Limit {
    double per_second = 0;
    std::string shared_by;  // Whoever has the same has it together.
  };

  [[nodiscard]] const std::map<QuotaEntity, QuotaValues>& all() const { return all_; }
  void Put(const QuotaEntity& entity, QuotaValues values);

  [[nodiscard]] std::optional<Limit> Find(QuotaKind kind, std::string_view user,
                                          std::string_view client_id) const;
  // Of new connections.
  [[nodiscard]] std::optional<Limit> FindOfAddress(std::string_view address) const;

 private:
  [[nodiscard]] std::optional<double> ValueOf(const QuotaEntity& entity,
                                              std::string_view key) const;

  std::map<QuotaEntity, QuotaValues> all_;
  // Addresses, as net::CanonicalHost has them, that are written another way in `all_`, and which.
  std::set<std::pair<std::string, std::string>> spellings_;
};

// Kafka's sampled rate. A time before that of the newest sample counts as that.
class SampledRate {
 public:
  static constexpr size_t kSamples = 11;
  static constexpr base::Duration kSampleTime = std::chrono::seconds(1);
  static constexpr base::Duration kWindow = std::chrono::seconds(kSamples);

  void Record(double value, base::TimePoint now);
  [[nodiscard]] double PerSecond(base::TimePoint now);
  // How long to wait until the rate is `limit`; zero if it is not above.
  [[nodiscard]] base::Duration OverBy(double limit, base::TimePoint now);
  [[nodiscard]] bool idle(base::TimePoint now) const {
    return samples_.empty() || now - samples_.back().begun >= kWindow;
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

// Kafka's token bucket. A new one is full.
class TokenBucket {
 public:
  static constexpr double kSecondsMax = 11;

  // Below zero: overdrawn.
  [[nodiscard]] double Tokens(double limit, base::TimePoint now);
  void Take(double tokens) { tokens_ -= tokens; }
  // As good as new.
  [[nodiscard]] bool idle(base::TimePoint now) const;

 private:
  std::optional<base::TimePoint> filled_;
  double limit_ = 0;
  double tokens_ = 0;
};

// Of all clients, on all loops.
class QuotaMeters {
 public:
  // How long the client has to wait.
  base::Duration Record(QuotaKind kind, const Quotas::Limit& limit, double amount,
                        base::TimePoint now);
  // Counts the amount only if there is room for it, as the zero returned says.
  base::Duration RecordIfWithin(QuotaKind kind, const Quotas::Limit& limit, double amount,
                                base::TimePoint now);
  // How long the client has to wait; takes nothing then, if `strict`.
  base::Duration Take(const Quotas::Limit& limit, double tokens, bool strict, base::TimePoint now);

 private:
  static constexpr size_t kCleanEvery = 10000;

  SampledRate& Find(QuotaKind kind, const std::string& shared_by, base::TimePoint now)
      HF_REQUIRES(mutex_);

  base::Mutex mutex_;
  std::unordered_map<std::string, SampledRate> rates_ HF_GUARDED_BY(mutex_);
  std::unordered_map<std::string, TokenBucket> buckets_ HF_GUARDED_BY(mutex_);
  size_t clean_at_ HF_GUARDED_BY(mutex_) = kCleanEvery;
};

// Measures how long one request keeps its loop: until it is answered, or handed on.
class RequestMeter {
 public:
  RequestMeter(QuotaMeters& meters, Quotas::Limit limit, const base::Executor& loop);

  // On the request's loop.
  void Stop();
  // Once, by whoever answers. How long the client has to wait.
  base::Duration Settle();

 private:
  QuotaMeters& meters_;
  const Quotas::Limit limit_;
  const base::Executor& loop_;
  const base::TimePoint arrived_;  // By the loop's time, which stands still meanwhile.
  const std::chrono::steady_clock::time_point begun_;
  std::atomic<int64_t> spent_ns_ = -1;  // -1: goes on.
};

// What one request may still change of topics.
class MutationQuota {
 public:
  MutationQuota(QuotaMeters& meters, std::optional<Quotas::Limit> limit, bool strict)
      : meters_(meters), limit_(std::move(limit)), strict_(strict) {}

  // False: refused, because it is strict.
  [[nodiscard]] bool Take(size_t partitions, base::TimePoint now);
  // What the client has to, for all that it took.
  [[nodiscard]] base::Duration wait() const { return wait_; }

 private:
  QuotaMeters& meters_;
  const std::optional<Quotas::Limit> limit_;
  const bool strict_;
  base::Duration wait_{};
};

class ClientQuotas {
 public:
  ClientQuotas(const Published<Quotas>& quotas, QuotaMeters& meters)
      : quotas_(quotas), meters_(meters) {}

  void Refresh() { quotas_.Refresh(); }
  [[nodiscard]] bool Holds(QuotaKind kind, const kafka::Caller& caller) const {
    return Find(kind, caller).has_value();
  }
  base::Duration Record(QuotaKind kind, const kafka::Caller& caller, size_t bytes,
                        base::TimePoint now);
  // What was recorded did not happen.
  void TakeBack(QuotaKind kind, const kafka::Caller& caller, size_t bytes, base::TimePoint now);
  // The most that one answer may hold, so that it can ever be within the quota.
  [[nodiscard]] size_t BytesMax(QuotaKind kind, const kafka::Caller& caller) const;
  // Null if no quota holds.
  [[nodiscard]] std::shared_ptr<RequestMeter> Meter(const kafka::Caller& caller,
                                                    const base::Executor& loop) const;
  // Those that are strict refuse what is too much, the others let the client wait for it.
  [[nodiscard]] MutationQuota MutationsOf(const kafka::Caller& caller, bool strict) const {
    return {meters_, Find(QuotaKind::kMutation, caller), strict};
  }
  // A new connection. Zero: it may stay; otherwise it is to be closed after so long.
  base::Duration RecordConnection(std::string_view address, base::TimePoint now);

 private:
  [[nodiscard]] std::optional<Quotas::Limit> Find(QuotaKind kind,
                                                  const kafka::Caller& caller) const;

  PublishedReader<Quotas> quotas_;
  QuotaMeters& meters_;
};

}  // namespace holdfast::broker
