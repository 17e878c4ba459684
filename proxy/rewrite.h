// Puts the agent's own addresses in place of the tier's, wherever an answer carries them.
//
// The versions named here are the newest whose addresses are known; what is advertised to clients
// is capped to them (proxy/api_versions.h). Ids, leaders, epochs and everything else stay as the
// tier said, tagged fields that the codec does not know included.
//
// Ownership: rewritten messages borrow the host name from the LocalAddresses.
// Threads: any; pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kafka/message.h"

namespace holdfast::kafka {
struct DescribeClusterResponse;
struct EndpointTail;
struct FindCoordinatorResponse;
struct MetadataResponse;
struct ProduceResponse;
}  // namespace holdfast::kafka

namespace holdfast::proxy {

// What one client is told: the host by which it reached the agent, and a port for each broker.
struct LocalAddresses {
  std::string host;
  uint16_t bootstrap_port = 0;
  std::shared_ptr<const std::map<int32_t, uint16_t>> ports;  // Port 0: the bootstrap port.

  [[nodiscard]] std::optional<uint16_t> PortOf(int32_t node) const;
};

// The brokers that an answer names and that need a local port.
std::vector<int32_t> NodesIn(const kafka::MetadataResponse& response);
std::vector<int32_t> NodesIn(const kafka::FindCoordinatorResponse& response);
std::vector<int32_t> NodesIn(const kafka::DescribeClusterResponse& response);
std::vector<int32_t> NodesIn(const kafka::ProduceResponse& response);
std::vector<int32_t> NodesIn(const kafka::EndpointTail& tail);

// A broker without a local port is left out, and the first of the others leads its partitions, so
// that clients can produce: each of our ports takes all records. If it was the controller, that is
// the first of the others as well. If all brokers are without a port, the first of them is at the
// bootstrap port.
void Rewrite(kafka::MetadataResponse& response, const LocalAddresses& local);
// A coordinator without a local port becomes COORDINATOR_NOT_AVAILABLE.
void Rewrite(kafka::FindCoordinatorResponse& response, const LocalAddresses& local);
// Answers about controllers are left as they are.
void Rewrite(kafka::DescribeClusterResponse& response, const LocalAddresses& local);
// The endpoints that KIP-951 adds: one without a local port is left out, and the client asks for
// metadata instead.
void Rewrite(kafka::ProduceResponse& response, const LocalAddresses& local);
void Rewrite(kafka::EndpointTail& tail, const LocalAddresses& local);

}  // namespace holdfast::proxy
