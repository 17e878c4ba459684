#include "kafka/compression.h"

#include <lz4frame.h>
#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "base/check.h"
#include "base/endian.h"

namespace holdfast::kafka {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

tl::unexpected<base::Error> Damaged(Codec codec, std::string_view what) {
  return Unexpected(Code::kCorrupt, std::string(CodecName(codec)) + ": " + std::string(what));
}
tl::unexpected<base::Error> TooLarge(Codec codec, size_t limit) {
  return Unexpected(Code::kFull, std::string(CodecName(codec)) + ": holds more than the limit of " +
                                     std::to_string(limit) + " bytes");
}

// Output that grows with what is really written to it, up to the limit. One byte above the limit
// may be asked for, so that a stream of exactly `limit` bytes is told from a longer one. Without
// Finish the room stays that was made: how much of it a failed step filled is not known.
class Output {
 public:
  Output(size_t input_size, size_t limit, std::string* bytes)
      : bytes_(*bytes), limit_(std::min(limit, std::numeric_limits<size_t>::max() / 4)) {
    bytes_.resize(std::min(limit_ + 1, std::max<size_t>(4 * input_size, 256)));
  }
  [[nodiscard]] char* free() { return bytes_.data() + used_; }
  [[nodiscard]] size_t free_size() const { return bytes_.size() - used_; }
  void Use(size_t count) { used_ += count; }
  [[nodiscard]] bool over_limit() const { return used_ > limit_; }
  // Makes room if there is none.
  void Reserve() {
    if (free_size() == 0) bytes_.resize(std::min(limit_ + 1, 2 * bytes_.size()));
  }
  void Finish() { bytes_.resize(used_); }

 private:
  std::string& bytes_;
  size_t used_ = 0;
  size_t limit_;
};

// ---- gzip ----

constexpr int kGzipWindow = 15 + 16;  // The largest window; 16 asks for gzip's header, not zlib's.
constexpr size_t kZlibStep = std::numeric_limits<uInt>::max();  // zlib counts in 32 bits.

std::string CompressGzip(std::string_view bytes, int level) {
  z_stream stream{};
  HF_CHECK(deflateInit2(&stream, level, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  HF_CHECK(bytes.size() <= std::numeric_limits<uInt>::max() / 2);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  HF_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

Result<> DecompressGzip(std::string_view bytes, size_t limit, std::string* result) {
  struct Inflater {
    Inflater() { HF_CHECK(inflateInit2(&stream, kGzipWindow) == Z_OK); }
    ~Inflater() { inflateEnd(&stream); }
    z_stream stream{};
  } inflater;
  z_stream& stream = inflater.stream;
  Output out(bytes.size(), limit, result);
  while (true) {
    out.Reserve();
    const size_t in = std::min(bytes.size(), kZlibStep);
    const size_t room = std::min(out.free_size(), kZlibStep);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(in);
    stream.next_out = reinterpret_cast<Bytef*>(out.free());
    stream.avail_out = static_cast<uInt>(room);
    const int outcome = inflate(&stream, Z_NO_FLUSH);
    bytes.remove_prefix(in - stream.avail_in);
    out.Use(room - stream.avail_out);
    if (out.over_limit()) return TooLarge(Codec::kGzip, limit);
    if (outcome == Z_STREAM_END) {
      if (bytes.empty()) {
        out.Finish();
        return {};
      }
      inflateReset(&stream);  // The format allows several members; Java reads them all.
    } else if (outcome != Z_OK) {
      // Z_BUF_ERROR: there was room, so the input must have run out.
      return Damaged(Codec::kGzip,
                     outcome == Z_BUF_ERROR ? "ends within the stream" : "not a gzip stream");
    }
  }
}

// ---- snappy ----

constexpr std::string_view kXerialMagic("\x82SNAPPY\0", 8);
constexpr size_t kXerialHeader =
    16;  // The magic and two versions, which not every writer sets alike.
constexpr size_t kXerialBlock = 32 * 1024;
// A copy element of three bytes yields at most 64; a block that claims more than this lies.
constexpr size_t kSnappyRatioMax = 22;

std::string CompressSnappy(std::string_view bytes) {
  std::string out(kXerialMagic);
  out.append("\0\0\0\1\0\0\0\1", 8);
  while (!bytes.empty()) {
    const std::string_view block = bytes.substr(0, kXerialBlock);
    bytes.remove_prefix(block.size());
    const size_t at = out.size();
    out.resize(at + 4 + snappy::MaxCompressedLength(block.size()));
    size_t length = 0;
    snappy::RawCompress(block.data(), block.size(), out.data() + at + 4, &length);
    base::StoreBig(out.data() + at, static_cast<int32_t>(length));
    out.resize(at + 4 + length);
  }
  return out;
}

Result<> AppendSnappyBlock(std::string_view block, size_t limit, std::string* out) {
  size_t length = 0;
  if (!snappy::GetUncompressedLength(block.data(), block.size(), &length) ||
      length > kSnappyRatioMax * block.size()) {
    return Damaged(Codec::kSnappy, "a block's length is wrong");
  }
  if (length > limit - out->size()) return TooLarge(Codec::kSnappy, limit);
  const size_t at = out->size();
  out->resize(at + length);
  if (!snappy::RawUncompress(block.data(), block.size(), out->data() + at)) {
    return Damaged(Codec::kSnappy, "a block is damaged");
  }
  return {};
}

Result<> DecompressSnappy(std::string_view bytes, size_t limit, std::string* out) {
  if (!bytes.starts_with(kXerialMagic)) return AppendSnappyBlock(bytes, limit, out);
  if (bytes.size() < kXerialHeader) return Damaged(Codec::kSnappy, "ends within the header");
  bytes.remove_prefix(kXerialHeader);
  while (!bytes.empty()) {
    if (bytes.size() < 4) return Damaged(Codec::kSnappy, "ends within a block's length");
    const auto length = base::LoadBig<uint32_t>(bytes.data());
    bytes.remove_prefix(4);
    if (length > bytes.size()) return Damaged(Codec::kSnappy, "ends within a block");
    HF_RETURN_IF_ERROR(AppendSnappyBlock(bytes.substr(0, length), limit, out));
    bytes.remove_prefix(length);
  }
  return {};
}

// ---- LZ4 ----

constexpr int kLz4Fast = 9;

std::string CompressLz4(std::string_view bytes, int level) {
  LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
  // From 3 on is LZ4's high compression, and up to 12.
  preferences.compressionLevel = level == kLz4Fast ? 0 : std::clamp(level, 3, 12);
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  std::string out(LZ4F_compressFrameBound(bytes.size(), &preferences), '\0');
  const size_t length =
      LZ4F_compressFrame(out.data(), out.size(), bytes.data(), bytes.size(), &preferences);
  HF_CHECK(!LZ4F_isError(length));
  out.resize(length);
  return out;
}

constexpr std::string_view kLz4Magic("\x04\x22\x4d\x18", 4);

// What Java's reader would refuse must not be stored: its consumers would stop at it.
Result<> CheckLz4Descriptor(std::string_view bytes) {
  if (bytes.size() < 7 || !bytes.starts_with(kLz4Magic)) {
    return Damaged(Codec::kLz4, "not an LZ4 frame");
  }
  const auto flags = static_cast<unsigned char>(bytes[4]);
  if ((flags >> 6) != 1) return Damaged(Codec::kLz4, "frame version is not 1");
  if ((flags & 0x20) == 0) return Damaged(Codec::kLz4, "blocks depend on each other");
  if ((flags & 0x01) != 0) return Damaged(Codec::kLz4, "frame needs a dictionary");
  return {};
}

Result<> DecompressLz4(std::string_view bytes, size_t limit, std::string* result) {
  HF_RETURN_IF_ERROR(CheckLz4Descriptor(bytes));
  LZ4F_dctx* raw = nullptr;
  HF_CHECK(!LZ4F_isError(LZ4F_createDecompressionContext(&raw, LZ4F_VERSION)));
  const std::unique_ptr<LZ4F_dctx, decltype(&LZ4F_freeDecompressionContext)> context(
      raw, LZ4F_freeDecompressionContext);
  Output out(bytes.size(), limit, result);
  while (true) {
    out.Reserve();
    size_t produced = out.free_size();
    size_t consumed = bytes.size();
    const size_t hint =
        LZ4F_decompress(context.get(), out.free(), &produced, bytes.data(), &consumed, nullptr);
    if (LZ4F_isError(hint)) return Damaged(Codec::kLz4, LZ4F_getErrorName(hint));
    bytes.remove_prefix(consumed);
    out.Use(produced);
    if (out.over_limit()) return TooLarge(Codec::kLz4, limit);
    // Java reads one frame and no further.
    if (hint == 0) {
      out.Finish();
      return {};
    }
    if (bytes.empty() && out.free_size() > 0) return Damaged(Codec::kLz4, "ends within the frame");
  }
}

// ---- zstd ----

std::string CompressZstd(std::string_view bytes, int level) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const size_t length = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), level);
  HF_CHECK(!ZSTD_isError(length));
  out.resize(length);
  return out;
}

Result<> DecompressZstd(std::string_view bytes, size_t limit, std::string* result) {
  // Streaming, since Java's frames do not tell their size. The window is at most 128 MiB of address
  // space (zstd's own default limit) and is touched only as far as there is output.
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     ZSTD_freeDCtx);
  HF_CHECK(context != nullptr);
  Output out(bytes.size(), limit, result);
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  while (true) {
    out.Reserve();
    ZSTD_outBuffer room{out.free(), out.free_size(), 0};
    const size_t hint = ZSTD_decompressStream(context.get(), &room, &in);
    if (ZSTD_isError(hint)) return Damaged(Codec::kZstd, ZSTD_getErrorName(hint));
    out.Use(room.pos);
    if (out.over_limit()) return TooLarge(Codec::kZstd, limit);
    if (in.pos < in.size) continue;
    if (hint == 0) {
      out.Finish();
      return {};
    }
    if (room.pos < room.size) return Damaged(Codec::kZstd, "ends within the frame");
  }
}

// To `out`, which is empty; after an error, its size is that of the room which was made.
Result<> DecompressTo(Codec codec, std::string_view bytes, size_t limit, std::string* out) {
  switch (codec) {
    case Codec::kNone:
      if (bytes.size() > limit) return TooLarge(codec, limit);
      out->assign(bytes);
      return {};
    case Codec::kGzip:
      return DecompressGzip(bytes, limit, out);
    case Codec::kSnappy:
      return DecompressSnappy(bytes, limit, out);
    case Codec::kLz4:
      return DecompressLz4(bytes, limit, out);
    case Codec::kZstd:
      return DecompressZstd(bytes, limit, out);
  }
  return Unexpected(Code::kInvalid, "compression codec " + std::to_string(int{uint8_t(codec)}) +
                                        " is not one that Kafka has assigned");
}

}  // namespace

std::string_view CodecName(Codec codec) {
  switch (codec) {
    case Codec::kNone:
      return "none";
    case Codec::kGzip:
      return "gzip";
    case Codec::kSnappy:
      return "snappy";
    case Codec::kLz4:
      return "lz4";
    case Codec::kZstd:
      return "zstd";
  }
  return "unknown";
}

std::string Compress(Codec codec, std::string_view bytes, std::optional<int> level) {
  switch (codec) {
    case Codec::kNone:
      return std::string(bytes);
    case Codec::kGzip:
      return CompressGzip(bytes, level.value_or(Z_DEFAULT_COMPRESSION));
    case Codec::kSnappy:
      return CompressSnappy(bytes);
    case Codec::kLz4:
      return CompressLz4(bytes, level.value_or(kLz4Fast));
    case Codec::kZstd:
      return CompressZstd(bytes, level.value_or(ZSTD_CLEVEL_DEFAULT));
  }
  base::CheckFailed(__FILE__, __LINE__, "a codec that Kafka has assigned");
}

Result<std::string> Decompress(Codec codec, std::string_view bytes, size_t limit) {
  std::string out;
  HF_RETURN_IF_ERROR(DecompressTo(codec, bytes, limit, &out));
  return out;
}

Result<std::string> DecompressionBudget::Decompress(Codec codec, std::string_view bytes,
                                                    size_t limit) {
  const size_t allowed = std::min(limit, left_);
  std::string out;
  const Result<> done = DecompressTo(codec, bytes, allowed, &out);
  const bool full = !done && done.error().code == Code::kFull;
  left_ -= full ? allowed : std::min(allowed, out.size());
  if (done) return out;
  if (full && allowed < limit) {
    return Unexpected(Code::kUnavailable,
                      "the batches of the request hold too much uncompressed; send fewer at once");
  }
  return Unexpected(done.error());
}

}  // namespace holdfast::kafka
