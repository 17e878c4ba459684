// From the configuration to what the agent shows to the tier and demands of it.
//
// Threads: any. Reads certificate files.
#pragma once

#include "base/result.h"
#include "proxy/tier_security.h"

namespace holdfast::config {
class Upstream;
}

namespace holdfast::agent {

// From agent.upstream.properties. An error names the property.
base::Result<proxy::TierIdentity> TierIdentityOf(const config::Upstream& upstream);

// The same without what only the agent may claim to be: for connections on which clients speak for
// themselves. A certificate stays where the tier learns from SASL who is there.
base::Result<proxy::TierIdentity> ClientIdentityOf(const config::Upstream& upstream);

}  // namespace holdfast::agent
