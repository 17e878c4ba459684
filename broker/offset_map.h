// The newest offset of each key, of many partitions at once, in bounded memory: what a round of
// compaction knows.
//
// A key is remembered by 128 bits of its hash under a key of the map's own (SipHash-2-4), so that
// nobody can make two keys meet, and by chance they do not.
//
// Threads: one.
// Limits: at most `bytes_max`, a few MiB at least. It takes memory as it fills.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "spool/spool.h"

namespace holdfast::broker {

class OffsetMap {
 public:
  explicit OffsetMap(size_t bytes_max);

  // The record of this key at `offset` came after all others that were put. False: the map is full,
  // and knows nothing of it.
  [[nodiscard]] bool Put(spool::StreamId stream, std::string_view key, int64_t offset);
  // -1 if there is none.
  [[nodiscard]] int64_t Find(spool::StreamId stream, std::string_view key) const;
  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Slot {
    uint64_t low = 0;
    uint64_t high = 0;
    int64_t offset = -1;  // Free.
  };
  [[nodiscard]] Slot HashOf(spool::StreamId stream, std::string_view key) const;
  [[nodiscard]] size_t Locate(const Slot& wanted) const;
  [[nodiscard]] bool Grow();

  const size_t slots_max_;
  const std::array<uint64_t, 2> secret_;
  std::vector<Slot> slots_;  // A power of two.
  size_t size_ = 0;
};

}  // namespace holdfast::broker
