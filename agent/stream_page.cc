#include "agent/stream_page.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "metrics/series_text.h"
#include "metrics/stream_metrics.h"

namespace holdfast::agent {
namespace {

struct Shown {
  std::string_view topic;
  std::string_view partition;  // Empty of a stream whose name is lost.
  const CommitPoint& point;
};

Shown Split(const CommitPoint& point) {
  const std::string_view name = point.stream;
  const size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return {name, {}, point};
  return {name.substr(0, slash), name.substr(slash + 1), point};
}

void PrintOne(std::ostream& page, const metrics::SeriesInfo& info, size_t value) {
  metrics::SeriesText series(info);
  series.Add({}, static_cast<double>(value));
  series.PrintTo(page);
}

// One series after the other, as each is as large as the page while it is made.
template <class ValueOf>
void PrintEach(std::ostream& page, const metrics::SeriesInfo& info,
               const std::vector<Shown>& streams, ValueOf value_of) {
  metrics::SeriesText series(info);
  for (const Shown& stream : streams) {
    const std::optional<double> value = value_of(stream.point);
    if (value) series.Add({stream.topic, stream.partition}, *value);
  }
  series.PrintTo(page);
}

}  // namespace

std::string PrintStreamPage(const Ledger& ledger, std::string_view filter, size_t streams_max) {
  using Metrics = metrics::StreamMetrics;
  using Value = std::optional<double>;
  std::vector<Shown> streams;
  size_t left_out = 0;
  for (const CommitPoint& point : ledger.streams) {
    const Shown stream = Split(point);
    if (stream.topic.find(filter) == std::string_view::npos) continue;
    if (streams.size() < streams_max) {
      streams.push_back(stream);
    } else {
      ++left_out;
    }
  }

  std::ostringstream page;
  PrintOne(page, Metrics::kShown, streams.size());
  PrintOne(page, Metrics::kLeftOut, left_out);
  PrintEach(page, Metrics::kCompleteUntilTimestampSeconds, streams, [](const CommitPoint& point) {
    return Value(static_cast<double>(point.complete_until_ms) / 1000);
  });
  PrintEach(page, Metrics::kConfirmedOrdinal, streams,
            [](const CommitPoint& point) { return Value(static_cast<double>(point.confirmed)); });
  PrintEach(page, Metrics::kTierOffset, streams, [](const CommitPoint& point) {
    return point.tier_offset < 0 ? std::nullopt : Value(static_cast<double>(point.tier_offset));
  });
  PrintEach(page, Metrics::kBacklogRecords, streams, [](const CommitPoint& point) {
    return Value(static_cast<double>(std::max<int64_t>(point.end - point.confirmed, 0)));
  });
  PrintEach(page, Metrics::kParked, streams,
            [](const CommitPoint& point) { return Value(point.parked ? 1 : 0); });
  PrintEach(page, Metrics::kDroppedRecords, streams, [](const CommitPoint& point) {
    return Value(static_cast<double>(point.drops.records()));
  });
  PrintEach(page, Metrics::kDroppedBytes, streams, [](const CommitPoint& point) {
    return Value(static_cast<double>(point.drops.bytes()));
  });
  return std::move(page).str();
}

}  // namespace holdfast::agent
