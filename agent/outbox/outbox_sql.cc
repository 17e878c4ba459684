#include "agent/outbox/outbox_sql.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "agent/outbox/outbox_sql_sqlite.h"

namespace holdfast::outbox {
namespace {

// Services that were written for Debezium fill it, and nothing here needs it.
constexpr const char* kType = "type";
constexpr std::string_view kPositionType = "bigint GENERATED ALWAYS AS IDENTITY";

std::string TypeOf(const TableMapping& mapping, const std::string& column) {
  if (column == mapping.id) return "uuid NOT NULL";
  if (column == mapping.route || column == mapping.key) return "varchar(255) NOT NULL";
  if (column == mapping.payload) return "jsonb";
  if (column == mapping.timestamp) return "timestamptz DEFAULT now()";
  const auto placed =
      std::ranges::find(mapping.additional, column, &TableMapping::Additional::column);
  if (placed != mapping.additional.end() &&
      placed->placement == TableMapping::Placement::kPartition) {
    return "integer";
  }
  return "text";
}

std::string NewTable(const TableMapping& mapping, const std::string& table) {
  std::string sql = fmt::format(
      "-- The service inserts, and leaves {0} out. The payload is sent as it is; json, text and "
      "bytea do\n-- as well.\nCREATE TABLE IF NOT EXISTS {1} (\n  {0} {2} PRIMARY KEY",
      QuotedName(mapping.position), table, kPositionType);
  const std::vector<std::string> columns = mapping.Columns();
  for (const std::string& column : columns) {
    if (column == mapping.position) continue;
    sql += fmt::format(",\n  {} {}", QuotedName(column), TypeOf(mapping, column));
  }
  if (std::ranges::find(columns, kType) == columns.end()) {
    sql += fmt::format(",\n  {} varchar(255)", QuotedName(kType));
  }
  return sql + "\n);\n";
}

std::string FrameworksTable(const TableMapping& mapping, const std::string& table,
                            const std::string& name) {
  const std::string position = QuotedName(mapping.position);
  std::string sql = fmt::format(
      "-- The framework's own table gets a position. This writes the table anew, and locks it "
      "meanwhile.\n"
      "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {};\n"
      "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({});\n",
      table, position, kPositionType, QuotedName(name + "_" + mapping.position), table, position);
  if (mapping.only_null) {
    sql += fmt::format(
        "-- So that what is completed and kept is not walked again and again.\n"
        "CREATE INDEX IF NOT EXISTS {} ON {} ({}) WHERE {} IS NULL;\n",
        QuotedName(name + "_to_send"), table, position, QuotedName(*mapping.only_null));
  }
  return sql;
}

std::string PostgresOutboxSql(Preset preset, const TableMapping& mapping) {
  const size_t dot = mapping.table.find('.');
  const bool qualified = dot != std::string::npos;
  const std::string name = qualified ? mapping.table.substr(dot + 1) : mapping.table;
  const std::string schema = qualified ? QuotedName(mapping.table.substr(0, dot)) : "";
  const std::string prefix = qualified ? schema + "." : "";
  const std::string table = prefix + QuotedName(name);
  const std::string quarantine = prefix + QuotedName(name + "_quarantine");
  const std::string owners = prefix + "holdfast_outbox_owner";
  const std::string agents = prefix + "holdfast_outbox_agent";

  std::string sql = preset == Preset::kDebezium ? NewTable(mapping, table)
                                                : FrameworksTable(mapping, table, name);
  sql += fmt::format(
      "-- Rows come and go: let them be cleared away often, and without pauses.\n"
      "ALTER TABLE {} SET (\n"
      "  autovacuum_vacuum_scale_factor = 0,\n"
      "  autovacuum_vacuum_threshold = 10000,\n"
      "  autovacuum_vacuum_cost_delay = 0,\n"
      "  autovacuum_analyze_scale_factor = 0,\n"
      "  autovacuum_analyze_threshold = 100000\n"
      ");\n\n",
      table);
  sql += fmt::format(
      "-- What cannot be sent, and why. To send a row after all, insert it anew above.\n"
      "CREATE TABLE IF NOT EXISTS {} (\n"
      "  LIKE {},\n"
      "  reason text NOT NULL,\n"
      "  quarantined_at timestamptz NOT NULL DEFAULT now()\n"
      ");\n\n",
      quarantine, table);
  sql += fmt::format(
      "-- Which agent takes from which part of a table, and which agents there are.\n"
      "CREATE TABLE IF NOT EXISTS {} (\n"
      "  source_table text NOT NULL,\n"
      "  part integer NOT NULL,\n"
      "  agent text NOT NULL,\n"
      "  clean boolean NOT NULL,\n"
      "  taken_at timestamptz NOT NULL,\n"
      "  expires_at timestamptz,\n"
      "  PRIMARY KEY (source_table, part)\n"
      ");\n"
      "CREATE TABLE IF NOT EXISTS {} (\n"
      "  source_table text NOT NULL,\n"
      "  agent text NOT NULL,\n"
      "  parts integer NOT NULL,\n"
      "  seen_at timestamptz NOT NULL,\n"
      "  PRIMARY KEY (source_table, agent)\n"
      ");\n\n",
      owners, agents);
  sql +=
      "-- The least that is needed, with the agent's role as `holdfast` and the service's as "
      "`service`:\n";
  const auto grant = [&sql](std::string_view what, const std::string& on, std::string_view role) {
    sql += fmt::format("-- GRANT {} ON {} TO {};\n", what, on, role);
  };
  if (qualified) grant("USAGE", "SCHEMA " + schema, "holdfast, service");
  grant("SELECT, DELETE", table, "holdfast");
  grant("SELECT, INSERT", quarantine, "holdfast");
  grant("SELECT, INSERT, UPDATE", owners, "holdfast");
  grant("SELECT, INSERT, UPDATE, DELETE", agents, "holdfast");
  grant("INSERT", table, "service");
  return sql;
}

}  // namespace

std::string OutboxSql(Preset preset, const TableMapping& mapping, SqlDialect dialect) {
  if (dialect == SqlDialect::kPostgres) return PostgresOutboxSql(preset, mapping);
  return preset == Preset::kDebezium ? SqliteOutboxSql(mapping, {kType}) : SqliteOutboxSql(mapping);
}

}  // namespace holdfast::outbox
