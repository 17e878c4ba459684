#include "cli/client_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/event.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/security.h"
#include "cli/spool_verbs.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {
namespace {

using base::Code;
using kafka::ErrorCode;
using Json = nlohmann::ordered_json;

constexpr const char* kHere = "127.0.0.1:9092";

bool IsSecurity(std::string_view name) {
  return name.starts_with("security.") || name.starts_with("sasl.") || name.starts_with("ssl.");
}

bool IsBootstrap(std::string_view name) {
  return name == "bootstrap.servers" || name == "metadata.broker.list";
}

base::Result<TierAccess> AccessOf(const ClientCommand& command,
                                  std::vector<std::string> environment) {
  config::Sources sources{.defaults = {{"agent.upstream.bootstrap", kHere, "--brokers"}},
                          .file = command.config_file,
                          .environment = std::move(environment)};
  std::string brokers;
  for (const std::string& some : command.brokers) brokers += (brokers.empty() ? "" : ",") + some;
  client::Connection::Properties further;
  for (const std::string& property : command.properties) {
    HF_ASSIGN_OR_RETURN(auto pair, SplitPair("-X", property));
    auto& [name, value] = pair;
    if (IsBootstrap(name)) {
      if (brokers.empty()) brokers = value;
    } else if (IsSecurity(name)) {
      sources.sets.push_back({"agent.upstream.properties." + name, value, "-X " + name});
    } else {
      further[name] = value;
    }
  }
  if (!brokers.empty()) sources.sets.push_back({"agent.upstream.bootstrap", brokers, "--brokers"});
  HF_ASSIGN_OR_RETURN(auto config, config::Load(sources));
  return TierAccess(std::move(config), std::move(further));
}

std::string CellText(const Json& cell) {
  if (cell.is_null()) return "-";
  if (cell.is_string()) return base::Printable(cell.get<std::string>());
  if (!cell.is_array()) return cell.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string text;
  for (const Json& one : cell) text += (text.empty() ? "" : ",") + CellText(one);
  return text.empty() ? "-" : text;
}

Json CellOf(const Json& row, const Column& column) {
  const auto found = row.find(column.key);
  return found == row.end() ? Json() : *found;
}

// What to do, where the tier's own words do not say it.
std::string_view Remedy(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUnknownTopicOrPartition:
      return "there is no such topic, or this user may not see it; `holdfast topic list` shows "
             "those that there are";
    case ErrorCode::kTopicAlreadyExists:
      return "`holdfast topic describe` shows it";
    case ErrorCode::kInvalidReplicationFactor:
      return "there are at most as many replicas as brokers: give --replicas";
    case ErrorCode::kInvalidTopicException:
      return "a name has 1 to 249 letters, digits, dots, underscores and hyphens";
    case ErrorCode::kNonEmptyGroup:
    case ErrorCode::kGroupSubscribedToTopic:
      return "the group has members: stop its consumers first";
    case ErrorCode::kGroupIdNotFound:
      return "there is no such group; `holdfast group list` shows those that there are";
    case ErrorCode::kSecurityDisabled:
      return "the tier has no access rules: set broker.authorizer.enabled, or in Kafka "
             "authorizer.class.name";
    case ErrorCode::kRequestTimedOut:
      return "whether it was done is not known: look before you do it again";
    case ErrorCode::kLeaderNotAvailable:
      return "the partition has no leader now; try again, and look at its brokers";
    default:
      return kafka::Retriable(code) ? "try again" : "";
  }
}

}  // namespace

base::Result<std::unique_ptr<client::Cluster>> TierAccess::Connect() const {
  if (!further_.empty())
    return base::Unexpected(Code::kInvalid,
                            fmt::format("-X {}: this command takes security.protocol, sasl.* and "
                                        "ssl.*; the rest is for `produce` and `consume`",
                                        further_.begin()->first));
  return ConnectForRecords();
}

base::Result<std::unique_ptr<client::Cluster>> TierAccess::ConnectForRecords() const {
  const config::Upstream& upstream = config_->agent().upstream();
  client::Cluster::Options options{.timeout = std::chrono::milliseconds(upstream.timeout_ms())};
  HF_ASSIGN_OR_RETURN(options.identity, TierIdentityOf(upstream));
  for (const std::string& address : upstream.bootstrap()) {
    HF_ASSIGN_OR_RETURN(options.bootstrap.emplace_back(), net::HostPort::Parse(address));
  }
  auto cluster = client::Cluster::Connect(std::move(options));
  if (cluster) return cluster;
  base::Error error = std::move(cluster).error();
  error.message =
      "cannot reach the tier: " + error.message + "; --brokers HOST:PORT says where it is";
  return base::Unexpected(std::move(error));
}

base::Result<std::unique_ptr<client::Connection>> TierAccess::MakeConnection() const {
  HF_ASSIGN_OR_RETURN(auto options, ConnectionOf(config_->agent().upstream()));
  for (const auto& [name, value] : further_) options.properties[name] = value;
  return std::make_unique<client::Connection>(std::move(options));
}

CLI::App* AddClientVerb(CLI::App& parent, ClientCommand* command, const char* name,
                        const char* description, std::string footer, ClientRun run) {
  CLI::App* const verb = parent.add_subcommand(name, description);
  verb->footer(std::move(footer));
  MakeClientVerb(*verb, command, std::move(run));
  return verb;
}

void MakeClientVerb(CLI::App& verb, ClientCommand* command, ClientRun run) {
  verb.callback([command, run = std::move(run)] { command->run = run; });
  verb.add_option("-b,--brokers", command->brokers,
                  "Brokers, or an agent's listener; 127.0.0.1:9092 if not set")
      ->type_name("HOST:PORT[,...]")
      ->allow_extra_args(false)
      ->group("Tier");
  verb.add_option("-X", command->properties,
                  "A property of Kafka's clients, such as security.protocol=SASL_SSL; may be "
                  "repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false)
      ->group("Tier");
  verb.add_option("--config", command->config_file,
                  "A configuration file: brokers and security of its agent.upstream")
      ->type_name("FILE")
      ->group("Tier");
}

void AddOutputFormat(CLI::App& verb, bool* json) {
  verb.add_option_function<std::string>(
          "--format", [json](const std::string& format) { *json = format == "json"; },
          "text, or json: one document")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("FORMAT");
}

base::Result<std::pair<std::string, std::string>> SplitPair(std::string_view option,
                                                            const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    return base::Unexpected(Code::kInvalid, fmt::format("{} {}: write NAME=VALUE", option, text));
  return std::pair(text.substr(0, equals), text.substr(equals + 1));
}

int RunClientCommand(const ClientCommand& command, std::vector<std::string> environment) {
  // What goes wrong is in what the command says at its end.
  base::SetLogLevel(base::LogLevel::kError);
  const auto access = AccessOf(command, std::move(environment));
  if (!access) return Fail(kExitWrongUsage, access.error());
  const auto code = command.run(*access);
  if (!code)
    return Fail(code.error().code == Code::kInvalid ? kExitWrongUsage : kExitFailed, code.error());
  return *code;
}

std::string TableOf(const std::vector<Column>& columns, const std::vector<Json>& rows) {
  std::vector<size_t> widths;
  std::vector<bool> right;
  for (const Column& column : columns) {
    size_t width = std::string_view(column.title).size();
    bool numbers = false;
    for (const Json& row : rows) {
      const Json cell = CellOf(row, column);
      width = std::max(width, CellText(cell).size());
      numbers = numbers || cell.is_number();
    }
    widths.push_back(width);
    right.push_back(numbers);
  }
  std::string text;
  const auto line = [&](auto cell_of) {
    std::string one;
    for (size_t i = 0; i < columns.size(); ++i) {
      const std::string cell = cell_of(columns[i]);
      one += fmt::format("{}{}", i == 0 ? "" : "  ",
                         right[i] ? fmt::format("{:>{}}", cell, widths[i])
                                  : fmt::format("{:<{}}", cell, widths[i]));
    }
    one.erase(one.find_last_not_of(' ') + 1);
    text += one + "\n";
  };
  line([](const Column& column) { return std::string(column.title); });
  for (const Json& row : rows)
    line([&row](const Column& column) { return CellText(CellOf(row, column)); });
  return text;
}

void PrintJson(const Json& document) {
  PrintText(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string RefusalText(const Refusal& refusal) {
  std::string text = fmt::format("{}: {}", refusal.subject, kafka::ErrorName(refusal.code));
  if (refusal.message && !refusal.message->empty()) text += fmt::format(": {}", *refusal.message);
  while (text.ends_with('.')) text.pop_back();
  const bool not_allowed = refusal.code == ErrorCode::kTopicAuthorizationFailed ||
                           refusal.code == ErrorCode::kGroupAuthorizationFailed ||
                           refusal.code == ErrorCode::kClusterAuthorizationFailed ||
                           refusal.code == ErrorCode::kTransactionalIdAuthorizationFailed;
  if (not_allowed && !refusal.needs.empty()) {
    text += "; who may do so can allow it: holdfast acl create --allow-principal User:NAME " +
            refusal.needs;
  } else if (const std::string_view remedy = Remedy(refusal.code); !remedy.empty()) {
    text += fmt::format("; {}", remedy);
  }
  return text;
}

base::Error RefusalError(const Refusal& refusal) {
  return {Code::kUnavailable, RefusalText(refusal), base::Event::kRefusedByTier};
}

int Refuse(const Refusal& refusal) {
  Complain(RefusalError(refusal));
  return kExitFailed;
}

}  // namespace holdfast::cli
