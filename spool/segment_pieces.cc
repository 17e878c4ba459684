#include "spool/segment_pieces.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "spool/directory.h"

namespace holdfast::spool {
namespace {

constexpr size_t kHeaderVersion = 0;
constexpr size_t kHeaderKeyBytes = 4;
constexpr size_t kHeaderNumber = 8;
constexpr size_t kHeaderSpool = 16;
constexpr size_t kHeaderFirst = 32;
constexpr size_t kHeaderPieces = 40;
constexpr size_t kHeaderStreams = 44;
constexpr size_t kHeaderChecksum = 48;
constexpr size_t kHeaderBytes = 52;

constexpr size_t kPieceMagicAt = 0;
constexpr size_t kPieceChecksum = 4;
constexpr size_t kPieceFirst = 8;
constexpr size_t kPieceIndex = 16;
constexpr size_t kPieceCount = 20;
constexpr size_t kPieceStreams = 24;
constexpr size_t kPieceKeyBytes = 28;
constexpr size_t kPieceLength = 32;
constexpr size_t kPieceHeaderBytes = 36;

uint32_t HeaderChecksum(std::string_view bytes) {
  return base::Crc32c(bytes.substr(kHeaderBytes), base::Crc32c(bytes.substr(0, kHeaderChecksum)));
}

// The oldest that has it.
uint32_t FormatOf(Layout layout) {
  return layout == Layout::kByStream ? kFormatVersion : kFormatVersionMin;
}

constexpr size_t kChecksumBytes = sizeof(uint32_t);
constexpr size_t kEndBytes = 2 * sizeof(int64_t);

uint32_t EndsChecksum(const Origin& origin, uint64_t block, std::string_view bytes) {
  char number[sizeof block];
  base::StoreLittle(number, block);
  return base::Crc32c(bytes, base::Crc32c({number, sizeof number}, origin.Seed()));
}

uint32_t PieceChecksum(const Origin& origin, std::string_view bytes) {
  return base::Crc32c(bytes.substr(kPieceFirst), origin.Seed());
}

}  // namespace

std::string EncodeHeader(const SegmentHeader& header) {
  std::string bytes(kHeaderBytes, '\0');
  base::StoreLittle(&bytes[kHeaderVersion], FormatOf(header.layout));
  base::StoreLittle(&bytes[kHeaderNumber], header.origin.segment);
  std::memcpy(&bytes[kHeaderSpool], header.origin.spool.data(), header.origin.spool.size());
  base::StoreLittle(&bytes[kHeaderFirst], header.first_commit.value());
  base::StoreLittle(&bytes[kHeaderPieces], header.state_pieces);
  base::StoreLittle(&bytes[kHeaderStreams], header.streams);
  base::StoreLittle(&bytes[kHeaderKeyBytes], static_cast<uint32_t>(header.data_key.size()));
  bytes += header.data_key;
  base::StoreLittle(&bytes[kHeaderChecksum], HeaderChecksum(bytes));
  return bytes;
}

base::Result<SegmentHeader> DecodeHeader(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes ||
      base::LoadLittle<uint32_t>(&bytes[kHeaderChecksum]) != HeaderChecksum(bytes) ||
      base::LoadLittle<uint32_t>(&bytes[kHeaderKeyBytes]) != bytes.size() - kHeaderBytes)
    return base::Unexpected(base::Code::kCorrupt, "the segment's header is damaged");
  const auto version = base::LoadLittle<uint32_t>(&bytes[kHeaderVersion]);
  if (version != FormatOf(Layout::kByCommit) && version != FormatOf(Layout::kByStream))
    return base::Unexpected(base::Code::kInvalid,
                            "the segment has format " + std::to_string(version) +
                                ", which this program does not know; use a newer Holdfast");
  SegmentHeader header;
  if (version == FormatOf(Layout::kByStream)) header.layout = Layout::kByStream;
  header.origin.segment = base::LoadLittle<uint64_t>(&bytes[kHeaderNumber]);
  std::memcpy(header.origin.spool.data(), &bytes[kHeaderSpool], header.origin.spool.size());
  header.first_commit = CommitNumber(base::LoadLittle<uint64_t>(&bytes[kHeaderFirst]));
  header.state_pieces = base::LoadLittle<uint32_t>(&bytes[kHeaderPieces]);
  header.streams = base::LoadLittle<uint32_t>(&bytes[kHeaderStreams]);
  header.data_key = bytes.substr(kHeaderBytes);
  return header;
}

std::string EncodeEnds(const Origin& origin, uint64_t block, std::span<const StreamEnd> ends) {
  std::string bytes(kChecksumBytes + ends.size() * kEndBytes, '\0');
  char* at = bytes.data() + kChecksumBytes;
  for (const StreamEnd& end : ends) {
    base::StoreLittle(at, end.end);
    base::StoreLittle(at + sizeof(int64_t), end.max_timestamp_ms);
    at += kEndBytes;
  }
  base::StoreLittle(bytes.data(),
                    EndsChecksum(origin, block, std::string_view(bytes).substr(kChecksumBytes)));
  return bytes;
}

base::Result<StreamEnd> DecodeEnd(const Origin& origin, uint64_t block, std::string_view bytes,
                                  size_t index) {
  const size_t at = kChecksumBytes + index * kEndBytes;
  if (bytes.size() < at + kEndBytes ||
      base::LoadLittle<uint32_t>(bytes.data()) !=
          EndsChecksum(origin, block, bytes.substr(kChecksumBytes)))
    return base::Unexpected(base::Code::kCorrupt, "the ends of streams are damaged");
  return StreamEnd{base::LoadLittle<int64_t>(&bytes[at]),
                   base::LoadLittle<int64_t>(&bytes[at + sizeof(int64_t)])};
}

std::string EncodePiece(const Piece& piece, size_t bytes_min) {
  HF_CHECK(piece.changes.size() <= UINT32_MAX);
  std::string bytes(kPieceHeaderBytes, '\0');
  base::StoreLittle(&bytes[kPieceMagicAt], kPieceMagic);
  base::StoreLittle(&bytes[kPieceFirst], piece.header.first_commit.value());
  base::StoreLittle(&bytes[kPieceIndex], piece.index);
  base::StoreLittle(&bytes[kPieceCount], piece.header.state_pieces);
  base::StoreLittle(&bytes[kPieceStreams], piece.header.streams);
  base::StoreLittle(&bytes[kPieceKeyBytes], static_cast<uint32_t>(piece.header.data_key.size()));
  base::StoreLittle(&bytes[kPieceLength], static_cast<uint32_t>(piece.changes.size()));
  bytes.append(piece.header.data_key).append(piece.changes);
  base::StoreLittle(&bytes[kPieceChecksum], PieceChecksum(piece.header.origin, bytes));
  bytes.resize(std::max(bytes.size(), bytes_min));
  return bytes;
}

base::Result<Piece> DecodePiece(const Origin& origin, std::string_view bytes) {
  const auto corrupt = [](const char* what) {
    return base::Unexpected(base::Code::kCorrupt, std::string("damaged checkpoint: ") + what);
  };
  if (bytes.size() < kPieceHeaderBytes) return corrupt("shorter than a header");
  if (base::LoadLittle<uint32_t>(&bytes[kPieceMagicAt]) != kPieceMagic)
    return corrupt("no magic number");
  const size_t key_bytes = base::LoadLittle<uint32_t>(&bytes[kPieceKeyBytes]);
  const size_t length = key_bytes + base::LoadLittle<uint32_t>(&bytes[kPieceLength]);
  if (length > bytes.size() - kPieceHeaderBytes) return corrupt("longer than its place");
  bytes = bytes.substr(0, kPieceHeaderBytes + length);
  if (base::LoadLittle<uint32_t>(&bytes[kPieceChecksum]) != PieceChecksum(origin, bytes))
    return corrupt("wrong checksum");
  Piece piece;
  piece.header.origin = origin;
  piece.header.first_commit = CommitNumber(base::LoadLittle<uint64_t>(&bytes[kPieceFirst]));
  piece.header.state_pieces = base::LoadLittle<uint32_t>(&bytes[kPieceCount]);
  piece.header.streams = base::LoadLittle<uint32_t>(&bytes[kPieceStreams]);
  piece.index = base::LoadLittle<uint32_t>(&bytes[kPieceIndex]);
  piece.header.data_key = bytes.substr(kPieceHeaderBytes, key_bytes);
  piece.changes = bytes.substr(kPieceHeaderBytes + key_bytes);
  return piece;
}

}  // namespace holdfast::spool
