// ElectLeaders and AlterPartitionReassignments, as a cluster of one node answers them: the broker
// is the one replica of each partition and leads it, so what asks for that is done already, and
// everything else is refused.
//
// Threads: plain functions on immutable values.
#pragma once

#include "broker/catalog.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/elect_leaders.h"

namespace holdfast::broker {

kafka::ElectLeadersResponse ElectLeaders(const Topics& topics,
                                         const kafka::ElectLeadersRequest& request);
kafka::AlterPartitionReassignmentsResponse AlterPartitionReassignments(
    int32_t node_id, const Topics& topics,
    const kafka::AlterPartitionReassignmentsRequest& request);

}  // namespace holdfast::broker
