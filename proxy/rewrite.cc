#include "proxy/rewrite.h"

#include <algorithm>

#include "kafka/api/describe_cluster.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/endpoint_tail.h"

namespace holdfast::proxy {
namespace {

constexpr int8_t kBrokerEndpoints = 1;

template <class Coordinator>
void RewriteCoordinator(Coordinator& coordinator, const LocalAddresses& local) {
  if (coordinator.error_code != kafka::ErrorCode::kNone || coordinator.host.empty()) return;
  if (const auto port = local.PortOf(coordinator.node_id)) {
    coordinator.host = local.host;
    coordinator.port = *port;
    return;
  }
  coordinator.error_code = kafka::ErrorCode::kCoordinatorNotAvailable;
  coordinator.node_id = -1;
  coordinator.host = {};
  coordinator.port = -1;
}

template <class Broker>
void RewriteBrokers(std::vector<Broker>& brokers, int32_t Broker::*id,
                    const LocalAddresses& local) {
  std::erase_if(brokers,
                [&](const Broker& broker) { return !local.PortOf(broker.*id).has_value(); });
  for (Broker& broker : brokers) {
    broker.host = local.host;
    broker.port = *local.PortOf(broker.*id);
  }
}

template <class Broker>
std::vector<int32_t> IdsOf(const std::vector<Broker>& brokers, int32_t Broker::*id) {
  std::vector<int32_t> ids;
  for (const Broker& broker : brokers) ids.push_back(broker.*id);
  return ids;
}

}  // namespace

std::optional<uint16_t> LocalAddresses::PortOf(int32_t node) const {
  const auto found = ports->find(node);
  if (found == ports->end()) return std::nullopt;
  return found->second == 0 ? bootstrap_port : found->second;
}

std::vector<int32_t> NodesIn(const kafka::MetadataResponse& response) {
  return IdsOf(response.brokers, &kafka::MetadataResponse::MetadataResponseBroker::node_id);
}

std::vector<int32_t> NodesIn(const kafka::FindCoordinatorResponse& response) {
  std::vector<int32_t> nodes;
  if (!response.host.empty()) nodes.push_back(response.node_id);
  for (const auto& coordinator : response.coordinators) {
    if (!coordinator.host.empty()) nodes.push_back(coordinator.node_id);
  }
  return nodes;
}

std::vector<int32_t> NodesIn(const kafka::DescribeClusterResponse& response) {
  if (response.endpoint_type != kBrokerEndpoints) return {};
  return IdsOf(response.brokers, &kafka::DescribeClusterResponse::DescribeClusterBroker::broker_id);
}

std::vector<int32_t> NodesIn(const kafka::ProduceResponse& response) {
  return IdsOf(response.node_endpoints, &kafka::ProduceResponse::NodeEndpoint::node_id);
}

std::vector<int32_t> NodesIn(const kafka::EndpointTail& tail) {
  return IdsOf(tail.node_endpoints, &kafka::FetchResponse::NodeEndpoint::node_id);
}

void Rewrite(kafka::MetadataResponse& response, const LocalAddresses& local) {
  using Broker = kafka::MetadataResponse::MetadataResponseBroker;
  if (response.brokers.empty()) return;
  std::vector<int32_t> left_out = NodesIn(response);
  std::erase_if(left_out, [&](int32_t node) { return local.PortOf(node).has_value(); });
  Broker first = response.brokers.front();
  RewriteBrokers(response.brokers, &Broker::node_id, local);
  if (response.brokers.empty()) {
    first.host = local.host;
    first.port = local.bootstrap_port;
    response.brokers.push_back(std::move(first));
  }
  if (left_out.empty()) return;
  if (std::ranges::find(left_out, response.controller_id) != left_out.end())
    response.controller_id = response.brokers.front().node_id;
  for (auto& topic : response.topics) {
    for (auto& partition : topic.partitions) {
      if (std::ranges::find(left_out, partition.leader_id) != left_out.end())
        partition.leader_id = response.brokers.front().node_id;
    }
  }
}

void Rewrite(kafka::FindCoordinatorResponse& response, const LocalAddresses& local) {
  RewriteCoordinator(response, local);
  for (auto& coordinator : response.coordinators) RewriteCoordinator(coordinator, local);
}

void Rewrite(kafka::DescribeClusterResponse& response, const LocalAddresses& local) {
  if (response.endpoint_type != kBrokerEndpoints) return;
  const std::vector<int32_t> told = NodesIn(response);
  RewriteBrokers(response.brokers,
                 &kafka::DescribeClusterResponse::DescribeClusterBroker::broker_id, local);
  const bool left_out = std::ranges::find(told, response.controller_id) != told.end() &&
                        !local.PortOf(response.controller_id);
  if (left_out)
    response.controller_id = response.brokers.empty() ? -1 : response.brokers.front().broker_id;
}

void Rewrite(kafka::ProduceResponse& response, const LocalAddresses& local) {
  RewriteBrokers(response.node_endpoints, &kafka::ProduceResponse::NodeEndpoint::node_id, local);
}

void Rewrite(kafka::EndpointTail& tail, const LocalAddresses& local) {
  RewriteBrokers(tail.node_endpoints, &kafka::FetchResponse::NodeEndpoint::node_id, local);
}

}  // namespace holdfast::proxy
