#include "broker/broker_config.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/event.h"
#include "base/log.h"

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

constexpr std::string_view kProducerIdExpiration = "producer.id.expiration.ms";
constexpr std::string_view kKerberosRelogin = "sasl.kerberos.min.time.before.relogin";

struct TopicDefault {
  std::string_view topic;
  std::string_view broker;
  bool null = false;  // Kafka has a setting in another unit beside it, and the default there.
};

// By the topics' names.
constexpr std::array kTopicDefaults{
    TopicDefault{"cleanup.policy", "log.cleanup.policy"},
    TopicDefault{"compression.gzip.level", "compression.gzip.level"},
    TopicDefault{"compression.lz4.level", "compression.lz4.level"},
    TopicDefault{"compression.type", "compression.type"},
    TopicDefault{"compression.zstd.level", "compression.zstd.level"},
    TopicDefault{"delete.retention.ms", "log.cleaner.delete.retention.ms"},
    TopicDefault{"file.delete.delay.ms", "log.segment.delete.delay.ms"},
    TopicDefault{"flush.messages", "log.flush.interval.messages"},
    TopicDefault{"flush.ms", "log.flush.interval.ms", /*null=*/true},
    TopicDefault{"index.interval.bytes", "log.index.interval.bytes"},
    TopicDefault{"local.retention.bytes", "log.local.retention.bytes"},
    TopicDefault{"local.retention.ms", "log.local.retention.ms"},
    TopicDefault{"max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"},
    TopicDefault{"max.message.bytes", "message.max.bytes"},
    TopicDefault{"message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms"},
    TopicDefault{"message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms"},
    TopicDefault{"message.timestamp.type", "log.message.timestamp.type"},
    TopicDefault{"min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio"},
    TopicDefault{"min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms"},
    TopicDefault{"min.insync.replicas", "min.insync.replicas"},
    TopicDefault{"preallocate", "log.preallocate"},
    TopicDefault{"retention.bytes", "log.retention.bytes"},
    TopicDefault{"retention.ms", "log.retention.ms", /*null=*/true},
    TopicDefault{"segment.bytes", "log.segment.bytes"},
    TopicDefault{"segment.index.bytes", "log.index.size.max.bytes"},
    TopicDefault{"segment.jitter.ms", "log.roll.jitter.ms", /*null=*/true},
    TopicDefault{"segment.ms", "log.roll.ms", /*null=*/true},
    TopicDefault{"unclean.leader.election.enable", "unclean.leader.election.enable"},
};
static_assert(std::ranges::is_sorted(kTopicDefaults, {}, &TopicDefault::topic));

std::vector<ConfigDefinition> MakeDefinitions() {
  constexpr int64_t kIntMax = std::numeric_limits<int32_t>::max();
  std::vector<ConfigDefinition> definitions{
      {kProducerIdExpiration, ConfigType::kInt, "86400000", 1, kIntMax},
      {kKerberosRelogin, ConfigType::kLong, "60000"},
  };
  for (const TopicDefault& one : kTopicDefaults) {
    ConfigDefinition definition = *FindDefinition(TopicConfigDefinitions(), one.topic);
    definition.name = one.broker;
    if (one.null) definition.default_value = {};
    definitions.push_back(definition);
  }
  std::ranges::sort(definitions, {}, &ConfigDefinition::name);
  return definitions;
}

// As Kafka prints it.
std::string SetOf(const std::vector<std::string_view>& names) {
  std::string text = "Set(";
  for (const std::string_view name : names) {
    if (!text.ends_with('(')) text += ", ";
    text += QuoteForClient(name);
  }
  return text + ")";
}

}  // namespace

std::span<const ConfigDefinition> BrokerConfigDefinitions() {
  static const std::vector<ConfigDefinition> definitions = MakeDefinitions();
  return definitions;
}

std::string_view BrokerNameOf(std::string_view topic_setting) {
  const auto found = std::ranges::find(kTopicDefaults, topic_setting, &TopicDefault::topic);
  return found == kTopicDefaults.end() ? std::string_view() : found->broker;
}

Result<> CheckChangeable(BrokerScope scope, std::span<const ConfigChange> changes) {
  std::vector<std::string_view> fixed;
  std::vector<std::string_view> of_one_broker;
  for (const ConfigChange& change : changes) {
    if (change.operation == ConfigOperation::kDelete) continue;  // As in Kafka: none is set.
    if (FindDefinition(BrokerConfigDefinitions(), change.name) == nullptr) {
      fixed.push_back(change.name);
    } else if (scope == BrokerScope::kAll && change.name == kKerberosRelogin) {
      of_one_broker.push_back(change.name);
    }
  }
  if (!fixed.empty()) {
    return Unexpected(Code::kInvalid, "Cannot update these configs dynamically: " + SetOf(fixed));
  }
  if (!of_one_broker.empty()) {
    return Unexpected(Code::kInvalid,
                      "Cannot update these configs at default cluster level, broker id must be "
                      "specified: " +
                          SetOf(of_one_broker));
  }
  return {};
}

Result<> BrokerConfig::Set(BrokerScope scope, std::string_view name, std::string_view value) {
  const ConfigChange change{std::string(name), ConfigOperation::kSet, std::string(value)};
  HF_RETURN_IF_ERROR(CheckChangeable(scope, std::span(&change, 1)));
  HF_ASSIGN_OR_RETURN(std::string normal,
                      NormalValue(*FindDefinition(BrokerConfigDefinitions(), name), value));
  const auto of_topics = std::ranges::find(kTopicDefaults, name, &TopicDefault::broker);
  if (of_topics != kTopicDefaults.end()) {
    // What the definition alone does not say.
    HF_RETURN_IF_ERROR(TopicConfig().Set(of_topics->topic, value));
  }
  values_.at(static_cast<size_t>(scope)).insert_or_assign(std::string(name), std::move(normal));
  DeriveTopicDefaults();
  return {};
}

void BrokerConfig::Replace(BrokerScope scope, ConfigValues values) {
  values_.at(static_cast<size_t>(scope)) = std::move(values);
  DeriveTopicDefaults();
}

const std::string* BrokerConfig::Find(std::string_view name) const {
  for (const BrokerScope scope : {BrokerScope::kThis, BrokerScope::kAll}) {
    const auto found = Of(scope).find(name);
    if (found != Of(scope).end()) return &found->second;
  }
  return nullptr;
}

void BrokerConfig::DeriveTopicDefaults() {
  auto defaults = std::make_shared<ConfigValues>();
  for (const TopicDefault& one : kTopicDefaults) {
    if (const std::string* const value = Find(one.broker)) defaults->emplace(one.topic, *value);
  }
  topic_defaults_ = std::move(defaults);
}

int64_t BrokerConfig::producer_id_expiration_ms(int64_t otherwise) const {
  const std::string* const value = Find(kProducerIdExpiration);
  return value == nullptr ? otherwise : ParseConfigNumber(*value).value_or(otherwise);
}

void ReadConfig(BrokerScope scope, const ConfigsRecord& record, BrokerConfig* config) {
  for (const auto& stored : record.configs) {
    const std::string_view value = KeptValue(stored.name, stored.value);
    if (const auto set = config->Set(scope, stored.name, value); !set) {
      base::Log(base::Event::kBrokerSettingLeftOut, "broker",
                "a setting of the broker is left out: {}", set.error().message);
    }
  }
}

}  // namespace holdfast::broker
