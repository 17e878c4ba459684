#include "spool/segment_store.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "metrics/catalogue.h"

namespace holdfast::spool {
namespace {

constexpr uint64_t kAlignment = uint64_t{64} << 10;  // A multiple of every page size.
constexpr uint64_t kSegmentBytesMin = uint64_t{1} << 20;
constexpr uint64_t kSmallBytesMin = uint64_t{512} << 10;
constexpr uint64_t kSegmentsMin = 4;  // In bytes_max, so that one can be freed while others fill.
constexpr size_t kOpenFilesMax = 64;
// A steady flow retires as many segments as it fills; more than that would only keep disk space.
constexpr size_t kSparesMax = 2;
// A log of more segments than that is growing.
constexpr size_t kShortLogSegments = 4;

uint64_t RoundUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

uint64_t SegmentBytes(const Options& options) {
  uint64_t bytes = options.segment_bytes;
  if (options.bytes_max != 0) bytes = std::min(bytes, options.bytes_max / kSegmentsMin);
  return std::max(bytes / kAlignment * kAlignment, kSegmentBytesMin);
}

std::string MiB(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

void LogError(const base::Error& error, std::string_view doing) {
  base::Log(base::Event::kSegmentWorkFailed, "spool", "{}: {}", doing, error.message);
}

}  // namespace

SegmentStore::SegmentStore(const Options& options, const Directory& directory, Catalog& catalog,
                           base::Executor& background, metrics::SpoolMetrics& metrics)
    : directory_(directory),
      catalog_(catalog),
      background_(background),
      metrics_(metrics),
      bytes_max_(options.bytes_max),
      free_bytes_min_(options.free_bytes_min),
      segment_bytes_(SegmentBytes(options)),
      check_entry_(options.check_entry),
      damage_(metrics),
      files_(directory.id(), kOpenFilesMax, options.encryption_keys, damage_) {}

void SegmentStore::Adopt(const std::vector<std::shared_ptr<Segment>>& known,
                         const std::vector<Directory::File>& retired, uint64_t newest_number) {
  {
    const base::MutexLock lock(files_mutex_);
    next_number_ = newest_number + 1;
  }
  for (const auto& segment : known) disk_bytes_ += segment->bytes;
  for (const Directory::File& file : retired) disk_bytes_ += file.bytes;
  const base::MutexLock lock(work_mutex_);
  doomed_.assign(retired.begin(), retired.end());
}

bool SegmentStore::IsTooLarge(uint64_t bytes, uint64_t bytes_min) const {
  return bytes_max_ != 0 && bytes > BytesFor(Purpose::kEntries, bytes_min);
}

uint64_t SegmentStore::SegmentBytesMax(uint64_t small_min) const {
  if (bytes_max_ == 0) return std::numeric_limits<uint64_t>::max();
  const uint64_t beside = BytesFor(Purpose::kProgress, small_min) + SmallBytes();
  return (bytes_max_ - std::min(bytes_max_, beside)) / kAlignment * kAlignment;
}

bool SegmentStore::NeverFits(uint64_t bytes_min, uint64_t small_min) const {
  return BytesFor(Purpose::kEntries, bytes_min) > SegmentBytesMax(small_min);
}

void SegmentStore::OnSpaceFreed(std::function<void()> notify) {
  const base::MutexLock lock(work_mutex_);
  on_space_freed_ = std::move(notify);
}

void SegmentStore::OnPrepared(std::function<void()> notify) {
  const base::MutexLock lock(work_mutex_);
  on_prepared_ = std::move(notify);
}

void SegmentStore::Report() {
  const base::MutexLock lock(files_mutex_);
  metrics_.segments.Set(static_cast<double>(catalog_.segments()->size()));
  metrics_.free_segments.Set(static_cast<double>(spares_.size() + (prepared_ ? 1 : 0)));
  metrics_.disk_bytes.Set(static_cast<double>(disk_bytes_));
}

uint64_t SegmentStore::SmallBytes() const {
  return std::max(RoundUp(segment_bytes_ / 16), kSmallBytesMin);
}

uint64_t SegmentStore::BytesFor(Purpose purpose, uint64_t bytes_min) const {
  const uint64_t usual = purpose == Purpose::kEntries ? segment_bytes_ : SmallBytes();
  return std::max(usual, RoundUp(bytes_min));
}

base::Result<void> SegmentStore::CheckSpace(uint64_t bytes_min) const {
  if (prepared_bytes_ >= BytesFor(Purpose::kEntries, bytes_min)) return {};
  return CheckSpaceForOneMore(Purpose::kEntries, bytes_min);
}

bool SegmentStore::WouldHaveSpace(uint64_t bytes_min, uint64_t open_bytes,
                                  uint64_t small_min) const {
  const uint64_t small = BytesFor(Purpose::kProgress, small_min);
  return open_bytes > small &&
         CheckSpaceForOneMore(Purpose::kEntries, bytes_min, open_bytes - small).has_value();
}

bool SegmentStore::HasSpaceBesideSmall(uint64_t small_min) const {
  const uint64_t bytes = BytesFor(Purpose::kEntries, small_min);
  if (bytes <= segment_bytes_ && spare_count_ != 0) return true;
  return CheckLimits(bytes + BytesFor(Purpose::kProgress, small_min), prepared_bytes_).has_value();
}

base::Result<void> SegmentStore::CheckSpaceForOneMore(Purpose purpose, uint64_t bytes_min,
                                                      uint64_t freed) const {
  if (purpose == Purpose::kProgress) return {};
  const uint64_t bytes = BytesFor(purpose, bytes_min);
  if (bytes > segment_bytes_) {
    freed += prepared_bytes_ + spare_count_ * segment_bytes_;
  } else if (spare_count_ != 0) {
    return {};
  }
  return CheckLimits(bytes, freed);
}

base::Result<void> SegmentStore::CheckLimits(uint64_t bytes, uint64_t freed) const {
  if (bytes_max_ != 0 && disk_bytes_ + bytes + SmallBytes() > bytes_max_ + freed)
    return base::Unexpected(base::Code::kFull,
                            directory_.path() + ": the spool is full (" + MiB(disk_bytes_) +
                                " used of at most " + MiB(bytes_max_) +
                                "); it takes entries again when older ones have been delivered, or "
                                "with a larger limit",
                            base::Event::kSpoolFull);
  HF_ASSIGN_OR_RETURN(const uint64_t free, directory_.FreeBytes());
  if (free + freed < bytes + free_bytes_min_)
    return base::Unexpected(base::Code::kFull,
                            directory_.path() + ": the file system is nearly full (" + MiB(free) +
                                " left); free some space: " + MiB(bytes) + " for a segment and " +
                                MiB(free_bytes_min_) + " to spare",
                            base::Event::kSpoolFull);
  return {};
}

uint64_t SegmentStore::RoomBytes() const {
  const auto beyond = [](uint64_t have, uint64_t kept) { return have - std::min(have, kept); };
  const base::Result<uint64_t> free = directory_.FreeBytes();
  uint64_t room = free ? beyond(*free, free_bytes_min_) : 0;
  if (bytes_max_ != 0) room = std::min(room, beyond(bytes_max_, disk_bytes_ + SmallBytes()));
  room = room / segment_bytes_ * segment_bytes_;
  return room + spare_count_ * segment_bytes_ + prepared_bytes_;
}

base::Result<SegmentStore::Made> SegmentStore::Make(Purpose purpose, uint64_t bytes_min) {
  HF_RETURN_IF_ERROR(CheckSpaceForOneMore(purpose, bytes_min));
  const uint64_t bytes = BytesFor(purpose, bytes_min);
  const bool small = purpose == Purpose::kProgress && LargeOneWanted();
  if (!small && !spares_.empty() && bytes <= spares_.back().bytes) {
    const Spare spare = std::move(spares_.back());
    spares_.pop_back();
    spare_count_ = spares_.size();
    base::Result<Made> made = Place(spare.path, spare.bytes);
    if (!made) {
      disk_bytes_ -= spare.bytes;
    } else if (spare.recycled) {
      metrics_.recycled_segments.Add();
    }
    return made;
  }
  while (purpose == Purpose::kEntries && !spares_.empty() && !CheckLimits(bytes, 0)) {
    RemoveSpare(spares_.back());
    spares_.pop_back();
    spare_count_ = spares_.size();
  }
  // The file system may not have given back what spares took.
  if (purpose == Purpose::kEntries) HF_RETURN_IF_ERROR(CheckLimits(bytes, 0));
  const std::string draft = directory_.SegmentPath(next_number_) + ".new";
  if (auto created = SegmentFile::Create(draft, bytes); !created) {
    (void)std::remove(draft.c_str());  // The first error is the one to report.
    return base::Unexpected(std::move(created).error());
  }
  HF_ASSIGN_OR_RETURN(const Made made, Place(draft, bytes));
  disk_bytes_ += bytes;
  return made;
}

// Gives an empty file its place in the log, and all that it takes to write to it.
base::Result<SegmentStore::Made> SegmentStore::Place(const std::string& draft, uint64_t bytes) {
  base::Result<void> adopted = directory_.AdoptSegment(draft, next_number_);
  if (adopted) adopted = lmdb::Environment::AllocateLock(directory_.SegmentPath(next_number_));
  if (!adopted) {
    // Whichever name it has by now.
    (void)std::remove(draft.c_str());
    (void)directory_.RemoveSegment(next_number_);
    return base::Unexpected(std::move(adopted).error());
  }
  return Made{next_number_++, bytes};
}

std::optional<SegmentStore::Made> SegmentStore::SetPrepared(std::optional<Made> made) {
  prepared_bytes_ = made ? made->bytes : 0;
  return std::exchange(prepared_, made);
}

base::Result<SegmentStore::Next> SegmentStore::Take(Purpose purpose, uint64_t bytes_min) {
  const base::MutexLock lock(files_mutex_);
  const bool small = purpose == Purpose::kProgress && LargeOneWanted();
  std::optional<Made> taken;
  if (prepared_ && prepared_->bytes >= bytes_min && !small) {
    taken = SetPrepared(std::nullopt);
  } else {
    if (purpose == Purpose::kEntries) wanted_bytes_ = BytesFor(purpose, bytes_min);
    HF_RETURN_IF_ERROR(CheckSpaceForOneMore(purpose, bytes_min));
    if (const auto useless = SetPrepared(std::nullopt))
      (void)Remove(useless->number, useless->bytes);
    HF_ASSIGN_OR_RETURN(taken, Make(purpose, bytes_min));
  }
  if (purpose == Purpose::kEntries) wanted_bytes_ = 0;
  const Made made = *taken;
  Next next{made.number, directory_.SegmentPath(made.number), made.bytes, nullptr};
  auto file = SegmentFile::Open(next.path, {directory_.id(), made.number}, lmdb::Access::kWrite,
                                keys(), &damage_);
  if (!file) {
    (void)Remove(made.number, made.bytes);
    return base::Unexpected(std::move(file).error());
  }
  next.file = *std::move(file);
  return next;
}

base::Result<void> SegmentStore::Discard(const Next& next) {
  return Remove(next.number, next.bytes);
}

base::Result<void> SegmentStore::Remove(uint64_t number, uint64_t bytes) {
  disk_bytes_ -= bytes;
  auto removed = directory_.RemoveSegment(number);
  if (!removed) {
    // It is found and removed when the spool is opened next time.
    LogError(removed.error(), "cannot remove a segment");
    metrics_.errors.With("remove").Add();
  }
  return removed;
}

void SegmentStore::PostWork(void (*work)(SegmentStore&, const std::shared_ptr<Segment>&),
                            std::shared_ptr<Segment> segment) {
  background_.Post([self = shared_from_this(), work, segment = std::move(segment)] {
    const base::MutexLock lock(self->work_mutex_);
    if (!self->closed_) work(*self, segment);
  });
}

void SegmentStore::PrepareSoon() {
  if (prepare_posted_.exchange(true)) return;
  PostWork([](SegmentStore& store, const std::shared_ptr<Segment>&)
               HF_NO_THREAD_SAFETY_ANALYSIS { store.Prepare(); },
           nullptr);
}

void SegmentStore::Prepare() {
  preparing_ = true;  // Before the other is not: one of them is, all the time.
  prepare_posted_ = false;
  PrepareNext();
  preparing_ = false;
  if (on_prepared_) on_prepared_();
}

void SegmentStore::PrepareNext() {
  if (LargeOneWanted()) {
    Reclaim();
    return Report();
  }
  if (WantsWrittenSpare()) MakeWrittenSpare();
  {
    const base::MutexLock lock(files_mutex_);
    if (prepared_) return;
    base::Result<Made> made = Make(Purpose::kEntries, 0);
    if (made) {
      (void)SetPrepared(*made);
    } else if (made.error().code != base::Code::kFull) {
      // The writer tries again, and tells its operations, when it needs the segment.
      LogError(made.error(), "cannot prepare the next segment");
      metrics_.errors.With("prepare").Add();
    }
  }
  Reclaim();
  Report();
}

void SegmentStore::SealSoon(const std::shared_ptr<Segment>& segment) {
  PostWork([](SegmentStore& store, const std::shared_ptr<Segment>& sealed)
               HF_NO_THREAD_SAFETY_ANALYSIS { store.Seal(*sealed); },
           segment);
}

void SegmentStore::Seal(Segment& segment) {
  const std::shared_ptr<SegmentFile> file = segment.PinnedFile();
  const std::shared_ptr<const MemoryIndex> index = segment.PinnedIndex();
  if (file && index && !file->salvaged() && !file->sealed()) {
    // Without an index the segment is as good, only slower to look into.
    if (const auto result = file->Seal(*index); !result) {
      LogError(result.error(), "cannot write the index of a segment");
      metrics_.errors.With("seal").Add();
    }
  }
  segment.Unpin();
  Sweep();
  Report();
}

void SegmentStore::SweepSoon() {
  if (sweep_posted_.exchange(true)) return;
  PostWork([](SegmentStore& store, const std::shared_ptr<Segment>&)
               HF_NO_THREAD_SAFETY_ANALYSIS { store.Sweep(); },
           nullptr);
}

void SegmentStore::Sweep() {
  sweep_posted_ = false;  // First, so that a trim from now on posts another one.
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  for (size_t i = 0; i + 1 < segments->size(); ++i) {
    Segment& segment = *(*segments)[i];
    if (segment.PinnedIndex()) continue;  // Not sealed yet.
    const base::Result<bool> needed = StillNeeded(*segments, i);
    if (!needed) {
      LogError(needed.error(), "cannot see whether a segment is still needed, so it stays");
      metrics_.errors.With("sweep").Add();
    } else if (!*needed) {
      catalog_.Remove(segment);
      segment.Retire();
      files_.Forget(segment);
      retired_.push_back((*segments)[i]);
      metrics_.retired_segments.Add();
    }
  }
  LetGoRetired();
}

// A stream needs the segment if it has entries in it and has not been trimmed past them. Starts
// only rise, so the search goes on where it stopped last time. Of a segment that does not say any
// more where its streams began, all is taken to be needed.
base::Result<bool> SegmentStore::StillNeeded(const Catalog::Segments& segments, size_t at) {
  Segment& segment = *segments[at];
  const auto start = [&] { return catalog_.Range(StreamId(segment.sweep_stream)).start; };
  if (start() < segment.sweep_until) return true;
  const auto file = OpenWithEnds(segment);
  if (!file && file.error().code != base::Code::kCorrupt) return base::Unexpected(file.error());
  HF_ASSIGN_OR_RETURN(const auto begin,
                      file ? (*file)->BeginRead() : lmdb::ReadTransaction::OfNothing());
  base::Result<std::shared_ptr<SegmentFile>> next_file = OpenWithEnds(*segments[++at]);
  while (!next_file && next_file.error().code == base::Code::kCorrupt && at + 1 < segments.size())
    next_file = OpenWithEnds(*segments[++at]);
  if (!next_file) return base::Unexpected(next_file.error());
  HF_ASSIGN_OR_RETURN(const auto end, (*next_file)->BeginRead());
  for (; segment.sweep_stream < (*next_file)->header()->streams; ++segment.sweep_stream) {
    const StreamId stream(segment.sweep_stream);
    HF_ASSIGN_OR_RETURN(const StreamEnd after, (*next_file)->EndAtBeginning(end, stream));
    if (start() >= after.end) continue;
    if (file) {
      HF_ASSIGN_OR_RETURN(const StreamEnd before, (*file)->EndAtBeginning(begin, stream));
      if (before.end == after.end) continue;
    }
    segment.sweep_until = after.end;
    return true;
  }
  segment.sweep_until = 0;
  return false;
}

// kCorrupt if it is lost, or does not say where streams began.
base::Result<std::shared_ptr<SegmentFile>> SegmentStore::OpenWithEnds(Segment& segment) {
  HF_ASSIGN_OR_RETURN(auto file, files_.Open(segment));
  HF_ASSIGN_OR_RETURN(const auto transaction, file->BeginRead());
  HF_RETURN_IF_ERROR(file->EndAtBeginning(transaction, StreamId(0)));
  return file;
}

// Retired segments that nobody looks into any more become spares, or go.
void SegmentStore::LetGoRetired() {
  const auto gone = std::partition(retired_.begin(), retired_.end(),
                                   [](const auto& segment) { return segment->Leased(); });
  for (auto it = gone; it != retired_.end(); ++it) {
    files_.Forget(**it);  // Again: a reader may just have been too late.
    if (WantsSpare(**it)) {
      MakeSpare(**it);
    } else {
      doomed_.push_back({(*it)->number, (*it)->bytes});
    }
  }
  const bool any = gone != retired_.end() || !doomed_.empty();
  retired_.erase(gone, retired_.end());
  if (!any) return;
  RemoveDoomed();
  Report();
  if (on_space_freed_) on_space_freed_();
}

void SegmentStore::RemoveDoomed() {
  while (!doomed_.empty() && MayRemove(doomed_.front().bytes)) {
    (void)Remove(doomed_.front().number, doomed_.front().bytes);
    doomed_.pop_front();
  }
  removing_ = !doomed_.empty();
}

bool SegmentStore::MayRemove(uint64_t bytes) {
  if (closing_) return false;
  if (!CheckSpaceForOneMore(Purpose::kEntries, wanted_bytes_)) return true;
  if (const base::TimePoint now = background_.Now(); now - removed_since_ >= kRemovalPause) {
    removed_since_ = now;
    removed_bytes_ = 0;
  }
  if (removed_bytes_ != 0 && removed_bytes_ + bytes > kRemovedAtOnceBytes) return false;
  removed_bytes_ += bytes;
  return true;
}

bool SegmentStore::WantsSpare(const Segment& segment) {
  if (segment.bytes != segment_bytes_ || segment.damaged || spare_count_ >= kSparesMax)
    return false;
  // Where it is used again, what is not written over stays as it was.
  if (!keys().empty() && !segment.encrypted) return false;
  const base::Result<uint64_t> free = directory_.FreeBytes();
  return free && *free >= free_bytes_min_;
}

void SegmentStore::MakeSpare(const Segment& segment) {
  const auto failed = [this](const base::Error& error) {
    LogError(error, "cannot use a segment again");
    metrics_.errors.With("recycle").Add();
  };
  const base::Result<std::string> path = directory_.SetSegmentAside(segment.number);
  if (!path) {
    failed(path.error());
    (void)Remove(segment.number, segment.bytes);
    return;
  }
  const base::Result<bool> empty = SegmentFile::Recycle(*path, segment.bytes);
  if (!empty) failed(empty.error());
  if (!empty || !*empty)
    return RemoveSpare({.path = *path, .bytes = segment.bytes, .recycled = true});
  AddSpare({.path = *path, .bytes = segment.bytes, .recycled = true});
}

bool SegmentStore::WantsWrittenSpare() {
  {
    const base::MutexLock lock(files_mutex_);
    if (prepared_ || !spares_.empty()) return false;
  }
  if (catalog_.segments()->size() > kShortLogSegments) return false;
  // The writer may need a segment meanwhile, and must not find the space taken.
  const uint64_t needed = 2 * segment_bytes_;
  if (bytes_max_ != 0 && disk_bytes_ + needed + SmallBytes() > bytes_max_) return false;
  const base::Result<uint64_t> free = directory_.FreeBytes();
  return free && *free >= needed + free_bytes_min_;
}

// Without a lock that the writer takes: it may be filling its segment faster than this one.
void SegmentStore::MakeWrittenSpare() {
  Spare spare{.path = directory_.SparePath(), .bytes = segment_bytes_, .recycled = false};
  disk_bytes_ += spare.bytes;
  const base::Result<bool> written = [&]() -> base::Result<bool> {
    HF_RETURN_IF_ERROR(SegmentFile::Create(spare.path, spare.bytes));
    return SegmentFile::WriteBlocks(spare.path, [this] { return !closing_; });
  }();
  if (written && *written) return AddSpare(std::move(spare));
  RemoveSpare(spare);
  if (written) return;
  LogError(written.error(), "cannot make a spare file");
  metrics_.errors.With("prepare").Add();
}

void SegmentStore::AddSpare(Spare spare) {
  const base::MutexLock lock(files_mutex_);
  spares_.push_back(std::move(spare));
  spare_count_ = spares_.size();
}

void SegmentStore::RemoveSpare(const Spare& spare) {
  disk_bytes_ -= spare.bytes;
  if (std::remove(spare.path.c_str()) == 0 || errno == ENOENT) return;
  // It is found and removed when the spool is opened next time.
  LogError(base::ErrnoError(spare.path + ": cannot remove", errno), "cannot remove a spare file");
  metrics_.errors.With("remove").Add();
}

void SegmentStore::Close() {
  closing_ = true;
  const base::MutexLock lock(work_mutex_);
  if (std::exchange(closed_, true)) return;
  const std::shared_ptr<const Catalog::Segments> segments = catalog_.segments();
  for (const auto& segment : *segments)
    if (segment->PinnedIndex()) Seal(*segment);
  on_space_freed_ = nullptr;
  on_prepared_ = nullptr;
  files_.Clear();
  const base::MutexLock files_lock(files_mutex_);
  if (const auto left = SetPrepared(std::nullopt)) (void)Remove(left->number, left->bytes);
  for (const Spare& spare : spares_) RemoveSpare(spare);
  spares_.clear();
}

}  // namespace holdfast::spool
