#include "metrics/history.h"

#include <algorithm>

namespace holdfast::metrics {

void History::Sample(int64_t now_ms) {
  Sampled sampled{.time_ms = now_ms};
  for (const auto& [name, counter] : counters_) sampled.values.push_back(counter->Value());
  if (level_ != nullptr) sampled.level = level_->Value();
  const base::MutexLock lock(mutex_);
  // A clock that was set back begins anew.
  if (!samples_.empty() && samples_.back().time_ms >= now_ms) samples_.clear();
  samples_.push_back(std::move(sampled));
  if (samples_.size() > kSamples + 1) samples_.pop_front();
}

History::Rates History::Get() const {
  const base::MutexLock lock(mutex_);
  Rates rates;
  if (!samples_.empty()) rates.until_ms = samples_.back().time_ms;
  const auto rate = [this](size_t from, size_t to, size_t series) HF_REQUIRES(mutex_) {
    const Sampled& begin = samples_[from];
    const Sampled& end = samples_[to];
    return 1000 * static_cast<double>(end.values[series] - begin.values[series]) /
           static_cast<double>(end.time_ms - begin.time_ms);
  };
  if (samples_.size() >= 2) {
    const Sampled& end = samples_.back();
    const Sampled& begin = samples_[samples_.size() - 1 - std::min(samples_.size() - 1, kLately)];
    rates.growth_lately =
        1000 * (end.level - begin.level) / static_cast<double>(end.time_ms - begin.time_ms);
  }
  for (size_t series = 0; series < counters_.size(); ++series) {
    Rates::Series& one = rates.series.emplace_back();
    one.name = counters_[series].first;
    for (size_t i = 1; i < samples_.size(); ++i) one.per_second.push_back(rate(i - 1, i, series));
    if (samples_.size() < 2) continue;
    const size_t newest = samples_.size() - 1;
    one.lately = rate(newest - std::min(newest, kLately), newest, series);
  }
  return rates;
}

}  // namespace holdfast::metrics
