#include "agent/delivery_outcome.h"

namespace holdfast::agent {

// No default label: the compiler asks for a row when Kafka adds a code.
Outcome OutcomeOf(kafka::ErrorCode code) {
  using kafka::ErrorCode;
  switch (code) {
    case ErrorCode::kNone:
    case ErrorCode::kDuplicateSequenceNumber:
      return Outcome::kDelivered;

    // Refused before the append, for now. After NOT_ENOUGH_REPLICAS_AFTER_APPEND the batch is
    // stored, and the answer to its repeat, which the tier recognises, tells when it is replicated.
    // A wrong CRC: the spool hands on what is sound, so the bytes were damaged on the way.
    case ErrorCode::kCorruptMessage:
    case ErrorCode::kBrokerNotAvailable:
    case ErrorCode::kCoordinatorLoadInProgress:
    case ErrorCode::kCoordinatorNotAvailable:
    case ErrorCode::kNotCoordinator:
    case ErrorCode::kNotEnoughReplicas:
    case ErrorCode::kNotEnoughReplicasAfterAppend:
    case ErrorCode::kNotController:
    case ErrorCode::kConcurrentTransactions:
    case ErrorCode::kUnknownLeaderEpoch:
    case ErrorCode::kOffsetNotAvailable:
    case ErrorCode::kUnstableOffsetCommit:
    case ErrorCode::kThrottlingQuotaExceeded:
      return Outcome::kRetry;

    // Asked the wrong broker, or the topic is not there (yet).
    case ErrorCode::kUnknownTopicOrPartition:
    case ErrorCode::kLeaderNotAvailable:
    case ErrorCode::kReplicaNotAvailable:
    case ErrorCode::kListenerNotFound:
    case ErrorCode::kFencedLeaderEpoch:
    case ErrorCode::kPreferredLeaderNotAvailable:
    case ErrorCode::kEligibleLeadersNotAvailable:
    case ErrorCode::kElectionNotNeeded:
    case ErrorCode::kUnknownTopicId:
    case ErrorCode::kInconsistentTopicId:
    case ErrorCode::kFetchSessionTopicIdError:
      return Outcome::kRefresh;

    // The append may have happened. After a sequence error it is open which side is behind.
    case ErrorCode::kUnknownServerError:
    case ErrorCode::kNotLeaderOrFollower:
    case ErrorCode::kRequestTimedOut:
    case ErrorCode::kNetworkException:
    case ErrorCode::kOutOfOrderSequenceNumber:
    case ErrorCode::kKafkaStorageError:
      return Outcome::kReconcile;

    case ErrorCode::kInvalidProducerEpoch:
    case ErrorCode::kUnknownProducerId:
    case ErrorCode::kProducerFenced:
      return Outcome::kNewEpoch;

    // Nothing that anybody does to the tier makes this batch acceptable, short of other limits.
    case ErrorCode::kMessageTooLarge:
    case ErrorCode::kRecordListTooLarge:
    case ErrorCode::kInvalidTimestamp:
    case ErrorCode::kUnsupportedForMessageFormat:
    case ErrorCode::kUnsupportedCompressionType:
    case ErrorCode::kInvalidRecord:
      return Outcome::kRefused;

    // Rights, settings, an incompatible tier, or codes that no produce request should get.
    case ErrorCode::kOffsetOutOfRange:
    case ErrorCode::kInvalidFetchSize:
    case ErrorCode::kStaleControllerEpoch:
    case ErrorCode::kOffsetMetadataTooLarge:
    case ErrorCode::kInvalidTopicException:
    case ErrorCode::kInvalidRequiredAcks:
    case ErrorCode::kIllegalGeneration:
    case ErrorCode::kInconsistentGroupProtocol:
    case ErrorCode::kInvalidGroupId:
    case ErrorCode::kUnknownMemberId:
    case ErrorCode::kInvalidSessionTimeout:
    case ErrorCode::kRebalanceInProgress:
    case ErrorCode::kInvalidCommitOffsetSize:
    case ErrorCode::kTopicAuthorizationFailed:
    case ErrorCode::kGroupAuthorizationFailed:
    case ErrorCode::kClusterAuthorizationFailed:
    case ErrorCode::kUnsupportedSaslMechanism:
    case ErrorCode::kIllegalSaslState:
    case ErrorCode::kUnsupportedVersion:
    case ErrorCode::kTopicAlreadyExists:
    case ErrorCode::kInvalidPartitions:
    case ErrorCode::kInvalidReplicationFactor:
    case ErrorCode::kInvalidReplicaAssignment:
    case ErrorCode::kInvalidConfig:
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kPolicyViolation:
    case ErrorCode::kInvalidTxnState:
    case ErrorCode::kInvalidProducerIdMapping:
    case ErrorCode::kInvalidTransactionTimeout:
    case ErrorCode::kTransactionCoordinatorFenced:
    case ErrorCode::kTransactionalIdAuthorizationFailed:
    case ErrorCode::kSecurityDisabled:
    case ErrorCode::kOperationNotAttempted:
    case ErrorCode::kLogDirNotFound:
    case ErrorCode::kSaslAuthenticationFailed:
    case ErrorCode::kReassignmentInProgress:
    case ErrorCode::kDelegationTokenAuthDisabled:
    case ErrorCode::kDelegationTokenNotFound:
    case ErrorCode::kDelegationTokenOwnerMismatch:
    case ErrorCode::kDelegationTokenRequestNotAllowed:
    case ErrorCode::kDelegationTokenAuthorizationFailed:
    case ErrorCode::kDelegationTokenExpired:
    case ErrorCode::kInvalidPrincipalType:
    case ErrorCode::kNonEmptyGroup:
    case ErrorCode::kGroupIdNotFound:
    case ErrorCode::kFetchSessionIdNotFound:
    case ErrorCode::kInvalidFetchSessionEpoch:
    case ErrorCode::kTopicDeletionDisabled:
    case ErrorCode::kStaleBrokerEpoch:
    case ErrorCode::kMemberIdRequired:
    case ErrorCode::kGroupMaxSizeReached:
    case ErrorCode::kFencedInstanceId:
    case ErrorCode::kNoReassignmentInProgress:
    case ErrorCode::kGroupSubscribedToTopic:
    case ErrorCode::kResourceNotFound:
    case ErrorCode::kDuplicateResource:
    case ErrorCode::kUnacceptableCredential:
    case ErrorCode::kInconsistentVoterSet:
    case ErrorCode::kInvalidUpdateVersion:
    case ErrorCode::kFeatureUpdateFailed:
    case ErrorCode::kPrincipalDeserializationFailure:
    case ErrorCode::kSnapshotNotFound:
    case ErrorCode::kPositionOutOfRange:
    case ErrorCode::kDuplicateBrokerRegistration:
    case ErrorCode::kBrokerIdNotRegistered:
    case ErrorCode::kInconsistentClusterId:
    case ErrorCode::kTransactionalIdNotFound:
    case ErrorCode::kIneligibleReplica:
    case ErrorCode::kNewLeaderElected:
    case ErrorCode::kOffsetMovedToTieredStorage:
    case ErrorCode::kFencedMemberEpoch:
    case ErrorCode::kUnreleasedInstanceId:
    case ErrorCode::kUnsupportedAssignor:
    case ErrorCode::kStaleMemberEpoch:
    case ErrorCode::kMismatchedEndpointType:
    case ErrorCode::kUnsupportedEndpointType:
    case ErrorCode::kUnknownControllerId:
    case ErrorCode::kUnknownSubscriptionId:
    case ErrorCode::kTelemetryTooLarge:
    case ErrorCode::kInvalidRegistration:
    case ErrorCode::kTransactionAbortable:
    case ErrorCode::kInvalidRecordState:
    case ErrorCode::kShareSessionNotFound:
    case ErrorCode::kInvalidShareSessionEpoch:
    case ErrorCode::kFencedStateEpoch:
    case ErrorCode::kInvalidVoterKey:
    case ErrorCode::kDuplicateVoter:
    case ErrorCode::kVoterNotFound:
    case ErrorCode::kInvalidRegularExpression:
    case ErrorCode::kRebootstrapRequired:
    case ErrorCode::kStreamsInvalidTopology:
    case ErrorCode::kStreamsInvalidTopologyEpoch:
    case ErrorCode::kStreamsTopologyFenced:
    case ErrorCode::kShareSessionLimitReached:
      return Outcome::kParked;
  }
  return Outcome::kReconcile;
}

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kDelivered:
      return "delivered";
    case Outcome::kRetry:
      return "retry";
    case Outcome::kRefresh:
      return "refresh";
    case Outcome::kReconcile:
      return "reconcile";
    case Outcome::kNewEpoch:
      return "new epoch";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kParked:
      return "parked";
  }
  return "";
}

Stored StoredBy(Outcome outcome, kafka::ErrorCode error) {
  if (outcome == Outcome::kDelivered || error == kafka::ErrorCode::kNotEnoughReplicasAfterAppend) {
    return Stored::kYes;
  }
  const bool open =
      outcome == Outcome::kReconcile && error != kafka::ErrorCode::kOutOfOrderSequenceNumber;
  return open ? Stored::kMaybe : Stored::kNo;
}

}  // namespace holdfast::agent
