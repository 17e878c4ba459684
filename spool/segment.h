// A segment as the running spool knows it: which commits it holds, who uses it, and its file while
// that is open.
//
// Threads: any. Constant fields are public; the rest has a lock of its own.
// Life: open (file pinned, index in the Catalog), closed to writing (file and index pinned until it
//   is sealed), sealed (file opened on demand through the FileCache, index in it), retired (no new
//   leases; removed from the disk when the last one has gone).
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "spool/segment_file.h"

namespace holdfast::spool {

class Segment {
 public:
  Segment(uint64_t number_in, std::string path_in, uint64_t bytes_in, CommitNumber first_in)
      : number(number_in), path(std::move(path_in)), bytes(bytes_in), first_commit(first_in) {}

  const uint64_t number;
  const std::string path;
  const uint64_t bytes;  // On disk.
  const CommitNumber first_commit;

  // One behind the last commit; set when the segment stops being the open one.
  std::atomic<uint64_t> end_commit{UINT64_MAX};
  std::atomic<uint64_t> entry_bytes{0};
  std::atomic<bool> lost{false};       // There is nothing to be read.
  std::atomic<bool> damaged{false};    // Not to be used again.
  std::atomic<bool> encrypted{false};  // Its file was opened, and is.

  // A lease keeps the segment from being removed. False once it is retired.
  [[nodiscard]] bool TryLease();
  // True if that was the last lease of a retired segment, which can be removed now.
  [[nodiscard]] bool EndLease();
  void Retire();
  [[nodiscard]] bool Leased() const;

  // What is pinned stays in memory until Unpin.
  void PinFile(std::shared_ptr<SegmentFile> file);
  void PinIndex(std::shared_ptr<const MemoryIndex> index);
  void Unpin();
  [[nodiscard]] std::shared_ptr<SegmentFile> PinnedFile() const;
  [[nodiscard]] std::shared_ptr<const MemoryIndex> PinnedIndex() const;

  // Of the sweep that looks for segments to retire; see SegmentStore. Streams below `sweep_stream`
  // do not need this segment any more; that one needs it until its start reaches `sweep_until`.
  uint32_t sweep_stream = 0;
  int64_t sweep_until = 0;
  // Not before then is it looked at again how much of it is still needed.
  base::TimePoint reclaim_after{};
  // Of the work that orders segments by stream; see SegmentStore::Sort. It was looked at, and then
  // that share of its records was trimmed; not before `sort_after` is that asked again.
  bool sort_looked = false;
  double sort_trimmed = 0;
  base::TimePoint sort_after{};
  // Somebody is writing it anew, and it is not for others to do so.
  std::atomic<bool> claimed{false};

 private:
  mutable base::Mutex mutex_;
  int leases_ HF_GUARDED_BY(mutex_) = 0;
  bool retired_ HF_GUARDED_BY(mutex_) = false;
  std::shared_ptr<SegmentFile> file_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const MemoryIndex> index_ HF_GUARDED_BY(mutex_);
};

// Read-only files of sealed segments, the most recently used ones kept open.
class FileCache {
 public:
  FileCache(const SpoolId& spool, size_t files_max, KeyRing keys, DamageObserver& observer)
      : spool_(spool), files_max_(files_max), keys_(std::move(keys)), observer_(observer) {}

  // The segment's pinned file, or one opened for reading. kCorrupt if it is lost: gone, or nothing
  // of it can be read; looked for once.
  base::Result<std::shared_ptr<SegmentFile>> Open(Segment& segment);
  void Forget(const Segment& segment);
  void Clear();
  [[nodiscard]] const KeyRing& keys() const { return keys_; }

 private:
  const SpoolId spool_;
  const size_t files_max_;
  const KeyRing keys_;
  DamageObserver& observer_;
  base::Mutex mutex_;
  // Most recently used first. There are few, so a search costs less than the lookup that follows.
  std::list<std::pair<uint64_t, std::shared_ptr<SegmentFile>>> files_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::spool
