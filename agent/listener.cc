#include "agent/listener.h"

#include <algorithm>
#include <utility>

#include "agent/forward_state.h"
#include "agent/port_state.h"
#include "base/event.h"
#include "base/log.h"
#include "net/socket.h"
#include "proxy/session.h"

namespace holdfast::agent {
namespace {

constexpr int kFreePortAttempts = 8;

std::vector<std::string> DistinctHosts(const std::vector<net::SocketAddress>& addresses) {
  std::vector<std::string> hosts;
  for (const net::SocketAddress& address : addresses) {
    const std::string host = address.host();
    const bool covered = std::ranges::any_of(addresses, [&](const auto& other) {
      return other.host() != host && proxy::Covers(other, host);
    });
    if (!covered && std::ranges::find(hosts, host) == hosts.end()) hosts.push_back(host);
  }
  return hosts;
}

}  // namespace

Listener::Listener(Context context, Options options)
    : context_(std::move(context)),
      options_(std::move(options)),
      ports_(context_.upstream,
             {.open = [this](int32_t node, uint16_t port) { return OpenBrokerPort(node, port); },
              .close = [this](int32_t node) { CloseBrokerPort(node); },
              .has_left =
                  [this](int32_t node) {
                    const proxy::ClusterPtr cluster = context_.cache.cluster();
                    return cluster->confirmed && !cluster->brokers.contains(node);
                  },
              .changed =
                  [this](const proxy::BrokerPorts::Ports& ports) {
                    context_.keep(PortsKey(), SerializePorts(ports));
                  }}),
      front_(options_.front, context_.cache, ports_, context_.sink, context_.refresh_topic,
             context_.want_settings, context_.resolver, context_.net_metrics, context_.metrics) {}

std::string Listener::PortsKey() const {
  return std::string(kPortsKey) + (options_.name.empty() ? "" : "/" + options_.name);
}

base::Result<> Listener::Open(const std::map<std::string, std::string, std::less<>>& kept) {
  std::vector<net::SocketAddress> wanted;
  for (const net::HostPort& address : options_.addresses) {
    HF_ASSIGN_OR_RETURN(wanted.emplace_back(), net::Socket::AddressToListen(address));
  }
  hosts_ = DistinctHosts(wanted);
  std::vector<net::SocketAddress> bound;
  for (const net::HostPort& address : options_.addresses) {
    HF_ASSIGN_OR_RETURN(auto server, Listen(address, proxy::kNoNode));
    bound.push_back(server->local_address());
    servers_.push_back(std::move(server));
  }
  front_.SetAddresses(std::move(bound));
  const auto found = kept.find(PortsKey());
  if (found == kept.end()) return {};
  context_.upstream.RunAndWait([&] {
    if (const auto ports = ParsePorts(found->second)) ports_.Restore(*ports);
  });
  return {};
}

void Listener::Accept() {
  context_.upstream.RunAndWait([this] {
    accepts_ = true;
    base::MutexLock lock(mutex_);
    for (const auto& [node, servers] : broker_servers_) {
      for (const auto& server : servers) server->Accept();
    }
  });
  for (const auto& server : servers_) server->Accept();
}

std::vector<std::string> Listener::Addresses() const {
  std::vector<std::string> addresses;
  for (const auto& server : servers_) addresses.push_back(server->local_address().ToString());
  return addresses;
}

void Listener::Drain(std::chrono::milliseconds deadline, std::vector<std::future<void>>& drained) {
  ForgetMissing();
  const auto drain = [&](net::FramedServer& server) {
    auto promise = std::make_shared<std::promise<void>>();
    drained.push_back(promise->get_future());
    server.Drain(deadline, [promise] { promise->set_value(); });
  };
  for (auto& server : servers_) drain(*server);
  base::MutexLock lock(mutex_);
  for (auto& [node, servers] : broker_servers_) {
    for (auto& server : servers) drain(*server);
  }
}

void Listener::Close() {
  ForgetMissing();
  servers_.clear();
  std::map<int32_t, std::vector<Server>> broker_servers;
  {
    base::MutexLock lock(mutex_);
    broker_servers = std::exchange(broker_servers_, {});
  }
}

base::Result<Listener::Server> Listener::Listen(const net::HostPort& address, int32_t node) {
  net::FramedServer::Options server = options_.server;
  server.listen = address;
  server.accept = false;
  return net::FramedServer::Listen(
      std::move(server), {.acceptor = *context_.workers.front(), .workers = context_.workers},
      context_.memory, context_.net_metrics, [this, node](net::Connection& connection) {
        return std::make_unique<proxy::Session>(front_, connection, node);
      });
}

base::Result<std::vector<Listener::Server>> Listener::ListenOnHosts(uint16_t port, int32_t node) {
  std::vector<Server> servers;
  base::Error refused{base::Code::kUnavailable, "the listener is not open"};
  for (const std::string& host : hosts_) {
    auto server = Listen({.host = host, .port = port}, node);
    if (server) {
      port = (*server)->local_address().port();
      servers.push_back(*std::move(server));
      continue;
    }
    refused = std::move(server).error();
    // A port that is taken may be free elsewhere; a host that is gone takes none. Clients that come
    // by the others do not need it.
    if (refused.event != base::Event::kCannotListen) return base::Unexpected(std::move(refused));
  }
  if (servers.empty()) return base::Unexpected(std::move(refused));
  if (servers.size() < hosts_.size()) {
    base::Log(base::Event::kNoBrokerPort, "agent",
              "no listener for broker {} of the tier on one of the hosts: {}", node,
              refused.message);
  }
  return servers;
}

base::Result<uint16_t> Listener::OpenBrokerPort(int32_t node, uint16_t port) {
  auto servers = ListenOnHosts(port, node);
  if (!servers && port != 0)
    base::Log(base::Event::kBrokerPortMoved, "agent", "{}; broker {} gets another port",
              servers.error().message, node);
  // A port that is free on the first host may be taken on another.
  for (int i = 0; i < kFreePortAttempts && !servers; ++i) servers = ListenOnHosts(0, node);
  if (!servers) return base::Unexpected(std::move(servers).error());
  const uint16_t bound = servers->front()->local_address().port();
  base::Log(base::LogLevel::kInfo, "agent", "broker {} of the tier is behind port {}{}", node,
            bound, options_.name.empty() ? "" : " of listener " + options_.name);
  if (accepts_) {
    for (const auto& server : *servers) server->Accept();
  }
  for (const std::string& host : hosts_) {
    const bool open = std::ranges::any_of(
        *servers, [&](const Server& server) { return server->local_address().host() == host; });
    if (!open) missing_.push_back({.node = node, .at = {.host = host, .port = bound}});
  }
  if (!missing_.empty())
    missing_timer_ = context_.upstream.After(options_.host_retry, [this] { ListenOnMissing(); });
  base::MutexLock lock(mutex_);
  broker_servers_[node] = *std::move(servers);
  return bound;
}

void Listener::CloseBrokerPort(int32_t node) {
  std::erase_if(missing_, [node](const Missing& missing) { return missing.node == node; });
  base::Log(base::LogLevel::kInfo, "agent", "broker {} has left the tier; its port is closed",
            node);
  std::vector<Server> servers;
  {
    base::MutexLock lock(mutex_);
    const auto found = broker_servers_.find(node);
    if (found == broker_servers_.end()) return;
    servers = std::move(found->second);
    broker_servers_.erase(found);
  }
}

void Listener::ListenOnMissing() {
  std::erase_if(missing_, [this](const Missing& missing) {
    auto server = Listen(missing.at, missing.node);
    if (!server) return false;
    base::Log(base::LogLevel::kInfo, "agent", "broker {} of the tier is behind {}, too",
              missing.node, missing.at.ToString());
    if (accepts_) (*server)->Accept();
    base::MutexLock lock(mutex_);
    broker_servers_[missing.node].push_back(*std::move(server));
    return true;
  });
  if (!missing_.empty())
    missing_timer_ = context_.upstream.After(options_.host_retry, [this] { ListenOnMissing(); });
}

void Listener::ForgetMissing() {
  context_.upstream.RunAndWait([this] {
    missing_timer_.Cancel();
    missing_.clear();
  });
}

}  // namespace holdfast::agent
