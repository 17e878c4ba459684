#include "metrics/registry.h"

#include <prometheus/collectable.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <sstream>
#include <utility>
#include <variant>

#include "base/check.h"

namespace holdfast::metrics {

size_t ThreadShard() {
  static std::atomic<size_t> next{0};
  thread_local const size_t shard = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return shard;
}

uint64_t Counter::Value() const noexcept {
  uint64_t sum = 0;
  for (const Cell& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
  return sum;
}

Histogram::Histogram(std::span<const double> bounds) : bounds_(bounds) {
  HF_CHECK(std::ranges::is_sorted(bounds));
  for (Shard& shard : shards_)
    shard.counts = std::make_unique<std::atomic<uint64_t>[]>(bounds.size() + 1);
}

void Histogram::Observe(double value) noexcept {
  Shard& shard = shards_[ThreadShard()];
  const auto bucket = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  shard.counts[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  shard.sum.fetch_add(value, std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::Read() const {
  Snapshot snapshot{.counts = std::vector<uint64_t>(bounds_.size() + 1)};
  for (const Shard& shard : shards_) {
    for (size_t i = 0; i <= bounds_.size(); ++i)
      snapshot.counts[i] += shard.counts[i].load(std::memory_order_relaxed);
    snapshot.sum += shard.sum.load(std::memory_order_relaxed);
  }
  for (const uint64_t count : snapshot.counts) snapshot.count += count;
  return snapshot;
}

CallbackGauge::Binding::Binding(Binding&& other) noexcept
    : gauge_(std::exchange(other.gauge_, nullptr)), id_(other.id_) {}

CallbackGauge::Binding& CallbackGauge::Binding::operator=(Binding&& other) noexcept {
  std::swap(gauge_, other.gauge_);
  std::swap(id_, other.id_);
  return *this;
}

CallbackGauge::Binding::~Binding() {
  if (gauge_ != nullptr) gauge_->Unbind(id_);
}

CallbackGauge::Binding CallbackGauge::Bind(base::UniqueFunction<double()> read) {
  const base::MutexLock lock(mutex_);
  const uint64_t id = next_id_++;
  callbacks_.emplace(id, std::move(read));
  return {this, id};
}

void CallbackGauge::Unbind(uint64_t id) {
  const base::MutexLock lock(mutex_);
  callbacks_.erase(id);
}

double CallbackGauge::Value() {
  const base::MutexLock lock(mutex_);
  double value = 0;
  for (auto& [id, read] : callbacks_)
    value = combine_ == Combine::kSum ? value + read() : std::max(value, read());
  return value;
}

template <class Metric>
Metric& Family<Metric>::With(std::string_view value) {
  const base::MutexLock lock(mutex_);
  auto found = metrics_.find(value);
  if (found == metrics_.end()) {
    if (metrics_.size() >= values_max_) value = "other";
    auto& metric = metrics_[std::string(value)];
    if constexpr (std::is_same_v<Metric, Histogram>) {
      if (metric == nullptr) metric = std::make_unique<Histogram>(bounds_);
    } else {
      if (metric == nullptr) metric = std::make_unique<Metric>();
    }
    return *metric;
  }
  return *found->second;
}

template <class Metric>
std::vector<std::pair<std::string, const Metric*>> Family<Metric>::All() {
  const base::MutexLock lock(mutex_);
  std::vector<std::pair<std::string, const Metric*>> all;
  for (const auto& [value, metric] : metrics_) all.emplace_back(value, metric.get());
  return all;
}

template class Family<Counter>;
template class Family<Gauge>;
template class Family<Histogram>;

struct Registry::Entry {
  SeriesInfo info;
  std::variant<std::monostate, std::unique_ptr<Counter>, std::unique_ptr<Gauge>,
               std::unique_ptr<Histogram>, std::unique_ptr<CallbackGauge>,
               std::unique_ptr<Family<Counter>>, std::unique_ptr<Family<Gauge>>,
               std::unique_ptr<Family<Histogram>>>
      metric;
};

namespace {

prometheus::ClientMetric ToPrometheus(const Counter& counter) {
  prometheus::ClientMetric out;
  out.counter.value = static_cast<double>(counter.Value());
  return out;
}

prometheus::ClientMetric ToPrometheus(const Gauge& gauge) {
  prometheus::ClientMetric out;
  out.gauge.value = gauge.Value();
  return out;
}

prometheus::ClientMetric ToPrometheus(CallbackGauge& gauge) {
  prometheus::ClientMetric out;
  out.gauge.value = gauge.Value();
  return out;
}

prometheus::ClientMetric ToPrometheus(const Histogram& histogram) {
  const Histogram::Snapshot snapshot = histogram.Read();
  prometheus::ClientMetric out;
  out.histogram.sample_count = snapshot.count;
  out.histogram.sample_sum = snapshot.sum;
  uint64_t cumulative = 0;
  for (size_t i = 0; i < snapshot.counts.size(); ++i) {
    cumulative += snapshot.counts[i];
    const double bound = i < histogram.bounds().size() ? histogram.bounds()[i]
                                                       : std::numeric_limits<double>::infinity();
    out.histogram.bucket.push_back({.cumulative_count = cumulative, .upper_bound = bound});
  }
  return out;
}

prometheus::MetricType ToPrometheus(SeriesType type) {
  switch (type) {
    case SeriesType::kCounter:
      return prometheus::MetricType::Counter;
    case SeriesType::kGauge:
      return prometheus::MetricType::Gauge;
    case SeriesType::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

// Puts what one entry holds into the family that Prometheus sees.
struct Collector {
  const Series& series;
  prometheus::MetricFamily& out;

  void operator()(std::monostate) const {}

  template <class Metric>
  void operator()(const std::unique_ptr<Metric>& metric) const {
    out.metric.push_back(ToPrometheus(*metric));
  }
  template <class Metric>
  void operator()(const std::unique_ptr<Family<Metric>>& family) const {
    for (const auto& [value, metric] : family->All()) {
      out.metric.push_back(ToPrometheus(*metric));
      out.metric.back().label.push_back({.name = std::string(series.label), .value = value});
    }
  }
};

}  // namespace

class Registry::Exposition final : public prometheus::Collectable {
 public:
  explicit Exposition(const Registry& registry) : registry_(registry) {}

  [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families;
    const base::MutexLock lock(registry_.mutex_);
    for (const std::unique_ptr<Entry>& entry : registry_.entries_) {
      const Series& series = entry->info.series;
      prometheus::MetricFamily& family = families.emplace_back();
      family.name = series.name;
      family.help = series.help;
      family.type = ToPrometheus(entry->info.type);
      std::visit(Collector{series, family}, entry->metric);
    }
    return families;
  }

 private:
  const Registry& registry_;
};

Registry::Registry() = default;
Registry::~Registry() = default;

template <class Metric, class... Args>
Metric& Registry::Add(Series series, SeriesType type, Args&&... args) {
  auto entry = std::make_unique<Entry>();
  entry->info = {series, type};
  Metric& metric = *entry->metric.emplace<std::unique_ptr<Metric>>(
      std::make_unique<Metric>(std::forward<Args>(args)...));
  const base::MutexLock lock(mutex_);
  for (const std::unique_ptr<Entry>& other : entries_)
    HF_CHECK(other->info.series.name != series.name);
  entries_.push_back(std::move(entry));
  return metric;
}

Counter& Registry::AddCounter(Series series) { return Add<Counter>(series, SeriesType::kCounter); }
Gauge& Registry::AddGauge(Series series) { return Add<Gauge>(series, SeriesType::kGauge); }
Histogram& Registry::AddHistogram(Series series, std::span<const double> bounds) {
  return Add<Histogram>(series, SeriesType::kHistogram, bounds);
}
CallbackGauge& Registry::AddCallbackGauge(Series series, CallbackGauge::Combine combine) {
  return Add<CallbackGauge>(series, SeriesType::kGauge, combine);
}
Family<Counter>& Registry::AddCounterFamily(Series series) {
  return Add<Family<Counter>>(series, SeriesType::kCounter, series.values_max,
                              std::span<const double>());
}
Family<Gauge>& Registry::AddGaugeFamily(Series series) {
  return Add<Family<Gauge>>(series, SeriesType::kGauge, series.values_max,
                            std::span<const double>());
}
Family<Histogram>& Registry::AddHistogramFamily(Series series, std::span<const double> bounds) {
  return Add<Family<Histogram>>(series, SeriesType::kHistogram, series.values_max, bounds);
}

std::string Registry::Expose() const {
  std::ostringstream page;
  prometheus::TextSerializer().Serialize(page, Exposition(*this).Collect());
  return std::move(page).str();
}

std::vector<SeriesInfo> Registry::List() const {
  std::vector<SeriesInfo> list;
  const base::MutexLock lock(mutex_);
  for (const std::unique_ptr<Entry>& entry : entries_) list.push_back(entry->info);
  return list;
}

}  // namespace holdfast::metrics
