// The settings of the broker that can be changed while it runs, under Kafka's names: for all
// brokers (DYNAMIC_DEFAULT_BROKER_CONFIG), and for this one, which count first
// (DYNAMIC_BROKER_CONFIG).
//
// Most are what topics have that say nothing of their own: log.retention.ms for retention.ms.
// What Kafka changes at run time and this broker does not is refused, not stored without effect.
// The one exception is sasl.kerberos.min.time.before.relogin, which tools set to see whether
// settings can be changed at all: it is kept and given back.
//
// Threads: values; published ones are immutable.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "broker/config_values.h"
#include "broker/records.h"
#include "broker/topic_config.h"

namespace holdfast::broker {

// By name. Empty default values: those that Kafka shows as null.
std::span<const ConfigDefinition> BrokerConfigDefinitions();
// What the setting of topics has as its default at the broker; empty: it is not among the above.
std::string_view BrokerNameOf(std::string_view topic_setting);

class BrokerConfig {
 public:
  // kInvalid: it cannot be changed, or that is no value for it; the message is for the client.
  base::Result<> Set(BrokerScope scope, std::string_view name, std::string_view value);
  // Whatever it was.
  void Replace(BrokerScope scope, ConfigValues values);

  // What was set, by name.
  [[nodiscard]] const ConfigValues& Of(BrokerScope scope) const {
    return values_.at(static_cast<size_t>(scope));
  }
  // What counts; null: nothing was set.
  [[nodiscard]] const std::string* Find(std::string_view name) const;

  // What follows for topics, by their names; for TopicConfig::Over. Never null.
  [[nodiscard]] const std::shared_ptr<const ConfigValues>& topic_defaults() const {
    return topic_defaults_;
  }
  [[nodiscard]] int64_t producer_id_expiration_ms(int64_t otherwise) const;

 private:
  void DeriveTopicDefaults();

  std::array<ConfigValues, kBrokerScopes.size()> values_;
  std::shared_ptr<const ConfigValues> topic_defaults_ = std::make_shared<const ConfigValues>();
};

// Whether the changes ask for settings that can be changed, in this scope. kInvalid: the message
// names those that cannot, as Kafka's does.
base::Result<> CheckChangeable(BrokerScope scope, std::span<const ConfigChange> changes);

// The stored settings. What this version does not take (another one may have written it) is left
// out, with a warning.
void ReadConfig(BrokerScope scope, const ConfigsRecord& record, BrokerConfig* config);

}  // namespace holdfast::broker
