// What becomes of a batch that the tier refused whole and for good. Most of its records may be
// good: if the tier names the bad ones, only these are poison; one that is too large is cut in
// halves, until what is left of it is one record.
//
// Threads: any; plain values.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/error_code.h"

namespace holdfast::agent {

// Records [begin, end) of a stream.
struct RefusedBatch {
  int64_t begin = 0;
  int64_t end = 0;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string message;           // If there is more to say.
  std::vector<int32_t> refused;  // Which records it is about, if the tier named some; ascending.
};

// A part of such a batch. It begins where the one before it ends.
struct Piece {
  int64_t end = 0;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;  // Why it can never be delivered.
  std::string message = {};

  [[nodiscard]] bool poison() const { return error != kafka::ErrorCode::kNone; }
};

std::deque<Piece> CutRefused(const RefusedBatch& batch);

// Records [begin, end) of a stream, in a batch that the tier answered with UNKNOWN_SERVER_ERROR:
// what Kafka says each time to one that it cannot uncompress, for which it has no error. Refused if
// it is such a one: INVALID_RECORD, as if it had been looked into before it was taken. None: it can
// be read here, so it is not known what the tier has against it.
std::optional<RefusedBatch> RefuseUnreadable(std::string_view batch, int64_t begin, int64_t end);

}  // namespace holdfast::agent
