// Where the entries of each stream stand within one segment.
//
// While a segment is open its index is in memory, built entry by entry; when it is sealed the same
// index is written into it, in blocks that LMDB's B-tree finds by (stream, offset), so that reading
// an old segment needs no memory for its index at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "spool/spool.h"

namespace holdfast::spool {

struct Place {
  int64_t base_offset = 0;
  int64_t max_timestamp_ms = -1;
  uint32_t frame = 0;  // Counted from the segment's first commit.
  uint32_t line = 0;   // Of the frame's table of contents.
};

class MemoryIndex {
 public:
  // In order of offsets within a stream.
  void Add(StreamId stream, const Place& place);
  // Appends to `out` at most `limit` places of the stream, beginning with the last whose base
  // offset is not above `from` (or the first of all).
  void Find(StreamId stream, int64_t from, size_t limit, std::vector<Place>* out) const;
  [[nodiscard]] std::optional<Place> First(StreamId stream) const;
  [[nodiscard]] size_t streams() const { return places_.size(); }
  [[nodiscard]] size_t entries() const { return entries_; }
  // In order of stream ids.
  using Visitor = std::function<base::Result<void>(StreamId, const std::vector<Place>&)>;
  base::Result<void> ForEach(const Visitor& visit) const;

 private:
  std::unordered_map<StreamId, std::vector<Place>> places_;
  size_t entries_ = 0;
};

// A block is the places of one stream, at most kPlacesPerBlock. Its key sorts by stream, then
// offset.
inline constexpr size_t kPlacesPerBlock = 64;
inline constexpr size_t kBlockKeyBytes = 12;
std::string BlockKey(StreamId stream, int64_t base_offset);
bool ParseBlockKey(std::string_view key, StreamId* stream, int64_t* base_offset);

// `places` lie within one block; its key's offset is that of the first. The checksum covers the
// key, and begins with `seed` (Origin::Seed of the segment).
std::string PackBlock(uint32_t seed, StreamId stream, const Place* places, size_t count);
base::Result<void> UnpackBlock(uint32_t seed, StreamId stream, int64_t base_offset,
                               std::string_view block, std::vector<Place>* out);

}  // namespace holdfast::spool
