// The values in a segment that say what it is: its header, and the pieces of its checkpoint. Each
// piece repeats what matters of the header and says which it is, so that a segment can be put
// together again from what is left of its file. docs/spool-format.md has the grammar. Pure: no I/O.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "spool/origin.h"
#include "spool/spool.h"

namespace holdfast::spool {

// How a segment's entries lie in its file.
enum class Layout : uint8_t {
  kByCommit,  // In their frames, as they came.
  kByStream,  // In runs (spool/run.h), each stream's together.
};

struct SegmentHeader {
  Origin origin;
  Layout layout = Layout::kByCommit;
  CommitNumber first_commit;
  uint32_t state_pieces = 0;
  uint32_t streams = 0;  // Known at the segment's beginning.
  std::string data_key;  // Wrapped, see spool/cipher.h. None: the segment is not encrypted.
};

std::string EncodeHeader(const SegmentHeader& header);
// kCorrupt if it is damaged, kInvalid if its format is not known.
base::Result<SegmentHeader> DecodeHeader(std::string_view bytes);

// What streams were when the segment began, so many to a block.
struct StreamEnd {
  int64_t end = 0;
  int64_t max_timestamp_ms = -1;
};
inline constexpr size_t kEndsPerBlock = 100;
std::string EncodeEnds(const Origin& origin, uint64_t block, std::span<const StreamEnd> ends);
// The one at `index`. kCorrupt if the block is damaged.
base::Result<StreamEnd> DecodeEnd(const Origin& origin, uint64_t block, std::string_view bytes,
                                  size_t index);

inline constexpr uint32_t kPieceMagic = 0x31434648;  // "HFC1" in file order.

struct Piece {
  SegmentHeader header;
  uint32_t index = 0;
  std::string_view changes;  // As stored: sealed, if the segment is encrypted.
};

// At least `bytes_min` long.
std::string EncodePiece(const Piece& piece, size_t bytes_min);
// Takes as much of `bytes` as the piece says. kCorrupt if it is damaged, or not of `origin`.
base::Result<Piece> DecodePiece(const Origin& origin, std::string_view bytes);

}  // namespace holdfast::spool
