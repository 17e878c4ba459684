#include "cli/doctor/spool_facts.h"

#include <algorithm>
#include <limits>

#include "agent/dead_letter.h"
#include "agent/forward_state.h"
#include "proxy/metadata_cache.h"
#include "spool/directory.h"
#include "spool/offline.h"

namespace holdfast::cli::doctor {
namespace {

using Clock = std::chrono::steady_clock;

std::string ClusterOf(const spool::State& state) {
  const auto kept = state.Get(agent::kClusterKey);
  if (!kept) return {};
  proxy::MetadataCache cache({});
  if (!cache.Load(*kept)) return {};
  return cache.cluster()->id;
}

}  // namespace

base::Result<SpoolFacts> LookIntoSpool(const std::string& directory, const spool::KeyRing& keys) {
  HF_ASSIGN_OR_RETURN(const auto view, spool::OfflineView::Open(directory, keys));
  SpoolFacts facts{.cluster_id = ClusterOf(view->state())};
  const Clock::time_point end = Clock::now() + SpoolFacts::kLookFor;
  uint64_t seen = 0;
  HF_RETURN_IF_ERROR(view->WalkEntries(
      [&](const spool::EntryInfo& info) {
        if (++seen > SpoolFacts::kEntriesMax || (seen % 1024 == 0 && Clock::now() > end))
          return false;
        const spool::StreamState& stream = view->state().stream(info.stream);
        const auto name = agent::ParseStreamName(stream.name);
        // Dead letters do not go to the tier.
        if (!name || agent::ParseDeadLetterStreamName(stream.name)) return true;
        facts.newest_ms = std::max(facts.newest_ms.value_or(0), info.commit_time_ms);
        SpoolFacts::Waiting& waiting = facts.waiting[name->first];
        if (waiting.records == 0) waiting.oldest_timestamp_ms = std::numeric_limits<int64_t>::max();
        waiting.records +=
            static_cast<uint64_t>(info.end_offset() - std::max(stream.start, info.base_offset));
        waiting.bytes += info.bytes;
        waiting.largest_entry = std::max(waiting.largest_entry, info.bytes);
        waiting.oldest_timestamp_ms = std::min(waiting.oldest_timestamp_ms, info.max_timestamp_ms);
        return true;
      },
      [](const base::Error&) {}, nullptr));
  return facts;
}

}  // namespace holdfast::cli::doctor
