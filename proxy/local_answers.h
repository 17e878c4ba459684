// What the agent says for the tier while that is away, or for topics that the tier does not have
// yet: from the metadata cache, with the agent's own addresses.
//
// Leaders are the last known ones; since the agent takes records for any partition on any of its
// ports, any broker will do for a producer. Leader epochs are left out (-1): clients ignore answers
// whose epochs went back.
//
// Ownership: messages borrow from the cluster, the request and the addresses.
// Threads: any; pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/unique_function.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "kafka/api/push_telemetry.h"
#include "proxy/metadata_cache.h"
#include "proxy/rewrite.h"

namespace holdfast::proxy {

// The id under which the agent shows itself while no broker was ever seen.
inline constexpr int32_t kUnseenNode = 1;

// In version 0 an empty list means all topics, in later ones null does.
inline bool AsksForAll(const kafka::MetadataRequest& request, int16_t version) {
  return !request.topics || (version == 0 && request.topics->empty());
}

// Whether a topic may be shown.
using Shows = base::UniqueFunction<bool(std::string_view)>;

// A topic that is not known, or not to be shown, gets LEADER_NOT_AVAILABLE, on which clients wait
// and ask again. Without `shows` all may be.
kafka::MetadataResponse LocalMetadata(const Cluster& cluster, const LocalAddresses& local,
                                      const kafka::MetadataRequest& request, int16_t version,
                                      Shows shows = {});

// COORDINATOR_NOT_AVAILABLE for each key, on which clients wait and ask again.
kafka::FindCoordinatorResponse LocalFindCoordinator(const kafka::FindCoordinatorRequest& request,
                                                    int16_t version);

kafka::DescribeClusterResponse LocalDescribeCluster(const Cluster& cluster,
                                                    const LocalAddresses& local,
                                                    const kafka::DescribeClusterRequest& request);

// For transactional ids, which belong to a coordinator: COORDINATOR_NOT_AVAILABLE.
kafka::InitProducerIdResponse LocalInitProducerId();

// THROTTLING_QUOTA_EXCEEDED, on which clients keep their metrics for their next turn; on most other
// errors they would never push again.
kafka::GetTelemetrySubscriptionsResponse LocalTelemetrySubscriptions();
kafka::PushTelemetryResponse LocalPushTelemetry();

// Makes the tier's answer fit for producing: declared topics that the tier does not have are shown
// as declared, and partitions without a leader get the last known one.
void FillIn(kafka::MetadataResponse& response, const Cluster& cluster, const MetadataCache& cache);

}  // namespace holdfast::proxy
