// What is intact in a segment file whose pages LMDB must not see: frames, runs and pieces of the
// checkpoint say themselves what they are and whether they are whole, so they are found by looking
// for them. Nothing is written: the file is read as it is for as long as the segment is needed.
//
// What does not belong is left out: everything of another segment or spool, and of an earlier life
// of the file, since its checksums begin differently; frames below the segment's first commit; and
// of two frames of one number the one that the next does not name as the frame before it, or that
// LMDB's tree did not lead to when that could still be read. Such twins come from a crash between a
// frame and LMDB's meta page; of two that both are named, or both are not, the later commit time
// decides. The last frame may be one that was still on its way when the power
// failed, if it arrived whole.
//
// Ownership: views lead into the map, which lives as long as this.
// Threads: constant after Scan.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spool/mapped_file.h"
#include "spool/page_check.h"
#include "spool/run.h"
#include "spool/segment_pieces.h"

namespace holdfast::spool {

class Salvage {
 public:
  // `known`, of a file of which only the newest commit is not whole: the frames of all before it.
  // `whole`: then another counts only with all of its entries. kCorrupt if there is nothing of the
  // segment in the file.
  static base::Result<std::unique_ptr<Salvage>> Scan(const std::string& path, const Origin& origin,
                                                     const std::optional<FramePlaces>& known,
                                                     bool whole);

  [[nodiscard]] const SegmentHeader& header() const { return header_; }
  // The changes of each piece of the checkpoint that is intact.
  [[nodiscard]] const std::map<uint32_t, std::string_view>& pieces() const { return pieces_; }
  // The frame begins where the view does, and ends somewhere in it.
  [[nodiscard]] const std::map<CommitNumber, std::string_view>& frames() const { return frames_; }
  // A commit that was lost before: its number stands for nothing.
  [[nodiscard]] bool LostBefore(CommitNumber commit) const { return lost_.contains(commit); }
  // The last commit that is there, or is known to have been.
  [[nodiscard]] std::optional<CommitNumber> last() const { return last_; }
  // Where it stands in the file.
  [[nodiscard]] off_t OffsetOf(std::string_view frame) const {
    return frame.data() - map_.bytes().data();
  }
  // By position.
  [[nodiscard]] const std::map<uint32_t, Run>& runs() const { return runs_; }

 private:
  explicit Salvage(MappedFile map) : map_(std::move(map)) {}
  struct Candidates;
  void Choose(const Candidates& candidates, bool whole);

  MappedFile map_;
  SegmentHeader header_;
  std::map<uint32_t, std::string_view> pieces_;
  std::map<CommitNumber, std::string_view> frames_;
  std::set<CommitNumber> lost_;
  std::optional<CommitNumber> last_;
  std::map<uint32_t, Run> runs_;
};

}  // namespace holdfast::spool
