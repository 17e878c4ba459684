// Where local clients come in: the addresses of one listener, and beside them a port for each
// further broker of the tier, the same on each host among the addresses. A client only ever learns
// addresses of the listener that it came to, so what a listener asks for holds for all that its
// clients do; and, if no host is advertised, of the host by which it came. A host that is not there
// when a broker gets its port is tried again until it is.
//
// Ownership: everything in Context outlives it. Close before the loops stop.
// Threads: Open, Accept, Drain and Close from the main thread, which is none of the loops; the rest
//   from any.
// Limits: those of net::FramedServer for each address, and of proxy::BrokerPorts.
#pragma once

#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/unique_function.h"
#include "net/framed_server.h"
#include "proxy/front_door.h"

namespace holdfast::agent {

class Listener {
 public:
  struct Options {
    std::string name;                      // Empty: the one that every agent has.
    std::vector<net::HostPort> addresses;  // Each stands for the tier's first broker, too.
    net::FramedServer::Options server;     // Of each address; `listen` is filled in here.
    proxy::FrontDoorOptions front;
    base::Duration host_retry = std::chrono::seconds(10);
  };
  struct Context {
    net::EventLoop& upstream;  // On which ports are opened.
    std::vector<net::EventLoop*> workers;
    net::MemoryBudget& memory;
    net::Resolver& resolver;
    proxy::MetadataCache& cache;
    proxy::RecordSink& sink;
    std::function<void(std::string)> refresh_topic;
    std::function<void(std::string)> want_settings;
    metrics::NetMetrics& net_metrics;
    metrics::AgentMetrics& metrics;
    // Writes the mapping of brokers to ports down, under its key. On the upstream loop.
    std::function<void(std::string key, std::string ports)> keep;
  };

  Listener(Context context, Options options);

  // Null if there are no local transactions. Before Open.
  void SetTransactions(proxy::LocalTransactions* transactions) {
    front_.SetTransactions(transactions);
  }
  // Binds all addresses, and the ports that were kept. Who connects waits for Accept: a client that
  // asked for a broker's port before would be told another one than was kept.
  base::Result<> Open(const std::map<std::string, std::string, std::less<>>& kept);
  // Takes clients from here on. After Open, which comes first for all listeners: a port that the
  // kernel chooses for one of them may be kept by the next.
  void Accept();
  // As bound.
  [[nodiscard]] std::vector<std::string> Addresses() const;

  [[nodiscard]] proxy::BrokerPorts& ports() { return ports_; }

  // Takes no more, answers what is in flight; adds what becomes ready when that is done.
  void Drain(std::chrono::milliseconds deadline, std::vector<std::future<void>>& drained);
  void Close();

 private:
  using Server = std::unique_ptr<net::FramedServer>;
  // Where a broker's port is to be, on a host that was not there.
  struct Missing {
    int32_t node;
    net::HostPort at;
  };

  [[nodiscard]] std::string PortsKey() const;
  base::Result<Server> Listen(const net::HostPort& address, int32_t node);
  // The same port on all hosts, but for those whose address is not there any more.
  base::Result<std::vector<Server>> ListenOnHosts(uint16_t port, int32_t node);
  // On the upstream loop. Another port if the one of the last run is taken.
  base::Result<uint16_t> OpenBrokerPort(int32_t node, uint16_t port);
  void CloseBrokerPort(int32_t node);
  // On the upstream loop, as long as there are any.
  void ListenOnMissing();
  void ForgetMissing();

  Context context_;
  const Options options_;
  proxy::BrokerPorts ports_;
  proxy::FrontDoor front_;
  std::vector<Server> servers_;
  std::vector<std::string> hosts_;  // Of the addresses, without those that a wildcard covers.
  // Of the upstream loop.
  bool accepts_ = false;
  std::vector<Missing> missing_;
  base::Timer missing_timer_;

  base::Mutex mutex_;
  std::map<int32_t, std::vector<Server>> broker_servers_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::agent
