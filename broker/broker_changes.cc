#include "broker/broker_changes.h"

#include "broker/config_values.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;

class BrokerAltering final : public AdminChange {
 public:
  BrokerAltering(Log& log, std::vector<BrokerAlteration> alterations, TopicsDone done)
      : AdminChange(log, alterations.size(), kafka::ToCoordinatorError, std::move(done)),
        alterations_(std::move(alterations)) {}

  void Apply(spool::Transaction& transaction) override {
    altered_.clear();
    for (size_t i = 0; i < alterations_.size(); ++i) {
      outcomes_[i] = ApplyOne(transaction, alterations_[i]);
    }
  }

 private:
  // From what is stored: an alteration before this one may not be published yet.
  TopicOutcome ApplyOne(spool::Transaction& transaction, const BrokerAlteration& alteration) {
    const std::string key = BrokerConfigKey(alteration.scope);
    BrokerConfig config;
    if (const auto stored = transaction.Get(key)) {
      auto record = ParseConfigs(*stored);
      if (!record) return {ErrorCode::kUnknownServerError, record.error().message};
      ReadConfig(alteration.scope, *record, &config);
    }
    if (auto outcome = ApplyChanges(alteration, &config); outcome.error != ErrorCode::kNone) {
      return outcome;
    }
    ConfigsRecord record;
    record.configs = StoredConfigs(config.Of(alteration.scope));
    transaction.Put(key, Encode(record));
    altered_.emplace_back(alteration.scope, config.Of(alteration.scope));
    return {};
  }

  void Publish() override {
    auto config = std::make_shared<BrokerConfig>(*log_.broker_config().Get());
    for (auto& [scope, values] : altered_) config->Replace(scope, std::move(values));
    const auto defaults = config->topic_defaults();
    log_.broker_config().Publish(std::move(config));

    auto topics = std::make_shared<Topics>(*log_.catalog().Get());
    for (const Topic* before : topics->All()) {
      auto topic = std::make_shared<Topic>(*before);
      topic->config = before->config.Over(defaults);
      topics->Put(std::move(topic));
    }
    log_.catalog().Publish(std::move(topics));
  }

  std::vector<BrokerAlteration> alterations_;
  std::vector<std::pair<BrokerScope, ConfigValues>> altered_;
};

}  // namespace

TopicOutcome ApplyChanges(const BrokerAlteration& alteration, BrokerConfig* config) {
  if (auto checked = CheckChangeable(alteration.scope, alteration.changes); !checked) {
    return {ErrorCode::kInvalidRequest, std::move(checked).error().message};
  }
  auto values = AlteredValues(alteration.replaces ? ConfigValues() : config->Of(alteration.scope),
                              alteration.changes, BrokerConfigDefinitions());
  if (!values) return {ErrorCode::kInvalidConfig, std::move(values).error().message};
  config->Replace(alteration.scope, {});
  for (const auto& [name, value] : *values) {
    if (auto set = config->Set(alteration.scope, name, value); !set) {
      return {ErrorCode::kInvalidRequest, std::move(set).error().message};
    }
  }
  return {};
}

std::unique_ptr<spool::Operation> AlterBroker(Log& log, std::vector<BrokerAlteration> alterations,
                                              TopicsDone done) {
  return std::make_unique<BrokerAltering>(log, std::move(alterations), std::move(done));
}

}  // namespace holdfast::broker
