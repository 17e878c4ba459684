// `holdfast spool drain DIR`: the agent's own forwarder on a spool that has no agent any more, with
// no listeners, no admin port and no sources of new records. So what it delivers is delivered once
// and in order, whoever died before it, and whoever goes on after it.
//
// It yields: an agent that opens the spool meanwhile waits, and this one ends at once (see
// spool::Directory::Tenure).
//
// The spool's own records say which cluster it was delivered to; to another one nothing goes.
//
// Threads: main, and those of an agent with one worker. Shutdown: SIGTERM and SIGINT end it with
//   what is left.
#pragma once

#include "cli/spool_command.h"
#include "config/config.h"

namespace holdfast::cli {

// Returns the exit code.
int DrainSpool(const SpoolCommand& command, config::Sources sources);

}  // namespace holdfast::cli
