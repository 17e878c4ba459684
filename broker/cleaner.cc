#include "broker/cleaner.h"

#include <algorithm>
#include <set>

#include "base/event.h"
#include "base/log.h"
#include "broker/cleaner_round.h"
#include "broker/entries.h"
#include "broker/topic_changes.h"

namespace holdfast::broker {
namespace {

// After the open segment was sealed for a round.
constexpr base::Duration kSealedDelay = std::chrono::milliseconds(200);
// After a round that met a damaged segment: all that is due is read again, until it is repaired.
constexpr base::Duration kDamagedDelay = std::chrono::minutes(5);
// For so long a round may wait that gains little.
constexpr int64_t kPatienceMs = 600'000;

}  // namespace

void Cleaner::Start() { RunAfter(context_.options.compaction.interval); }

void Cleaner::Stop() {
  Interrupt();
  timer_.Cancel();
}

void Cleaner::RunAfter(base::Duration delay) {
  if (!stop_.IsSet()) timer_ = executor_.After(delay, [this] { Run(); });
}

void Cleaner::Run() {
  if (stop_.IsSet()) return;
  bool seal = false;
  std::vector<Due> due = FindDue(&seal);
  const bool sealed = std::exchange(sealed_, false);
  if (seal && !sealed) {
    // What is in the open segment comes along with the rest.
    sealed_ = true;
    context_.log->spool().SealSoon();
    return RunAfter(kSealedDelay);
  }
  RunAfter(due.empty() ? context_.options.compaction.interval : Compact(std::move(due)));
}

std::vector<Cleaner::Due> Cleaner::FindDue(bool* seal) {
  std::vector<Due> due;
  std::set<const Partition*> known;
  const std::shared_ptr<const Topics> topics = context_.catalog.Get();
  for (const Topic* topic : topics->All()) {
    if (!topic->config.compacted()) continue;
    for (Partition* partition : topic->partitions) {
      if (stop_.IsSet()) return {};
      known.insert(partition);
      Look(topics, *topic, *partition, &due, seal);
    }
  }
  std::erase_if(progress_, [&](const auto& entry) { return !known.contains(entry.first); });
  std::ranges::stable_sort(due, [](const Due& a, const Due& b) {
    return a.overdue != b.overdue ? a.overdue : a.ratio > b.ratio;
  });
  return due;
}

void Cleaner::Look(const std::shared_ptr<const Topics>& topics, const Topic& topic,
                   Partition& partition, std::vector<Due>* due, bool* seal) {
  spool::Spool& spool = context_.log->spool();
  const TopicConfig& config = topic.config;
  const int64_t now_ms = executor_.WallClockMs();
  const int64_t end = partition.last_stable_offset.load();
  const int64_t start = partition.log_start.load();
  if (end <= start) return;
  // The start may lie in the open segment.
  const int64_t sealed_end = std::clamp(spool.SealedEnd(partition.stream), start, end);
  const int64_t last_end = partition.high_watermark.load();
  const auto too_young = [&](const spool::EntryInfo& entry) {
    return now_ms - entry.commit_time_ms < config.min_compaction_lag_ms();
  };
  const auto overdue = [&](int64_t arrived_ms) {
    return arrived_ms >= 0 && now_ms - arrived_ms >= config.max_compaction_lag_ms();
  };

  Progress& progress = progress_[&partition];
  // The start may pass what was compacted, and not what was counted behind that.
  if (std::min(progress.counted_to, progress.cleaned_to) < start) {
    progress = {.used_last_batch = progress.used_last_batch};
    progress.cleaned_to = std::max(partition.cleaned_to.load(), start);
    progress.counted_to = start;
  }
  progress.counted_to = WalkEntries(
      spool, partition.stream, progress.counted_to, sealed_end, [&](const spool::EntryInfo& entry) {
        if (entry.base_offset < progress.cleaned_to) {
          progress.clean_bytes += entry.bytes;
          return true;
        }
        if (too_young(entry)) return false;
        if (entry.base_offset == progress.used_last_batch && entry.end_offset() == last_end) {
          return false;
        }
        progress.dirty_bytes += entry.bytes;
        if (progress.first_dirty_ms < 0) {
          progress.first_dirty_ms = entry.commit_time_ms;
        }
        return true;
      });
  uint64_t open_bytes = 0;
  int64_t first_open_ms = -1;
  if (progress.counted_to == sealed_end) {
    WalkEntries(spool, partition.stream, sealed_end, end, [&](const spool::EntryInfo& entry) {
      if (too_young(entry)) return false;
      open_bytes += entry.bytes;
      if (first_open_ms < 0) first_open_ms = entry.commit_time_ms;
      return true;
    });
  }
  const auto ratio = [&progress](uint64_t dirty_bytes) {
    const auto dirty = static_cast<double>(dirty_bytes);
    return dirty / (dirty + static_cast<double>(progress.clean_bytes));
  };
  const bool open_is_due =
      open_bytes != 0 &&
      (now_ms - first_open_ms >= config.segment_ms() ||
       open_bytes >= static_cast<uint64_t>(config.segment_bytes()) || overdue(first_open_ms));
  if (open_is_due && (overdue(first_open_ms) || ratio(progress.dirty_bytes + open_bytes) >
                                                    config.min_cleanable_dirty_ratio())) {
    *seal = true;
  }
  if (progress.dirty_bytes == 0) return;
  Due found{.topics = topics,
            .config = &config,
            .partition = &partition,
            .from = progress.cleaned_to,
            .to = progress.counted_to,
            .ratio = ratio(progress.dirty_bytes),
            .overdue = overdue(progress.first_dirty_ms)};
  if (found.overdue || found.ratio > config.min_cleanable_dirty_ratio()) {
    due->push_back(std::move(found));
  }
}

base::Duration Cleaner::Compact(std::vector<Due> due) {
  const base::Duration interval = context_.options.compaction.interval;
  const int64_t now_ms = executor_.WallClockMs();
  const bool patient = !postponed_since_ms_ || now_ms - *postponed_since_ms_ < kPatienceMs;
  const bool overdue = std::ranges::any_of(due, &Due::overdue);
  CompactionRound round(context_, {.now_ms = now_ms, .at_any_price = overdue || !patient}, stop_);
  const auto on_failure = [this](const base::Error& error) {
    base::Log(base::Event::kNotCompacted, "broker", "cannot compact, and will try again: {}",
              error.message);
    context_.metrics.compactions.With("failed").Add();
  };
  base::Duration wait = interval;
  for (const Due& one : due) {
    const auto added = round.Add(*one.partition, *one.config, one.from, one.to);
    if (!added) {  // The others need not wait for it.
      on_failure(added.error());
      if (added.error().code == base::Code::kCorrupt) wait = std::max(interval, kDamagedDelay);
    } else if (!*added) {
      break;
    }
  }
  const auto report = round.Run();
  if (!report) {
    if (report.error().code == base::Code::kClosed) return interval;
    on_failure(report.error());
    if (report.error().code != base::Code::kCorrupt) return interval;
    return std::max(interval, kDamagedDelay);
  }
  if (!report->done) {
    if (!postponed_since_ms_) postponed_since_ms_ = now_ms;
    context_.metrics.compactions.With("postponed").Add();
    return interval;
  }
  postponed_since_ms_.reset();
  context_.metrics.compactions.With("done").Add();
  for (const CompactionRound::Compacted& one : round.compacted()) {
    progress_[one.partition] = {.used_last_batch = one.last_batch};
    Note(*one.partition, one.to);
  }
  return wait;
}

// So that it need not be done again after a restart. If this is lost, it is.
void Cleaner::Note(Partition& partition, int64_t to) {
  partition.cleaned_to = to;
  std::unique_ptr<spool::Operation> note = std::make_unique<StateChange>(
      [&partition, to](spool::Transaction& transaction) {
        if (!partition.deleted) transaction.Put(CleanedKey(partition.id), EncodeCleaned(to));
      },
      [](const auto&) {});
  (void)context_.log->spool().Submit(note);
}

}  // namespace holdfast::broker
