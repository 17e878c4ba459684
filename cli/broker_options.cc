#include "cli/broker_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "cli/loops.h"
#include "cli/security.h"
#include "config/holdfast.pb.h"
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

}  // namespace

base::Result<broker::Options> BrokerOptionsOf(const config::Broker& config) {
  HF_ASSIGN_OR_RETURN(spool::Options spool, SpoolOptionsOf(config.data(), "broker.data"));
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

namespace {

base::Result<ConfiguredTokens> TokensOf(const config::OauthBearer& config, const std::string& where,
                                        ConfiguredListener& listener) {
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
    listener.warnings.emplace_back(
        base::Event::kUnsignedTokens,
        fmt::format(
            "INSECURE: {}.unsecured takes tokens without a signature: whoever reaches {} can log "
            "in as anybody, as a super user, too. This is for tests only",
            where, listener.listen));
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
    listener.warnings.emplace_back(
        base::Event::kKeysOverHttp,
        fmt::format("{}.jwks_endpoint_url is not one of https: who can change what comes from {} "
                    "can log in as anybody",
                    where, url));
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
  ConfiguredListener listener{.listen = config.listen()};
  broker::ListenerOptions& options = listener.options;
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
      HF_ASSIGN_OR_RETURN(listener.tokens, TokensOf(config.sasl().oauthbearer(),
                                                    where + ".sasl.oauthbearer", listener));
    } else if (config.sasl().has_oauthbearer()) {
      return base::Unexpected(base::Code::kInvalid,
                              where + ".sasl.oauthbearer has no effect without OAUTHBEARER in " +
                                  where + ".sasl.mechanisms");
    }
  }
  return listener;
}

}  // namespace

base::Result<std::vector<ConfiguredListener>> BrokerListenersOf(const config::Broker& config) {
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

}  // namespace holdfast::cli
