// From the configuration to an agent's options.
//
// Threads: any. Reads certificate files.
#pragma once

#include "agent/agent.h"
#include "agent/schedule.h"
#include "base/result.h"

namespace holdfast::config {
class Agent;
class Schedule;
}  // namespace holdfast::config

namespace holdfast::cli {

// kInvalid, with the key, if a value is none.
base::Result<agent::Agent::Options> AgentOptionsOf(const config::Agent& config);
// Of agent.upstream.schedule.
base::Result<agent::Schedule> ScheduleOf(const config::Schedule& config);

}  // namespace holdfast::cli
