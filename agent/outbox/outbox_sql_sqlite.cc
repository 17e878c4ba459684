#include "agent/outbox/outbox_sql_sqlite.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace holdfast::outbox {
namespace {

// By what the column is for. Types only lean towards something: a BLOB column keeps text, too.
std::string_view TypeOf(const TableMapping& mapping, const std::string& column) {
  if (column == mapping.payload) return "BLOB";
  if (column == mapping.timestamp) return "INTEGER";
  const auto placed =
      std::ranges::find(mapping.additional, column, &TableMapping::Additional::column);
  if (placed != mapping.additional.end() &&
      placed->placement == TableMapping::Placement::kPartition) {
    return "INTEGER";
  }
  return "TEXT";
}

}  // namespace

std::string QuotedName(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string SqliteOutboxSql(const TableMapping& mapping, const std::vector<std::string>& further) {
  const std::string table = mapping.table.substr(mapping.table.rfind('.') + 1);
  std::vector<std::string> columns = mapping.Columns();
  const auto add = [&columns](const std::string& column) {
    if (std::ranges::find(columns, column) == columns.end()) columns.push_back(column);
  };
  if (mapping.only_null) add(*mapping.only_null);
  std::ranges::for_each(further, add);
  std::string kept = "  " + QuotedName(mapping.position) + " INTEGER NOT NULL";
  std::string sent = "  " + QuotedName(mapping.position) +
                     " INTEGER PRIMARY KEY AUTOINCREMENT";  // So that no position is given twice.
  for (const std::string& column : columns) {
    if (column == mapping.position) continue;
    const std::string line = fmt::format(",\n  {} {}", QuotedName(column), TypeOf(mapping, column));
    kept += line;
    sent += line;
    if (column == mapping.id || column == mapping.route) sent += " NOT NULL";
  }
  std::string sql =
      "-- So that those who read and the one who writes do not block each other. Kept by the "
      "file.\n"
      "PRAGMA journal_mode = WAL;\n\n";
  if (table != mapping.table) {
    sql += fmt::format("-- SQLite has no schemas: set `table: {}` for this source.\n", table);
  }
  if (mapping.timestamp) {
    sql += fmt::format("-- {}: milliseconds since 1970, or text as ISO 8601 writes a time.\n",
                       QuotedName(*mapping.timestamp));
  }
  sql += fmt::format("CREATE TABLE IF NOT EXISTS {} (\n{}\n);\n\n", QuotedName(table), sent);
  sql += "-- What cannot be sent, and why. To send a row after all, insert it anew above.\n";
  sql += fmt::format(
      "CREATE TABLE IF NOT EXISTS {} (\n{},\n  reason TEXT NOT NULL,\n"
      "  quarantined_at TEXT NOT NULL\n);\n",
      QuotedName(table + "_quarantine"), kept);
  return sql;
}

}  // namespace holdfast::outbox
