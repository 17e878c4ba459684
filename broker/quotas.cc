#include "broker/quotas.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "net/address.h"

namespace holdfast::broker {
namespace {

double Seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

constexpr base::Duration kShortWaitMax = std::chrono::seconds(1);

base::Duration FromSeconds(double seconds) {
  constexpr double kLongest = 1e9;
  return std::chrono::milliseconds(static_cast<int64_t>(std::min(seconds, kLongest) * 1000 + 0.5));
}

std::string_view KeyOf(QuotaKind kind) {
  switch (kind) {
    case QuotaKind::kProduce:
      return "producer_byte_rate";
    case QuotaKind::kConsume:
      return "consumer_byte_rate";
    case QuotaKind::kRequest:
      return "request_percentage";
    case QuotaKind::kMutation:
      return "controller_mutation_rate";
    case QuotaKind::kConnection:
      return "connection_creation_rate";
  }
  return {};
}

// Kafka bounds how long these keep a client waiting.
base::Duration Bounded(QuotaKind kind, base::Duration wait) {
  const bool bounded = kind == QuotaKind::kRequest || kind == QuotaKind::kConnection;
  return bounded ? std::min(wait, kShortWaitMax) : wait;
}

std::string_view NameOfUser(std::string_view principal) {
  const size_t colon = principal.find(':');
  return colon == std::string_view::npos ? principal : principal.substr(colon + 1);
}

}  // namespace

void Quotas::Put(const QuotaEntity& entity, QuotaValues values) {
  const bool gone = values.empty();
  if (gone) {
    all_.erase(entity);
  } else {
    all_[entity] = std::move(values);
  }
  const auto ip = entity.parts.find(kIpEntity);
  if (ip == entity.parts.end() || !ip->second) return;
  std::string address = net::CanonicalHost(*ip->second);
  if (address == *ip->second) return;
  if (gone) {
    spellings_.erase({std::move(address), *ip->second});
  } else {
    spellings_.emplace(std::move(address), *ip->second);
  }
}

std::optional<double> Quotas::ValueOf(const QuotaEntity& entity, std::string_view key) const {
  const auto found = all_.find(entity);
  if (found == all_.end()) return std::nullopt;
  const auto value = found->second.find(key);
  return value == found->second.end() ? std::nullopt : std::optional(value->second);
}

std::optional<Quotas::Limit> Quotas::Find(QuotaKind kind, std::string_view user,
                                          std::string_view client_id) const {
  const std::string_view key = KeyOf(kind);
  const auto part = [](std::string_view type, std::optional<std::string_view> name) {
    return std::pair(std::string(type), name ? std::optional(std::string(*name)) : std::nullopt);
  };
  // Null: the default. Under a quota of a user without a client, all his clients share it.
  const auto look =
      [&](std::optional<std::optional<std::string_view>> of_user,
          std::optional<std::optional<std::string_view>> of_client) -> std::optional<Limit> {
    QuotaEntity entity;
    if (of_user) entity.parts.insert(part(kUserEntity, *of_user));
    if (of_client) entity.parts.insert(part(kClientIdEntity, *of_client));
    const auto value = ValueOf(entity, key);
    if (!value) return std::nullopt;
    std::string shared_by;
    if (of_user) shared_by.append("u").append(std::to_string(user.size())).append(user);
    if (of_client) shared_by.append("c").append(client_id);
    return Limit{*value, std::move(shared_by)};
  };
  using Name = std::optional<std::string_view>;
  constexpr Name kDefault = std::nullopt;
  const std::optional<Name> nobody;
  const std::pair<std::optional<Name>, std::optional<Name>> order[] = {
      {Name(user), Name(client_id)}, {Name(user), kDefault}, {Name(user), nobody},
      {kDefault, Name(client_id)},   {kDefault, kDefault},   {kDefault, nobody},
      {nobody, Name(client_id)},     {nobody, kDefault}};
  for (const auto& [of_user, of_client] : order) {
    if (auto limit = look(of_user, of_client)) return limit;
  }
  return std::nullopt;
}

std::optional<Quotas::Limit> Quotas::FindOfAddress(std::string_view address) const {
  std::vector<std::optional<std::string>> names{std::string(address)};
  const auto spelled = spellings_.lower_bound({std::string(address), ""});
  if (spelled != spellings_.end() && spelled->first == address) names.emplace_back(spelled->second);
  names.emplace_back();  // The default.
  for (const auto& name : names) {
    QuotaEntity entity;
    entity.parts.emplace(kIpEntity, name);
    if (const auto value = ValueOf(entity, KeyOf(QuotaKind::kConnection)))
      return Limit{*value, std::string(address)};
  }
  return std::nullopt;
}

void SampledRate::Forget(base::TimePoint now) {
  while (!samples_.empty() && now - samples_.front().begun >= kWindow) {
    samples_.pop_front();
  }
}

void SampledRate::Record(double value, base::TimePoint now) {
  Forget(now);
  if (samples_.empty() || now - samples_.back().begun >= kSampleTime) {
    samples_.push_back({now, 0});
    if (samples_.size() > kSamples) samples_.pop_front();
  }
  samples_.back().sum += value;
}

// What lies before the first sample counts as time without use, so that a beginner is not judged by
// his first second.
base::Duration SampledRate::Span(base::TimePoint now) const {
  if (samples_.empty()) return (kSamples - 1) * kSampleTime;
  base::Duration span = std::max(now, samples_.back().begun) - samples_.front().begun;
  const auto whole = static_cast<size_t>(span / kSampleTime);
  if (whole < kSamples - 1) span += (kSamples - 1 - whole) * kSampleTime;
  return span;
}

double SampledRate::PerSecond(base::TimePoint now) {
  Forget(now);
  double sum = 0;
  for (const Sample& sample : samples_) sum += sample.sum;
  return sum / Seconds(Span(now));
}

base::Duration SampledRate::OverBy(double limit, base::TimePoint now) {
  const double rate = PerSecond(now);
  if (rate <= limit) return base::Duration::zero();
  return FromSeconds((rate - limit) / limit * Seconds(Span(now)));
}

double TokenBucket::Tokens(double limit, base::TimePoint now) {
  const double full = limit * kSecondsMax;
  if (!filled_) {
    tokens_ = full;
  } else if (now > *filled_) {
    tokens_ = std::min(full, tokens_ + limit * Seconds(now - *filled_));
  }
  limit_ = limit;
  filled_ = filled_ ? std::max(now, *filled_) : now;
  return tokens_ = std::min(tokens_, full);
}

bool TokenBucket::idle(base::TimePoint now) const {
  return !filled_ || tokens_ + limit_ * Seconds(now - *filled_) >= limit_ * kSecondsMax;
}

SampledRate& QuotaMeters::Find(QuotaKind kind, const std::string& shared_by, base::TimePoint now) {
  if (rates_.size() >= clean_at_) {
    std::erase_if(rates_, [&](const auto& one) { return one.second.idle(now); });
    clean_at_ = rates_.size() + kCleanEvery;
  }
  return rates_[std::to_string(static_cast<int>(kind)) + shared_by];
}

base::Duration QuotaMeters::Record(QuotaKind kind, const Quotas::Limit& limit, double amount,
                                   base::TimePoint now) {
  const base::MutexLock lock(mutex_);
  SampledRate& rate = Find(kind, limit.shared_by, now);
  rate.Record(amount, now);
  return Bounded(kind, rate.OverBy(limit.per_second, now));
}

base::Duration QuotaMeters::RecordIfWithin(QuotaKind kind, const Quotas::Limit& limit,
                                           double amount, base::TimePoint now) {
  const base::MutexLock lock(mutex_);
  SampledRate& rate = Find(kind, limit.shared_by, now);
  rate.Record(amount, now);
  const base::Duration wait = Bounded(kind, rate.OverBy(limit.per_second, now));
  if (wait > base::Duration::zero()) rate.Record(-amount, now);
  return wait;
}

base::Duration QuotaMeters::Take(const Quotas::Limit& limit, double tokens, bool strict,
                                 base::TimePoint now) {
  const base::MutexLock lock(mutex_);
  if (buckets_.size() >= kCleanEvery)
    std::erase_if(buckets_, [&](const auto& one) { return one.second.idle(now); });
  TokenBucket& bucket = buckets_[limit.shared_by];
  double left = bucket.Tokens(limit.per_second, now);
  if (!strict) {
    bucket.Take(tokens);
    left -= tokens;
  } else if (left >= 0) {
    bucket.Take(tokens);
  }
  return left < 0 ? FromSeconds(-left / limit.per_second) : base::Duration::zero();
}

RequestMeter::RequestMeter(QuotaMeters& meters, Quotas::Limit limit, const base::Executor& loop)
    : meters_(meters),
      limit_(std::move(limit)),
      loop_(loop),
      arrived_(loop.Now()),
      begun_(std::chrono::steady_clock::now()) {}

void RequestMeter::Stop() {
  const base::Duration spent = std::chrono::steady_clock::now() - begun_;
  spent_ns_.store(spent.count(), std::memory_order_relaxed);
}

base::Duration RequestMeter::Settle() {
  constexpr double kHundredthsPerSecond = 100;
  base::Duration spent(spent_ns_.load(std::memory_order_relaxed));
  if (spent < base::Duration::zero()) spent = std::chrono::steady_clock::now() - begun_;
  // Only the loop itself may be asked for its time; who answers elsewhere answers soon.
  const base::TimePoint now = loop_.InLoop() ? loop_.Now() : arrived_;
  return meters_.Record(QuotaKind::kRequest, limit_, Seconds(spent) * kHundredthsPerSecond, now);
}

bool MutationQuota::Take(size_t partitions, base::TimePoint now) {
  if (!limit_) return true;
  wait_ = meters_.Take(*limit_, static_cast<double>(partitions), strict_, now);
  return !strict_ || wait_ == base::Duration::zero();
}

std::optional<Quotas::Limit> ClientQuotas::Find(QuotaKind kind, const kafka::Caller& caller) const {
  if (quotas_->all().empty()) return std::nullopt;
  return quotas_->Find(kind, NameOfUser(caller.peer->principal), caller.client_id);
}

base::Duration ClientQuotas::Record(QuotaKind kind, const kafka::Caller& caller, size_t bytes,
                                    base::TimePoint now) {
  const auto limit = Find(kind, caller);
  if (!limit) return base::Duration::zero();
  return meters_.Record(kind, *limit, static_cast<double>(bytes), now);
}

void ClientQuotas::TakeBack(QuotaKind kind, const kafka::Caller& caller, size_t bytes,
                            base::TimePoint now) {
  if (const auto limit = Find(kind, caller))
    meters_.Record(kind, *limit, -static_cast<double>(bytes), now);
}

std::shared_ptr<RequestMeter> ClientQuotas::Meter(const kafka::Caller& caller,
                                                  const base::Executor& loop) const {
  auto limit = Find(QuotaKind::kRequest, caller);
  if (!limit) return nullptr;
  return std::make_shared<RequestMeter>(meters_, *std::move(limit), loop);
}

base::Duration ClientQuotas::RecordConnection(std::string_view address, base::TimePoint now) {
  if (quotas_->all().empty()) return base::Duration::zero();
  const auto limit = quotas_->FindOfAddress(address);
  if (!limit) return base::Duration::zero();
  return meters_.RecordIfWithin(QuotaKind::kConnection, *limit, 1, now);
}

size_t ClientQuotas::BytesMax(QuotaKind kind, const kafka::Caller& caller) const {
  const auto limit = Find(kind, caller);
  constexpr double kNoLimit = 1e15;
  if (!limit) return std::numeric_limits<size_t>::max();
  const double window = Seconds((SampledRate::kSamples - 1) * SampledRate::kSampleTime);
  return static_cast<size_t>(std::min(limit->per_second * window, kNoLimit));
}

}  // namespace holdfast::broker
