#include "proxy/rewrite.h"

#include "kafka/api/describe_cluster.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"

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

}  // namespace

std::optional<uint16_t> LocalAddresses::PortOf(int32_t node) const {
  const auto found = ports->find(node);
  if (found == ports->end()) return std::nullopt;
  return found->second == 0 ? bootstrap_port : found->second;
}

std::vector<int32_t> NodesIn(const kafka::MetadataResponse& response) {
  std::vector<int32_t> nodes;
  for (const auto& broker : response.brokers) nodes.push_back(broker.node_id);
  return nodes;
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
  std::vector<int32_t> nodes;
  if (response.endpoint_type != kBrokerEndpoints) return nodes;
  for (const auto& broker : response.brokers) nodes.push_back(broker.broker_id);
  return nodes;
}

void Rewrite(kafka::MetadataResponse& response, const LocalAddresses& local) {
  std::erase_if(response.brokers,
                [&](const auto& broker) { return !local.PortOf(broker.node_id).has_value(); });
  for (auto& broker : response.brokers) {
    broker.host = local.host;
    broker.port = *local.PortOf(broker.node_id);
  }
}

void Rewrite(kafka::FindCoordinatorResponse& response, const LocalAddresses& local) {
  RewriteCoordinator(response, local);
  for (auto& coordinator : response.coordinators) RewriteCoordinator(coordinator, local);
}

void Rewrite(kafka::DescribeClusterResponse& response, const LocalAddresses& local) {
  if (response.endpoint_type != kBrokerEndpoints) return;
  std::erase_if(response.brokers,
                [&](const auto& broker) { return !local.PortOf(broker.broker_id).has_value(); });
  for (auto& broker : response.brokers) {
    broker.host = local.host;
    broker.port = *local.PortOf(broker.broker_id);
  }
}

void Rewrite(kafka::ProduceResponse& response) { response.node_endpoints.clear(); }

}  // namespace holdfast::proxy
