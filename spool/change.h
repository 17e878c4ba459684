// Changes of state, as a frame and a checkpoint carry them: a run of records, each a kind and its
// fields, little-endian. docs/spool-format.md has the grammar.
//
//   std::string changes;
//   AppendPut("key", "value", &changes);
//   ChangeReader reader(changes);
//   Change change;
//   while (reader.Next(&change)) ...;
//   if (!reader.AtEnd()) the bytes are damaged
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "spool/spool.h"

namespace holdfast::spool {

inline constexpr size_t kKeyBytesMax = UINT16_MAX;
inline constexpr size_t kStreamNameBytesMax = 500;

enum class ChangeKind : uint8_t {
  kPut = 1,
  kErase = 2,
  kOpenStream = 3,
  kTrim = 4,
  kStream = 5,   // As it was before the commit, or when the segment began.
  kSegment = 6,  // Of checkpoints only.
};

struct Change {
  ChangeKind kind = ChangeKind::kPut;
  std::string_view key;  // Of a put or erase; the name of a stream.
  std::string_view value;
  StreamId stream;
  int64_t start = 0;  // Of a trim and a stream.
  int64_t end = 0;
  int64_t max_timestamp_ms = -1;
  // Of a segment that is older than the checkpoint.
  uint64_t segment = 0;
  CommitNumber first_commit;
  CommitNumber end_commit;
  uint64_t entry_bytes = 0;
};

void AppendPut(std::string_view key, std::string_view value, std::string* out);
void AppendErase(std::string_view key, std::string* out);
void AppendOpenStream(StreamId stream, std::string_view name, std::string* out);
void AppendTrim(StreamId stream, int64_t start, std::string* out);
// The fields of the kind, as in Change.
void AppendStream(const Change& change, std::string* out);
void AppendSegment(const Change& change, std::string* out);
inline constexpr size_t kSegmentChangeBytes = 33;

class ChangeReader {
 public:
  explicit ChangeReader(std::string_view bytes) : rest_(bytes) {}
  // False at the end, and at the first record that is not whole or not known.
  bool Next(Change* change);
  [[nodiscard]] bool AtEnd() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

}  // namespace holdfast::spool
