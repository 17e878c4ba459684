#include "proxy/access.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/produce.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/endpoint_tail.h"
#include "kafka/fetch_rows.h"
#include "proxy/added_rows.h"
#include "proxy/intercepted.h"
#include "proxy/metadata_cache.h"
#include "proxy/refusals.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::RequestHeader;

// APIs whose messages are not decoded here.
constexpr int16_t kConsumerGroupDescribe = 69;
constexpr int16_t kShareGroupHeartbeat = 76;

constexpr std::string_view kAllNames = "*";

bool Matches(const std::vector<std::string>& patterns, std::string_view name) {
  return std::ranges::any_of(patterns, [name](const std::string& pattern) {
    if (!pattern.ends_with('*')) return pattern == name;
    return name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1));
  });
}

// One request on its way.
struct Judged {
  const AccessRules& rules;
  const std::string_view principal;
  const Cluster& cluster;
  base::Buffer& frame;
  const RequestHeader& header;
  net::Reply& reply;

  template <class Response>
  bool Refuse(const Response& response) {
    reply.Send(kafka::EncodeResponse(response, header.api_version, header.correlation_id));
    return false;
  }
  bool Close() {
    reply.Close(std::string(principal) + " may not send requests of API " +
                std::to_string(header.api_key));
    return false;
  }
  [[nodiscard]] bool Topic(Operation operation, std::string_view name) const {
    return rules.AllowsTopic(principal, operation, name);
  }
  // By name, or by id where the version has ids in place of names.
  template <class Asked>
  [[nodiscard]] std::string_view NameOf(const Asked& asked) const {
    if constexpr (requires { asked.topic_id; }) {
      if (!asked.topic_id.IsZero()) return cluster.NameOf(asked.topic_id);
    }
    if constexpr (requires { asked.topic; }) {
      return asked.topic;
    } else {
      return asked.name;
    }
  }
  // Of a topic that was made anew, perhaps, clients look again, and give up on the other.
  template <class Asked>
  [[nodiscard]] ErrorCode ErrorFor(const Asked& asked) const {
    if constexpr (requires { asked.topic_id; }) {
      if (!asked.topic_id.IsZero() && NameOf(asked).empty()) return ErrorCode::kUnknownTopicId;
    }
    return ErrorCode::kTopicAuthorizationFailed;
  }
  // As this request, which borrows from the present frame; `add` changes the answer.
  template <class Request>
  bool GoOnAs(const Request& request, base::UniqueFunction<void(typename Request::Response&)> add) {
    const auto changed =
        kafka::EncodeRequest(request, header.api_version, header.correlation_id, header.client_id);
    if (!changed) return Close();
    base::Buffer kept = std::exchange(frame, WithoutLength(*changed));
    reply = Intercepted::Make(
        std::move(reply),
        [kept = std::move(kept), add = std::move(add), version = header.api_version,
         correlation_id = header.correlation_id](base::Buffer answer) mutable {
          if (answer.empty()) return answer;
          auto response = kafka::DecodeResponse<typename Request::Response>(answer.view(), version);
          if (!response) return base::Buffer();
          add(*response);
          return WithoutLength(kafka::EncodeResponse(*response, version, correlation_id));
        });
    return true;
  }
  template <class Request>
  std::optional<Request> Decode() {
    if (!Request::kApi.Knows(header.api_version)) return std::nullopt;
    auto request = kafka::DecodeRequest<Request>(frame.view(), header);
    if (!request) return std::nullopt;
    return *std::move(request);
  }
};

// Each partition that is named is in the answer: Java drops an answer without a session in which
// one is missing, error and all, and asks again at once.
void RefuseTopic(kafka::FetchResponse& response, const kafka::FetchRequest::FetchTopic& topic,
                 ErrorCode error) {
  auto& refused = response.responses.emplace_back();
  refused.topic = topic.topic;
  refused.topic_id = topic.topic_id;
  for (const auto& partition : topic.partitions) {
    refused.partitions.push_back({.partition_index = partition.partition,
                                  .error_code = error,
                                  .high_watermark = -1,
                                  .records = ""});  // Null is more than librdkafka takes.
  }
}

// A replica reads what is not replicated yet, and by asking says how far it has it: that is for
// brokers, to which a tier gives a right of its own, and the agent may have it.
bool IsConsumers(const kafka::FetchRequest& request) {
  constexpr int32_t kConsumer = -1;
  return request.replica_id == kConsumer && request.replica_state.replica_id == kConsumer;
}

// In a session of fetches (KIP-227) a request names only what is new in it, and the tier keeps the
// session, for whoever knows its number, longer than any rule or connection. So there is none for
// who may not read everything: as from a broker that has no room for it, he gets a whole answer,
// and every request names all that it reads.
bool MayFetch(Judged& judged) {
  constexpr int32_t kFirstEpoch = 0;
  constexpr int32_t kNoSession = -1;
  auto request = judged.Decode<kafka::FetchRequest>();
  if (!request) return judged.Close();
  if (!IsConsumers(*request) && !judged.rules.AllowsAll(judged.principal, Operation::kAdmin)) {
    kafka::FetchResponse refused;
    for (const auto& topic : request->topics)
      RefuseTopic(refused, topic, ErrorCode::kTopicAuthorizationFailed);
    return judged.Refuse(refused);
  }
  if (judged.rules.AllowsAll(judged.principal, Operation::kConsume)) return true;
  if (request->session_epoch != kFirstEpoch && request->session_epoch != kNoSession) {
    kafka::FetchResponse response;
    response.error_code = ErrorCode::kFetchSessionIdNotFound;  // It began under other rules.
    return judged.Refuse(response);
  }
  kafka::FetchResponse refused;
  std::erase_if(request->topics, [&](const auto& topic) {
    if (judged.Topic(Operation::kConsume, judged.NameOf(topic))) return false;
    RefuseTopic(refused, topic, judged.ErrorFor(topic));
    return true;
  });
  if (refused.responses.empty() && request->session_epoch != kFirstEpoch) return true;
  if (!refused.responses.empty() && request->topics.empty()) return judged.Refuse(refused);
  request->session_epoch = kNoSession;
  const auto changed = kafka::EncodeRequest(*request, judged.header.api_version,
                                            judged.header.correlation_id, judged.header.client_id);
  if (!changed) return judged.Close();
  if (!refused.responses.empty()) {
    judged.reply = WithRows(std::move(judged.reply),
                            kafka::FetchRows(refused.responses, judged.header.api_version));
  }
  judged.frame = base::Buffer::Copy(changed->view().substr(kafka::kLengthPrefixBytes));
  return true;
}

bool MayListOffsets(Judged& judged) {
  const auto request = judged.Decode<kafka::ListOffsetsRequest>();
  if (!request) return judged.Close();
  kafka::ListOffsetsResponse response;
  for (const auto& topic : request->topics) {
    if (judged.rules.ShowsTopic(judged.principal, topic.name)) continue;
    auto& refused = response.topics.emplace_back();
    refused.name = topic.name;
    for (const auto& partition : topic.partitions) {
      refused.partitions.push_back({.partition_index = partition.partition_index,
                                    .error_code = ErrorCode::kTopicAuthorizationFailed});
    }
  }
  return response.topics.empty() || judged.Refuse(response);
}

bool MayAskEpochs(Judged& judged) {
  const auto request = judged.Decode<kafka::OffsetForLeaderEpochRequest>();
  if (!request) return judged.Close();
  kafka::OffsetForLeaderEpochResponse response;
  for (const auto& topic : request->topics) {
    if (judged.rules.ShowsTopic(judged.principal, topic.topic)) continue;
    auto& refused = response.topics.emplace_back();
    refused.topic = topic.topic;
    for (const auto& partition : topic.partitions) {
      refused.partitions.push_back(
          {.error_code = ErrorCode::kTopicAuthorizationFailed, .partition = partition.partition});
    }
  }
  return response.topics.empty() || judged.Refuse(response);
}

bool MayFindCoordinator(Judged& judged) {
  constexpr int16_t kListSince = 4;
  constexpr int8_t kOfTransaction = 1;
  const auto request = judged.Decode<kafka::FindCoordinatorRequest>();
  if (!request) return judged.Close();
  const auto allowed = [&](std::string_view key) {
    return request->key_type == kOfTransaction
               ? judged.rules.AllowsSome(judged.principal, Operation::kProduce)
               : judged.rules.AllowsGroup(judged.principal, key);
  };
  const ErrorCode error = request->key_type == kOfTransaction
                              ? ErrorCode::kTransactionalIdAuthorizationFailed
                              : ErrorCode::kGroupAuthorizationFailed;
  kafka::FindCoordinatorResponse response;
  if (judged.header.api_version < kListSince) {
    if (allowed(request->key)) return true;
    response.error_code = error;
    response.node_id = -1;
    response.port = -1;
    return judged.Refuse(response);
  }
  if (std::ranges::all_of(request->coordinator_keys, allowed)) return true;
  for (const std::string_view key : request->coordinator_keys)
    response.coordinators.push_back({.key = key, .node_id = -1, .port = -1, .error_code = error});
  return judged.Refuse(response);
}

bool MayInitProducerId(Judged& judged) {
  if (judged.rules.AllowsSome(judged.principal, Operation::kProduce)) return true;
  const auto request = judged.Decode<kafka::InitProducerIdRequest>();
  if (!request) return judged.Close();
  return judged.Refuse(kafka::InitProducerIdResponse{
      .error_code = request->transactional_id ? ErrorCode::kTransactionalIdAuthorizationFailed
                                              : ErrorCode::kClusterAuthorizationFailed,
      .producer_epoch = -1});
}

bool MayAddPartitions(Judged& judged) {
  constexpr int16_t kOfBrokersSince = 4;
  if (judged.header.api_version >= kOfBrokersSince)
    return judged.rules.AllowsAll(judged.principal, Operation::kAdmin) || judged.Close();
  const auto request = judged.Decode<kafka::AddPartitionsToTxnRequest>();
  if (!request || !judged.rules.AllowsSome(judged.principal, Operation::kProduce))
    return judged.Close();
  bool allowed = true;
  kafka::AddPartitionsToTxnResponse response;
  for (const auto& topic : request->v3_and_below_topics) {
    const bool this_one = judged.Topic(Operation::kProduce, topic.name);
    allowed = allowed && this_one;
    auto& result = response.results_by_topic_v3_and_below.emplace_back();
    result.name = topic.name;
    for (const int32_t index : topic.partitions) {
      result.results_by_partition.push_back(
          {.partition_index = index,
           .partition_error_code = this_one ? ErrorCode::kOperationNotAttempted
                                            : ErrorCode::kTopicAuthorizationFailed});
    }
  }
  return allowed || judged.Refuse(response);
}

bool MayCreateTopics(Judged& judged) {
  const auto request = judged.Decode<kafka::CreateTopicsRequest>();
  if (!request) return judged.Close();
  const auto allowed = [&](const auto& topic) {
    return judged.Topic(Operation::kAdmin, topic.name);
  };
  if (std::ranges::all_of(request->topics, allowed)) return true;
  kafka::CreateTopicsResponse response;
  for (const auto& topic : request->topics)
    response.topics.push_back(
        {.name = topic.name, .error_code = ErrorCode::kTopicAuthorizationFailed});
  return judged.Refuse(response);
}

bool MayDeleteTopics(Judged& judged) {
  const auto request = judged.Decode<kafka::DeleteTopicsRequest>();
  if (!request) return judged.Close();
  kafka::DeleteTopicsResponse response;
  bool allowed = true;
  for (const std::string_view name : request->topic_names) {
    allowed = allowed && judged.Topic(Operation::kAdmin, name);
    response.responses.push_back(
        {.name = name, .error_code = ErrorCode::kTopicAuthorizationFailed});
  }
  for (const auto& topic : request->topics) {
    const std::string_view name = topic.name.value_or(judged.cluster.NameOf(topic.topic_id));
    allowed = allowed && judged.Topic(Operation::kAdmin, name);
    response.responses.push_back({.name = topic.name,
                                  .topic_id = topic.topic_id,
                                  .error_code = ErrorCode::kTopicAuthorizationFailed});
  }
  return allowed || judged.Refuse(response);
}

// For requests in which all topics must be allowed, and whose refusal is not worth words.
template <class Request>
bool AllTopics(Judged& judged, Operation operation, auto topics, auto name) {
  const auto request = judged.Decode<Request>();
  if (!request) return judged.Close();
  const bool allowed = std::ranges::all_of(std::invoke(topics, *request), [&](const auto& topic) {
    return judged.Topic(operation, std::invoke(name, topic));
  });
  return allowed || judged.Close();
}

bool MayDescribeTopicPartitions(Judged& judged) {
  const auto request = judged.Decode<kafka::DescribeTopicPartitionsRequest>();
  if (!request) return judged.Close();
  // None named: all.
  if (request->topics.empty())
    return judged.rules.AllowsAll(judged.principal, Operation::kAdmin) || judged.Close();
  const bool allowed = std::ranges::all_of(request->topics, [&](const auto& topic) {
    return judged.rules.ShowsTopic(judged.principal, topic.name);
  });
  return allowed || judged.Close();
}

bool MayDescribeConfigs(Judged& judged) {
  constexpr int8_t kOfTopic = 2;
  const auto request = judged.Decode<kafka::DescribeConfigsRequest>();
  if (!request) return judged.Close();
  const bool allowed = std::ranges::all_of(request->resources, [&](const auto& resource) {
    return resource.resource_type == kOfTopic
               ? judged.rules.ShowsTopic(judged.principal, resource.resource_name)
               : judged.rules.AllowsAll(judged.principal, Operation::kAdmin);
  });
  return allowed || judged.Close();
}

template <class Request>
bool MayInGroup(Judged& judged) {
  const auto request = judged.Decode<Request>();
  if (!request) return judged.Close();
  if (judged.rules.AllowsGroup(judged.principal, request->group_id)) return true;
  if constexpr (requires(typename Request::Response response) { response.error_code; }) {
    typename Request::Response response;
    response.error_code = ErrorCode::kGroupAuthorizationFailed;
    return judged.Refuse(response);
  }
  return judged.Close();
}

template <class Topics>
void Append(Topics& to, Topics from) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

// Positions of topics that the client may read; of the others it is told in the same answer.
template <class Request>
bool MayCommit(Judged& judged) {
  auto request = judged.Decode<Request>();
  if (!request) return judged.Close();
  if (!judged.rules.AllowsGroup(judged.principal, request->group_id))
    return judged.Refuse(RefusedCommit(*request, ErrorCode::kGroupAuthorizationFailed));
  typename Request::Response refused;
  std::erase_if(request->topics, [&](const auto& topic) {
    if (judged.Topic(Operation::kConsume, judged.NameOf(topic))) return false;
    AddRefused(refused.topics, topic, judged.ErrorFor(topic));
    return true;
  });
  if (refused.topics.empty()) return true;
  if (request->topics.empty()) return judged.Refuse(refused);
  return judged.GoOnAs(*request, [topics = std::move(refused.topics)](auto& response) mutable {
    Append(response.topics, std::move(topics));
  });
}

bool MayCommitInTransaction(Judged& judged) {
  if (judged.rules.AllowsSome(judged.principal, Operation::kProduce))
    return MayCommit<kafka::TxnOffsetCommitRequest>(judged);
  const auto request = judged.Decode<kafka::TxnOffsetCommitRequest>();
  if (!request) return judged.Close();
  return judged.Refuse(RefusedCommit(*request, ErrorCode::kTransactionalIdAuthorizationFailed));
}

// What is not to be fetched of one group, as rows of its answer.
template <class Topics>
void TakeOut(const Judged& judged, Topics& topics, auto& refused) {
  std::erase_if(topics, [&](const auto& topic) {
    if (judged.rules.ShowsTopic(judged.principal, judged.NameOf(topic))) return false;
    AddRefusedFetch(refused, topic, judged.ErrorFor(topic));
    return true;
  });
}

// For answers in which all topics of a group were asked for.
auto HidesTopics(const Judged& judged) {
  return [rules = judged.rules, principal = std::string(judged.principal)](auto& topics) {
    std::erase_if(topics,
                  [&](const auto& topic) { return !rules.ShowsTopic(principal, topic.name); });
  };
}

// Up to version 7, with one group.
bool MayFetchOffsetsOfOne(Judged& judged, kafka::OffsetFetchRequest request) {
  if (!judged.rules.AllowsGroup(judged.principal, request.group_id))
    return judged.Refuse(RefusedFetch(request, ErrorCode::kGroupAuthorizationFailed));
  if (!request.topics) {
    return judged.GoOnAs(request,
                         [hide = HidesTopics(judged)](auto& response) { hide(response.topics); });
  }
  kafka::OffsetFetchResponse refused;
  TakeOut(judged, *request.topics, refused.topics);
  if (refused.topics.empty()) return true;
  if (request.topics->empty()) return judged.Refuse(refused);
  return judged.GoOnAs(request, [topics = std::move(refused.topics)](auto& response) mutable {
    Append(response.topics, std::move(topics));
  });
}

bool MayFetchOffsets(Judged& judged) {
  constexpr int16_t kIdsSince = 10;
  auto request = judged.Decode<kafka::OffsetFetchRequest>();
  if (!request) return judged.Close();
  if (request->groups.empty()) return MayFetchOffsetsOfOne(judged, *std::move(request));
  // Of groups that go on, what is added to the answer; of those that do not, the answer.
  std::vector<kafka::OffsetFetchResponse::OffsetFetchResponseGroup> added;
  kafka::OffsetFetchResponse refused;
  bool hides = false;
  std::erase_if(request->groups, [&](auto& group) {
    if (!judged.rules.AllowsGroup(judged.principal, group.group_id)) {
      refused.groups.push_back(
          {.group_id = group.group_id, .error_code = ErrorCode::kGroupAuthorizationFailed});
      return true;
    }
    hides |= !group.topics && !judged.rules.ShowsTopic(judged.principal, kAllNames);
    auto& rows = added.emplace_back();
    rows.group_id = group.group_id;
    if (group.topics) TakeOut(judged, *group.topics, rows.topics);
    return false;
  });
  // Who asks for all of them asks by name: clients ask by id for what they read.
  if (hides && judged.header.api_version >= kIdsSince) return judged.Close();
  if (request->groups.empty()) return judged.Refuse(refused);
  const bool all =
      refused.groups.empty() && !hides &&
      std::ranges::all_of(added, [](const auto& group) { return group.topics.empty(); });
  if (all) return true;
  return judged.GoOnAs(*request, [added = std::move(added), refused = std::move(refused.groups),
                                  hide = HidesTopics(judged), hides](auto& response) mutable {
    for (auto& group : response.groups) {
      if (hides) hide(group.topics);
      const auto rows =
          std::ranges::find(added, group.group_id, [](const auto& one) { return one.group_id; });
      if (rows != added.end() && group.error_code == ErrorCode::kNone)
        Append(group.topics, std::move(rows->topics));
    }
    Append(response.groups, std::move(refused));
  });
}

// A pattern may fit any topic.
bool MayBeInConsumerGroup(Judged& judged) {
  const auto request = judged.Decode<kafka::ConsumerGroupHeartbeatRequest>();
  if (!request) return judged.Close();
  kafka::ConsumerGroupHeartbeatResponse response;
  const auto shown = [&](std::string_view name) {
    return judged.rules.ShowsTopic(judged.principal, name);
  };
  if (!judged.rules.AllowsGroup(judged.principal, request->group_id)) {
    response.error_code = ErrorCode::kGroupAuthorizationFailed;
  } else if ((request->subscribed_topic_names &&
              !std::ranges::all_of(*request->subscribed_topic_names, shown)) ||
             (!request->subscribed_topic_regex.value_or("").empty() &&
              !judged.rules.AllowsAll(judged.principal, Operation::kConsume))) {
    response.error_code = ErrorCode::kTopicAuthorizationFailed;
  }
  return response.error_code == ErrorCode::kNone || judged.Refuse(response);
}

bool JudgeGroups(Judged& judged) {
  const auto all_groups = [&] {
    return judged.rules.AllowsGroup(judged.principal, kAllNames) || judged.Close();
  };
  switch (judged.header.api_key) {
    case kafka::JoinGroupRequest::kApi.key:
      return MayInGroup<kafka::JoinGroupRequest>(judged);
    case kafka::SyncGroupRequest::kApi.key:
      return MayInGroup<kafka::SyncGroupRequest>(judged);
    case kafka::HeartbeatRequest::kApi.key:
      return MayInGroup<kafka::HeartbeatRequest>(judged);
    case kafka::LeaveGroupRequest::kApi.key:
      return MayInGroup<kafka::LeaveGroupRequest>(judged);
    case kafka::OffsetCommitRequest::kApi.key:
      return MayCommit<kafka::OffsetCommitRequest>(judged);
    case kafka::OffsetFetchRequest::kApi.key:
      return MayFetchOffsets(judged);
    case kafka::ConsumerGroupHeartbeatRequest::kApi.key:
      return MayBeInConsumerGroup(judged);
    default:
      return all_groups();
  }
}

bool Judge(Judged& judged) {
  const auto some_produce = [&] {
    return judged.rules.AllowsSome(judged.principal, Operation::kProduce) || judged.Close();
  };
  switch (judged.header.api_key) {
    case kafka::ProduceRequest::kApi.key:
    case kafka::MetadataRequest::kApi.key:
    case kafka::ApiVersionsRequest::kApi.key:
    case kafka::DescribeClusterRequest::kApi.key:
    case kafka::GetTelemetrySubscriptionsRequest::kApi.key:
    case kafka::PushTelemetryRequest::kApi.key:
      return true;
    case kafka::FetchRequest::kApi.key:
      return MayFetch(judged);
    case kafka::ListOffsetsRequest::kApi.key:
      return MayListOffsets(judged);
    case kafka::OffsetForLeaderEpochRequest::kApi.key:
      return MayAskEpochs(judged);
    case kafka::FindCoordinatorRequest::kApi.key:
      return MayFindCoordinator(judged);
    case kafka::InitProducerIdRequest::kApi.key:
      return MayInitProducerId(judged);
    case kafka::AddPartitionsToTxnRequest::kApi.key:
      return MayAddPartitions(judged);
    case kafka::EndTxnRequest::kApi.key:
      return some_produce();
    case kafka::AddOffsetsToTxnRequest::kApi.key:
      return MayInGroup<kafka::AddOffsetsToTxnRequest>(judged) && some_produce();
    case kafka::TxnOffsetCommitRequest::kApi.key:
      return MayCommitInTransaction(judged);
    case kafka::CreateTopicsRequest::kApi.key:
      return MayCreateTopics(judged);
    case kafka::DeleteTopicsRequest::kApi.key:
      return MayDeleteTopics(judged);
    case kafka::CreatePartitionsRequest::kApi.key:
      return AllTopics<kafka::CreatePartitionsRequest>(
          judged, Operation::kAdmin, &kafka::CreatePartitionsRequest::topics,
          &kafka::CreatePartitionsRequest::CreatePartitionsTopic::name);
    case kafka::DescribeTopicPartitionsRequest::kApi.key:
      return MayDescribeTopicPartitions(judged);
    case kafka::DescribeConfigsRequest::kApi.key:
      return MayDescribeConfigs(judged);
    case kafka::JoinGroupRequest::kApi.key:
    case kafka::SyncGroupRequest::kApi.key:
    case kafka::HeartbeatRequest::kApi.key:
    case kafka::LeaveGroupRequest::kApi.key:
    case kafka::OffsetCommitRequest::kApi.key:
    case kafka::OffsetFetchRequest::kApi.key:
    case kafka::DescribeGroupsRequest::kApi.key:
    case kafka::ListGroupsRequest::kApi.key:
    case kafka::ConsumerGroupHeartbeatRequest::kApi.key:
    case kConsumerGroupDescribe:
      return JudgeGroups(judged);
    case kShareGroupHeartbeat:
    case kafka::kShareFetchKey:
    case kafka::kShareAcknowledgeKey:
      // Their topics are in messages that the codec does not know.
      return (judged.rules.AllowsAll(judged.principal, Operation::kConsume) &&
              judged.rules.AllowsGroup(judged.principal, kAllNames)) ||
             judged.Close();
    default:
      return judged.rules.AllowsAll(judged.principal, Operation::kAdmin) || judged.Close();
  }
}

}  // namespace

bool AccessRule::Has(Operation operation) const {
  switch (operation) {
    case Operation::kProduce:
      return produce;
    case Operation::kConsume:
      return consume;
    case Operation::kAdmin:
      break;
  }
  return admin;
}

template <class Matches>
bool AccessRules::Any(std::string_view principal, Matches matches) const {
  if (rules_.empty()) return true;
  return std::ranges::any_of(rules_, [&](const AccessRule& rule) {
    return (rule.principal == principal || rule.principal == "User:*") && matches(rule);
  });
}

bool AccessRules::AllowsTopic(std::string_view principal, Operation operation,
                              std::string_view topic) const {
  return Any(principal, [&](const AccessRule& rule) {
    return rule.Has(operation) && Matches(rule.topics, topic);
  });
}

bool AccessRules::ShowsTopic(std::string_view principal, std::string_view topic) const {
  return Any(principal, [&](const AccessRule& rule) { return Matches(rule.topics, topic); });
}

bool AccessRules::AllowsSome(std::string_view principal, Operation operation) const {
  return Any(principal,
             [&](const AccessRule& rule) { return rule.Has(operation) && !rule.topics.empty(); });
}

bool AccessRules::AllowsAll(std::string_view principal, Operation operation) const {
  return Any(principal, [&](const AccessRule& rule) {
    return rule.Has(operation) && std::ranges::find(rule.topics, kAllNames) != rule.topics.end();
  });
}

bool AccessRules::AllowsGroup(std::string_view principal, std::string_view group) const {
  return Any(principal,
             [&](const AccessRule& rule) { return rule.consume && Matches(rule.groups, group); });
}

bool MayPass(const AccessRules& rules, std::string_view principal, const Cluster& cluster,
             base::Buffer& frame, const RequestHeader& header, net::Reply& reply) {
  Judged judged{rules, principal, cluster, frame, header, reply};
  return Judge(judged);
}

void HideTopics(const AccessRules& rules, std::string_view principal,
                kafka::MetadataResponse& response) {
  std::erase_if(response.topics, [&](const auto& topic) {
    return !rules.ShowsTopic(principal, topic.name.value_or(""));
  });
}

}  // namespace holdfast::proxy
