#include "proxy/transaction_requests.h"

#include <algorithm>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/txn_offset_commit.h"
#include "proxy/local_answers.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::RequestHeader;
using Protocol = LocalTransactions::Protocol;

constexpr int8_t kTransactionKey = 1;  // Of FindCoordinator.
constexpr int16_t kManyKeysSince = 4;
constexpr int16_t kSecondProtocolEndTxn = 5;

// The first versions whose clients know these codes.
struct KnownCodes {
  int16_t producer_fenced;
  int16_t transaction_abortable;
};
constexpr KnownCodes kOfInitProducerId{4, 6};
constexpr KnownCodes kOfAddPartitions{2, 5};
constexpr KnownCodes kOfEndTxn{2, 4};

// On UNKNOWN_PRODUCER_ID clients that do not know the newer code abort, take a new epoch and go on,
// but for Java's before 2.5: to these any code of EndTxn is fatal that is not to be tried again.
// INVALID_PRODUCER_ID_MAPPING is fatal to Java's from 4.0 on, INVALID_TXN_STATE to most.
ErrorCode ForVersion(ErrorCode error, int16_t version, const KnownCodes& known) {
  if (error == ErrorCode::kProducerFenced && version < known.producer_fenced) {
    return ErrorCode::kInvalidProducerEpoch;
  }
  if (error == ErrorCode::kTransactionAbortable && version < known.transaction_abortable) {
    return ErrorCode::kUnknownProducerId;
  }
  return error;
}

void Warn(std::string_view transactional_id, std::string_view group) {
  base::Log(base::Event::kOffsetsInLocalTransaction, {"transaction", transactional_id},
            "positions of group {} cannot be part of a local transaction, since whether its "
            "member is fenced is known at the tier only; take this id out of agent.transactions",
            group);
}

// One request that has been decoded, with all that its answer needs.
struct Asked {
  FrontDoor& front;
  net::Connection& connection;
  int32_t node;
  const std::string& principal;
  base::Buffer& frame;
  const RequestHeader& header;
  net::Reply& reply;

  [[nodiscard]] LocalTransactions& local() const { return *front.transactions(); }
  [[nodiscard]] LocalTransactions::Target Target(std::string_view transactional_id) const {
    return {.transactional_id = std::string(transactional_id), .principal = principal};
  }
  template <class Response>
  void Send(const Response& response) const {
    reply.Send(kafka::EncodeResponse(response, header.api_version, header.correlation_id));
  }
};

// The agent is the coordinator, at the address to which the client is connected already.
bool Take(const Asked& asked, const kafka::FindCoordinatorRequest& request) {
  const bool many = asked.header.api_version >= kManyKeysSince;
  const auto owned = [&](std::string_view key) { return asked.local().Owns(key); };
  if (request.key_type != kTransactionKey) return false;
  if (many ? request.coordinator_keys.empty() ||
                 !std::ranges::all_of(request.coordinator_keys, owned)
           : !owned(request.key)) {
    return false;
  }
  const LocalAddresses addresses = asked.front.AddressesFor(asked.connection);
  int32_t node = asked.node == kNoNode ? asked.front.ports.BootstrapNode() : asked.node;
  if (node == kNoNode) node = kUnseenNode;
  const int32_t port = asked.connection.local().port();
  kafka::FindCoordinatorResponse response;
  if (!many) {
    response.node_id = node;
    response.host = addresses.host;
    response.port = port;
  }
  for (const std::string_view key : request.coordinator_keys) {
    response.coordinators.push_back(
        {.key = key, .node_id = node, .host = addresses.host, .port = port});
  }
  asked.Send(response);
  return true;
}

bool Take(const Asked& asked, const kafka::InitProducerIdRequest& request) {
  if (!request.transactional_id || !asked.local().Owns(*request.transactional_id)) return false;
  asked.local().InitProducer(
      asked.Target(*request.transactional_id), request.transaction_timeout_ms,
      {.id = request.producer_id, .epoch = request.producer_epoch},
      [version = asked.header.api_version, correlation_id = asked.header.correlation_id,
       reply = std::move(asked.reply)](ErrorCode error,
                                       LocalTransactions::Producer producer) mutable {
        const kafka::InitProducerIdResponse response{
            .error_code = ForVersion(error, version, kOfInitProducerId),
            .producer_id = producer.id,
            .producer_epoch = producer.epoch};
        reply.Send(kafka::EncodeResponse(response, version, correlation_id));
      });
  return true;
}

bool Take(const Asked& asked, const kafka::AddPartitionsToTxnRequest& request) {
  if (!asked.local().Owns(request.v3_and_below_transactional_id)) return false;
  LocalTransactions::Partitions partitions;
  for (const auto& topic : request.v3_and_below_topics) {
    for (const int32_t index : topic.partitions) partitions.emplace_back(topic.name, index);
  }
  asked.local().AddPartitions(
      asked.Target(request.v3_and_below_transactional_id),
      {.id = request.v3_and_below_producer_id, .epoch = request.v3_and_below_producer_epoch},
      partitions,
      [partitions, version = asked.header.api_version, correlation_id = asked.header.correlation_id,
       reply = std::move(asked.reply)](ErrorCode error) mutable {
        kafka::AddPartitionsToTxnResponse response;
        for (const auto& [topic, index] : partitions) {
          auto& topics = response.results_by_topic_v3_and_below;
          if (topics.empty() || topics.back().name != topic) topics.emplace_back().name = topic;
          topics.back().results_by_partition.push_back(
              {.partition_index = index,
               .partition_error_code = ForVersion(error, version, kOfAddPartitions)});
        }
        reply.Send(kafka::EncodeResponse(response, version, correlation_id));
      });
  return true;
}

bool Take(const Asked& asked, const kafka::EndTxnRequest& request) {
  if (!asked.local().Owns(request.transactional_id)) return false;
  const Protocol protocol =
      asked.header.api_version >= kSecondProtocolEndTxn ? Protocol::kSecond : Protocol::kFirst;
  asked.local().End(
      asked.Target(request.transactional_id),
      {.id = request.producer_id, .epoch = request.producer_epoch}, request.committed, protocol,
      [version = asked.header.api_version, correlation_id = asked.header.correlation_id,
       reply = std::move(asked.reply)](ErrorCode error,
                                       LocalTransactions::Producer producer) mutable {
        const kafka::EndTxnResponse response{.error_code = ForVersion(error, version, kOfEndTxn),
                                             .producer_id = producer.id,
                                             .producer_epoch = producer.epoch};
        reply.Send(kafka::EncodeResponse(response, version, correlation_id));
      });
  return true;
}

bool Take(const Asked& asked, const kafka::AddOffsetsToTxnRequest& request) {
  if (!asked.local().Owns(request.transactional_id)) return false;
  Warn(request.transactional_id, request.group_id);
  asked.Send(kafka::AddOffsetsToTxnResponse{.error_code = ErrorCode::kPolicyViolation});
  return true;
}

bool Take(const Asked& asked, const kafka::TxnOffsetCommitRequest& request) {
  if (!asked.local().Owns(request.transactional_id)) return false;
  Warn(request.transactional_id, request.group_id);
  kafka::TxnOffsetCommitResponse response;
  for (const auto& topic : request.topics) {
    auto& answer = response.topics.emplace_back();
    answer.name = topic.name;
    for (const auto& partition : topic.partitions) {
      answer.partitions.push_back({.partition_index = partition.partition_index,
                                   .error_code = ErrorCode::kPolicyViolation});
    }
  }
  asked.Send(response);
  return true;
}

// What cannot be decoded is passed on: the tier knows what to say to it.
template <class Request>
bool DecodeAndTake(const Asked& asked) {
  if (!Request::kApi.Knows(asked.header.api_version)) return false;
  const auto request = kafka::DecodeRequest<Request>(asked.frame.view(), asked.header);
  return request && Take(asked, *request);
}

}  // namespace

bool AboutTransactions(int16_t api_key) {
  return api_key == kafka::FindCoordinatorRequest::kApi.key ||
         api_key == kafka::InitProducerIdRequest::kApi.key ||
         api_key == kafka::AddPartitionsToTxnRequest::kApi.key ||
         api_key == kafka::AddOffsetsToTxnRequest::kApi.key ||
         api_key == kafka::EndTxnRequest::kApi.key ||
         api_key == kafka::TxnOffsetCommitRequest::kApi.key;
}

bool TakeTransactional(FrontDoor& front, net::Connection& connection, int32_t node,
                       std::string principal, base::Buffer& frame, const RequestHeader& header,
                       net::Reply& reply) {
  const Asked asked{front, connection, node, principal, frame, header, reply};
  switch (header.api_key) {
    case kafka::FindCoordinatorRequest::kApi.key:
      return DecodeAndTake<kafka::FindCoordinatorRequest>(asked);
    case kafka::InitProducerIdRequest::kApi.key:
      return DecodeAndTake<kafka::InitProducerIdRequest>(asked);
    case kafka::AddPartitionsToTxnRequest::kApi.key:
      return DecodeAndTake<kafka::AddPartitionsToTxnRequest>(asked);
    case kafka::AddOffsetsToTxnRequest::kApi.key:
      return DecodeAndTake<kafka::AddOffsetsToTxnRequest>(asked);
    case kafka::EndTxnRequest::kApi.key:
      return DecodeAndTake<kafka::EndTxnRequest>(asked);
    case kafka::TxnOffsetCommitRequest::kApi.key:
      return DecodeAndTake<kafka::TxnOffsetCommitRequest>(asked);
    default:
      return false;
  }
}

}  // namespace holdfast::proxy
