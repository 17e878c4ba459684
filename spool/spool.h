// The storage engine under agent and broker: a commit log of LMDB segments that many streams share.
//
// A *stream* is a sequence of *entries* (opaque bytes, in practice one Kafka record batch each). An
// entry holds `record_count` records and takes as many offsets. All streams share one log: a
// *frame* is what one group commit wrote, entries of any streams and changes of *state* (small
// keyed records, such as cursors and group offsets) together, so that both are there after a crash,
// or neither is.
//
//   auto spool = Spool::Open(options, owner, writer, background);
//   spool->Submit(operation);                             // Apply, then Done once it is durable.
//   auto lease = spool->Read(stream, offset, 1 << 20);    // Views into the map while it lives.
//
// Durability: Operation::Done(success), Owner::OnDurable and every read see only what a finished
//   fdatasync covers. Nothing is visible before it is durable.
// Ownership: owner and executors outlive the spool. One process owns a directory (a lock); a second
//   one gets kUnavailable. One spool per metrics registry.
// Compaction: Revise takes the bytes of entries in old segments away, or gives them others, and
//   keeps every offset. Reads pass over entries without bytes; where one was is no damage.
// Threads: Operation::Apply, Operation::Done and the calls of Owner run on `writer`, but for Load
//   and Replay within Open, which run inside it. Submit, Read, ReadSound, ListEntries,
//   NextReadable, Range, FindByTime, FindStream, Streams, SealedEnd, SealSoon and GetStatus may be
//   called from any thread, Revise by one at a time, any but the executors' own. Work off the hot
//   path (sealing and retiring segments, preparing the next one) runs on `background`.
// Shutdown: Close stops taking operations, commits and completes those already taken, and syncs.
//   The destructor closes. Leases must be gone before.
// Limits: Options names each; past them Submit refuses or Done says kFull, and work that only trims
//   or changes state still goes through. When the disk fails all operations are refused (kIo),
//   reads go on, and the spool tries by itself until it can write again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "base/strong_id.h"
#include "spool/cipher.h"
#include "spool/origin.h"

namespace holdfast::metrics {
class Registry;
}

namespace holdfast::spool {

using StreamId = base::StrongId<struct StreamIdTag, uint32_t>;
// Rises by one with each frame, over all segments, for the life of a directory.
using CommitNumber = base::StrongId<struct CommitNumberTag, uint64_t>;

// 16 bytes that the owner wants to see again on replay (for a record batch: producer id, epoch and
// sequence), so that opening need not touch the entries themselves. Opaque to the spool.
using Tag = std::array<char, 16>;

struct NewEntry {
  StreamId stream;
  std::string_view bytes;  // Not empty. Must stay valid until Done.
  uint32_t record_count = 0;
  int64_t max_timestamp_ms = -1;  // Largest record timestamp, for FindByTime.
  Tag tag{};
  // What the caller knows from a checksum inside, and has seen to be right, so that the spool need
  // not sum `bytes` again: the CRC-32C of all from `begin` on. If it is wrong, and the commit the
  // newest one when the spool is opened, that looks torn, and is lost.
  struct Summed {
    size_t begin = 0;
    uint32_t crc = 0;
  };
  std::optional<Summed> summed{};
};

struct EntryInfo {
  StreamId stream;
  int64_t base_offset = 0;  // Of the first record; the next entry begins at end_offset().
  uint32_t record_count = 0;
  uint32_t bytes = 0;
  int64_t max_timestamp_ms = -1;
  Tag tag{};
  CommitNumber commit;
  int64_t commit_time_ms = 0;  // Wall clock when the frame was made.

  [[nodiscard]] int64_t end_offset() const { return base_offset + record_count; }
};

struct EntryView {
  EntryInfo info;
  std::string_view bytes;
};

// Offsets of a stream that can be read now: [start, end).
struct OffsetRange {
  int64_t start = 0;
  int64_t end = 0;
};

// What a stream is called whose name was lost with the frames that had it. Its entries can be read.
std::string LostStreamName(StreamId stream);

// What one Operation adds to the group commit that is being made. Only valid inside Apply.
class Transaction {
 public:
  virtual ~Transaction() = default;

  // The stream of that name, made if there is none yet. Names are at most 500 bytes.
  virtual StreamId OpenStream(std::string_view name) = 0;
  // Appends at the end of the stream; returns the base offset given.
  virtual int64_t Append(const NewEntry& entry) = 0;
  // The offset that the next entry of the stream gets, entries of this commit included.
  [[nodiscard]] virtual int64_t EndOffset(StreamId stream) const = 0;
  // Up to where the stream is trimmed, by this commit too.
  [[nodiscard]] virtual int64_t StartOffset(StreamId stream) const = 0;
  // Nobody needs offsets below `offset` any more. Never moves back, and never past the end.
  virtual void Trim(StreamId stream, int64_t offset) = 0;

  // State, as of this point of the commit. Views stay valid until the next Put or Erase.
  virtual void Put(std::string_view key, std::string_view value) = 0;
  virtual void Erase(std::string_view key) = 0;
  [[nodiscard]] virtual std::optional<std::string_view> Get(std::string_view key) const = 0;

  // Wall clock of this commit, the commit_time_ms of its entries.
  [[nodiscard]] virtual int64_t commit_time_ms() const = 0;
};

// One unit of work: takes part in a group commit whole, in the order of submission.
class Operation {
 public:
  virtual ~Operation() = default;
  // How many entry bytes Apply may append, at most. An operation that only trims or changes state
  // says 0, and is let through when the spool is full.
  [[nodiscard]] virtual size_t Bytes() const = 0;
  // Appends and changes state. It may find that there is nothing to do (a duplicate).
  virtual void Apply(Transaction& transaction) = 0;
  // Called once: with the commit after its data is durable, or with the error after which nothing
  // of it is stored (kFull, kIo: may be tried again). An operation refused as kFull was never
  // applied. Of these Event::kNoRoomForLarge found no room only because of its size, and
  // kTooLargeForSpool never will; neither says anything about others. Of an operation that is
  // refused so alone Done comes before those behind it are applied.
  virtual void Done(const base::Result<CommitNumber>& result) = 0;
};

// State as it stands, for an owner that loads itself.
class StateView {
 public:
  using Visitor = std::function<void(std::string_view key, std::string_view value)>;
  virtual ~StateView() = default;
  [[nodiscard]] virtual std::optional<std::string_view> Get(std::string_view key) const = 0;
  // All keys with the prefix, in order.
  virtual void ForEach(std::string_view prefix, const Visitor& visit) const = 0;
};

// What the user of a spool keeps in memory beside it, and must be able to find again after a crash
// or a failed commit. There are two ways, and an owner may use both:
// - state that Apply writes with Put. It is there in Load.
// - state that follows from the entries (the last sequences of each producer). It costs no byte in
//   the log: it is Put in Checkpoint, when a segment begins, and Replay brings it up to date.
class Owner {
 public:
  virtual ~Owner() = default;
  // Forget everything, and begin from the state: its explicit keys are up to date, the keys of
  // Checkpoint are as of the newest segment's beginning. On opening, and again after a failed
  // commit, before the Done calls of what failed.
  virtual base::Result<void> Load(const StateView& state) = 0;
  // Each entry of the newest segment in order of commits, after Load. If the newest checkpoint is
  // damaged those of older segments, too, but not what a revision has taken the bytes of.
  virtual void Replay(const EntryInfo& entry) = 0;
  // A segment begins: Put what Replay builds on. Put, Erase and Get only.
  virtual void Checkpoint(Transaction& transaction) = 0;
  // These streams have new durable entries. Before the Done calls of the same commit.
  virtual void OnDurable(std::span<const StreamId> streams) = 0;
};

struct Options {
  std::string directory;
  // Size of a segment's file. Smaller if fewer than four would fit into bytes_max; 1 MiB at least.
  uint64_t segment_bytes = uint64_t{256} << 20;
  // A group commit takes operations up to this many entry bytes. A larger single operation gets a
  // frame of its own.
  size_t commit_bytes_max = size_t{1} << 20;
  // Entry bytes submitted and not yet committed.
  size_t queue_bytes_max = size_t{64} << 20;
  // Disk space for all segments together; 0 is no limit but the file system's.
  static constexpr uint64_t kBytesMaxMin = uint64_t{4} << 20;
  uint64_t bytes_max = 0;
  // No new segment for entries if the file system would then have less than this left, so that
  // trimming can still be recorded. A segment's blocks are allocated when it is made.
  uint64_t free_bytes_min = uint64_t{64} << 20;
  // The first encrypts what is written from now on (with no space for a segment when the spool is
  // opened: from when there is); all of them read. None: nothing is encrypted.
  KeyRing encryption_keys;
  // Says whether an entry's bytes are what they should be, for ReadSound. From any thread; whatever
  // error it gives. None: all are.
  std::function<base::Result<void>(std::string_view bytes)> check_entry;
  // Who opens the spool meanwhile waits a while for it, and Wanted says so. kNotFound if there is
  // none yet.
  bool yields = false;
  metrics::Registry* metrics = nullptr;  // Optional; outlives the spool.
};

// A change to the entries of old segments which keeps every offset. Its calls come from the thread
// that revises.
class Revision {
 public:
  virtual ~Revision() = default;
  enum class Fate : uint8_t {
    kKeep,
    kEmpty,    // Loses its bytes, for good. Neighbours that did become one.
    kReplace,  // Gets other bytes for the same offsets.
  };
  struct Replacement {
    std::string bytes;
    int64_t max_timestamp_ms = -1;  // Not above what it was.
  };
  // Those that may be changed. All else stays as it is.
  [[nodiscard]] virtual std::span<const StreamId> Streams() const = 0;
  // The same answer whenever it is asked.
  [[nodiscard]] virtual Fate Judge(const EntryInfo& entry) const = 0;
  // Of an entry that is to be replaced.
  virtual base::Result<Replacement> Replace(const EntryView& entry) = 0;
  // Segments with `written` bytes would be written to free `freed` bytes of entries: is it worth
  // it?
  [[nodiscard]] virtual bool Worth(uint64_t freed, uint64_t written) = 0;
  // So many bytes were read or written since the last call. May wait, and says whether to go on.
  [[nodiscard]] virtual bool Pace(size_t bytes) = 0;
};

// So many bytes were read or written since the last call. May wait, and says whether to go on.
using Pace = std::function<bool(size_t bytes)>;

struct RevisionReport {
  bool done = false;  // If not, it was not worth it, or there is more to do.
  uint64_t written_segments = 0;
  uint64_t freed_bytes = 0;  // Of disk.
};

// A read: entries of one stream and what keeps their bytes in place. Short-lived unless it is
// lasting: copy or send, then let it go; never hold one across a wait.
class Lease {
 public:
  Lease();
  Lease(Lease&&) noexcept;
  Lease& operator=(Lease&&) noexcept;
  ~Lease();
  [[nodiscard]] std::span<const EntryView> entries() const;
  [[nodiscard]] bool empty() const { return entries().empty(); }
  // Of a sealed segment, which nobody writes to: all that a long wait costs is that the file stays,
  // should the segment be retired meanwhile.
  [[nodiscard]] bool lasting() const;
  // Its entries were encrypted: it holds them in memory of its own.
  [[nodiscard]] bool decrypted() const;

 private:
  friend class SpoolReader;
  struct State;
  std::unique_ptr<State> state_;
};

struct Status {
  SpoolId id{};              // The same for as long as there is the directory, wherever that is.
  uint64_t disk_bytes = 0;   // Of all segments.
  uint64_t entry_bytes = 0;  // Of all entries not yet trimmed away with their segment.
  uint64_t bytes_max = 0;
  uint32_t segments = 0;
  uint32_t streams = 0;
  CommitNumber durable;  // Newest durable commit.
  size_t queued_bytes = 0;
  bool accepting = true;         // False while full, failing or closed.
  std::string refusing_because;  // Why not, for a person.
  uint64_t space_freed = 0;      // Rises each time that segments were.
  // Entries were refused, and what may make room for them by itself is not done yet.
  bool making_room = false;
  // What one operation may append that an empty spool takes; less once there is more state.
  uint64_t operation_bytes_max = 0;
};

class Spool {
 public:
  static base::Result<std::unique_ptr<Spool>> Open(const Options& options, Owner& owner,
                                                   base::Executor& writer,
                                                   base::Executor& background);
  virtual ~Spool() = default;

  // Takes the operation, or leaves it alone and says false when the queue is full or the spool
  // closed.
  [[nodiscard]] virtual bool Submit(std::unique_ptr<Operation>& operation) = 0;

  // Entries of the stream beginning with the one that contains `from`, or the next that has bytes,
  // in order, while they fit in `max_bytes` (the first always does) and lie in one segment. Empty
  // if there are none up to the end of the stream. kNotFound: below the start or past the end.
  // kCorrupt: damaged, see NextReadable.
  [[nodiscard]] virtual base::Result<Lease> Read(StreamId stream, int64_t from,
                                                 size_t max_bytes) = 0;

  // The same for bytes that are handed on: entries of which Options::check_entry says that they are
  // not what they should be are damaged, too. Those that were written just now, or that a checksum
  // of the spool's own covers, are not asked about, and others once while their file is open.
  [[nodiscard]] virtual base::Result<Lease> ReadSound(StreamId stream, int64_t from,
                                                      size_t max_bytes) = 0;

  // What the tables of frames say of the same entries, of `entries_max` at most, which is not 0.
  // Their bytes are not read: nothing encrypted is opened, and one whose bytes are damaged is
  // listed like any. Otherwise as Read: kCorrupt if the frame is damaged, a small one in any byte.
  [[nodiscard]] virtual base::Result<std::vector<EntryInfo>> ListEntries(StreamId stream,
                                                                         int64_t from,
                                                                         size_t entries_max) = 0;

  // The first offset at or after `from` that ReadSound can read, or the end: the way past damage.
  [[nodiscard]] virtual base::Result<int64_t> NextReadable(StreamId stream, int64_t from) = 0;

  [[nodiscard]] virtual OffsetRange Range(StreamId stream) const = 0;

  // The first entry whose max_timestamp_ms is at least `timestamp_ms`, beginning with the one that
  // contains `from`.
  [[nodiscard]] virtual base::Result<std::optional<EntryInfo>> FindByTime(StreamId stream,
                                                                          int64_t timestamp_ms,
                                                                          int64_t from) = 0;
  [[nodiscard]] virtual std::optional<StreamId> FindStream(std::string_view name) const = 0;
  // All streams, for start-up and for people.
  [[nodiscard]] virtual std::vector<std::pair<std::string, StreamId>> Streams() const = 0;

  [[nodiscard]] virtual Status GetStatus() const = 0;

  // Whether another process waits for this one to close a spool that yields. From any thread.
  [[nodiscard]] virtual bool Wanted() const = 0;

  // Where the open segment began for this stream: below it entries can be revised.
  [[nodiscard]] virtual int64_t SealedEnd(StreamId stream) const = 0;
  // Begins a new segment although the open one has room. Nothing happens if that has no entries, or
  // if there is no space.
  virtual void SealSoon() = 0;
  // Writes old segments anew as `revision` says, from the oldest on, each at once whole: after a
  // crash it is as before or as after. Segments that became small are joined. What is trimmed is
  // left out, too. Blocks, maybe for minutes. kClosed: told to stop, or the spool was closed.
  // kFull: no disk space for it. kCorrupt: a segment is damaged; those before it are done, later
  // ones were not touched.
  virtual base::Result<RevisionReport> Revise(Revision& revision) = 0;

  // Writes an old segment anew, ordered by stream, if streams' entries are scattered over it or
  // half of what it holds is trimmed, or joins two small ones. So whoever reads a stream from far
  // back reads the disk in long stretches, and space comes back although a stream with longer
  // retention shares the segments. One at a time, from the oldest on; done when none was found.
  // What is damaged is left alone. Blocks, maybe for a minute. kClosed as above; kFull: no disk
  // space.
  virtual base::Result<RevisionReport> Sort(base::TimePoint now, const Pace& pace) = 0;

  // See Shutdown above. Blocks until all is done.
  virtual void Close() = 0;
};

}  // namespace holdfast::spool
