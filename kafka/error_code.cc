#include "kafka/error_code.h"

#include <algorithm>
#include <array>

namespace holdfast::kafka {
namespace {

struct Row {
  ErrorCode code;
  std::string_view name;
  bool retriable = false;
  bool refresh = false;
};

constexpr std::array kRows{
    Row{ErrorCode::kUnknownServerError, "UNKNOWN_SERVER_ERROR"},
    Row{ErrorCode::kNone, "NONE"},
    Row{ErrorCode::kOffsetOutOfRange, "OFFSET_OUT_OF_RANGE"},
    Row{ErrorCode::kCorruptMessage, "CORRUPT_MESSAGE", true},
    Row{ErrorCode::kUnknownTopicOrPartition, "UNKNOWN_TOPIC_OR_PARTITION", true, true},
    Row{ErrorCode::kInvalidFetchSize, "INVALID_FETCH_SIZE"},
    Row{ErrorCode::kLeaderNotAvailable, "LEADER_NOT_AVAILABLE", true, true},
    Row{ErrorCode::kNotLeaderOrFollower, "NOT_LEADER_OR_FOLLOWER", true, true},
    Row{ErrorCode::kRequestTimedOut, "REQUEST_TIMED_OUT", true},
    Row{ErrorCode::kBrokerNotAvailable, "BROKER_NOT_AVAILABLE"},
    Row{ErrorCode::kReplicaNotAvailable, "REPLICA_NOT_AVAILABLE", true, true},
    Row{ErrorCode::kMessageTooLarge, "MESSAGE_TOO_LARGE"},
    Row{ErrorCode::kStaleControllerEpoch, "STALE_CONTROLLER_EPOCH"},
    Row{ErrorCode::kOffsetMetadataTooLarge, "OFFSET_METADATA_TOO_LARGE"},
    Row{ErrorCode::kNetworkException, "NETWORK_EXCEPTION", true, true},
    Row{ErrorCode::kCoordinatorLoadInProgress, "COORDINATOR_LOAD_IN_PROGRESS", true},
    Row{ErrorCode::kCoordinatorNotAvailable, "COORDINATOR_NOT_AVAILABLE", true, true},
    Row{ErrorCode::kNotCoordinator, "NOT_COORDINATOR", true, true},
    Row{ErrorCode::kInvalidTopicException, "INVALID_TOPIC_EXCEPTION"},
    Row{ErrorCode::kRecordListTooLarge, "RECORD_LIST_TOO_LARGE"},
    Row{ErrorCode::kNotEnoughReplicas, "NOT_ENOUGH_REPLICAS", true},
    Row{ErrorCode::kNotEnoughReplicasAfterAppend, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true},
    Row{ErrorCode::kInvalidRequiredAcks, "INVALID_REQUIRED_ACKS"},
    Row{ErrorCode::kIllegalGeneration, "ILLEGAL_GENERATION"},
    Row{ErrorCode::kInconsistentGroupProtocol, "INCONSISTENT_GROUP_PROTOCOL"},
    Row{ErrorCode::kInvalidGroupId, "INVALID_GROUP_ID"},
    Row{ErrorCode::kUnknownMemberId, "UNKNOWN_MEMBER_ID"},
    Row{ErrorCode::kInvalidSessionTimeout, "INVALID_SESSION_TIMEOUT"},
    Row{ErrorCode::kRebalanceInProgress, "REBALANCE_IN_PROGRESS"},
    Row{ErrorCode::kInvalidCommitOffsetSize, "INVALID_COMMIT_OFFSET_SIZE"},
    Row{ErrorCode::kTopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED"},
    Row{ErrorCode::kGroupAuthorizationFailed, "GROUP_AUTHORIZATION_FAILED"},
    Row{ErrorCode::kClusterAuthorizationFailed, "CLUSTER_AUTHORIZATION_FAILED"},
    Row{ErrorCode::kInvalidTimestamp, "INVALID_TIMESTAMP"},
    Row{ErrorCode::kUnsupportedSaslMechanism, "UNSUPPORTED_SASL_MECHANISM"},
    Row{ErrorCode::kIllegalSaslState, "ILLEGAL_SASL_STATE"},
    Row{ErrorCode::kUnsupportedVersion, "UNSUPPORTED_VERSION"},
    Row{ErrorCode::kTopicAlreadyExists, "TOPIC_ALREADY_EXISTS"},
    Row{ErrorCode::kInvalidPartitions, "INVALID_PARTITIONS"},
    Row{ErrorCode::kInvalidReplicationFactor, "INVALID_REPLICATION_FACTOR"},
    Row{ErrorCode::kInvalidReplicaAssignment, "INVALID_REPLICA_ASSIGNMENT"},
    Row{ErrorCode::kInvalidConfig, "INVALID_CONFIG"},
    Row{ErrorCode::kNotController, "NOT_CONTROLLER", true},
    Row{ErrorCode::kInvalidRequest, "INVALID_REQUEST"},
    Row{ErrorCode::kUnsupportedForMessageFormat, "UNSUPPORTED_FOR_MESSAGE_FORMAT"},
    Row{ErrorCode::kPolicyViolation, "POLICY_VIOLATION"},
    Row{ErrorCode::kOutOfOrderSequenceNumber, "OUT_OF_ORDER_SEQUENCE_NUMBER"},
    Row{ErrorCode::kDuplicateSequenceNumber, "DUPLICATE_SEQUENCE_NUMBER"},
    Row{ErrorCode::kInvalidProducerEpoch, "INVALID_PRODUCER_EPOCH"},
    Row{ErrorCode::kInvalidTxnState, "INVALID_TXN_STATE"},
    Row{ErrorCode::kInvalidProducerIdMapping, "INVALID_PRODUCER_ID_MAPPING"},
    Row{ErrorCode::kInvalidTransactionTimeout, "INVALID_TRANSACTION_TIMEOUT"},
    Row{ErrorCode::kConcurrentTransactions, "CONCURRENT_TRANSACTIONS", true},
    Row{ErrorCode::kTransactionCoordinatorFenced, "TRANSACTION_COORDINATOR_FENCED"},
    Row{ErrorCode::kTransactionalIdAuthorizationFailed, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"},
    Row{ErrorCode::kSecurityDisabled, "SECURITY_DISABLED"},
    Row{ErrorCode::kOperationNotAttempted, "OPERATION_NOT_ATTEMPTED"},
    Row{ErrorCode::kKafkaStorageError, "KAFKA_STORAGE_ERROR", true, true},
    Row{ErrorCode::kLogDirNotFound, "LOG_DIR_NOT_FOUND"},
    Row{ErrorCode::kSaslAuthenticationFailed, "SASL_AUTHENTICATION_FAILED"},
    Row{ErrorCode::kUnknownProducerId, "UNKNOWN_PRODUCER_ID"},
    Row{ErrorCode::kReassignmentInProgress, "REASSIGNMENT_IN_PROGRESS"},
    Row{ErrorCode::kDelegationTokenAuthDisabled, "DELEGATION_TOKEN_AUTH_DISABLED"},
    Row{ErrorCode::kDelegationTokenNotFound, "DELEGATION_TOKEN_NOT_FOUND"},
    Row{ErrorCode::kDelegationTokenOwnerMismatch, "DELEGATION_TOKEN_OWNER_MISMATCH"},
    Row{ErrorCode::kDelegationTokenRequestNotAllowed, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"},
    Row{ErrorCode::kDelegationTokenAuthorizationFailed, "DELEGATION_TOKEN_AUTHORIZATION_FAILED"},
    Row{ErrorCode::kDelegationTokenExpired, "DELEGATION_TOKEN_EXPIRED"},
    Row{ErrorCode::kInvalidPrincipalType, "INVALID_PRINCIPAL_TYPE"},
    Row{ErrorCode::kNonEmptyGroup, "NON_EMPTY_GROUP"},
    Row{ErrorCode::kGroupIdNotFound, "GROUP_ID_NOT_FOUND"},
    Row{ErrorCode::kFetchSessionIdNotFound, "FETCH_SESSION_ID_NOT_FOUND", true},
    Row{ErrorCode::kInvalidFetchSessionEpoch, "INVALID_FETCH_SESSION_EPOCH", true},
    Row{ErrorCode::kListenerNotFound, "LISTENER_NOT_FOUND", true, true},
    Row{ErrorCode::kTopicDeletionDisabled, "TOPIC_DELETION_DISABLED"},
    Row{ErrorCode::kFencedLeaderEpoch, "FENCED_LEADER_EPOCH", true, true},
    Row{ErrorCode::kUnknownLeaderEpoch, "UNKNOWN_LEADER_EPOCH", true},
    Row{ErrorCode::kUnsupportedCompressionType, "UNSUPPORTED_COMPRESSION_TYPE"},
    Row{ErrorCode::kStaleBrokerEpoch, "STALE_BROKER_EPOCH"},
    Row{ErrorCode::kOffsetNotAvailable, "OFFSET_NOT_AVAILABLE", true},
    Row{ErrorCode::kMemberIdRequired, "MEMBER_ID_REQUIRED"},
    Row{ErrorCode::kPreferredLeaderNotAvailable, "PREFERRED_LEADER_NOT_AVAILABLE", true, true},
    Row{ErrorCode::kGroupMaxSizeReached, "GROUP_MAX_SIZE_REACHED"},
    Row{ErrorCode::kFencedInstanceId, "FENCED_INSTANCE_ID"},
    Row{ErrorCode::kEligibleLeadersNotAvailable, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, true},
    Row{ErrorCode::kElectionNotNeeded, "ELECTION_NOT_NEEDED", true, true},
    Row{ErrorCode::kNoReassignmentInProgress, "NO_REASSIGNMENT_IN_PROGRESS"},
    Row{ErrorCode::kGroupSubscribedToTopic, "GROUP_SUBSCRIBED_TO_TOPIC"},
    Row{ErrorCode::kInvalidRecord, "INVALID_RECORD"},
    Row{ErrorCode::kUnstableOffsetCommit, "UNSTABLE_OFFSET_COMMIT", true},
    Row{ErrorCode::kThrottlingQuotaExceeded, "THROTTLING_QUOTA_EXCEEDED", true},
    Row{ErrorCode::kProducerFenced, "PRODUCER_FENCED"},
    Row{ErrorCode::kResourceNotFound, "RESOURCE_NOT_FOUND"},
    Row{ErrorCode::kDuplicateResource, "DUPLICATE_RESOURCE"},
    Row{ErrorCode::kUnacceptableCredential, "UNACCEPTABLE_CREDENTIAL"},
    Row{ErrorCode::kInconsistentVoterSet, "INCONSISTENT_VOTER_SET"},
    Row{ErrorCode::kInvalidUpdateVersion, "INVALID_UPDATE_VERSION"},
    Row{ErrorCode::kFeatureUpdateFailed, "FEATURE_UPDATE_FAILED"},
    Row{ErrorCode::kPrincipalDeserializationFailure, "PRINCIPAL_DESERIALIZATION_FAILURE"},
    Row{ErrorCode::kSnapshotNotFound, "SNAPSHOT_NOT_FOUND"},
    Row{ErrorCode::kPositionOutOfRange, "POSITION_OUT_OF_RANGE"},
    Row{ErrorCode::kUnknownTopicId, "UNKNOWN_TOPIC_ID", true, true},
    Row{ErrorCode::kDuplicateBrokerRegistration, "DUPLICATE_BROKER_REGISTRATION"},
    Row{ErrorCode::kBrokerIdNotRegistered, "BROKER_ID_NOT_REGISTERED"},
    Row{ErrorCode::kInconsistentTopicId, "INCONSISTENT_TOPIC_ID", true, true},
    Row{ErrorCode::kInconsistentClusterId, "INCONSISTENT_CLUSTER_ID"},
    Row{ErrorCode::kTransactionalIdNotFound, "TRANSACTIONAL_ID_NOT_FOUND"},
    Row{ErrorCode::kFetchSessionTopicIdError, "FETCH_SESSION_TOPIC_ID_ERROR", true},
    Row{ErrorCode::kIneligibleReplica, "INELIGIBLE_REPLICA"},
    Row{ErrorCode::kNewLeaderElected, "NEW_LEADER_ELECTED"},
    Row{ErrorCode::kOffsetMovedToTieredStorage, "OFFSET_MOVED_TO_TIERED_STORAGE"},
    Row{ErrorCode::kFencedMemberEpoch, "FENCED_MEMBER_EPOCH"},
    Row{ErrorCode::kUnreleasedInstanceId, "UNRELEASED_INSTANCE_ID"},
    Row{ErrorCode::kUnsupportedAssignor, "UNSUPPORTED_ASSIGNOR"},
    Row{ErrorCode::kStaleMemberEpoch, "STALE_MEMBER_EPOCH"},
    Row{ErrorCode::kMismatchedEndpointType, "MISMATCHED_ENDPOINT_TYPE"},
    Row{ErrorCode::kUnsupportedEndpointType, "UNSUPPORTED_ENDPOINT_TYPE"},
    Row{ErrorCode::kUnknownControllerId, "UNKNOWN_CONTROLLER_ID"},
    Row{ErrorCode::kUnknownSubscriptionId, "UNKNOWN_SUBSCRIPTION_ID"},
    Row{ErrorCode::kTelemetryTooLarge, "TELEMETRY_TOO_LARGE"},
    Row{ErrorCode::kInvalidRegistration, "INVALID_REGISTRATION"},
    Row{ErrorCode::kTransactionAbortable, "TRANSACTION_ABORTABLE"},
    Row{ErrorCode::kInvalidRecordState, "INVALID_RECORD_STATE"},
    Row{ErrorCode::kShareSessionNotFound, "SHARE_SESSION_NOT_FOUND", true},
    Row{ErrorCode::kInvalidShareSessionEpoch, "INVALID_SHARE_SESSION_EPOCH", true},
    Row{ErrorCode::kFencedStateEpoch, "FENCED_STATE_EPOCH"},
    Row{ErrorCode::kInvalidVoterKey, "INVALID_VOTER_KEY"},
    Row{ErrorCode::kDuplicateVoter, "DUPLICATE_VOTER"},
    Row{ErrorCode::kVoterNotFound, "VOTER_NOT_FOUND"},
    Row{ErrorCode::kInvalidRegularExpression, "INVALID_REGULAR_EXPRESSION"},
    Row{ErrorCode::kRebootstrapRequired, "REBOOTSTRAP_REQUIRED"},
    Row{ErrorCode::kStreamsInvalidTopology, "STREAMS_INVALID_TOPOLOGY"},
    Row{ErrorCode::kStreamsInvalidTopologyEpoch, "STREAMS_INVALID_TOPOLOGY_EPOCH"},
    Row{ErrorCode::kStreamsTopologyFenced, "STREAMS_TOPOLOGY_FENCED"},
    Row{ErrorCode::kShareSessionLimitReached, "SHARE_SESSION_LIMIT_REACHED", true},
};
constexpr int16_t kFirst = -1;
static_assert(std::ranges::all_of(kRows, [](const Row& row) {
  return &row - kRows.data() == static_cast<int16_t>(row.code) - kFirst;
}));

const Row* Find(ErrorCode code) {
  const int index = static_cast<int16_t>(code) - kFirst;
  return index >= 0 && index < static_cast<int>(kRows.size()) ? &kRows[static_cast<size_t>(index)]
                                                              : nullptr;
}

}  // namespace

std::string_view ErrorName(ErrorCode code) {
  const Row* row = Find(code);
  return row != nullptr ? row->name : "UNKNOWN_ERROR_CODE";
}

bool Retriable(ErrorCode code) {
  const Row* row = Find(code);
  return row != nullptr && row->retriable;
}

bool NeedsMetadataRefresh(ErrorCode code) {
  const Row* row = Find(code);
  return row != nullptr && row->refresh;
}

}  // namespace holdfast::kafka
