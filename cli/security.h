// From the configuration to what the agent shows to the tier and demands of it.
//
// Threads: any. Reads certificate files.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent.h"
#include "auth/principal_mapping.h"
#include "base/result.h"
#include "client/connection.h"
#include "net/sasl.h"
#include "net/tls.h"
#include "proxy/tier_security.h"

namespace holdfast::config {
class Agent;
class ListenerTls;
class Upstream;
}  // namespace holdfast::config

namespace holdfast::cli {

// From agent.upstream.properties. An error names the property.
base::Result<proxy::TierIdentity> TierIdentityOf(const config::Upstream& upstream);

// The same without what only the agent may claim to be: for connections on which clients speak for
// themselves. A certificate stays where the tier learns from SASL who is there.
base::Result<proxy::TierIdentity> ClientIdentityOf(const config::Upstream& upstream);

// The same as properties of librdkafka, for a command that is a client of the tier.
base::Result<client::Connection::Options> ConnectionOf(const config::Upstream& upstream);

// What a listener shows, and asks of clients. `where` names the settings, for errors.
base::Result<std::shared_ptr<net::TlsCredentials>> ListenerTlsOf(const config::ListenerTls& tls,
                                                                 std::string_view where);
// Which name its clients' certificates give them.
base::Result<std::shared_ptr<const auth::PrincipalMapping>> PrincipalMappingOf(
    const config::ListenerTls& tls, std::string_view where);

// Of those that `known` has.
base::Result<std::vector<net::SaslMechanism>> MechanismsOf(
    const std::vector<std::string>& names, const std::vector<net::SaslMechanism>& known,
    std::string_view where);
// Of agent.sasl.users or broker.users.
template <class Given>
std::vector<net::SaslUsers::User> UsersOf(const Given& given) {
  std::vector<net::SaslUsers::User> users;
  for (const auto& user : given) users.push_back({user.name(), user.password()});
  return users;
}
base::Result<> CheckUsers(const std::vector<net::SaslUsers::User>& users, std::string_view where);

// Refuses what would open a hole that nobody asked for; an error says how to ask for it.
base::Result<agent::AgentSecurity> AgentSecurityOf(const config::Agent& config);

// What clients on other hosts meet who log in at the tier as the agent does, which they mostly do:
// in the clear the agent refuses mechanisms that show a secret. For people; empty if it is not so.
std::string NoSecretsFromElsewhere(const config::Agent& config,
                                   const agent::AgentSecurity& security);

}  // namespace holdfast::cli
