// The agent's pages on the admin port.
//
// Ownership: everything named outlives the routes. Threads: the handlers run on the admin loop and
// wait for nobody.
#pragma once

#include <atomic>
#include <vector>

#include "agent/forwarder.h"
#include "agent/orphans.h"
#include "agent/overview.h"
#include "metrics/registry.h"
#include "net/admin_server.h"
#include "proxy/broker_ports.h"
#include "proxy/metadata_cache.h"
#include "spool/spool.h"

namespace holdfast::agent {

struct AdminSubjects {
  metrics::Registry& registry;
  spool::Spool& spool;
  RecordLog& records;
  base::Executor& upstream;  // The forwarder's loop.
  Forwarder& forwarder;
  Overview& overview;
  proxy::MetadataCache& cache;
  proxy::BrokerPorts& ports;
  Orphans* orphans = nullptr;  // If they are looked for.
  const std::atomic<bool>& draining;
};

std::vector<net::AdminRoute> MakeAdminRoutes(AdminSubjects subjects);

}  // namespace holdfast::agent
