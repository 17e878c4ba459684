#include "agent/listener.h"

#include <utility>

#include "agent/forward_state.h"
#include "agent/port_state.h"
#include "base/event.h"
#include "base/log.h"
#include "proxy/session.h"

namespace holdfast::agent {

Listener::Listener(Context context, Options options)
    : context_(std::move(context)),
      options_(std::move(options)),
      ports_(
          context_.upstream,
          [this](int32_t node, uint16_t port) { return OpenBrokerPort(node, port); },
          [this](const proxy::BrokerPorts::Ports& ports) {
            context_.keep(PortsKey(), SerializePorts(ports));
          }),
      front_(options_.front, context_.cache, ports_, context_.sink, context_.refresh_topic,
             context_.want_settings, context_.resolver, context_.net_metrics, context_.metrics) {}

std::string Listener::PortsKey() const {
  return std::string(kPortsKey) + (options_.name.empty() ? "" : "/" + options_.name);
}

base::Result<> Listener::Open(const std::map<std::string, std::string, std::less<>>& kept) {
  for (const net::HostPort& address : options_.addresses) {
    HF_ASSIGN_OR_RETURN(auto server, Listen(address, proxy::kNoNode));
    servers_.push_back(std::move(server));
  }
  front_.SetBootstrapPort(servers_.front()->local_address().port());
  const auto found = kept.find(PortsKey());
  if (found == kept.end()) return {};
  context_.upstream.RunAndWait([&] {
    if (const auto ports = ParsePorts(found->second)) ports_.Restore(*ports);
  });
  return {};
}

std::vector<std::string> Listener::Addresses() const {
  std::vector<std::string> addresses;
  for (const auto& server : servers_) addresses.push_back(server->local_address().ToString());
  return addresses;
}

void Listener::Drain(std::chrono::milliseconds deadline, std::vector<std::future<void>>& drained) {
  const auto drain = [&](net::FramedServer& server) {
    auto promise = std::make_shared<std::promise<void>>();
    drained.push_back(promise->get_future());
    server.Drain(deadline, [promise] { promise->set_value(); });
  };
  for (auto& server : servers_) drain(*server);
  base::MutexLock lock(mutex_);
  for (auto& [node, server] : broker_servers_) drain(*server);
}

void Listener::Close() {
  servers_.clear();
  std::map<int32_t, std::unique_ptr<net::FramedServer>> broker_servers;
  {
    base::MutexLock lock(mutex_);
    broker_servers = std::exchange(broker_servers_, {});
  }
}

base::Result<std::unique_ptr<net::FramedServer>> Listener::Listen(const net::HostPort& address,
                                                                  int32_t node) {
  net::FramedServer::Options server = options_.server;
  server.listen = address;
  return net::FramedServer::Listen(
      std::move(server), {.acceptor = *context_.workers.front(), .workers = context_.workers},
      context_.memory, context_.net_metrics, [this, node](net::Connection& connection) {
        return std::make_unique<proxy::Session>(front_, connection, node);
      });
}

base::Result<uint16_t> Listener::OpenBrokerPort(int32_t node, uint16_t port) {
  net::HostPort address{.host = options_.addresses.front().host, .port = port};
  auto server = Listen(address, node);
  if (!server && port != 0) {
    base::Log(base::Event::kBrokerPortMoved, "agent", "{}; broker {} gets another port",
              server.error().message, node);
    address.port = 0;
    server = Listen(address, node);
  }
  if (!server) return base::Unexpected(std::move(server).error());
  const uint16_t bound = (*server)->local_address().port();
  base::Log(base::LogLevel::kInfo, "agent", "broker {} of the tier is behind port {}{}", node,
            bound, options_.name.empty() ? "" : " of listener " + options_.name);
  base::MutexLock lock(mutex_);
  broker_servers_[node] = *std::move(server);
  return bound;
}

}  // namespace holdfast::agent
