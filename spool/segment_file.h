// One segment on disk: an LMDB environment of fixed size, and what its databases mean.
//
//   meta     "segment": the header; "key": the data key, wrapped, if the segment is encrypted;
//            "sealed": written with the index, when nothing will be added
//   state    checkpoint of all state at the segment's beginning, in pieces with a CRC each
//   ends     the end offset of each stream at the segment's beginning, in blocks with a CRC each:
//            it says which segment holds an offset
//   frames   commit number -> frame
//   streams  the index: (stream, offset) -> block of places; only once sealed
//
// Life: Create or Build makes an empty file; Begin gives it its header and checkpoint, in one LMDB
//   transaction, so that a segment with a header is complete; Append adds frames; Seal adds the
//   index; Recycle makes it an empty file again.
//
// Durability: Begin has synced when it returns. A frame is durable when the *next* Append or Sync
//   has returned successfully (see spool/lmdb.h). After a failure of Append or Sync the file must
//   not be written to any more.
// Threads: writing calls belong to one thread at a time; reading calls come from any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "spool/change.h"
#include "spool/directory.h"
#include "spool/frame.h"
#include "spool/index.h"
#include "spool/lmdb.h"
#include "spool/state.h"

namespace holdfast::spool {

struct SegmentHeader {
  uint64_t number = 0;
  SpoolId spool{};
  CommitNumber first_commit;
  uint32_t state_pieces = 0;
  uint32_t streams = 0;  // Known at the segment's beginning.
};

// What a stream was when the segment began.
struct StreamEnd {
  int64_t end = 0;
  int64_t max_timestamp_ms = -1;
};

class SegmentFile {
 public:
  // An empty one at `path`, of `bytes`, its blocks allocated where the file system can.
  static base::Result<void> Create(const std::string& path, uint64_t bytes);
  // An empty one to be filled at once and then CutOff, so that it takes only what it needs.
  static base::Result<std::shared_ptr<SegmentFile>> Build(const std::string& path, uint64_t bytes);
  // Makes the file of a retired segment an empty one of the same size again. Its blocks stay as
  // they are, written: filling them is about twice as fast as growing a file, and changes no
  // metadata of the file system. False if it is not of `bytes`, or if another process looks into
  // it just now (and holds an flock on it). The file must have left the log, and be open nowhere
  // in this process.
  static base::Result<bool> Recycle(const std::string& path, uint64_t bytes);
  // kInvalid if it is encrypted and its key is not among `keys`.
  static base::Result<std::shared_ptr<SegmentFile>> Open(const std::string& path,
                                                         lmdb::Access access, const KeyRing& keys);
  // For reading, in a spool that another process may own. While it is open the file is not used
  // again for another segment, and its pages stay in place while a transaction is. kNotFound if the
  // segment was retired meanwhile.
  static base::Result<std::shared_ptr<SegmentFile>> Observe(const std::string& path,
                                                            const KeyRing& keys);

  // Writes the header (state_pieces and streams are filled in here) and all of `state`; `segments`
  // are the AppendSegment changes of the older segments. With a key the segment is encrypted.
  base::Result<void> Begin(SegmentHeader header, const State& state, const std::string& segments,
                           std::shared_ptr<SegmentKey> key);
  base::Result<void> Append(FrameDraft draft);
  base::Result<void> Sync();
  // Of one that another process has written to.
  base::Result<void> SyncInherited();
  base::Result<void> Seal(const MemoryIndex& index);
  // Ends the file behind what is used, and flushes. Nothing may be added any more.
  base::Result<void> CutOff();
  // Bytes that a frame may have so that it fits, with `index` to be sealed behind it.
  [[nodiscard]] uint64_t RoomBytes(const MemoryIndex& index) const;
  [[nodiscard]] uint64_t map_bytes() const;

  // Nothing if Begin never happened.
  [[nodiscard]] const std::optional<SegmentHeader>& header() const { return header_; }
  [[nodiscard]] bool sealed() const { return sealed_; }
  // Of an encrypted segment.
  [[nodiscard]] const SegmentKey* key() const { return key_.get(); }
  base::Result<void> ReadCheckpoint(const std::function<base::Result<void>(const Change&)>& visit);
  // All frames with numbers in [header's first, end) in order. Damaged ones go to `damaged`.
  using FrameVisitor = std::function<base::Result<void>(const FrameView&)>;
  using DamageVisitor = std::function<void(CommitNumber, const base::Error&)>;
  base::Result<void> WalkFrames(CommitNumber end, const FrameVisitor& visit,
                                const DamageVisitor& damaged);

  base::Result<lmdb::ReadTransaction> BeginRead() const;
  // The newest commit that there is; the one before the header's first if there is none.
  base::Result<CommitNumber> LastCommit(const lmdb::ReadTransaction& transaction) const;
  base::Result<StreamEnd> EndAtBeginning(const lmdb::ReadTransaction& transaction,
                                         StreamId stream) const;
  // As MemoryIndex::Find. Not sealed: the index is made from the frames before `end`, once.
  base::Result<void> FindPlaces(const lmdb::ReadTransaction& transaction, StreamId stream,
                                int64_t from, size_t limit, CommitNumber end,
                                std::vector<Place>* out);
  // Verified; its bytes stay in place as long as the transaction lives. kNotFound: there is none.
  base::Result<FrameView> Frame(const lmdb::ReadTransaction& transaction, uint32_t frame);

 private:
  explicit SegmentFile(std::unique_ptr<lmdb::Environment> environment)
      : environment_(std::move(environment)) {}
  base::Result<void> OpenDatabases();
  base::Result<void> ReadHeader(const lmdb::ReadTransaction& transaction, const KeyRing& keys);
  base::Result<void> FindSealedPlaces(const lmdb::ReadTransaction& transaction, StreamId stream,
                                      int64_t from, size_t limit, std::vector<Place>* out) const;
  base::Result<std::shared_ptr<const MemoryIndex>> RebuiltIndex(CommitNumber end);
  base::Result<void> KeepContiguous(uint64_t frame_bytes);
  [[nodiscard]] base::Error Within(base::Error error) const;

  // Constant after Open or Begin.
  std::shared_ptr<const void> hold_;  // What keeps the file from being used again, see Observe.
  std::unique_ptr<lmdb::Environment> environment_;
  lmdb::Database meta_;
  lmdb::Database state_;
  lmdb::Database ends_;
  lmdb::Database frames_;
  lmdb::Database streams_;
  std::optional<SegmentHeader> header_;
  std::shared_ptr<SegmentKey> key_;
  bool sealed_ = false;

  std::optional<lmdb::ReadTransaction> oldest_reader_;  // Of the writing thread.
  uint32_t small_frames_ = 0;                           // Likewise, since the last large one.

  base::Mutex mutex_;
  std::vector<bool> verified_ HF_GUARDED_BY(mutex_);  // By frame.
  std::shared_ptr<const MemoryIndex> rebuilt_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::spool
