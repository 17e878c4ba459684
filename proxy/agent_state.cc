#include "proxy/agent_state.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/produce.h"
#include "kafka/api/sync_group.h"
#include "proxy/intercepted.h"
#include "proxy/refusals.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::RequestHeader;

// Those of groups and their state whose messages are not in the codec.
constexpr int16_t kShareGroupHeartbeat = 76;
constexpr int16_t kShareAcknowledge = 79;
constexpr int16_t kInitializeShareGroupState = 83;
constexpr int16_t kDeleteShareGroupOffsets = 92;

struct Asked {
  const std::string_view frame;
  const RequestHeader& header;
  net::Reply& reply;

  template <class Response>
  bool Refuse(const Response& response) {
    reply.Send(kafka::EncodeResponse(response, header.api_version, header.correlation_id));
    return false;
  }
  bool Close() {
    reply.Close("a request of API " + std::to_string(header.api_key) +
                " about what the agent keeps at the tier");
    return false;
  }
  template <class Request>
  std::optional<Request> Decode() {
    if (!Request::kApi.Knows(header.api_version)) return std::nullopt;
    auto request = kafka::DecodeRequest<Request>(frame, header);
    if (!request) return std::nullopt;
    return *std::move(request);
  }
};

// Whose answer has one error, or one for each partition.
template <class Request>
bool MayUse(Asked& asked, auto name, ErrorCode error) {
  const auto request = asked.Decode<Request>();
  if (!request) return asked.Close();
  if (!IsAgentName(std::invoke(name, *request))) return true;
  typename Request::Response response;
  if constexpr (requires { response.error_code; }) {
    response.error_code = error;
  } else {
    response = RefusedCommit(*request, error);
  }
  return asked.Refuse(response);
}

template <class Request>
bool MayUseGroup(Asked& asked) {
  return MayUse<Request>(asked, &Request::group_id, ErrorCode::kGroupAuthorizationFailed);
}

template <class Request>
bool MayUseTransaction(Asked& asked) {
  return MayUse<Request>(asked, &Request::transactional_id,
                         ErrorCode::kTransactionalIdAuthorizationFailed);
}

// Whose answer has an error for each name. None passes if one does not.
template <class Request>
bool MayUseAll(Asked& asked, auto names, auto rows, auto name, ErrorCode error) {
  const auto request = asked.Decode<Request>();
  if (!request) return asked.Close();
  const std::vector<std::string_view>& named = std::invoke(names, *request);
  if (std::ranges::none_of(named, IsAgentName)) return true;
  typename Request::Response response;
  for (const std::string_view one : named) {
    auto& row = std::invoke(rows, response).emplace_back();
    std::invoke(name, row) = one;
    row.error_code = error;
  }
  return asked.Refuse(response);
}

bool MayFindCoordinator(Asked& asked) {
  constexpr int16_t kManyKeysSince = 4;
  constexpr int8_t kOfTransaction = 1;
  const auto request = asked.Decode<kafka::FindCoordinatorRequest>();
  if (!request) return asked.Close();
  const ErrorCode error = request->key_type == kOfTransaction
                              ? ErrorCode::kTransactionalIdAuthorizationFailed
                              : ErrorCode::kGroupAuthorizationFailed;
  if (asked.header.api_version < kManyKeysSince) {
    if (!IsAgentName(request->key)) return true;
    return asked.Refuse(
        kafka::FindCoordinatorResponse{.error_code = error, .node_id = -1, .port = -1});
  }
  if (std::ranges::none_of(request->coordinator_keys, IsAgentName)) return true;
  kafka::FindCoordinatorResponse response;
  for (const std::string_view key : request->coordinator_keys)
    response.coordinators.push_back({.key = key, .node_id = -1, .port = -1, .error_code = error});
  return asked.Refuse(response);
}

bool MayFetchOffsets(Asked& asked) {
  const auto request = asked.Decode<kafka::OffsetFetchRequest>();
  if (!request) return asked.Close();
  const auto agents = [](const auto& group) { return IsAgentName(group.group_id); };
  if (!agents(*request) && std::ranges::none_of(request->groups, agents)) return true;
  return asked.Refuse(RefusedFetch(*request, ErrorCode::kGroupAuthorizationFailed));
}

bool MayAddPartitions(Asked& asked) {
  const auto request = asked.Decode<kafka::AddPartitionsToTxnRequest>();
  // Of many transactions: those of brokers.
  if (!request || !request->transactions.empty()) return asked.Close();
  if (!IsAgentName(request->v3_and_below_transactional_id)) return true;
  kafka::AddPartitionsToTxnResponse response;
  for (const auto& topic : request->v3_and_below_topics) {
    auto& result = response.results_by_topic_v3_and_below.emplace_back();
    result.name = topic.name;
    for (const int32_t index : topic.partitions) {
      result.results_by_partition.push_back(
          {.partition_index = index,
           .partition_error_code = ErrorCode::kTransactionalIdAuthorizationFailed});
    }
  }
  return asked.Refuse(response);
}

template <class Response>
bool Hide(Asked& asked, auto rows, auto name) {
  if (!Response::kApi.Knows(asked.header.api_version)) return asked.Close();
  asked.reply = Intercepted::Make(
      std::move(asked.reply), [rows, name, version = asked.header.api_version,
                               correlation_id = asked.header.correlation_id](base::Buffer answer) {
        if (answer.empty()) return answer;
        auto response = kafka::DecodeResponse<Response>(answer.view(), version);
        if (!response) return base::Buffer();
        std::erase_if(std::invoke(rows, *response),
                      [&](const auto& row) { return IsAgentName(std::invoke(name, row)); });
        return WithoutLength(kafka::EncodeResponse(*response, version, correlation_id));
      });
  return true;
}

// Names are in requests as they are, so that most are not worth to be read.
bool NamesAgents(const Asked& asked) {
  return asked.frame.substr(std::min(asked.header.size, asked.frame.size())).find(kAgentNames) !=
         std::string_view::npos;
}

bool JudgeGroups(Asked& asked) {
  constexpr ErrorCode kRefused = ErrorCode::kGroupAuthorizationFailed;
  switch (asked.header.api_key) {
    case kafka::OffsetCommitRequest::kApi.key:
      return MayUseGroup<kafka::OffsetCommitRequest>(asked);
    case kafka::OffsetFetchRequest::kApi.key:
      return MayFetchOffsets(asked);
    case kafka::OffsetDeleteRequest::kApi.key:
      return MayUseGroup<kafka::OffsetDeleteRequest>(asked);
    case kafka::JoinGroupRequest::kApi.key:
      return MayUseGroup<kafka::JoinGroupRequest>(asked);
    case kafka::SyncGroupRequest::kApi.key:
      return MayUseGroup<kafka::SyncGroupRequest>(asked);
    case kafka::HeartbeatRequest::kApi.key:
      return MayUseGroup<kafka::HeartbeatRequest>(asked);
    case kafka::LeaveGroupRequest::kApi.key:
      return MayUseGroup<kafka::LeaveGroupRequest>(asked);
    case kafka::ConsumerGroupHeartbeatRequest::kApi.key:
      return MayUseGroup<kafka::ConsumerGroupHeartbeatRequest>(asked);
    case kafka::DescribeGroupsRequest::kApi.key:
      return MayUseAll<kafka::DescribeGroupsRequest>(
          asked, &kafka::DescribeGroupsRequest::groups, &kafka::DescribeGroupsResponse::groups,
          &kafka::DescribeGroupsResponse::DescribedGroup::group_id, kRefused);
    case kafka::ConsumerGroupDescribeRequest::kApi.key:
      return MayUseAll<kafka::ConsumerGroupDescribeRequest>(
          asked, &kafka::ConsumerGroupDescribeRequest::group_ids,
          &kafka::ConsumerGroupDescribeResponse::groups,
          &kafka::ConsumerGroupDescribeResponse::DescribedGroup::group_id, kRefused);
    case kafka::DeleteGroupsRequest::kApi.key:
      return MayUseAll<kafka::DeleteGroupsRequest>(
          asked, &kafka::DeleteGroupsRequest::groups_names, &kafka::DeleteGroupsResponse::results,
          &kafka::DeleteGroupsResponse::DeletableGroupResult::group_id, kRefused);
    default:
      return true;
  }
}

}  // namespace

bool SparesAgentState(std::string_view frame, const RequestHeader& header, net::Reply& reply) {
  Asked asked{frame, header, reply};
  if (header.api_key == kafka::ListGroupsRequest::kApi.key) {
    return Hide<kafka::ListGroupsResponse>(asked, &kafka::ListGroupsResponse::groups,
                                           &kafka::ListGroupsResponse::ListedGroup::group_id);
  }
  if (header.api_key == kafka::ListTransactionsRequest::kApi.key) {
    return Hide<kafka::ListTransactionsResponse>(
        asked, &kafka::ListTransactionsResponse::transaction_states,
        &kafka::ListTransactionsResponse::TransactionState::transactional_id);
  }
  // Of records the names are few and far between.
  if (header.api_key == kafka::ProduceRequest::kApi.key || !NamesAgents(asked)) return true;
  switch (header.api_key) {
    case kafka::FindCoordinatorRequest::kApi.key:
      return MayFindCoordinator(asked);
    case kafka::InitProducerIdRequest::kApi.key:
      return MayUse<kafka::InitProducerIdRequest>(
          asked, [](const auto& request) { return request.transactional_id.value_or(""); },
          ErrorCode::kTransactionalIdAuthorizationFailed);
    case kafka::AddPartitionsToTxnRequest::kApi.key:
      return MayAddPartitions(asked);
    case kafka::AddOffsetsToTxnRequest::kApi.key:
      return MayUseTransaction<kafka::AddOffsetsToTxnRequest>(asked) &&
             MayUseGroup<kafka::AddOffsetsToTxnRequest>(asked);
    case kafka::TxnOffsetCommitRequest::kApi.key:
      return MayUseTransaction<kafka::TxnOffsetCommitRequest>(asked) &&
             MayUseGroup<kafka::TxnOffsetCommitRequest>(asked);
    case kafka::EndTxnRequest::kApi.key:
      return MayUseTransaction<kafka::EndTxnRequest>(asked);
    case kafka::DescribeTransactionsRequest::kApi.key:
      return MayUseAll<kafka::DescribeTransactionsRequest>(
          asked, &kafka::DescribeTransactionsRequest::transactional_ids,
          &kafka::DescribeTransactionsResponse::transaction_states,
          &kafka::DescribeTransactionsResponse::TransactionState::transactional_id,
          ErrorCode::kTransactionalIdAuthorizationFailed);
    default:
      break;
  }
  const bool of_unknown =
      (header.api_key >= kShareGroupHeartbeat && header.api_key <= kShareAcknowledge) ||
      (header.api_key >= kInitializeShareGroupState && header.api_key <= kDeleteShareGroupOffsets);
  return of_unknown ? asked.Close() : JudgeGroups(asked);
}

}  // namespace holdfast::proxy
