// One row of an outbox table, whatever database it stands in, by the meaning of its columns: those
// of Debezium's outbox event router, from which the names come.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace holdfast::outbox {

// Which row: a table that was emptied and filled anew may give a position a second time, so the
// event's id counts, too.
struct RowId {
  int64_t position = 0;
  std::string id;  // Row::id.

  bool operator==(const RowId&) const = default;
};

// The same, as it is noted in the spool.
struct RowRef {
  int64_t position = 0;
  uint64_t id_digest = 0;  // DigestOf(RowId::id).

  bool operator==(const RowRef&) const = default;
};

struct Row {
  // Rises with each insert, but rows may be committed in another order.
  int64_t position = 0;
  std::string id;                            // Becomes the header `id`.
  std::string route;                         // Which topic: Debezium's `aggregatetype`.
  std::optional<std::string> key;            // Debezium's `aggregateid`.
  std::optional<std::string> payload;        // Null: a tombstone.
  std::optional<int64_t> timestamp_ms = {};  // Not set: when it is taken.
  std::optional<int32_t> partition = {};     // Not set: by the key.
  // Further headers, in the order of the mapping. A null value is a header without value.
  std::vector<std::pair<std::string, std::optional<std::string>>> headers = {};
  // Why it cannot be sent, found on reading; empty if it can.
  std::string problem = {};

  // What its topic's template names, see NamesField: nothing else is kept twice.
  std::vector<std::pair<std::string, std::string>> fields = {};
};

// What a row takes in memory, nearly.
size_t MemoryOf(const Row& row);

// In a topic's template: the row's route.
inline constexpr std::string_view kRouteField = "aggregatetype";
// Whether a topic's template has `${field}` in it.
bool NamesField(std::string_view topic, std::string_view field);
// All that it has.
std::vector<std::string> FieldsIn(std::string_view topic);

// FNV-1a of the id's bytes: kept in spools, so it never changes.
uint64_t DigestOf(std::string_view id);
RowRef RefOf(const RowId& row);
std::vector<RowRef> RefsOf(std::span<const RowId> rows);

// Rows as the spool's state keeps them: a byte of format, then 16 bytes a row, little-endian.
std::string EncodeNote(std::span<const RowRef> rows);
base::Result<std::vector<RowRef>> ParseNote(std::string_view bytes);

}  // namespace holdfast::outbox
