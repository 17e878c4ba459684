// `holdfast outbox sql`: the tables, settings and least rights of an outbox, to be piped into the
// database's own client.
//
// Output goes to standard output, what went wrong to standard error. Threads: main.
#pragma once

#include <string>
#include <vector>

#include "agent/outbox/outbox_sql.h"
#include "agent/outbox/table_mapping.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct OutboxCommand {
  outbox::Preset preset = outbox::Preset::kDebezium;
  outbox::SqlDialect dialect = outbox::SqlDialect::kPostgres;
  std::string table;                    // Empty: the preset's.
  std::vector<std::string> properties;  // NAME=VALUE, as in agent.outbox.properties.
};

// Adds the verbs below `outbox`. Parsing fills `command`, which outlives `outbox`.
void AddOutboxVerbs(CLI::App& outbox, OutboxCommand* command);

// Returns the exit code.
int RunOutboxCommand(const OutboxCommand& command);

}  // namespace holdfast::cli
