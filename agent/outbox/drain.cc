#include "agent/outbox/drain.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/forward_state.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::LogLevel;
using base::Result;

constexpr base::Duration kBackoffMin = std::chrono::milliseconds(100);
constexpr base::Duration kBackoffMax = std::chrono::seconds(10);
// Routes whose topics are not known, or full, are tried again this often, or when the tier said
// something.
constexpr base::Duration kHoldFor = std::chrono::milliseconds(500);
constexpr base::Duration kMeasureEvery = std::chrono::seconds(5);

// Of the rows that are stuck, at a turn.
constexpr size_t kTriedAtOnce = 50;

constexpr base::Duration kLookForDelivery = std::chrono::milliseconds(20);

constexpr std::string_view kComponent = "outbox";

double Seconds(int64_t ms) { return static_cast<double>(ms) / 1000; }

}  // namespace

// While it is there, the source may be in use. One within another changes nothing.
class Drain::Busy {
 public:
  explicit Busy(Drain& drain) : drain_(drain), first_(drain.busy_since_ == 0) {
    if (first_) drain.busy_since_ = std::chrono::steady_clock::now().time_since_epoch().count();
  }
  ~Busy() {
    if (first_) drain_.busy_since_ = 0;
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Drain& drain_;
  const bool first_;
};

std::string Drain::NoteKey(std::string_view name) {
  return std::string(agent::kOutboxPrefix) + std::string(name);
}

void Drain::Taken::Add(const std::vector<agent::StreamEnd>& ends) {
  for (const agent::StreamEnd& one : ends) {
    int64_t& end = ends_[one.stream.value()];
    end = std::max(end, one.end);
  }
}

bool Drain::Taken::Delivered() {
  if (ends_.empty()) return true;
  std::vector<agent::StreamEnd> ends;
  for (const auto& [stream, end] : ends_) ends.push_back({spool::StreamId(stream), end});
  ends = undelivered_(std::move(ends));
  ends_.clear();
  Add(ends);
  return ends_.empty();
}

Drain::Drain(Context context, Options options, Router router, std::unique_ptr<Source> source,
             std::string_view kept)
    : context_(std::move(context)),
      options_(std::move(options)),
      router_(std::move(router)),
      source_(std::move(source)),
      pause_(options_.poll_min),
      self_(std::make_shared<Drain*>(this)),
      connected_(context_.metrics.connected.With(options_.name)),
      taken_rows_(context_.metrics.taken_rows.With(options_.name)),
      quarantined_rows_(context_.metrics.quarantined_rows.With(options_.name)),
      errors_(context_.metrics.errors.With(options_.name)),
      read_seconds_(context_.metrics.read_seconds.With(options_.name)),
      remove_seconds_(context_.metrics.remove_seconds.With(options_.name)) {
  if (kept.empty()) return;
  if (auto note = ParseNote(kept)) {
    note_ = *std::move(note);
    noted_ = !note_.empty();
  } else {
    base::Log(base::Event::kOutboxNoteUnreadable, {kComponent, options_.name},
              "{}; rows of the last batch may be sent twice", note.error().message);
  }
}

Drain::~Drain() { *self_ = nullptr; }

void Drain::Start() {
  context_.loop.Post([self = std::weak_ptr<Drain*>(self_)] {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->Turn();
  });
}

void Drain::Nudge() {
  context_.loop.Post([self = std::weak_ptr<Drain*>(self_)] {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    Drain& drain = **alive;
    drain.pause_ = drain.options_.poll_min;
    drain.empty_ = false;
    if (drain.backoff_ == base::Duration::zero()) drain.Turn();
  });
}

std::optional<std::string> Drain::TroubleOfBusy(int64_t since) const {
  using std::chrono::steady_clock;
  const auto busy = steady_clock::now().time_since_epoch() - steady_clock::duration(since);
  if (since == 0 || busy < options_.busy_after) return std::nullopt;
  return fmt::format(
      "busy for {} s: a service keeps a write transaction open, or the database is slow or does "
      "not answer",
      std::chrono::duration_cast<std::chrono::seconds>(busy).count());
}

Drain::Status Drain::GetStatus() const {
  std::optional<std::string> busy = TroubleOfBusy(busy_since_);
  base::MutexLock lock(mutex_);
  Status status = status_;
  if (busy) status.trouble = *std::move(busy);
  return status;
}

void Drain::TellIfBusy() {
  const int64_t since = busy_since_;
  if (since == told_busy_) return;
  const std::optional<std::string> busy = TroubleOfBusy(since);
  if (!busy) return;
  told_busy_ = since;
  base::Log(base::Event::kOutboxTrouble, {kComponent, options_.name}, "{}", *busy);
}

void Drain::Pause() {
  paused_ = true;
  timer_.Cancel();
  ForgetNote();
}

void Drain::WhenDelivered(base::Task done) {
  if (closed_) return;
  if (!appending_ && context_.taken->Delivered()) return done();
  delivered_timer_ = context_.loop.After(
      kLookForDelivery,
      [this, done = std::move(done)]() mutable { WhenDelivered(std::move(done)); });
}

void Drain::Close(bool handed_over) {
  if (std::exchange(closed_, true)) return;
  Pause();
  delivered_timer_.Cancel();
  const Busy busy(*this);
  if (open_) {
    source_->Close(handed_over && note_.empty() && !appending_ && context_.taken->Delivered());
  }
  connected_.Set(0);
}

void Drain::TurnAfter(base::Duration delay) {
  timer_ = context_.loop.After(delay, [this] { Turn(); });
}

void Drain::Turn() {
  if (paused_ || appending_) return;
  timer_.Cancel();
  const Busy busy(*this);
  const Result<bool> more = TakeSome();
  if (!more) return OnError(more.error());
  backoff_ = {};
  if (appending_) return;
  if (context_.loop.Now() >= noted_gone_ + kForgetAfter) ForgetNote();
  if (*more) {
    pause_ = options_.poll_min;
    return TurnAfter({});
  }
  TurnAfter(pause_);
  pause_ = std::min(2 * pause_, std::max(options_.poll_min, options_.poll_max));
}

Result<bool> Drain::TakeSome() {
  if (!open_) {
    HF_RETURN_IF_ERROR(source_->Open());
    open_ = true;
    empty_ = false;
    connected_.Set(1);
    base::Log(LogLevel::kInfo, {kComponent, options_.name}, "connected");
    Say({});
  }
  if (!note_.empty()) HF_RETURN_IF_ERROR(RemoveNoted());
  HF_RETURN_IF_ERROR(MeasureIfDue());
  HF_RETURN_IF_ERROR(TryStuckIfDue());
  // All that follows is of one moment: of rows that the read passes over, as their topic is not
  // known, those that are behind them must not be placed because it became known meanwhile.
  uint64_t version = 0;
  proxy::ClusterPtr cluster;
  do {
    version = context_.cache.version();
    cluster = context_.cache.cluster();
  } while (context_.cache.version() != version);
  ForgetHeldIfDue(version);
  if (empty_ && !holds()) {
    HF_ASSIGN_OR_RETURN(const bool may, source_->MayHaveMore());
    if (!may) return false;
  }
  std::vector<std::string> held;
  std::ranges::set_union(held_, full_, std::back_inserter(held));
  std::vector<RowId> stuck;
  for (const auto& [position, one] : stuck_) stuck.push_back(one.poison.row);
  const auto begun = std::chrono::steady_clock::now();
  HF_ASSIGN_OR_RETURN(const std::vector<Row> rows, source_->Read(options_.batch_rows, held, stuck));
  read_seconds_.Observe(std::chrono::steady_clock::now() - begun);
  empty_ = rows.empty();
  if (empty_) {
    if (!holds()) Say({});  // What had no room is not there any more.
    return false;
  }
  Router::Placed placed = router_.Place(rows, *cluster, context_.loop.Now(),
                                        context_.loop.WallClockMs(), context_.cache.tier_away());
  if (!placed.held.empty()) {
    held_.merge(placed.held);
    held_of_ = version;
    held_until_ = context_.loop.Now() + kHoldFor;
  }
  full_.merge(placed.full);
  Ask(placed);
  if (placed.batches.empty()) {
    if (placed.poison.empty()) return false;
    HF_RETURN_IF_ERROR(Quarantine(placed.poison));
    return true;
  }
  appending_ = true;
  agent::NotedAppend append{.batches = std::move(placed.batches),
                            .client = "outbox/" + options_.name,
                            .key = NoteKey(options_.name),
                            .note = EncodeNote(RefsOf(placed.spooled))};
  context_.append(
      std::move(append),
      [&loop = context_.loop, self = std::weak_ptr<Drain*>(self_), rows = std::move(placed.spooled),
       poison = std::move(placed.poison)](agent::NotedOutcome outcome) mutable {
        loop.Post([self = std::move(self), outcome = std::move(outcome), rows = std::move(rows),
                   poison = std::move(poison)]() mutable {
          const auto alive = self.lock();
          if (!alive || *alive == nullptr) return;
          const Busy busy(**alive);
          (*alive)->OnAppended(outcome, rows, poison);
        });
      });
  return true;
}

void Drain::ForgetHeldIfDue(uint64_t version) {
  if (!holds()) return;
  if (held_of_ == version && context_.loop.Now() < held_until_) return;
  held_.clear();
  full_.clear();
  router_.Unlimit();
  empty_ = false;  // The last read passed over theirs.
}

// What fits is placed anew. Somebody else may take that room meanwhile.
void Drain::OnNoRoom(const agent::NotedOutcome& outcome) {
  if (!holds()) {
    held_of_ = context_.cache.version();
    held_until_ = context_.loop.Now() + kHoldFor;
  }
  const bool again = router_.limited();
  if (!again) Say(outcome.result.error().message);
  // Which routes are held back follows from the new limits: what is behind their rows, of other
  // routes to the same topic, must not go first.
  full_.clear();
  router_.Limit(outcome.topics, outcome.client);
  if (!paused_) TurnAfter(again ? kBackoffMin : base::Duration::zero());
}

void Drain::OnAppended(const agent::NotedOutcome& outcome, const std::vector<RowId>& rows,
                       const std::vector<Source::Poison>& poison) {
  appending_ = false;
  if (!outcome.result) {
    // Nothing of it is stored.
    if (outcome.topics.empty() && !outcome.client) return OnError(outcome.result.error());
    return OnNoRoom(outcome);
  }
  note_ = RefsOf(rows);
  noted_ = true;
  context_.taken->Add(outcome.ends);
  taken_rows_.Add(note_.size());
  {
    base::MutexLock lock(mutex_);
    status_.taken_rows += note_.size();
  }
  if (closed_) return;
  // Not together: what the quarantine refuses must not keep the others from being removed.
  if (const auto removed = Remove(rows, {}); !removed) return OnError(removed.error());
  if (const Result<> moved = Quarantine(poison); !moved) return OnError(moved.error());
  OnNotedGone();
  if (!router_.limited()) Say({});
  pause_ = options_.poll_min;
  Turn();
}

void Drain::OnNotedGone() {
  note_.clear();
  noted_gone_ = context_.loop.Now();
  if (paused_) ForgetNote();
}

// Not erased: Outboxes takes a spool without notes for a new one.
void Drain::ForgetNote() {
  if (!noted_ || appending_ || !note_.empty()) return;
  noted_ = false;
  context_.append({.key = NoteKey(options_.name), .note = EncodeNote({})},
                  [&loop = context_.loop, self = std::weak_ptr<Drain*>(self_)](
                      const agent::NotedOutcome& outcome) mutable {
                    if (outcome.result) return;
                    loop.Post([self = std::move(self)] {
                      const auto alive = self.lock();
                      if (!alive || *alive == nullptr) return;
                      Drain& drain = **alive;
                      drain.noted_ = true;  // It is tried again, unless there is a newer one.
                      drain.noted_gone_ = drain.context_.loop.Now();
                    });
                  });
}

// What the note names and is still there.
Result<void> Drain::RemoveNoted() {
  std::vector<int64_t> positions;
  positions.reserve(note_.size());
  for (const RowRef& row : note_) positions.push_back(row.position);
  HF_ASSIGN_OR_RETURN(std::vector<RowId> found, source_->Find(positions));
  std::erase_if(found, [this](const RowId& row) {
    return std::ranges::find(note_, RefOf(row)) == note_.end();
  });
  if (!found.empty()) {
    base::Log(LogLevel::kInfo, {kComponent, options_.name},
              "removing {} rows that are in the spool already", found.size());
    HF_RETURN_IF_ERROR(Remove(found, {}));
  }
  OnNotedGone();
  return {};
}

Result<Source::Refusal> Drain::Remove(std::span<const RowId> spooled,
                                      std::span<const Source::Poison> poison) {
  const auto begun = std::chrono::steady_clock::now();
  HF_ASSIGN_OR_RETURN(Source::Refusal refusal, source_->Remove(spooled, poison));
  if (!refusal.empty()) return refusal;
  remove_seconds_.Observe(std::chrono::steady_clock::now() - begun);
  std::erase_if(lowest_, [&](const auto& part) {
    const int64_t at = part.second.position;
    const auto is_at = [at](const RowId& row) { return row.position == at; };
    return std::ranges::any_of(spooled, is_at) ||
           std::ranges::any_of(poison, is_at, &Source::Poison::row);
  });
  return refusal;
}

// Of several that are refused it is not known which ones are, so all are passed over until each was
// tried.
Result<void> Drain::Quarantine(std::span<const Source::Poison> poison) {
  if (poison.empty()) return {};
  HF_ASSIGN_OR_RETURN(const Source::Refusal refusal, Remove({}, poison));
  if (refusal.empty()) {
    for (const Source::Poison& one : poison) stuck_.erase(one.row.position);
    OnPoison(poison);
    SayStuck();
    return {};
  }
  const bool alone = poison.size() == 1;
  const Stuck how{.refusal = alone ? refusal : Source::Refusal(),
                  .again = context_.loop.Now() + (alone ? kTryStuckEvery : base::Duration::zero())};
  bool room = false;
  for (const Source::Poison& one : poison) {
    if (stuck_.size() >= kStuckMost && !stuck_.contains(one.row.position)) break;
    Stuck& stuck = stuck_[one.row.position];
    stuck = how;
    stuck.poison = one;
    room = true;
  }
  SayStuck();
  if (room) return {};
  return base::Unexpected(
      Code::kInvalid,
      fmt::format("{} rows that can be no records are not taken by the quarantine either, and no "
                  "more than that are passed over: {}",
                  kStuckMost, refusal));
}

Result<void> Drain::TryStuckIfDue() {
  const base::TimePoint now = context_.loop.Now();
  std::vector<Source::Poison> due;
  std::vector<int64_t> left;
  for (auto& [position, one] : stuck_) {
    if (one.again > now) continue;
    // None of them comes before others again if one fails, as when the quarantine is locked.
    one.again = now + kTryStuckEvery;
    if (due.size() < kTriedAtOnce) {
      due.push_back(one.poison);
    } else {
      left.push_back(position);
    }
  }
  for (const Source::Poison& one : due) HF_RETURN_IF_ERROR(Quarantine({&one, 1}));
  for (const int64_t position : left) {
    if (const auto one = stuck_.find(position); one != stuck_.end()) one->second.again = now;
  }
  return {};
}

// The log hears of the first one, until none is left.
void Drain::SayStuck() {
  const auto tried = [](const auto& one) { return !one.second.refusal.empty(); };
  const auto lowest = std::ranges::find_if(stuck_, tried);
  const bool any = lowest != stuck_.end();
  base::MutexLock lock(mutex_);
  if (any && status_.stuck_rows == 0) {
    base::Log(base::Event::kRowStuck, {kComponent, options_.name}, "at {} ({}): {}", lowest->first,
              lowest->second.poison.reason, lowest->second.refusal);
  }
  status_.stuck_rows = static_cast<uint64_t>(std::ranges::count_if(stuck_, tried));
  status_.stuck_reason = any ? lowest->second.refusal : "";
}

void Drain::OnPoison(std::span<const Source::Poison> poison) {
  if (poison.empty()) return;
  quarantined_rows_.Add(poison.size());
  base::Log(base::Event::kRowsQuarantined, {kComponent, options_.name},
            "{} rows moved to the quarantine; at {}: {}", poison.size(),
            poison.front().row.position, poison.front().reason);
  base::MutexLock lock(mutex_);
  status_.quarantined_rows += poison.size();
}

void Drain::Ask(const Router::Placed& placed) {
  for (const std::string& topic : placed.unknown_topics) context_.want_topic(topic);
  for (const std::string& topic : placed.unknown_settings) context_.want_settings(topic);
  base::MutexLock lock(mutex_);
  status_.held.assign(held_.begin(), held_.end());
}

// Of rows without timestamps: since when the lowest one has been seen there. It has waited for that
// long at least. A table may give the position of a row that is gone to the next one.
std::optional<int64_t> Drain::WaitsSince(const Source::Lag::Part& part) {
  if (!part.lowest) {
    lowest_.erase(part.partition);
    return std::nullopt;
  }
  const Lowest now{*part.lowest, context_.loop.WallClockMs()};
  Lowest& lowest = lowest_.try_emplace(part.partition, now).first->second;
  if (lowest.position != now.position) lowest = now;
  return lowest.since_ms;
}

Result<void> Drain::MeasureIfDue() {
  const base::TimePoint now = context_.loop.Now();
  if (measured_ != base::TimePoint() && now < measured_ + kMeasureEvery) return {};
  base::Result<Source::Lag> measured = source_->Measure();
  measured_ = context_.loop.Now();  // Or what always takes longer would leave no time to read.
  HF_ASSIGN_OR_RETURN(Source::Lag lag, std::move(measured));
  uint64_t waiting = 0;
  uint64_t foreign = 0;
  std::optional<int64_t> oldest_ms;
  for (Source::Lag::Part& part : lag.parts) {
    (part.owned ? waiting : foreign) += part.rows;
    if (!part.owned && !owned_once_.contains(part.partition)) continue;
    metrics::Gauge& lag_seconds = context_.metrics.partition_lag_seconds.With(
        fmt::format("{}/{}", options_.name, part.partition));
    if (!part.owned) {  // Who owns it now tells of it.
      lag_seconds.Set(0);
      continue;
    }
    owned_once_.insert(part.partition);
    if (!part.oldest_ms) part.oldest_ms = WaitsSince(part);
    const int64_t lag_ms =
        part.oldest_ms ? std::max<int64_t>(context_.loop.WallClockMs() - *part.oldest_ms, 0) : 0;
    lag_seconds.Set(Seconds(lag_ms));
    if (part.oldest_ms && (!oldest_ms || *part.oldest_ms < *oldest_ms)) oldest_ms = part.oldest_ms;
  }
  context_.metrics.waiting_rows.With(options_.name).Set(static_cast<double>(waiting));
  context_.metrics.foreign_rows.With(options_.name).Set(static_cast<double>(foreign));
  context_.metrics.quarantine_rows.With(options_.name).Set(static_cast<double>(lag.quarantined));
  context_.metrics.oldest_row_timestamp_seconds.With(options_.name)
      .Set(Seconds(oldest_ms.value_or(0)));
  base::MutexLock lock(mutex_);
  if (lag.without_position > 0 && status_.lag.without_position == 0) {
    base::Log(base::Event::kOutboxTrouble, {kComponent, options_.name},
              "{} rows have no integer as their position, and are never sent: insert them anew "
              "with one, and let the column take nothing else (INTEGER PRIMARY KEY AUTOINCREMENT)",
              lag.without_position);
  }
  status_.lag = std::move(lag);
  return {};
}

void Drain::OnError(const base::Error& error) {
  // The spool says kFull; the source is not to blame and stays open.
  if (error.code != Code::kFull) {
    errors_.Add();
    if (std::exchange(open_, false)) source_->Close(/*clean=*/false);
    connected_.Set(0);
  }
  Say(error.message);
  if (paused_) return;
  backoff_ = std::clamp(2 * backoff_, kBackoffMin, kBackoffMax);
  TurnAfter(backoff_);
}

void Drain::Say(std::string trouble) {
  base::MutexLock lock(mutex_);
  status_.connected = open_;
  if (trouble != status_.trouble && !trouble.empty()) {
    base::Log(base::Event::kOutboxTrouble, {kComponent, options_.name}, "{}", trouble);
  }
  status_.trouble = std::move(trouble);
}

}  // namespace holdfast::outbox
