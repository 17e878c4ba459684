#include "metrics/series_text.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <ostream>

#include "base/check.h"

namespace holdfast::metrics {

struct SeriesText::Family {
  // The one of this series, as the serializer takes it.
  std::vector<prometheus::MetricFamily> families{1};
};

SeriesText::SeriesText(const SeriesInfo& info) : family_(std::make_unique<Family>()) {
  HF_CHECK(info.type != SeriesType::kHistogram);
  std::string_view names = info.series.label;
  while (!names.empty()) {
    const size_t end = std::min(names.find(','), names.size());
    labels_.emplace_back(names.substr(0, end));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  prometheus::MetricFamily& family = family_->families.front();
  family.name = info.series.name;
  family.help = info.series.help;
  family.type = info.type == SeriesType::kCounter ? prometheus::MetricType::Counter
                                                  : prometheus::MetricType::Gauge;
}

SeriesText::~SeriesText() = default;

void SeriesText::Add(std::initializer_list<std::string_view> label_values, double value) {
  HF_CHECK(label_values.size() == labels_.size());
  prometheus::MetricFamily& family = family_->families.front();
  prometheus::ClientMetric& sample = family.metric.emplace_back();
  sample.label.reserve(labels_.size());
  for (size_t i = 0; i < labels_.size(); ++i) {
    sample.label.push_back({.name = labels_[i], .value = std::string(*(label_values.begin() + i))});
  }
  if (family.type == prometheus::MetricType::Counter) {
    sample.counter.value = value;
  } else {
    sample.gauge.value = value;
  }
}

void SeriesText::PrintTo(std::ostream& page) const {
  prometheus::TextSerializer().Serialize(page, family_->families);
}

}  // namespace holdfast::metrics
