// The last minutes of some series, so that whoever opens a page sees a curve and not a dot.
//
//   History history({{"in", &metrics.accepted_records}, {"out", &metrics.forwarded_records}},
//                   &metrics.backlog_bytes);
//   history.Sample(loop.WallClockMs());                 // Every kSampleEvery.
//   const History::Rates rates = history.Get();         // rates.series[0].per_second
//
// Ownership: the counters and the gauge outlive it.
// Threads: Sample from one; Get from any.
// Limits: kSamples of each series are kept, the newest.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "metrics/registry.h"

namespace holdfast::metrics {

class History {
 public:
  static constexpr size_t kSamples = 150;
  static constexpr base::Duration kSampleEvery = std::chrono::seconds(2);

  // Names have static lifetime. Of `level` only its growth is told.
  explicit History(std::vector<std::pair<std::string_view, const Counter*>> counters,
                   const Gauge* level = nullptr)
      : counters_(std::move(counters)), level_(level) {}

  void Sample(int64_t now_ms);

  struct Rates {
    struct Series {
      std::string_view name;
      std::vector<double> per_second;  // Between each two samples, oldest first.
      // On average over the newest `kLately` of them.
      double lately = 0;
    };
    int64_t until_ms = 0;  // Of the newest sample; 0 if there is none.
    std::vector<Series> series;
    double growth_lately = 0;  // Of the level, per second; below 0: it falls.
  };
  static constexpr size_t kLately = 15;
  [[nodiscard]] Rates Get() const;

 private:
  struct Sampled {
    int64_t time_ms = 0;
    std::vector<uint64_t> values;
    double level = 0;
  };

  const std::vector<std::pair<std::string_view, const Counter*>> counters_;
  const Gauge* const level_;
  mutable base::Mutex mutex_;
  std::deque<Sampled> samples_ HF_GUARDED_BY(mutex_);  // At most one more than kSamples.
};

}  // namespace holdfast::metrics
