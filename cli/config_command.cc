// `holdfast config VERB`.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/topic_configs.h"

namespace holdfast::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAllBrokers = "default";

constexpr const char* kDescribeFooter =
    R"(KIND is topic or broker; NAME a topic, a broker's number, or default for what holds for all
brokers. SOURCE says where a value comes from. Secrets are not told.

Example:
  holdfast config describe topic orders
  holdfast config describe broker 0 --format json | jq '.[] | select(.default | not)')";

constexpr const char* kAlterFooter =
    R"(KIND and NAME are as `holdfast config describe` has them. Changes what is named and leaves
the rest as it is; --delete gives a setting its default again.

Example:
  holdfast config alter topic orders --set retention.ms=86400000 --delete cleanup.policy
  holdfast config alter broker default --set log.retention.ms=604800000)";

struct Options {
  AlterOptions alter;
  std::string name;
  bool json = false;
};

std::string NameOf(const Options& options) {
  return options.alter.kind == ConfigKind::kBroker && options.name == kAllBrokers ? ""
                                                                                  : options.name;
}

base::Result<int> Describe(const Options& options, const TierAccess& tier) {
  HF_ASSIGN_OR_RETURN(const auto cluster, tier.Connect());
  HF_ASSIGN_OR_RETURN(const auto configs,
                      DescribeConfigs(*cluster, options.alter.kind, NameOf(options)));
  if (options.json) {
    PrintJson(configs);
  } else {
    PrintText(TableOf({{"name", "SETTING"}, {"value", "VALUE"}, {"source", "SOURCE"}}, configs));
  }
  return kExitFine;
}

base::Result<int> Alter(const Options& options, const TierAccess& tier) {
  AlterOptions alter = options.alter;
  alter.names = {NameOf(options)};
  return AlterConfigs(alter, tier);
}

void AddSubject(CLI::App& verb, Options* options) {
  const std::map<std::string, ConfigKind> kinds{{"topic", ConfigKind::kTopic},
                                                {"broker", ConfigKind::kBroker}};
  verb.add_option("KIND", options->alter.kind, "topic or broker")
      ->required()
      ->transform(CLI::CheckedTransformer(kinds).description(""))
      ->type_name("");
  verb.add_option("NAME", options->name, "Which")->required()->type_name("");
}

}  // namespace

void AddConfigVerbs(CLI::App& config, ClientCommand* command) {
  config.require_subcommand(0, 1);
  {
    const auto options = std::make_shared<Options>();
    CLI::App* const verb =
        AddClientVerb(config, command, "describe", "Settings of a topic or broker", kDescribeFooter,
                      [options](const TierAccess& tier) { return Describe(*options, tier); });
    AddSubject(*verb, options.get());
    AddOutputFormat(*verb, &options->json);
  }
  {
    const auto options = std::make_shared<Options>();
    CLI::App* const verb = AddClientVerb(
        config, command, "alter", "Change settings of a topic or broker", kAlterFooter,
        [options](const TierAccess& tier) { return Alter(*options, tier); });
    AddSubject(*verb, options.get());
    AddAlterOptions(*verb, &options->alter);
  }
}

}  // namespace holdfast::cli
