// Which columns of a table mean what: the presets, and Debezium's option names over them.
//
//   auto mapping = TableMapping::Of(Preset::kDebezium, {{"table.field.event.key", "order_id"}});
//
// Threads: any; a value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace holdfast::outbox {

enum class Preset : uint8_t {
  kDebezium,   // Debezium's outbox event router, and an identity column.
  kEventuate,  // Eventuate Tram's `message` table.
  kModulith,   // Spring Modulith's `event_publication` table.
};

struct TableMapping {
  std::string table;     // Perhaps with a schema before a dot.
  std::string position;  // An integer that rises with each insert, with a unique index.
  std::string id;
  std::string route;               // Debezium's route.by.field.
  std::optional<std::string> key;  // None: records have no keys.
  std::string payload;
  std::optional<std::string> timestamp;  // None: records get the time at which they are taken.
  // A column whose JSON object of text becomes headers (Eventuate). One of them may be the key.
  std::optional<std::string> json_headers;
  std::optional<std::string> json_key;
  // A column that is null in rows that are still to be sent (Modulith's completion_date).
  std::optional<std::string> only_null;

  enum class Placement : uint8_t { kHeader, kPartition };
  struct Additional {
    std::string column;
    Placement placement = Placement::kHeader;
    std::string alias;  // The header's name.
    bool operator==(const Additional&) const = default;
  };
  std::vector<Additional> additional;

  std::string topic;                        // The template of topics.
  bool tombstone_on_empty_payload = false;  // Debezium's route.tombstone.on.empty.payload.

  // The columns that are read, each once: the position first.
  [[nodiscard]] std::vector<std::string> Columns() const;

  // Another template of topics, in which ${routedByValue}, as Debezium calls it, stands for
  // ${aggregatetype}. kInvalid: it names what is not read.
  base::Result<void> SetTopic(std::string text);

  // Options of Debezium's router: table.field.event.id, .key, .payload, .timestamp, route.by.field,
  // route.topic.replacement, route.tombstone.on.empty.payload, table.fields.additional.placement
  // (`column:header[:alias]` and `column:partition`, with commas between); and beside them
  // table.field.event.position, which Debezium does not need. kInvalid: an unknown name, or a value
  // that it cannot have. What a topic is made from is not looked at: headers of LMDB's events have
  // names that only services know. SetTopic looks.
  static base::Result<TableMapping> Of(Preset preset,
                                       const std::map<std::string, std::string>& properties);
};

}  // namespace holdfast::outbox
