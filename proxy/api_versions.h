// What the agent tells its clients that it speaks: what the tier speaks, narrowed to what passes
// through unharmed, and with Produce as the agent itself takes it.
//
// Threads: any; pure.
#pragma once

#include <cstdint>
#include <span>

#include "kafka/api/api_versions.h"
#include "proxy/metadata_cache.h"

namespace holdfast::proxy {

// While the tier was never seen: what producers need, and what librdkafka takes as the sign that it
// may compress. Borrows from the cluster.
kafka::ApiVersionsResponse LocalApiVersions(const Cluster& cluster);

// What all of these brokers speak, of which there is at least one; the features are those of the
// newest answer. Borrows from them.
kafka::ApiVersionsResponse CommonApiVersions(
    std::span<const kafka::ApiVersionsResponse* const> brokers);

}  // namespace holdfast::proxy
