// The settings of groups under Kafka's names: what may be set, to what, and what follows from it.
//
// Every name that Kafka 4.2 knows is accepted within Kafka's bounds and given back. Those of the
// newer protocol's consumer groups have an effect; their bounds are the broker's own. A group need
// not exist to have settings, and keeps them when it is deleted.
//
// Threads: values; published ones are immutable. The operation as broker/topic_changes.h has it.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "broker/consumer_group_options.h"
#include "broker/records.h"
#include "broker/topic_config.h"

namespace holdfast::broker {

// By name.
std::span<const ConfigDefinition> GroupConfigDefinitions();

class GroupConfig {
 public:
  // kInvalid: no such name, or no value for it; the message is for the client.
  base::Result<> Set(std::string_view name, std::string_view value);
  // What it is after the changes, held against the bounds.
  [[nodiscard]] base::Result<GroupConfig> Altered(std::span<const ConfigChange> changes,
                                                  const ConsumerGroupOptions& bounds) const;

  // What was set, by name.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& overrides() const {
    return overrides_;
  }
  // The broker's options with what the group has of its own. Never outside the bounds, which may
  // have changed since.
  [[nodiscard]] ConsumerGroupOptions Over(ConsumerGroupOptions options) const;

 private:
  [[nodiscard]] base::Result<> Check(const ConsumerGroupOptions& bounds) const;

  std::map<std::string, std::string, std::less<>> overrides_;
};

// By group. Those that have a setting.
using GroupConfigs = std::map<std::string, GroupConfig, std::less<>>;

// The stored settings of a group. What this version does not take (another one may have written it)
// is left out, with a warning.
GroupConfig ReadConfig(std::string_view group, const ConfigsRecord& record);
// What a group that may have settings of its own has; the broker's otherwise.
ConsumerGroupOptions OptionsOf(const GroupConfigs& configs, std::string_view group,
                               const ConsumerGroupOptions& options);

}  // namespace holdfast::broker
