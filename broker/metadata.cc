#include "broker/metadata.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "broker/internal_topics.h"
#include "kafka/topic_name.h"
#include "net/address.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using kafka::MetadataRequest;
using kafka::MetadataResponse;

constexpr int16_t kNullMeansAllSince = 1;
constexpr int16_t kRequestsByIdSince = 12;

bool WantsAll(int16_t version, const MetadataRequest& request) {
  return !request.topics || (version < kNullMeansAllSince && request.topics->empty());
}

MetadataResponse::MetadataResponseTopic Describe(const Topic& topic, int32_t node_id) {
  MetadataResponse::MetadataResponseTopic out;
  out.name = topic.name;
  out.topic_id = topic.id;
  out.is_internal = IsInternalTopic(topic.name);
  out.partitions.reserve(topic.partitions.size());
  for (const Partition* partition : topic.partitions) {
    auto& partition_out = out.partitions.emplace_back();
    partition_out.partition_index = partition->id.partition;
    partition_out.leader_id = node_id;
    partition_out.leader_epoch = partition->leader_epoch;
    partition_out.replica_nodes = {node_id};
    partition_out.isr_nodes = {node_id};
  }
  return out;
}

MetadataResponse::MetadataResponseTopic Unknown(
    const MetadataRequest::MetadataRequestTopic& request) {
  MetadataResponse::MetadataResponseTopic out;
  out.name = request.name;
  out.topic_id = request.topic_id;
  if (!request.name) {
    out.error_code = ErrorCode::kUnknownTopicId;
  } else {
    out.error_code = kafka::ValidTopicName(*request.name) ? ErrorCode::kUnknownTopicOrPartition
                                                          : ErrorCode::kInvalidTopicException;
  }
  return out;
}

MetadataResponse::MetadataResponseTopic Refused(
    const MetadataRequest::MetadataRequestTopic& request) {
  MetadataResponse::MetadataResponseTopic out;
  out.name = request.name;
  out.topic_id = request.topic_id;  // Ids are no secret, to Kafka either.
  out.error_code = ErrorCode::kTopicAuthorizationFailed;
  return out;
}

}  // namespace

int32_t MetadataHandler::TopicOperations(const kafka::Caller& caller,
                                         std::string_view topic) const {
  return authorizer_.judge()->Operations(Authorizer::SubjectOf(caller), ResourceType::kTopic,
                                         topic);
}

int32_t MetadataHandler::ClusterOperations(const kafka::Caller& caller) const {
  if (!authorizer_.Allows(caller, AclOperation::kDescribe, ResourceType::kCluster,
                          kClusterResource)) {
    return 0;
  }
  return authorizer_.judge()->Operations(Authorizer::SubjectOf(caller), ResourceType::kCluster,
                                         kClusterResource);
}

MetadataHandler::Address MetadataHandler::AddressFor(const kafka::Caller& caller) {
  const auto reached = net::HostPort::Parse(caller.peer->listener);
  return reached ? Address{reached->host, reached->port} : Address{};
}

std::set<std::string> MetadataHandler::MissingTopics(
    const kafka::Call<MetadataRequest>& call) const {
  std::set<std::string> missing;
  const MetadataRequest& request = call.request;
  if (!context_.options.auto_create_topics || !request.allow_auto_topic_creation ||
      !request.topics) {
    return missing;
  }
  for (const auto& topic : *request.topics) {
    if (!topic.name || !kafka::ValidTopicName(*topic.name)) continue;
    if (catalog_.topics().Find(*topic.name) != nullptr) continue;
    if (!MayDescribe(call.caller(), *topic.name) || !MayCreate(call.caller(), *topic.name))
      continue;
    missing.emplace(*topic.name);
    if (missing.size() == static_cast<size_t>(TopicAdmin::kPartitionsMax)) break;
  }
  return missing;
}

void MetadataHandler::Handle(kafka::Call<MetadataRequest> call) {
  const auto by_id = [](const auto& topic) { return !topic.name || !topic.topic_id.IsZero(); };
  if (call.version() < kRequestsByIdSince && call.request.topics &&
      std::ranges::any_of(*call.request.topics, by_id)) {
    return call.Close("metadata by topic id needs version 12");
  }
  const std::set<std::string> missing = MissingTopics(call);
  if (missing.empty()) return Respond(call);
  const kafka::Caller caller = call.caller();
  topic_admin_.AutoCreate(caller, missing,
                          [this, call = std::move(call)]() mutable { Respond(call); });
}

void MetadataHandler::Respond(kafka::Call<MetadataRequest>& call) {
  const MetadataRequest& request = call.request;
  const int32_t node_id = context_.options.node_id;
  const Address address = AddressFor(call.caller());
  MetadataResponse response;
  response.brokers.push_back({node_id, address.host, address.port, std::nullopt, {}});
  response.cluster_id = context_.cluster_id;
  response.controller_id = node_id;
  const kafka::Caller& caller = call.caller();
  if (request.include_cluster_authorized_operations) {
    response.cluster_authorized_operations = ClusterOperations(caller);
  }
  const auto describe = [&](const Topic& topic) {
    auto& out = response.topics.emplace_back(Describe(topic, node_id));
    if (request.include_topic_authorized_operations) {
      out.topic_authorized_operations = TopicOperations(caller, topic.name);
    }
  };
  if (WantsAll(call.version(), request)) {
    for (const Topic* topic : catalog_.topics().All()) {
      if (MayDescribe(caller, topic->name)) describe(*topic);
    }
    return call.Respond(response);
  }
  const bool would_create =
      context_.options.auto_create_topics && request.allow_auto_topic_creation;
  for (const auto& asked : *request.topics) {
    const Topic* topic =
        asked.name ? catalog_.topics().Find(*asked.name) : catalog_.topics().Find(asked.topic_id);
    const std::string_view name = asked.name ? *asked.name : topic == nullptr ? "" : topic->name;
    if (topic == nullptr && !asked.name) {
      response.topics.push_back(Unknown(asked));
    } else if (!MayDescribe(caller, name) ||
               (topic == nullptr && would_create && !MayCreate(caller, name))) {
      response.topics.push_back(Refused(asked));
    } else if (topic == nullptr) {
      response.topics.push_back(Unknown(asked));
    } else {
      describe(*topic);
    }
  }
  call.Respond(response);
}

kafka::DescribeClusterResponse MetadataHandler::Handle(
    const kafka::Caller& caller, const kafka::DescribeClusterRequest& request) {
  constexpr int8_t kBrokers = 1;
  constexpr int8_t kControllers = 2;
  kafka::DescribeClusterResponse response;
  response.endpoint_type = request.endpoint_type;
  if (request.endpoint_type != kBrokers) {
    // Asked of a broker's listener, Kafka answers so, too.
    response.error_code = request.endpoint_type == kControllers
                              ? ErrorCode::kMismatchedEndpointType
                              : ErrorCode::kUnsupportedEndpointType;
    response.error_message = "this listener knows brokers only";
    return response;
  }
  const Address address = AddressFor(caller);
  response.cluster_id = context_.cluster_id;
  response.controller_id = context_.options.node_id;
  response.brokers.push_back({.broker_id = context_.options.node_id,
                              .host = response.strings.Keep(address.host),
                              .port = address.port,
                              .rack = std::nullopt,
                              .is_fenced = false,
                              .unknown_tags = {}});
  if (request.include_cluster_authorized_operations) {
    response.cluster_authorized_operations = ClusterOperations(caller);
  }
  return response;
}

kafka::DescribeTopicPartitionsResponse MetadataHandler::Handle(
    const kafka::Caller& caller, const kafka::DescribeTopicPartitionsRequest& request) {
  kafka::DescribeTopicPartitionsResponse response;
  const bool all = request.topics.empty();
  std::set<std::string_view> names;
  if (all) {
    for (const Topic* topic : catalog_.topics().All()) {
      if (MayDescribe(caller, topic->name)) names.insert(topic->name);
    }
  }
  for (const auto& topic : request.topics) names.insert(topic.name);
  int32_t first = 0;
  if (request.cursor) {
    const std::string_view name = request.cursor->topic_name;
    first = request.cursor->partition_index;
    if (first < 0 || (!all && !names.contains(name))) {
      for (const std::string_view asked : names) {
        if (all) break;
        auto& out = response.topics.emplace_back();
        out.name = asked;
        out.error_code = ErrorCode::kInvalidRequest;
      }
      return response;
    }
    names.erase(names.begin(), names.lower_bound(name));
    // The topic may be gone since the page before this one.
    if (names.empty() || *names.begin() != name) first = 0;
  }

  const int32_t node_id = context_.options.node_id;
  int32_t left = std::clamp(request.response_partition_limit, 1, kPagePartitionsMax);
  for (const std::string_view name : names) {
    if (left == 0) {
      response.next_cursor = {name, 0, {}};
      break;
    }
    auto& out = response.topics.emplace_back();
    out.name = name;
    if (!MayDescribe(caller, name)) {
      out.error_code = ErrorCode::kTopicAuthorizationFailed;
      first = 0;
      continue;
    }
    out.topic_authorized_operations = TopicOperations(caller, name);
    const Topic* topic = catalog_.topics().Find(name);
    if (topic == nullptr) {
      out.error_code = kafka::ValidTopicName(name) ? ErrorCode::kUnknownTopicOrPartition
                                                   : ErrorCode::kInvalidTopicException;
      first = 0;
      continue;
    }
    out.topic_id = topic->id;
    out.is_internal = IsInternalTopic(topic->name);
    const auto count = static_cast<int32_t>(topic->partitions.size());
    int32_t index = first;
    for (first = 0; index < count && left > 0; ++index, --left) {
      auto& partition = out.partitions.emplace_back();
      partition.partition_index = index;
      partition.leader_id = node_id;
      partition.leader_epoch = topic->Find(index)->leader_epoch;
      partition.replica_nodes = {node_id};
      partition.isr_nodes = {node_id};
      partition.eligible_leader_replicas.emplace();
      partition.last_known_elr.emplace();
    }
    if (index < count) {
      response.next_cursor = {name, index, {}};
      break;
    }
  }
  return response;
}

kafka::DescribeQuorumResponse MetadataHandler::Handle(const kafka::Caller& caller,
                                                      const kafka::DescribeQuorumRequest& request) {
  constexpr std::string_view kLogName = "__cluster_metadata";
  constexpr int16_t kNodesSince = 2;
  kafka::DescribeQuorumResponse response;
  const bool one = request.topics.size() == 1 && request.topics[0].topic_name == kLogName &&
                   request.topics[0].partitions.size() == 1 &&
                   request.topics[0].partitions[0].partition_index == 0;
  for (const auto& topic : request.topics) {
    auto& topic_out = response.topics.emplace_back();
    topic_out.topic_name = topic.topic_name;
    for (const auto& asked : topic.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = asked.partition_index;
      if (!one) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
        continue;
      }
      const int32_t node_id = context_.options.node_id;
      const int64_t now_ms = loop_.WallClockMs();
      out.leader_id = node_id;
      out.leader_epoch = 1;
      out.high_watermark = static_cast<int64_t>(context_.log->spool().GetStatus().durable.value());
      out.current_voters.push_back({.replica_id = node_id,
                                    .replica_directory_id = {},
                                    .log_end_offset = out.high_watermark,
                                    .last_fetch_timestamp = now_ms,
                                    .last_caught_up_timestamp = now_ms,
                                    .unknown_tags = {}});
    }
  }
  if (one && caller.version >= kNodesSince) {
    const Address address = AddressFor(caller);
    auto& node = response.nodes.emplace_back();
    node.node_id = context_.options.node_id;
    node.listeners.push_back({"CONTROLLER",
                              response.strings.Keep(address.host),
                              static_cast<uint16_t>(address.port),
                              {}});
  }
  return response;
}

kafka::FindCoordinatorResponse MetadataHandler::Handle(
    const kafka::Caller& caller, const kafka::FindCoordinatorRequest& request) {
  constexpr int16_t kManySince = 4;
  constexpr int8_t kGroup = 0;
  constexpr int8_t kTransaction = 1;
  kafka::FindCoordinatorResponse response;
  const Address address = AddressFor(caller);
  const std::string_view host = response.strings.Keep(address.host);
  ErrorCode error = ErrorCode::kNone;
  std::optional<std::string_view> message;
  if (request.key_type != kGroup && request.key_type != kTransaction) {
    error = ErrorCode::kInvalidRequest;
    message = "no coordinator of this type";
  }
  if (error == ErrorCode::kNone) {
    const std::string_view topic = request.key_type == kGroup ? kOffsetsTopic : kTransactionsTopic;
    if (catalog_.topics().Find(topic) == nullptr) {
      topic_admin_.AutoCreate(caller, {std::string(topic)}, [] {});
    }
  }
  const auto put = [&](auto& out) {
    out.error_code = error;
    out.error_message = message;
    const bool found = error == ErrorCode::kNone;
    out.node_id = found ? context_.options.node_id : -1;
    out.host = found ? host : std::string_view();
    out.port = found ? address.port : -1;
  };
  if (caller.version < kManySince) {
    put(response);
    return response;
  }
  for (const std::string_view key : request.coordinator_keys) {
    auto& out = response.coordinators.emplace_back();
    out.key = key;
    put(out);
  }
  return response;
}

}  // namespace holdfast::broker
