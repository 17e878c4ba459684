#include "spool/index.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::spool {
namespace {

void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

bool TakeVarint(std::string_view* in, uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && !in->empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(in->front());
    in->remove_prefix(1);
    *value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// Small differences of either sign become small numbers.
uint64_t ZigZag(uint64_t difference) { return (difference << 1) ^ (0 - (difference >> 63)); }
uint64_t UnZigZag(uint64_t value) { return (value >> 1) ^ (0 - (value & 1)); }

uint32_t BlockChecksum(uint32_t seed, StreamId stream, int64_t base_offset, std::string_view body) {
  return base::Crc32c(body, base::Crc32c(BlockKey(stream, base_offset), seed));
}

}  // namespace

void MemoryIndex::Add(StreamId stream, const Place& place) {
  std::vector<Place>& places = places_[stream];
  HF_DCHECK(places.empty() || places.back().base_offset < place.base_offset);
  places.push_back(place);
  ++entries_;
}

void MemoryIndex::Find(StreamId stream, int64_t from, size_t limit, std::vector<Place>* out) const {
  const auto found = places_.find(stream);
  if (found == places_.end()) return;
  const std::vector<Place>& places = found->second;
  auto first =
      std::upper_bound(places.begin(), places.end(), from,
                       [](int64_t offset, const Place& p) { return offset < p.base_offset; });
  if (first != places.begin()) --first;
  const auto count = std::min(limit, static_cast<size_t>(places.end() - first));
  out->insert(out->end(), first, first + static_cast<ptrdiff_t>(count));
}

std::optional<Place> MemoryIndex::First(StreamId stream) const {
  const auto found = places_.find(stream);
  if (found == places_.end()) return std::nullopt;
  return found->second.front();
}

base::Result<void> MemoryIndex::ForEach(const Visitor& visit) const {
  std::vector<StreamId> ids;
  ids.reserve(places_.size());
  for (const auto& [id, places] : places_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const StreamId id : ids) HF_RETURN_IF_ERROR(visit(id, places_.at(id)));
  return {};
}

std::string BlockKey(StreamId stream, int64_t base_offset) {
  std::string key(kBlockKeyBytes, '\0');
  base::StoreBig(key.data(), stream.value());
  base::StoreBig(key.data() + sizeof(uint32_t), base_offset);  // Never negative, so it sorts.
  return key;
}

bool ParseBlockKey(std::string_view key, StreamId* stream, int64_t* base_offset) {
  if (key.size() != kBlockKeyBytes) return false;
  *stream = StreamId(base::LoadBig<uint32_t>(key.data()));
  *base_offset = base::LoadBig<int64_t>(key.data() + sizeof(uint32_t));
  return true;
}

std::string PackBlock(uint32_t seed, StreamId stream, const Place* places, size_t count) {
  std::string block(sizeof(uint32_t), '\0');
  Place previous;
  previous.base_offset = places[0].base_offset;
  previous.max_timestamp_ms = 0;
  for (size_t i = 0; i < count; ++i) {
    const Place& place = places[i];
    AppendVarint(static_cast<uint64_t>(place.base_offset - previous.base_offset), &block);
    AppendVarint(ZigZag(static_cast<uint64_t>(place.max_timestamp_ms) -
                        static_cast<uint64_t>(previous.max_timestamp_ms)),
                 &block);
    AppendVarint(place.frame - previous.frame, &block);
    AppendVarint(place.line, &block);
    previous = place;
  }
  const std::string_view body = std::string_view(block).substr(sizeof(uint32_t));
  base::StoreLittle(block.data(), BlockChecksum(seed, stream, places[0].base_offset, body));
  return block;
}

base::Result<void> UnpackBlock(uint32_t seed, StreamId stream, int64_t base_offset,
                               std::string_view block, std::vector<Place>* out) {
  if (block.size() < sizeof(uint32_t) ||
      base::LoadLittle<uint32_t>(block.data()) !=
          BlockChecksum(seed, stream, base_offset, block.substr(sizeof(uint32_t))))
    return base::Unexpected(base::Code::kCorrupt, "damaged index block");
  block.remove_prefix(sizeof(uint32_t));
  Place place;
  place.base_offset = base_offset;
  place.max_timestamp_ms = 0;
  while (!block.empty()) {
    uint64_t offset = 0;
    uint64_t timestamp = 0;
    uint64_t frame = 0;
    uint64_t line = 0;
    if (!TakeVarint(&block, &offset) || !TakeVarint(&block, &timestamp) ||
        !TakeVarint(&block, &frame) || !TakeVarint(&block, &line))
      return base::Unexpected(base::Code::kCorrupt, "index block ends early");
    place.base_offset += static_cast<int64_t>(offset);
    place.max_timestamp_ms =
        static_cast<int64_t>(static_cast<uint64_t>(place.max_timestamp_ms) + UnZigZag(timestamp));
    place.frame += static_cast<uint32_t>(frame);
    place.line = static_cast<uint32_t>(line);
    out->push_back(place);
  }
  return {};
}

}  // namespace holdfast::spool
