// What administrators may ask of a cluster and one of a single node has no use for: other versions
// of features, voters, brokers that are gone, other log directories, delegation tokens. Answered as
// by an Apache Kafka of one node, without a secret key for tokens.
//
// Threads: plain functions.
#pragma once

#include <string>
#include <string_view>

#include "broker/catalog.h"
#include "kafka/api/add_raft_voter.h"
#include "kafka/api/alter_replica_log_dirs.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/create_delegation_token.h"
#include "kafka/api/describe_delegation_token.h"
#include "kafka/api/expire_delegation_token.h"
#include "kafka/api/remove_raft_voter.h"
#include "kafka/api/renew_delegation_token.h"
#include "kafka/api/unregister_broker.h"
#include "kafka/api/update_features.h"

namespace holdfast::broker {

// `versions` says which features there are. They stay as they are: to the version that is in force,
// or only tried, an update succeeds.
kafka::UpdateFeaturesResponse UpdateFeatures(const kafka::ApiVersionsResponse& versions,
                                             const kafka::UpdateFeaturesRequest& request);
kafka::UnregisterBrokerResponse UnregisterBroker(int32_t node_id,
                                                 const kafka::UnregisterBrokerRequest& request);
// Replicas stay in the one directory that there is.
kafka::AlterReplicaLogDirsResponse AlterReplicaLogDirs(
    std::string_view directory, const Topics& topics,
    const kafka::AlterReplicaLogDirsRequest& request);
kafka::AddRaftVoterResponse AddRaftVoter(std::string_view cluster_id,
                                         const kafka::AddRaftVoterRequest& request);
kafka::RemoveRaftVoterResponse RemoveRaftVoter(std::string_view cluster_id,
                                               const kafka::RemoveRaftVoterRequest& request);

// `principal` asks.
kafka::CreateDelegationTokenResponse CreateDelegationToken(
    std::string_view principal, const kafka::CreateDelegationTokenRequest& request);
kafka::RenewDelegationTokenResponse RenewDelegationToken(std::string_view principal);
kafka::ExpireDelegationTokenResponse ExpireDelegationToken(std::string_view principal);
kafka::DescribeDelegationTokenResponse DescribeDelegationToken(std::string_view principal);

}  // namespace holdfast::broker
