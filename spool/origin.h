// Where bytes of a segment belong. Every checksum in a segment begins with it, so that what a file
// still holds of an earlier life, or what somebody's data looks like, is never taken for its own.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/crc32c.h"
#include "base/endian.h"

namespace holdfast::spool {

using SpoolId = std::array<char, 16>;

struct Origin {
  SpoolId spool{};
  uint64_t segment = 0;

  // CRC-32C of both, to be continued.
  [[nodiscard]] uint32_t Seed() const {
    char number[sizeof segment];
    base::StoreLittle(number, segment);
    return base::Crc32c({number, sizeof number}, base::Crc32c({spool.data(), spool.size()}));
  }
};

}  // namespace holdfast::spool
