#include "cli/topic_configs.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <map>

#include "cli/command_line.h"
#include "cli/spool_verbs.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/incremental_alter_configs.h"

namespace holdfast::cli {
namespace {

using base::Code;
using kafka::ErrorCode;
using Json = nlohmann::ordered_json;

constexpr int8_t kSet = 0;
constexpr int8_t kDelete = 1;
constexpr int8_t kDefaultSource = 5;

std::string_view SourceName(int8_t source) {
  switch (source) {
    case 1:
      return "topic";
    case 2:
      return "broker";
    case 3:
      return "all brokers";
    case 4:
      return "broker's file";
    case kDefaultSource:
      return "default";
    default:
      return "unknown";
  }
}

std::string SubjectOf(ConfigKind kind, std::string_view name) {
  if (kind == ConfigKind::kTopic) return fmt::format("topic {}", name);
  return name.empty() ? "all brokers" : fmt::format("broker {}", name);
}

std::string NeedsOf(ConfigKind kind, std::string_view name, std::string_view operation) {
  return kind == ConfigKind::kTopic ? fmt::format("--operation {} --topic {}", operation, name)
                                    : fmt::format("--operation {} --cluster", operation);
}

// Who answers for it: a broker for itself.
base::Result<int32_t> AskedBroker(const client::Cluster& cluster, ConfigKind kind,
                                  const std::string& name) {
  if (kind == ConfigKind::kTopic || name.empty()) return cluster.controller();
  int32_t id = 0;
  const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error == std::errc() && rest == name.data() + name.size()) return id;
  return base::Unexpected(Code::kInvalid, fmt::format("\"{}\" is no broker: brokers have numbers, "
                                                      "such as {}",
                                                      name, cluster.brokers().front().id));
}

}  // namespace

base::Result<std::vector<Json>> DescribeConfigs(client::Cluster& cluster, ConfigKind kind,
                                                const std::string& name) {
  HF_ASSIGN_OR_RETURN(const int32_t broker, AskedBroker(cluster, kind, name));
  kafka::DescribeConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = static_cast<int8_t>(kind);
  resource.resource_name = name;
  HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(broker, request));
  std::vector<Json> configs;
  for (const auto& result : answer->results) {
    if (result.error_code != ErrorCode::kNone)
      return base::Unexpected(RefusalError({.subject = "settings of " + SubjectOf(kind, name),
                                            .code = result.error_code,
                                            .message = result.error_message,
                                            .needs = NeedsOf(kind, name, "describe-configs")}));
    for (const auto& config : result.configs) {
      configs.push_back({{"name", config.name},
                         {"value", config.value ? Json(*config.value) : Json()},
                         {"source", SourceName(config.config_source)},
                         {"default", config.config_source == kDefaultSource},
                         {"read_only", config.read_only},
                         {"sensitive", config.is_sensitive}});
    }
  }
  std::ranges::sort(configs, {}, [](const Json& config) { return config.value("name", ""); });
  return configs;
}

void AddAlterOptions(CLI::App& verb, AlterOptions* options) {
  verb.add_option("-s,--set", options->set, "A setting's new value; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  verb.add_option("-d,--delete", options->removed,
                  "A setting that gets its default again; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
  verb.add_flag("--dry-run", options->dry_run, "Only ask the tier whether it would do it");
}

base::Result<int> AlterConfigs(const AlterOptions& options, const TierAccess& tier) {
  if (options.set.empty() && options.removed.empty())
    return base::Unexpected(Code::kInvalid, "nothing to change: give --set or --delete");
  std::vector<std::pair<std::string, std::string>> set;
  for (const std::string& text : options.set) {
    HF_ASSIGN_OR_RETURN(set.emplace_back(), SplitPair("--set", text));
  }
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  std::map<int32_t, kafka::IncrementalAlterConfigsRequest> requests;
  for (const std::string& name : options.names) {
    HF_ASSIGN_OR_RETURN(const int32_t broker, AskedBroker(*cluster, options.kind, name));
    kafka::IncrementalAlterConfigsRequest& request = requests[broker];
    request.validate_only = options.dry_run;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = static_cast<int8_t>(options.kind);
    resource.resource_name = name;
    for (const auto& [key, value] : set)
      resource.configs.push_back({.name = key, .config_operation = kSet, .value = value});
    for (const std::string& key : options.removed)
      resource.configs.push_back({.name = key, .config_operation = kDelete});
  }
  int code = kExitFine;
  for (const auto& [broker, request] : requests) {
    HF_ASSIGN_OR_RETURN(const auto answer, cluster->Ask(broker, request));
    for (const auto& response : answer->responses) {
      const std::string subject = SubjectOf(options.kind, response.resource_name);
      if (response.error_code == ErrorCode::kNone) {
        PrintText(fmt::format("{} {}\n", options.dry_run ? "could change" : "changed", subject));
        continue;
      }
      code = Refuse({.subject = subject,
                     .code = response.error_code,
                     .message = response.error_message,
                     .needs = NeedsOf(options.kind, response.resource_name, "alter-configs")});
    }
  }
  return code;
}

}  // namespace holdfast::cli
