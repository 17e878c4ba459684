// The five codecs of record batches, in the forms that Kafka's clients write and read.
//
// gzip, LZ4 and zstd are one standard stream or frame each. Snappy comes in two forms: Java writes
// xerial framing (blocks with lengths), librdkafka one raw block; Decompress takes both, Compress
// writes Java's. LZ4 frames have independent blocks, since Java reads no others.
//
// Threads: any; nothing is shared. No I/O.
// Limits: Decompress never yields more than `limit` bytes, nor reserves much more than it yields,
//   so a small input that claims to be huge is refused cheaply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace holdfast::kafka {

// As in the lowest three bits of a batch's attributes; 5 to 7 are not assigned.
enum class Codec : uint8_t { kNone = 0, kGzip = 1, kSnappy = 2, kLz4 = 3, kZstd = 4 };
inline constexpr Codec kNewestCodec = Codec::kZstd;

// "none", "gzip", "snappy", "lz4" or "zstd", as in Kafka's compression.type.
[[nodiscard]] std::string_view CodecName(Codec codec);

// A batch of a mebibyte seldom holds more than a few; enough for every honest one.
inline constexpr size_t kDecompressedLimit = size_t{64} << 20;

// `level` as in Kafka's compression.<codec>.level; without one, the codec's usual level. LZ4's 9 is
// its fast way, as in Kafka, and the others that of high compression. Snappy has no levels.
[[nodiscard]] std::string Compress(Codec codec, std::string_view bytes,
                                   std::optional<int> level = std::nullopt);

// kCorrupt: the bytes are not what the codec writes. kFull: they hold more than `limit`.
base::Result<std::string> Decompress(Codec codec, std::string_view bytes,
                                     size_t limit = kDecompressedLimit);

// What the batches of one request may hold uncompressed, all together: a request of a few kilobytes
// would else keep a thread busy for minutes. Far more than honest clients need.
class DecompressionBudget {
 public:
  explicit DecompressionBudget(size_t request_bytes)
      : left_(4 * kDecompressedLimit + 16 * request_bytes) {}

  // Of a batch that holds too much, all that it might have held is gone; of a damaged one, the room
  // that was made for it. kUnavailable: it is not over `limit`, as far as that is known, but over
  // what the request has left.
  base::Result<std::string> Decompress(Codec codec, std::string_view bytes, size_t limit);

 private:
  size_t left_;
};

}  // namespace holdfast::kafka
