// CRC-32C (Castagnoli, RFC 3720 appendix B.4), as Kafka's record batches and Holdfast's frames
// carry it.
//
// Uses the CPU's instructions where there are such (SSE 4.2, PCLMULQDQ); every path gives the same
// value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace holdfast::base {

// The CRC of `bytes`, or of A+bytes when `crc` is the CRC of A.
uint32_t Crc32c(std::string_view bytes, uint32_t crc = 0);

// The CRC of A+B from the CRCs of A and of B and B's length, without a look at the bytes.
uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, size_t length_b);

// The CRC of a message after the bytes of `before` were replaced by those of `after` (same length),
// with `tail_length` bytes behind them: CRC is linear, so only what changed is summed.
uint32_t Crc32cPatch(uint32_t crc, std::string_view before, std::string_view after,
                     size_t tail_length);

// One way to do the above. The state of a CRC is its complement.
struct Crc32cPath {
  uint32_t (*sum)(const char* data, size_t size, uint32_t state);
  uint32_t (*append_zeros)(uint32_t state, size_t count);
};
// Those that this CPU has, the best one, which is in use, first. For tests.
std::vector<Crc32cPath> Crc32cPaths();

}  // namespace holdfast::base
