// What the verbs have in common that are clients of a tier: where it is, how to log in, and how
// they print what they find.
//
//   const auto options = std::make_shared<CreateOptions>();
//   CLI::App* verb = AddClientVerb(topic, command, "create", "Create topics", footer,
//       [options](const TierAccess& tier) { return Create(*options, tier); });
//   verb->add_option(...);
//
// Threads: main.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/client_command.h"
#include "cli/output.h"
#include "client/cluster.h"
#include "client/connection.h"
#include "config/config.h"
#include "kafka/error_code.h"

namespace holdfast::cli {

// Where the tier is, as the command line says it.
class TierAccess {
 public:
  TierAccess(std::shared_ptr<const config::Config> config, client::Connection::Properties further)
      : config_(std::move(config)), further_(std::move(further)) {}

  // For questions. kInvalid: a property is given that only librdkafka takes.
  [[nodiscard]] base::Result<std::unique_ptr<client::Cluster>> Connect() const;
  // For questions of a command that makes a connection, too.
  [[nodiscard]] base::Result<std::unique_ptr<client::Cluster>> ConnectForRecords() const;
  // For records, by librdkafka.
  [[nodiscard]] base::Result<std::unique_ptr<client::Connection>> MakeConnection() const;
  // -X beyond security, which only librdkafka takes.
  [[nodiscard]] const client::Connection::Properties& further() const { return further_; }

 private:
  const std::shared_ptr<const config::Config> config_;
  const client::Connection::Properties further_;
};

// Adds a verb with the options that say where the tier is. Parsing it makes `run` that of
// `command`, which outlives `parent`.
CLI::App* AddClientVerb(CLI::App& parent, ClientCommand* command, const char* name,
                        const char* description, std::string footer, ClientRun run);
// The same for a command without verbs.
void MakeClientVerb(CLI::App& verb, ClientCommand* command, ClientRun run);
// --format text or json.
void AddOutputFormat(CLI::App& verb, bool* json);
// Of NAME=VALUE; kInvalid names the option.
base::Result<std::pair<std::string, std::string>> SplitPair(std::string_view option,
                                                            const std::string& text);

// Rows as an aligned table: a column's key in the rows, and its title. Numbers stand on the right,
// lists with commas; null is "-".
struct Column {
  const char* key;
  const char* title;
};
std::string TableOf(const std::vector<Column>& columns,
                    const std::vector<nlohmann::ordered_json>& rows);
void PrintJson(const nlohmann::ordered_json& document);

// One thing that the tier refused: what, why, what to do.
struct Refusal {
  std::string subject;  // "topic orders"
  kafka::ErrorCode code = kafka::ErrorCode::kNone;
  std::optional<std::string_view> message = {};
  std::string needs = {};  // "--operation create --topic orders": the rule that would allow it.
};
std::string RefusalText(const Refusal& refusal);
base::Error RefusalError(const Refusal& refusal);
// Complains of it; returns kExitFailed.
int Refuse(const Refusal& refusal);

}  // namespace holdfast::cli
