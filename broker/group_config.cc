#include "broker/group_config.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/event.h"
#include "base/log.h"
#include "broker/config_values.h"
#include "broker/milliseconds.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;
using std::chrono::milliseconds;

constexpr int64_t kIntMax = std::numeric_limits<int32_t>::max();
constexpr std::string_view kSessionTimeout = "consumer.session.timeout.ms";
constexpr std::string_view kHeartbeatInterval = "consumer.heartbeat.interval.ms";

// Names, defaults and bounds of Kafka 4.2; of consumer groups the bounds are the broker's.
constexpr std::array kDefinitions{
    ConfigDefinition{kHeartbeatInterval, ConfigType::kInt, "5000", 1, kIntMax},
    ConfigDefinition{kSessionTimeout, ConfigType::kInt, "45000", 1, kIntMax},
    ConfigDefinition{"share.auto.offset.reset", ConfigType::kString, "latest", 0, 0,
                     "latest,earliest"},
    ConfigDefinition{"share.heartbeat.interval.ms", ConfigType::kInt, "5000", 5000, 15000},
    ConfigDefinition{"share.isolation.level", ConfigType::kString, "read_uncommitted", 0, 0,
                     "read_committed,read_uncommitted"},
    ConfigDefinition{"share.record.lock.duration.ms", ConfigType::kInt, "30000", 15000, 60000},
    ConfigDefinition{"share.session.timeout.ms", ConfigType::kInt, "45000", 45000, 60000},
    ConfigDefinition{"streams.heartbeat.interval.ms", ConfigType::kInt, "5000", 5000, 15000},
    ConfigDefinition{"streams.initial.rebalance.delay.ms", ConfigType::kInt, "3000", 0, kIntMax},
    ConfigDefinition{"streams.num.standby.replicas", ConfigType::kInt, "0", 0, 2},
    ConfigDefinition{"streams.session.timeout.ms", ConfigType::kInt, "45000", 45000, 60000},
};
static_assert(std::ranges::is_sorted(kDefinitions, {}, &ConfigDefinition::name));

Result<> CheckBounds(std::string_view name, std::string_view what, int64_t value,
                     base::Duration least, base::Duration most) {
  const auto refuse = [&](std::string_view how, std::string_view bound) {
    return Unexpected(Code::kInvalid, std::string(name) + " must be " + std::string(how) +
                                          " than or equal to group.consumer." + std::string(bound) +
                                          "." + std::string(what));
  };
  if (value < ToMs(least)) return refuse("greater", "min");
  if (value > ToMs(most)) return refuse("less", "max");
  return {};
}

}  // namespace

std::span<const ConfigDefinition> GroupConfigDefinitions() { return kDefinitions; }

Result<> GroupConfig::Set(std::string_view name, std::string_view value) {
  const ConfigDefinition* found = FindDefinition(kDefinitions, name);
  if (found == nullptr) {
    return Unexpected(Code::kInvalid, "Unknown group config name: " + QuoteForClient(name));
  }
  ConfigDefinition definition = *found;
  // Besides those that are listed, a time back from now.
  if (name == "share.auto.offset.reset" && Trimmed(value).starts_with("by_duration:P")) {
    definition.allowed = {};
  }
  HF_ASSIGN_OR_RETURN(std::string normal, NormalValue(definition, value));
  overrides_.insert_or_assign(std::string(name), std::move(normal));
  return {};
}

Result<GroupConfig> GroupConfig::Altered(std::span<const ConfigChange> changes,
                                         const ConsumerGroupOptions& bounds) const {
  HF_ASSIGN_OR_RETURN(const ConfigValues values, AlteredValues(overrides_, changes, kDefinitions));
  GroupConfig altered;
  for (const auto& [name, value] : values) HF_RETURN_IF_ERROR(altered.Set(name, value));
  HF_RETURN_IF_ERROR(altered.Check(bounds));
  return altered;
}

Result<> GroupConfig::Check(const ConsumerGroupOptions& bounds) const {
  const ConsumerGroupOptions own = Over(bounds);
  const auto number = [this](std::string_view name, base::Duration otherwise) {
    const auto set = overrides_.find(name);
    return set == overrides_.end() ? ToMs(otherwise) : ParseConfigNumber(set->second).value_or(0);
  };
  const int64_t session = number(kSessionTimeout, bounds.session_timeout);
  const int64_t heartbeat = number(kHeartbeatInterval, bounds.heartbeat_interval);
  HF_RETURN_IF_ERROR(CheckBounds(kHeartbeatInterval, "heartbeat.interval.ms", heartbeat,
                                 bounds.heartbeat_interval_min, bounds.heartbeat_interval_max));
  HF_RETURN_IF_ERROR(CheckBounds(kSessionTimeout, "session.timeout.ms", session,
                                 bounds.session_timeout_min, bounds.session_timeout_max));
  if (own.session_timeout <= own.heartbeat_interval) {
    return Unexpected(Code::kInvalid, std::string(kSessionTimeout) + " must be greater than " +
                                          std::string(kHeartbeatInterval));
  }
  return {};
}

ConsumerGroupOptions GroupConfig::Over(ConsumerGroupOptions options) const {
  const auto take = [this](std::string_view name, base::Duration least, base::Duration most,
                           base::Duration* out) {
    const auto set = overrides_.find(name);
    if (set == overrides_.end()) return;
    const base::Duration wanted = milliseconds(ParseConfigNumber(set->second).value_or(0));
    *out = std::clamp(wanted, least, most);
  };
  take(kSessionTimeout, options.session_timeout_min, options.session_timeout_max,
       &options.session_timeout);
  take(kHeartbeatInterval, options.heartbeat_interval_min, options.heartbeat_interval_max,
       &options.heartbeat_interval);
  return options;
}

GroupConfig ReadConfig(std::string_view group, const ConfigsRecord& record) {
  GroupConfig config;
  for (const auto& stored : record.configs) {
    if (auto set = config.Set(stored.name, stored.value); !set) {
      base::Log(base::Event::kGroupSettingLeftOut, {"groups", group}, "left out: {}",
                set.error().message);
    }
  }
  return config;
}

ConsumerGroupOptions OptionsOf(const GroupConfigs& configs, std::string_view group,
                               const ConsumerGroupOptions& options) {
  const auto found = configs.find(group);
  return found == configs.end() ? options : found->second.Over(options);
}

}  // namespace holdfast::broker
