// What readers see: the streams, the segments and the index of the open segment, all as of the
// newest durable commit. The writer publishes a commit here after its data is synced, never before.
//
// Threads: any. One lock, held for copies only, never across I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "spool/index.h"
#include "spool/segment.h"
#include "spool/spool.h"
#include "spool/state.h"

namespace holdfast::spool {

// A durable commit.
struct CommitNews {
  struct Entry {
    StreamId stream;
    Place place;
    int64_t end_offset = 0;
  };
  CommitNumber commit;
  std::vector<std::pair<StreamId, std::string>> opened;  // In order of ids.
  std::vector<Entry> entries;
  std::vector<std::pair<StreamId, int64_t>> trims;
  uint64_t entry_bytes = 0;
};

class Catalog {
 public:
  using Segments = std::vector<std::shared_ptr<Segment>>;

  // --- The writer's.
  // In order of numbers; the last one is the open one. `state` is that of `durable`.
  void Load(Segments segments, std::shared_ptr<MemoryIndex> index, const State& state,
            CommitNumber durable);
  // Returns the streams that have new entries, each once.
  std::vector<StreamId> Publish(const CommitNews& news);
  // `next` becomes the open one; the index of the one before is pinned to it. Returns the new one,
  // which only Publish changes, so that the writer may look into it without a lock.
  std::shared_ptr<MemoryIndex> BeginSegment(const std::shared_ptr<Segment>& next);
  void Remove(const Segment& segment);
  // `with` holds the same, but for what was trimmed or revised. False, and nothing is done, if the
  // segment is not there any more.
  [[nodiscard]] bool Replace(const Segment& segment, std::shared_ptr<Segment> with);

  // --- Anybody's.
  [[nodiscard]] OffsetRange Range(StreamId stream) const;
  [[nodiscard]] std::optional<StreamId> FindStream(std::string_view name) const;
  [[nodiscard]] std::vector<std::pair<std::string, StreamId>> Streams() const;
  [[nodiscard]] size_t stream_count() const;
  [[nodiscard]] CommitNumber durable() const;
  // In order of numbers; the last one is open.
  [[nodiscard]] std::shared_ptr<const Segments> segments() const;
  // Whether the offset came after the open segment began.
  [[nodiscard]] bool InOpenSegment(StreamId stream, int64_t offset) const;
  // Where the open segment began for the stream.
  [[nodiscard]] int64_t SealedEnd(StreamId stream) const;
  // As MemoryIndex::Find, in memory or in `file`.
  base::Result<void> FindPlaces(const Segment& segment, SegmentFile& file,
                                const lmdb::ReadTransaction& transaction, StreamId stream,
                                int64_t from, size_t limit, std::vector<Place>* out) const;

 private:
  struct Stream {
    std::string name;
    int64_t start = 0;
    int64_t end = 0;
    int64_t open_segment_begin = 0;  // Its end when the open segment began.
    // The newest with entries of it that was published.
    CommitNumber last_commit{UINT64_MAX};
  };

  mutable base::Mutex mutex_;
  std::vector<Stream> streams_ HF_GUARDED_BY(mutex_);
  std::unordered_map<std::string, StreamId> by_name_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const Segments> segments_ HF_GUARDED_BY(mutex_) =
      std::make_shared<const Segments>();
  std::shared_ptr<MemoryIndex> index_ HF_GUARDED_BY(mutex_);
  CommitNumber durable_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::spool
