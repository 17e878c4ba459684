// Where in a partition to begin, as people write it:
//
//   start, end   its first record, or behind its last one
//   4711         this offset
//   +10, -10     so many records on; from where is for the command to say
//   @TIME        the first record of that time or later: 1767225600000 (milliseconds), 1767225600
//                (seconds), 2026-01-01, 2026-01-01T12:00:00Z, or -90m (ago: s, m, h, d)
//
// Threads: any; values.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace holdfast::client {

struct Position {
  enum class Kind : uint8_t { kStart, kEnd, kOffset, kShift, kTime };

  Kind kind = Kind::kStart;
  int64_t value = 0;  // Offset, records or milliseconds since the epoch.

  bool operator==(const Position&) const = default;
};

// So many records from `base`, within [start, end].
int64_t Shifted(int64_t base, int64_t records, int64_t start, int64_t end);

// kInvalid: it is none of these. `now_ms`: for what is so long ago.
base::Result<Position> ParsePosition(std::string_view text, int64_t now_ms);

}  // namespace holdfast::client
