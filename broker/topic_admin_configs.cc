// AlterConfigs and IncrementalAlterConfigs, of TopicAdmin: of topics, of groups and of the broker.
#include <map>
#include <set>
#include <type_traits>

#include "broker/broker_changes.h"
#include "broker/config_values.h"
#include "broker/configs.h"
#include "broker/group_changes.h"
#include "broker/topic_admin.h"
#include "kafka/topic_name.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;

template <class Resource>
TopicOutcome ReadChanges(const Resource& resource, std::vector<ConfigChange>* changes) {
  std::set<std::string_view> names;
  for (const auto& config : resource.configs) {
    if (!names.insert(config.name).second) {
      return {ErrorCode::kInvalidRequest, "Error due to duplicate config keys"};
    }
    ConfigChange change{std::string(config.name), ConfigOperation::kSet, {}};
    if constexpr (requires { config.config_operation; }) {
      if (config.config_operation < 0 ||
          config.config_operation > static_cast<int8_t>(ConfigOperation::kSubtract)) {
        return {ErrorCode::kInvalidRequest,
                "Unknown operation type " + std::to_string(config.config_operation)};
      }
      change.operation = static_cast<ConfigOperation>(config.config_operation);
    }
    if (change.operation != ConfigOperation::kDelete) {
      if (!config.value) {
        return {ErrorCode::kInvalidRequest,
                "Null value not supported for : " + std::string(config.name)};
      }
      change.value = *config.value;
    }
    changes->push_back(std::move(change));
  }
  return {};
}

BrokerScope ScopeOf(std::string_view broker) {
  return broker.empty() ? BrokerScope::kAll : BrokerScope::kThis;
}

}  // namespace

template <class Resource>
TopicOutcome TopicAdmin::CheckAlteration(const Resource& resource, Alteration* alteration) const {
  if (auto read = ReadChanges(resource, &alteration->changes); read.error != ErrorCode::kNone) {
    return read;
  }
  const std::vector<ConfigChange>& changes = alteration->changes;
  switch (resource.resource_type) {
    case kTopicResource: {
      if (resource.resource_name.empty()) {
        return {ErrorCode::kInvalidRequest, "Default topic resources are not allowed."};
      }
      if (!kafka::ValidTopicName(resource.resource_name)) {
        return {ErrorCode::kInvalidTopicException,
                "Topic names have 1 to 249 characters of [a-zA-Z0-9._-]"};
      }
      const Topic* topic = catalog_.topics().Find(resource.resource_name);
      if (topic == nullptr) {
        return {ErrorCode::kUnknownTopicOrPartition,
                "The topic '" + std::string(resource.resource_name) + "' does not exist."};
      }
      alteration->topic = topic->id;
      const auto config = Altered(topic->config, *alteration);
      return config ? TopicOutcome()
                    : TopicOutcome{ErrorCode::kInvalidConfig, config.error().message};
    }
    case kBrokerResource: {
      const std::string id = std::to_string(context_.options.node_id);
      if (!resource.resource_name.empty() && resource.resource_name != id) {
        return {ErrorCode::kInvalidRequest, "Unexpected broker id, expected " + id +
                                                ", but received " +
                                                QuoteForClient(resource.resource_name)};
      }
      BrokerConfig config = *context_.broker_config.Get();
      return ApplyChanges({ScopeOf(resource.resource_name), alteration->replaces, changes},
                          &config);
    }
    case kGroupResource: {
      if (resource.resource_name.empty()) {
        return {ErrorCode::kInvalidRequest, "Default group resources are not allowed."};
      }
      if (resource.resource_name.size() > kGroupIdBytesMax) {
        return {ErrorCode::kInvalidRequest, "The name of the group is too long."};
      }
      const auto groups = context_.group_configs.Get();
      const auto found = groups->find(resource.resource_name);
      const auto config =
          Altered(found == groups->end() ? GroupConfig() : found->second,
                  {std::string(resource.resource_name), alteration->replaces, changes},
                  context_.options.groups.consumer);
      return config ? TopicOutcome()
                    : TopicOutcome{ErrorCode::kInvalidConfig, config.error().message};
    }
    case kClientMetricsResource:
      // None of their settings is known here, so none can be set; and there is none to delete.
      for (const ConfigChange& change : changes) {
        if (change.operation == ConfigOperation::kDelete) continue;
        return {ErrorCode::kInvalidRequest, "Unknown client metrics configuration: " + change.name};
      }
      return {};
    default:
      return {ErrorCode::kInvalidRequest,
              "Settings of resource type " + std::to_string(resource.resource_type) +
                  " cannot be changed: only topics' (2) and groups' (32) can"};
  }
}

template <class Request>
void TopicAdmin::Alter(Call<Request> call) {
  using Response = typename Request::Response;
  // One request on its way to the disk: an operation for each kind of resource.
  struct Altering {
    explicit Altering(Call<Request> alter_call) : call(std::move(alter_call)) {}

    Call<Request> call;
    Response response;
    int operations = 0;  // Not done yet.

    void Finish(const std::vector<size_t>& places, const std::vector<TopicOutcome>& outcomes) {
      for (size_t i = 0; i < outcomes.size(); ++i) {
        auto& out = response.responses[places[i]];
        out.error_code = outcomes[i].error;
        if (outcomes[i].error != ErrorCode::kNone) {
          out.error_message = response.strings.Keep(outcomes[i].message);
        }
      }
      if (--operations == 0) call.Respond(response);
    }
  };
  auto altering = std::make_shared<Altering>(std::move(call));
  const Request& request = altering->call.request;
  std::map<std::pair<int8_t, std::string_view>, int> named;
  for (const auto& resource : request.resources) {
    ++named[{resource.resource_type, resource.resource_name}];
  }
  std::vector<Alteration> topics;
  std::vector<GroupAlteration> groups;
  std::vector<BrokerAlteration> brokers;
  std::vector<size_t> topic_places;  // In the response, of each one wanted.
  std::vector<size_t> group_places;
  std::vector<size_t> broker_places;
  for (const auto& resource : request.resources) {
    Alteration alteration;
    alteration.replaces = std::is_same_v<Request, kafka::AlterConfigsRequest>;
    TopicOutcome outcome =
        named[{resource.resource_type, resource.resource_name}] > 1
            ? TopicOutcome{ErrorCode::kInvalidRequest, "Each resource must appear at most once."}
            : CheckAlteration(resource, &alteration);
    auto& responses = altering->response.responses;
    auto& out = responses.emplace_back();
    out.resource_type = resource.resource_type;
    out.resource_name = resource.resource_name;
    out.error_code = outcome.error;
    if (outcome.error != ErrorCode::kNone) {
      out.error_message = altering->response.strings.Keep(std::move(outcome.message));
    } else if (resource.resource_type == kTopicResource && !request.validate_only) {
      topic_places.push_back(responses.size() - 1);
      topics.push_back(std::move(alteration));
    } else if (resource.resource_type == kGroupResource && !request.validate_only) {
      group_places.push_back(responses.size() - 1);
      groups.push_back({std::string(resource.resource_name), alteration.replaces,
                        std::move(alteration.changes)});
    } else if (resource.resource_type == kBrokerResource && !request.validate_only) {
      broker_places.push_back(responses.size() - 1);
      brokers.push_back(
          {ScopeOf(resource.resource_name), alteration.replaces, std::move(alteration.changes)});
    }
  }
  altering->operations =
      (topics.empty() ? 0 : 1) + (groups.empty() ? 0 : 1) + (brokers.empty() ? 0 : 1);
  if (altering->operations == 0) return altering->call.Respond(altering->response);

  const auto finish = [this, altering](std::vector<size_t> places) {
    return [this, altering, places = std::move(places)](std::vector<TopicOutcome> outcomes) {
      loop_.Post([altering, places, outcomes = std::move(outcomes)] {
        altering->Finish(places, outcomes);
      });
    };
  };
  if (!topics.empty()) {
    submitter_.Submit(AlterTopics(*context_.log, std::move(topics), finish(topic_places)));
  }
  if (!groups.empty()) {
    submitter_.Submit(AlterGroups(*context_.log, context_.options.groups.consumer,
                                  std::move(groups), finish(group_places)));
  }
  if (!brokers.empty()) {
    submitter_.Submit(AlterBroker(*context_.log, std::move(brokers), finish(broker_places)));
  }
}

void TopicAdmin::Handle(Call<kafka::AlterConfigsRequest> call) { Alter(std::move(call)); }
void TopicAdmin::Handle(Call<kafka::IncrementalAlterConfigsRequest> call) {
  Alter(std::move(call));
}

}  // namespace holdfast::broker
