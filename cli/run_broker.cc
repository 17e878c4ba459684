// A broker as a part of a process: its loops, its listener, its admin server, and the options from
// the configuration.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <set>
#include <utility>

#include "auth/access_tokens.h"
#include "auth/published_keys.h"
#include "base/event.h"
#include "base/log.h"
#include "broker/broker.h"
#include "broker/server.h"
#include "cli/loops.h"
#include "cli/role.h"
#include "cli/security.h"
#include "cli/status_page.h"
#include "config/holdfast.pb.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/admin_server.h"
#include "net/url_fetch.h"

namespace holdfast::cli {
namespace {

using net::SaslMechanism;
using std::chrono::milliseconds;

broker::ConsumerGroupOptions OptionsOf(const config::ConsumerGroups& config) {
  using config::ConsumerGroups;
  const ConsumerGroups::MigrationPolicy policy = config.migration_policy();
  return {
      .session_timeout = milliseconds(config.session_timeout_ms()),
      .session_timeout_min = milliseconds(config.session_timeout_min_ms()),
      .session_timeout_max = milliseconds(config.session_timeout_max_ms()),
      .heartbeat_interval = milliseconds(config.heartbeat_interval_ms()),
      .heartbeat_interval_min = milliseconds(config.heartbeat_interval_min_ms()),
      .heartbeat_interval_max = milliseconds(config.heartbeat_interval_max_ms()),
      .size_max = static_cast<int32_t>(config.size_max()),
      .upgrade = policy == ConsumerGroups::bidirectional || policy == ConsumerGroups::upgrade,
      .downgrade = policy == ConsumerGroups::bidirectional || policy == ConsumerGroups::downgrade,
  };
}

base::Result<broker::Options> OptionsOf(const config::Broker& config, metrics::Registry& registry) {
  HF_ASSIGN_OR_RETURN(spool::Options spool, SpoolOptionsOf(config.data()));
  broker::Options options{
      .spool = std::move(spool),
      .node_id = config.node_id(),
      .num_partitions = config.num_partitions(),
      .auto_create_topics = config.auto_create_topics(),
      .max_message_bytes = config.message_bytes_max(),
      .fetch_bytes_max = config.fetch_bytes_max(),
      .fetched_waiting_bytes_max = config.limits().memory_in_flight_bytes_max(),
      .fetch_sessions_max = config.fetch_sessions_max(),
      .producer_id_expiration = milliseconds(config.producer_id_expiration_ms()),
      .retention_check_interval = milliseconds(config.retention_check_interval_ms()),
      .groups = {.session_timeout_min = milliseconds(config.groups().session_timeout_min_ms()),
                 .session_timeout_max = milliseconds(config.groups().session_timeout_max_ms()),
                 .initial_rebalance_delay =
                     milliseconds(config.groups().initial_rebalance_delay_ms()),
                 .offsets_retention = milliseconds(config.groups().offsets_retention_ms()),
                 .consumer = OptionsOf(config.groups().consumer())},
      .authorizer = {.enabled = config.authorizer().enabled(),
                     .super_users = {config.authorizer().super_users().begin(),
                                     config.authorizer().super_users().end()},
                     .allow_everyone_if_no_acl_found =
                         config.authorizer().allow_everyone_if_no_acl_found()},
      .compaction = {.interval = milliseconds(config.compaction().check_interval_ms()),
                     .memory_bytes_max = config.compaction().memory_bytes_max(),
                     .bytes_per_second_max = config.compaction().bytes_per_second_max()},
      .metrics = &registry,
  };
  for (const std::string& user : options.authorizer.super_users) {
    if (user.find(':') != std::string::npos) continue;
    return base::Unexpected(base::Code::kInvalid, "broker.authorizer.super_users has \"" + user +
                                                      "\", which is not of the form User:NAME");
  }
  options.users = UsersOf(config.users());
  HF_RETURN_IF_ERROR(CheckUsers(options.users, "broker.users"));
  return options;
}

// Which tokens a listener takes.
struct ConfiguredTokens {
  auth::AccessTokenPolicy policy;
  std::optional<auth::PublishedKeys::Options> keys;  // None: unsecured ones.
};

struct ConfiguredListener {
  broker::ListenerOptions options;
  std::shared_ptr<net::TlsCredentials> tls;  // Those of the options, to be read anew.
  std::optional<ConfiguredTokens> tokens;
};

base::Result<ConfiguredTokens> TokensOf(const config::OauthBearer& config,
                                        const net::HostPort& listen, const std::string& where) {
  const auto wrong = [&](std::string_view what) {
    return base::Unexpected(base::Code::kInvalid, fmt::format("{} {}", where, what));
  };
  ConfiguredTokens tokens{.policy = {.expected_audience = {config.expected_audience().begin(),
                                                           config.expected_audience().end()},
                                     .expected_issuer = config.expected_issuer(),
                                     .clock_skew_seconds = config.clock_skew_seconds(),
                                     .scope_claim_name = config.scope_claim_name(),
                                     .sub_claim_name = config.sub_claim_name()}};
  const std::string& url = config.jwks_endpoint_url();
  if (config.unsecured()) {
    if (!url.empty()) return wrong("has both unsecured and jwks_endpoint_url");
    base::Log(base::Event::kUnsignedTokens, "broker",
              "INSECURE: {}.unsecured takes tokens without a signature: whoever reaches {} can log "
              "in as anybody, as a super user, too. This is for tests only",
              where, listen.ToString());
    return tokens;
  }
  if (url.empty()) {
    return wrong(
        "needs jwks_endpoint_url, where the keys are that tokens are signed with (or, for tests, "
        "unsecured: true, with which everybody can log in as anybody)");
  }
  if (!net::IsFetchable(url)) return wrong("has a jwks_endpoint_url without https, http or file");
  if (!config.jwks_endpoint_ca().empty() && !url.starts_with("https://"))
    return wrong("has jwks_endpoint_ca, but its jwks_endpoint_url is not one of https");
  if (url.starts_with("http://")) {
    base::Log(base::Event::kKeysOverHttp, "broker",
              "{}.jwks_endpoint_url is not one of https: who can change what comes from {} can log "
              "in as anybody",
              where, url);
  }
  tokens.keys = {.url = url,
                 .ca_location = config.jwks_endpoint_ca(),
                 .refresh = milliseconds(config.jwks_endpoint_refresh_ms())};
  return tokens;
}

// For the address `listen` itself, and for each of `listeners`.
template <class Config>
base::Result<ConfiguredListener> ListenerOf(const Config& config,
                                            const config::BrokerLimits& limits,
                                            const std::string& where) {
  HF_ASSIGN_OR_RETURN(const net::HostPort listen, net::HostPort::Parse(config.listen()));
  ConfiguredListener listener;
  broker::ListenerOptions& options = listener.options;
  options.server.listen = listen;
  options.server.frame_bytes_max = limits.request_bytes_max();
  options.server.connections_max = limits.connections_max();
  options.server.idle_timeout = milliseconds(limits.idle_timeout_ms());
  options.advertised = config.advertised();
  if (config.has_tls()) {
    HF_ASSIGN_OR_RETURN(listener.tls, ListenerTlsOf(config.tls(), where + ".tls"));
    options.server.tls = listener.tls;
    HF_ASSIGN_OR_RETURN(options.certificate_names,
                        PrincipalMappingOf(config.tls(), where + ".tls"));
  }
  if (config.has_sasl()) {
    const auto& names = config.sasl().mechanisms();
    HF_ASSIGN_OR_RETURN(options.sasl.mechanisms,
                        MechanismsOf({names.begin(), names.end()},
                                     {SaslMechanism::kPlain, SaslMechanism::kScramSha256,
                                      SaslMechanism::kScramSha512, SaslMechanism::kOauthBearer},
                                     where + ".sasl.mechanisms"));
    options.session_lifetime = milliseconds(config.sasl().max_reauth_ms());
    if (std::ranges::find(options.sasl.mechanisms, SaslMechanism::kOauthBearer) !=
        options.sasl.mechanisms.end()) {
      HF_ASSIGN_OR_RETURN(listener.tokens, TokensOf(config.sasl().oauthbearer(), listen,
                                                    where + ".sasl.oauthbearer"));
    } else if (config.sasl().has_oauthbearer()) {
      return base::Unexpected(base::Code::kInvalid,
                              where + ".sasl.oauthbearer has no effect without OAUTHBEARER in " +
                                  where + ".sasl.mechanisms");
    }
  }
  return listener;
}

base::Result<std::vector<ConfiguredListener>> ListenersOf(const config::Broker& config) {
  std::vector<ConfiguredListener> listeners;
  HF_ASSIGN_OR_RETURN(auto first, ListenerOf(config, config.limits(), "broker"));
  listeners.push_back(std::move(first));
  std::set<std::string> names;
  for (const config::BrokerListener& listener : config.listeners()) {
    if (!names.insert(listener.name()).second) {
      return base::Unexpected(base::Code::kInvalid,
                              "broker.listeners names \"" + listener.name() + "\" twice");
    }
    HF_ASSIGN_OR_RETURN(
        auto more, ListenerOf(listener, config.limits(), "broker.listeners: " + listener.name()));
    listeners.push_back(std::move(more));
  }
  return listeners;
}

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
    HF_ASSIGN_OR_RETURN(auto options, OptionsOf(config, registry_));
    HF_ASSIGN_OR_RETURN(auto listeners, ListenersOf(config));
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
