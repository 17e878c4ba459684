// The broker's pages for people, probes and Prometheus.
//
// Ownership: what they are given outlives the routes.
// Threads: handlers run on any thread but the coordinator's loop, for whose answer they wait.
#pragma once

#include <vector>

#include "base/executor.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "broker/overview.h"
#include "net/admin_server.h"

namespace holdfast::broker {

std::vector<net::AdminRoute> StatusRoutes(Context& context, Coordinator& coordinator,
                                          base::Executor& coordinator_loop, Overview& overview,
                                          const metrics::Registry& registry);

}  // namespace holdfast::broker
