#include "agent/outbox/table_mapping.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <string_view>

#include "agent/outbox/row.h"

namespace holdfast::outbox {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

TableMapping Debezium() {
  return {.table = "outbox",
          .position = "seq",
          .id = "id",
          .route = "aggregatetype",
          .key = "aggregateid",
          .payload = "payload",
          .topic = "outbox.event.${aggregatetype}"};
}

TableMapping Eventuate() {
  return {.table = "eventuate.message",
          .position = "dbid",
          .id = "id",
          .route = "destination",
          .payload = "payload",
          .timestamp = "creation_time",
          .json_headers = "headers",
          .json_key = "PARTITION_ID",
          .topic = "${aggregatetype}"};
}

TableMapping Modulith() {
  return {.table = "event_publication",
          .position = "seq",
          .id = "id",
          .route = "event_type",
          .payload = "serialized_event",
          .timestamp = "publication_date",
          .only_null = "completion_date",
          .additional = {{.column = "listener_id", .alias = "listener_id"}},
          .topic = "${aggregatetype}"};
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(Trimmed(text.substr(0, end)));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<std::vector<TableMapping::Additional>> ParsePlacement(std::string_view text) {
  std::vector<TableMapping::Additional> additional;
  for (const std::string_view one : Split(text, ',')) {
    const std::vector<std::string_view> parts = Split(one, ':');
    if (parts.size() < 2 || parts.size() > 3 || parts[0].empty() || parts.back().empty()) {
      return Unexpected(Code::kInvalid,
                        fmt::format("`{}` is not `column:header`, `column:header:alias` or "
                                    "`column:partition`",
                                    one));
    }
    TableMapping::Additional& added = additional.emplace_back();
    added.column = parts[0];
    added.alias = parts.size() == 3 ? parts[2] : parts[0];
    if (parts[1] == "partition" && parts.size() == 2) {
      added.placement = TableMapping::Placement::kPartition;
    } else if (parts[1] == "envelope") {
      return Unexpected(Code::kInvalid,
                        fmt::format("`{}`: payloads are sent as they are, so nothing can be put "
                                    "into an envelope; use `header`",
                                    one));
    } else if (parts[1] != "header") {
      return Unexpected(Code::kInvalid,
                        fmt::format("`{}`: a column goes to `header` or to `partition`", one));
    }
  }
  return additional;
}

// Debezium's words for the column that routed, and its own name for it here.
std::string TopicTemplate(std::string text) {
  constexpr std::string_view kTheirs = "${routedByValue}";
  for (size_t at = text.find(kTheirs); at != std::string::npos; at = text.find(kTheirs, at)) {
    text.replace(at, kTheirs.size(), "${aggregatetype}");
  }
  return text;
}

}  // namespace

std::vector<std::string> TableMapping::Columns() const {
  std::vector<std::string> columns{position};
  const auto add = [&columns](const std::string& column) {
    if (std::ranges::find(columns, column) == columns.end()) columns.push_back(column);
  };
  add(id);
  add(route);
  add(payload);
  for (const auto* column : {&key, &timestamp, &json_headers}) {
    if (*column) add(**column);
  }
  for (const Additional& one : additional) add(one.column);
  return columns;
}

Result<void> TableMapping::SetTopic(std::string text) {
  text = TopicTemplate(std::move(text));
  std::vector<std::string> read = Columns();
  // What they hold is kept once, see Row::fields.
  std::erase_if(read,
                [this](const auto& column) { return column == payload || column == json_headers; });
  read.emplace_back(kRouteField);
  for (const std::string& name : FieldsIn(text)) {
    if (std::ranges::find(read, name) != read.end()) continue;
    return Unexpected(Code::kInvalid,
                      fmt::format("the topic `{}` is made from `{}`, which is not read: there are "
                                  "`{}`, and the columns of table.fields.additional.placement",
                                  text, name, fmt::join(read, "`, `")));
  }
  topic = std::move(text);
  return {};
}

Result<TableMapping> TableMapping::Of(Preset preset,
                                      const std::map<std::string, std::string>& properties) {
  TableMapping mapping = preset == Preset::kEventuate  ? Eventuate()
                         : preset == Preset::kModulith ? Modulith()
                                                       : Debezium();
  const std::map<std::string_view, std::string*> columns{
      {"table.field.event.position", &mapping.position},
      {"table.field.event.id", &mapping.id},
      {"table.field.event.payload", &mapping.payload},
      {"route.by.field", &mapping.route},
  };
  const std::map<std::string_view, std::optional<std::string>*> optional_columns{
      {"table.field.event.key", &mapping.key},
      {"table.field.event.timestamp", &mapping.timestamp},
  };
  for (const auto& [name, value] : properties) {
    const auto wrong = [&name = name](std::string_view what) {
      return Unexpected(Code::kInvalid, fmt::format("{}: {}", name, what));
    };
    if (const auto column = columns.find(name); column != columns.end()) {
      if (value.empty()) return wrong("a column's name is missing");
      *column->second = value;
    } else if (const auto maybe = optional_columns.find(name); maybe != optional_columns.end()) {
      *maybe->second = value.empty() ? std::nullopt : std::optional(value);
    } else if (name == "table.fields.additional.placement") {
      auto additional = ParsePlacement(value);
      if (!additional) return wrong(additional.error().message);
      mapping.additional = *std::move(additional);
    } else if (name == "route.topic.replacement") {
      mapping.topic = TopicTemplate(value);
    } else if (name == "route.tombstone.on.empty.payload") {
      if (value != "true" && value != "false") return wrong("`true` or `false`");
      mapping.tombstone_on_empty_payload = value == "true";
    } else {
      return wrong(
          "no such option; there are table.field.event.position, table.field.event.id, "
          "table.field.event.key, table.field.event.payload, table.field.event.timestamp, "
          "table.fields.additional.placement, route.by.field, route.topic.replacement and "
          "route.tombstone.on.empty.payload");
    }
  }
  if (mapping.key) mapping.json_key.reset();
  return mapping;
}

}  // namespace holdfast::outbox
