// Loads and stores of integers at any address: big-endian for the Kafka protocol, little-endian for
// what Holdfast itself writes to disk.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

namespace holdfast::base {

template <std::integral T>
constexpr T ByteSwap(T value) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<T>(__builtin_bswap16(static_cast<uint16_t>(value)));
  } else if constexpr (sizeof(T) == 4) {
    return static_cast<T>(__builtin_bswap32(static_cast<uint32_t>(value)));
  } else if constexpr (sizeof(T) == 8) {
    return static_cast<T>(__builtin_bswap64(static_cast<uint64_t>(value)));
  } else {
    static_assert(sizeof(T) == 1);
    return value;
  }
}

template <std::integral T>
T LoadBig(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return std::endian::native == std::endian::little ? ByteSwap(value) : value;
}
template <std::integral T>
void StoreBig(char* to, T value) {
  if constexpr (std::endian::native == std::endian::little) value = ByteSwap(value);
  std::memcpy(to, &value, sizeof(T));
}
template <std::integral T>
T LoadLittle(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return std::endian::native == std::endian::big ? ByteSwap(value) : value;
}
template <std::integral T>
void StoreLittle(char* to, T value) {
  if constexpr (std::endian::native == std::endian::big) value = ByteSwap(value);
  std::memcpy(to, &value, sizeof(T));
}

}  // namespace holdfast::base
