// Writes segments that follow each other anew, as one whose entries are ordered by stream: runs of
// entries, each stream's together and in order of offsets, and then the commits as tables that say
// where in the runs their entries are. Every commit keeps its number, its time and its changes of
// state; entries that are not wanted any more go, and others get what a revision says.
//
//   SegmentSorter sorter(keep, &revision, last);
//   HF_RETURN_IF_ERROR(sorter.Add(file, end));          // each, in order
//   HF_RETURN_IF_ERROR(sorter.Write(&builder));         // of Kind::kOrdered
//
// Where entries lose their bytes one line is left for each row of neighbours, in the commit of what
// follows them.
//
// Threads: one; it may take minutes, and the revision's Pace is asked all the while.
// Limits: some 24 bytes of memory for each entry. Entries of at most 4 GiB.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/segment_builder.h"
#include "spool/segment_file.h"

namespace holdfast::spool {

class SegmentSorter {
 public:
  // `last`: the newest commit of all. Without a revision all that is kept stays as it is, but for
  // what `check_entry` says is damaged (spool/verify.h), if there is one.
  SegmentSorter(EntryFilter keep, Revision* revision, CommitNumber last, EntryCheck check_entry)
      : keep_(std::move(keep)),
        revision_(revision),
        last_(last),
        check_entry_(std::move(check_entry)) {}

  // kCorrupt: a frame is damaged. kClosed: the revision was told to stop.
  base::Result<void> Add(std::shared_ptr<SegmentFile> file, CommitNumber end);
  // As above. kCorrupt, too: an entry is damaged, or the last commit is missing.
  base::Result<void> Write(SegmentBuilder* builder);
  // Of those that were written.
  [[nodiscard]] uint64_t entry_bytes() const { return entry_bytes_; }

 private:
  struct Source {
    std::shared_ptr<SegmentFile> file;
    lmdb::ReadTransaction transaction;
  };
  struct Frame {
    uint32_t source;
    uint32_t number;      // Counted from the source's first commit.
    uint32_t first_line;  // Of lines_.
    Salt salt{};
  };
  struct Line {
    StreamId stream;
    uint32_t frame;  // Of frames_.
    uint32_t line;   // Of the source's table; or of gone_.
    uint32_t position;
    bool replace;  // As the revision says.
  };
  // Offsets whose entries have lost their bytes.
  struct Gone {
    int64_t base_offset = 0;
    uint32_t record_count = 0;
  };
  struct Replaced {
    uint32_t bytes = 0;
    int64_t max_timestamp_ms = -1;
  };

  base::Result<void> AddFrame(const FrameView& frame);
  void AddGone(const EntryInfo& info);
  void EndGone(StreamId stream);
  base::Result<void> WriteRuns(SegmentBuilder* builder);
  base::Result<void> WriteEntry(uint32_t index, uint64_t position, SegmentKey* key,
                                std::string* run);
  base::Result<void> WriteTable(size_t index, SegmentBuilder* builder);
  [[nodiscard]] uint32_t LinesEnd(size_t frame) const;
  base::Result<FrameView> View(const Frame& frame);
  base::Result<void> Written(size_t bytes, SegmentBuilder* builder);
  base::Result<void> Pace(size_t bytes);

  const EntryFilter keep_;
  Revision* const revision_;
  const CommitNumber last_;
  const EntryCheck check_entry_;
  std::vector<Source> sources_;
  std::vector<Frame> frames_;
  std::vector<Line> lines_;                          // In order of frames.
  std::unordered_map<StreamId, Gone> open_gone_;     // Not yet in a frame.
  std::unordered_map<uint32_t, Gone> gone_;          // By line.
  std::unordered_map<uint32_t, Replaced> replaced_;  // Likewise.
  uint64_t entry_bytes_ = 0;
  uint64_t unflushed_ = 0;
};

}  // namespace holdfast::spool
