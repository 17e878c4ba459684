// The tables and grants that an outbox needs, as `holdfast outbox sql` prints them.
#pragma once

#include <cstdint>
#include <string>

#include "agent/outbox/table_mapping.h"

namespace holdfast::outbox {

enum class SqlDialect : uint8_t { kPostgres, kSqlite };

// Statements that may be run as they are, and again. The table is made for the preset kDebezium;
// those of the frameworks are expected to be there, and get a position. Grants stand in comments,
// as the roles are the reader's.
std::string OutboxSql(Preset preset, const TableMapping& mapping, SqlDialect dialect);

}  // namespace holdfast::outbox
