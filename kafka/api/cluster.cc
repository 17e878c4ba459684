#include "kafka/api/add_raft_voter.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/alter_replica_log_dirs.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_log_dirs.h"
#include "kafka/api/describe_quorum.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/elect_leaders.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/api/list_partition_reassignments.h"
#include "kafka/api/metadata.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/api/remove_raft_voter.h"
#include "kafka/api/unregister_broker.h"
#include "kafka/api/update_features.h"
#include "kafka/codec_templates.h"

namespace holdfast::kafka {

HF_KAFKA_API(ApiVersions);
HF_KAFKA_API(Metadata);
HF_KAFKA_API(DescribeCluster);
HF_KAFKA_API(FindCoordinator);
HF_KAFKA_API(DescribeTopicPartitions);
HF_KAFKA_API(ListConfigResources);
HF_KAFKA_API(ElectLeaders);
HF_KAFKA_API(AlterPartitionReassignments);
HF_KAFKA_API(ListPartitionReassignments);
HF_KAFKA_API(DescribeQuorum);
HF_KAFKA_API(DescribeLogDirs);
HF_KAFKA_API(AddRaftVoter);
HF_KAFKA_API(AlterReplicaLogDirs);
HF_KAFKA_API(RemoveRaftVoter);
HF_KAFKA_API(UnregisterBroker);
HF_KAFKA_API(UpdateFeatures);
HF_KAFKA_API(GetTelemetrySubscriptions);
HF_KAFKA_API(PushTelemetry);

}  // namespace holdfast::kafka
