// Makes a whole segment from frames that others held: for compaction and import.
//
//   HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(draft_path, ...));
//   HF_RETURN_IF_ERROR(builder.Add(draft));             // each frame, in order
//   HF_RETURN_IF_ERROR(builder.Finish());               // durable; AdoptSegment gives it its name
//
// Every commit keeps its number, its time and its changes of state, also when all its entries are
// left out: it is then an empty frame. So all that was true of the segment is, but that entries
// below the start of their stream are gone, and that those which a revision says have other bytes,
// or none.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/offline.h"
#include "spool/segment_file.h"
#include "spool/state.h"
#include "spool/verify.h"

namespace holdfast::spool {

using EntryFilter = std::function<bool(const EntryInfo&)>;

// A segment's state at its beginning.
struct SegmentCheckpoint {
  SegmentHeader header;
  State state;
  std::string older_segments;  // AppendSegment changes.

  static base::Result<SegmentCheckpoint> Read(SegmentFile& file);
  base::Result<void> Apply(const Change& change);
};

// What will be in a segment when entries that `keep` refuses are left out.
struct SegmentPlan {
  uint64_t frames = 0;
  uint64_t frame_bytes = 0;
  uint64_t kept_entries = 0;
  uint64_t kept_entry_bytes = 0;
  uint64_t kept_streams = 0;  // That they are of.
  uint64_t stretches = 0;     // Entries of one stream that lie together in the old file.
  // By a revision.
  uint64_t revised_entries = 0;
  uint64_t freed_entry_bytes = 0;  // But for what replacements save.
  uint64_t growth_bytes_max = 0;   // Of replacements.

  // kCorrupt: a frame is damaged. One that is missing altogether is no reason to stop. kClosed: the
  // revision was told to stop.
  static base::Result<SegmentPlan> Make(SegmentFile& file, CommitNumber end,
                                        const EntryFilter& keep, Revision* revision = nullptr);
  void Add(const SegmentPlan& other);
};

// What frames are copied to.
struct CopyTarget {
  bool sealed = false;
  EntryCheck check_entry;  // None: all are what they should be.
};

// The intact frames of a segment in order, each with the entries that `keep` accepts, opened if the
// segment is encrypted. kCorrupt as above.
using RewrittenFrame = std::function<base::Result<void>(const FrameDraft& draft)>;
base::Result<void> RewriteFrames(SegmentFile& file, CommitNumber end, const EntryFilter& keep,
                                 const CopyTarget& target, const RewrittenFrame& write);

// What is missing was lost before, and was said then; anything else that is damaged stops the work.
base::Result<void> WalkIntact(SegmentFile& file, CommitNumber end, const FrameVisitor& visit);

// An intact frame, parsed, as a draft for another place. The draft borrows from this.
class FrameCopy {
 public:
  // Its entries come from `read`.
  static base::Result<std::unique_ptr<FrameCopy>> Of(const FrameView& frame,
                                                     const EntryReader& read, const SegmentKey* key,
                                                     const EntryFilter& keep,
                                                     const CopyTarget& target);
  [[nodiscard]] const FrameDraft& draft() const { return draft_; }

 private:
  std::string plain_changes_;
  std::deque<std::string> plain_entries_;
  std::vector<DraftEntry> entries_;
  FrameDraft draft_;
};

class SegmentBuilder {
 public:
  enum class Kind : uint8_t {
    kSealed,   // Takes no more disk than it needs.
    kOrdered,  // Likewise; its entries are ordered by stream, see spool/segment_sorter.h.
    kOpen,     // Has room to go on, allocated: `bytes_min` at least.
  };
  // Of the file, about.
  static uint64_t BytesNeeded(const SegmentPlan& plan, const SegmentCheckpoint& checkpoint);
  // Encrypted if there are keys, under a data key of its own.
  static base::Result<SegmentBuilder> Begin(const std::string& path, Kind kind, uint64_t bytes_min,
                                            const SegmentPlan& plan,
                                            const SegmentCheckpoint& checkpoint,
                                            const KeyRing& keys);
  base::Result<void> Add(const FrameDraft& draft);
  // Of kOrdered, in place of Add: all runs, then each table, in order.
  base::Result<void> AddRun(uint32_t position, std::string_view bytes);
  base::Result<void> AddTable(const TableDraft& draft);
  // Of an encrypted one.
  [[nodiscard]] SegmentKey* key() { return file_->key(); }
  // Brings what there is so far to the disk, so that it need not all go at once in the end.
  base::Result<void> Flush();
  base::Result<void> Finish();

 private:
  SegmentBuilder(Kind kind, std::shared_ptr<SegmentFile> file)
      : kind_(kind), file_(std::move(file)), next_commit_(file_->header()->first_commit) {}

  base::Result<void> FillUpTo(CommitNumber commit);
  void Index(CommitNumber commit, uint32_t line, StreamId stream, int64_t base_offset,
             int64_t max_timestamp_ms);

  Kind kind_;
  std::shared_ptr<SegmentFile> file_;
  CommitNumber next_commit_;
  MemoryIndex index_;
};

}  // namespace holdfast::spool
