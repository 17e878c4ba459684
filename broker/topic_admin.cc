#include "broker/topic_admin.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "broker/configs.h"
#include "broker/internal_topics.h"
#include "kafka/error_map.h"
#include "kafka/topic_name.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;

std::string Quote(std::string_view name) { return "'" + std::string(name) + "'"; }

// From these versions on clients know THROTTLING_QUOTA_EXCEEDED (KIP-599).
constexpr int16_t kStrictCreationSince = 6;
constexpr int16_t kStrictDeletionSince = 5;
constexpr int16_t kStrictGrowthSince = 3;

// Without a message, as Kafka has none for it; so for what follows from the error alone.
constexpr auto kTooMuch = ErrorCode::kThrottlingQuotaExceeded;

std::optional<std::string_view> KeepMessage(TopicOutcome outcome, kafka::Strings& strings) {
  if (outcome.message.empty()) return std::nullopt;
  return strings.Keep(std::move(outcome.message));
}

// Each partition must be listed once, on this one broker.
bool FitsOneNode(const kafka::CreateTopicsRequest::CreatableTopic& topic, int32_t node_id) {
  std::vector<bool> seen(topic.assignments.size());
  for (const auto& assignment : topic.assignments) {
    const auto index = static_cast<size_t>(assignment.partition_index);
    if (assignment.partition_index < 0 || index >= seen.size() || seen[index]) return false;
    seen[index] = true;
    if (assignment.broker_ids != std::vector<int32_t>{node_id}) return false;
  }
  return true;
}

}  // namespace

TopicOutcome TopicAdmin::CheckCreation(const CreatableTopic& request, NewTopic* topic) const {
  if (!kafka::ValidTopicName(request.name)) {
    return {ErrorCode::kInvalidTopicException,
            "Topic names have 1 to 249 characters of [a-zA-Z0-9._-]"};
  }
  if (catalog_.topics().Find(request.name) != nullptr) {
    return {ErrorCode::kTopicAlreadyExists, "Topic " + Quote(request.name) + " already exists."};
  }
  topic->name = request.name;
  topic->config = topic->config.Over(context_.broker_config.Get()->topic_defaults());
  topic->id = MakeUuid();
  topic->partitions = request.num_partitions;
  if (!request.assignments.empty()) {
    if (request.num_partitions != -1 || request.replication_factor != -1) {
      return {ErrorCode::kInvalidRequest,
              "A manual assignment excludes a number of partitions and a replication factor"};
    }
    if (!FitsOneNode(request, context_.options.node_id)) {
      return {ErrorCode::kInvalidReplicaAssignment,
              "Partitions must be numbered from 0 on, each with broker " +
                  std::to_string(context_.options.node_id) + " alone"};
    }
    topic->partitions = static_cast<int32_t>(request.assignments.size());
  } else if (request.num_partitions == -1) {
    topic->partitions = context_.options.num_partitions;
  }
  if (topic->partitions <= 0) {
    return {ErrorCode::kInvalidPartitions,
            "Number of partitions was set to an invalid non-positive value."};
  }
  if (topic->partitions > kPartitionsMax) {
    return {ErrorCode::kInvalidPartitions,
            "The number of partitions must be at most " + std::to_string(kPartitionsMax)};
  }
  if (request.replication_factor != -1 && request.replication_factor != 1) {
    return {ErrorCode::kInvalidReplicationFactor,
            "The replication factor must be 1: there is one broker"};
  }
  for (const auto& config : request.configs) {
    if (!config.value) {
      return {ErrorCode::kInvalidConfig, "A configuration needs a value"};
    }
    if (auto set = topic->config.Set(config.name, *config.value); !set) {
      return {ErrorCode::kInvalidConfig, std::move(set).error().message};
    }
  }
  if (auto checked = topic->config.Check(); !checked) {
    return {ErrorCode::kInvalidConfig, std::move(checked).error().message};
  }
  return {};
}

void TopicAdmin::Handle(Call<kafka::CreateTopicsRequest> call) {
  constexpr int16_t kDetailsSince = 5;
  constexpr int16_t kIdsSince = 7;
  const kafka::CreateTopicsRequest& request = call.request;
  auto response = std::make_shared<kafka::CreateTopicsResponse>();
  std::map<std::string_view, size_t> named;
  for (const auto& topic : request.topics) ++named[topic.name];

  MutationQuota quota = quotas_.MutationsOf(call.caller(), call.version() >= kStrictCreationSince);
  std::vector<NewTopic> wanted;
  std::vector<size_t> places;  // In the response, of each one wanted.
  int64_t partitions = 0;
  for (const auto& [name, times] : named) {
    const auto topic_request = std::ranges::find(request.topics, name, &CreatableTopic::name);
    TopicResult& out = response->topics.emplace_back();
    out.name = name;
    out.configs.emplace();
    NewTopic topic;
    TopicOutcome outcome = times > 1
                               ? TopicOutcome{ErrorCode::kInvalidRequest, "Duplicate topic name."}
                               : CheckCreation(*topic_request, &topic);
    partitions += topic.partitions;
    if (outcome.error == ErrorCode::kNone && partitions > kPartitionsMax) {
      outcome = {ErrorCode::kInvalidPartitions, "Too many partitions in one request"};
    }
    if (outcome.error == ErrorCode::kNone &&
        !quota.Take(static_cast<size_t>(topic.partitions), loop_.Now())) {
      outcome = {kTooMuch, {}};
    }
    out.error_code = outcome.error;
    if (outcome.error != ErrorCode::kNone) {
      out.error_message = KeepMessage(std::move(outcome), response->strings);
      continue;
    }
    if (call.version() >= kIdsSince && !request.validate_only) out.topic_id = topic.id;
    if (call.version() >= kDetailsSince) {
      out.num_partitions = topic.partitions;
      out.replication_factor = 1;
      out.configs = CreatedConfigs(context_.options, *context_.broker_config.Get(), topic.config,
                                   &response->strings);
    }
    places.push_back(response->topics.size() - 1);
    wanted.push_back(std::move(topic));
  }
  call.Throttle(quota.wait());
  if (wanted.empty() || request.validate_only) return call.Respond(*response);

  submitter_.Submit(
      CreateTopics(*context_.log, std::move(wanted),
                   [this, response, places = std::move(places),
                    call = std::move(call)](std::vector<TopicOutcome> outcomes) mutable {
                     loop_.Post([response, places = std::move(places),
                                 outcomes = std::move(outcomes), call = std::move(call)]() mutable {
                       for (size_t i = 0; i < outcomes.size(); ++i) {
                         if (outcomes[i].error == ErrorCode::kNone) continue;
                         TopicResult& out = response->topics[places[i]];
                         const std::string_view name = out.name;
                         out = {};
                         out.name = name;
                         out.configs.emplace();
                         out.error_code = outcomes[i].error;
                         out.error_message = outcomes[i].message;
                       }
                       call.Respond(*response);
                     });
                   }));
}

void TopicAdmin::Handle(Call<kafka::DeleteTopicsRequest> call) {
  constexpr int16_t kMessagesSince = 5;
  constexpr int16_t kIdsSince = 6;
  const kafka::DeleteTopicsRequest& request = call.request;
  auto response = std::make_shared<kafka::DeleteTopicsResponse>();
  MutationQuota quota = quotas_.MutationsOf(call.caller(), call.version() >= kStrictDeletionSince);
  std::vector<kafka::Uuid> wanted;
  std::vector<size_t> places;
  const auto find = [&](std::optional<std::string_view> name, const kafka::Uuid& id) {
    return name ? catalog_.topics().Find(*name) : catalog_.topics().Find(id);
  };
  // By what was said, and by what it means: a topic may be named by both its name and its id.
  std::map<std::pair<std::optional<std::string_view>, kafka::Uuid>, size_t> said;
  std::map<const Topic*, size_t> named;
  const auto count = [&](std::optional<std::string_view> name, const kafka::Uuid& id) {
    ++said[{name, id}];
    ++named[find(name, id)];
  };
  for (const std::string_view name : request.topic_names) count(name, {});
  for (const auto& topic : request.topics) count(topic.name, topic.topic_id);
  const auto add = [&](std::optional<std::string_view> name, const kafka::Uuid& id) {
    const size_t times = std::exchange(said[{name, id}], 0);
    if (times == 0) return;  // The first of several was answered.
    auto& out = response->responses.emplace_back();
    const Topic* topic = find(name, id);
    out.name = name;
    out.topic_id = id;
    if (name && !id.IsZero()) {
      out.error_code = ErrorCode::kInvalidRequest;
      out.error_message = "Give the name or the id of a topic, not both";
    } else if (times > 1 || (topic != nullptr && named[topic] > 1)) {
      out.error_code = ErrorCode::kInvalidRequest;
      out.error_message = name ? "Duplicate topic name." : "Duplicate topic id.";
    } else if (topic == nullptr) {
      out.error_code = name ? ErrorCode::kUnknownTopicOrPartition : ErrorCode::kUnknownTopicId;
      out.error_message = name ? "This server does not host this topic-partition."
                               : "This server does not host this topic ID.";
    } else if (!quota.Take(topic->partitions.size(), loop_.Now())) {
      TopicOutcome outcome = {kTooMuch, {}};
      out.error_code = outcome.error;
      out.error_message = response->strings.Keep(std::move(outcome.message));
    } else {
      out.name = response->strings.Keep(topic->name);
      if (call.version() >= kIdsSince) out.topic_id = topic->id;
      wanted.push_back(topic->id);
      places.push_back(response->responses.size() - 1);
    }
  };
  for (const std::string_view name : request.topic_names) add(name, {});
  for (const auto& topic : request.topics) add(topic.name, topic.topic_id);
  if (call.version() < kMessagesSince) {
    for (auto& out : response->responses) out.error_message.reset();
  }
  call.Throttle(quota.wait());
  if (wanted.empty()) return call.Respond(*response);

  submitter_.Submit(DeleteTopics(
      *context_.log, std::move(wanted),
      [this, response, places = std::move(places),
       call = std::move(call)](std::vector<TopicOutcome> outcomes) mutable {
        loop_.Post([response, places = std::move(places), outcomes = std::move(outcomes),
                    call = std::move(call)]() mutable {
          for (size_t i = 0; i < outcomes.size(); ++i) {
            auto& out = response->responses[places[i]];
            out.error_code = outcomes[i].error;
            if (outcomes[i].error != ErrorCode::kNone && call.version() >= kMessagesSince) {
              out.error_message = outcomes[i].message;
            }
          }
          call.Respond(*response);
        });
      }));
}

TopicOutcome TopicAdmin::CheckGrowth(
    const kafka::CreatePartitionsRequest::CreatePartitionsTopic& request, Growth* growth) const {
  const Topic* topic = catalog_.topics().Find(request.name);
  if (topic == nullptr) {
    return {ErrorCode::kUnknownTopicOrPartition, {}};
  }
  const auto count = static_cast<int32_t>(topic->partitions.size());
  if (request.count == count) {
    return {ErrorCode::kInvalidPartitions,
            "Topic already has " + std::to_string(count) + " partition(s)."};
  }
  if (request.count < count) {
    return {ErrorCode::kInvalidPartitions,
            "The topic " + topic->name + " currently has " + std::to_string(count) +
                " partition(s); " + std::to_string(request.count) + " would not be an increase."};
  }
  if (request.count > kPartitionsMax) {
    return {ErrorCode::kInvalidPartitions,
            "The number of partitions must be at most " + std::to_string(kPartitionsMax)};
  }
  if (request.assignments) {
    const std::vector<int32_t> here{context_.options.node_id};
    const bool fits = request.assignments->size() == static_cast<size_t>(request.count - count) &&
                      std::ranges::all_of(*request.assignments, [&](const auto& assignment) {
                        return assignment.broker_ids == here;
                      });
    if (!fits) {
      return {ErrorCode::kInvalidReplicaAssignment,
              "Each new partition must be assigned to the one broker there is"};
    }
  }
  *growth = {topic->id, request.count};
  return {};
}

void TopicAdmin::Handle(Call<kafka::CreatePartitionsRequest> call) {
  const kafka::CreatePartitionsRequest& request = call.request;
  auto response = std::make_shared<kafka::CreatePartitionsResponse>();
  MutationQuota quota = quotas_.MutationsOf(call.caller(), call.version() >= kStrictGrowthSince);
  std::vector<Growth> wanted;
  std::vector<size_t> places;
  size_t partitions = 0;
  std::map<std::string_view, size_t> named;
  for (const auto& topic : request.topics) ++named[topic.name];
  for (const auto& topic : request.topics) {
    const size_t times = std::exchange(named[topic.name], 0);
    if (times == 0) continue;  // The first of several was answered.
    auto& out = response->results.emplace_back();
    out.name = topic.name;
    Growth growth;
    TopicOutcome outcome = times > 1
                               ? TopicOutcome{ErrorCode::kInvalidRequest, "Duplicate topic name."}
                               : CheckGrowth(topic, &growth);
    if (outcome.error == ErrorCode::kNone) {
      const size_t before = catalog_.topics().Find(topic.name)->partitions.size();
      const size_t more = static_cast<size_t>(growth.partitions) - before;
      partitions += more;
      if (partitions > static_cast<size_t>(kPartitionsMax)) {
        outcome = {ErrorCode::kInvalidPartitions, "Too many partitions in one request"};
      } else if (!quota.Take(more, loop_.Now())) {
        outcome = {kTooMuch, {}};
      }
    }
    out.error_code = outcome.error;
    if (outcome.error != ErrorCode::kNone) {
      out.error_message = KeepMessage(std::move(outcome), response->strings);
    } else if (!request.validate_only) {
      wanted.push_back(growth);
      places.push_back(response->results.size() - 1);
    }
  }
  call.Throttle(quota.wait());
  if (wanted.empty()) return call.Respond(*response);

  submitter_.Submit(
      GrowTopics(*context_.log, std::move(wanted),
                 [this, response, places = std::move(places),
                  call = std::move(call)](std::vector<TopicOutcome> outcomes) mutable {
                   loop_.Post([response, places = std::move(places), outcomes = std::move(outcomes),
                               call = std::move(call)]() mutable {
                     for (size_t i = 0; i < outcomes.size(); ++i) {
                       auto& out = response->results[places[i]];
                       out.error_code = outcomes[i].error;
                       if (outcomes[i].error != ErrorCode::kNone)
                         out.error_message = outcomes[i].message;
                     }
                     call.Respond(*response);
                   });
                 }));
}

void TopicAdmin::Handle(Call<kafka::DeleteRecordsRequest> call) {
  struct One {
    Partition* partition = nullptr;
    int64_t offset = -1;
    ErrorCode error = ErrorCode::kUnknownTopicOrPartition;
  };
  struct Deletion {
    Call<kafka::DeleteRecordsRequest> call;
    std::vector<One> all = {};  // In the request's order.
  };
  auto deletion = std::make_shared<Deletion>(Deletion{std::move(call)});
  for (const auto& topic_request : deletion->call.request.topics) {
    const Topic* topic = catalog_.topics().Find(topic_request.name);
    for (const auto& asked : topic_request.partitions) {
      One& one = deletion->all.emplace_back();
      one.partition = topic == nullptr ? nullptr : topic->Find(asked.partition_index);
      if (one.partition == nullptr) continue;
      const int64_t end = one.partition->high_watermark.load();
      one.offset = asked.offset == -1 ? end : asked.offset;
      if (IsInternalTopic(topic->name)) {
        one.error = ErrorCode::kInvalidTopicException;
      } else if (topic->config.compacted() && !topic->config.deletes()) {
        one.error = ErrorCode::kPolicyViolation;
      } else {
        const bool inside = one.offset >= 0 && one.offset <= end;
        one.error = inside ? ErrorCode::kNone : ErrorCode::kOffsetOutOfRange;
      }
    }
  }
  const auto answer = [deletion](ErrorCode failed) {
    kafka::DeleteRecordsResponse response;
    size_t at = 0;
    for (const auto& topic_request : deletion->call.request.topics) {
      auto& topic_out = response.topics.emplace_back();
      topic_out.name = topic_request.name;
      for (const auto& asked : topic_request.partitions) {
        const One& one = deletion->all[at++];
        auto& out = topic_out.partitions.emplace_back();
        out.partition_index = asked.partition_index;
        out.error_code = one.error == ErrorCode::kNone ? failed : one.error;
        out.low_watermark =
            out.error_code == ErrorCode::kNone ? one.partition->log_start.load() : -1;
      }
    }
    deletion->call.Respond(response);
  };
  submitter_.Submit(std::make_unique<StateChange>(
      [deletion](spool::Transaction& transaction) {
        for (const One& one : deletion->all) {
          if (one.error == ErrorCode::kNone) transaction.Trim(one.partition->stream, one.offset);
        }
      },
      [this, deletion, answer](const auto& result) {
        if (result) {
          for (const One& one : deletion->all) {
            if (one.error == ErrorCode::kNone) context_.log->OnTrimmed(*one.partition, one.offset);
          }
        }
        const ErrorCode failed =
            result ? ErrorCode::kNone : kafka::ToPartitionError(result.error().code);
        loop_.Post([answer, failed] { answer(failed); });
      }));
}

void TopicAdmin::AutoCreate(const kafka::Caller& caller, const std::set<std::string>& names,
                            base::Task done) {
  MutationQuota quota = quotas_.MutationsOf(caller, /*strict=*/true);
  std::vector<NewTopic> wanted;
  int64_t partitions = 0;
  for (const std::string& name : names) {
    const bool internal = IsInternalTopic(name);
    NewTopic topic = internal ? MakeInternalTopic(name)
                              : NewTopic{name, MakeUuid(), context_.options.num_partitions, {}};
    partitions += topic.partitions;
    if (partitions > kPartitionsMax) break;
    if (!internal && !quota.Take(static_cast<size_t>(topic.partitions), loop_.Now())) continue;
    wanted.push_back(std::move(topic));
  }
  if (wanted.empty()) return done();
  submitter_.Submit(
      CreateTopics(*context_.log, std::move(wanted),
                   [this, done = std::move(done)](const std::vector<TopicOutcome>&) mutable {
                     loop_.Post([this, done = std::move(done)]() mutable {
                       catalog_.Refresh();
                       done();
                     });
                   }));
}

}  // namespace holdfast::broker
