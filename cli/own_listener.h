// An agent whose tier is one of its own addresses would take each of its connections for a client
// and open one more for it, until no more can be opened.
//
// Threads: any. No name is looked up but that of this host and "localhost".
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace holdfast::config {
class Agent;
}  // namespace holdfast::config

namespace holdfast::cli {

// kInvalid (HF1001), with what to do, if an address of agent.upstream.bootstrap leads to a listener
// of the agent on whatever host it runs.
base::Result<> CheckTierIsAnother(const config::Agent& agent);

// A sentence for each address of agent.upstream.bootstrap that is this host's, by name or in
// figures, if the agent listens on its port on all addresses. Such a one may be another's all the
// same: with IPVS all nodes have the addresses of all services, and the kernel leads them on.
std::vector<std::string> TiersThatMayBeOwn(const config::Agent& agent);

}  // namespace holdfast::cli
