// What the agent tells its clients that it speaks: what the tier speaks, narrowed to what passes
// through unharmed, and with Produce as the agent itself takes it.
//
// Threads: any; pure.
#pragma once

#include <cstdint>

#include "kafka/api/api_versions.h"
#include "proxy/metadata_cache.h"

namespace holdfast::proxy {

// In the newest version that is taken. Topics are named in it: by id (from version 13 on) the
// agent would have to know each before its first record.
inline constexpr int16_t kProduceNewest = 12;
// From the next version on, brokers' addresses stand at the end of what may be megabytes of
// records.
inline constexpr int16_t kFetchNewest = 15;

// While the tier was never seen: what producers need, and what librdkafka takes as the sign that it
// may compress. Borrows from the cluster.
kafka::ApiVersionsResponse LocalApiVersions(const Cluster& cluster);

}  // namespace holdfast::proxy
