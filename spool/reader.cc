#include "spool/reader.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "metrics/catalogue.h"

namespace holdfast::spool {

struct Lease::State {
  // In this order: the transaction goes before the file, and that before the segment may.
  struct Hold {
    std::shared_ptr<SegmentStore> store;
    std::shared_ptr<Segment> segment;
    Hold(std::shared_ptr<SegmentStore> store_in, std::shared_ptr<Segment> segment_in)
        : store(std::move(store_in)), segment(std::move(segment_in)) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() {
      if (segment->EndLease()) store->OnLastLease();
    }
  };
  std::unique_ptr<Hold> hold;
  std::shared_ptr<SegmentFile> file;
  std::optional<lmdb::ReadTransaction> transaction;  // Not of a lasting lease.
  std::deque<std::string> plain;                     // What entries of encrypted segments point to.
  std::vector<EntryView> entries;
};

Lease::Lease() = default;
Lease::Lease(Lease&&) noexcept = default;
Lease& Lease::operator=(Lease&&) noexcept = default;
Lease::~Lease() = default;

std::span<const EntryView> Lease::entries() const {
  if (!state_) return {};
  return state_->entries;
}

bool Lease::lasting() const { return state_ && !state_->transaction; }

bool Lease::decrypted() const { return state_ && !state_->plain.empty(); }

namespace {

constexpr size_t kPlacesAtOnce = 64;
constexpr int64_t kAnyTime = std::numeric_limits<int64_t>::min();

std::string Where(StreamId stream, int64_t offset) {
  return "stream " + std::to_string(stream.value()) + ", offset " + std::to_string(offset);
}

base::Error Damaged(StreamId stream, int64_t offset) {
  return {base::Code::kCorrupt,
          Where(stream, offset) + ": damaged; NextReadable says where to go on"};
}

struct FoundFrame {
  uint32_t number;
  FrameView view;
};

// The place's frame, if it is sound and says the same as the index. Most often it is that of the
// place before, which is kept in `last`.
base::Result<FrameView> FindFrame(SegmentFile& file, const lmdb::ReadTransaction& transaction,
                                  StreamId stream, const Place& place,
                                  std::optional<FoundFrame>* last) {
  if (!*last || (*last)->number != place.frame) {
    HF_ASSIGN_OR_RETURN(const FrameView found, file.Frame(transaction, place.frame));
    last->emplace(FoundFrame{place.frame, found});
  }
  const FrameView& frame = (*last)->view;
  if (place.line < frame.entry_count()) {
    const EntryInfo info = frame.info(place.line);
    if (info.stream == stream && info.base_offset == place.base_offset) return frame;
  }
  return base::Unexpected(base::Code::kCorrupt, Where(stream, place.base_offset) +
                                                    ": the index does not agree with commit " +
                                                    std::to_string(frame.commit().value()));
}

}  // namespace

template <class Attempt>
auto SpoolReader::WithSegments(const Attempt& attempt) -> decltype(attempt(Segments())) {
  for (;;) {
    const std::shared_ptr<const Segments> segments = catalog_.segments();
    auto result = attempt(*segments);
    if (result || catalog_.segments() == segments) return result;
  }
}

base::Result<Lease> SpoolReader::Read(StreamId stream, int64_t from, size_t max_bytes) {
  return WithSegments([&](const Segments& segments) {
    return Read(segments, stream, from, max_bytes, /*sound=*/false);
  });
}

base::Result<Lease> SpoolReader::ReadSound(StreamId stream, int64_t from, size_t max_bytes) {
  return WithSegments([&](const Segments& segments) {
    return Read(segments, stream, from, max_bytes, /*sound=*/true);
  });
}

base::Result<Lease> SpoolReader::Read(const Segments& segments, StreamId stream, int64_t from,
                                      size_t max_bytes, bool sound) {
  HF_ASSIGN_OR_RETURN(const OffsetRange range, RangeWith(stream, from));
  while (from != range.end) {
    HF_ASSIGN_OR_RETURN(const size_t at, FindSegment(segments, stream, from));
    HF_ASSIGN_OR_RETURN(auto state, Take(segments[at]));
    HF_ASSIGN_OR_RETURN(const int64_t reached, Fill(*state, stream, from, max_bytes, sound));
    if (!state->entries.empty()) {
      // A segment is pinned until it is sealed. Its pages stay as they are without a transaction
      // then, and those are few.
      if (!segments[at]->PinnedFile()) state->transaction.reset();
      Lease lease;
      lease.state_ = std::move(state);
      return lease;
    }
    if (reached == from) return base::Unexpected(Damaged(stream, from));
    from = reached;  // All up to there has no bytes.
  }
  return Lease();
}

base::Result<OffsetRange> SpoolReader::RangeWith(StreamId stream, int64_t from) const {
  const OffsetRange range = catalog_.Range(stream);
  if (from < range.start || from > range.end)
    return base::Unexpected(base::Code::kNotFound, Where(stream, from) + ": the stream holds [" +
                                                       std::to_string(range.start) + ", " +
                                                       std::to_string(range.end) + ")");
  return range;
}

base::Result<std::vector<EntryInfo>> SpoolReader::ListEntries(StreamId stream, int64_t from,
                                                              size_t entries_max) {
  return WithSegments([&](const Segments& segments) -> base::Result<std::vector<EntryInfo>> {
    HF_ASSIGN_OR_RETURN(const OffsetRange range, RangeWith(stream, from));
    std::vector<EntryInfo> entries;
    const auto add = [&](const FrameView&, const Place&, const EntryInfo& info) {
      entries.push_back(info);
      return entries.size() < entries_max ? Visited::kTaken : Visited::kTakenAsLast;
    };
    for (int64_t next = from; next != range.end && entries.empty();) {
      HF_ASSIGN_OR_RETURN(const size_t at, FindSegment(segments, stream, next));
      HF_ASSIGN_OR_RETURN(const auto state, Take(segments[at]));
      HF_ASSIGN_OR_RETURN(const int64_t reached, VisitEntries(*state, stream, next, add));
      if (reached == next) return base::Unexpected(Damaged(stream, next));
      next = reached;
    }
    return entries;
  });
}

template <class Visit>
base::Result<int64_t> SpoolReader::VisitEntries(const Lease::State& lease, StreamId stream,
                                                int64_t from, const Visit& visit) const {
  std::vector<Place> places;
  std::optional<FoundFrame> last;
  for (;;) {
    places.clear();
    HF_RETURN_IF_ERROR(catalog_.FindPlaces(*lease.hold->segment, *lease.file, *lease.transaction,
                                           stream, from, kPlacesAtOnce, &places));
    for (const Place& place : places) {
      const base::Result<FrameView> frame =
          FindFrame(*lease.file, *lease.transaction, stream, place, &last);
      if (!frame) return from;
      // The next entry begins where the last one ended, unless one between is lost.
      const EntryInfo info = frame->info(place.line);
      if (info.end_offset() <= from) continue;  // Had that one.
      if (place.base_offset > from) return from;
      const Visited visited = info.bytes == 0 ? Visited::kTaken : visit(*frame, place, info);
      if (visited == Visited::kLeft) return from;
      from = info.end_offset();
      if (visited == Visited::kTakenAsLast) return from;
    }
    if (places.size() < kPlacesAtOnce) return from;
  }
}

base::Result<int64_t> SpoolReader::Fill(Lease::State& lease, StreamId stream, int64_t from,
                                        size_t max_bytes, bool sound) {
  size_t bytes = 0;
  return VisitEntries(
      lease, stream, from, [&](const FrameView& frame, const Place& place, const EntryInfo& info) {
        bytes += info.bytes;
        if (bytes > max_bytes && !lease.entries.empty()) return Visited::kLeft;
        std::string* const plain = frame.sealed() ? &lease.plain.emplace_back() : nullptr;
        const base::Result<EntryView> entry = ReadEntry(lease, frame, place, sound, plain);
        if (!entry) {
          store_->damage().OnDamage(lease.hold->segment->number, info.commit, entry.error());
          return Visited::kLeft;
        }
        lease.entries.push_back(*entry);
        return bytes < max_bytes ? Visited::kTaken : Visited::kTakenAsLast;
      });
}

base::Result<EntryView> SpoolReader::ReadEntry(Lease::State& lease, const FrameView& frame,
                                               const Place& place, bool sound,
                                               std::string* plain) const {
  HF_ASSIGN_OR_RETURN(const EntryView entry,
                      lease.file->Entry(*lease.transaction, frame, place.line, plain));
  if (!sound || !check_entry_ || frame.covers_entries() ||
      lease.file->KnownSound(place.frame, entry.bytes))
    return entry;
  if (const auto checked = check_entry_(entry.bytes); !checked)
    return base::Unexpected(base::Code::kCorrupt, Where(entry.info.stream, entry.info.base_offset) +
                                                      ", commit " +
                                                      std::to_string(entry.info.commit.value()) +
                                                      ": " + checked.error().message);
  lease.file->NoteSound(entry.bytes);
  return entry;
}

base::Result<int64_t> SpoolReader::NextReadable(StreamId stream, int64_t from) {
  const OffsetRange range = catalog_.Range(stream);
  from = std::max(from, range.start);
  if (from >= range.end) return range.end;
  HF_ASSIGN_OR_RETURN(
      const auto entry,
      WithSegments([&](const Segments& segments) -> base::Result<std::optional<EntryInfo>> {
        HF_ASSIGN_OR_RETURN(const size_t first, FindSegment(segments, stream, from));
        return FindFrom(segments, first, stream, from, kAnyTime);
      }));
  return entry ? std::max(from, entry->base_offset) : range.end;
}

base::Result<std::optional<EntryInfo>> SpoolReader::FindByTime(StreamId stream,
                                                               int64_t timestamp_ms, int64_t from) {
  return WithSegments([&](const Segments& segments) -> base::Result<std::optional<EntryInfo>> {
    const OffsetRange range = catalog_.Range(stream);
    const int64_t begin = std::max(from, range.start);
    if (begin >= range.end) return std::nullopt;
    HF_ASSIGN_OR_RETURN(const size_t first, FindSegment(segments, stream, begin));
    HF_ASSIGN_OR_RETURN(const size_t timely, FindSegmentByTime(segments, stream, timestamp_ms));
    return FindFrom(segments, std::max(first, timely), stream, begin, timestamp_ms);
  });
}

base::Result<std::optional<EntryInfo>> SpoolReader::FindFrom(const Segments& segments, size_t first,
                                                             StreamId stream, int64_t from,
                                                             int64_t timestamp_ms_min) {
  for (size_t at = first; at < segments.size(); ++at) {
    const auto state = Take(segments[at]);
    if (!state && state.error().code == base::Code::kCorrupt) continue;
    if (!state) return base::Unexpected(state.error());
    HF_ASSIGN_OR_RETURN(auto entry, FindEntry(**state, stream, from, timestamp_ms_min));
    if (entry) return entry;
  }
  return std::nullopt;
}

base::Result<std::optional<EntryInfo>> SpoolReader::FindEntry(Lease::State& lease, StreamId stream,
                                                              int64_t from,
                                                              int64_t timestamp_ms_min) {
  std::vector<Place> places;
  std::optional<FoundFrame> last;
  int64_t next = from;
  for (;;) {
    places.clear();
    HF_RETURN_IF_ERROR(catalog_.FindPlaces(*lease.hold->segment, *lease.file, *lease.transaction,
                                           stream, next, kPlacesAtOnce, &places));
    for (const Place& place : places) {
      if (place.max_timestamp_ms < timestamp_ms_min) continue;
      const auto frame = FindFrame(*lease.file, *lease.transaction, stream, place, &last);
      if (!frame || frame->info(place.line).end_offset() <= from) continue;
      if (frame->info(place.line).bytes == 0) continue;
      std::string plain;
      if (const auto entry = ReadEntry(lease, *frame, place, /*sound=*/true, &plain); entry)
        return entry->info;
    }
    if (places.size() < kPlacesAtOnce) return std::nullopt;
    next = places.back().base_offset + 1;
  }
}

// The last segment at whose beginning the stream did not yet reach behind the offset.
base::Result<size_t> SpoolReader::FindSegment(const Segments& segments, StreamId stream,
                                              int64_t offset) {
  // Where most reads go; no file is asked.
  if (catalog_.InOpenSegment(stream, offset)) return segments.size() - 1;
  size_t low = 0;  // Holds it, if no later one does.
  size_t high = segments.size();
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    HF_ASSIGN_OR_RETURN(const StreamEnd stream_end, EndAtBeginning(segments, middle, stream));
    (stream_end.end <= offset ? low : high) = middle;
  }
  return low;
}

// The first segment at whose end the stream had seen such a timestamp.
base::Result<size_t> SpoolReader::FindSegmentByTime(const Segments& segments, StreamId stream,
                                                    int64_t timestamp_ms) {
  size_t low = 0;
  size_t high = segments.size();  // At the beginning of this one it had.
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    HF_ASSIGN_OR_RETURN(const StreamEnd stream_end, EndAtBeginning(segments, middle, stream));
    (stream_end.max_timestamp_ms < timestamp_ms ? low : high) = middle;
  }
  return low;
}

base::Result<StreamEnd> SpoolReader::EndAtBeginning(const Segments& segments, size_t at,
                                                    StreamId stream) {
  for (; at < segments.size(); ++at) {
    const auto state = Take(segments[at]);
    if (state) {
      auto end = (*state)->file->EndAtBeginning(*(*state)->transaction, stream);
      if (end || end.error().code != base::Code::kCorrupt) return end;
      // It says so no more. But if the stream has entries here, it ended before the first; if not,
      // where it ends when the next segment begins.
      std::vector<Place> places;
      HF_RETURN_IF_ERROR(catalog_.FindPlaces(*segments[at], *(*state)->file, *(*state)->transaction,
                                             stream, 0, 1, &places));
      if (!places.empty()) return StreamEnd{places.front().base_offset, INT64_MAX};
    } else if (state.error().code != base::Code::kCorrupt) {
      return base::Unexpected(state.error());
    }
  }
  return StreamEnd{catalog_.Range(stream).end, INT64_MAX};
}

base::Result<std::unique_ptr<Lease::State>> SpoolReader::Take(
    const std::shared_ptr<Segment>& segment) {
  if (!segment->TryLease())
    return base::Unexpected(base::Code::kUnavailable, segment->path + ": retired just now");
  auto state = std::make_unique<Lease::State>();
  state->hold = std::make_unique<Lease::State::Hold>(store_, segment);
  HF_ASSIGN_OR_RETURN(state->file, store_->files().Open(*segment));
  HF_ASSIGN_OR_RETURN(state->transaction, state->file->BeginRead());
  return state;
}

}  // namespace holdfast::spool
