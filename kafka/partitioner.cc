#include "kafka/partitioner.h"

#include <zlib.h>

#include <cstring>

#include "base/check.h"

namespace holdfast::kafka {

uint32_t Murmur2(std::string_view bytes) {
  constexpr uint32_t kSeed = 0x9747b28c;
  constexpr uint32_t kMultiplier = 0x5bd1e995;
  constexpr int kShift = 24;
  uint32_t hash = kSeed ^ static_cast<uint32_t>(bytes.size());
  const auto byte = [](char c) { return static_cast<uint32_t>(static_cast<uint8_t>(c)); };
  while (bytes.size() >= 4) {
    uint32_t word =
        byte(bytes[0]) | byte(bytes[1]) << 8 | byte(bytes[2]) << 16 | byte(bytes[3]) << 24;
    word *= kMultiplier;
    word ^= word >> kShift;
    word *= kMultiplier;
    hash *= kMultiplier;
    hash ^= word;
    bytes.remove_prefix(4);
  }
  if (!bytes.empty()) {
    for (size_t at = bytes.size(); at-- > 0;) hash ^= byte(bytes[at]) << (8 * at);
    hash *= kMultiplier;
  }
  hash ^= hash >> 13;
  hash *= kMultiplier;
  return hash ^ hash >> 15;
}

std::optional<int32_t> PartitionOf(Partitioner partitioner, std::optional<std::string_view> key,
                                   int32_t partitions) {
  HF_CHECK(partitions > 0);
  if (!key) return std::nullopt;
  if (partitioner != Partitioner::kConsistentRandom)
    return static_cast<int32_t>((Murmur2(*key) & 0x7fffffff) % static_cast<uint32_t>(partitions));
  if (key->empty()) return std::nullopt;
  const uLong crc =
      crc32(0, reinterpret_cast<const Bytef*>(key->data()), static_cast<uInt>(key->size()));
  return static_cast<int32_t>(crc % static_cast<uint32_t>(partitions));
}

}  // namespace holdfast::kafka
