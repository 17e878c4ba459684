// The rest of Writer: moving from segment to segment, and trouble.
#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"
#include "spool/staging.h"
#include "spool/writer.h"

namespace holdfast::spool {
namespace {

constexpr base::Duration kRetryDelayMax = std::chrono::seconds(5);

}  // namespace

// What a segment must hold for the state and a frame of `bytes_min`.
uint64_t Writer::SegmentHolds(uint64_t bytes_min) const {
  const uint64_t older = catalog_.segments()->size() * kSegmentChangeBytes;
  return std::max(bytes_min, segment_bytes_min_) + SegmentFile::BytesToBegin(state_, older);
}

// Though others do: where the state alone is too large, that may pass.
bool Writer::NeverFits(uint64_t bytes_min) const {
  const uint64_t least = SegmentHolds(0);
  return store_->NeverFits(SegmentHolds(bytes_min), least) && !store_->NeverFits(least, least);
}

// From the segment that is being written to a new one.
base::Result<void> Writer::Roll(Purpose purpose, uint64_t bytes_min) {
  HF_ASSIGN_OR_RETURN(SegmentStore::Next next, store_->Take(purpose, SegmentHolds(bytes_min)));
  return BeginSegment(std::move(next), purpose);
}

// A full spool still starts, and records progress.
base::Result<void> Writer::RollToAny() {
  base::Result<void> rolled = Roll(Purpose::kEntries, 0);
  if (!rolled && rolled.error().code == base::Code::kFull) rolled = Roll(Purpose::kProgress, 0);
  return rolled;
}

void Writer::SealSoon() {
  executor_.Post([self = shared_from_this()] {
    if (self->stopped_ || self->mode_ != Mode::kRunning || self->index_->entries() == 0) return;
    self->OnRolledEarly(self->Roll(Purpose::kEntries, 0));
  });
}

// The open one has room, so nothing depends on it.
void Writer::OnRolledEarly(const base::Result<void>& rolled) {
  if (rolled) return;
  if (segment_error_) return Fail(std::nullopt, *std::exchange(segment_error_, std::nullopt));
  ReportNotRolled(rolled);
}

void Writer::ReportNotRolled(const base::Result<void>& rolled) const {
  if (rolled.error().code == base::Code::kFull) return;
  base::Log(base::Event::kSegmentNotBegun, "spool", "cannot begin a segment early: {}",
            rolled.error().message);
}

// Whether nobody needs an entry of the open segment any more.
bool Writer::AllIsTrimmed() const {
  bool all = true;
  (void)index_->ForEach([&](StreamId id, const std::vector<Place>&) -> base::Result<void> {
    const StreamState& stream = state_.stream(id);
    all = all && stream.start >= stream.end;
    return {};
  });
  return all;
}

bool Writer::LargeAndTrimmed() const {
  return index_->entries() != 0 && store_->IsTooLarge(segment_->bytes, SegmentHolds(0)) &&
         AllIsTrimmed();
}

// One that a large operation was given has the room that the next such needs. But nobody may need
// that yet: where there is no room beside it for the next segment, what comes goes into this one.
void Writer::LeaveLargeSoon() {
  executor_.Post([self = shared_from_this()] {
    if (self->stopped_ || self->mode_ == Mode::kFailing || !self->LargeAndTrimmed() ||
        !self->store_->CheckSpace(self->SegmentHolds(0)))
      return;
    self->OnRolledEarly(self->Roll(Purpose::kEntries, 0));
  });
}

// Where a segment that holds `bytes_min` was refused: the open one may be all that is in its way.
base::Result<void> Writer::LeaveIfTrimmed(uint64_t bytes_min) {
  if (!store_->WouldHaveSpace(bytes_min, segment_->bytes, SegmentHolds(0)) || !AllIsTrimmed())
    return {};
  if (mode_ == Mode::kRunning && !OthersWouldHaveRoom()) return {};
  HF_RETURN_IF_ERROR(Roll(Purpose::kProgress, 0));
  left_ = true;
  return {};
}

// Until the open segment's is free, too; or there are none, as of late.
bool Writer::OthersWouldHaveRoom() {
  const bool none = std::exchange(entry_commits_refused_, entry_commits_) == entry_commits_;
  return none || store_->HasSpaceBesideSmall(SegmentHolds(0));
}

base::Result<void> Writer::BeginSegment(SegmentStore::Next next, Purpose purpose) {
  // The owner's view of its entries is current, since all that was applied is durable or reloaded.
  // It goes into the state in memory and so into the checkpoint; no frame carries it.
  Commit checkpoint;
  Staging staging(state_, checkpoint);
  owner_.Checkpoint(staging);
  HF_CHECK(checkpoint.entries.empty() && checkpoint.news.opened.empty() &&
           checkpoint.news.trims.empty());

  const CommitNumber first = durable_.next();
  const auto begun =
      next.file->Begin(first, state_, OlderSegments(first),
                       store_->keys().empty() ? nullptr : SegmentKey::Make(store_->keys()));
  if (!begun) {
    metrics_.errors.With("begin_segment").Add();
    next.file.reset();
    // If it cannot be removed, a crash may find it there, begun: then it is the newest, and what
    // the old one took from here on would not count.
    if (!store_->Discard(next) && mode_ != Mode::kFailing) segment_error_ = begun.error();
    return begun;
  }
  state_.OnCheckpoint();
  const std::shared_ptr<Segment> old = segment_;
  if (old) old->end_commit = std::min(old->end_commit.load(), first.value());
  segment_ = std::make_shared<Segment>(next.number, next.path, next.bytes, first);
  segment_->PinFile(next.file);
  file_ = std::move(next.file);
  index_ = catalog_.BeginSegment(segment_);
  purpose_ = purpose;
  next_prepared_ = false;
  segment_bytes_min_ = 0;
  ReportOperationBytesMax();
  if (old) store_->SealSoon(old);
  return {};
}

std::string Writer::OlderSegments(CommitNumber end) const {
  std::string changes;
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  for (const auto& segment : *segments) {
    Change change;
    change.segment = segment->number;
    change.first_commit = segment->first_commit;
    change.end_commit = std::min(CommitNumber(segment->end_commit), end);
    change.entry_bytes = segment->entry_bytes;
    AppendSegment(change, &changes);
  }
  return changes;
}

void Writer::Fail(std::optional<Commit> staged, const base::Error& error) {
  base::Log(base::Event::kCommitFailed, "spool",
            "a commit failed; its operations are refused and the log goes on in a new segment: {}",
            error.message);
  metrics_.errors.With("commit").Add();
  // The file is left as it is. From here on it is read without its lock file, and only up to what
  // is durable.
  segment_->end_commit = durable_.next().value();
  segment_->Unpin();
  file_.reset();
  reload_needed_ = true;
  retry_delay_ = kRetryDelayMin;
  SetMode(Mode::kFailing, {base::Code::kIo, error.message});
  Retry();
  // The owner has forgotten these by now, so it may look at itself in Done.
  if (staged) Answer(*staged, base::Unexpected(error));
  RefuseBacklog(error);
}

void Writer::Retry() {
  if (mode_ == Mode::kFull) {
    if (const auto space = store_->CheckSpace(SegmentHolds(0)); space) {
      SetMode(Mode::kRunning, {});
    } else {
      SetMode(Mode::kFull, space.error());
      RetryLater(std::chrono::seconds(1));
      OnRolledEarly(LeaveIfTrimmed(SegmentHolds(0)));
      MakeRoomSoon();
    }
  } else if (mode_ == Mode::kFailing) {
    base::Result<void> done = Reload();
    if (done) done = RollToAny();
    if (done) {
      base::Log(base::LogLevel::kInfo, "spool", "the log goes on in {}", segment_->path);
      metrics_.reopens.Add();
      SetMode(Mode::kRunning, {});
    } else {
      SetMode(Mode::kFailing, {base::Code::kIo, done.error().message});
      RetryLater(retry_delay_);
      retry_delay_ = std::min(2 * retry_delay_, kRetryDelayMax);
    }
  }
}

void Writer::RetryLater(base::Duration delay) {
  if (!executor_.InLoop()) return;  // Closing, after the executor has stopped.
  retry_timer_ = executor_.After(delay, [this] {
    if (!stopped_) Retry();
  });
}

// State and owner as of the newest durable commit.
base::Result<void> Writer::Reload() {
  if (!reload_needed_) return {};
  HF_ASSIGN_OR_RETURN(const auto file, store_->files().Open(*segment_));
  const Source source{file, durable_.next()};
  State state;
  HF_RETURN_IF_ERROR(LoadState({&source, 1}, Pieces::kAll, &state, nullptr, nullptr, nullptr));
  state_ = std::move(state);
  HF_RETURN_IF_ERROR(LoadOwner({&source, 1}));
  reload_needed_ = false;
  return {};
}

// Behind what the segment that was left just now has to be asked of the background.
void Writer::MakeRoomSoon() {
  store_->PrepareSoon();
  const base::MutexLock lock(mutex_);
  intake_.making_room = true;
}

void Writer::Prepared() {
  const bool again = store_->preparing();
  // What prepared may have been asked to before a segment was left: that gives its room after it.
  if (!again && std::exchange(left_, false)) return store_->PrepareSoon();
  const base::MutexLock lock(mutex_);
  intake_.making_room = intake_.making_room && again;
}

void Writer::SpaceFreed() {
  if (stopped_) return;
  {
    const base::MutexLock lock(mutex_);
    ++intake_.space_freed;
  }
  if (mode_ == Mode::kFull) Retry();
  if (!store_->removing() || std::exchange(removal_planned_, true)) return;
  removal_timer_ = executor_.After(kRemovalPause, [this] {
    removal_planned_ = false;
    store_->SweepSoon();
  });
}

void Writer::SetMode(Mode mode, base::Error because) {
  if (mode_ != mode && mode == Mode::kFull)
    base::Log(base::Event::kSpoolFull, "spool", "refusing entries: {}", because.message);
  if (mode_ != mode && mode == Mode::kFailing)
    base::Log(base::Event::kSpoolFailing, "spool", "refusing everything: {}", because.message);
  if (mode_ != mode && mode == Mode::kRunning)
    base::Log(base::LogLevel::kInfo, "spool", "{}: taking entries again", directory_.path());
  mode_ = mode;
  const base::MutexLock lock(mutex_);
  intake_.accepting = mode == Mode::kRunning;
  intake_.refusing_because = because.message;
  refusal_ = std::move(because);
}

}  // namespace holdfast::spool
