// Every API that the codec knows, for tests that treat them all alike.
#pragma once

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/add_raft_voter.h"
#include "kafka/api/alter_client_quotas.h"
#include "kafka/api/alter_configs.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/alter_replica_log_dirs.h"
#include "kafka/api/alter_user_scram_credentials.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/create_acls.h"
#include "kafka/api/create_delegation_token.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_acls.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_acls.h"
#include "kafka/api/describe_client_quotas.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_delegation_token.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_log_dirs.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/describe_quorum.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/describe_user_scram_credentials.h"
#include "kafka/api/elect_leaders.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/expire_delegation_token.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/list_partition_reassignments.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/produce.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/api/remove_raft_voter.h"
#include "kafka/api/renew_delegation_token.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/api/unregister_broker.h"
#include "kafka/api/update_features.h"
#include "kafka/api/write_txn_markers.h"

namespace holdfast::kafka {

template <class... Requests>
struct Apis {};

using AllApis =
    Apis<AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddRaftVoterRequest,
         AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest,
         AlterReplicaLogDirsRequest, AlterUserScramCredentialsRequest, ApiVersionsRequest,
         ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreateAclsRequest,
         CreateDelegationTokenRequest, CreatePartitionsRequest, CreateTopicsRequest,
         DeleteAclsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
         DescribeAclsRequest, DescribeClientQuotasRequest, DescribeClusterRequest,
         DescribeConfigsRequest, DescribeDelegationTokenRequest, DescribeGroupsRequest,
         DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest,
         DescribeTopicPartitionsRequest, DescribeTransactionsRequest,
         DescribeUserScramCredentialsRequest, ElectLeadersRequest, EndTxnRequest,
         ExpireDelegationTokenRequest, FetchRequest, FindCoordinatorRequest,
         GetTelemetrySubscriptionsRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
         InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListConfigResourcesRequest,
         ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest,
         ListTransactionsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
         OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, PushTelemetryRequest,
         RemoveRaftVoterRequest, RenewDelegationTokenRequest, SaslAuthenticateRequest,
         SaslHandshakeRequest, SyncGroupRequest, TxnOffsetCommitRequest, UnregisterBrokerRequest,
         UpdateFeaturesRequest, WriteTxnMarkersRequest>;

}  // namespace holdfast::kafka
