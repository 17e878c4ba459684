// Reading: finds the segment and the place of an offset and resolves it to bytes in the map.
//
// Threads: any, at once. A read takes the catalog's lock for copies only; it may open a file and
//   wait for the disk.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "spool/catalog.h"
#include "spool/segment_store.h"
#include "spool/spool.h"

namespace holdfast::spool {

class SpoolReader {
 public:
  using EntryCheck = std::function<base::Result<void>(std::string_view bytes)>;

  SpoolReader(const Catalog& catalog, std::shared_ptr<SegmentStore> store, EntryCheck check_entry)
      : catalog_(catalog), store_(std::move(store)), check_entry_(std::move(check_entry)) {}

  base::Result<Lease> Read(StreamId stream, int64_t from, size_t max_bytes);
  base::Result<Lease> ReadSound(StreamId stream, int64_t from, size_t max_bytes);
  base::Result<std::vector<EntryInfo>> ListEntries(StreamId stream, int64_t from,
                                                   size_t entries_max);
  base::Result<int64_t> NextReadable(StreamId stream, int64_t from);
  base::Result<std::optional<EntryInfo>> FindByTime(StreamId stream, int64_t timestamp_ms,
                                                    int64_t from);

 private:
  using Segments = Catalog::Segments;

  // Each public call is made again by these if a segment it looked into was retired meanwhile.
  template <class Attempt>
  auto WithSegments(const Attempt& attempt) -> decltype(attempt(Segments()));
  base::Result<Lease> Read(const Segments& segments, StreamId stream, int64_t from,
                           size_t max_bytes, bool sound);
  base::Result<std::optional<EntryInfo>> FindFrom(const Segments& segments, size_t first,
                                                  StreamId stream, int64_t from,
                                                  int64_t timestamp_ms_min);

  // The position in `segments` of the one that holds the offset, or would.
  base::Result<size_t> FindSegment(const Segments& segments, StreamId stream, int64_t offset);
  base::Result<size_t> FindSegmentByTime(const Segments& segments, StreamId stream,
                                         int64_t timestamp_ms);
  // Of the segment at that position, or as near as damage lets it be known.
  base::Result<StreamEnd> EndAtBeginning(const Segments& segments, size_t at, StreamId stream);

  base::Result<std::unique_ptr<Lease::State>> Take(const std::shared_ptr<Segment>& segment);
  // Of the stream, if it has the offset.
  [[nodiscard]] base::Result<OffsetRange> RangeWith(StreamId stream, int64_t from) const;
  enum class Visited : uint8_t { kTaken, kTakenAsLast, kLeft };  // The first: more is wanted.
  // Calls visit(frame, place, info) for the segment's entries that have bytes, in order, from the
  // one that contains `from` on, while it takes them and wants more. Reads none. Returns how far it
  // came: no further than `from` if that one was left, or what holds it is damaged.
  template <class Visit>
  base::Result<int64_t> VisitEntries(const Lease::State& lease, StreamId stream, int64_t from,
                                     const Visit& visit) const;
  base::Result<int64_t> Fill(Lease::State& lease, StreamId stream, int64_t from, size_t max_bytes,
                             bool sound);
  // The entry at the place. `sound`: its bytes are what they should be.
  base::Result<EntryView> ReadEntry(Lease::State& lease, const FrameView& frame, const Place& place,
                                    bool sound, std::string* plain) const;
  // The first entry that reaches behind `from` and has such a timestamp, in this segment.
  base::Result<std::optional<EntryInfo>> FindEntry(Lease::State& lease, StreamId stream,
                                                   int64_t from, int64_t timestamp_ms_min);

  const Catalog& catalog_;
  const std::shared_ptr<SegmentStore> store_;
  const EntryCheck check_entry_;
};

}  // namespace holdfast::spool
