#include "proxy/local_answers.h"

#include <algorithm>

#include "kafka/topic_name.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using Answer = kafka::MetadataResponse::MetadataResponseTopic;

bool Names(const std::vector<kafka::MetadataResponse::MetadataResponseBroker>& brokers,
           int32_t node) {
  return std::ranges::find(brokers, node,
                           &kafka::MetadataResponse::MetadataResponseBroker::node_id) !=
         brokers.end();
}

void AddPartitions(Answer& answer, const Topic& topic, const kafka::MetadataResponse& response) {
  for (size_t i = 0; i < topic.leaders.size(); ++i) {
    int32_t leader = topic.leaders[i];
    if (!Names(response.brokers, leader)) leader = response.brokers.front().node_id;
    answer.partitions.push_back({.partition_index = static_cast<int32_t>(i),
                                 .leader_id = leader,
                                 .replica_nodes = {leader},
                                 .isr_nodes = {leader}});
  }
}

void AddTopic(kafka::MetadataResponse& response, std::string_view name, const Topic* topic) {
  Answer& answer = response.topics.emplace_back();
  answer.name = name;
  if (topic == nullptr) {
    answer.error_code = kafka::ValidTopicName(name) ? ErrorCode::kLeaderNotAvailable
                                                    : ErrorCode::kInvalidTopicException;
    return;
  }
  answer.topic_id = topic->id;
  answer.is_internal = topic->internal;
  AddPartitions(answer, *topic, response);
}

void AddUnknownId(kafka::MetadataResponse& response, const kafka::Uuid& id, int16_t version) {
  Answer& answer = response.topics.emplace_back();
  // From this version on a name may be null; clients ask by id since then only.
  constexpr int16_t kNullNameSince = 12;
  if (version < kNullNameSince) answer.name = "";
  answer.error_code = ErrorCode::kUnknownTopicId;
  answer.topic_id = id;
}

}  // namespace

kafka::MetadataResponse LocalMetadata(const Cluster& cluster, const LocalAddresses& local,
                                      const kafka::MetadataRequest& request, int16_t version,
                                      Shows shows) {
  kafka::MetadataResponse response;
  const auto hidden = [&](std::string_view name) { return shows && !shows(name); };
  for (const auto& [node, broker] : cluster.brokers) {
    const auto port = local.PortOf(node);
    if (!port) continue;
    response.brokers.push_back({.node_id = node, .host = local.host, .port = *port});
    if (broker.rack) response.brokers.back().rack = *broker.rack;
  }
  if (response.brokers.empty()) {
    response.brokers.push_back(
        {.node_id = kUnseenNode, .host = local.host, .port = local.bootstrap_port});
  }
  if (!cluster.id.empty()) response.cluster_id = cluster.id;
  response.controller_id = Names(response.brokers, cluster.controller)
                               ? cluster.controller
                               : response.brokers.front().node_id;
  if (AsksForAll(request, version)) {
    for (const auto& [name, topic] : cluster.topics) {
      if (!hidden(name)) AddTopic(response, name, topic.get());
    }
    return response;
  }
  for (const auto& asked : *request.topics) {
    const std::string_view name = asked.name.value_or(cluster.NameOf(asked.topic_id));
    const bool unseen = hidden(name);
    if (asked.name || (!name.empty() && !unseen)) {
      AddTopic(response, name, unseen ? nullptr : cluster.FindTopic(name));
    } else {
      AddUnknownId(response, asked.topic_id, version);
    }
  }
  return response;
}

kafka::FindCoordinatorResponse LocalFindCoordinator(const kafka::FindCoordinatorRequest& request,
                                                    int16_t version) {
  constexpr int16_t kManyKeysSince = 4;
  constexpr std::string_view kWhy = "the broker tier is away";
  kafka::FindCoordinatorResponse response;
  if (version < kManyKeysSince) {
    response.error_code = ErrorCode::kCoordinatorNotAvailable;
    if (version > 0) response.error_message = kWhy;
    response.node_id = -1;
    response.port = -1;
    return response;
  }
  for (const std::string_view key : request.coordinator_keys) {
    response.coordinators.push_back({.key = key,
                                     .node_id = -1,
                                     .port = -1,
                                     .error_code = ErrorCode::kCoordinatorNotAvailable,
                                     .error_message = kWhy});
  }
  return response;
}

kafka::DescribeClusterResponse LocalDescribeCluster(const Cluster& cluster,
                                                    const LocalAddresses& local,
                                                    const kafka::DescribeClusterRequest& request) {
  constexpr int8_t kBrokerEndpoints = 1;
  kafka::DescribeClusterResponse response;
  response.endpoint_type = request.endpoint_type;
  response.cluster_id = cluster.id;
  if (request.endpoint_type != kBrokerEndpoints) {
    response.error_code = ErrorCode::kBrokerNotAvailable;
    response.error_message = "the broker tier is away";
    return response;
  }
  for (const auto& [node, broker] : cluster.brokers) {
    const auto port = local.PortOf(node);
    if (!port) continue;
    response.brokers.push_back({.broker_id = node, .host = local.host, .port = *port});
    if (broker.rack) response.brokers.back().rack = *broker.rack;
    if (node == cluster.controller) response.controller_id = node;
  }
  if (response.controller_id == kNoNode && !response.brokers.empty())
    response.controller_id = response.brokers.front().broker_id;
  return response;
}

kafka::InitProducerIdResponse LocalInitProducerId() {
  return {.error_code = ErrorCode::kCoordinatorNotAvailable, .producer_epoch = -1};
}

kafka::GetTelemetrySubscriptionsResponse LocalTelemetrySubscriptions() {
  return {.error_code = ErrorCode::kThrottlingQuotaExceeded};
}

kafka::PushTelemetryResponse LocalPushTelemetry() {
  return {.error_code = ErrorCode::kThrottlingQuotaExceeded};
}

void FillIn(kafka::MetadataResponse& response, const Cluster& cluster, const MetadataCache& cache) {
  if (response.brokers.empty()) return;
  for (Answer& answer : response.topics) {
    if (!answer.name) continue;
    const Topic* known = cluster.FindTopic(*answer.name);
    if (known == nullptr) continue;
    if (answer.error_code == ErrorCode::kUnknownTopicOrPartition &&
        cache.Declared(*answer.name) > 0) {
      answer.error_code = ErrorCode::kNone;
      answer.topic_id = known->id;
      answer.partitions.clear();
      AddPartitions(answer, *known, response);
      continue;
    }
    if (answer.partitions.empty()) continue;
    if (answer.error_code == ErrorCode::kLeaderNotAvailable) answer.error_code = ErrorCode::kNone;
    for (auto& partition : answer.partitions) {
      if (partition.leader_id != kNoNode) continue;
      const int32_t last = cluster.LeaderOf(*answer.name, partition.partition_index);
      partition.leader_id = Names(response.brokers, last) ? last : response.brokers.front().node_id;
      partition.error_code = ErrorCode::kNone;
    }
  }
}

}  // namespace holdfast::proxy
