#include "base/crc32c.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

namespace holdfast::base {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // Reflected.

// A CRC is a polynomial over GF(2), its highest power in bit 0.
constexpr uint32_t TimesX(uint32_t a) { return (a >> 1) ^ ((a & 1) != 0 ? kPolynomial : 0); }

using Table = std::array<std::array<uint32_t, 256>, 8>;

// Slicing by eight (Kounavis and Berry, 2005): table[k][b] is the CRC of byte b followed by k zero
// bytes.
constexpr Table MakeTable() {
  Table table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = TimesX(crc);
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

// `count` zero bytes behind a message multiply its CRC by x^(8 count) modulo the CRC's polynomial
// (Adler, crc32_combine in zlib 1.2.12).
constexpr uint32_t kOne = 0x80000000;  // x^0.

constexpr uint32_t MultiplyPortable(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t power = kOne; power != 0; power >>= 1) {
    if ((a & power) != 0) product ^= b;
    b = TimesX(b);
  }
  return product;
}

// x^(8 2^k): what 2^k zero bytes multiply by.
constexpr std::array<uint32_t, 64> MakeZeroBytes() {
  std::array<uint32_t, 64> powers{};
  powers[0] = kOne;
  for (int bit = 0; bit < 8; ++bit) powers[0] = TimesX(powers[0]);
  for (size_t k = 1; k < powers.size(); ++k)
    powers[k] = MultiplyPortable(powers[k - 1], powers[k - 1]);
  return powers;
}
constexpr std::array<uint32_t, 64> kZeroBytes = MakeZeroBytes();

using Multiply = uint32_t (*)(uint32_t, uint32_t);

template <Multiply kMultiply>
uint32_t AppendZeros(uint32_t state, size_t count) {
  for (size_t k = 0; count != 0; count >>= 1, ++k) {
    if ((count & 1) != 0) state = kMultiply(state, kZeroBytes[k]);
  }
  return state;
}

#if defined(__x86_64__)
// The product's powers from x^32 on are in the low half of `bits`. As 4 bytes of a message they are
// what the CRC instruction takes modulo the polynomial.
__attribute__((target("sse4.2,pclmul"))) uint32_t MultiplyHardware(uint32_t a, uint32_t b) {
  const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128(static_cast<int>(a)),
                                               _mm_cvtsi32_si128(static_cast<int>(b)), 0);
  const uint64_t bits = static_cast<uint64_t>(_mm_cvtsi128_si64(product)) << 1;
  return _mm_crc32_u32(0, static_cast<uint32_t>(bits)) ^ static_cast<uint32_t>(bits >> 32);
}

// The instruction takes three cycles but one can start every cycle, so three runs of a long block
// go side by side and are joined by linearity.
constexpr size_t kLaneBytesLog = 12;
constexpr size_t kLane = size_t{1} << kLaneBytesLog;

template <Multiply kMultiply>
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
    crc = kMultiply(static_cast<uint32_t>(crc), kZeroBytes[kLaneBytesLog]) ^ crc1;
    crc = kMultiply(static_cast<uint32_t>(crc), kZeroBytes[kLaneBytesLog]) ^ crc2;
    data += 3 * kLane;
    size -= 3 * kLane;
  }
  for (; size >= 8; data += 8, size -= 8) crc = _mm_crc32_u64(crc, LoadLittle<uint64_t>(data));
  auto tail = static_cast<uint32_t>(crc);
  for (; size > 0; ++data, --size) tail = _mm_crc32_u8(tail, static_cast<unsigned char>(*data));
  return tail;
}
#endif

}  // namespace

std::vector<Crc32cPath> Crc32cPaths() {
  std::vector<Crc32cPath> paths;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) {
    if (__builtin_cpu_supports("pclmul"))
      paths.push_back({Hardware<MultiplyHardware>, AppendZeros<MultiplyHardware>});
    paths.push_back({Hardware<MultiplyPortable>, AppendZeros<MultiplyPortable>});
  }
#endif
  paths.push_back({Portable, AppendZeros<MultiplyPortable>});
  return paths;
}

namespace {

const Crc32cPath& BestPath() {
  static const Crc32cPath path = Crc32cPaths().front();
  return path;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t crc) {
  return ~BestPath().sum(bytes.data(), bytes.size(), ~crc);
}

uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, size_t length_b) {
  return BestPath().append_zeros(crc_a, length_b) ^ crc_b;
}

uint32_t Crc32cPatch(uint32_t crc, std::string_view before, std::string_view after,
                     size_t tail_length) {
  HF_CHECK(before.size() == after.size());
  return Crc32cCombine(Crc32c(before) ^ Crc32c(after), crc, tail_length);
}

}  // namespace holdfast::base
