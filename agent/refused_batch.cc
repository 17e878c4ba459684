#include "agent/refused_batch.h"

#include <fmt/format.h>

#include "kafka/record_batch.h"
#include "kafka/record_reader.h"

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

std::optional<RefusedBatch> RefuseUnreadable(std::string_view batch, int64_t begin, int64_t end) {
  const auto records = kafka::UncompressedRecords::Of(kafka::RecordBatchView(batch));
  // One that holds more than is uncompressed here the tier may take.
  if (records || records.error().code != base::Code::kCorrupt) return std::nullopt;
  return RefusedBatch{
      .begin = begin,
      .end = end,
      .error = ErrorCode::kInvalidRecord,
      .message = fmt::format("cannot be uncompressed ({}); the tier answers UNKNOWN_SERVER_ERROR",
                             records.error().message)};
}

}  // namespace holdfast::agent
