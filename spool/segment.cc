#include "spool/segment.h"

#include <algorithm>

namespace holdfast::spool {

bool Segment::TryLease() {
  const base::MutexLock lock(mutex_);
  if (retired_) return false;
  ++leases_;
  return true;
}

bool Segment::EndLease() {
  const base::MutexLock lock(mutex_);
  HF_CHECK(leases_ > 0);
  return --leases_ == 0 && retired_;
}

void Segment::Retire() {
  const base::MutexLock lock(mutex_);
  retired_ = true;
}

bool Segment::Leased() const {
  const base::MutexLock lock(mutex_);
  return leases_ > 0;
}

void Segment::PinFile(std::shared_ptr<SegmentFile> file) {
  const base::MutexLock lock(mutex_);
  file_ = std::move(file);
}

void Segment::PinIndex(std::shared_ptr<const MemoryIndex> index) {
  const base::MutexLock lock(mutex_);
  index_ = std::move(index);
}

void Segment::Unpin() {
  std::shared_ptr<SegmentFile> file;  // Closed outside the lock.
  std::shared_ptr<const MemoryIndex> index;
  const base::MutexLock lock(mutex_);
  file.swap(file_);
  index.swap(index_);
}

std::shared_ptr<SegmentFile> Segment::PinnedFile() const {
  const base::MutexLock lock(mutex_);
  return file_;
}

std::shared_ptr<const MemoryIndex> Segment::PinnedIndex() const {
  const base::MutexLock lock(mutex_);
  return index_;
}

base::Result<std::shared_ptr<SegmentFile>> FileCache::Open(Segment& segment) {
  if (std::shared_ptr<SegmentFile> pinned = segment.PinnedFile()) return pinned;
  const base::MutexLock lock(mutex_);
  const auto found = std::find_if(files_.begin(), files_.end(),
                                  [&](const auto& file) { return file.first == segment.number; });
  if (found != files_.end()) {
    files_.splice(files_.begin(), files_, found);
    return files_.front().second;
  }
  base::Error lost{base::Code::kCorrupt, segment.path + ": the segment is lost"};
  if (segment.lost) return base::Unexpected(std::move(lost));
  auto file = SegmentFile::Open(segment.path, {spool_, segment.number}, lmdb::Access::kRead, keys_,
                                &observer_, CommitNumber(segment.end_commit));
  const bool none = !file && (file.error().code == base::Code::kCorrupt ||
                              file.error().code == base::Code::kNotFound);
  if (!file && !none) return file;
  if (none || !(*file)->header()) {
    segment.lost = true;
    segment.damaged = true;
    if (none) lost.message += ": " + file.error().message;
    observer_.OnDamage(segment.number, std::nullopt, lost);
    return base::Unexpected(std::move(lost));
  }
  if ((*file)->salvaged() && !(*file)->torn()) segment.damaged = true;
  segment.encrypted = (*file)->key() != nullptr;
  files_.emplace_front(segment.number, *std::move(file));
  if (files_.size() > files_max_) files_.pop_back();
  return files_.front().second;
}

void FileCache::Forget(const Segment& segment) {
  const base::MutexLock lock(mutex_);
  files_.remove_if([&](const auto& file) { return file.first == segment.number; });
}

void FileCache::Clear() {
  const base::MutexLock lock(mutex_);
  files_.clear();
}

}  // namespace holdfast::spool
