#include "broker/retention.h"

#include <algorithm>

#include "base/log.h"
#include "broker/entries.h"
#include "broker/milliseconds.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {
namespace {

constexpr size_t kPartitionsPerTurn = 16;

int64_t FirstWithin(spool::Spool& spool, const Partition& partition, int64_t end,
                    uint64_t bytes_max) {
  const int64_t start = partition.log_start.load();
  uint64_t total = 0;
  WalkEntries(spool, partition.stream, start, end, [&](const spool::EntryInfo& entry) {
    total += entry.bytes;
    return true;
  });
  int64_t keep_from = start;
  WalkEntries(spool, partition.stream, start, end, [&](const spool::EntryInfo& entry) {
    if (total < bytes_max + entry.bytes) return false;
    total -= entry.bytes;
    keep_from = entry.end_offset();
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
