#include "broker/group_changes.h"

#include "broker/config_values.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;

class GroupAltering final : public AdminChange {
 public:
  GroupAltering(Log& log, const ConsumerGroupOptions& bounds,
                std::vector<GroupAlteration> alterations, TopicsDone done)
      : AdminChange(log, alterations.size(), kafka::ToCoordinatorError, std::move(done)),
        bounds_(bounds),
        alterations_(std::move(alterations)) {}

  void Apply(spool::Transaction& transaction) override {
    altered_.clear();
    for (size_t i = 0; i < alterations_.size(); ++i) {
      outcomes_[i] = ApplyOne(transaction, alterations_[i]);
    }
  }

 private:
  void Publish() override {
    auto configs = std::make_shared<GroupConfigs>(*log_.group_configs().Get());
    for (auto& [group, config] : altered_) {
      if (config.overrides().empty()) {
        configs->erase(group);
      } else {
        configs->insert_or_assign(group, std::move(config));
      }
    }
    log_.group_configs().Publish(std::move(configs));
  }

  // From what is stored: an alteration before this one may not be published yet.
  TopicOutcome ApplyOne(spool::Transaction& transaction, const GroupAlteration& alteration) {
    const std::string key = GroupConfigKey(alteration.group);
    GroupConfig before;
    if (const auto stored = transaction.Get(key)) {
      auto record = ParseConfigs(*stored);
      if (!record) return {ErrorCode::kUnknownServerError, record.error().message};
      before = ReadConfig(alteration.group, *record);
    }
    auto config = Altered(before, alteration, bounds_);
    if (!config) return {ErrorCode::kInvalidConfig, std::move(config).error().message};
    if (config->overrides().empty()) {
      transaction.Erase(key);  // Or names of groups that were never there would stay for good.
    } else {
      ConfigsRecord record;
      record.configs = StoredConfigs(config->overrides());
      transaction.Put(key, Encode(record));
    }
    altered_.emplace_back(alteration.group, *std::move(config));
    return {};
  }

  const ConsumerGroupOptions bounds_;
  std::vector<GroupAlteration> alterations_;
  std::vector<std::pair<std::string, GroupConfig>> altered_;
};

}  // namespace

base::Result<GroupConfig> Altered(const GroupConfig& config, const GroupAlteration& alteration,
                                  const ConsumerGroupOptions& bounds) {
  return (alteration.replaces ? GroupConfig() : config).Altered(alteration.changes, bounds);
}

std::unique_ptr<spool::Operation> AlterGroups(Log& log, const ConsumerGroupOptions& bounds,
                                              std::vector<GroupAlteration> alterations,
                                              TopicsDone done) {
  return std::make_unique<GroupAltering>(log, bounds, std::move(alterations), std::move(done));
}

}  // namespace holdfast::broker
