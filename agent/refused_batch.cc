#include "agent/refused_batch.h"

namespace holdfast::agent {

using kafka::ErrorCode;

std::deque<Piece> CutRefused(const RefusedBatch& batch) {
  std::deque<Piece> pieces;
  const int64_t count = batch.end - batch.begin;
  const Piece poison{.end = batch.end, .error = batch.error, .message = batch.message};
  if (!batch.refused.empty() && static_cast<int64_t>(batch.refused.size()) < count) {
    int64_t at = batch.begin;
    for (const int32_t index : batch.refused) {
      const int64_t bad = batch.begin + index;
      if (bad < at || bad >= batch.end) continue;
      if (bad > at) pieces.push_back({.end = bad});
      if (!pieces.empty() && pieces.back().poison() && bad == at) {
        pieces.back().end = bad + 1;
      } else {
        pieces.push_back(poison);
        pieces.back().end = bad + 1;
      }
      at = bad + 1;
    }
    if (at < batch.end) pieces.push_back({.end = batch.end});
    return pieces;
  }
  const bool too_large =
      batch.error == ErrorCode::kMessageTooLarge || batch.error == ErrorCode::kRecordListTooLarge;
  if (too_large && count > 1) return {{.end = batch.begin + count / 2}, {.end = batch.end}};
  return {poison};
}

}  // namespace holdfast::agent
