// The segments' files: makes the next one ahead of time, seals and retires those that are done
// with, uses the retired ones again, and keeps their disk space within its limits.
//
// Space: entries may take a new segment while all files together stay within bytes_max, with room
//   left for a small segment, and while the file system keeps free_bytes_min. Work that only trims
//   or changes state gets such a small segment even then, so that a full spool can always record
//   what makes it less full. A segment that holds no entry anybody needs is retired wherever it
//   stands in the order, so small segments do not pile up and a stream that does not move holds
//   back only its own. What does not fit into a segment of the usual size gets a larger one, which
//   takes the place of spares. When space runs short, be it only for a large one, segments of which
//   little is still needed are written anew without the rest, so that such a stream costs about
//   what it holds. A few retired files are kept as spares for the next segments, since blocks that
//   were written before are the cheapest to write (docs/adr/0006-written-blocks.md); the others are
//   removed bit by bit. While the log is short and has no spare, one is made and written to ahead
//   of time; in an outage, when it grows, that would only take the disk's time.
// Threads: Take and the ...Soon calls belong to the writer; the work behind the latter runs on
//   `background`; the rest is for any thread.
// Shutdown: Close waits for background work that is running; what is queued then does nothing.
//   Tasks keep the store alive, so it may be let go at any time. Retired files that were still to
//   be removed are found when the spool is opened. A revision ends at its next step.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "spool/catalog.h"
#include "spool/damage.h"
#include "spool/directory.h"
#include "spool/segment.h"
#include "spool/segment_builder.h"

namespace holdfast::metrics {
struct SpoolMetrics;
}

namespace holdfast::spool {

enum class Purpose : uint8_t {
  kEntries,
  kProgress,  // State and trims only.
};

// Removing a large file takes the disk a tenth of a second and more, in which it has little for
// others. So after an outage so many bytes go at a time, unless somebody waits for the space.
inline constexpr uint64_t kRemovedAtOnceBytes = uint64_t{256} << 20;
inline constexpr base::Duration kRemovalPause = std::chrono::milliseconds(500);

class SegmentStore : public std::enable_shared_from_this<SegmentStore> {
 public:
  // All references outlive the store's last task, see Close.
  SegmentStore(const Options& options, const Directory& directory, Catalog& catalog,
               base::Executor& background, metrics::SpoolMetrics& metrics);

  // The files that are there when the spool opens: the segments, and those that were retired but
  // not removed.
  void Adopt(const std::vector<std::shared_ptr<Segment>>& known,
             const std::vector<Directory::File>& retired, uint64_t newest_number);

  // Called on `background` after space was freed. Set before anything else.
  void OnSpaceFreed(std::function<void()> notify);
  // The same after what PrepareSoon posted, and all that was posted before it.
  void OnPrepared(std::function<void()> notify);

  struct Next {
    uint64_t number = 0;
    std::string path;
    uint64_t bytes = 0;
    std::shared_ptr<SegmentFile> file;  // Open for writing, not begun.
  };
  // An empty segment that holds at least `bytes_min`. kFull: no space for this purpose; what is
  // ready for another one stays.
  base::Result<Next> Take(Purpose purpose, uint64_t bytes_min);
  // A taken one that did not work out. An error if it may be there again after a crash.
  base::Result<void> Discard(const Next& next);
  // Whether Take would find such a segment for entries, be it one that is ready. kFull: why not.
  [[nodiscard]] base::Result<void> CheckSpace(uint64_t bytes_min) const;
  // Whether it would if the open segment, of `open_bytes`, were retired, and a small one that holds
  // `small_min` had its place.
  [[nodiscard]] bool WouldHaveSpace(uint64_t bytes_min, uint64_t open_bytes,
                                    uint64_t small_min) const;
  // Whether a segment of the usual size is still to be had once a small one that holds `small_min`
  // was, in place of the one that is ready.
  [[nodiscard]] bool HasSpaceBesideSmall(uint64_t small_min) const;

  // See Spool.
  base::Result<RevisionReport> Revise(Revision& revision);
  // See Spool. One thread at a time.
  base::Result<RevisionReport> Sort(base::TimePoint now, const Pace& pace);

  // Sets the gauges of files and disk space.
  void Report();

  // Makes the next segment, or else the space for it.
  void PrepareSoon();
  [[nodiscard]] bool preparing() const { return prepare_posted_ || preparing_; }
  void SealSoon(const std::shared_ptr<Segment>& segment);
  void SweepSoon();
  // Whether SweepSoon should come again, to remove what is only removed bit by bit.
  [[nodiscard]] bool removing() const { return removing_; }
  // Of a lease that was the last one of a retired segment.
  void OnLastLease() { SweepSoon(); }

  [[nodiscard]] FileCache& files() { return files_; }
  [[nodiscard]] DamageObserver& damage() { return damage_; }
  [[nodiscard]] const KeyRing& keys() const { return files_.keys(); }
  [[nodiscard]] uint64_t disk_bytes() const { return disk_bytes_; }
  [[nodiscard]] uint64_t segment_bytes() const { return segment_bytes_; }
  [[nodiscard]] uint64_t bytes_max() const { return bytes_max_; }
  // The largest for which there is room if all that goes on beside it are small ones that hold
  // `small_min`.
  [[nodiscard]] uint64_t SegmentBytesMax(uint64_t small_min) const;
  // Of a segment for entries that holds `bytes_min`: there is no room for it even so.
  [[nodiscard]] bool NeverFits(uint64_t bytes_min, uint64_t small_min) const;
  // Of a segment that holds `bytes_min`: made when bytes_max was larger, so that filling it would
  // take more than that.
  [[nodiscard]] bool IsTooLarge(uint64_t bytes, uint64_t bytes_min) const;
  // What further segments of entries can take, one that is ready among them: whole ones, since no
  // part of one is of use. Asks the file system.
  [[nodiscard]] uint64_t RoomBytes() const;
  [[nodiscard]] metrics::SpoolMetrics& metrics() { return metrics_; }

  void Close();

 private:
  struct Made {
    uint64_t number = 0;
    uint64_t bytes = 0;
  };
  struct Spare {
    std::string path;
    uint64_t bytes = 0;
    bool recycled = false;  // It held a segment before.
  };
  // Besides the one that is ready, unless that is too small: then it makes room, as spares do, and
  // as what was `freed`.
  [[nodiscard]] base::Result<void> CheckSpaceForOneMore(Purpose purpose, uint64_t bytes_min,
                                                        uint64_t freed = 0) const;
  // Whether so many bytes more are within the limits. kFull: why not.
  [[nodiscard]] base::Result<void> CheckLimits(uint64_t bytes, uint64_t freed) const;
  base::Result<Made> Make(Purpose purpose, uint64_t bytes_min) HF_REQUIRES(files_mutex_);
  // Returns what was prepared before.
  std::optional<Made> SetPrepared(std::optional<Made> made) HF_REQUIRES(files_mutex_);
  base::Result<Made> Place(const std::string& draft, uint64_t bytes) HF_REQUIRES(files_mutex_);
  base::Result<void> Remove(uint64_t number, uint64_t bytes);
  void AddSpare(Spare spare);
  void RemoveSpare(const Spare& spare);
  [[nodiscard]] bool WantsWrittenSpare() HF_REQUIRES(work_mutex_);
  void MakeWrittenSpare() HF_REQUIRES(work_mutex_);
  [[nodiscard]] bool LargeOneWanted() const { return wanted_bytes_ > segment_bytes_; }
  void Prepare() HF_REQUIRES(work_mutex_);
  void PrepareNext() HF_REQUIRES(work_mutex_);
  void Seal(Segment& segment) HF_REQUIRES(work_mutex_);
  void Sweep() HF_REQUIRES(work_mutex_);
  base::Result<bool> StillNeeded(const Catalog::Segments& segments, size_t at)
      HF_REQUIRES(work_mutex_);
  base::Result<std::shared_ptr<SegmentFile>> OpenWithEnds(Segment& segment);
  void Reclaim() HF_REQUIRES(work_mutex_);
  base::Result<bool> ReclaimOne(const std::shared_ptr<Segment>& segment) HF_REQUIRES(work_mutex_);

  // Segments that follow each other, to be written anew as one; see segment_rewrite.cc.
  class Hold;
  struct Part {
    std::shared_ptr<Segment> segment;
    std::shared_ptr<const Hold> hold;
    std::shared_ptr<SegmentFile> file;
    SegmentPlan plan;
    uint64_t needed = 0;  // About, of disk.
  };
  class Claim;
  class DraftSpace;
  using Group = std::vector<Part>;
  base::Result<void> Survey(Revision& revision, std::vector<Group>* groups);
  base::Result<void> SealIfNeeded(Segment& segment);
  base::Result<bool> MayChange(const Revision& revision, Segment& segment, Segment& next);
  // Null if it is retired.
  std::shared_ptr<const Hold> HoldOn(const std::shared_ptr<Segment>& segment);
  base::Result<Part> MakePart(const std::shared_ptr<Segment>& segment,
                              std::shared_ptr<const Hold> hold, Revision* revision);
  void AddGroup(Group group, std::vector<Group>* groups) const;
  // Writes the group anew and puts the result in its place.
  base::Result<uint64_t> Rewrite(const Group& group, Revision& revision);
  base::Result<RevisionReport> SortGroup(const Group& group, Revision& revision);
  base::Result<std::optional<Part>> FindUnsorted(const std::shared_ptr<Segment>& segment,
                                                 const std::shared_ptr<Segment>& next,
                                                 base::TimePoint now, Revision& revision);
  base::Result<Group> FindPair(const std::shared_ptr<Segment>& segment,
                               const std::shared_ptr<Segment>& next, Revision& revision);
  void LeaveDamaged(Segment& segment, const base::Error& error);
  base::Result<bool> MoreIsTrimmed(Segment& segment, Segment& next, base::TimePoint now);
  [[nodiscard]] EntryFilter Untrimmed() const;
  // Of what is written anew into segment `number`; tells of damage.
  [[nodiscard]] EntryCheck CheckFor(uint64_t number);
  base::Result<void> CheckSpaceFor(uint64_t bytes) const;
  // Writes the group's draft. Returns how many bytes of entries are in it.
  base::Result<uint64_t> WriteDraft(const Group& group, const std::string& draft,
                                    Revision* revision);
  // The draft takes the place of the group. False if one of that was retired meanwhile. Returns how
  // much disk space that frees.
  base::Result<uint64_t> Install(const Group& group, const std::string& draft, uint64_t entry_bytes)
      HF_REQUIRES(work_mutex_);
  void LetGoRetired() HF_REQUIRES(work_mutex_);
  void RemoveDoomed() HF_REQUIRES(work_mutex_);
  [[nodiscard]] bool MayRemove(uint64_t bytes) HF_REQUIRES(work_mutex_);
  void MakeSpare(const Segment& segment) HF_REQUIRES(work_mutex_);
  [[nodiscard]] bool WantsSpare(const Segment& segment) HF_REQUIRES(work_mutex_);
  [[nodiscard]] uint64_t SmallBytes() const;
  [[nodiscard]] uint64_t BytesFor(Purpose purpose, uint64_t bytes_min) const;
  void PostWork(void (*work)(SegmentStore&, const std::shared_ptr<Segment>&),
                std::shared_ptr<Segment> segment);

  const Directory& directory_;
  Catalog& catalog_;
  base::Executor& background_;
  metrics::SpoolMetrics& metrics_;
  const uint64_t bytes_max_;
  const uint64_t free_bytes_min_;
  const uint64_t segment_bytes_;
  const std::function<base::Result<void>(std::string_view bytes)> check_entry_;
  DamageLog damage_;
  FileCache files_;

  std::atomic<uint64_t> disk_bytes_{0};
  std::atomic<uint64_t> spare_count_{0};
  std::atomic<uint64_t> prepared_bytes_{0};  // Of prepared_, for who must not wait for its making.
  std::atomic<uint64_t> wanted_bytes_{0};    // Of the segment for entries that was refused last.
  std::atomic<bool> sweep_posted_{false};
  std::atomic<bool> prepare_posted_{false};
  std::atomic<bool> preparing_{false};
  std::atomic<bool> closing_{false};
  std::atomic<bool> removing_{false};

  // One task of the background at a time, and Close. Never taken by the writer, so that nothing
  // here makes it wait. Before files_mutex_.
  base::Mutex work_mutex_;
  std::function<void()> on_space_freed_ HF_GUARDED_BY(work_mutex_);
  std::function<void()> on_prepared_ HF_GUARDED_BY(work_mutex_);
  bool closed_ HF_GUARDED_BY(work_mutex_) = false;
  std::vector<std::shared_ptr<Segment>> retired_ HF_GUARDED_BY(work_mutex_);
  std::deque<Directory::File> doomed_ HF_GUARDED_BY(work_mutex_);  // To be removed.
  uint64_t removed_bytes_ HF_GUARDED_BY(work_mutex_) = 0;          // Since removed_since_.
  base::TimePoint removed_since_ HF_GUARDED_BY(work_mutex_);

  // What the next segment will be. Held while that is made, by Take or in the background.
  base::Mutex files_mutex_;
  uint64_t next_number_ HF_GUARDED_BY(files_mutex_) = 1;
  std::optional<Made> prepared_ HF_GUARDED_BY(files_mutex_);
  std::vector<Spare> spares_ HF_GUARDED_BY(files_mutex_);
};

}  // namespace holdfast::spool
