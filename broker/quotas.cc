#include "broker/quotas.h"

#include <algorithm>
#include <limits>

namespace holdfast::broker {
namespace {

double Seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string_view KeyOf(QuotaKind kind) {
  return kind == QuotaKind::kProduce ? "producer_byte_rate" : "consumer_byte_rate";
}

std::string_view NameOfUser(std::string_view principal) {
  const size_t colon = principal.find(':');
  return colon == std::string_view::npos ? principal : principal.substr(colon + 1);
}

}  // namespace

void Quotas::Put(const QuotaEntity& entity, QuotaValues values) {
  if (values.empty()) {
    all_.erase(entity);
  } else {
    all_[entity] = std::move(values);
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

void SampledRate::Forget(base::TimePoint now) {
  while (!samples_.empty() && now - samples_.front().begun >= kSamples * kSampleTime) {
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
  base::Duration span = now - samples_.front().begun;
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
  const double seconds = (rate - limit) / limit * Seconds(Span(now));
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000 + 0.5));
}

SampledRate& QuotaMeters::Find(QuotaKind kind, const std::string& shared_by, base::TimePoint now) {
  if (rates_.size() >= clean_at_) {
    std::erase_if(rates_, [&](const auto& one) { return one.second.idle(now); });
    clean_at_ = rates_.size() + kCleanEvery;
  }
  return rates_[(kind == QuotaKind::kProduce ? "p" : "f") + shared_by];
}

base::Duration QuotaMeters::Record(QuotaKind kind, const Quotas::Limit& limit, double bytes,
                                   base::TimePoint now) {
  const base::MutexLock lock(mutex_);
  SampledRate& rate = Find(kind, limit.shared_by, now);
  rate.Record(bytes, now);
  return rate.OverBy(limit.bytes_per_second, now);
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

size_t ClientQuotas::BytesMax(QuotaKind kind, const kafka::Caller& caller) const {
  const auto limit = Find(kind, caller);
  constexpr double kNoLimit = 1e15;
  if (!limit) return std::numeric_limits<size_t>::max();
  const double window = Seconds((SampledRate::kSamples - 1) * SampledRate::kSampleTime);
  return static_cast<size_t>(std::min(limit->bytes_per_second * window, kNoLimit));
}

}  // namespace holdfast::broker
