#include "broker/access.h"

#include <algorithm>
#include <array>
#include <set>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/add_raft_voter.h"
#include "kafka/api/alter_client_quotas.h"
#include "kafka/api/alter_configs.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/alter_replica_log_dirs.h"
#include "kafka/api/alter_user_scram_credentials.h"
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
#include "kafka/api/remove_raft_voter.h"
#include "kafka/api/renew_delegation_token.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/api/unregister_broker.h"
#include "kafka/api/update_features.h"
#include "kafka/api/write_txn_markers.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::Caller;
using kafka::ErrorCode;

constexpr auto kTopic = ResourceType::kTopic;
constexpr auto kGroup = ResourceType::kGroup;
constexpr auto kCluster = ResourceType::kCluster;
constexpr auto kTransactionalId = ResourceType::kTransactionalId;

constexpr auto kRead = AclOperation::kRead;
constexpr auto kWrite = AclOperation::kWrite;
constexpr auto kCreate = AclOperation::kCreate;
constexpr auto kDelete = AclOperation::kDelete;
constexpr auto kAlter = AclOperation::kAlter;
constexpr auto kDescribe = AclOperation::kDescribe;
constexpr auto kClusterAction = AclOperation::kClusterAction;
constexpr auto kDescribeConfigs = AclOperation::kDescribeConfigs;
constexpr auto kAlterConfigs = AclOperation::kAlterConfigs;
constexpr auto kIdempotentWrite = AclOperation::kIdempotentWrite;

constexpr std::string_view kEach = "each that is named";
constexpr std::string_view kShown = "each that is shown";

template <class Request>
constexpr AccessRequirement Asks(ResourceType resource, AclOperation operation,
                                 std::string_view of = {}) {
  return {Request::kApi, resource, operation, of};
}

constexpr std::array kRequirements{
    Asks<kafka::ProduceRequest>(kTopic, kWrite, kEach),
    Asks<kafka::ProduceRequest>(kTransactionalId, kWrite),
    Asks<kafka::FetchRequest>(kTopic, kRead, kEach),
    Asks<kafka::ListOffsetsRequest>(kTopic, kDescribe, kEach),
    Asks<kafka::MetadataRequest>(kTopic, kDescribe, kShown),
    Asks<kafka::MetadataRequest>(kTopic, kCreate,
                                 "each that it makes, unless it may Create in the cluster"),
    Asks<kafka::MetadataRequest>(kCluster, kDescribe, "the operations allowed in the cluster"),
    Asks<kafka::OffsetCommitRequest>(kGroup, kRead),
    Asks<kafka::OffsetCommitRequest>(kTopic, kRead, kEach),
    Asks<kafka::OffsetFetchRequest>(kGroup, kDescribe, kEach),
    Asks<kafka::OffsetFetchRequest>(kTopic, kDescribe, kShown),
    Asks<kafka::FindCoordinatorRequest>(kGroup, kDescribe, kEach),
    Asks<kafka::FindCoordinatorRequest>(kTransactionalId, kDescribe, kEach),
    Asks<kafka::JoinGroupRequest>(kGroup, kRead),
    Asks<kafka::HeartbeatRequest>(kGroup, kRead),
    Asks<kafka::LeaveGroupRequest>(kGroup, kRead),
    Asks<kafka::SyncGroupRequest>(kGroup, kRead),
    Asks<kafka::DescribeGroupsRequest>(kGroup, kDescribe, kEach),
    Asks<kafka::ListGroupsRequest>(kGroup, kDescribe,
                                   "each that is shown, unless it may Describe the cluster"),
    Asks<kafka::CreateTopicsRequest>(kTopic, kCreate, "each, unless it may Create in the cluster"),
    Asks<kafka::CreateTopicsRequest>(kTopic, kDescribeConfigs, "the settings that are shown"),
    Asks<kafka::DeleteTopicsRequest>(kTopic, kDelete, kEach),
    Asks<kafka::DeleteRecordsRequest>(kTopic, kDelete, kEach),
    Asks<kafka::InitProducerIdRequest>(kTransactionalId, kWrite),
    Asks<kafka::InitProducerIdRequest>(
        kCluster, kIdempotentWrite,
        "the request if it has no transactional id, unless it may Write to any topic"),
    Asks<kafka::OffsetForLeaderEpochRequest>(kTopic, kDescribe, kEach),
    Asks<kafka::AddPartitionsToTxnRequest>(kTransactionalId, kWrite),
    Asks<kafka::AddPartitionsToTxnRequest>(kTopic, kWrite, kEach),
    Asks<kafka::AddPartitionsToTxnRequest>(kCluster, kClusterAction,
                                           "the request from version 4 on, which brokers send"),
    Asks<kafka::AddOffsetsToTxnRequest>(kTransactionalId, kWrite),
    Asks<kafka::AddOffsetsToTxnRequest>(kGroup, kRead),
    Asks<kafka::EndTxnRequest>(kTransactionalId, kWrite),
    Asks<kafka::WriteTxnMarkersRequest>(kCluster, kClusterAction,
                                        "the request, unless it may Alter the cluster"),
    Asks<kafka::TxnOffsetCommitRequest>(kTransactionalId, kWrite),
    Asks<kafka::TxnOffsetCommitRequest>(kGroup, kRead),
    Asks<kafka::TxnOffsetCommitRequest>(kTopic, kRead, kEach),
    Asks<kafka::DescribeAclsRequest>(kCluster, kDescribe),
    Asks<kafka::CreateAclsRequest>(kCluster, kAlter),
    Asks<kafka::DeleteAclsRequest>(kCluster, kAlter),
    Asks<kafka::DescribeConfigsRequest>(kTopic, kDescribeConfigs, kEach),
    Asks<kafka::DescribeConfigsRequest>(kGroup, kDescribeConfigs, kEach),
    Asks<kafka::DescribeConfigsRequest>(kCluster, kDescribeConfigs, "brokers and client metrics"),
    Asks<kafka::AlterConfigsRequest>(kTopic, kAlterConfigs, kEach),
    Asks<kafka::AlterConfigsRequest>(kGroup, kAlterConfigs, kEach),
    Asks<kafka::AlterConfigsRequest>(kCluster, kAlterConfigs, "brokers and client metrics"),
    Asks<kafka::DescribeLogDirsRequest>(kCluster, kDescribe),
    Asks<kafka::CreatePartitionsRequest>(kTopic, kAlter, kEach),
    Asks<kafka::DeleteGroupsRequest>(kGroup, kDelete, kEach),
    Asks<kafka::ElectLeadersRequest>(kCluster, kAlter),
    Asks<kafka::IncrementalAlterConfigsRequest>(kTopic, kAlterConfigs, kEach),
    Asks<kafka::IncrementalAlterConfigsRequest>(kGroup, kAlterConfigs, kEach),
    Asks<kafka::IncrementalAlterConfigsRequest>(kCluster, kAlterConfigs,
                                                "brokers and client metrics"),
    Asks<kafka::AlterPartitionReassignmentsRequest>(kCluster, kAlter),
    Asks<kafka::ListPartitionReassignmentsRequest>(kCluster, kDescribe),
    Asks<kafka::OffsetDeleteRequest>(kGroup, kDelete),
    Asks<kafka::OffsetDeleteRequest>(kTopic, kRead, kEach),
    Asks<kafka::AlterReplicaLogDirsRequest>(kCluster, kAlter),
    Asks<kafka::DescribeClientQuotasRequest>(kCluster, kDescribeConfigs),
    Asks<kafka::AlterClientQuotasRequest>(kCluster, kAlterConfigs),
    Asks<kafka::UpdateFeaturesRequest>(kCluster, kAlter),
    Asks<kafka::UnregisterBrokerRequest>(kCluster, kAlter),
    Asks<kafka::AddRaftVoterRequest>(kCluster, kAlter),
    Asks<kafka::RemoveRaftVoterRequest>(kCluster, kAlter),
    Asks<kafka::DescribeUserScramCredentialsRequest>(kCluster, kDescribe),
    Asks<kafka::AlterUserScramCredentialsRequest>(kCluster, kAlter),
    Asks<kafka::DescribeQuorumRequest>(kCluster, kDescribe),
    Asks<kafka::DescribeClusterRequest>(kCluster, kDescribe,
                                        "the operations allowed in the cluster"),
    Asks<kafka::DescribeProducersRequest>(kTopic, kRead, kEach),
    Asks<kafka::DescribeTransactionsRequest>(kTransactionalId, kDescribe, kEach),
    Asks<kafka::DescribeTransactionsRequest>(kTopic, kDescribe, kShown),
    Asks<kafka::ListTransactionsRequest>(kTransactionalId, kDescribe, kShown),
    Asks<kafka::ConsumerGroupHeartbeatRequest>(kGroup, kRead),
    Asks<kafka::ConsumerGroupHeartbeatRequest>(
        kTopic, kDescribe,
        "each that is named; of those that a pattern fits, the rest is left out"),
    Asks<kafka::ConsumerGroupDescribeRequest>(kGroup, kDescribe, kEach),
    Asks<kafka::ConsumerGroupDescribeRequest>(kTopic, kDescribe,
                                              "all that members of a group subscribe to or have"),
    Asks<kafka::ListConfigResourcesRequest>(kCluster, kDescribeConfigs),
    Asks<kafka::DescribeTopicPartitionsRequest>(kTopic, kDescribe, kShown),
};

// The one operation that a request asks for on resources of this type; with two of them, or none,
// it does not compile.
template <class Request>
consteval AclOperation OperationOn(ResourceType resource) {
  AclOperation found = AclOperation::kUnknown;
  for (const AccessRequirement& requirement : kRequirements) {
    if (requirement.api.key != Request::kApi.key || requirement.resource != resource) continue;
    HF_CHECK(found == AclOperation::kUnknown);
    found = requirement.operation;
  }
  HF_CHECK(found != AclOperation::kUnknown);
  return found;
}

constexpr ErrorCode RefusalOf(ResourceType resource) {
  switch (resource) {
    case ResourceType::kTopic:
      return ErrorCode::kTopicAuthorizationFailed;
    case ResourceType::kGroup:
      return ErrorCode::kGroupAuthorizationFailed;
    case ResourceType::kTransactionalId:
      return ErrorCode::kTransactionalIdAuthorizationFailed;
    default:
      return ErrorCode::kClusterAuthorizationFailed;
  }
}

constexpr std::string_view MessageOf(ErrorCode error) {
  switch (error) {
    case ErrorCode::kTopicAuthorizationFailed:
      return "Topic authorization failed.";
    case ErrorCode::kGroupAuthorizationFailed:
      return "Group authorization failed.";
    case ErrorCode::kTransactionalIdAuthorizationFailed:
      return "Transactional Id authorization failed.";
    default:
      return "Cluster authorization failed.";
  }
}

// --- Responses that refuse ----------------------------------------------------------------------

// A topic of a response, from that of the request, with one error for its partitions.
template <class Out, class In>
Out RefuseTopic(const In& asked, ErrorCode error) {
  Out out;
  if constexpr (requires { out.name = asked.name; }) out.name = asked.name;
  if constexpr (requires { out.topic = asked.topic; }) out.topic = asked.topic;
  if constexpr (requires { out.topic_id = asked.topic_id; }) out.topic_id = asked.topic_id;
  const auto add = [&](const auto& partition) {
    const auto index_of = [](const auto& from) {
      if constexpr (requires { from.partition_index; }) {
        return from.partition_index;
      } else if constexpr (requires { from.partition; }) {
        return from.partition;
      } else if constexpr (requires { from.index; }) {
        return from.index;
      } else {
        return from;
      }
    };
    const int32_t index = index_of(partition);
    if constexpr (requires { out.results_by_partition; }) {
      out.results_by_partition.push_back({index, error, {}});
    } else if constexpr (requires { out.partition_responses; }) {
      auto& refused = out.partition_responses.emplace_back();
      refused.index = index;
      refused.error_code = error;
      refused.base_offset = -1;
    } else {
      auto& refused = out.partitions.emplace_back();
      refused.error_code = error;
      if constexpr (requires { refused.partition_index; }) refused.partition_index = index;
      if constexpr (requires { refused.partition; }) refused.partition = index;
      if constexpr (requires { refused.low_watermark; }) refused.low_watermark = -1;
      if constexpr (requires { refused.committed_offset; }) refused.committed_offset = -1;
      if constexpr (requires { refused.metadata; }) refused.metadata = "";
    }
  };
  if constexpr (requires { asked.partitions; }) {
    for (const auto& partition : asked.partitions) add(partition);
  } else if constexpr (requires { asked.partition_data; }) {
    for (const auto& partition : asked.partition_data) add(partition);
  } else {
    for (const auto& partition : asked.partition_indexes) add(partition);
  }
  return out;
}

template <class Out, class In>
void RefuseTopics(const std::vector<In>& asked, ErrorCode error, std::vector<Out>* out) {
  for (const In& topic : asked) out->push_back(RefuseTopic<Out>(topic, error));
}

// The whole request. Where a response has no error of its own, its parts have it.
template <class Request>
typename Request::Response Refuse(const Request& /*request*/, ErrorCode error) {
  typename Request::Response response;
  response.error_code = error;
  if constexpr (requires { response.error_message; }) response.error_message = MessageOf(error);
  return response;
}
kafka::ProduceResponse Refuse(const kafka::ProduceRequest& request, ErrorCode error) {
  kafka::ProduceResponse response;
  RefuseTopics(request.topic_data, error, &response.responses);
  return response;
}
kafka::OffsetCommitResponse Refuse(const kafka::OffsetCommitRequest& request, ErrorCode error) {
  kafka::OffsetCommitResponse response;
  RefuseTopics(request.topics, error, &response.topics);
  return response;
}
kafka::TxnOffsetCommitResponse Refuse(const kafka::TxnOffsetCommitRequest& request,
                                      ErrorCode error) {
  kafka::TxnOffsetCommitResponse response;
  RefuseTopics(request.topics, error, &response.topics);
  return response;
}
kafka::AddPartitionsToTxnResponse Refuse(const kafka::AddPartitionsToTxnRequest& request,
                                         ErrorCode error) {
  kafka::AddPartitionsToTxnResponse response;
  response.error_code = error;
  RefuseTopics(request.v3_and_below_topics, error, &response.results_by_topic_v3_and_below);
  return response;
}
kafka::InitProducerIdResponse Refuse(const kafka::InitProducerIdRequest& /*request*/,
                                     ErrorCode error) {
  kafka::InitProducerIdResponse response;
  response.error_code = error;
  response.producer_epoch = -1;
  return response;
}
kafka::WriteTxnMarkersResponse Refuse(const kafka::WriteTxnMarkersRequest& request,
                                      ErrorCode error) {
  kafka::WriteTxnMarkersResponse response;
  for (const auto& marker : request.markers) {
    auto& out = response.markers.emplace_back();
    out.producer_id = marker.producer_id;
    RefuseTopics(marker.topics, error, &out.topics);
  }
  return response;
}
kafka::CreateAclsResponse Refuse(const kafka::CreateAclsRequest& request, ErrorCode error) {
  kafka::CreateAclsResponse response;
  response.results.resize(request.creations.size(), {error, MessageOf(error), {}});
  return response;
}
kafka::DeleteAclsResponse Refuse(const kafka::DeleteAclsRequest& request, ErrorCode error) {
  kafka::DeleteAclsResponse response;
  response.filter_results.resize(request.filters.size(), {error, MessageOf(error), {}, {}});
  return response;
}

kafka::AlterUserScramCredentialsResponse Refuse(
    const kafka::AlterUserScramCredentialsRequest& request, ErrorCode error) {
  kafka::AlterUserScramCredentialsResponse response;
  std::set<std::string_view> users;
  for (const auto& one : request.deletions) users.insert(one.name);
  for (const auto& one : request.upsertions) users.insert(one.name);
  for (const std::string_view user : users) {
    response.results.push_back({user, error, MessageOf(error), {}});
  }
  return response;
}

kafka::AlterReplicaLogDirsResponse Refuse(const kafka::AlterReplicaLogDirsRequest& request,
                                          ErrorCode error) {
  kafka::AlterReplicaLogDirsResponse response;
  for (const auto& dir : request.dirs) {
    for (const auto& topic : dir.topics) {
      auto& out = response.results.emplace_back();
      out.topic_name = topic.name;
      for (const int32_t index : topic.partitions) out.partitions.push_back({index, error, {}});
    }
  }
  return response;
}
kafka::AlterClientQuotasResponse Refuse(const kafka::AlterClientQuotasRequest& request,
                                        ErrorCode error) {
  kafka::AlterClientQuotasResponse response;
  for (const auto& entry : request.entries) {
    auto& out = response.entries.emplace_back();
    out.error_code = error;
    out.error_message = MessageOf(error);
    for (const auto& part : entry.entity) {
      out.entity.push_back({part.entity_type, part.entity_name, {}});
    }
  }
  return response;
}

// --- Requests -----------------------------------------------------------------------------------

// Takes out of `items` what is not allowed.
template <class Item, class Allowed>
std::vector<Item> TakeRefused(std::vector<Item>* items, const Allowed& allowed) {
  std::vector<Item> refused;
  if (std::ranges::all_of(*items, allowed)) return refused;
  const auto rest = std::ranges::stable_partition(*items, allowed);
  refused.assign(std::make_move_iterator(rest.begin()), std::make_move_iterator(rest.end()));
  items->erase(rest.begin(), rest.end());
  return refused;
}

class Check {
 public:
  Check(Authorizer& authorizer, const std::shared_ptr<const Topics>& topics, const Caller& caller)
      : authorizer_(authorizer), topics_(topics), caller_(caller) {}

  // Requests that need one thing on the cluster.
  template <class Request>
  bool Admit(Call<Request>& call) {
    return OnCluster(call, OperationOn<Request>(kCluster));
  }

  bool Admit(Call<kafka::ProduceRequest>& call) {
    const auto& id = call.request.transactional_id;
    if (id && !Passes<kTransactionalId>(call, *id)) return false;
    return PartOfTopics(call, &kafka::ProduceRequest::topic_data,
                        &kafka::ProduceResponse::responses);
  }
  // Judged where the partitions are read.
  static bool Admit(Call<kafka::FetchRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::MetadataRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::DescribeTopicPartitionsRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::DescribeClusterRequest>& /*call*/) { return true; }

  // Tokens are given to nobody.
  static bool Admit(Call<kafka::CreateDelegationTokenRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::RenewDelegationTokenRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::ExpireDelegationTokenRequest>& /*call*/) { return true; }
  static bool Admit(Call<kafka::DescribeDelegationTokenRequest>& /*call*/) { return true; }

  bool Admit(Call<kafka::ListOffsetsRequest>& call) { return PartOfTopics(call); }
  bool Admit(Call<kafka::OffsetForLeaderEpochRequest>& call) { return PartOfTopics(call); }
  bool Admit(Call<kafka::DescribeProducersRequest>& call) { return PartOfTopics(call); }
  bool Admit(Call<kafka::DeleteRecordsRequest>& call) { return PartOfTopics(call); }

  // --- Groups ---
  bool Admit(Call<kafka::OffsetCommitRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id) && PartOfTopics(call);
  }
  bool Admit(Call<kafka::TxnOffsetCommitRequest>& call) {
    return Passes<kTransactionalId>(call, call.request.transactional_id) &&
           Passes<kGroup>(call, call.request.group_id) && PartOfTopics(call);
  }
  bool Admit(Call<kafka::OffsetDeleteRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id) && PartOfTopics(call);
  }
  bool Admit(Call<kafka::JoinGroupRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id);
  }
  bool Admit(Call<kafka::SyncGroupRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id);
  }
  bool Admit(Call<kafka::HeartbeatRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id);
  }
  bool Admit(Call<kafka::LeaveGroupRequest>& call) {
    return Passes<kGroup>(call, call.request.group_id);
  }
  bool Admit(Call<kafka::OffsetFetchRequest>& call);
  bool Admit(Call<kafka::FindCoordinatorRequest>& call);
  bool Admit(Call<kafka::DescribeGroupsRequest>& call);
  bool Admit(Call<kafka::ConsumerGroupHeartbeatRequest>& call);
  bool Admit(Call<kafka::ConsumerGroupDescribeRequest>& call);
  bool Admit(Call<kafka::ListGroupsRequest>& call);
  bool Admit(Call<kafka::DeleteGroupsRequest>& call);

  // --- Transactions ---
  bool Admit(Call<kafka::InitProducerIdRequest>& call);
  bool Admit(Call<kafka::AddPartitionsToTxnRequest>& call);
  bool Admit(Call<kafka::AddOffsetsToTxnRequest>& call) {
    return Passes<kTransactionalId>(call, call.request.transactional_id) &&
           Passes<kGroup>(call, call.request.group_id);
  }
  bool Admit(Call<kafka::EndTxnRequest>& call) {
    return Passes<kTransactionalId>(call, call.request.transactional_id);
  }
  bool Admit(Call<kafka::WriteTxnMarkersRequest>& call) {
    using Request = kafka::WriteTxnMarkersRequest;
    return authorizer_.Allows(caller_, kAlter, kCluster, kClusterResource) ||
           OnCluster(call, OperationOn<Request>(kCluster));
  }
  bool Admit(Call<kafka::DescribeTransactionsRequest>& call);
  bool Admit(Call<kafka::ListTransactionsRequest>& call);

  // --- Topics and settings ---
  bool Admit(Call<kafka::CreateTopicsRequest>& call);
  bool Admit(Call<kafka::DeleteTopicsRequest>& call);
  bool Admit(Call<kafka::CreatePartitionsRequest>& call);
  bool Admit(Call<kafka::DescribeConfigsRequest>& call) {
    return PartOfSettings(call, &kafka::DescribeConfigsResponse::results);
  }
  bool Admit(Call<kafka::AlterConfigsRequest>& call) {
    return PartOfSettings(call, &kafka::AlterConfigsResponse::responses);
  }
  bool Admit(Call<kafka::IncrementalAlterConfigsRequest>& call) {
    return PartOfSettings(call, &kafka::IncrementalAlterConfigsResponse::responses);
  }

 private:
  template <class Request, ResourceType kType>
  [[nodiscard]] bool May(std::string_view name) {
    return authorizer_.Allows(caller_, OperationOn<Request>(kType), kType, name);
  }
  template <class Request>
  void RefuseWhole(Call<Request>& call, ErrorCode error) {
    if constexpr (std::is_same_v<Request, kafka::ProduceRequest>) {
      if (call.request.acks == 0) return call.Close("a produce request with acks=0 was refused");
    }
    call.Respond(Refuse(call.request, error));
  }
  template <ResourceType kType, class Request>
  bool Passes(Call<Request>& call, std::string_view name) {
    if (May<Request, kType>(name)) return true;
    RefuseWhole(call, RefusalOf(kType));
    return false;
  }
  template <class Request>
  bool OnCluster(Call<Request>& call, AclOperation operation) {
    if (authorizer_.Allows(caller_, operation, kCluster, kClusterResource)) return true;
    RefuseWhole(call, RefusalOf(kCluster));
    return false;
  }

  // Empty if the topic is named by an id that nobody knows.
  template <class Asked>
  [[nodiscard]] std::string_view NameOf(const Asked& asked) const {
    if constexpr (requires { asked.topic_id; }) {
      if (!asked.topic_id.IsZero()) {
        const Topic* topic = topics_->Find(asked.topic_id);
        return topic == nullptr ? std::string_view() : std::string_view(topic->name);
      }
    }
    if constexpr (requires { asked.name; }) {
      return asked.name;
    } else {
      return asked.topic;
    }
  }
  template <class Request, class Asked>
  std::vector<Asked> RefusedTopics(std::vector<Asked>* topics) {
    return TakeRefused(topics, [this](const Asked& topic) {
      const std::string_view name = NameOf(topic);
      return name.empty() || May<Request, kTopic>(name);
    });
  }
  template <class Request, class Asked, class Response, class Out>
  bool PartOfTopics(Call<Request>& call, std::vector<Asked> Request::*asked,
                    std::vector<Out> Response::*out) {
    auto refused = RefusedTopics<Request>(&(call.request.*asked));
    if (refused.empty()) return true;
    call.SetAmendment([refused = std::move(refused), out](Response& response) {
      RefuseTopics(refused, RefusalOf(kTopic), &(response.*out));
    });
    return true;
  }
  template <class Request>
  bool PartOfTopics(Call<Request>& call) {
    return PartOfTopics(call, &Request::topics, &Request::Response::topics);
  }
  template <class Request, class Response, class Out>
  bool PartOfSettings(Call<Request>& call, std::vector<Out> Response::*out);

  Authorizer& authorizer_;
  const std::shared_ptr<const Topics>& topics_;
  const Caller& caller_;
};

bool Check::Admit(Call<kafka::OffsetFetchRequest>& call) {
  using Request = kafka::OffsetFetchRequest;
  using Response = kafka::OffsetFetchResponse;
  constexpr int16_t kManySince = 8;
  Request& request = call.request;
  if (call.version() < kManySince) {
    if (!Passes<kGroup>(call, request.group_id)) return false;
    if (request.topics) {
      auto refused = RefusedTopics<Request>(&*request.topics);
      if (refused.empty()) return true;
      call.SetAmendment([refused = std::move(refused)](Response& response) {
        RefuseTopics(refused, RefusalOf(kTopic), &response.topics);
      });
    } else if (authorizer_.enabled()) {
      call.SetAmendment([judge = authorizer_.judge(), peer = caller_.peer](Response& response) {
        std::erase_if(response.topics, [&](const auto& topic) {
          return !judge->Allows({peer->principal, peer->address}, OperationOn<Request>(kTopic),
                                kTopic, topic.name);
        });
      });
    }
    return true;
  }
  auto groups = TakeRefused(
      &request.groups, [this](const auto& group) { return May<Request, kGroup>(group.group_id); });
  std::vector<std::vector<Request::OffsetFetchRequestTopics>>
      topics;  // Of each group that is left.
  bool any = !groups.empty();
  for (auto& group : request.groups) {
    auto& refused = topics.emplace_back();
    if (group.topics) {
      refused = RefusedTopics<Request>(&*group.topics);
      any |= !refused.empty();
    } else {
      any |= authorizer_.enabled();
    }
  }
  if (!any) return true;
  // Who asks for all topics is shown those that he may see; names stand there, or ids.
  const auto may_see = [judge = authorizer_.judge(), peer = caller_.peer,
                        all = topics_](const auto& topic) {
    const Topic* by_id = all->Find(topic.topic_id);
    const std::string_view name = by_id == nullptr ? topic.name : std::string_view(by_id->name);
    return judge->Allows({peer->principal, peer->address}, OperationOn<Request>(kTopic), kTopic,
                         name);
  };
  std::vector<bool> asked_all;
  for (const auto& group : request.groups) asked_all.push_back(!group.topics);
  call.SetAmendment([may_see, groups = std::move(groups), topics = std::move(topics),
                     asked_all = std::move(asked_all)](Response& response) {
    for (size_t i = 0; i < topics.size() && i < response.groups.size(); ++i) {
      auto& out = response.groups[i];
      if (asked_all[i]) std::erase_if(out.topics, [&](const auto& t) { return !may_see(t); });
      RefuseTopics(topics[i], RefusalOf(kTopic), &out.topics);
    }
    for (const auto& group : groups) {
      auto& out = response.groups.emplace_back();
      out.group_id = group.group_id;
      out.error_code = RefusalOf(kGroup);
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::FindCoordinatorRequest>& call) {
  using Request = kafka::FindCoordinatorRequest;
  constexpr int16_t kManySince = 4;
  constexpr int8_t kOfTransactions = 1;
  Request& request = call.request;
  if (request.key_type != 0 && request.key_type != kOfTransactions) return true;
  const ResourceType type = request.key_type == 0 ? kGroup : kTransactionalId;
  const auto may = [&](std::string_view key) {
    return type == kGroup ? May<Request, kGroup>(key) : May<Request, kTransactionalId>(key);
  };
  const auto refuse = [](ErrorCode error, auto& out) {
    out.error_code = error;
    out.error_message = MessageOf(error);
    out.node_id = -1;
    out.port = -1;
  };
  const ErrorCode error = RefusalOf(type);
  if (call.version() < kManySince) {
    if (may(request.key)) return true;
    kafka::FindCoordinatorResponse response;
    refuse(error, response);
    call.Respond(response);
    return false;
  }
  auto refused = TakeRefused(&request.coordinator_keys, may);
  if (refused.empty()) return true;
  call.SetAmendment([refused = std::move(refused), refuse, error](auto& response) {
    for (const std::string_view key : refused) {
      auto& out = response.coordinators.emplace_back();
      out.key = key;
      refuse(error, out);
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::DescribeGroupsRequest>& call) {
  using Request = kafka::DescribeGroupsRequest;
  auto refused = TakeRefused(&call.request.groups,
                             [this](std::string_view id) { return May<Request, kGroup>(id); });
  const bool operations = call.request.include_authorized_operations;
  if (refused.empty() && !operations) return true;
  call.SetAmendment([refused = std::move(refused), operations, judge = authorizer_.judge(),
                     peer = caller_.peer](auto& response) {
    for (auto& group : response.groups) {
      if (!operations || group.error_code != ErrorCode::kNone) continue;
      group.authorized_operations =
          judge->Operations({peer->principal, peer->address}, kGroup, group.group_id);
    }
    for (const std::string_view id : refused) {
      auto& out = response.groups.emplace_back();
      out.group_id = id;
      out.error_code = RefusalOf(kGroup);
      out.error_message = MessageOf(out.error_code);
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::ConsumerGroupHeartbeatRequest>& call) {
  using Request = kafka::ConsumerGroupHeartbeatRequest;
  if (!Passes<kGroup>(call, call.request.group_id)) return false;
  for (const std::string_view name :
       call.request.subscribed_topic_names.value_or(std::vector<std::string_view>())) {
    if (May<Request, kTopic>(name)) continue;
    RefuseWhole(call, RefusalOf(kTopic));
    return false;
  }
  return true;
}

bool Check::Admit(Call<kafka::ConsumerGroupDescribeRequest>& call) {
  using Request = kafka::ConsumerGroupDescribeRequest;
  auto refused = TakeRefused(&call.request.group_ids,
                             [this](std::string_view id) { return May<Request, kGroup>(id); });
  const bool operations = call.request.include_authorized_operations;
  if (refused.empty() && !operations && !authorizer_.enabled()) return true;
  call.SetAmendment([refused = std::move(refused), operations, judge = authorizer_.judge(),
                     peer = caller_.peer](auto& response) {
    const Subject subject{peer->principal, peer->address};
    const auto hidden = [&](std::string_view topic) {
      return !judge->Allows(subject, OperationOn<Request>(kTopic), kTopic, topic);
    };
    const auto any_hidden = [&](const auto& assignment) {
      return std::ranges::any_of(assignment.topic_partitions,
                                 [&](const auto& topic) { return hidden(topic.topic_name); });
    };
    for (auto& group : response.groups) {
      if (group.error_code != ErrorCode::kNone) continue;
      if (operations) {
        group.authorized_operations = judge->Operations(subject, kGroup, group.group_id);
      }
      const bool refuse = std::ranges::any_of(group.members, [&](const auto& member) {
        return std::ranges::any_of(member.subscribed_topic_names, hidden) ||
               any_hidden(member.assignment) || any_hidden(member.target_assignment);
      });
      if (!refuse) continue;
      group.error_code = RefusalOf(kTopic);
      group.error_message =
          "The group has described topic(s) that the client is not authorized to describe.";
      group.members.clear();
    }
    for (const std::string_view id : refused) {
      auto& out = response.groups.emplace_back();
      out.group_id = id;
      out.error_code = RefusalOf(kGroup);
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::ListGroupsRequest>& call) {
  if (authorizer_.Allows(caller_, kDescribe, kCluster, kClusterResource)) return true;
  call.SetAmendment([judge = authorizer_.judge(), peer = caller_.peer](auto& response) {
    std::erase_if(response.groups, [&](const auto& group) {
      return !judge->Allows({peer->principal, peer->address},
                            OperationOn<kafka::ListGroupsRequest>(kGroup), kGroup, group.group_id);
    });
  });
  return true;
}

bool Check::Admit(Call<kafka::DeleteGroupsRequest>& call) {
  using Request = kafka::DeleteGroupsRequest;
  auto refused = TakeRefused(&call.request.groups_names,
                             [this](std::string_view id) { return May<Request, kGroup>(id); });
  if (refused.empty()) return true;
  call.SetAmendment([refused = std::move(refused)](auto& response) {
    for (const std::string_view id : refused) {
      response.results.push_back({id, RefusalOf(kGroup), {}});
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::InitProducerIdRequest>& call) {
  using Request = kafka::InitProducerIdRequest;
  if (call.request.transactional_id) {
    return Passes<kTransactionalId>(call, *call.request.transactional_id);
  }
  if (May<Request, kCluster>(kClusterResource)) return true;
  if (authorizer_.judge()->AllowsSome(Authorizer::SubjectOf(caller_), kWrite, kTopic)) return true;
  RefuseWhole(call, RefusalOf(kCluster));
  return false;
}

bool Check::Admit(Call<kafka::AddPartitionsToTxnRequest>& call) {
  using Request = kafka::AddPartitionsToTxnRequest;
  using Response = kafka::AddPartitionsToTxnResponse;
  constexpr int16_t kOfBrokersSince = 4;
  if (call.version() >= kOfBrokersSince) {
    if (!OnCluster(call, OperationOn<Request>(kCluster))) return false;
    // A broker has asked itself already what its client may.
    return true;
  }
  Request& request = call.request;
  if (!Passes<kTransactionalId>(call, request.v3_and_below_transactional_id)) return false;
  auto refused = RefusedTopics<Request>(&request.v3_and_below_topics);
  if (refused.empty()) return true;
  // All or none.
  Response response;
  RefuseTopics(refused, RefusalOf(kTopic), &response.results_by_topic_v3_and_below);
  RefuseTopics(request.v3_and_below_topics, ErrorCode::kOperationNotAttempted,
               &response.results_by_topic_v3_and_below);
  call.Respond(response);
  return false;
}

bool Check::Admit(Call<kafka::DescribeTransactionsRequest>& call) {
  using Request = kafka::DescribeTransactionsRequest;
  if (!authorizer_.enabled()) return true;
  auto refused = TakeRefused(&call.request.transactional_ids, [this](std::string_view id) {
    return May<Request, kTransactionalId>(id);
  });
  call.SetAmendment([refused = std::move(refused), judge = authorizer_.judge(),
                     peer = caller_.peer](auto& response) {
    for (auto& transaction : response.transaction_states) {
      std::erase_if(transaction.topics, [&](const auto& topic) {
        return !judge->Allows({peer->principal, peer->address}, OperationOn<Request>(kTopic),
                              kTopic, topic.topic);
      });
    }
    for (const std::string_view id : refused) {
      auto& out = response.transaction_states.emplace_back();
      out.transactional_id = id;
      out.error_code = RefusalOf(kTransactionalId);
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::ListTransactionsRequest>& call) {
  if (!authorizer_.enabled()) return true;
  call.SetAmendment([judge = authorizer_.judge(), peer = caller_.peer](auto& response) {
    std::erase_if(response.transaction_states, [&](const auto& transaction) {
      return !judge->Allows({peer->principal, peer->address},
                            OperationOn<kafka::ListTransactionsRequest>(kTransactionalId),
                            kTransactionalId, transaction.transactional_id);
    });
  });
  return true;
}

bool Check::Admit(Call<kafka::CreateTopicsRequest>& call) {
  using Response = kafka::CreateTopicsResponse;
  if (!authorizer_.enabled()) return true;
  const bool all = authorizer_.Allows(caller_, kCreate, kCluster, kClusterResource);
  auto refused = TakeRefused(&call.request.topics, [&](const auto& topic) {
    return all || authorizer_.Allows(caller_, kCreate, kTopic, topic.name);
  });
  call.SetAmendment([refused = std::move(refused), judge = authorizer_.judge(),
                     peer = caller_.peer](Response& response) {
    for (auto& topic : response.topics) {
      if (topic.error_code != ErrorCode::kNone ||
          judge->Allows({peer->principal, peer->address}, kDescribeConfigs, kTopic, topic.name)) {
        continue;
      }
      topic.topic_config_error_code = RefusalOf(kTopic);
      topic.num_partitions = -1;
      topic.replication_factor = -1;
      topic.configs.emplace().clear();
    }
    for (const auto& topic : refused) {
      auto& out = response.topics.emplace_back();
      out.name = topic.name;
      out.error_code = RefusalOf(kTopic);
      out.error_message = "Authorization failed.";
      out.configs.emplace();
    }
  });
  return true;
}

bool Check::Admit(Call<kafka::DeleteTopicsRequest>& call) {
  using Request = kafka::DeleteTopicsRequest;
  constexpr int16_t kMessagesSince = 5;
  auto names = TakeRefused(&call.request.topic_names,
                           [this](std::string_view name) { return May<Request, kTopic>(name); });
  auto topics = TakeRefused(&call.request.topics, [this](const auto& topic) {
    const Topic* by_id = topic.name ? nullptr : topics_->Find(topic.topic_id);
    if (!topic.name && by_id == nullptr) return true;
    return May<Request, kTopic>(topic.name ? *topic.name : std::string_view(by_id->name));
  });
  if (names.empty() && topics.empty()) return true;
  call.SetAmendment([names = std::move(names), topics = std::move(topics),
                     with_message = call.version() >= kMessagesSince](auto& response) {
    const auto refuse = [&](std::optional<std::string_view> name, const kafka::Uuid& id) {
      auto& out = response.responses.emplace_back();
      out.name = name;
      out.topic_id = id;
      out.error_code = RefusalOf(kTopic);
      if (with_message) out.error_message = MessageOf(out.error_code);
    };
    for (const std::string_view name : names) refuse(name, {});
    for (const auto& topic : topics) refuse(topic.name, topic.topic_id);
  });
  return true;
}

bool Check::Admit(Call<kafka::CreatePartitionsRequest>& call) {
  using Request = kafka::CreatePartitionsRequest;
  auto refused = RefusedTopics<Request>(&call.request.topics);
  if (refused.empty()) return true;
  call.SetAmendment([refused = std::move(refused)](auto& response) {
    for (const auto& topic : refused) {
      response.results.push_back({topic.name, RefusalOf(kTopic), MessageOf(RefusalOf(kTopic)), {}});
    }
  });
  return true;
}

template <class Request, class Response, class Out>
bool Check::PartOfSettings(Call<Request>& call, std::vector<Out> Response::*out) {
  constexpr int8_t kTopicSettings = 2;
  constexpr int8_t kGroupSettings = 32;
  const auto type_of = [](const auto& resource) {
    if (resource.resource_type == kTopicSettings) return kTopic;
    return resource.resource_type == kGroupSettings ? kGroup : kCluster;
  };
  auto refused = TakeRefused(&call.request.resources, [&](const auto& resource) {
    switch (type_of(resource)) {
      case kTopic:
        return May<Request, kTopic>(resource.resource_name);
      case kGroup:
        return May<Request, kGroup>(resource.resource_name);
      default:
        return May<Request, kCluster>(kClusterResource);
    }
  });
  if (refused.empty()) return true;
  call.SetAmendment([refused = std::move(refused), type_of, out](Response& response) {
    for (const auto& resource : refused) {
      auto& result = (response.*out).emplace_back();
      result.resource_type = resource.resource_type;
      result.resource_name = resource.resource_name;
      result.error_code = RefusalOf(type_of(resource));
      result.error_message = MessageOf(result.error_code);
    }
  });
  return true;
}

std::string_view NameOf(ResourceType type) {
  switch (type) {
    case ResourceType::kTopic:
      return "topic";
    case ResourceType::kGroup:
      return "group";
    case ResourceType::kTransactionalId:
      return "transactional id";
    case ResourceType::kUser:
      return "user";
    case ResourceType::kDelegationToken:
      return "delegation token";
    default:
      return "cluster";
  }
}

std::string_view NameOf(AclOperation operation) {
  static constexpr std::array<std::string_view, 16> kNames{"",
                                                           "",
                                                           "",
                                                           "Read",
                                                           "Write",
                                                           "Create",
                                                           "Delete",
                                                           "Alter",
                                                           "Describe",
                                                           "ClusterAction",
                                                           "DescribeConfigs",
                                                           "AlterConfigs",
                                                           "IdempotentWrite",
                                                           "CreateTokens",
                                                           "DescribeTokens",
                                                           "TwoPhaseCommit"};
  return kNames.at(static_cast<size_t>(operation));
}

}  // namespace

std::span<const AccessRequirement> AccessRequirements() { return kRequirements; }

std::string RenderAccessTable() {
  std::string text =
      "| API | resource | operation | asked for |\n"
      "| --- | --- | --- | --- |\n";
  for (const AccessRequirement& requirement : kRequirements) {
    text += "| " + std::string(requirement.api.name) + " | " +
            std::string(NameOf(requirement.resource)) + " | " +
            std::string(NameOf(requirement.operation)) + " | " +
            std::string(requirement.of.empty() ? "the request" : requirement.of) + " |\n";
  }
  return text;
}

template <class Request>
bool Access::Admit(Call<Request>& call) {
  return Check(authorizer_, catalog_.shared(), call.caller()).Admit(call);
}

#define HF_ADMITS(Name) template bool Access::Admit(Call<kafka::Name##Request>&)
HF_ADMITS(Produce);
HF_ADMITS(Fetch);
HF_ADMITS(ListOffsets);
HF_ADMITS(Metadata);
HF_ADMITS(OffsetCommit);
HF_ADMITS(OffsetFetch);
HF_ADMITS(FindCoordinator);
HF_ADMITS(JoinGroup);
HF_ADMITS(Heartbeat);
HF_ADMITS(LeaveGroup);
HF_ADMITS(SyncGroup);
HF_ADMITS(DescribeGroups);
HF_ADMITS(ListGroups);
HF_ADMITS(CreateTopics);
HF_ADMITS(DeleteTopics);
HF_ADMITS(DeleteRecords);
HF_ADMITS(InitProducerId);
HF_ADMITS(OffsetForLeaderEpoch);
HF_ADMITS(AddPartitionsToTxn);
HF_ADMITS(AddOffsetsToTxn);
HF_ADMITS(EndTxn);
HF_ADMITS(WriteTxnMarkers);
HF_ADMITS(TxnOffsetCommit);
HF_ADMITS(DescribeAcls);
HF_ADMITS(CreateAcls);
HF_ADMITS(DeleteAcls);
HF_ADMITS(DescribeConfigs);
HF_ADMITS(AlterConfigs);
HF_ADMITS(CreatePartitions);
HF_ADMITS(DeleteGroups);
HF_ADMITS(ElectLeaders);
HF_ADMITS(IncrementalAlterConfigs);
HF_ADMITS(AlterPartitionReassignments);
HF_ADMITS(ListPartitionReassignments);
HF_ADMITS(OffsetDelete);
HF_ADMITS(AlterReplicaLogDirs);
HF_ADMITS(CreateDelegationToken);
HF_ADMITS(RenewDelegationToken);
HF_ADMITS(ExpireDelegationToken);
HF_ADMITS(DescribeDelegationToken);
HF_ADMITS(DescribeClientQuotas);
HF_ADMITS(AlterClientQuotas);
HF_ADMITS(UpdateFeatures);
HF_ADMITS(UnregisterBroker);
HF_ADMITS(AddRaftVoter);
HF_ADMITS(RemoveRaftVoter);
HF_ADMITS(DescribeUserScramCredentials);
HF_ADMITS(AlterUserScramCredentials);
HF_ADMITS(DescribeQuorum);
HF_ADMITS(DescribeLogDirs);
HF_ADMITS(DescribeCluster);
HF_ADMITS(DescribeProducers);
HF_ADMITS(DescribeTransactions);
HF_ADMITS(ListTransactions);
HF_ADMITS(ConsumerGroupHeartbeat);
HF_ADMITS(ConsumerGroupDescribe);
HF_ADMITS(ListConfigResources);
HF_ADMITS(DescribeTopicPartitions);
#undef HF_ADMITS

}  // namespace holdfast::broker
