// The one writer: takes operations from the queue, makes group commits of them, and answers when
// they are durable.
//
// A turn makes one commit, flushes it and answers it: one flush per commit, so an operation waits
// for at most two, the one under way and its own.
//
// When a commit or its flush fails, what the disk holds of it is unknown, and a second flush that
// succeeds would prove nothing: the kernel may have dropped the pages. So the commit fails, the
// segment is never written to again, and the log goes on in a new one, which says where the old one
// ends. Until that works (tried again and again, more and more rarely) nothing is taken. Nothing
// that was acknowledged is touched by any of this.
//
// An open segment of which nothing is needed any more is left where it keeps the room from the
// next: a large one (see SegmentStore) as soon as it is trimmed, if there is room for one of the
// usual size beside it; any when a segment was refused, for a small one that takes no entries.
//
// Threads: Submit and the getters from any thread; Turn and what it calls on the writer's executor.
// Shutdown: Close; see spool/spool.h.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "spool/catalog.h"
#include "spool/commit.h"
#include "spool/segment_store.h"
#include "spool/state.h"

namespace holdfast::spool {

class Writer : public std::enable_shared_from_this<Writer> {
 public:
  Writer(const Options& options, const Directory& directory, Owner& owner, base::Executor& executor,
         Catalog& catalog, std::shared_ptr<SegmentStore> store);

  // Loads what the directory holds, or begins an empty log. Before anything else, on any thread.
  base::Result<void> Open();

  [[nodiscard]] bool Submit(std::unique_ptr<Operation>& operation);

  struct Intake {
    size_t queued_bytes = 0;
    bool accepting = true;
    std::string refusing_because;
    uint64_t space_freed = 0;
    bool making_room = false;
    uint64_t operation_bytes_max = 0;
  };
  [[nodiscard]] Intake GetIntake() const;

  // Goes on in a new segment, if the open one has entries and there is space. From any thread.
  void SealSoon();

  // Takes entries again if there is space now, and has more of it freed. On the executor.
  void SpaceFreed();
  // What was to make room for entries that were refused is done. On the executor, after SpaceFreed
  // for what came of it.
  void Prepared();

  // Blocks; on the executor's own thread it works, too.
  void Close();

 private:
  static constexpr base::Duration kRetryDelayMin = std::chrono::milliseconds(100);

  enum class Mode : uint8_t {
    kRunning,
    kFull,     // Refuses entries: there is no further segment of the usual size to be had.
    kFailing,  // Refuses everything: a commit failed, and no new segment could be begun.
  };

  // Loading.
  using Pieces = SegmentFile::Pieces;
  // A segment's frames up to `end`.
  struct Source {
    std::shared_ptr<SegmentFile> file;
    CommitNumber end;
  };
  base::Result<void> Load();
  base::Result<void> OpenNewest(std::vector<Directory::File>& files);
  struct Loaded {
    std::vector<Directory::File> retired;  // No segments any more.
    bool whole = false;                    // The newest checkpoint.
  };
  base::Result<Loaded> LoadNewest(const std::vector<Directory::File>& files);
  void ReportTorn() const;
  void ReportNameless() const;
  void LeaveNewest();
  [[nodiscard]] bool KeyChanged() const;
  // The open segment was begun with another key, or under a larger limit.
  [[nodiscard]] bool Outdated() const;
  void LeaveOutdated();
  base::Result<std::shared_ptr<SegmentFile>> OpenOlder(uint64_t number, CommitNumber end);
  base::Result<void> KeepDamaged(uint64_t number, const base::Error& why);
  base::Result<std::vector<Change>> FindSegments(const std::vector<Directory::File>& files);
  base::Result<std::vector<Source>> FindSources(const std::vector<Change>& known);
  void ReportMissing(const std::vector<Change>& known, const Catalog::Segments& segments);
  // The first one's checkpoint and the frames of all; index and entry bytes are of the last one.
  // Returns the last commit's number.
  base::Result<CommitNumber> LoadState(std::span<const Source> sources, Pieces pieces, State* state,
                                       MemoryIndex* index, std::vector<Change>* segments,
                                       uint64_t* entry_bytes);
  base::Result<CommitNumber> LoadFrames(const Source& source, State* state, MemoryIndex* index,
                                        uint64_t* entry_bytes);
  base::Result<void> LoadOwner(std::span<const Source> sources);

  // A turn.
  void PostTurn();
  void Turn();
  void TakeTurn();
  [[nodiscard]] bool RefillBacklog();
  void Stage(Commit& commit);
  base::Result<bool> MakeRoom(const Commit& staged, size_t bytes);
  void Write(Commit commit);
  void Complete(Commit commit);
  void Answer(Commit& commit, const base::Result<CommitNumber>& result);

  // Segments. Nothing may be staged.
  [[nodiscard]] uint64_t SegmentHolds(uint64_t bytes_min) const;
  [[nodiscard]] bool NeverFits(uint64_t bytes_min) const;
  [[nodiscard]] uint64_t BytesNeeded(const Commit& staged, size_t bytes) const;
  void ReportOperationBytesMax();
  void RefuseEntries(uint64_t needed, base::Error& because);
  base::Result<void> Roll(Purpose purpose, uint64_t bytes_min);
  base::Result<void> RollToAny();
  void OnRolledEarly(const base::Result<void>& rolled);
  void ReportNotRolled(const base::Result<void>& rolled) const;
  void MakeRoomSoon();
  [[nodiscard]] bool AllIsTrimmed() const;
  [[nodiscard]] bool LargeAndTrimmed() const;
  void LeaveLargeSoon();
  base::Result<void> LeaveIfTrimmed(uint64_t bytes_min);
  [[nodiscard]] bool OthersWouldHaveRoom();
  base::Result<void> BeginSegment(SegmentStore::Next next, Purpose purpose);
  [[nodiscard]] std::string OlderSegments(CommitNumber end) const;

  // Trouble.
  void Fail(std::optional<Commit> staged, const base::Error& error);
  base::Result<void> Reload();
  void RefuseBacklog(const base::Error& error);
  void Retry();
  void RetryLater(base::Duration delay);
  void SetMode(Mode mode, base::Error because);

  void CloseOnExecutor();
  void ReportQueue() HF_REQUIRES(mutex_);

  const Options options_;
  const Directory& directory_;
  Owner& owner_;
  base::Executor& executor_;
  Catalog& catalog_;
  const std::shared_ptr<SegmentStore> store_;
  metrics::SpoolMetrics& metrics_;
  const uint64_t progress_reserve_;

  // Of the executor's thread.
  State state_;
  std::shared_ptr<Segment> segment_;   // The newest.
  std::shared_ptr<SegmentFile> file_;  // Its file; nothing after a failure.
  Purpose purpose_ = Purpose::kEntries;
  std::shared_ptr<MemoryIndex> index_;
  CommitNumber durable_;
  bool reload_needed_ = false;
  // Why the open segment cannot be written to any more, found amid staging, on its way to Fail.
  std::optional<base::Error> segment_error_;
  std::deque<Taken> backlog_;
  size_t entries_expected_ = 0;  // As many as the commit before had.
  bool next_prepared_ = false;
  uint64_t segment_bytes_min_ = 0;  // What the next segment must hold, after an unusual failure.
  // Commits that held entries, in all and when a large operation was refused the last time.
  uint64_t entry_commits_ = 0;
  uint64_t entry_commits_refused_ = 0;
  bool left_ = false;  // A segment, for the room that it has, since the store last prepared.
  Mode mode_ = Mode::kRunning;
  base::Error refusal_{base::Code::kFull, {}};  // Unless running.
  base::Timer retry_timer_;
  base::Timer removal_timer_;
  base::Timer outdated_timer_;
  bool removal_planned_ = false;
  base::Duration retry_delay_{};
  bool stopped_ = false;

  mutable base::Mutex mutex_;
  std::deque<Taken> queue_ HF_GUARDED_BY(mutex_);
  size_t queued_bytes_ HF_GUARDED_BY(mutex_) = 0;
  size_t queued_operations_ HF_GUARDED_BY(mutex_) = 0;
  bool turn_posted_ HF_GUARDED_BY(mutex_) = false;
  bool closed_ HF_GUARDED_BY(mutex_) = false;
  Intake intake_ HF_GUARDED_BY(mutex_);  // queued_bytes is filled in when asked.
};

}  // namespace holdfast::spool
