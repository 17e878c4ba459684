// One series in the text format of Prometheus, of which somebody else keeps the values: one of each
// of an agent's streams, say. A registry would keep them all once more, between the scrapes, too.
//
//   std::ostringstream page;
//   metrics::SeriesText backlog(metrics::StreamMetrics::kBacklogRecords);  // By "topic,partition".
//   for (const auto& one : streams) backlog.Add({one.topic, one.partition}, one.backlog);
//   backlog.PrintTo(page);
//
// Threads: any; a plain value.
#pragma once

#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/registry.h"

namespace holdfast::metrics {

class SeriesText {
 public:
  // A counter or a gauge. Its label may be several, with commas between, or none.
  explicit SeriesText(const SeriesInfo& info);
  ~SeriesText();
  SeriesText(const SeriesText&) = delete;
  SeriesText& operator=(const SeriesText&) = delete;

  // With a value for each label, any UTF-8; to Prometheus an empty one is as good as none.
  void Add(std::initializer_list<std::string_view> label_values, double value);

  // With its head, also if nothing was added.
  void PrintTo(std::ostream& page) const;

 private:
  struct Family;  // Around prometheus::MetricFamily.

  std::vector<std::string> labels_;
  const std::unique_ptr<Family> family_;
};

}  // namespace holdfast::metrics
