#include "broker/replicas.h"

#include <algorithm>

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using Reassignments = kafka::AlterPartitionReassignmentsRequest;

// Puts error and message, unless the replicas are the one that there is.
void Judge(const Topic* topic, int32_t node_id,
           const Reassignments::ReassignableTopic::ReassignablePartition& asked, auto& out) {
  if (topic == nullptr || topic->Find(asked.partition_index) == nullptr) {
    out.error_code = ErrorCode::kUnknownTopicOrPartition;
    out.error_message = "There is no such topic or partition.";
  } else if (!asked.replicas) {
    out.error_code = ErrorCode::kNoReassignmentInProgress;
    out.error_message = "No partition reassignment is in progress.";
  } else if (asked.replicas->empty()) {
    out.error_code = ErrorCode::kInvalidReplicaAssignment;
    out.error_message = "The manual partition assignment includes an empty replica list.";
  } else if (std::ranges::any_of(*asked.replicas, [&](int32_t id) { return id != node_id; })) {
    out.error_code = ErrorCode::kInvalidReplicaAssignment;
    out.error_message = "The manual partition assignment includes a broker that is not registered.";
  } else if (asked.replicas->size() > 1) {
    out.error_code = ErrorCode::kInvalidReplicaAssignment;
    out.error_message = "The manual partition assignment includes a broker more than once.";
  }
}

}  // namespace

kafka::ElectLeadersResponse ElectLeaders(const Topics& topics,
                                         const kafka::ElectLeadersRequest& request) {
  constexpr int8_t kPreferred = 0;
  constexpr int8_t kUnclean = 1;
  kafka::ElectLeadersResponse response;
  if (request.election_type != kPreferred && request.election_type != kUnclean) {
    response.error_code = ErrorCode::kInvalidRequest;
    return response;
  }
  // Asked for all, Kafka leaves out those that need no election.
  if (!request.topic_partitions) return response;
  for (const auto& asked : *request.topic_partitions) {
    auto& topic_out = response.replica_election_results.emplace_back();
    topic_out.topic = asked.topic;
    const Topic* topic = topics.Find(asked.topic);
    for (const int32_t index : asked.partitions) {
      auto& out = topic_out.partition_result.emplace_back();
      out.partition_id = index;
      if (topic == nullptr || topic->Find(index) == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
        out.error_message = "There is no such topic or partition.";
      } else {
        out.error_code = ErrorCode::kElectionNotNeeded;
        out.error_message = "Leader election not needed for topic partition.";
      }
    }
  }
  return response;
}

kafka::AlterPartitionReassignmentsResponse AlterPartitionReassignments(
    int32_t node_id, const Topics& topics, const Reassignments& request) {
  kafka::AlterPartitionReassignmentsResponse response;
  response.allow_replication_factor_change = request.allow_replication_factor_change;
  for (const auto& asked : request.topics) {
    auto& topic_out = response.responses.emplace_back();
    topic_out.name = asked.name;
    const Topic* topic = topics.Find(asked.name);
    for (const auto& partition : asked.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = partition.partition_index;
      Judge(topic, node_id, partition, out);
    }
  }
  return response;
}

}  // namespace holdfast::broker
