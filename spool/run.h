// A run: entries of a segment that is ordered by stream, one behind the other. Positions count over
// all runs of the segment, and no entry lies in two. A run says itself what it is, so that it is
// found in a damaged file, too; its entries bring checksums of their own. docs/spool-format.md has
// the grammar. Pure: no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace holdfast::spool {

inline constexpr uint32_t kRunMagic = 0x31524648;  // "HFR1" in file order.
inline constexpr size_t kRunHeaderBytes = 16;
// A run ends with the entry that takes it to this.
inline constexpr size_t kRunBytes = size_t{1} << 20;

struct Run {
  uint32_t position = 0;  // Of its first byte.
  std::string_view bytes;

  // What is stored at `at`, if that lies in the run.
  [[nodiscard]] base::Result<std::string_view> At(uint32_t at, size_t size) const;
};

// `out` is kRunHeaderBytes longer than the run's bytes. `seed`: Origin::Seed of the segment.
void EncodeRun(uint32_t seed, const Run& run, std::span<char> out);
// Takes as much of `bytes` as the run says. kCorrupt: its header is damaged, or of another origin.
base::Result<Run> DecodeRun(uint32_t seed, std::string_view bytes);

}  // namespace holdfast::spool
