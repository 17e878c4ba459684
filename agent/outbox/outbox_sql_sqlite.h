// The tables of an SQLite outbox, as `holdfast outbox sql --dialect sqlite` prints them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/outbox/table_mapping.h"

namespace holdfast::outbox {

// As a name stands in SQL: "between quotes".
std::string QuotedName(std::string_view name);

// Statements for the service's database file. They may be run again. `further`: columns of text
// besides those of the mapping. What stands before a dot in
// the table's name is left out: SQLite has no schemas.
std::string SqliteOutboxSql(const TableMapping& mapping,
                            const std::vector<std::string>& further = {});

}  // namespace holdfast::outbox
