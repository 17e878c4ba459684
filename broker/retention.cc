#include "broker/retention.h"

#include <algorithm>
#include <deque>

#include "base/log.h"
#include "broker/entries.h"
#include "broker/milliseconds.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {
namespace {

constexpr size_t kPartitionsPerTurn = 16;

// Entries beside each other, whose bytes count as one.
struct Stretch {
  int64_t end_offset;
  uint64_t bytes;
};
// So many make up what may stay; up to one more does.
constexpr uint64_t kStretches = 1024;

// In one walk, which keeps the newest stretches that it has seen: compaction changes the sizes
// meanwhile, and a second one would see others.
int64_t FirstWithin(spool::Spool& spool, const Partition& partition, int64_t end,
                    uint64_t bytes_max) {
  int64_t keep_from = partition.log_start.load();
  std::deque<Stretch> newest;
  uint64_t bytes = 0;
  WalkEntries(spool, partition.stream, keep_from, end, [&](const spool::EntryInfo& entry) {
    if (newest.empty() || newest.back().bytes >= bytes_max / kStretches) newest.emplace_back();
    newest.back().end_offset = entry.end_offset();
    newest.back().bytes += entry.bytes;
    bytes += entry.bytes;
    while (!newest.empty() && bytes - newest.front().bytes >= bytes_max) {
      bytes -= newest.front().bytes;
      keep_from = newest.front().end_offset;
      newest.pop_front();
    }
    return true;
  });
  return keep_from;
}

}  // namespace

int64_t FirstToKeep(spool::Spool& spool, const Partition& partition,
                    const RetentionLimits& limits) {
  // Before anything is looked at: what comes later was in nobody's sight.
  const int64_t end = partition.high_watermark.load();
  int64_t keep_from = partition.log_start.load();
  if (limits.oldest_ms >= 0) {
    const auto found = spool.FindByTime(partition.stream, limits.oldest_ms, 0);
    if (!found) return keep_from;
    keep_from = std::max(keep_from, *found ? (*found)->base_offset : end);
  }
  if (limits.bytes_max >= 0) {
    const auto bytes_max = static_cast<uint64_t>(limits.bytes_max);
    keep_from = std::max(keep_from, FirstWithin(spool, partition, end, bytes_max));
  }
  return keep_from;
}

void Retention::Start() {
  timer_ = loop_.After(context_.options.retention_check_interval, [this] { BeginRound(); });
}

void Retention::Stop() {
  timer_.Cancel();
  round_.clear();
}

void Retention::BeginRound() {
  catalog_.Refresh();
  ExpireProducers();
  const int64_t now_ms = loop_.WallClockMs();
  for (const Topic* topic : catalog_.topics().All()) {
    const TopicConfig& config = topic->config;
    if (!config.deletes() || (config.retention_ms() < 0 && config.retention_bytes() < 0)) continue;
    const int64_t oldest_ms =
        config.retention_ms() < 0 ? -1 : std::max<int64_t>(now_ms - config.retention_ms(), 0);
    for (Partition* partition : topic->partitions) {
      round_.push_back(
          {partition, {.oldest_ms = oldest_ms, .bytes_max = config.retention_bytes()}});
    }
  }
  GoOn();
}

void Retention::GoOn() {
  for (size_t i = 0; i < kPartitionsPerTurn && !round_.empty(); ++i) {
    const auto [partition, limits] = round_.back();
    round_.pop_back();
    const int64_t keep_from = FirstToKeep(context_.log->spool(), *partition, limits);
    if (keep_from > partition->log_start.load()) Trim(*partition, keep_from);
  }
  if (round_.empty()) return Start();
  timer_ = loop_.After(base::Duration::zero(), [this] { GoOn(); });
}

void Retention::Trim(Partition& partition, int64_t offset) {
  submitter_.Submit(std::make_unique<StateChange>(
      [&partition, offset](spool::Transaction& transaction) {
        transaction.Trim(partition.stream, offset);
      },
      [log = context_.log.get(), &partition, offset](const auto& result) {
        if (result) log->OnTrimmed(partition, offset);  // If not, the next round tries again.
      }));
}

void Retention::ExpireProducers() {
  const int64_t before_ms =
      loop_.WallClockMs() - context_.broker_config.Get()->producer_id_expiration_ms(
                                ToMs(context_.options.producer_id_expiration));
  submitter_.Submit(std::make_unique<StateChange>(
      [log = context_.log.get(), before_ms](spool::Transaction&) {
        log->ExpireProducers(before_ms);
      },
      [](const auto&) {}));
}

}  // namespace holdfast::broker
