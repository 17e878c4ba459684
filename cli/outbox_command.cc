#include "cli/outbox_command.h"

#include <CLI/CLI.hpp>
#include <map>

#include "base/event.h"
#include "cli/command_line.h"
#include "cli/complain.h"
#include "cli/output.h"

namespace holdfast::cli {
namespace {

using outbox::Preset;
using outbox::SqlDialect;

constexpr const char* kSqlFooter = R"(What is printed may be run as it is, and again.

Example:
  holdfast outbox sql | psql orders
  holdfast outbox sql --dialect sqlite | sqlite3 service.db
  holdfast outbox sql --preset eventuate
  holdfast outbox sql --table shop.events --property table.field.event.key=customer_id)";

}  // namespace

void AddOutboxVerbs(CLI::App& outbox, OutboxCommand* command) {
  outbox.require_subcommand(0, 1);
  CLI::App* sql = outbox.add_subcommand("sql", "Print the tables of an outbox, and who needs what");
  sql->footer(kSqlFooter);
  // Without their description, which has the values as characters, of which 0 ends the text.
  const std::map<std::string, Preset> presets{{"debezium", Preset::kDebezium},
                                              {"eventuate", Preset::kEventuate},
                                              {"modulith", Preset::kModulith}};
  sql->add_option("--preset", command->preset, "debezium, eventuate or modulith")
      ->transform(CLI::CheckedTransformer(presets).description(""))
      ->type_name("NAME");
  const std::map<std::string, SqlDialect> dialects{{"postgres", SqlDialect::kPostgres},
                                                   {"sqlite", SqlDialect::kSqlite}};
  sql->add_option("--dialect", command->dialect, "postgres or sqlite")
      ->transform(CLI::CheckedTransformer(dialects).description(""))
      ->type_name("NAME");
  sql->add_option("--table", command->table, "The table, in place of the preset's")
      ->type_name("NAME");
  sql->add_option("--property", command->properties,
                  "One of agent.outbox.properties; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
}

int RunOutboxCommand(const OutboxCommand& command) {
  std::map<std::string, std::string> properties;
  for (const std::string& property : command.properties) {
    const size_t equals = property.find('=');
    if (equals == std::string::npos)
      return Fail(kExitWrongUsage,
                  {base::Code::kInvalid, "--property " + property + ": write NAME=VALUE",
                   base::Event::kWrongUsage});
    properties[property.substr(0, equals)] = property.substr(equals + 1);
  }
  auto mapping = outbox::TableMapping::Of(command.preset, properties);
  if (!mapping) return Fail(kExitWrongUsage, mapping.error());
  if (!command.table.empty()) mapping->table = command.table;
  PrintText(outbox::OutboxSql(command.preset, *mapping, command.dialect));
  return kExitFine;
}

}  // namespace holdfast::cli
