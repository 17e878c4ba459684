#include "broker/configs.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "broker/milliseconds.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::Strings;
using Response = kafka::DescribeConfigsResponse;

constexpr int16_t kTypesSince = 3;

enum class Source : int8_t { kTopic = 1, kBrokerFile = 4, kDefault = 5, kGroup = 8 };

struct Setting {
  std::string_view name;
  std::string value;
  ConfigType type;
  Source source;
};

std::vector<Setting> TopicSettings(const Options& options, const TopicConfig& config) {
  std::vector<Setting> settings;
  for (const ConfigDefinition& definition : TopicConfigDefinitions()) {
    Setting& setting = settings.emplace_back(Setting{
        definition.name, std::string(definition.default_value), definition.type, Source::kDefault});
    const auto set = config.overrides().find(definition.name);
    if (set != config.overrides().end()) {
      setting.value = set->second;
      setting.source = Source::kTopic;
    } else if (definition.name == "max.message.bytes") {
      const std::string value = std::to_string(options.max_message_bytes);
      if (value != setting.value) setting.source = Source::kBrokerFile;
      setting.value = value;
    }
  }
  return settings;
}

std::vector<Setting> GroupSettings(const ConsumerGroupOptions& options, const GroupConfig& config) {
  std::vector<Setting> settings;
  for (const ConfigDefinition& definition : GroupConfigDefinitions()) {
    Setting& setting = settings.emplace_back(Setting{
        definition.name, std::string(definition.default_value), definition.type, Source::kDefault});
    const auto set = config.overrides().find(definition.name);
    const auto of_broker = [&](std::string_view name, base::Duration value) {
      if (definition.name != name || std::to_string(ToMs(value)) == setting.value) return;
      setting.value = std::to_string(ToMs(value));
      setting.source = Source::kBrokerFile;
    };
    of_broker("consumer.session.timeout.ms", options.session_timeout);
    of_broker("consumer.heartbeat.interval.ms", options.heartbeat_interval);
    if (set != config.overrides().end()) {
      setting.value = set->second;
      setting.source = Source::kGroup;
    }
  }
  return settings;
}

std::string MigrationPolicy(const ConsumerGroupOptions& options) {
  if (options.upgrade) return options.downgrade ? "BIDIRECTIONAL" : "UPGRADE";
  return options.downgrade ? "DOWNGRADE" : "DISABLED";
}

std::vector<Setting> BrokerSettings(const Options& options, const std::string& listener) {
  const auto number = [](std::string_view name, int64_t value, ConfigType type) {
    return Setting{name, std::to_string(value), type, Source::kBrokerFile};
  };
  const GroupOptions& groups = options.groups;
  return {
      {"advertised.listeners", "CLIENT://" + listener, ConfigType::kList, Source::kBrokerFile},
      {"auto.create.topics.enable", options.auto_create_topics ? "true" : "false",
       ConfigType::kBoolean, Source::kBrokerFile},
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
      {"group.consumer.migration.policy", MigrationPolicy(groups.consumer), ConfigType::kString,
       Source::kBrokerFile},
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
      {"log.dirs", options.spool.directory, ConfigType::kString, Source::kBrokerFile},
      number("max.incremental.fetch.session.cache.slots",
             static_cast<int64_t>(options.fetch_sessions_max), ConfigType::kInt),
      number("message.max.bytes", options.max_message_bytes, ConfigType::kInt),
      number("min.insync.replicas", 1, ConfigType::kInt),
      number("node.id", options.node_id, ConfigType::kInt),
      number("num.partitions", options.num_partitions, ConfigType::kInt),
      number("offsets.retention.minutes", ToMs(groups.offsets_retention) / 60000, ConfigType::kInt),
      number("producer.id.expiration.ms", ToMs(options.producer_id_expiration), ConfigType::kInt),
      number("transaction.max.timeout.ms", ToMs(options.transaction_timeout_max), ConfigType::kInt),
      number("transactional.id.expiration.ms", ToMs(options.transactional_id_expiration),
             ConfigType::kInt),
  };
}

void Put(const std::vector<Setting>& settings, bool read_only, int16_t version,
         const kafka::DescribeConfigsRequest& request,
         const kafka::DescribeConfigsRequest::DescribeConfigsResource& resource,
         Response::DescribeConfigsResult* out, Strings* strings) {
  for (const Setting& setting : settings) {
    const auto& keys = resource.configuration_keys;
    if (keys && std::ranges::find(*keys, setting.name) == keys->end()) continue;
    auto& config = out->configs.emplace_back();
    config.name = setting.name;
    config.value = strings->Keep(setting.value);
    config.read_only = read_only;
    config.config_source = static_cast<int8_t>(setting.source);
    if (version >= kTypesSince) config.config_type = static_cast<int8_t>(setting.type);
    if (request.include_synonyms) {
      config.synonyms.push_back({setting.name, config.value, config.config_source, {}});
    }
  }
}

void DescribeOne(const Options& options, const Topics& topics, const GroupConfigs& groups,
                 const kafka::Caller& caller, const kafka::DescribeConfigsRequest& request,
                 const kafka::DescribeConfigsRequest::DescribeConfigsResource& resource,
                 Response::DescribeConfigsResult* out, Strings* strings) {
  const int16_t version = caller.version;
  out->resource_type = resource.resource_type;
  out->resource_name = resource.resource_name;
  if (resource.resource_type == kTopicResource) {
    const Topic* topic = topics.Find(resource.resource_name);
    if (topic != nullptr) {
      Put(TopicSettings(options, topic->config), /*read_only=*/false, version, request, resource,
          out, strings);
    } else if (ValidTopicName(resource.resource_name)) {
      out->error_code = ErrorCode::kUnknownTopicOrPartition;
      out->error_message = "there is no such topic";
    } else {
      out->error_code = ErrorCode::kInvalidTopicException;
      out->error_message = "no topic can have this name";
    }
  } else if (resource.resource_type == kBrokerResource) {
    // An empty name asks for what was set for all brokers: nothing is.
    if (resource.resource_name == std::to_string(options.node_id)) {
      Put(BrokerSettings(options, caller.peer->listener), /*read_only=*/true, version, request,
          resource, out, strings);
    } else if (!resource.resource_name.empty()) {
      out->error_code = ErrorCode::kInvalidRequest;
      out->error_message = "there is no such broker";
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
        /*read_only=*/false, version, request, resource, out, strings);
  } else {
    out->error_code = ErrorCode::kInvalidRequest;
    out->error_message =
        "this broker keeps settings of topics (2), brokers (4) and groups (32) only";
  }
}

}  // namespace

Response DescribeConfigs(const Options& options, const Topics& topics, const GroupConfigs& groups,
                         const kafka::Caller& caller,
                         const kafka::DescribeConfigsRequest& request) {
  Response response;
  for (const auto& resource : request.resources) {
    DescribeOne(options, topics, groups, caller, request, resource,
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
    const Options& options, const TopicConfig& config, Strings* strings) {
  std::vector<kafka::CreateTopicsResponse::CreatableTopicConfigs> out;
  for (const Setting& setting : TopicSettings(options, config)) {
    auto& created = out.emplace_back();
    created.name = setting.name;
    created.value = strings->Keep(setting.value);
    created.config_source = static_cast<int8_t>(setting.source);
  }
  return out;
}

}  // namespace holdfast::broker
