// A spool's directory seen from outside: reads what is in it without owning it, beside a process
// that goes on writing, or with nobody there. For tools.
//
//   HF_ASSIGN_OR_RETURN(const auto view, OfflineView::Open(path));
//   const auto stream = view->state().FindStream("orders/0");
//   view->Read(*stream, view->state().stream(*stream).start, visitor);
//
// What it shows is as of Open: streams, state, and entries up to its newest commit, which on a live
// spool may not be acknowledged yet. What is trimmed meanwhile may be left out, and is no loss:
// nobody needed it.
//
// Ownership: entries that a visitor gets are copies, valid during its call; so a visitor may take
//   its time, and nothing in the directory is held up meanwhile. Nothing in it is changed or made.
// Threads: one at a time.
// Limits: all state is in memory, and up to kCopyBytes of entries (or one entry).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/cipher.h"
#include "spool/directory.h"
#include "spool/segment_file.h"
#include "spool/spool.h"
#include "spool/state.h"
#include "spool/verify.h"

namespace holdfast::spool {

class OfflineView {
 public:
  static constexpr size_t kCopyBytes = size_t{4} << 20;

  // kNotFound, kInvalid: not a spool, or one of a newer format; the message says which.
  // kInvalid, too: it is encrypted, and its key is not among `keys`.
  static base::Result<std::unique_ptr<OfflineView>> Open(const std::string& path,
                                                         const KeyRing& keys = {});

  struct SegmentInfo {
    uint64_t number = 0;
    uint64_t disk_bytes = 0;
    CommitNumber first_commit;
    CommitNumber end_commit;  // One behind the last that counts.
    uint64_t entry_bytes = 0;
  };

  [[nodiscard]] const std::string& path() const { return path_; }
  // As it was before anything else was read.
  [[nodiscard]] const DirectoryView& directory() const { return directory_; }
  // In order; the last one is the open one.
  [[nodiscard]] const std::vector<SegmentInfo>& segments() const { return segments_; }
  // Of all segment files, also those that are only prepared.
  [[nodiscard]] uint64_t disk_bytes() const { return disk_bytes_; }
  // All streams and keys.
  [[nodiscard]] const State& state() const { return state_; }
  // If not, a part of the newest checkpoint is lost: streams, keys and segments may be missing.
  [[nodiscard]] bool whole() const { return whole_; }
  [[nodiscard]] CommitNumber newest_commit() const { return newest_commit_; }

  // Whether some of the entry is not trimmed, so far as is known.
  [[nodiscard]] bool Needed(const EntryInfo& entry) const;
  // Of the newest segment.
  [[nodiscard]] const MemoryIndex& open_index() const { return open_index_; }

  // Says whether to go on.
  using EntryVisitor = std::function<bool(const EntryInfo& info, std::string_view bytes)>;
  using DamageVisitor = std::function<void(const base::Error& error)>;
  // The stream's entries in order, beginning with the one that contains `from`. Offsets that are
  // not there any more though they should be go to `damaged`.
  base::Result<void> Read(StreamId stream, int64_t from, const EntryVisitor& visit,
                          const DamageVisitor& damaged) const;

  // The same, and also what is trimmed, for as long as its bytes are still in a file. What is not
  // there any more of that is no damage.
  base::Result<void> ReadAlsoTrimmed(StreamId stream, int64_t from, const EntryVisitor& visit,
                                     const DamageVisitor& damaged) const;

  using InfoVisitor = std::function<bool(const EntryInfo& info)>;
  // All entries of known streams that are not trimmed, in the order in which they were committed.
  // Their bytes are not looked at.
  base::Result<void> WalkEntries(const InfoVisitor& visit, const DamageVisitor& damaged,
                                 const ProgressCallback& progress) const;

  // Of a segment that another follows: one behind its last commit that counts. Of others all.
  [[nodiscard]] CommitNumber EndOf(uint64_t segment) const;

  // A commit, what it changed (see spool/change.h), and the table of its entries. The visitor is to
  // be quick, and says whether to go on.
  using CommitVisitor = std::function<bool(const FrameView& frame, std::string_view changes)>;
  // Those from `from` on that are still there, in order.
  base::Result<void> WalkCommits(CommitNumber from, const CommitVisitor& visit,
                                 const DamageVisitor& damaged,
                                 const ProgressCallback& progress) const;

 private:
  OfflineView(std::string path, KeyRing keys) : path_(std::move(path)), keys_(std::move(keys)) {}
  base::Result<void> Load();
  base::Result<void> LoadState(SegmentFile& file);
  [[nodiscard]] bool Knows(StreamId stream) const;
  // Nothing if the segment was retired meanwhile.
  base::Result<std::shared_ptr<SegmentFile>> OpenSegment(const SegmentInfo& segment) const;
  [[nodiscard]] int64_t StartNow(StreamId stream) const;
  base::Result<void> ReadFrom(StreamId stream, int64_t from, int64_t needed_from,
                              const EntryVisitor& visit, const DamageVisitor& damaged) const;
  base::Result<void> ReadSegment(const SegmentInfo& segment, StreamId stream, int64_t from,
                                 const EntryVisitor& visit, const DamageVisitor& damaged) const;
  struct Copy {
    EntryInfo info;
    std::string bytes;
  };
  base::Result<bool> CopyEntries(const SegmentInfo& segment, SegmentFile& file, StreamId stream,
                                 int64_t* from, std::vector<Copy>* copies,
                                 const DamageVisitor& damaged) const;

  const std::string path_;
  const KeyRing keys_;
  DirectoryView directory_;
  std::vector<SegmentInfo> segments_;
  uint64_t disk_bytes_ = 0;
  State state_;
  bool whole_ = true;
  CommitNumber newest_commit_;
  MemoryIndex open_index_;
};

// Reads the entry at a line of the frame at hand, as SegmentFile::Entry.
using EntryReader = std::function<base::Result<EntryView>(uint32_t line, std::string* plain)>;
// The frames of a segment with numbers in [begin, end), in chunks that hold no transaction for
// long. The visitor says whether to go on; damaged frames go to `damaged`.
using FrameVisitor = std::function<base::Result<bool>(const FrameView&, const EntryReader&)>;
base::Result<void> WalkInChunks(SegmentFile& file, CommitNumber end, const FrameVisitor& visit,
                                const SegmentFile::DamageVisitor& damaged, CommitNumber begin = {});

}  // namespace holdfast::spool
