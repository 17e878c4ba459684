#include "proxy/front_door.h"

#include <algorithm>

#include "kafka/api/api_versions.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/produce.h"
#include "kafka/api/sync_group.h"
#include "net/framed_server.h"

namespace holdfast::proxy {
namespace {

// Each with a series of its own; the rest is counted together.
constexpr std::array kNamed{
    kafka::ProduceRequest::kApi,         kafka::FetchRequest::kApi,
    kafka::ListOffsetsRequest::kApi,     kafka::MetadataRequest::kApi,
    kafka::OffsetCommitRequest::kApi,    kafka::OffsetFetchRequest::kApi,
    kafka::FindCoordinatorRequest::kApi, kafka::JoinGroupRequest::kApi,
    kafka::SyncGroupRequest::kApi,       kafka::HeartbeatRequest::kApi,
    kafka::ApiVersionsRequest::kApi,     kafka::InitProducerIdRequest::kApi,
    kafka::DescribeClusterRequest::kApi,
};

}  // namespace

bool Covers(const net::SocketAddress& address, const std::string& host) {
  const std::string own = address.host();
  return own == host || own == "::" || (own == "0.0.0.0" && host.find(':') == std::string::npos);
}

FrontDoor::FrontDoor(FrontDoorOptions front_options, MetadataCache& metadata,
                     BrokerPorts& broker_ports, RecordSink& records,
                     std::function<void(std::string)> ask_for_topic,
                     std::function<void(std::string)> ask_for_settings, net::Resolver& names,
                     metrics::NetMetrics& net, metrics::AgentMetrics& agent)
    : options(std::move(front_options)),
      cache(metadata),
      ports(broker_ports),
      sink(records),
      refresh_topic(std::move(ask_for_topic)),
      want_settings(std::move(ask_for_settings)),
      resolver(names),
      net_metrics(net),
      metrics(agent),
      other_requests_(agent.requests.With("other")) {
  requests_.fill(&other_requests_);
  for (const kafka::Api& api : kNamed) {
    requests_[static_cast<size_t>(api.key)] = &metrics.requests.With(api.name);
  }
}

void FrontDoor::SetAddresses(std::vector<net::SocketAddress> addresses) {
  base::MutexLock lock(mutex_);
  addresses_ = std::move(addresses);
}

LocalAddresses FrontDoor::AddressesFor(net::Connection& connection) const {
  const net::SocketAddress& local = connection.local();
  std::string host = options.advertised_host.empty() ? local.host() : options.advertised_host;
  const uint16_t port = BootstrapPort(host, local.port());
  return {.host = std::move(host), .bootstrap_port = port, .ports = ports.Snapshot()};
}

uint16_t FrontDoor::BootstrapPort(const std::string& host, uint16_t came_by) const {
  base::MutexLock lock(mutex_);
  if (addresses_.empty()) return came_by;
  std::vector<uint16_t> at_host;
  for (const net::SocketAddress& address : addresses_) {
    if (Covers(address, host)) at_host.push_back(address.port());
  }
  // Where the name that is advertised leads is not known; the port by which a client came may be
  // one of another host.
  if (at_host.empty()) return addresses_.front().port();
  const bool among = std::ranges::find(at_host, came_by) != at_host.end();
  return among ? came_by : at_host.front();
}

std::optional<FrontDoor::Way> FrontDoor::WayToTier(int32_t node, base::TimePoint now) const {
  const int32_t wanted = node == kNoNode ? ports.BootstrapNode() : node;
  const ClusterPtr cluster = cache.cluster();
  const bool avoided = node == kNoNode && bootstrap_avoided_until_.load() > now;
  if (const auto broker = cluster->brokers.find(wanted);
      cluster->confirmed && broker != cluster->brokers.end() && !avoided) {
    return Way{.to = broker->second.address};
  }
  if (node != kNoNode) return std::nullopt;
  std::vector<net::HostPort> others = options.bootstrap;
  if (cluster->confirmed) {
    for (const auto& [id, broker] : cluster->brokers) {
      if (id != wanted) others.push_back(broker.address);
    }
  }
  return Way{.to = others[bootstrap_turn_.load() % others.size()], .detour = true};
}

void FrontDoor::NoteReached(int32_t node, const Way& way) {
  if (node == kNoNode && !way.detour) bootstrap_avoid_next_.store(kAvoidMin);
}

void FrontDoor::NoteUnreachable(int32_t node, const Way& way, base::TimePoint now) {
  if (node != kNoNode) return;
  bootstrap_turn_.fetch_add(1);
  // Of several who fail together the first one counts.
  if (way.detour || bootstrap_avoided_until_.load() > now) return;
  const base::Duration avoid = bootstrap_avoid_next_.load();
  bootstrap_avoid_next_.store(std::min(2 * avoid, kAvoidMax));
  bootstrap_avoided_until_.store(now + avoid);
}

void FrontDoor::NoteOtherCluster() {
  bootstrap_turn_.fetch_add(1);
  refresh_topic({});
}

void FrontDoor::CountRequest(int16_t api_key) {
  const auto index = static_cast<size_t>(api_key);
  (api_key >= 0 && index < kCountedApis ? *requests_[index] : other_requests_).Add();
}

}  // namespace holdfast::proxy
