#include "spool/writer.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"
#include "spool/staging.h"

namespace holdfast::spool {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kProgressReserveMin = uint64_t{64} << 10;
constexpr uint64_t kProgressReserveMax = uint64_t{4} << 20;
// Of the changes that operations without entries make in one commit.
constexpr uint64_t kChangesAllowance = uint64_t{32} << 10;
// A frame must stay below 4 GiB whatever its table of contents takes.
constexpr size_t kOperationBytesMax = size_t{1} << 30;

Options Within(Options options, uint64_t segment_bytes) {
  options.commit_bytes_max =
      std::min(options.commit_bytes_max, static_cast<size_t>(segment_bytes / 8));
  return options;
}

}  // namespace

Writer::Writer(const Options& options, const Directory& directory, Owner& owner,
               base::Executor& executor, Catalog& catalog, std::shared_ptr<SegmentStore> store)
    : options_(Within(options, store->segment_bytes())),
      directory_(directory),
      owner_(owner),
      executor_(executor),
      catalog_(catalog),
      store_(std::move(store)),
      metrics_(store_->metrics()),
      progress_reserve_(
          std::clamp(store_->segment_bytes() / 64, kProgressReserveMin, kProgressReserveMax)) {}

bool Writer::Submit(std::unique_ptr<Operation>& operation) {
  const size_t bytes = operation->Bytes();
  {
    const base::MutexLock lock(mutex_);
    if (closed_) return false;
    // An empty queue takes anything, or a large operation would never get in.
    if (bytes != 0 && queued_bytes_ != 0 && queued_bytes_ + bytes > options_.queue_bytes_max) {
      metrics_.refused.With("queue_full").Add();
      return false;
    }
    queue_.push_back({std::move(operation), bytes, std::nullopt});
    queued_bytes_ += bytes;
    ++queued_operations_;
    ReportQueue();
    if (std::exchange(turn_posted_, true)) return true;
  }
  PostTurn();
  return true;
}

void Writer::ReportQueue() {
  metrics_.queue_bytes.Set(static_cast<double>(queued_bytes_));
  metrics_.queue_operations.Set(static_cast<double>(queued_operations_));
}

Writer::Intake Writer::GetIntake() const {
  const base::MutexLock lock(mutex_);
  Intake intake = intake_;
  intake.queued_bytes = queued_bytes_;
  if (closed_) {
    intake.accepting = false;
    intake.refusing_because = "the spool is closed";
  }
  return intake;
}

void Writer::PostTurn() {
  executor_.Post([self = shared_from_this()] { self->Turn(); });
}

void Writer::Turn() {
  if (stopped_) return;
  TakeTurn();
  {
    const base::MutexLock lock(mutex_);
    turn_posted_ = !queue_.empty() || !backlog_.empty();
    if (!turn_posted_) return;
  }
  // One commit a turn, so that other work of this executor gets its time.
  PostTurn();
}

void Writer::TakeTurn() {
  if (mode_ == Mode::kFailing) return RefuseBacklog(refusal_);
  if (!RefillBacklog()) return;
  Commit commit;
  commit.begun = SteadyClock::now();
  commit.entries.reserve(entries_expected_);
  commit.news.entries.reserve(entries_expected_);
  commit.time_ms = executor_.WallClockMs();
  Stage(commit);
  if (segment_error_) {
    const base::Error error = *std::exchange(segment_error_, std::nullopt);
    return Fail(std::move(commit), error);
  }
  if (!commit.operations.empty()) Write(std::move(commit));
}

// Says whether there is anything to do.
bool Writer::RefillBacklog() {
  if (!backlog_.empty()) return true;
  const base::MutexLock lock(mutex_);
  backlog_.swap(queue_);
  return !backlog_.empty();
}

void Writer::Stage(Commit& commit) {
  Staging staging(state_, commit);
  // Of a full spool. Smaller ones might still fit, but would overtake: who submits learns of it
  // with this commit.
  std::optional<base::Error> full;
  while (!backlog_.empty()) {
    Taken& next = backlog_.front();
    if (!commit.empty() && std::max(commit.entry_bytes + next.bytes, commit.changes.size()) >
                               options_.commit_bytes_max)
      return;
    const base::Result<bool> room = full && next.bytes != 0
                                        ? base::Result<bool>(base::Unexpected(*full))
                                        : MakeRoom(commit, next.bytes);
    if (!room) {
      if (segment_error_) return;
      if (mode_ == Mode::kFull && room.error().code == base::Code::kFull &&
          room.error().event != base::Event::kTooLargeForSpool)
        full = refusal_;
      next.refused = room.error();
      metrics_.refused.With(base::CodeName(room.error().code)).Add();
    } else if (!*room) {
      return;
    } else {
      staging.set_budget(next.bytes);
      next.operation->Apply(staging);
    }
    commit.operations.push_back(std::move(next));
    backlog_.pop_front();
    // One that is refused alone: who submitted it learns of it before those behind it are applied,
    // and may hold back what must not overtake it.
    if (!room && !full) return;
  }
}

// Of a segment.
uint64_t Writer::BytesNeeded(const Commit& staged, size_t bytes) const {
  // Twice, since each entry also takes a line in the table of contents.
  return staged.FrameBytesMax() + uint64_t{bytes} * 2 + kChangesAllowance +
         (bytes != 0 ? progress_reserve_ : 0);
}

void Writer::ReportOperationBytesMax() {
  const uint64_t least = SegmentHolds(0);
  const uint64_t beside = least + BytesNeeded({}, 1);
  const uint64_t most = store_->SegmentBytesMax(least);
  uint64_t bytes = kOperationBytesMax;
  if (!store_->NeverFits(least, least))
    bytes = std::min(bytes, (most - std::min(most, beside)) / 2);
  const base::MutexLock lock(mutex_);
  intake_.operation_bytes_max = bytes;
}

// Whether an operation of so many entry bytes fits behind what is staged. If nothing is, a new
// segment is begun where that helps, so the answer is yes or why not.
base::Result<bool> Writer::MakeRoom(const Commit& staged, size_t bytes) {
  if (bytes > kOperationBytesMax)
    return base::Unexpected(base::Code::kInvalid,
                            "an operation of " + std::to_string(bytes) + " bytes; at most " +
                                std::to_string(kOperationBytesMax) + " fit into one commit");
  const uint64_t needed = BytesNeeded(staged, bytes);
  // A segment that was begun because the spool is full is not for entries.
  const bool suitable = bytes == 0 || purpose_ == Purpose::kEntries;
  if (suitable && needed <= file_->RoomBytes(*index_)) return true;
  if (!staged.empty()) return false;
  if (bytes != 0 && NeverFits(needed))
    return base::Unexpected(base::Code::kFull,
                            directory_.path() + ": an operation of " + std::to_string(bytes) +
                                " bytes is too large for a spool of at most " +
                                std::to_string(store_->bytes_max()) +
                                "; send less at once, or raise the limit",
                            base::Event::kTooLargeForSpool);
  const Purpose purpose = bytes != 0 ? Purpose::kEntries : Purpose::kProgress;
  if (purpose == Purpose::kEntries && mode_ == Mode::kFull) return base::Unexpected(refusal_);
  base::Result<void> rolled = Roll(purpose, needed);
  if (rolled) return true;
  if (purpose == Purpose::kEntries) RefuseEntries(needed, rolled.error());
  return base::Unexpected(std::move(rolled).error());
}

// For which there is no segment that holds `needed`. Nothing that is done about it changes why they
// are refused.
void Writer::RefuseEntries(uint64_t needed, base::Error& because) {
  if (store_->CheckSpace(SegmentHolds(needed)) || !store_->CheckSpace(SegmentHolds(0))) {
    SetMode(Mode::kFull, because);
    RetryLater(std::chrono::seconds(1));
  } else if (because.code == base::Code::kFull) {
    because.event = base::Event::kNoRoomForLarge;
  }
  if (because.code == base::Code::kFull && !segment_error_) {
    const base::Result<void> left = LeaveIfTrimmed(SegmentHolds(needed));
    if (!left && !segment_error_) ReportNotRolled(left);
  }
  MakeRoomSoon();
}

void Writer::Write(Commit commit) {
  if (commit.empty()) return Answer(commit, durable_);
  commit.number = durable_.next();
  commit.news.commit = commit.number;
  commit.news.entry_bytes = commit.entry_bytes;
  entries_expected_ = commit.entries.size();
  for (CommitNews::Entry& entry : commit.news.entries)
    entry.place.frame =
        static_cast<uint32_t>(commit.number.value() - segment_->first_commit.value());
  const uint64_t frame_bytes = commit.FrameBytesMax();
  const auto begun = SteadyClock::now();
  if (frame_bytes > file_->RoomBytes(*index_)) {
    // Operations changed more state than anybody could foresee. They are asked to come again, and
    // find a segment that is large enough.
    segment_bytes_min_ = 2 * frame_bytes;
    Fail(std::move(commit), {base::Code::kUnavailable,
                             directory_.path() + ": a commit of " + std::to_string(frame_bytes) +
                                 " bytes does not fit into the segment; try again"});
    return;
  }
  base::Result<void> written = file_->Append({.commit = commit.number,
                                              .commit_time_ms = commit.time_ms,
                                              .entries = commit.entries,
                                              .changes = commit.changes});
  if (written) written = file_->Sync();
  if (!written) {
    Fail(std::move(commit), written.error());
    return;
  }
  metrics_.sync_seconds.Observe(SteadyClock::now() - begun);
  if (!next_prepared_ && file_->RoomBytes(*index_) < file_->map_bytes() / 2) {
    next_prepared_ = true;
    store_->PrepareSoon();
  }
  Complete(std::move(commit));
}

void Writer::Complete(Commit commit) {
  const base::WakeBatch answers;
  durable_ = commit.number;
  if (!commit.entries.empty()) ++entry_commits_;
  const std::vector<StreamId> streams = catalog_.Publish(commit.news);
  metrics_.commits.Add();
  metrics_.appended_records.Add(commit.record_count);
  metrics_.appended_bytes.Add(commit.entry_bytes);
  metrics_.commit_bytes.Observe(static_cast<double>(commit.entry_bytes));
  metrics_.commit_entries.Observe(static_cast<double>(commit.entries.size()));
  metrics_.commit_seconds.Observe(SteadyClock::now() - commit.begun);
  if (!streams.empty()) owner_.OnDurable(streams);
  if (!commit.news.trims.empty()) {
    if (catalog_.segments()->size() > 1) store_->SweepSoon();
    if (LargeAndTrimmed()) LeaveLargeSoon();
  }
  Answer(commit, commit.number);
}

void Writer::Answer(Commit& commit, const base::Result<CommitNumber>& result) {
  size_t bytes = 0;
  for (const Taken& taken : commit.operations) bytes += taken.bytes;
  {
    const base::MutexLock lock(mutex_);
    queued_bytes_ -= bytes;
    queued_operations_ -= commit.operations.size();
    ReportQueue();
  }
  for (Taken& taken : commit.operations) {
    if (taken.refused) {
      taken.operation->Done(base::Unexpected(*std::move(taken.refused)));
    } else {
      taken.operation->Done(result);
    }
    taken.operation.reset();
  }
}

// All that waits, though what their callbacks submit is for a later turn.
void Writer::RefuseBacklog(const base::Error& error) {
  Commit refused;
  std::move(backlog_.begin(), backlog_.end(), std::back_inserter(refused.operations));
  backlog_.clear();
  {
    const base::MutexLock lock(mutex_);
    std::move(queue_.begin(), queue_.end(), std::back_inserter(refused.operations));
    queue_.clear();
  }
  metrics_.refused.With(base::CodeName(error.code)).Add(refused.operations.size());
  Answer(refused, base::Unexpected(error));
}

void Writer::Close() {
  {
    const base::MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
  }
  if (executor_.InLoop()) return CloseOnExecutor();

  // An executor that has stopped destroys the task unrun; then nobody else runs here any more.
  struct Progress {
    std::mutex mutex;
    std::condition_variable changed;
    bool ran = false;
    bool gone = false;
  };
  struct Ticket {
    std::shared_ptr<Progress> progress;
    explicit Ticket(std::shared_ptr<Progress> p) : progress(std::move(p)) {}
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (!progress) return;
      const std::lock_guard lock(progress->mutex);
      progress->gone = true;
      progress->changed.notify_all();
    }
  };
  const auto progress = std::make_shared<Progress>();
  executor_.Post([self = shared_from_this(), ticket = Ticket(progress)] {
    self->CloseOnExecutor();
    const std::lock_guard lock(ticket.progress->mutex);
    ticket.progress->ran = true;
  });
  std::unique_lock lock(progress->mutex);
  progress->changed.wait(lock, [&] { return progress->gone; });
  if (!progress->ran) CloseOnExecutor();
}

void Writer::CloseOnExecutor() {
  while (RefillBacklog()) TakeTurn();
  stopped_ = true;
  retry_timer_.Cancel();
  removal_timer_.Cancel();
  outdated_timer_.Cancel();
  file_.reset();
  index_.reset();
  segment_.reset();
}

}  // namespace holdfast::spool
