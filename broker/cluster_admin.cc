#include "broker/cluster_admin.h"

#include <algorithm>

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;

constexpr std::string_view kAnonymous = "User:ANONYMOUS";

// Why the update is not made; empty if there is nothing to do.
std::string CheckUpdate(const kafka::ApiVersionsResponse& versions,
                        const kafka::UpdateFeaturesRequest::FeatureUpdateKey& update) {
  constexpr int8_t kUpgrade = 1;
  constexpr int8_t kSafeDowngrade = 2;
  constexpr int8_t kUnsafeDowngrade = 3;
  const int16_t wanted = update.max_version_level;
  const std::string name(update.feature);
  const auto refuse = [&](const std::string& why) {
    return "Invalid update version " + std::to_string(wanted) + " for feature " + name + ". " + why;
  };
  if (update.upgrade_type < kUpgrade || update.upgrade_type > kUnsafeDowngrade) {
    return refuse("The controller does not support the given upgrade type.");
  }
  const auto& supported = versions.supported_features;
  const auto found = std::ranges::find(supported, update.feature,
                                       &kafka::ApiVersionsResponse::SupportedFeatureKey::name);
  if (found == supported.end()) return refuse("This node does not support this feature.");
  if (wanted < 0) return refuse("A feature version cannot be less than 0.");
  if (wanted < found->min_version || wanted > found->max_version) {
    return refuse("This node only supports versions " + std::to_string(found->min_version) + "-" +
                  std::to_string(found->max_version));
  }
  const auto& finalized = versions.finalized_features;
  const auto now = std::ranges::find(finalized, update.feature,
                                     &kafka::ApiVersionsResponse::FinalizedFeatureKey::name);
  const int16_t in_force = now == finalized.end() ? int16_t{0} : now->max_version_level;
  if (wanted == in_force) return {};
  if (wanted < in_force && update.upgrade_type < kSafeDowngrade) {
    return refuse(
        "Can't downgrade the version of this feature without setting the upgrade type to either "
        "safe or unsafe downgrade.");
  }
  return refuse("On this node the version of this feature cannot be changed from " +
                std::to_string(in_force) + ".");
}

ErrorCode TokenError(std::string_view principal) {
  // Kafka gives no tokens to who has not said who he is.
  return principal == kAnonymous ? ErrorCode::kDelegationTokenRequestNotAllowed
                                 : ErrorCode::kDelegationTokenAuthDisabled;
}

// True: it is meant for another cluster, and the response says so.
template <class Request, class Response>
bool IsForOtherCluster(std::string_view cluster_id, const Request& request, Response* response) {
  if (!request.cluster_id || *request.cluster_id == cluster_id) return false;
  response->error_code = ErrorCode::kInconsistentClusterId;
  response->error_message =
      response->strings.Keep("The given id \"" + std::string(*request.cluster_id) +
                             "\" doesn't match the cluster id \"" + std::string(cluster_id) + "\"");
  return true;
}

}  // namespace

kafka::UpdateFeaturesResponse UpdateFeatures(const kafka::ApiVersionsResponse& versions,
                                             const kafka::UpdateFeaturesRequest& request) {
  kafka::UpdateFeaturesResponse response;
  for (const auto& update : request.feature_updates) {
    std::string why = CheckUpdate(versions, update);
    if (!why.empty()) {
      response.results.clear();
      response.error_code = ErrorCode::kInvalidUpdateVersion;
      response.error_message = response.strings.Keep(
          "The update failed for all features since the following feature had an error: " + why);
      return response;
    }
    // Kafka names the error that there is not.
    response.results.push_back({update.feature, ErrorCode::kNone, "NONE", {}});
  }
  return response;
}

kafka::UnregisterBrokerResponse UnregisterBroker(int32_t node_id,
                                                 const kafka::UnregisterBrokerRequest& request) {
  kafka::UnregisterBrokerResponse response;
  if (request.broker_id == node_id) {
    response.error_code = ErrorCode::kInvalidRequest;
    response.error_message = "The only broker of a cluster cannot be unregistered";
  } else {
    response.error_code = ErrorCode::kBrokerIdNotRegistered;
    response.error_message = response.strings.Keep(
        "Broker ID " + std::to_string(request.broker_id) + " is not currently registered");
  }
  return response;
}

kafka::AlterReplicaLogDirsResponse AlterReplicaLogDirs(
    std::string_view directory, const Topics& topics,
    const kafka::AlterReplicaLogDirsRequest& request) {
  kafka::AlterReplicaLogDirsResponse response;
  for (const auto& dir : request.dirs) {
    for (const auto& asked : dir.topics) {
      auto& out = response.results.emplace_back();
      out.topic_name = asked.name;
      const Topic* topic = topics.Find(asked.name);
      for (const int32_t index : asked.partitions) {
        ErrorCode error = ErrorCode::kNone;
        if (dir.path != directory) {
          error = ErrorCode::kLogDirNotFound;
        } else if (topic == nullptr || topic->Find(index) == nullptr) {
          error = ErrorCode::kUnknownTopicOrPartition;
        }
        out.partitions.push_back({index, error, {}});
      }
    }
  }
  return response;
}

kafka::AddRaftVoterResponse AddRaftVoter(std::string_view cluster_id,
                                         const kafka::AddRaftVoterRequest& request) {
  kafka::AddRaftVoterResponse response;
  if (IsForOtherCluster(cluster_id, request, &response)) return response;
  if (request.voter_id < 0 || request.voter_directory_id.IsZero()) {
    response.error_code = ErrorCode::kInvalidRequest;
    response.error_message = "Add voter request didn't include a valid voter";
  } else if (request.listeners.empty()) {
    response.error_code = ErrorCode::kInvalidRequest;
    response.error_message = "Add voter request didn't include the endpoint for the listener";
  } else {
    response.error_code = ErrorCode::kUnsupportedVersion;
    response.error_message =
        "Cluster doesn't support adding voter because the kraft.version feature is 0";
  }
  return response;
}

kafka::RemoveRaftVoterResponse RemoveRaftVoter(std::string_view cluster_id,
                                               const kafka::RemoveRaftVoterRequest& request) {
  kafka::RemoveRaftVoterResponse response;
  if (IsForOtherCluster(cluster_id, request, &response)) return response;
  if (request.voter_id < 0 || request.voter_directory_id.IsZero()) {
    response.error_code = ErrorCode::kInvalidRequest;
    response.error_message = "Remove voter request didn't include a valid voter";
  } else {
    response.error_code = ErrorCode::kUnsupportedVersion;
    response.error_message =
        "Cluster doesn't support removing voter because the kraft.version feature is 0";
  }
  return response;
}

kafka::CreateDelegationTokenResponse CreateDelegationToken(
    std::string_view principal, const kafka::CreateDelegationTokenRequest& request) {
  kafka::CreateDelegationTokenResponse response;
  response.error_code = TokenError(principal);
  const size_t colon = principal.find(':');
  response.token_requester_principal_type = principal.substr(0, colon);
  response.token_requester_principal_name = principal.substr(colon + 1);
  const bool for_other = request.owner_principal_name && !request.owner_principal_name->empty();
  response.principal_type = for_other ? request.owner_principal_type.value_or("")
                                      : response.token_requester_principal_type;
  response.principal_name =
      for_other ? *request.owner_principal_name : response.token_requester_principal_name;
  response.issue_timestamp_ms = -1;
  response.expiry_timestamp_ms = -1;
  response.max_timestamp_ms = -1;
  return response;
}

kafka::RenewDelegationTokenResponse RenewDelegationToken(std::string_view principal) {
  kafka::RenewDelegationTokenResponse response;
  response.error_code = TokenError(principal);
  response.expiry_timestamp_ms = -1;
  return response;
}

kafka::ExpireDelegationTokenResponse ExpireDelegationToken(std::string_view principal) {
  kafka::ExpireDelegationTokenResponse response;
  response.error_code = TokenError(principal);
  response.expiry_timestamp_ms = -1;
  return response;
}

kafka::DescribeDelegationTokenResponse DescribeDelegationToken(std::string_view principal) {
  kafka::DescribeDelegationTokenResponse response;
  response.error_code = TokenError(principal);
  return response;
}

}  // namespace holdfast::broker
