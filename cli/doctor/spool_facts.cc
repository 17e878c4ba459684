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

// Where its records go. None: it is no stream of an agent's that the tier gets; dead letters are
// not.
std::optional<std::string> TopicOf(const spool::StreamState& stream) {
  const auto name = agent::ParseStreamName(stream.name);
  if (!name || agent::ParseDeadLetterStreamName(stream.name)) return std::nullopt;
  return name->first;
}

}  // namespace

base::Result<SpoolFacts> LookIntoSpool(const std::string& directory, const spool::KeyRing& keys,
                                       uint64_t entries_max) {
  HF_ASSIGN_OR_RETURN(const auto view, spool::OfflineView::Open(directory, keys));
  SpoolFacts facts{.cluster_id = ClusterOf(view->state())};
  for (const spool::StreamState& stream : view->state().streams()) {
    const auto topic = TopicOf(stream);
    if (topic && stream.start < stream.end)
      facts.waiting[*topic].records += static_cast<uint64_t>(stream.end - stream.start);
  }
  const Clock::time_point end = Clock::now() + SpoolFacts::kLookFor;
  uint64_t seen = 0;
  HF_RETURN_IF_ERROR(view->WalkEntries(
      [&](const spool::EntryInfo& info) {
        facts.cut_off = ++seen > entries_max || (seen % 1024 == 0 && Clock::now() > end);
        if (facts.cut_off) return false;
        const auto topic = TopicOf(view->state().stream(info.stream));
        if (!topic) return true;
        facts.newest_ms = std::max(facts.newest_ms.value_or(0), info.commit_time_ms);
        SpoolFacts::Waiting& waiting = facts.waiting[*topic];
        if (waiting.bytes == 0) waiting.oldest_timestamp_ms = std::numeric_limits<int64_t>::max();
        waiting.bytes += info.bytes;
        waiting.largest_entry = std::max(waiting.largest_entry, info.bytes);
        waiting.oldest_timestamp_ms = std::min(waiting.oldest_timestamp_ms, info.max_timestamp_ms);
        return true;
      },
      [](const base::Error&) {}, nullptr));
  return facts;
}

}  // namespace holdfast::cli::doctor
