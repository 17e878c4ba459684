#include "base/crc32c.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace holdfast::base {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // Reflected.

using Table = std::array<std::array<uint32_t, 256>, 8>;

// Slicing by eight (Kounavis and Berry, 2005): table[k][b] is the CRC of byte b followed by k zero
// bytes.
constexpr Table MakeTable() {
  Table table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[0][byte] = crc;
  }
  for (size_t slice = 1; slice < 8; ++slice) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t previous = table[slice - 1][byte];
      table[slice][byte] = (previous >> 8) ^ table[0][previous & 0xff];
    }
  }
  return table;
}
constexpr Table kTable = MakeTable();

uint32_t Portable(const char* data, size_t size, uint32_t state) {
  for (; size >= 8; data += 8, size -= 8) {
    const uint64_t word = LoadLittle<uint64_t>(data) ^ state;
    state = 0;
    for (size_t byte = 0; byte < 8; ++byte) state ^= kTable[7 - byte][(word >> (8 * byte)) & 0xff];
  }
  for (; size > 0; ++data, --size) {
    state = (state >> 8) ^ kTable[0][(state ^ static_cast<unsigned char>(*data)) & 0xff];
  }
  return state;
}

// Appending zeros is linear over GF(2): operators for 2^k zero bytes, as 32 columns each.
using Operator = std::array<uint32_t, 32>;

constexpr uint32_t Apply(const Operator& columns, uint32_t vector) {
  uint32_t sum = 0;
  for (size_t bit = 0; vector != 0; vector >>= 1, ++bit) {
    if ((vector & 1) != 0) sum ^= columns[bit];
  }
  return sum;
}

constexpr std::array<Operator, 64> MakeZeroOperators() {
  std::array<Operator, 64> operators{};
  for (size_t bit = 0; bit < 32; ++bit) {
    const uint32_t unit = uint32_t{1} << bit;
    operators[0][bit] = (unit >> 8) ^ kTable[0][unit & 0xff];
  }
  for (size_t power = 1; power < 64; ++power) {
    for (size_t bit = 0; bit < 32; ++bit) {
      operators[power][bit] = Apply(operators[power - 1], operators[power - 1][bit]);
    }
  }
  return operators;
}

uint32_t AppendZeros(uint32_t state, size_t count) {
  static const std::array<Operator, 64> operators = MakeZeroOperators();
  for (size_t power = 0; count != 0; count >>= 1, ++power) {
    if ((count & 1) != 0) state = Apply(operators[power], state);
  }
  return state;
}

#if defined(__x86_64__)
// The instruction takes three cycles but one can start every cycle, so three runs of a long block
// go side by side and are joined by linearity.
constexpr size_t kLane = 4096;

__attribute__((target("sse4.2"))) uint32_t Hardware(const char* data, size_t size, uint32_t state) {
  uint64_t crc = state;
  while (size >= 3 * kLane) {
    uint64_t crc1 = 0;
    uint64_t crc2 = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      crc = _mm_crc32_u64(crc, LoadLittle<uint64_t>(data + i));
      crc1 = _mm_crc32_u64(crc1, LoadLittle<uint64_t>(data + kLane + i));
      crc2 = _mm_crc32_u64(crc2, LoadLittle<uint64_t>(data + 2 * kLane + i));
    }
    crc = AppendZeros(static_cast<uint32_t>(crc), kLane) ^ crc1;
    crc = AppendZeros(static_cast<uint32_t>(crc), kLane) ^ crc2;
    data += 3 * kLane;
    size -= 3 * kLane;
  }
  for (; size >= 8; data += 8, size -= 8) crc = _mm_crc32_u64(crc, LoadLittle<uint64_t>(data));
  auto tail = static_cast<uint32_t>(crc);
  for (; size > 0; ++data, --size) tail = _mm_crc32_u8(tail, static_cast<unsigned char>(*data));
  return tail;
}
#endif

using Path = uint32_t (*)(const char*, size_t, uint32_t);

Path BestPath() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return Hardware;
#endif
  return Portable;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t crc) {
  static const Path path = BestPath();
  return ~path(bytes.data(), bytes.size(), ~crc);
}

uint32_t Crc32cPortable(std::string_view bytes, uint32_t crc) {
  return ~Portable(bytes.data(), bytes.size(), ~crc);
}

uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, size_t length_b) {
  return AppendZeros(crc_a, length_b) ^ crc_b;
}

uint32_t Crc32cPatch(uint32_t crc, std::string_view before, std::string_view after,
                     size_t tail_length) {
  HF_CHECK(before.size() == after.size());
  return crc ^ AppendZeros(Crc32c(before) ^ Crc32c(after), tail_length);
}

}  // namespace holdfast::base
