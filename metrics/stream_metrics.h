// The part of the catalogue (metrics/catalogue.h) that is in no registry: series of each of the
// agent's streams, by topic and partition, on a page of their own. Nobody counts them:
// agent/stream_page.h prints them from the ledger, with metrics/series_text.h.
#pragma once

#include <vector>

#include "metrics/registry.h"

namespace holdfast::metrics {

struct StreamMetrics {
  static const SeriesInfo kShown;  // Streams on the page.
  static const SeriesInfo kLeftOut;
  static const SeriesInfo kCompleteUntilTimestampSeconds;
  static const SeriesInfo kConfirmedOrdinal;
  static const SeriesInfo kTierOffset;  // Not there while it is not known.
  static const SeriesInfo kBacklogRecords;
  static const SeriesInfo kParked;
  static const SeriesInfo kDroppedRecords;
  static const SeriesInfo kDroppedBytes;

  // In this order.
  static std::vector<SeriesInfo> List();
};

}  // namespace holdfast::metrics
