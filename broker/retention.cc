#include "broker/retention.h"

#include <algorithm>

#include "base/log.h"
#include "broker/entries.h"
#include "broker/milliseconds.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {
namespace {

constexpr size_t kPartitionsPerTurn = 16;

// So many stretches make up what may stay; up to one more does.
constexpr uint64_t kStretches = 1024;

}  // namespace

// The end before anything is looked at: what comes later was in nobody's sight.
FirstToKeep::FirstToKeep(spool::Spool& spool, const Partition& partition,
                         const RetentionLimits& limits)
    : spool_(spool),
      partition_(partition),
      end_(partition.high_watermark.load()),
      bytes_max_(static_cast<uint64_t>(std::max<int64_t>(limits.bytes_max, 0))),
      keep_from_(partition.log_start.load()),
      done_(limits.bytes_max < 0) {
  if (limits.oldest_ms >= 0) {
    const auto found = spool.FindByTime(partition.stream, limits.oldest_ms, 0);
    if (!found) done_ = true;
    if (found) keep_from_ = std::max(keep_from_, *found ? (*found)->base_offset : end_);
  }
  reached_ = keep_from_;
}

void FirstToKeep::Look() {
  const Walked walked =
      WalkSomeEntries(spool_, partition_.stream, std::max(reached_, partition_.log_start.load()),
                      end_, [this](const spool::EntryInfo& entry) {
                        if (newest_.empty() || newest_.back().bytes >= bytes_max_ / kStretches) {
                          newest_.emplace_back();
                        }
                        newest_.back().end_offset = entry.end_offset();
                        newest_.back().bytes += entry.bytes;
                        bytes_ += entry.bytes;
                        while (!newest_.empty() && bytes_ - newest_.front().bytes >= bytes_max_) {
                          bytes_ -= newest_.front().bytes;
                          keep_from_ = newest_.front().end_offset;
                          newest_.pop_front();
                        }
                        return true;
                      });
  reached_ = walked.offset;
  done_ = walked.stopped;
}

void Retention::Start() {
  timer_ = loop_.After(context_.options.retention_check_interval, [this] { BeginRound(); });
}

void Retention::Stop() {
  timer_.Cancel();
  looking_.reset();
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
    if (!looking_) looking_.emplace(context_.log->spool(), *partition, limits);
    if (!looking_->done()) looking_->Look();
    if (!looking_->done()) break;
    if (looking_->offset() > partition->log_start.load()) Trim(*partition, looking_->offset());
    looking_.reset();
    round_.pop_back();
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
