// The values of every field, as the Java client's own classes wrote them (tools/golden): fields
// that changed places would survive decoding and encoding, but not this. Taken from the second
// element of each array in the newest version; fields that have been removed, from the oldest.
#include <gtest/gtest.h>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/produce.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "tests/golden/golden.h"

namespace holdfast::kafka {
namespace {

template <class Request>
Request GoldenRequest(const GoldenFrame& frame) {
  const base::Result<RequestHeader> header = ReadRequestHeader(frame.bytes);
  if (!header) {
    ADD_FAILURE() << header.error().message;
    return {};
  }
  base::Result<Request> request = DecodeRequest<Request>(frame.bytes, *header);
  if (!request) {
    ADD_FAILURE() << request.error().message;
    return {};
  }
  return *std::move(request);
}

template <class Response>
Response GoldenResponse(const GoldenFrame& frame) {
  base::Result<Response> response = DecodeResponse<Response>(frame.bytes, frame.version);
  if (!response) {
    ADD_FAILURE() << response.error().message;
    return {};
  }
  return *std::move(response);
}

TEST(KafkaFieldsTest, ApiVersionsRequest) {
  const GoldenFrame frame = FindGolden("ApiVersionsRequest", 4);
  const auto m = GoldenRequest<ApiVersionsRequest>(frame);
  EXPECT_EQ(m.client_software_name, "clientSoftwareName");
  EXPECT_EQ(m.client_software_version, "clientSoftwareVersion");
}

TEST(KafkaFieldsTest, ApiVersionsResponse) {
  const GoldenFrame frame = FindGolden("ApiVersionsResponse", 4);
  const auto m = GoldenResponse<ApiVersionsResponse>(frame);
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.api_keys[1].api_key, Int16("apiKeys.1.apiKey"));
  EXPECT_EQ(m.api_keys[1].min_version, Int16("apiKeys.1.minVersion"));
  EXPECT_EQ(m.api_keys[1].max_version, Int16("apiKeys.1.maxVersion"));
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.supported_features[1].name, "supportedFeatures.1.name");
  EXPECT_EQ(m.supported_features[1].min_version, Int16("supportedFeatures.1.minVersion"));
  EXPECT_EQ(m.supported_features[1].max_version, Int16("supportedFeatures.1.maxVersion"));
  EXPECT_EQ(m.finalized_features_epoch, Int64("finalizedFeaturesEpoch"));
  EXPECT_EQ(m.finalized_features[1].name, "finalizedFeatures.1.name");
  EXPECT_EQ(m.finalized_features[1].max_version_level,
            Int16("finalizedFeatures.1.maxVersionLevel"));
  EXPECT_EQ(m.finalized_features[1].min_version_level,
            Int16("finalizedFeatures.1.minVersionLevel"));
  EXPECT_EQ(m.zk_migration_ready, Bool("zkMigrationReady"));
}

TEST(KafkaFieldsTest, MetadataRequest) {
  const GoldenFrame frame = FindGolden("MetadataRequest", 13);
  const auto m = GoldenRequest<MetadataRequest>(frame);
  EXPECT_EQ((*m.topics)[1].topic_id, Id("topics.1.topicId"));
  EXPECT_EQ((*m.topics)[1].name, "topics.1.name");
  EXPECT_EQ(m.allow_auto_topic_creation, Bool("allowAutoTopicCreation"));
  EXPECT_EQ(m.include_topic_authorized_operations, Bool("includeTopicAuthorizedOperations"));
}

TEST(KafkaFieldsTest, MetadataResponse) {
  const GoldenFrame frame = FindGolden("MetadataResponse", 13);
  const auto m = GoldenResponse<MetadataResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.brokers[1].node_id, Int32("brokers.1.nodeId"));
  EXPECT_EQ(m.brokers[1].host, "brokers.1.host");
  EXPECT_EQ(m.brokers[1].port, Int32("brokers.1.port"));
  EXPECT_EQ(m.brokers[1].rack, "brokers.1.rack");
  EXPECT_EQ(m.cluster_id, "clusterId");
  EXPECT_EQ(m.controller_id, Int32("controllerId"));
  EXPECT_EQ(m.topics[1].error_code, Error("topics.1.errorCode"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
  EXPECT_EQ(m.topics[1].is_internal, Bool("topics.1.isInternal"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_id, Int32("topics.1.partitions.1.leaderId"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_epoch, Int32("topics.1.partitions.1.leaderEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].replica_nodes[1],
            Int32("topics.1.partitions.1.replicaNodes.1"));
  EXPECT_EQ(m.topics[1].partitions[1].isr_nodes[1], Int32("topics.1.partitions.1.isrNodes.1"));
  EXPECT_EQ(m.topics[1].partitions[1].offline_replicas[1],
            Int32("topics.1.partitions.1.offlineReplicas.1"));
  EXPECT_EQ(m.topics[1].topic_authorized_operations, Int32("topics.1.topicAuthorizedOperations"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
}

TEST(KafkaFieldsTest, MetadataOfTheVersionsWithClusterOperations) {
  const GoldenFrame asked = FindGolden("MetadataRequest", 10);
  EXPECT_EQ(GoldenRequest<MetadataRequest>(asked).include_cluster_authorized_operations,
            Bool("includeClusterAuthorizedOperations"));
  const GoldenFrame answered = FindGolden("MetadataResponse", 10);
  EXPECT_EQ(GoldenResponse<MetadataResponse>(answered).cluster_authorized_operations,
            Int32("clusterAuthorizedOperations"));
}

TEST(KafkaFieldsTest, DescribeClusterRequest) {
  const GoldenFrame frame = FindGolden("DescribeClusterRequest", 2);
  const auto m = GoldenRequest<DescribeClusterRequest>(frame);
  EXPECT_EQ(m.include_cluster_authorized_operations, Bool("includeClusterAuthorizedOperations"));
  EXPECT_EQ(m.endpoint_type, Int8("endpointType"));
  EXPECT_EQ(m.include_fenced_brokers, Bool("includeFencedBrokers"));
}

TEST(KafkaFieldsTest, DescribeClusterResponse) {
  const GoldenFrame frame = FindGolden("DescribeClusterResponse", 2);
  const auto m = GoldenResponse<DescribeClusterResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.error_message, "errorMessage");
  EXPECT_EQ(m.endpoint_type, Int8("endpointType"));
  EXPECT_EQ(m.cluster_id, "clusterId");
  EXPECT_EQ(m.controller_id, Int32("controllerId"));
  EXPECT_EQ(m.brokers[1].broker_id, Int32("brokers.1.brokerId"));
  EXPECT_EQ(m.brokers[1].host, "brokers.1.host");
  EXPECT_EQ(m.brokers[1].port, Int32("brokers.1.port"));
  EXPECT_EQ(m.brokers[1].rack, "brokers.1.rack");
  EXPECT_EQ(m.brokers[1].is_fenced, Bool("brokers.1.isFenced"));
  EXPECT_EQ(m.cluster_authorized_operations, Int32("clusterAuthorizedOperations"));
}

TEST(KafkaFieldsTest, FindCoordinatorRequest) {
  {
    const GoldenFrame frame = FindGolden("FindCoordinatorRequest", 6);
    const auto m = GoldenRequest<FindCoordinatorRequest>(frame);
    EXPECT_EQ(m.key_type, Int8("keyType"));
    EXPECT_EQ(m.coordinator_keys[1], "coordinatorKeys.1");
  }
  {
    const GoldenFrame frame = FindGolden("FindCoordinatorRequest", 0);
    const auto m = GoldenRequest<FindCoordinatorRequest>(frame);
    EXPECT_EQ(m.key, "key");
  }
}

TEST(KafkaFieldsTest, FindCoordinatorResponse) {
  {
    const GoldenFrame frame = FindGolden("FindCoordinatorResponse", 6);
    const auto m = GoldenResponse<FindCoordinatorResponse>(frame);
    EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
    EXPECT_EQ(m.coordinators[1].key, "coordinators.1.key");
    EXPECT_EQ(m.coordinators[1].node_id, Int32("coordinators.1.nodeId"));
    EXPECT_EQ(m.coordinators[1].host, "coordinators.1.host");
    EXPECT_EQ(m.coordinators[1].port, Int32("coordinators.1.port"));
    EXPECT_EQ(m.coordinators[1].error_code, Error("coordinators.1.errorCode"));
    EXPECT_EQ(m.coordinators[1].error_message, "coordinators.1.errorMessage");
  }
  {
    const GoldenFrame frame = FindGolden("FindCoordinatorResponse", 0);
    const auto m = GoldenResponse<FindCoordinatorResponse>(frame);
    EXPECT_EQ(m.error_code, Error("errorCode"));
    EXPECT_EQ(m.node_id, Int32("nodeId"));
    EXPECT_EQ(m.host, "host");
    EXPECT_EQ(m.port, Int32("port"));
  }
}

TEST(KafkaFieldsTest, DescribeTopicPartitionsRequest) {
  const GoldenFrame frame = FindGolden("DescribeTopicPartitionsRequest", 0);
  const auto m = GoldenRequest<DescribeTopicPartitionsRequest>(frame);
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.response_partition_limit, Int32("responsePartitionLimit"));
  EXPECT_EQ(m.cursor->topic_name, "cursor.topicName");
  EXPECT_EQ(m.cursor->partition_index, Int32("cursor.partitionIndex"));
}

TEST(KafkaFieldsTest, DescribeTopicPartitionsResponse) {
  const GoldenFrame frame = FindGolden("DescribeTopicPartitionsResponse", 0);
  const auto m = GoldenResponse<DescribeTopicPartitionsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].error_code, Error("topics.1.errorCode"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
  EXPECT_EQ(m.topics[1].is_internal, Bool("topics.1.isInternal"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_id, Int32("topics.1.partitions.1.leaderId"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_epoch, Int32("topics.1.partitions.1.leaderEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].replica_nodes[1],
            Int32("topics.1.partitions.1.replicaNodes.1"));
  EXPECT_EQ(m.topics[1].partitions[1].isr_nodes[1], Int32("topics.1.partitions.1.isrNodes.1"));
  EXPECT_EQ((*m.topics[1].partitions[1].eligible_leader_replicas)[1],
            Int32("topics.1.partitions.1.eligibleLeaderReplicas.1"));
  EXPECT_EQ((*m.topics[1].partitions[1].last_known_elr)[1],
            Int32("topics.1.partitions.1.lastKnownElr.1"));
  EXPECT_EQ(m.topics[1].partitions[1].offline_replicas[1],
            Int32("topics.1.partitions.1.offlineReplicas.1"));
  EXPECT_EQ(m.topics[1].topic_authorized_operations, Int32("topics.1.topicAuthorizedOperations"));
  EXPECT_EQ(m.next_cursor->topic_name, "nextCursor.topicName");
  EXPECT_EQ(m.next_cursor->partition_index, Int32("nextCursor.partitionIndex"));
}

TEST(KafkaFieldsTest, ProduceRequest) {
  {
    const GoldenFrame frame = FindGolden("ProduceRequest", 13);
    const auto m = GoldenRequest<ProduceRequest>(frame);
    EXPECT_EQ(m.transactional_id, "transactionalId");
    EXPECT_EQ(m.acks, Int16("acks"));
    EXPECT_EQ(m.timeout_ms, Int32("timeoutMs"));
    EXPECT_EQ(m.topic_data[1].topic_id, Id("topicData.1.topicId"));
    EXPECT_EQ(m.topic_data[1].partition_data[1].index, Int32("topicData.1.partitionData.1.index"));
    EXPECT_EQ(m.topic_data[1].partition_data[1].records, "topicData.1.partitionData.1.records");
  }
  {
    const GoldenFrame frame = FindGolden("ProduceRequest", 3);
    const auto m = GoldenRequest<ProduceRequest>(frame);
    EXPECT_EQ(m.topic_data[1].name, "topicData.1.name");
  }
}

TEST(KafkaFieldsTest, ProduceResponse) {
  {
    const GoldenFrame frame = FindGolden("ProduceResponse", 13);
    const auto m = GoldenResponse<ProduceResponse>(frame);
    EXPECT_EQ(m.responses[1].topic_id, Id("responses.1.topicId"));
    EXPECT_EQ(m.responses[1].partition_responses[1].index,
              Int32("responses.1.partitionResponses.1.index"));
    EXPECT_EQ(m.responses[1].partition_responses[1].error_code,
              Error("responses.1.partitionResponses.1.errorCode"));
    EXPECT_EQ(m.responses[1].partition_responses[1].base_offset,
              Int64("responses.1.partitionResponses.1.baseOffset"));
    EXPECT_EQ(m.responses[1].partition_responses[1].log_append_time_ms,
              Int64("responses.1.partitionResponses.1.logAppendTimeMs"));
    EXPECT_EQ(m.responses[1].partition_responses[1].log_start_offset,
              Int64("responses.1.partitionResponses.1.logStartOffset"));
    EXPECT_EQ(m.responses[1].partition_responses[1].record_errors[1].batch_index,
              Int32("responses.1.partitionResponses.1.recordErrors.1.batchIndex"));
    EXPECT_EQ(m.responses[1].partition_responses[1].record_errors[1].batch_index_error_message,
              "responses.1.partitionResponses.1.recordErrors.1.batchIndexErrorMessage");
    EXPECT_EQ(m.responses[1].partition_responses[1].error_message,
              "responses.1.partitionResponses.1.errorMessage");
    EXPECT_EQ(m.responses[1].partition_responses[1].current_leader.leader_id,
              Int32("responses.1.partitionResponses.1.currentLeader.leaderId"));
    EXPECT_EQ(m.responses[1].partition_responses[1].current_leader.leader_epoch,
              Int32("responses.1.partitionResponses.1.currentLeader.leaderEpoch"));
    EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
    EXPECT_EQ(m.node_endpoints[1].node_id, Int32("nodeEndpoints.1.nodeId"));
    EXPECT_EQ(m.node_endpoints[1].host, "nodeEndpoints.1.host");
    EXPECT_EQ(m.node_endpoints[1].port, Int32("nodeEndpoints.1.port"));
    EXPECT_EQ(m.node_endpoints[1].rack, "nodeEndpoints.1.rack");
  }
  {
    const GoldenFrame frame = FindGolden("ProduceResponse", 3);
    const auto m = GoldenResponse<ProduceResponse>(frame);
    EXPECT_EQ(m.responses[1].name, "responses.1.name");
  }
}

TEST(KafkaFieldsTest, FetchRequest) {
  {
    const GoldenFrame frame = FindGolden("FetchRequest", 18);
    const auto m = GoldenRequest<FetchRequest>(frame);
    EXPECT_EQ(m.cluster_id, "clusterId");
    EXPECT_EQ(m.replica_state.replica_id, Int32("replicaState.replicaId"));
    EXPECT_EQ(m.replica_state.replica_epoch, Int64("replicaState.replicaEpoch"));
    EXPECT_EQ(m.max_wait_ms, Int32("maxWaitMs"));
    EXPECT_EQ(m.min_bytes, Int32("minBytes"));
    EXPECT_EQ(m.max_bytes, Int32("maxBytes"));
    EXPECT_EQ(m.isolation_level, Int8("isolationLevel"));
    EXPECT_EQ(m.session_id, Int32("sessionId"));
    EXPECT_EQ(m.session_epoch, Int32("sessionEpoch"));
    EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
    EXPECT_EQ(m.topics[1].partitions[1].partition, Int32("topics.1.partitions.1.partition"));
    EXPECT_EQ(m.topics[1].partitions[1].current_leader_epoch,
              Int32("topics.1.partitions.1.currentLeaderEpoch"));
    EXPECT_EQ(m.topics[1].partitions[1].fetch_offset, Int64("topics.1.partitions.1.fetchOffset"));
    EXPECT_EQ(m.topics[1].partitions[1].last_fetched_epoch,
              Int32("topics.1.partitions.1.lastFetchedEpoch"));
    EXPECT_EQ(m.topics[1].partitions[1].log_start_offset,
              Int64("topics.1.partitions.1.logStartOffset"));
    EXPECT_EQ(m.topics[1].partitions[1].partition_max_bytes,
              Int32("topics.1.partitions.1.partitionMaxBytes"));
    EXPECT_EQ(m.topics[1].partitions[1].replica_directory_id,
              Id("topics.1.partitions.1.replicaDirectoryId"));
    EXPECT_EQ(m.topics[1].partitions[1].high_watermark,
              Int64("topics.1.partitions.1.highWatermark"));
    EXPECT_EQ(m.forgotten_topics_data[1].topic_id, Id("forgottenTopicsData.1.topicId"));
    EXPECT_EQ(m.forgotten_topics_data[1].partitions[1],
              Int32("forgottenTopicsData.1.partitions.1"));
    EXPECT_EQ(m.rack_id, "rackId");
  }
  {
    const GoldenFrame frame = FindGolden("FetchRequest", 4);
    const auto m = GoldenRequest<FetchRequest>(frame);
    EXPECT_EQ(m.replica_id, Int32("replicaId"));
    EXPECT_EQ(m.topics[1].topic, "topics.1.topic");
  }
}

TEST(KafkaFieldsTest, FetchResponse) {
  {
    const GoldenFrame frame = FindGolden("FetchResponse", 18);
    const auto m = GoldenResponse<FetchResponse>(frame);
    EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
    EXPECT_EQ(m.error_code, Error("errorCode"));
    EXPECT_EQ(m.session_id, Int32("sessionId"));
    EXPECT_EQ(m.responses[1].topic_id, Id("responses.1.topicId"));
    EXPECT_EQ(m.responses[1].partitions[1].partition_index,
              Int32("responses.1.partitions.1.partitionIndex"));
    EXPECT_EQ(m.responses[1].partitions[1].error_code, Error("responses.1.partitions.1.errorCode"));
    EXPECT_EQ(m.responses[1].partitions[1].high_watermark,
              Int64("responses.1.partitions.1.highWatermark"));
    EXPECT_EQ(m.responses[1].partitions[1].last_stable_offset,
              Int64("responses.1.partitions.1.lastStableOffset"));
    EXPECT_EQ(m.responses[1].partitions[1].log_start_offset,
              Int64("responses.1.partitions.1.logStartOffset"));
    EXPECT_EQ(m.responses[1].partitions[1].diverging_epoch.epoch,
              Int32("responses.1.partitions.1.divergingEpoch.epoch"));
    EXPECT_EQ(m.responses[1].partitions[1].diverging_epoch.end_offset,
              Int64("responses.1.partitions.1.divergingEpoch.endOffset"));
    EXPECT_EQ(m.responses[1].partitions[1].current_leader.leader_id,
              Int32("responses.1.partitions.1.currentLeader.leaderId"));
    EXPECT_EQ(m.responses[1].partitions[1].current_leader.leader_epoch,
              Int32("responses.1.partitions.1.currentLeader.leaderEpoch"));
    EXPECT_EQ(m.responses[1].partitions[1].snapshot_id.end_offset,
              Int64("responses.1.partitions.1.snapshotId.endOffset"));
    EXPECT_EQ(m.responses[1].partitions[1].snapshot_id.epoch,
              Int32("responses.1.partitions.1.snapshotId.epoch"));
    EXPECT_EQ((*m.responses[1].partitions[1].aborted_transactions)[1].producer_id,
              Int64("responses.1.partitions.1.abortedTransactions.1.producerId"));
    EXPECT_EQ((*m.responses[1].partitions[1].aborted_transactions)[1].first_offset,
              Int64("responses.1.partitions.1.abortedTransactions.1.firstOffset"));
    EXPECT_EQ(m.responses[1].partitions[1].preferred_read_replica,
              Int32("responses.1.partitions.1.preferredReadReplica"));
    EXPECT_EQ(m.responses[1].partitions[1].records, "responses.1.partitions.1.records");
    EXPECT_EQ(m.node_endpoints[1].node_id, Int32("nodeEndpoints.1.nodeId"));
    EXPECT_EQ(m.node_endpoints[1].host, "nodeEndpoints.1.host");
    EXPECT_EQ(m.node_endpoints[1].port, Int32("nodeEndpoints.1.port"));
    EXPECT_EQ(m.node_endpoints[1].rack, "nodeEndpoints.1.rack");
  }
  {
    const GoldenFrame frame = FindGolden("FetchResponse", 4);
    const auto m = GoldenResponse<FetchResponse>(frame);
    EXPECT_EQ(m.responses[1].topic, "responses.1.topic");
  }
}

TEST(KafkaFieldsTest, ListOffsetsRequest) {
  const GoldenFrame frame = FindGolden("ListOffsetsRequest", 11);
  const auto m = GoldenRequest<ListOffsetsRequest>(frame);
  EXPECT_EQ(m.replica_id, Int32("replicaId"));
  EXPECT_EQ(m.isolation_level, Int8("isolationLevel"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].current_leader_epoch,
            Int32("topics.1.partitions.1.currentLeaderEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].timestamp, Int64("topics.1.partitions.1.timestamp"));
  EXPECT_EQ(m.timeout_ms, Int32("timeoutMs"));
}

TEST(KafkaFieldsTest, ListOffsetsResponse) {
  const GoldenFrame frame = FindGolden("ListOffsetsResponse", 11);
  const auto m = GoldenResponse<ListOffsetsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  EXPECT_EQ(m.topics[1].partitions[1].timestamp, Int64("topics.1.partitions.1.timestamp"));
  EXPECT_EQ(m.topics[1].partitions[1].offset, Int64("topics.1.partitions.1.offset"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_epoch, Int32("topics.1.partitions.1.leaderEpoch"));
}

TEST(KafkaFieldsTest, OffsetForLeaderEpochRequest) {
  const GoldenFrame frame = FindGolden("OffsetForLeaderEpochRequest", 4);
  const auto m = GoldenRequest<OffsetForLeaderEpochRequest>(frame);
  EXPECT_EQ(m.replica_id, Int32("replicaId"));
  EXPECT_EQ(m.topics[1].topic, "topics.1.topic");
  EXPECT_EQ(m.topics[1].partitions[1].partition, Int32("topics.1.partitions.1.partition"));
  EXPECT_EQ(m.topics[1].partitions[1].current_leader_epoch,
            Int32("topics.1.partitions.1.currentLeaderEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_epoch, Int32("topics.1.partitions.1.leaderEpoch"));
}

TEST(KafkaFieldsTest, OffsetForLeaderEpochResponse) {
  const GoldenFrame frame = FindGolden("OffsetForLeaderEpochResponse", 4);
  const auto m = GoldenResponse<OffsetForLeaderEpochResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].topic, "topics.1.topic");
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  EXPECT_EQ(m.topics[1].partitions[1].partition, Int32("topics.1.partitions.1.partition"));
  EXPECT_EQ(m.topics[1].partitions[1].leader_epoch, Int32("topics.1.partitions.1.leaderEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].end_offset, Int64("topics.1.partitions.1.endOffset"));
}

TEST(KafkaFieldsTest, DescribeProducersRequest) {
  const GoldenFrame frame = FindGolden("DescribeProducersRequest", 0);
  const auto m = GoldenRequest<DescribeProducersRequest>(frame);
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partition_indexes[1], Int32("topics.1.partitionIndexes.1"));
}

TEST(KafkaFieldsTest, DescribeProducersResponse) {
  const GoldenFrame frame = FindGolden("DescribeProducersResponse", 0);
  const auto m = GoldenResponse<DescribeProducersResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  EXPECT_EQ(m.topics[1].partitions[1].error_message, "topics.1.partitions.1.errorMessage");
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].producer_id,
            Int64("topics.1.partitions.1.activeProducers.1.producerId"));
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].producer_epoch,
            Int32("topics.1.partitions.1.activeProducers.1.producerEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].last_sequence,
            Int32("topics.1.partitions.1.activeProducers.1.lastSequence"));
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].last_timestamp,
            Int64("topics.1.partitions.1.activeProducers.1.lastTimestamp"));
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].coordinator_epoch,
            Int32("topics.1.partitions.1.activeProducers.1.coordinatorEpoch"));
  EXPECT_EQ(m.topics[1].partitions[1].active_producers[1].current_txn_start_offset,
            Int64("topics.1.partitions.1.activeProducers.1.currentTxnStartOffset"));
}

TEST(KafkaFieldsTest, InitProducerIdRequest) {
  const GoldenFrame frame = FindGolden("InitProducerIdRequest", 5);
  const auto m = GoldenRequest<InitProducerIdRequest>(frame);
  EXPECT_EQ(m.transactional_id, "transactionalId");
  EXPECT_EQ(m.transaction_timeout_ms, Int32("transactionTimeoutMs"));
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
}

TEST(KafkaFieldsTest, InitProducerIdResponse) {
  const GoldenFrame frame = FindGolden("InitProducerIdResponse", 5);
  const auto m = GoldenResponse<InitProducerIdResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
}

TEST(KafkaFieldsTest, JoinGroupRequest) {
  const GoldenFrame frame = FindGolden("JoinGroupRequest", 9);
  const auto m = GoldenRequest<JoinGroupRequest>(frame);
  EXPECT_EQ(m.group_id, "groupId");
  EXPECT_EQ(m.session_timeout_ms, Int32("sessionTimeoutMs"));
  EXPECT_EQ(m.rebalance_timeout_ms, Int32("rebalanceTimeoutMs"));
  EXPECT_EQ(m.member_id, "memberId");
  EXPECT_EQ(m.group_instance_id, "groupInstanceId");
  EXPECT_EQ(m.protocol_type, "protocolType");
  EXPECT_EQ(m.protocols[1].name, "protocols.1.name");
  EXPECT_EQ(m.protocols[1].metadata, "protocols.1.metadata");
  EXPECT_EQ(m.reason, "reason");
}

TEST(KafkaFieldsTest, JoinGroupResponse) {
  const GoldenFrame frame = FindGolden("JoinGroupResponse", 9);
  const auto m = GoldenResponse<JoinGroupResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.generation_id, Int32("generationId"));
  EXPECT_EQ(m.protocol_type, "protocolType");
  EXPECT_EQ(m.protocol_name, "protocolName");
  EXPECT_EQ(m.leader, "leader");
  EXPECT_EQ(m.skip_assignment, Bool("skipAssignment"));
  EXPECT_EQ(m.member_id, "memberId");
  EXPECT_EQ(m.members[1].member_id, "members.1.memberId");
  EXPECT_EQ(m.members[1].group_instance_id, "members.1.groupInstanceId");
  EXPECT_EQ(m.members[1].metadata, "members.1.metadata");
}

TEST(KafkaFieldsTest, SyncGroupRequest) {
  const GoldenFrame frame = FindGolden("SyncGroupRequest", 5);
  const auto m = GoldenRequest<SyncGroupRequest>(frame);
  EXPECT_EQ(m.group_id, "groupId");
  EXPECT_EQ(m.generation_id, Int32("generationId"));
  EXPECT_EQ(m.member_id, "memberId");
  EXPECT_EQ(m.group_instance_id, "groupInstanceId");
  EXPECT_EQ(m.protocol_type, "protocolType");
  EXPECT_EQ(m.protocol_name, "protocolName");
  EXPECT_EQ(m.assignments[1].member_id, "assignments.1.memberId");
  EXPECT_EQ(m.assignments[1].assignment, "assignments.1.assignment");
}

TEST(KafkaFieldsTest, SyncGroupResponse) {
  const GoldenFrame frame = FindGolden("SyncGroupResponse", 5);
  const auto m = GoldenResponse<SyncGroupResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.protocol_type, "protocolType");
  EXPECT_EQ(m.protocol_name, "protocolName");
  EXPECT_EQ(m.assignment, "assignment");
}

TEST(KafkaFieldsTest, HeartbeatRequest) {
  const GoldenFrame frame = FindGolden("HeartbeatRequest", 4);
  const auto m = GoldenRequest<HeartbeatRequest>(frame);
  EXPECT_EQ(m.group_id, "groupId");
  EXPECT_EQ(m.generation_id, Int32("generationId"));
  EXPECT_EQ(m.member_id, "memberId");
  EXPECT_EQ(m.group_instance_id, "groupInstanceId");
}

TEST(KafkaFieldsTest, HeartbeatResponse) {
  const GoldenFrame frame = FindGolden("HeartbeatResponse", 4);
  const auto m = GoldenResponse<HeartbeatResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
}

TEST(KafkaFieldsTest, LeaveGroupRequest) {
  {
    const GoldenFrame frame = FindGolden("LeaveGroupRequest", 5);
    const auto m = GoldenRequest<LeaveGroupRequest>(frame);
    EXPECT_EQ(m.group_id, "groupId");
    EXPECT_EQ(m.members[1].member_id, "members.1.memberId");
    EXPECT_EQ(m.members[1].group_instance_id, "members.1.groupInstanceId");
    EXPECT_EQ(m.members[1].reason, "members.1.reason");
  }
  {
    const GoldenFrame frame = FindGolden("LeaveGroupRequest", 0);
    const auto m = GoldenRequest<LeaveGroupRequest>(frame);
    EXPECT_EQ(m.member_id, "memberId");
  }
}

TEST(KafkaFieldsTest, LeaveGroupResponse) {
  const GoldenFrame frame = FindGolden("LeaveGroupResponse", 5);
  const auto m = GoldenResponse<LeaveGroupResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.members[1].member_id, "members.1.memberId");
  EXPECT_EQ(m.members[1].group_instance_id, "members.1.groupInstanceId");
  EXPECT_EQ(m.members[1].error_code, Error("members.1.errorCode"));
}

TEST(KafkaFieldsTest, DescribeGroupsRequest) {
  const GoldenFrame frame = FindGolden("DescribeGroupsRequest", 6);
  const auto m = GoldenRequest<DescribeGroupsRequest>(frame);
  EXPECT_EQ(m.groups[1], "groups.1");
  EXPECT_EQ(m.include_authorized_operations, Bool("includeAuthorizedOperations"));
}

TEST(KafkaFieldsTest, DescribeGroupsResponse) {
  const GoldenFrame frame = FindGolden("DescribeGroupsResponse", 6);
  const auto m = GoldenResponse<DescribeGroupsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.groups[1].error_code, Error("groups.1.errorCode"));
  EXPECT_EQ(m.groups[1].error_message, "groups.1.errorMessage");
  EXPECT_EQ(m.groups[1].group_id, "groups.1.groupId");
  EXPECT_EQ(m.groups[1].group_state, "groups.1.groupState");
  EXPECT_EQ(m.groups[1].protocol_type, "groups.1.protocolType");
  EXPECT_EQ(m.groups[1].protocol_data, "groups.1.protocolData");
  EXPECT_EQ(m.groups[1].members[1].member_id, "groups.1.members.1.memberId");
  EXPECT_EQ(m.groups[1].members[1].group_instance_id, "groups.1.members.1.groupInstanceId");
  EXPECT_EQ(m.groups[1].members[1].client_id, "groups.1.members.1.clientId");
  EXPECT_EQ(m.groups[1].members[1].client_host, "groups.1.members.1.clientHost");
  EXPECT_EQ(m.groups[1].members[1].member_metadata, "groups.1.members.1.memberMetadata");
  EXPECT_EQ(m.groups[1].members[1].member_assignment, "groups.1.members.1.memberAssignment");
  EXPECT_EQ(m.groups[1].authorized_operations, Int32("groups.1.authorizedOperations"));
}

TEST(KafkaFieldsTest, ListGroupsRequest) {
  const GoldenFrame frame = FindGolden("ListGroupsRequest", 5);
  const auto m = GoldenRequest<ListGroupsRequest>(frame);
  EXPECT_EQ(m.states_filter[1], "statesFilter.1");
  EXPECT_EQ(m.types_filter[1], "typesFilter.1");
}

TEST(KafkaFieldsTest, ListGroupsResponse) {
  const GoldenFrame frame = FindGolden("ListGroupsResponse", 5);
  const auto m = GoldenResponse<ListGroupsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.groups[1].group_id, "groups.1.groupId");
  EXPECT_EQ(m.groups[1].protocol_type, "groups.1.protocolType");
  EXPECT_EQ(m.groups[1].group_state, "groups.1.groupState");
  EXPECT_EQ(m.groups[1].group_type, "groups.1.groupType");
}

TEST(KafkaFieldsTest, DeleteGroupsRequest) {
  const GoldenFrame frame = FindGolden("DeleteGroupsRequest", 2);
  const auto m = GoldenRequest<DeleteGroupsRequest>(frame);
  EXPECT_EQ(m.groups_names[1], "groupsNames.1");
}

TEST(KafkaFieldsTest, DeleteGroupsResponse) {
  const GoldenFrame frame = FindGolden("DeleteGroupsResponse", 2);
  const auto m = GoldenResponse<DeleteGroupsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.results[1].group_id, "results.1.groupId");
  EXPECT_EQ(m.results[1].error_code, Error("results.1.errorCode"));
}

TEST(KafkaFieldsTest, OffsetCommitRequest) {
  {
    const GoldenFrame frame = FindGolden("OffsetCommitRequest", 10);
    const auto m = GoldenRequest<OffsetCommitRequest>(frame);
    EXPECT_EQ(m.group_id, "groupId");
    EXPECT_EQ(m.generation_id_or_member_epoch, Int32("generationIdOrMemberEpoch"));
    EXPECT_EQ(m.member_id, "memberId");
    EXPECT_EQ(m.group_instance_id, "groupInstanceId");
    EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
    EXPECT_EQ(m.topics[1].partitions[1].partition_index,
              Int32("topics.1.partitions.1.partitionIndex"));
    EXPECT_EQ(m.topics[1].partitions[1].committed_offset,
              Int64("topics.1.partitions.1.committedOffset"));
    EXPECT_EQ(m.topics[1].partitions[1].committed_leader_epoch,
              Int32("topics.1.partitions.1.committedLeaderEpoch"));
    EXPECT_EQ(m.topics[1].partitions[1].committed_metadata,
              "topics.1.partitions.1.committedMetadata");
  }
  {
    const GoldenFrame frame = FindGolden("OffsetCommitRequest", 2);
    const auto m = GoldenRequest<OffsetCommitRequest>(frame);
    EXPECT_EQ(m.retention_time_ms, Int64("retentionTimeMs"));
    EXPECT_EQ(m.topics[1].name, "topics.1.name");
  }
}

TEST(KafkaFieldsTest, OffsetCommitResponse) {
  {
    const GoldenFrame frame = FindGolden("OffsetCommitResponse", 10);
    const auto m = GoldenResponse<OffsetCommitResponse>(frame);
    EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
    EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
    EXPECT_EQ(m.topics[1].partitions[1].partition_index,
              Int32("topics.1.partitions.1.partitionIndex"));
    EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  }
  {
    const GoldenFrame frame = FindGolden("OffsetCommitResponse", 2);
    const auto m = GoldenResponse<OffsetCommitResponse>(frame);
    EXPECT_EQ(m.topics[1].name, "topics.1.name");
  }
}

TEST(KafkaFieldsTest, OffsetFetchRequest) {
  {
    const GoldenFrame frame = FindGolden("OffsetFetchRequest", 10);
    const auto m = GoldenRequest<OffsetFetchRequest>(frame);
    EXPECT_EQ(m.groups[1].group_id, "groups.1.groupId");
    EXPECT_EQ(m.groups[1].member_id, "groups.1.memberId");
    EXPECT_EQ(m.groups[1].member_epoch, Int32("groups.1.memberEpoch"));
    EXPECT_EQ((*m.groups[1].topics)[1].topic_id, Id("groups.1.topics.1.topicId"));
    EXPECT_EQ((*m.groups[1].topics)[1].partition_indexes[1],
              Int32("groups.1.topics.1.partitionIndexes.1"));
    EXPECT_EQ(m.require_stable, Bool("requireStable"));
  }
  {
    const GoldenFrame frame = FindGolden("OffsetFetchRequest", 1);
    const auto m = GoldenRequest<OffsetFetchRequest>(frame);
    EXPECT_EQ(m.group_id, "groupId");
    EXPECT_EQ((*m.topics)[1].name, "topics.1.name");
    EXPECT_EQ((*m.topics)[1].partition_indexes[1], Int32("topics.1.partitionIndexes.1"));
  }
}

TEST(KafkaFieldsTest, OffsetFetchResponse) {
  {
    const GoldenFrame frame = FindGolden("OffsetFetchResponse", 10);
    const auto m = GoldenResponse<OffsetFetchResponse>(frame);
    EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
    EXPECT_EQ(m.groups[1].group_id, "groups.1.groupId");
    EXPECT_EQ(m.groups[1].topics[1].topic_id, Id("groups.1.topics.1.topicId"));
    EXPECT_EQ(m.groups[1].topics[1].partitions[1].partition_index,
              Int32("groups.1.topics.1.partitions.1.partitionIndex"));
    EXPECT_EQ(m.groups[1].topics[1].partitions[1].committed_offset,
              Int64("groups.1.topics.1.partitions.1.committedOffset"));
    EXPECT_EQ(m.groups[1].topics[1].partitions[1].committed_leader_epoch,
              Int32("groups.1.topics.1.partitions.1.committedLeaderEpoch"));
    EXPECT_EQ(m.groups[1].topics[1].partitions[1].metadata,
              "groups.1.topics.1.partitions.1.metadata");
    EXPECT_EQ(m.groups[1].topics[1].partitions[1].error_code,
              Error("groups.1.topics.1.partitions.1.errorCode"));
    EXPECT_EQ(m.groups[1].error_code, Error("groups.1.errorCode"));
  }
  {
    const GoldenFrame frame = FindGolden("OffsetFetchResponse", 1);
    const auto m = GoldenResponse<OffsetFetchResponse>(frame);
    EXPECT_EQ(m.topics[1].name, "topics.1.name");
    EXPECT_EQ(m.topics[1].partitions[1].partition_index,
              Int32("topics.1.partitions.1.partitionIndex"));
    EXPECT_EQ(m.topics[1].partitions[1].committed_offset,
              Int64("topics.1.partitions.1.committedOffset"));
    EXPECT_EQ(m.topics[1].partitions[1].metadata, "topics.1.partitions.1.metadata");
    EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
  }
}

TEST(KafkaFieldsTest, OffsetDeleteRequest) {
  const GoldenFrame frame = FindGolden("OffsetDeleteRequest", 0);
  const auto m = GoldenRequest<OffsetDeleteRequest>(frame);
  EXPECT_EQ(m.group_id, "groupId");
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
}

TEST(KafkaFieldsTest, OffsetDeleteResponse) {
  const GoldenFrame frame = FindGolden("OffsetDeleteResponse", 0);
  const auto m = GoldenResponse<OffsetDeleteResponse>(frame);
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
}

TEST(KafkaFieldsTest, CreateTopicsRequest) {
  const GoldenFrame frame = FindGolden("CreateTopicsRequest", 7);
  const auto m = GoldenRequest<CreateTopicsRequest>(frame);
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].num_partitions, Int32("topics.1.numPartitions"));
  EXPECT_EQ(m.topics[1].replication_factor, Int16("topics.1.replicationFactor"));
  EXPECT_EQ(m.topics[1].assignments[1].partition_index,
            Int32("topics.1.assignments.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].assignments[1].broker_ids[1], Int32("topics.1.assignments.1.brokerIds.1"));
  EXPECT_EQ(m.topics[1].configs[1].name, "topics.1.configs.1.name");
  EXPECT_EQ(m.topics[1].configs[1].value, "topics.1.configs.1.value");
  EXPECT_EQ(m.timeout_ms, Int32("timeoutMs"));
  EXPECT_EQ(m.validate_only, Bool("validateOnly"));
}

TEST(KafkaFieldsTest, CreateTopicsResponse) {
  const GoldenFrame frame = FindGolden("CreateTopicsResponse", 7);
  const auto m = GoldenResponse<CreateTopicsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
  EXPECT_EQ(m.topics[1].error_code, Error("topics.1.errorCode"));
  EXPECT_EQ(m.topics[1].error_message, "topics.1.errorMessage");
  EXPECT_EQ(m.topics[1].topic_config_error_code, Error("topics.1.topicConfigErrorCode"));
  EXPECT_EQ(m.topics[1].num_partitions, Int32("topics.1.numPartitions"));
  EXPECT_EQ(m.topics[1].replication_factor, Int16("topics.1.replicationFactor"));
  EXPECT_EQ((*m.topics[1].configs)[1].name, "topics.1.configs.1.name");
  EXPECT_EQ((*m.topics[1].configs)[1].value, "topics.1.configs.1.value");
  EXPECT_EQ((*m.topics[1].configs)[1].read_only, Bool("topics.1.configs.1.readOnly"));
  EXPECT_EQ((*m.topics[1].configs)[1].config_source, Int8("topics.1.configs.1.configSource"));
  EXPECT_EQ((*m.topics[1].configs)[1].is_sensitive, Bool("topics.1.configs.1.isSensitive"));
}

TEST(KafkaFieldsTest, DeleteTopicsRequest) {
  {
    const GoldenFrame frame = FindGolden("DeleteTopicsRequest", 6);
    const auto m = GoldenRequest<DeleteTopicsRequest>(frame);
    EXPECT_EQ(m.topics[1].name, "topics.1.name");
    EXPECT_EQ(m.topics[1].topic_id, Id("topics.1.topicId"));
    EXPECT_EQ(m.timeout_ms, Int32("timeoutMs"));
  }
  {
    const GoldenFrame frame = FindGolden("DeleteTopicsRequest", 1);
    const auto m = GoldenRequest<DeleteTopicsRequest>(frame);
    EXPECT_EQ(m.topic_names[1], "topicNames.1");
  }
}

TEST(KafkaFieldsTest, DeleteTopicsResponse) {
  const GoldenFrame frame = FindGolden("DeleteTopicsResponse", 6);
  const auto m = GoldenResponse<DeleteTopicsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.responses[1].name, "responses.1.name");
  EXPECT_EQ(m.responses[1].topic_id, Id("responses.1.topicId"));
  EXPECT_EQ(m.responses[1].error_code, Error("responses.1.errorCode"));
  EXPECT_EQ(m.responses[1].error_message, "responses.1.errorMessage");
}

TEST(KafkaFieldsTest, CreatePartitionsRequest) {
  const GoldenFrame frame = FindGolden("CreatePartitionsRequest", 3);
  const auto m = GoldenRequest<CreatePartitionsRequest>(frame);
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].count, Int32("topics.1.count"));
  EXPECT_EQ((*m.topics[1].assignments)[1].broker_ids[1],
            Int32("topics.1.assignments.1.brokerIds.1"));
  EXPECT_EQ(m.timeout_ms, Int32("timeoutMs"));
  EXPECT_EQ(m.validate_only, Bool("validateOnly"));
}

TEST(KafkaFieldsTest, CreatePartitionsResponse) {
  const GoldenFrame frame = FindGolden("CreatePartitionsResponse", 3);
  const auto m = GoldenResponse<CreatePartitionsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.results[1].name, "results.1.name");
  EXPECT_EQ(m.results[1].error_code, Error("results.1.errorCode"));
  EXPECT_EQ(m.results[1].error_message, "results.1.errorMessage");
}

TEST(KafkaFieldsTest, DescribeConfigsRequest) {
  const GoldenFrame frame = FindGolden("DescribeConfigsRequest", 4);
  const auto m = GoldenRequest<DescribeConfigsRequest>(frame);
  EXPECT_EQ(m.resources[1].resource_type, Int8("resources.1.resourceType"));
  EXPECT_EQ(m.resources[1].resource_name, "resources.1.resourceName");
  EXPECT_EQ((*m.resources[1].configuration_keys)[1], "resources.1.configurationKeys.1");
  EXPECT_EQ(m.include_synonyms, Bool("includeSynonyms"));
  EXPECT_EQ(m.include_documentation, Bool("includeDocumentation"));
}

TEST(KafkaFieldsTest, DescribeConfigsResponse) {
  const GoldenFrame frame = FindGolden("DescribeConfigsResponse", 4);
  const auto m = GoldenResponse<DescribeConfigsResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.results[1].error_code, Error("results.1.errorCode"));
  EXPECT_EQ(m.results[1].error_message, "results.1.errorMessage");
  EXPECT_EQ(m.results[1].resource_type, Int8("results.1.resourceType"));
  EXPECT_EQ(m.results[1].resource_name, "results.1.resourceName");
  EXPECT_EQ(m.results[1].configs[1].name, "results.1.configs.1.name");
  EXPECT_EQ(m.results[1].configs[1].value, "results.1.configs.1.value");
  EXPECT_EQ(m.results[1].configs[1].read_only, Bool("results.1.configs.1.readOnly"));
  EXPECT_EQ(m.results[1].configs[1].config_source, Int8("results.1.configs.1.configSource"));
  EXPECT_EQ(m.results[1].configs[1].is_sensitive, Bool("results.1.configs.1.isSensitive"));
  EXPECT_EQ(m.results[1].configs[1].synonyms[1].name, "results.1.configs.1.synonyms.1.name");
  EXPECT_EQ(m.results[1].configs[1].synonyms[1].value, "results.1.configs.1.synonyms.1.value");
  EXPECT_EQ(m.results[1].configs[1].synonyms[1].source,
            Int8("results.1.configs.1.synonyms.1.source"));
  EXPECT_EQ(m.results[1].configs[1].config_type, Int8("results.1.configs.1.configType"));
  EXPECT_EQ(m.results[1].configs[1].documentation, "results.1.configs.1.documentation");
}

TEST(KafkaFieldsTest, AddPartitionsToTxnRequest) {
  const GoldenFrame frame = FindGolden("AddPartitionsToTxnRequest", 5);
  const auto m = GoldenRequest<AddPartitionsToTxnRequest>(frame);
  EXPECT_EQ(m.transactions[1].transactional_id, "transactions.1.transactionalId");
  EXPECT_EQ(m.transactions[1].producer_id, Int64("transactions.1.producerId"));
  EXPECT_EQ(m.transactions[1].producer_epoch, Int16("transactions.1.producerEpoch"));
  EXPECT_EQ(m.transactions[1].verify_only, Bool("transactions.1.verifyOnly"));
  EXPECT_EQ(m.transactions[1].topics[1].name, "transactions.1.topics.1.name");
  EXPECT_EQ(m.transactions[1].topics[1].partitions[1],
            Int32("transactions.1.topics.1.partitions.1"));
  const GoldenFrame old = FindGolden("AddPartitionsToTxnRequest", 3);
  const auto n = GoldenRequest<AddPartitionsToTxnRequest>(old);
  EXPECT_EQ(n.v3_and_below_transactional_id, "v3AndBelowTransactionalId");
  EXPECT_EQ(n.v3_and_below_producer_id, Int64("v3AndBelowProducerId"));
  EXPECT_EQ(n.v3_and_below_producer_epoch, Int16("v3AndBelowProducerEpoch"));
  EXPECT_EQ(n.v3_and_below_topics[1].name, "v3AndBelowTopics.1.name");
  EXPECT_EQ(n.v3_and_below_topics[1].partitions[1], Int32("v3AndBelowTopics.1.partitions.1"));
}

TEST(KafkaFieldsTest, AddPartitionsToTxnResponse) {
  const GoldenFrame frame = FindGolden("AddPartitionsToTxnResponse", 5);
  const auto m = GoldenResponse<AddPartitionsToTxnResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.results_by_transaction[1].transactional_id, "resultsByTransaction.1.transactionalId");
  const auto& topic = m.results_by_transaction[1].topic_results[1];
  EXPECT_EQ(topic.name, "resultsByTransaction.1.topicResults.1.name");
  EXPECT_EQ(topic.results_by_partition[1].partition_index,
            Int32("resultsByTransaction.1.topicResults.1.resultsByPartition.1.partitionIndex"));
  EXPECT_EQ(topic.results_by_partition[1].partition_error_code,
            Error("resultsByTransaction.1.topicResults.1.resultsByPartition.1.partitionErrorCode"));
  const GoldenFrame old = FindGolden("AddPartitionsToTxnResponse", 3);
  const auto n = GoldenResponse<AddPartitionsToTxnResponse>(old);
  EXPECT_EQ(n.results_by_topic_v3_and_below[1].name, "resultsByTopicV3AndBelow.1.name");
  EXPECT_EQ(n.results_by_topic_v3_and_below[1].results_by_partition[1].partition_error_code,
            Error("resultsByTopicV3AndBelow.1.resultsByPartition.1.partitionErrorCode"));
}

TEST(KafkaFieldsTest, AddOffsetsToTxnRequest) {
  const GoldenFrame frame = FindGolden("AddOffsetsToTxnRequest", 4);
  const auto m = GoldenRequest<AddOffsetsToTxnRequest>(frame);
  EXPECT_EQ(m.transactional_id, "transactionalId");
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
  EXPECT_EQ(m.group_id, "groupId");
}

TEST(KafkaFieldsTest, AddOffsetsToTxnResponse) {
  const GoldenFrame frame = FindGolden("AddOffsetsToTxnResponse", 4);
  const auto m = GoldenResponse<AddOffsetsToTxnResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
}

TEST(KafkaFieldsTest, EndTxnRequest) {
  const GoldenFrame frame = FindGolden("EndTxnRequest", 5);
  const auto m = GoldenRequest<EndTxnRequest>(frame);
  EXPECT_EQ(m.transactional_id, "transactionalId");
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
  EXPECT_EQ(m.committed, Bool("committed"));
}

TEST(KafkaFieldsTest, EndTxnResponse) {
  const GoldenFrame frame = FindGolden("EndTxnResponse", 5);
  const auto m = GoldenResponse<EndTxnResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
}

TEST(KafkaFieldsTest, TxnOffsetCommitRequest) {
  const GoldenFrame frame = FindGolden("TxnOffsetCommitRequest", 5);
  const auto m = GoldenRequest<TxnOffsetCommitRequest>(frame);
  EXPECT_EQ(m.transactional_id, "transactionalId");
  EXPECT_EQ(m.group_id, "groupId");
  EXPECT_EQ(m.producer_id, Int64("producerId"));
  EXPECT_EQ(m.producer_epoch, Int16("producerEpoch"));
  EXPECT_EQ(m.generation_id, Int32("generationId"));
  EXPECT_EQ(m.member_id, "memberId");
  EXPECT_EQ(m.group_instance_id, "groupInstanceId");
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  const auto& partition = m.topics[1].partitions[1];
  EXPECT_EQ(partition.partition_index, Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(partition.committed_offset, Int64("topics.1.partitions.1.committedOffset"));
  EXPECT_EQ(partition.committed_leader_epoch, Int32("topics.1.partitions.1.committedLeaderEpoch"));
  EXPECT_EQ(partition.committed_metadata, "topics.1.partitions.1.committedMetadata");
}

TEST(KafkaFieldsTest, TxnOffsetCommitResponse) {
  const GoldenFrame frame = FindGolden("TxnOffsetCommitResponse", 5);
  const auto m = GoldenResponse<TxnOffsetCommitResponse>(frame);
  EXPECT_EQ(m.throttle_time_ms, Int32("throttleTimeMs"));
  EXPECT_EQ(m.topics[1].name, "topics.1.name");
  EXPECT_EQ(m.topics[1].partitions[1].partition_index,
            Int32("topics.1.partitions.1.partitionIndex"));
  EXPECT_EQ(m.topics[1].partitions[1].error_code, Error("topics.1.partitions.1.errorCode"));
}

TEST(KafkaFieldsTest, SaslHandshakeRequest) {
  const GoldenFrame frame = FindGolden("SaslHandshakeRequest", 1);
  EXPECT_EQ(GoldenRequest<SaslHandshakeRequest>(frame).mechanism, "mechanism");
}

TEST(KafkaFieldsTest, SaslHandshakeResponse) {
  const GoldenFrame frame = FindGolden("SaslHandshakeResponse", 1);
  const auto m = GoldenResponse<SaslHandshakeResponse>(frame);
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.mechanisms[1], "mechanisms.1");
}

TEST(KafkaFieldsTest, SaslAuthenticateRequest) {
  const GoldenFrame frame = FindGolden("SaslAuthenticateRequest", 2);
  EXPECT_EQ(GoldenRequest<SaslAuthenticateRequest>(frame).auth_bytes, "authBytes");
}

TEST(KafkaFieldsTest, SaslAuthenticateResponse) {
  const GoldenFrame frame = FindGolden("SaslAuthenticateResponse", 2);
  const auto m = GoldenResponse<SaslAuthenticateResponse>(frame);
  EXPECT_EQ(m.error_code, Error("errorCode"));
  EXPECT_EQ(m.error_message, "errorMessage");
  EXPECT_EQ(m.auth_bytes, "authBytes");
  EXPECT_EQ(m.session_lifetime_ms, Int64("sessionLifetimeMs"));
}

}  // namespace
}  // namespace holdfast::kafka
