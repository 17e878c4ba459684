// Makes a whole segment from frames that another one held: for compaction and import.
//
//   HF_ASSIGN_OR_RETURN(auto builder, SegmentBuilder::Begin(draft_path, ...));
//   HF_RETURN_IF_ERROR(builder.Add(draft));             // each frame, in order
//   HF_RETURN_IF_ERROR(builder.Finish());               // durable; AdoptSegment gives it its name
//
// Every commit keeps its number, its time and its changes of state, also when all its entries are
// left out: it is then an empty frame. So all that was true of the segment is, but that entries
// below the start of their stream are gone.
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

  // kCorrupt: a frame is damaged. One that is missing altogether is no reason to stop.
  static base::Result<SegmentPlan> Make(SegmentFile& file, CommitNumber end,
                                        const EntryFilter& keep);
};

// The intact frames of a segment in order, each with the entries that `keep` accepts, opened if the
// segment is encrypted. kCorrupt as above.
using RewrittenFrame = std::function<base::Result<void>(const FrameDraft& draft)>;
base::Result<void> RewriteFrames(SegmentFile& file, CommitNumber end, const EntryFilter& keep,
                                 const RewrittenFrame& write);

// An intact frame, parsed, as a draft for another place. The draft borrows from this.
class FrameCopy {
 public:
  static base::Result<std::unique_ptr<FrameCopy>> Of(const FrameView& frame, const SegmentKey* key,
                                                     const EntryFilter& keep);
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
    kSealed,  // Takes no more disk than it needs.
    kOpen,    // Has room to go on, allocated: `bytes_min` at least.
  };
  // Of the file, about.
  static uint64_t BytesNeeded(const SegmentPlan& plan, const SegmentCheckpoint& checkpoint);
  // Encrypted if there are keys, under a data key of its own.
  static base::Result<SegmentBuilder> Begin(const std::string& path, Kind kind, uint64_t bytes_min,
                                            const SegmentPlan& plan,
                                            const SegmentCheckpoint& checkpoint,
                                            const KeyRing& keys);
  base::Result<void> Add(const FrameDraft& draft);
  base::Result<void> Finish();

 private:
  SegmentBuilder(Kind kind, std::shared_ptr<SegmentFile> file)
      : kind_(kind), file_(std::move(file)), next_commit_(file_->header()->first_commit) {}

  Kind kind_;
  std::shared_ptr<SegmentFile> file_;
  CommitNumber next_commit_;
  MemoryIndex index_;
};

}  // namespace holdfast::spool
