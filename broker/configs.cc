#include "broker/configs.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "broker/config_values.h"
#include "broker/milliseconds.h"
#include "kafka/topic_name.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::Strings;
using Response = kafka::DescribeConfigsResponse;

constexpr int16_t kTypesSince = 3;

enum class Source : int8_t {
  kTopic = 1,
  kThisBroker = 2,
  kAllBrokers = 3,
  kBrokerFile = 4,
  kDefault = 5,
  kGroup = 8,
};

// One of the places that a value may come from.
struct Synonym {
  std::string_view name;
  std::string value;
  Source source;
};

struct Setting {
  std::string_view name;
  std::optional<std::string> value;
  ConfigType type;
  Source source = Source::kDefault;
  std::vector<Synonym> synonyms = {};  // What counts first.
  bool read_only = false;
};

// What the configuration file says; nothing: what Kafka has by default.
std::optional<std::string> FromFile(const Options& options, const ConfigDefinition& definition) {
  std::string value;
  if (definition.name == "message.max.bytes") {
    value = std::to_string(options.max_message_bytes);
  } else if (definition.name == "producer.id.expiration.ms") {
    value = std::to_string(ToMs(options.producer_id_expiration));
  }
  return value.empty() || value == definition.default_value ? std::nullopt : std::optional(value);
}

// Where a setting of the broker that can be changed may have its value from. The last may be a
// setting in another unit, as in Kafka.
std::vector<Synonym> PlacesOf(const Options& options, const BrokerConfig& broker,
                              const ConfigDefinition& definition) {
  std::vector<Synonym> places;
  const auto set = [&](BrokerScope scope, Source source) {
    const auto found = broker.Of(scope).find(definition.name);
    if (found == broker.Of(scope).end()) return;
    places.push_back({definition.name, found->second, source});
  };
  set(BrokerScope::kThis, Source::kThisBroker);
  set(BrokerScope::kAll, Source::kAllBrokers);
  if (auto value = FromFile(options, definition)) {
    places.push_back({definition.name, *std::move(value), Source::kBrokerFile});
  }
  if (definition.name == "log.retention.ms") {
    places.push_back({"log.retention.hours", "168", Source::kDefault});
  } else if (!definition.default_value.empty()) {
    places.push_back({definition.name, std::string(definition.default_value), Source::kDefault});
  }
  return places;
}

std::vector<Setting> TopicSettings(const Options& options, const BrokerConfig& broker,
                                   const TopicConfig& config) {
  std::vector<Setting> settings;
  for (const ConfigDefinition& definition : TopicConfigDefinitions()) {
    Setting& setting = settings.emplace_back(
        Setting{definition.name, std::string(definition.default_value), definition.type});
    if (const auto set = config.overrides().find(definition.name);
        set != config.overrides().end()) {
      setting.synonyms.push_back({definition.name, set->second, Source::kTopic});
    }
    const ConfigDefinition* const of_broker =
        FindDefinition(BrokerConfigDefinitions(), BrokerNameOf(definition.name));
    if (of_broker != nullptr) {
      std::ranges::move(PlacesOf(options, broker, *of_broker),
                        std::back_inserter(setting.synonyms));
    }
    if (setting.synonyms.empty() || setting.synonyms.front().source == Source::kDefault) continue;
    setting.value = setting.synonyms.front().value;
    setting.source = setting.synonyms.front().source;
  }
  return settings;
}

std::vector<Setting> GroupSettings(const ConsumerGroupOptions& options, const GroupConfig& config) {
  std::vector<Setting> settings;
  for (const ConfigDefinition& definition : GroupConfigDefinitions()) {
    std::string value(definition.default_value);
    Source source = Source::kDefault;
    const auto of_broker = [&](std::string_view name, base::Duration wanted) {
      if (definition.name != name || std::to_string(ToMs(wanted)) == value) return;
      value = std::to_string(ToMs(wanted));
      source = Source::kBrokerFile;
    };
    of_broker("consumer.session.timeout.ms", options.session_timeout);
    of_broker("consumer.heartbeat.interval.ms", options.heartbeat_interval);
    if (const auto set = config.overrides().find(definition.name);
        set != config.overrides().end()) {
      value = set->second;
      source = Source::kGroup;
    }
    settings.push_back(Setting{
        definition.name, value, definition.type, source, {{definition.name, value, source}}});
  }
  return settings;
}

std::string MigrationPolicy(const ConsumerGroupOptions& options) {
  if (options.upgrade) return options.downgrade ? "BIDIRECTIONAL" : "UPGRADE";
  return options.downgrade ? "DOWNGRADE" : "DISABLED";
}

// What only the configuration file says.
std::vector<Setting> FixedSettings(const Options& options, const std::string& listener) {
  const auto text = [](std::string_view name, std::string value, ConfigType type) {
    return Setting{name,
                   value,
                   type,
                   Source::kBrokerFile,
                   {{name, value, Source::kBrokerFile}},
                   /*read_only=*/true};
  };
  const auto number = [&text](std::string_view name, int64_t value, ConfigType type) {
    return text(name, std::to_string(value), type);
  };
  const GroupOptions& groups = options.groups;
  return {
      text("advertised.listeners", "CLIENT://" + listener, ConfigType::kList),
      text("auto.create.topics.enable", options.auto_create_topics ? "true" : "false",
           ConfigType::kBoolean),
      number("broker.id", options.node_id, ConfigType::kInt),
      number("default.replication.factor", 1, ConfigType::kInt),
      number("fetch.max.bytes", options.fetch_bytes_max, ConfigType::kInt),
      number("group.consumer.heartbeat.interval.ms", ToMs(groups.consumer.heartbeat_interval),
             ConfigType::kInt),
      number("group.consumer.max.heartbeat.interval.ms",
             ToMs(groups.consumer.heartbeat_interval_max), ConfigType::kInt),
      number("group.consumer.max.session.timeout.ms", ToMs(groups.consumer.session_timeout_max),
             ConfigType::kInt),
      number("group.consumer.max.size", groups.consumer.size_max, ConfigType::kInt),
      text("group.consumer.migration.policy", MigrationPolicy(groups.consumer),
           ConfigType::kString),
      number("group.consumer.min.heartbeat.interval.ms",
             ToMs(groups.consumer.heartbeat_interval_min), ConfigType::kInt),
      number("group.consumer.min.session.timeout.ms", ToMs(groups.consumer.session_timeout_min),
             ConfigType::kInt),
      number("group.consumer.session.timeout.ms", ToMs(groups.consumer.session_timeout),
             ConfigType::kInt),
      number("group.initial.rebalance.delay.ms", ToMs(groups.initial_rebalance_delay),
             ConfigType::kInt),
      number("group.max.session.timeout.ms", ToMs(groups.session_timeout_max), ConfigType::kInt),
      number("group.min.session.timeout.ms", ToMs(groups.session_timeout_min), ConfigType::kInt),
      text("log.dirs", options.spool.directory, ConfigType::kString),
      number("max.incremental.fetch.session.cache.slots",
             static_cast<int64_t>(options.fetch_sessions_max), ConfigType::kInt),
      number("node.id", options.node_id, ConfigType::kInt),
      number("num.partitions", options.num_partitions, ConfigType::kInt),
      number("offsets.retention.minutes", ToMs(groups.offsets_retention) / 60000, ConfigType::kInt),
      number("transaction.max.timeout.ms", ToMs(options.transaction_timeout_max), ConfigType::kInt),
      number("transactional.id.expiration.ms", ToMs(options.transactional_id_expiration),
             ConfigType::kInt),
  };
}

std::vector<Setting> BrokerSettings(const Options& options, const BrokerConfig& broker,
                                    const std::string& listener) {
  std::vector<Setting> settings = FixedSettings(options, listener);
  for (const ConfigDefinition& definition : BrokerConfigDefinitions()) {
    Setting& setting =
        settings.emplace_back(Setting{definition.name, std::nullopt, definition.type});
    std::vector<Synonym> places = PlacesOf(options, broker, definition);
    // Null where only a setting in another unit says something, or none does.
    if (places.empty() || places.front().name != definition.name) continue;
    setting.value = places.front().value;
    setting.source = places.front().source;
    setting.synonyms = std::move(places);
  }
  return settings;
}

// What was set for all brokers.
std::vector<Setting> ClusterSettings(const BrokerConfig& broker) {
  std::vector<Setting> settings;
  for (const auto& [name, value] : broker.Of(BrokerScope::kAll)) {
    const ConfigDefinition* const definition = FindDefinition(BrokerConfigDefinitions(), name);
    settings.push_back(Setting{definition->name,
                               value,
                               definition->type,
                               Source::kAllBrokers,
                               {{definition->name, value, Source::kAllBrokers}}});
  }
  return settings;
}

void Put(const std::vector<Setting>& settings, int16_t version,
         const kafka::DescribeConfigsRequest& request,
         const kafka::DescribeConfigsRequest::DescribeConfigsResource& resource,
         Response::DescribeConfigsResult* out, Strings* strings) {
  for (const Setting& setting : settings) {
    // None named: all, as if the list were null.
    const auto& keys = resource.configuration_keys;
    if (keys && !keys->empty() && std::ranges::find(*keys, setting.name) == keys->end()) continue;
    auto& config = out->configs.emplace_back();
    config.name = setting.name;
    if (setting.value) config.value = strings->Keep(*setting.value);
    config.read_only = setting.read_only;
    config.config_source = static_cast<int8_t>(setting.source);
    if (version >= kTypesSince) config.config_type = static_cast<int8_t>(setting.type);
    if (!request.include_synonyms) continue;
    for (const Synonym& synonym : setting.synonyms) {
      config.synonyms.push_back(
          {synonym.name, strings->Keep(synonym.value), static_cast<int8_t>(synonym.source), {}});
    }
  }
}

void DescribeOne(const Options& options, const Topics& topics, const GroupConfigs& groups,
                 const BrokerConfig& broker, const kafka::Caller& caller,
                 const kafka::DescribeConfigsRequest& request,
                 const kafka::DescribeConfigsRequest::DescribeConfigsResource& resource,
                 Response::DescribeConfigsResult* out, Strings* strings) {
  const int16_t version = caller.version;
  out->resource_type = resource.resource_type;
  out->resource_name = resource.resource_name;
  if (resource.resource_type == kTopicResource) {
    const Topic* topic = topics.Find(resource.resource_name);
    if (topic != nullptr) {
      Put(TopicSettings(options, broker, topic->config), version, request, resource, out, strings);
    } else if (kafka::ValidTopicName(resource.resource_name)) {
      out->error_code = ErrorCode::kUnknownTopicOrPartition;
      out->error_message = "there is no such topic";
    } else {
      out->error_code = ErrorCode::kInvalidTopicException;
      out->error_message = "no topic can have this name";
    }
  } else if (resource.resource_type == kBrokerResource) {
    if (resource.resource_name.empty()) {
      Put(ClusterSettings(broker), version, request, resource, out, strings);
    } else if (resource.resource_name == std::to_string(options.node_id)) {
      Put(BrokerSettings(options, broker, caller.peer->listener), version, request, resource, out,
          strings);
    } else {
      out->error_code = ErrorCode::kInvalidRequest;
      out->error_message =
          strings->Keep("Unexpected broker id, expected " + std::to_string(options.node_id) +
                        " or empty string, but received " + QuoteForClient(resource.resource_name));
    }
  } else if (resource.resource_type == kGroupResource) {
    if (resource.resource_name.empty()) {
      out->error_code = ErrorCode::kInvalidRequest;
      out->error_message = "Group name must not be empty";
      return;
    }
    // Also of groups that do not exist.
    const auto found = groups.find(resource.resource_name);
    Put(GroupSettings(options.groups.consumer,
                      found == groups.end() ? GroupConfig() : found->second),
        version, request, resource, out, strings);
  } else {
    out->error_code = ErrorCode::kInvalidRequest;
    out->error_message =
        "this broker keeps settings of topics (2), brokers (4) and groups (32) only";
  }
}

}  // namespace

Response DescribeConfigs(const Options& options, const Topics& topics, const GroupConfigs& groups,
                         const BrokerConfig& broker, const kafka::Caller& caller,
                         const kafka::DescribeConfigsRequest& request) {
  Response response;
  for (const auto& resource : request.resources) {
    DescribeOne(options, topics, groups, broker, caller, request, resource,
                &response.results.emplace_back(), &response.strings);
  }
  return response;
}

kafka::ListConfigResourcesResponse ListConfigResources(
    const Options& options, const Topics& topics, const GroupConfigs& groups, int16_t version,
    const kafka::ListConfigResourcesRequest& request) {
  constexpr int16_t kTypesGivenSince = 1;  // Before it, only client metrics are asked for.
  constexpr std::array kKnown{kTopicResource, kBrokerResource, kBrokerLoggerResource,
                              kClientMetricsResource, kGroupResource};
  kafka::ListConfigResourcesResponse response;
  if (version < kTypesGivenSince) return response;
  const std::vector<int8_t>& types = request.resource_types;
  for (const int8_t type : types) {
    if (std::ranges::find(kKnown, type) == kKnown.end()) {
      response.error_code = ErrorCode::kUnsupportedVersion;
      return response;
    }
  }
  const auto wanted = [&types](int8_t type) {
    return types.empty() || std::ranges::find(types, type) != types.end();
  };
  if (wanted(kBrokerResource)) {
    const std::string_view id = response.strings.Keep(std::to_string(options.node_id));
    response.config_resources.push_back({id, kBrokerResource, {}});
  }
  if (wanted(kTopicResource)) {
    for (const Topic* topic : topics.All()) {
      response.config_resources.push_back({topic->name, kTopicResource, {}});
    }
  }
  if (wanted(kGroupResource)) {
    for (const auto& [group, config] : groups) {
      // The settings may be replaced before this is sent.
      response.config_resources.push_back({response.strings.Keep(group), kGroupResource, {}});
    }
  }
  return response;
}

std::vector<kafka::CreateTopicsResponse::CreatableTopicConfigs> CreatedConfigs(
    const Options& options, const BrokerConfig& broker, const TopicConfig& config,
    Strings* strings) {
  std::vector<kafka::CreateTopicsResponse::CreatableTopicConfigs> out;
  for (const Setting& setting : TopicSettings(options, broker, config)) {
    auto& created = out.emplace_back();
    created.name = setting.name;
    if (setting.value) created.value = strings->Keep(*setting.value);
    created.config_source = static_cast<int8_t>(setting.source);
  }
  return out;
}

}  // namespace holdfast::broker
