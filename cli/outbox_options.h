// From the configuration to the outbox sources and half messages of an agent.
//
// Threads: any; pure.
#pragma once

#include <optional>
#include <vector>

#include "agent/agent.h"
#include "agent/outbox/outboxes.h"
#include "base/result.h"

namespace holdfast::config {
class Agent;
}

namespace holdfast::cli {

// kInvalid: what the schema cannot say, such as two sources of one name.
base::Result<std::vector<outbox::OutboxOptions>> OutboxOptionsOf(const config::Agent& config);

// None: they are not taken.
base::Result<std::optional<agent::Agent::Options::HalfMessages>> HalfMessagesOf(
    const config::Agent& config);

}  // namespace holdfast::cli
