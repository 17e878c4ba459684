// The zigzag varints inside records: small numbers of either sign in few bytes. Requests and
// responses use other, unsigned ones (kafka/wire.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::kafka {

inline void AppendVarint(int64_t value, std::string* out) {
  auto rest = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
  for (; rest >= 0x80; rest >>= 7) out->push_back(static_cast<char>(rest | 0x80));
  out->push_back(static_cast<char>(rest));
}

// Takes one from the front of `bytes`; nothing if they end within it or it is longer than ten
// bytes.
inline std::optional<int64_t> TakeVarint(std::string_view* bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes->size() && i < 10; ++i) {
    const auto byte = static_cast<unsigned char>((*bytes)[i]);
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      bytes->remove_prefix(i + 1);
      return static_cast<int64_t>((value >> 1) ^ (0 - (value & 1)));
    }
  }
  return std::nullopt;
}

}  // namespace holdfast::kafka
