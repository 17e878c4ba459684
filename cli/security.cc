#include "cli/security.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

#include "base/event.h"
#include "config/holdfast.pb.h"
#include "net/address.h"

namespace holdfast::cli {
namespace {

using base::Code;
using net::SaslMechanism;

constexpr std::string_view kFileUrl = "file://";

base::Error Wrong(std::string_view property, std::string_view what) {
  return {Code::kInvalid, fmt::format("agent.upstream.properties.{} {}", property, what),
          base::Event::kBadConfiguration};
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

class Given {
 public:
  explicit Given(const config::Upstream& upstream) : properties_(upstream.properties()) {}

  [[nodiscard]] bool Has(const std::string& name) const { return properties_.contains(name); }
  // Empty if it is not given.
  [[nodiscard]] std::string Get(const std::string& name) const {
    const auto found = properties_.find(name);
    return found == properties_.end() ? "" : found->second;
  }
  // The first property that is given of a kind ("ssl.", "sasl."), for messages; empty if none is.
  [[nodiscard]] std::string FirstOf(std::string_view prefix) const {
    std::string first;
    for (const auto& [name, value] : properties_) {
      if (name.starts_with(prefix) && (first.empty() || name < first)) first = name;
    }
    return first;
  }

 private:
  const google::protobuf::Map<std::string, std::string>& properties_;
};

// Of `module required username="..." password="...";`.
std::optional<std::string> JaasOption(std::string_view jaas, const std::string& name) {
  size_t at = jaas.find(name + "=\"");
  if (at == std::string_view::npos) return std::nullopt;
  std::string value;
  for (at += name.size() + 2; at < jaas.size() && jaas[at] != '"'; ++at) {
    if (jaas[at] == '\\' && at + 1 < jaas.size()) ++at;
    value += jaas[at];
  }
  if (at >= jaas.size()) return std::nullopt;
  return value;
}

base::Result<> ReadPassword(const Given& given, net::SaslCredentials& credentials) {
  if (given.Has("sasl.jaas.config")) {
    if (given.Has("sasl.username") || given.Has("sasl.password"))
      return base::Unexpected(Wrong("sasl.jaas.config",
                                    "and sasl.username, sasl.password exclude "
                                    "each other"));
    const std::string jaas = given.Get("sasl.jaas.config");
    const auto username = JaasOption(jaas, "username");
    const auto password = JaasOption(jaas, "password");
    if (!username || !password) {
      return base::Unexpected(
          Wrong("sasl.jaas.config", "must hold username=\"...\" and password=\"...\""));
    }
    credentials.username = *username;
    credentials.password = *password;
  } else {
    credentials.username = given.Get("sasl.username");
    credentials.password = given.Get("sasl.password");
  }
  if (credentials.username.empty())
    return base::Unexpected(Wrong("sasl.username", "must be set for this sasl.mechanism"));
  if (credentials.password.empty())
    return base::Unexpected(Wrong("sasl.password", "must be set for this sasl.mechanism"));
  credentials.salted_password = std::make_shared<net::SaltedPassword>(credentials.password);
  return {};
}

base::Result<> ReadToken(const Given& given, net::SaslCredentials& credentials) {
  const std::string url = given.Get("sasl.oauthbearer.token.endpoint.url");
  if (!url.starts_with(kFileUrl) || url.size() == kFileUrl.size()) {
    return base::Unexpected(Wrong("sasl.oauthbearer.token.endpoint.url",
                                  "must be file:///PATH of the file that holds the token"));
  }
  credentials.token_file = url.substr(kFileUrl.size());
  std::istringstream extensions(given.Get("sasl.oauthbearer.extensions"));
  for (std::string extension; std::getline(extensions, extension, ',');) {
    const size_t equals = extension.find('=');
    if (equals == 0 || equals == std::string::npos)
      return base::Unexpected(Wrong("sasl.oauthbearer.extensions", "must be NAME=VALUE,..."));
    credentials.extensions.emplace_back(extension.substr(0, equals), extension.substr(equals + 1));
  }
  return {};
}

base::Result<net::SaslCredentials> SaslOf(const Given& given) {
  const std::string name =
      given.Get(given.Has("sasl.mechanism") ? "sasl.mechanism" : "sasl.mechanisms");
  const auto mechanism = net::ParseSaslMechanism(Upper(name));
  if (!mechanism)
    return base::Unexpected(Wrong("sasl.mechanism", "must be set for this security.protocol"));
  net::SaslCredentials credentials{.mechanism = *mechanism};
  if (*mechanism == SaslMechanism::kOauthBearer) {
    HF_RETURN_IF_ERROR(ReadToken(given, credentials));
  } else {
    HF_RETURN_IF_ERROR(ReadPassword(given, credentials));
  }
  return credentials;
}

net::TlsOptions TlsOptionsOf(const Given& given) {
  const std::string algorithm = given.Get("ssl.endpoint.identification.algorithm");
  return {.ca_location = given.Get("ssl.ca.location"),
          .certificate_location = given.Get("ssl.certificate.location"),
          .key_location = given.Get("ssl.key.location"),
          .key_password = given.Get("ssl.key.password"),
          .check_name = Upper(algorithm) != "NONE"};
}

base::Result<std::shared_ptr<net::TlsCredentials>> Load(net::TlsOptions options) {
  auto credentials = net::TlsCredentials::Load(std::move(options));
  if (credentials) return credentials;
  return base::Unexpected(std::move(credentials).error().Within("agent.upstream.properties"));
}

struct Protocol {
  explicit Protocol(const Given& given) {
    const std::string name = Upper(given.Get("security.protocol"));
    tls = name == "SSL" || name == "SASL_SSL";
    sasl = name.starts_with("SASL_");
  }
  bool tls;
  bool sasl;
};

}  // namespace

base::Result<proxy::TierIdentity> TierIdentityOf(const config::Upstream& upstream) {
  const Given given(upstream);
  const auto [tls, sasl] = Protocol(given);
  proxy::TierIdentity identity;
  // A setting without effect is a hole that nobody sees.
  if (const std::string unused = given.FirstOf("ssl."); !tls && !unused.empty())
    return base::Unexpected(Wrong(unused, "needs security.protocol SSL or SASL_SSL"));
  if (const std::string unused = given.FirstOf("sasl."); !sasl && !unused.empty())
    return base::Unexpected(Wrong(unused, "needs security.protocol SASL_SSL or SASL_PLAINTEXT"));
  if (tls) {
    HF_ASSIGN_OR_RETURN(identity.tls, Load(TlsOptionsOf(given)));
  }
  if (sasl) {
    HF_ASSIGN_OR_RETURN(identity.sasl, SaslOf(given));
  }
  return identity;
}

base::Result<proxy::TierIdentity> ClientIdentityOf(const config::Upstream& upstream) {
  const Given given(upstream);
  const auto [tls, sasl] = Protocol(given);
  proxy::TierIdentity identity;
  if (!tls) return identity;
  net::TlsOptions options = TlsOptionsOf(given);
  if (!sasl) {
    options.certificate_location.clear();
    options.key_location.clear();
  }
  HF_ASSIGN_OR_RETURN(identity.tls, Load(std::move(options)));
  return identity;
}

base::Result<client::Connection::Options> ConnectionOf(const config::Upstream& upstream) {
  HF_ASSIGN_OR_RETURN(const proxy::TierIdentity identity, TierIdentityOf(upstream));
  client::Connection::Options options{.timeout = std::chrono::milliseconds(upstream.timeout_ms())};
  auto& properties = options.properties;
  for (const std::string& address : upstream.bootstrap()) {
    std::string& servers = properties["bootstrap.servers"];
    servers.append(servers.empty() ? "" : ",").append(address);
  }
  for (const auto& [name, value] : upstream.properties()) {
    if (name == "security.protocol" || name.starts_with("ssl.")) properties[name] = value;
  }
  if (!identity.sasl) return options;
  properties["sasl.mechanisms"] = net::SaslName(identity.sasl->mechanism);
  if (identity.sasl->mechanism == SaslMechanism::kOauthBearer) {
    options.token_file = identity.sasl->token_file;
    options.token_extensions = {identity.sasl->extensions.begin(), identity.sasl->extensions.end()};
  } else {
    properties["sasl.username"] = identity.sasl->username;
    properties["sasl.password"] = identity.sasl->password;
  }
  return options;
}

namespace {

base::Error WrongKey(std::string_view key, std::string_view what) {
  return {Code::kInvalid, fmt::format("agent.{} {}", key, what), base::Event::kBadConfiguration};
}

// Of what is not an address in figures, only this name is certain.
bool IsLoopback(const std::string& listen) {
  const auto address = net::HostPort::Parse(listen);
  if (!address) return true;  // It is refused elsewhere.
  if (address->host == "localhost") return true;
  const auto ip = net::SocketAddress::FromIp(address->host, address->port);
  return ip && ip->IsLoopback();
}

}  // namespace

base::Result<std::shared_ptr<net::TlsCredentials>> ListenerTlsOf(const config::ListenerTls& tls,
                                                                 std::string_view where) {
  if (tls.certificate().empty()) {
    return base::Unexpected(Code::kInvalid, fmt::format("{}.certificate must be set", where));
  }
  net::TlsOptions options{.ca_location = tls.client_ca(),
                          .certificate_location = tls.certificate(),
                          .key_location = tls.key(),
                          .key_password = tls.key_password(),
                          .server = true};
  switch (tls.client_auth()) {
    case config::ListenerTls::none:
      break;
    case config::ListenerTls::requested:
      options.client_auth = net::TlsOptions::ClientAuth::kRequested;
      break;
    case config::ListenerTls::required:
      options.client_auth = net::TlsOptions::ClientAuth::kRequired;
      break;
  }
  auto credentials = net::TlsCredentials::Load(std::move(options));
  if (credentials) return credentials;
  return base::Unexpected(std::move(credentials).error().Within(where));
}

base::Result<std::shared_ptr<const auth::PrincipalMapping>> PrincipalMappingOf(
    const config::ListenerTls& tls, std::string_view where) {
  auto mapping = auth::PrincipalMapping::Parse(tls.principal_mapping_rules());
  if (mapping) return mapping;
  return base::Unexpected(
      Code::kInvalid, fmt::format("{}.principal_mapping_rules {}", where, mapping.error().message));
}

base::Result<std::vector<SaslMechanism>> MechanismsOf(const std::vector<std::string>& names,
                                                      const std::vector<SaslMechanism>& known,
                                                      std::string_view where) {
  std::vector<SaslMechanism> mechanisms;
  for (const std::string& name : names) {
    const auto mechanism = net::ParseSaslMechanism(Upper(name));
    if (!mechanism || std::ranges::find(known, *mechanism) == known.end()) {
      std::vector<std::string_view> known_names;
      for (const SaslMechanism each : known) known_names.push_back(net::SaslName(each));
      return base::Unexpected(Code::kInvalid, fmt::format("{} must be some of {}", where,
                                                          fmt::join(known_names, ", ")));
    }
    mechanisms.push_back(*mechanism);
  }
  if (mechanisms.empty())
    return base::Unexpected(Code::kInvalid, fmt::format("{} is empty", where));
  return mechanisms;
}

base::Result<> CheckUsers(const std::vector<net::SaslUsers::User>& users, std::string_view where) {
  std::set<std::string_view> names;
  for (const net::SaslUsers::User& user : users) {
    if (user.name.empty() || user.password.empty()) {
      return base::Unexpected(Code::kInvalid,
                              fmt::format("{} must all have a name and a password", where));
    }
    if (!names.insert(user.name).second) {
      return base::Unexpected(Code::kInvalid,
                              fmt::format("{} names \"{}\" twice", where, user.name));
    }
  }
  return {};
}

namespace {

base::Result<proxy::AccessRules> RulesOf(const config::Access& access) {
  std::vector<proxy::AccessRule> rules;
  for (const config::Rule& rule : access.rules()) {
    if (!rule.principal().starts_with("User:") || rule.principal() == "User:") {
      return base::Unexpected(
          WrongKey("access.rules[].principal", "must be User:NAME, User:ANONYMOUS or User:*"));
    }
    if (rule.operations().empty())
      return base::Unexpected(WrongKey("access.rules[].operations", "must say what is allowed"));
    proxy::AccessRule& made = rules.emplace_back(
        proxy::AccessRule{.principal = rule.principal(),
                          .topics = {rule.topics().begin(), rule.topics().end()},
                          .groups = {rule.groups().begin(), rule.groups().end()}});
    for (const int operation : rule.operations()) {
      const bool all = operation == config::Rule::all;
      made.produce = made.produce || all || operation == config::Rule::produce;
      made.consume = made.consume || all || operation == config::Rule::consume;
      made.admin = made.admin || all || operation == config::Rule::admin;
    }
  }
  return proxy::AccessRules(std::move(rules));
}

std::vector<std::string> AddressesOf(const config::Agent& config) {
  std::vector<std::string> addresses(config.listen().begin(), config.listen().end());
  for (const config::Listener& listener : config.listeners())
    addresses.push_back(listener.listen());
  return addresses;
}

// Names, and connections from other hosts that anybody could make or listen to.
base::Result<> CheckListeners(const config::Agent& config, const agent::AgentSecurity& security) {
  const bool plain = std::ranges::find(security.local.sasl.mechanisms, SaslMechanism::kPlain) !=
                     security.local.sasl.mechanisms.end();
  const bool client_sasl = security.local.tier_decides && security.local.tier_wants_sasl;
  std::set<std::string> names;
  for (const config::Listener& listener : config.listeners()) {
    if (!names.insert(listener.name()).second)
      return base::Unexpected(WrongKey("listeners", "names \"" + listener.name() + "\" twice"));
  }
  if (config.access().open_listeners()) return {};
  for (const std::string& listen : AddressesOf(config)) {
    if (IsLoopback(listen) || security.listener) continue;
    if (plain) {
      return base::Unexpected(WrongKey(
          "sasl.mechanisms", "has PLAIN, which would send passwords in the clear to " + listen +
                                 ": set agent.tls, or agent.access.open_listeners"));
    }
    if (security.local.sasl.mechanisms.empty() && !client_sasl) {
      return base::Unexpected(
          WrongKey("listen", "has " + listen +
                                 ", which other hosts can reach: set agent.tls or agent.sasl, "
                                 "or agent.access.open_listeners if everybody may come in"));
    }
  }
  return {};
}

}  // namespace

base::Result<agent::AgentSecurity> AgentSecurityOf(const config::Agent& config) {
  const Given given(config.upstream());
  const auto [tls, sasl] = Protocol(given);
  const bool known_to_tier = sasl || (tls && given.Has("ssl.certificate.location"));
  const bool as_agent = config.access().tier_identity() == config::Access::agent;

  agent::AgentSecurity security;
  HF_ASSIGN_OR_RETURN(security.tier, TierIdentityOf(config.upstream()));
  security.passing = security.tier;
  if (!as_agent) {
    HF_ASSIGN_OR_RETURN(security.passing, ClientIdentityOf(config.upstream()));
  }
  if (config.has_tls()) {
    HF_ASSIGN_OR_RETURN(security.listener, ListenerTlsOf(config.tls(), "agent.tls"));
    HF_ASSIGN_OR_RETURN(security.local.certificate_names,
                        PrincipalMappingOf(config.tls(), "agent.tls"));
  }
  if (config.has_sasl()) {
    const auto& names = config.sasl().mechanisms();
    HF_ASSIGN_OR_RETURN(security.local.sasl.mechanisms,
                        MechanismsOf({names.begin(), names.end()},
                                     {SaslMechanism::kPlain, SaslMechanism::kScramSha256,
                                      SaslMechanism::kScramSha512},
                                     "agent.sasl.mechanisms"));
    const auto users = UsersOf(config.sasl().users());
    HF_RETURN_IF_ERROR(CheckUsers(users, "agent.sasl.users"));
    if (users.empty()) return base::Unexpected(WrongKey("sasl.users", "is empty"));
    security.local.sasl.users = net::SaslUsers::Make(users);
  }
  HF_ASSIGN_OR_RETURN(security.local.rules, RulesOf(config.access()));
  security.local.tier_decides = known_to_tier && !as_agent;
  security.local.tier_wants_sasl = sasl;
  security.local.lends_agent_rights = as_agent;
  security.local.passes_as_agent = as_agent && sasl;
  security.local.secrets_stay_here = !security.listener && !config.access().open_listeners();

  if (known_to_tier && !sasl && !config.access().has_tier_identity()) {
    return base::Unexpected(
        WrongKey("access.tier_identity",
                 "must be set where the agent shows the tier a certificate and does not log in by "
                 "SASL, since clients cannot show the tier theirs through the agent: agent lends "
                 "them the agent's rights, within agent.access.rules; client has them come without "
                 "a certificate, to a tier that lets them in so"));
  }
  if (known_to_tier && as_agent && security.local.rules.empty()) {
    return base::Unexpected(
        WrongKey("access.tier_identity",
                 "is agent, which lends the agent's rights at the tier to local "
                 "clients: say in agent.access.rules what they may do with them"));
  }
  if (security.local.tier_decides && sasl && config.has_sasl()) {
    return base::Unexpected(
        WrongKey("sasl",
                 "takes clients' SASL, which then does not reach a tier that asks for it: set "
                 "agent.access.tier_identity to agent, with rules"));
  }
  HF_RETURN_IF_ERROR(CheckListeners(config, security));
  return security;
}

std::string NoSecretsFromElsewhere(const config::Agent& config,
                                   const agent::AgentSecurity& security) {
  const proxy::LocalPolicy& local = security.local;
  if (!local.secrets_stay_here || !local.tier_decides || !local.tier_wants_sasl) return {};
  const SaslMechanism mechanism = security.tier.sasl->mechanism;
  if (mechanism != SaslMechanism::kPlain && mechanism != SaslMechanism::kOauthBearer) return {};
  std::vector<std::string> addresses = AddressesOf(config);
  std::erase_if(addresses, IsLoopback);
  if (addresses.empty()) return {};
  return fmt::format(
      "without agent.tls, clients that reach {} from other hosts may not log in at the tier by {}, "
      "as the agent does, but by SCRAM alone",
      fmt::join(addresses, ", "), net::SaslName(mechanism));
}

}  // namespace holdfast::cli
