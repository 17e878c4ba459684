// Settings of topics and brokers at the tier, as commands show and change them: `holdfast config`
// and `holdfast topic`.
//
// Threads: main.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/client_verb.h"
#include "client/cluster.h"

namespace holdfast::cli {

enum class ConfigKind : int8_t { kTopic = 2, kBroker = 4 };  // As the protocol has them.

// In order of names: name, value (null: none, or secret), source, default, read_only, sensitive.
// `name`: of a broker its id, or empty for what holds for all.
base::Result<std::vector<nlohmann::ordered_json>> DescribeConfigs(client::Cluster& cluster,
                                                                  ConfigKind kind,
                                                                  const std::string& name);

struct AlterOptions {
  ConfigKind kind = ConfigKind::kTopic;
  std::vector<std::string> names;
  std::vector<std::string> set;      // NAME=VALUE
  std::vector<std::string> removed;  // Names.
  bool dry_run = false;
};
void AddAlterOptions(CLI::App& verb, AlterOptions* options);
base::Result<int> AlterConfigs(const AlterOptions& options, const TierAccess& tier);

}  // namespace holdfast::cli
