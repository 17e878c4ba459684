// One segment on disk: an LMDB environment of fixed size, and what its databases mean.
//
//   meta     "segment": the header; "sealed": written with the index, when nothing will be added
//   state    checkpoint of all state at the segment's beginning, in pieces with a CRC each, all of
//            them twice
//   ends     the end offset of each stream at the segment's beginning, in blocks with a CRC each:
//            it says which segment holds an offset
//   frames   commit number -> frame
//   streams  the index: (stream, offset) -> block of places; only once sealed
//   runs     position -> run: the bytes of entries; only in a segment that is ordered by stream,
//            whose frames are tables (spool/frame.h)
//
// Life: Create or Build makes an empty file; Begin gives it its header and checkpoint, in one LMDB
//   transaction, so that a segment with a header is complete; Append adds frames; Seal adds the
//   index; Recycle makes it an empty file again.
//
// Damage: Open checks the pages before LMDB sees them. A file that fails is read for what is intact
//   in it (see spool/salvage.h): then it is `salvaged`, reading calls work as ever, and it must not
//   be written to. A damaged index or end of a stream is made anew in memory, from frames and
//   checkpoint. So only damaged frames are lost, and what both copies of the checkpoint have lost.
//
// Durability: Begin and Seal have synced when they return. A frame is durable when Sync has
//   returned, and has to be before the next is appended, so that a power cut can tear but the
//   newest. After a failure of Append or Sync the file must not be written to any more.
//
// A torn commit: what it wrote goes to the disk with one flush, pages and meta page in any order.
//   If the newest one turns out not to be whole, by its pages or by the checksums of frames in
//   them, nothing was acknowledged of it, and the one before is whole (spool/lmdb.h). Then the file
//   is `salvaged` as well, and `torn`, which is no damage: what counts ends with the commit before;
//   or with the newest, if its frame is found whole. The same holds for one more commit than the
//   next segment says there are, whose flush failed: the kernel may forget any of its pages later.
//   If the next segment says that the newest commit counts, its entries are not asked.
//
// Threads: writing calls belong to one thread at a time; reading calls come from any.
#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "spool/change.h"
#include "spool/damage.h"
#include "spool/directory.h"
#include "spool/frame.h"
#include "spool/index.h"
#include "spool/lmdb.h"
#include "spool/page_check.h"
#include "spool/salvage.h"
#include "spool/segment_pieces.h"
#include "spool/state.h"

namespace holdfast::spool {

inline constexpr CommitNumber kAllCommits{UINT64_MAX};

class SegmentFile {
 public:
  // An empty one at `path`, of `bytes`, its blocks allocated where the file system can.
  static base::Result<void> Create(const std::string& path, uint64_t bytes);
  // Writes zeros to its blocks while `go_on` says so, so that filling it changes nothing but data,
  // as with one that is used again. False if it was stopped. It is open nowhere else.
  static base::Result<bool> WriteBlocks(const std::string& path,
                                        const std::function<bool()>& go_on);
  // An empty one to be filled at once and then CutOff, so that it takes only what it needs.
  static base::Result<std::shared_ptr<SegmentFile>> Build(const std::string& path,
                                                          const Origin& origin, uint64_t bytes,
                                                          Layout layout);
  // Makes the file of a retired segment an empty one of the same size again. Its blocks stay as
  // they are, written: filling them is about twice as fast as growing a file, and changes no
  // metadata of the file system. False if it is not of `bytes`, or if another process looks into
  // it just now (and holds an flock on it). The file must have left the log, and be open nowhere
  // in this process.
  static base::Result<bool> Recycle(const std::string& path, uint64_t bytes);
  // kInvalid if it is encrypted and its key is not among `keys`, or if it belongs elsewhere;
  // kNotFound if there is no such file, kCorrupt if nothing of it can be read. `observer`, if any,
  // is told of what is damaged, as it is met. `end`, of a segment that another follows: one
  // behind the last commit that counts, see above.
  static base::Result<std::shared_ptr<SegmentFile>> Open(const std::string& path,
                                                         const Origin& origin, lmdb::Access access,
                                                         const KeyRing& keys,
                                                         DamageObserver* observer,
                                                         CommitNumber end = kAllCommits);
  // For reading, in a spool that another process may own. While it is open the file is not used
  // again for another segment, and its pages stay in place while a transaction is. kNotFound if the
  // segment was retired meanwhile.
  static base::Result<std::shared_ptr<SegmentFile>> Observe(const std::string& path,
                                                            const Origin& origin,
                                                            const KeyRing& keys,
                                                            DamageObserver* observer = nullptr,
                                                            CommitNumber end = kAllCommits);

  // Writes the header and all of `state`; `segments` are the AppendSegment changes of the older
  // segments. With a key the segment is encrypted.
  base::Result<void> Begin(CommitNumber first_commit, const State& state,
                           const std::string& segments, std::shared_ptr<SegmentKey> key);
  // What it takes of the file, and whatever else there is beside frames; about, and rather more.
  static uint64_t BytesToBegin(const State& state, uint64_t segments_bytes);
  base::Result<void> Append(FrameDraft draft);
  // Of a segment that is ordered by stream: entries as stored, of which the first is at `position`.
  base::Result<void> AppendRun(uint32_t position, std::string_view bytes);
  // Likewise, in place of Append. `key` is set here.
  base::Result<void> AppendTable(TableDraft draft);
  // In place of a frame that was lost: numbers have no gaps.
  base::Result<void> AppendLost(CommitNumber commit);
  base::Result<void> Sync();
  // Of one that another process has written to. Before anything is appended.
  base::Result<void> SyncInherited();
  base::Result<void> Seal(const MemoryIndex& index);
  // Ends the file behind what is used, and flushes. Nothing may be added any more.
  base::Result<void> CutOff();
  // What the index takes at most, about.
  static uint64_t IndexBytes(uint64_t entries, uint64_t streams);
  // Bytes that a frame may have so that it fits, with `index` to be sealed behind it.
  [[nodiscard]] uint64_t RoomBytes(const MemoryIndex& index) const;
  [[nodiscard]] uint64_t map_bytes() const;
  [[nodiscard]] uint64_t used_bytes() const;

  // Nothing if Begin never happened.
  [[nodiscard]] const std::optional<SegmentHeader>& header() const { return header_; }
  [[nodiscard]] bool sealed() const { return sealed_; }
  // Of an encrypted segment.
  [[nodiscard]] const SegmentKey* key() const { return key_.get(); }
  [[nodiscard]] SegmentKey* key() { return key_.get(); }
  // Its pages are damaged, or its newest commit is torn; see above.
  [[nodiscard]] bool salvaged() const { return salvage_ != nullptr; }
  [[nodiscard]] bool torn() const { return torn_; }
  // kCorrupt if a piece is lost, unless only what is left is asked for.
  enum class Pieces : uint8_t { kAll, kIntact };
  using ChangeVisitor = std::function<base::Result<void>(const Change&)>;
  base::Result<void> ReadCheckpoint(const ChangeVisitor& visit, Pieces wanted);
  // All frames with numbers in [header's first, end) in order. Damaged and missing ones go to
  // `damaged`.
  using FrameVisitor = std::function<base::Result<void>(const FrameView&)>;
  using DamageVisitor = std::function<void(CommitNumber, const base::Error&)>;
  base::Result<void> WalkFrames(CommitNumber end, const FrameVisitor& visit,
                                const DamageVisitor& damaged);

  base::Result<lmdb::ReadTransaction> BeginRead() const;
  // The newest commit that there is; the one before the header's first if there is none.
  base::Result<CommitNumber> LastCommit(const lmdb::ReadTransaction& transaction) const;
  // kCorrupt if neither `ends` nor the checkpoint say it any more.
  base::Result<StreamEnd> EndAtBeginning(const lmdb::ReadTransaction& transaction, StreamId stream);
  // As MemoryIndex::Find. Not sealed: the index is made from the frames before `end`, once.
  base::Result<void> FindPlaces(const lmdb::ReadTransaction& transaction, StreamId stream,
                                int64_t from, size_t limit, CommitNumber end,
                                std::vector<Place>* out);
  // Verified; its bytes stay in place as long as the transaction lives. kNotFound: there is none,
  // or it was lost before the segment was written anew. kCorrupt: it is damaged.
  base::Result<FrameView> Frame(const lmdb::ReadTransaction& transaction, uint32_t frame);
  // The entry at `line` of one of its frames. Its bytes lie in the file for as long as the
  // transaction lives, or, of an encrypted segment, in `plain`. kCorrupt if they are damaged.
  base::Result<EntryView> Entry(const lmdb::ReadTransaction& transaction, const FrameView& frame,
                                uint32_t line, std::string* plain) const;
  // Whether this process has written the frame, or noted what the entry's bytes are: so long as the
  // file is open nobody needs to sum them again. Short ones are not noted.
  [[nodiscard]] bool KnownSound(uint32_t frame, std::string_view bytes);
  void NoteSound(std::string_view bytes);
  // Has the system read so much of the file ahead.
  void Prefetch(uint64_t begin, uint64_t bytes) const;

 private:
  SegmentFile(std::string path, const Origin& origin, DamageObserver* observer, CommitNumber end)
      : path_(std::move(path)),
        origin_(origin),
        seed_(origin.Seed()),
        observer_(observer),
        end_(end) {}
  base::Result<void> OpenEnvironment(lmdb::Access access);
  base::Result<void> CheckObserved();
  base::Result<void> OpenDatabases();
  base::Result<void> OpenSalvage(const base::Error& damage);
  // Notes whether the newest commit explains what was found, and returns that.
  [[nodiscard]] tl::unexpected<base::Error> NewestNotWhole(base::Error error);
  base::Result<void> ReadHeader();
  base::Result<void> CheckNewest(const lmdb::ReadTransaction& transaction) const;
  base::Result<void> VerifyAt(std::string_view file, uint64_t offset, uint64_t commit,
                              bool entries) const;
  // As stored.
  base::Result<std::string_view> FindPiece(const lmdb::ReadTransaction& transaction,
                                           uint32_t index) const;
  base::Result<StreamEnd> RebuiltEnd(StreamId stream);
  // What is stored there.
  base::Result<std::string_view> FindInRun(const lmdb::ReadTransaction& transaction,
                                           uint32_t position, size_t bytes) const;
  // Fills a new value, durable as a frame is.
  base::Result<void> AppendValue(lmdb::Database database, uint64_t key, uint64_t bytes,
                                 const std::function<void(std::span<char>)>& fill);
  base::Result<FrameView> ParseFrame(const lmdb::ReadTransaction& transaction,
                                     CommitNumber commit) const;
  // The value up to the end of its last page, if it has pages of its own.
  static std::string_view WholePages(std::string_view value);
  base::Result<void> FindSealedPlaces(const lmdb::ReadTransaction& transaction, StreamId stream,
                                      int64_t from, size_t limit, std::vector<Place>* out) const;
  base::Result<bool> ReadBlock(const lmdb::Cursor& cursor, StreamId stream,
                               std::vector<Place>* places) const;
  base::Result<std::shared_ptr<const MemoryIndex>> RebuiltIndex(CommitNumber end);
  base::Result<void> KeepContiguous(uint64_t frame_bytes);
  [[nodiscard]] base::Error Within(base::Error error) const;
  void Report(std::optional<CommitNumber> frame, const base::Error& error) const;

  const std::string path_;
  const Origin origin_;
  const uint32_t seed_;
  DamageObserver* const observer_;
  const CommitNumber end_;  // As the next segment says; all commits if there is none.

  // Constant after Open or Begin.
  std::shared_ptr<const void> hold_;  // What keeps the file from being used again, see Observe.
  std::unique_ptr<lmdb::Environment> environment_;  // One of these two.
  std::unique_ptr<Salvage> salvage_;
  lmdb::Database meta_;
  lmdb::Database state_;
  lmdb::Database ends_;
  lmdb::Database frames_;
  lmdb::Database streams_;
  std::optional<lmdb::Database> runs_;
  std::optional<SegmentHeader> header_;
  std::shared_ptr<SegmentKey> key_;
  bool sealed_ = false;
  std::optional<FramePlaces> before_newest_;  // While it is opened, if the newest does not count.
  bool torn_ = false;

  uint32_t last_checksum_ = 0;  // Of the last frame, for the writing thread.
  std::optional<lmdb::ReadTransaction> oldest_reader_;  // Likewise.
  uint32_t small_frames_ = 0;                           // Likewise, since the last large one.

  std::atomic<uint32_t> written_from_{UINT32_MAX};  // The first frame that we wrote.

  base::Mutex mutex_;
  std::vector<bool> verified_ HF_GUARDED_BY(mutex_);  // By frame.
  // By where entries begin in memory, which is for good: a bit for each KiB, a MiB to a set.
  std::unordered_map<uintptr_t, std::bitset<1024>> sound_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const MemoryIndex> rebuilt_ HF_GUARDED_BY(mutex_);
  std::vector<StreamEnd> rebuilt_ends_ HF_GUARDED_BY(mutex_);
  bool ends_known_ HF_GUARDED_BY(mutex_) = false;
  std::atomic<bool> index_damaged_{false};
};

}  // namespace holdfast::spool
