// Joins the broker to the net: each connection of a loop talks to the worker of that loop.
//
// Ownership: broker, loops, budget and metrics outlive the server.
// Threads, shutdown and limits: those of net::FramedServer. A request that cannot be understood
//   closes its own connection, after the answers before it have left.
#pragma once

#include <memory>

#include "base/result.h"
#include "broker/broker.h"
#include "net/framed_server.h"

namespace holdfast::broker {

// loops.workers are the broker's workers, in the same order.
base::Result<std::unique_ptr<net::FramedServer>> Listen(Broker& broker,
                                                        net::FramedServer::Options options,
                                                        net::FramedServer::Loops loops,
                                                        net::MemoryBudget& budget,
                                                        metrics::NetMetrics& metrics);

}  // namespace holdfast::broker
