// The golden files of tests/golden/kafka, and the values that tools/golden put into them: each
// follows from the path of its field, "topics.1.partitions.0.leaderId" (see Filler.java).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32c.h"
#include "kafka/codec.h"

namespace holdfast::kafka {

inline constexpr int32_t kGoldenCorrelationId = 0x01020304;
inline constexpr std::string_view kGoldenClientId = "golden-client";

struct GoldenFrame {
  int16_t version = 0;
  std::string variant;  // full, nulls, empty, unknown_tags
  std::string bytes;    // Header and body, without the length.
};

// All frames of "ProduceRequest", say. Fails the test if there are none.
std::vector<GoldenFrame> ReadGolden(std::string_view message);
// The one of a version and variant.
GoldenFrame FindGolden(std::string_view message, int16_t version,
                       std::string_view variant = "full");

template <class T>
T Number(std::string_view path) {
  return static_cast<T>(base::Crc32c(path) & static_cast<uint32_t>(std::numeric_limits<T>::max()));
}
inline int8_t Int8(std::string_view path) { return Number<int8_t>(path); }
inline int16_t Int16(std::string_view path) { return Number<int16_t>(path); }
inline int32_t Int32(std::string_view path) { return Number<int32_t>(path); }
inline int64_t Int64(std::string_view path) {
  const std::string reverse(path.rbegin(), path.rend());
  return (int64_t{Number<int32_t>(path)} << 31) + Number<int32_t>(reverse);
}
inline bool Bool(std::string_view path) { return (base::Crc32c(path) & 1) != 0; }
inline ErrorCode Error(std::string_view path) { return static_cast<ErrorCode>(Int16(path)); }
inline Uuid Id(std::string_view path) {
  Uuid id;
  for (size_t i = 0; i < id.bytes.size(); ++i) {
    id.bytes[i] = static_cast<uint8_t>(base::Crc32c(path) >> (24 - 8 * (i % 4)));
  }
  return id;
}

}  // namespace holdfast::kafka
