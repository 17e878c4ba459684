// The page for Prometheus with a line for each stream, in its text format 0.0.4: the ledger
// (agent/ledger.h) as series by topic and partition. It is long where there are many streams, and
// so not part of /metrics.
//
// Threads: any; plain values.
// Limits: at most streams_max streams, the first by name, so that they are the same at each scrape;
//   a series says how many more there are, and a filter leads to them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "agent/ledger.h"

namespace holdfast::agent {

inline constexpr size_t kStreamPageMax = 10'000;

// Of topics whose names have `filter` in them.
std::string PrintStreamPage(const Ledger& ledger, std::string_view filter,
                            size_t streams_max = kStreamPageMax);

}  // namespace holdfast::agent
