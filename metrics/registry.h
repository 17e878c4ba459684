// Counters, gauges and histograms, and the registry that prints them for Prometheus.
//
//   metrics::Registry registry;
//   metrics::BrokerMetrics metrics(registry);           // metrics/catalogue.h names every series.
//   metrics.produced_records.Add(n);                    // Hot path: one relaxed atomic addition.
//   metrics::Counter& refused = metrics.errors.With("NOT_LEADER");  // Resolve once, keep.
//   std::string page = registry.Expose();
//
// A registry is an object, not a global: `holdfast dev` runs an agent and a broker in one process,
// each with its own.
//
// Ownership: the registry owns every metric; references to them live as long as it does.
// Threads: Add, Sub, Set, RaiseTo and Observe from any thread, without a lock. Registration,
//   Family::With, CallbackGauge::Bind and Expose from any thread, with one. A bound callback runs
//   on the thread that calls Expose and may not touch the registry.
// Limits: a family keeps at most `values_max` label values; later ones are counted under "other",
//   so a peer cannot fill memory by inventing them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/unique_function.h"

namespace holdfast::metrics {

// Writers are spread over this many cells, so that threads seldom share a cache line.
inline constexpr size_t kShards = 8;
inline constexpr size_t kCacheLine = 64;
// The calling thread's cell; threads take them in turn.
size_t ThreadShard();

class Counter {
 public:
  void Add(uint64_t amount = 1) noexcept {
    cells_[ThreadShard()].value.fetch_add(amount, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t Value() const noexcept;

 private:
  struct alignas(kCacheLine) Cell {
    std::atomic<uint64_t> value{0};
  };
  std::array<Cell, kShards> cells_;
};

class Gauge {
 public:
  void Set(double value) noexcept { value_.store(value, std::memory_order_relaxed); }
  void Add(double amount = 1) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  void Sub(double amount = 1) noexcept { value_.fetch_sub(amount, std::memory_order_relaxed); }
  [[nodiscard]] double Value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  // Upper bounds in ascending order, with static lifetime; the one of infinity is implied.
  explicit Histogram(std::span<const double> bounds);

  void Observe(double value) noexcept;
  // In seconds, as every duration is exposed.
  void Observe(base::Duration duration) noexcept {
    Observe(std::chrono::duration<double>(duration).count());
  }

  struct Snapshot {
    std::vector<uint64_t> counts;  // Not cumulative; one more than there are bounds.
    uint64_t count = 0;
    double sum = 0;
  };
  [[nodiscard]] Snapshot Read() const;
  [[nodiscard]] std::span<const double> bounds() const { return bounds_; }

 private:
  struct alignas(kCacheLine) Shard {
    std::atomic<double> sum{0};
    std::unique_ptr<std::atomic<uint64_t>[]> counts;
  };
  std::span<const double> bounds_;
  std::array<Shard, kShards> shards_;
};

// A gauge whose value is asked for when it is scraped: the depth of a queue, the size of a map that
// keeps count anyway.
class CallbackGauge {
 public:
  // How the values of several bindings (one per loop, say) become one.
  enum class Combine : uint8_t { kSum, kMax };

  // Destroying it unbinds; a callback that is running is waited for.
  class Binding {
   public:
    Binding() = default;
    Binding(CallbackGauge* gauge, uint64_t id) : gauge_(gauge), id_(id) {}
    Binding(Binding&& other) noexcept;
    Binding& operator=(Binding&& other) noexcept;
    ~Binding();

   private:
    CallbackGauge* gauge_ = nullptr;
    uint64_t id_ = 0;
  };

  explicit CallbackGauge(Combine combine) : combine_(combine) {}
  [[nodiscard]] Binding Bind(base::UniqueFunction<double()> read);
  // Zero while nothing is bound.
  [[nodiscard]] double Value();

 private:
  void Unbind(uint64_t id);

  const Combine combine_;
  base::Mutex mutex_;
  std::map<uint64_t, base::UniqueFunction<double()>> callbacks_ HF_GUARDED_BY(mutex_);
  uint64_t next_id_ HF_GUARDED_BY(mutex_) = 1;
};

// The metrics of one name that differ in the value of one label, such as errors by cause.
template <class Metric>
class Family {
 public:
  Family(size_t values_max, std::span<const double> bounds)
      : values_max_(values_max), bounds_(bounds) {}

  // Takes a lock: call it when the value becomes known and keep the reference.
  Metric& With(std::string_view value);
  // (label value, metric) in the order of the values.
  [[nodiscard]] std::vector<std::pair<std::string, const Metric*>> All();

 private:
  const size_t values_max_;
  const std::span<const double> bounds_;
  base::Mutex mutex_;
  std::map<std::string, std::unique_ptr<Metric>, std::less<>> metrics_ HF_GUARDED_BY(mutex_);
};

enum class SeriesType : uint8_t { kCounter, kGauge, kHistogram };

// What a series is called and means. All texts have static lifetime.
struct Series {
  std::string_view name;
  std::string_view help;
  std::string_view label = {};  // Families only.
  size_t values_max = 64;       // Families only.
};

struct SeriesInfo {
  Series series;
  SeriesType type;
};

class Registry {
 public:
  Registry();
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Names must be new to this registry.
  Counter& AddCounter(Series series);
  Gauge& AddGauge(Series series);
  Histogram& AddHistogram(Series series, std::span<const double> bounds);
  CallbackGauge& AddCallbackGauge(Series series, CallbackGauge::Combine combine);
  Family<Counter>& AddCounterFamily(Series series);
  Family<Gauge>& AddGaugeFamily(Series series);
  Family<Histogram>& AddHistogramFamily(Series series, std::span<const double> bounds);

  // The page for Prometheus, in its text format 0.0.4.
  [[nodiscard]] std::string Expose() const;
  // Every series in the order of registration.
  [[nodiscard]] std::vector<SeriesInfo> List() const;

 private:
  class Exposition;  // The prometheus::Collectable.
  struct Entry;

  template <class Metric, class... Args>
  Metric& Add(Series series, SeriesType type, Args&&... args);

  mutable base::Mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::metrics
