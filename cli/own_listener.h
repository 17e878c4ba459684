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

// A host as a configuration may name it, without brackets.
using HostNames = std::vector<std::string>;

// The name and the addresses of this host, besides those by which every host reaches itself.
HostNames ThisHost();

// kInvalid (HF1001), with what to do, if an address of agent.upstream.bootstrap leads to a listener
// of the agent. `host` is where it runs; empty if that is not known.
base::Result<> CheckTierIsAnother(const config::Agent& agent, const HostNames& host);

}  // namespace holdfast::cli
