// A broker as a part of a process: its loops, its listeners and its admin server.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <utility>

#include "auth/access_tokens.h"
#include "auth/published_keys.h"
#include "base/event.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/server.h"
#include "cli/broker_options.h"
#include "cli/loops.h"
#include "cli/role.h"
#include "cli/status_page.h"
#include "config/holdfast.pb.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/admin_server.h"

namespace holdfast::cli {
namespace {

using std::chrono::milliseconds;

class BrokerRole final : public Role {
 public:
  BrokerRole(const config::Broker& config, Controls controls)
      : controls_(std::move(controls)),
        drain_timeout_(config.drain_timeout_ms()),
        net_metrics_(registry_),
        budget_(config.limits().memory_in_flight_bytes_max(), net_metrics_) {}

  ~BrokerRole() override {
    if (!tls_.empty()) loops_.background().RunAndWait([this] { refresh_tls_.Cancel(); });
    admin_.reset();
    servers_.clear();
    for (const auto& keys : keys_) keys->Stop();
    keys_loop_.reset();
    if (broker_) broker_->Stop();
  }

  base::Result<void> Start(const config::Broker& config) {
    HF_ASSIGN_OR_RETURN(auto options, BrokerOptionsOf(config));
    options.metrics = &registry_;
    HF_ASSIGN_OR_RETURN(auto listeners, BrokerListenersOf(config));
    HF_ASSIGN_OR_RETURN(loops_, Loops::Start(config.workers(), &net_metrics_));
    HF_ASSIGN_OR_RETURN(cleaner_,
                        net::LoopThread::Start({.name = "cleaner", .metrics = &net_metrics_}));
    const std::vector<net::EventLoop*> workers = loops_.workers();
    HF_ASSIGN_OR_RETURN(broker_, broker::Broker::Start(std::move(options),
                                                       {.writer = loops_.writer(),
                                                        .background = loops_.background(),
                                                        .workers = {workers.begin(), workers.end()},
                                                        .cleaner = &cleaner_->loop()}));
    HF_ASSIGN_OR_RETURN(admin_, ListenAdmin(loops_, config.admin(), Routes()));
    for (ConfiguredListener& listener : listeners) {
      HF_ASSIGN_OR_RETURN(listener.options.server.listen, net::HostPort::Parse(listener.listen));
      for (const auto& [event, what] : listener.warnings) base::Log(event, "broker", "{}", what);
      listener.options.sasl.users = broker_->users();
      if (listener.tls) tls_.push_back(listener.tls);
      if (listener.tokens) {
        HF_ASSIGN_OR_RETURN(listener.options.sasl.tokens, TakeTokens(*std::move(listener.tokens)));
      }
      HF_ASSIGN_OR_RETURN(
          auto server, broker::Listen(*broker_, std::move(listener.options),
                                      {.acceptor = *workers.front(), .workers = workers}, budget_,
                                      net_metrics_));
      servers_.push_back(std::move(server));
    }
    if (!tls_.empty()) loops_.background().Post([this] { RefreshTlsLater(); });
    return {};
  }

  std::string_view name() const override { return "broker"; }
  std::vector<std::string> ListenAddresses() const override {
    std::vector<std::string> addresses;
    for (const auto& server : servers_) addresses.push_back(server->local_address().ToString());
    return addresses;
  }
  std::string AdminAddress() const override {
    return admin_ ? admin_->local_address().ToString() : "";
  }

  std::vector<base::Executor*> WatchedLoops() const override { return loops_.watched(); }
  std::string Summary() const override {
    return fmt::format("broker: {} connections", net_metrics_.connections.Value());
  }

  // Log settings are the process's; everything else of a broker needs a restart.
  base::Result<void> Reload(const config::Config& /*config*/) override { return {}; }
  milliseconds drain_limit() const override { return drain_timeout_; }
  void Drain() override {
    admin_.reset();
    std::vector<std::promise<void>> drained(servers_.size());
    for (size_t i = 0; i < servers_.size(); ++i) {
      servers_[i]->Drain(drain_timeout_, [&done = drained[i]] { done.set_value(); });
    }
    broker_->Stop();  // Answers long polls and joins, for which the drain waits.
    for (auto& each : drained) each.get_future().wait();
    servers_.clear();
  }

 private:
  std::vector<net::AdminRoute> Routes() {
    std::vector<net::AdminRoute> routes = broker_->AdminRoutes();
    routes.push_back(StatusPageRoute());
    routes.push_back(ConfigRoute(controls_));
    return routes;
  }

  base::Result<std::shared_ptr<const net::SaslTokens>> TakeTokens(ConfiguredTokens tokens) {
    if (!tokens.keys) return std::make_shared<auth::AccessTokens>(std::move(tokens.policy));
    if (!keys_loop_) {
      HF_ASSIGN_OR_RETURN(keys_loop_,
                          net::LoopThread::Start({.name = "keys", .metrics = &net_metrics_}));
    }
    HF_ASSIGN_OR_RETURN(auto keys,
                        auth::PublishedKeys::Start(*std::move(tokens.keys), keys_loop_->loop()));
    keys_.push_back(keys);
    return std::make_shared<auth::AccessTokens>(std::move(tokens.policy), std::move(keys));
  }

  static constexpr base::Duration kRefreshTlsEvery = std::chrono::seconds(10);

  // Connections that stand keep what they have shown and seen.
  void RefreshTlsLater() {
    refresh_tls_ = loops_.background().After(kRefreshTlsEvery, [this] {
      for (const auto& credentials : tls_) {
        const base::Result<bool> refreshed = credentials->Refresh();
        if (!refreshed) {
          base::Log(base::Event::kTlsFilesNotTaken, "broker",
                    "changed TLS files are not used, those read before are: {}",
                    refreshed.error().message);
        } else if (*refreshed) {
          base::Log(base::LogLevel::kInfo, "broker", "read changed TLS files");
        }
      }
      RefreshTlsLater();
    });
  }

  const Controls controls_;
  const milliseconds drain_timeout_;
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  net::MemoryBudget budget_;
  Loops loops_;
  std::unique_ptr<net::LoopThread> cleaner_;
  std::unique_ptr<net::LoopThread> keys_loop_;  // May be blocked by who publishes keys.
  std::unique_ptr<broker::Broker> broker_;
  std::unique_ptr<net::AdminServer> admin_;
  std::vector<std::unique_ptr<net::FramedServer>> servers_;
  std::vector<std::shared_ptr<net::TlsCredentials>> tls_;
  std::vector<std::shared_ptr<auth::PublishedKeys>> keys_;
  base::Timer refresh_tls_;  // Of the background loop.
};

}  // namespace

base::Result<std::unique_ptr<Role>> StartBroker(const config::Broker& config, Controls controls) {
  auto role = std::make_unique<BrokerRole>(config, std::move(controls));
  HF_RETURN_IF_ERROR(role->Start(config));
  return role;
}

}  // namespace holdfast::cli
