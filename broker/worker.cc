#include "broker/worker.h"

#include "base/endian.h"
#include "broker/configs.h"
#include "broker/list_offsets.h"
#include "broker/replicas.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Bind;
using kafka::ErrorCode;

// What this tier serves, whole. ApiVersions is printed from it.
constexpr kafka::RouteTable kRoutes(std::array{
    // Older librdkafka compresses only if it sees version 0, which nobody sends.
    Bind<Worker, kafka::ProduceRequest>({.advertised_oldest = 0}),
    Bind<Worker, kafka::FetchRequest>(),
    Bind<Worker, kafka::ListOffsetsRequest>(),
    Bind<Worker, kafka::MetadataRequest>(),
    Bind<Worker, kafka::OffsetCommitRequest>(),
    Bind<Worker, kafka::OffsetFetchRequest>(),
    Bind<Worker, kafka::FindCoordinatorRequest>(),
    Bind<Worker, kafka::JoinGroupRequest>(),
    Bind<Worker, kafka::HeartbeatRequest>(),
    Bind<Worker, kafka::LeaveGroupRequest>(),
    Bind<Worker, kafka::SyncGroupRequest>(),
    Bind<Worker, kafka::DescribeGroupsRequest>(),
    Bind<Worker, kafka::ListGroupsRequest>(),
    Bind<Worker, kafka::SaslHandshakeRequest>(),
    Bind<Worker, kafka::SaslAuthenticateRequest>(),
    Bind<Worker, kafka::CreateTopicsRequest>(),
    Bind<Worker, kafka::DeleteTopicsRequest>(),
    Bind<Worker, kafka::DeleteRecordsRequest>(),
    // Version 6 is for two-phase commit, and not stable.
    Bind<Worker, kafka::InitProducerIdRequest>({.newest = 5}),
    Bind<Worker, kafka::OffsetForLeaderEpochRequest>(),
    Bind<Worker, kafka::AddPartitionsToTxnRequest>(),
    Bind<Worker, kafka::AddOffsetsToTxnRequest>(),
    Bind<Worker, kafka::EndTxnRequest>(),
    Bind<Worker, kafka::WriteTxnMarkersRequest>(),
    Bind<Worker, kafka::TxnOffsetCommitRequest>(),
    Bind<Worker, kafka::DescribeAclsRequest>(),
    Bind<Worker, kafka::CreateAclsRequest>(),
    Bind<Worker, kafka::DeleteAclsRequest>(),
    Bind<Worker, kafka::DescribeConfigsRequest>(),
    Bind<Worker, kafka::AlterConfigsRequest>(),
    Bind<Worker, kafka::DescribeLogDirsRequest>(),
    Bind<Worker, kafka::CreatePartitionsRequest>(),
    Bind<Worker, kafka::DeleteGroupsRequest>(),
    Bind<Worker, kafka::ElectLeadersRequest>(),
    Bind<Worker, kafka::IncrementalAlterConfigsRequest>(),
    Bind<Worker, kafka::AlterPartitionReassignmentsRequest>(),
    Bind<Worker, kafka::ListPartitionReassignmentsRequest>(),
    Bind<Worker, kafka::OffsetDeleteRequest>(),
    Bind<Worker, kafka::AlterReplicaLogDirsRequest>(),
    Bind<Worker, kafka::CreateDelegationTokenRequest>(),
    Bind<Worker, kafka::RenewDelegationTokenRequest>(),
    Bind<Worker, kafka::ExpireDelegationTokenRequest>(),
    Bind<Worker, kafka::DescribeDelegationTokenRequest>(),
    Bind<Worker, kafka::DescribeClientQuotasRequest>(),
    Bind<Worker, kafka::AlterClientQuotasRequest>(),
    Bind<Worker, kafka::UpdateFeaturesRequest>(),
    Bind<Worker, kafka::UnregisterBrokerRequest>(),
    Bind<Worker, kafka::AddRaftVoterRequest>(),
    Bind<Worker, kafka::RemoveRaftVoterRequest>(),
    Bind<Worker, kafka::DescribeUserScramCredentialsRequest>(),
    Bind<Worker, kafka::AlterUserScramCredentialsRequest>(),
    Bind<Worker, kafka::DescribeQuorumRequest>(),
    Bind<Worker, kafka::DescribeClusterRequest>(),
    Bind<Worker, kafka::DescribeProducersRequest>(),
    Bind<Worker, kafka::DescribeTransactionsRequest>(),
    // Version 2 filters by regular expressions.
    Bind<Worker, kafka::ListTransactionsRequest>(),
    Bind<Worker, kafka::ConsumerGroupHeartbeatRequest>(),
    Bind<Worker, kafka::ConsumerGroupDescribeRequest>(),
    Bind<Worker, kafka::ListConfigResourcesRequest>(),
    Bind<Worker, kafka::DescribeTopicPartitionsRequest>(),
});

void AnswerProducerId(kafka::Call<kafka::InitProducerIdRequest>& call, ErrorCode error,
                      int64_t id) {
  kafka::InitProducerIdResponse response;
  response.error_code = error;
  response.producer_id = id;
  response.producer_epoch = error == ErrorCode::kNone ? int16_t{0} : kafka::kNoProducerEpoch;
  call.Respond(response);
}

void Put(const std::vector<kafka::ActiveProducer>& producers,
         kafka::DescribeProducersResponse::PartitionResponse* out) {
  for (const kafka::ActiveProducer& producer : producers) {
    out->active_producers.push_back({.producer_id = producer.id,
                                     .producer_epoch = producer.epoch,
                                     .last_sequence = producer.last_sequence,
                                     .last_timestamp = producer.last_timestamp,
                                     .coordinator_epoch = producer.coordinator_epoch,
                                     .current_txn_start_offset = producer.transaction_start_offset,
                                     .unknown_tags = {}});
  }
}

}  // namespace

std::span<const kafka::Served> ServedApis() { return kRoutes.served(); }

Worker::Worker(Context& context, const Central& central, base::Executor& loop, size_t index)
    : context_(context),
      central_(central),
      loop_(loop),
      catalog_(context.catalog),
      authorizer_(context.acls, context.options.authorizer),
      access_(authorizer_, catalog_),
      quotas_(context.quotas, context.meters),
      submitter_(context.log->spool(), loop),
      produce_(context, catalog_, submitter_, quotas_, loop),
      fetch_(context, catalog_, authorizer_, quotas_, loop, index),
      topic_admin_(context, catalog_, submitter_, quotas_, loop),
      acl_admin_(context, submitter_, loop),
      scram_admin_(context, submitter_, loop),
      quota_admin_(context, submitter_, loop),
      log_dirs_(context, catalog_, loop),
      metadata_(context, catalog_, authorizer_, topic_admin_, loop) {
  for (const kafka::Served& served : kRoutes.served()) {
    const auto key = static_cast<size_t>(served.api.key);
    if (requests_.size() <= key) requests_.resize(key + 1);
    requests_[key] = &context.metrics.requests.With(served.api.name);
  }
}

base::Result<> Worker::Serve(std::shared_ptr<const kafka::Peer>& peer, base::Buffer frame,
                             kafka::Reply reply) {
  loop_.AssertInLoop();
  if (closed_) return base::Unexpected(base::Code::kClosed, "the broker is shutting down");
  catalog_.Refresh();
  authorizer_.Refresh();
  quotas_.Refresh();
  if (frame.size() >= sizeof(int16_t)) {
    const size_t key = base::LoadBig<uint16_t>(frame.data());
    if (key < requests_.size() && requests_[key] != nullptr) requests_[key]->Add();
  }
  return kRoutes.Dispatch(*this, peer, std::move(frame), std::move(reply));
}

// Clients use the newer protocols of groups (KIP-848) and transactions (KIP-890) only if these
// features say so.
void Worker::Adjust(const kafka::Caller& /*caller*/, kafka::ApiVersionsResponse& response) {
  struct Feature {
    std::string_view name;
    int16_t version;
  };
  constexpr std::array kFeatures{Feature{"group.version", 1}, Feature{"transaction.version", 2}};
  response.finalized_features_epoch = 0;
  for (const auto& [name, version] : kFeatures) {
    response.supported_features.push_back(
        {.name = name, .min_version = 0, .max_version = version, .unknown_tags = {}});
    response.finalized_features.push_back({.name = name,
                                           .max_version_level = version,
                                           .min_version_level = version,
                                           .unknown_tags = {}});
  }
}

void Worker::StopServing() {
  loop_.AssertInLoop();
  closed_ = true;
  fetch_.Close();
  log_dirs_.Close();
}

kafka::ListOffsetsResponse Worker::Answer(const kafka::Caller& caller,
                                          const kafka::ListOffsetsRequest& request) {
  return ListOffsets(context_.log->spool(), catalog_.topics(), caller.version, request);
}

kafka::OffsetForLeaderEpochResponse Worker::Answer(
    const kafka::Caller& /*caller*/, const kafka::OffsetForLeaderEpochRequest& request) {
  return OffsetForLeaderEpoch(catalog_.topics(), request);
}

kafka::DescribeConfigsResponse Worker::Answer(const kafka::Caller& caller,
                                              const kafka::DescribeConfigsRequest& request) {
  const auto groups = context_.group_configs.Get();
  const auto broker = context_.broker_config.Get();
  return DescribeConfigs(context_.options, catalog_.topics(), *groups, *broker, caller, request);
}

kafka::ListConfigResourcesResponse Worker::Answer(
    const kafka::Caller& caller, const kafka::ListConfigResourcesRequest& request) {
  const auto groups = context_.group_configs.Get();
  return ListConfigResources(context_.options, catalog_.topics(), *groups, caller.version, request);
}

kafka::ElectLeadersResponse Worker::Answer(const kafka::Caller& /*caller*/,
                                           const kafka::ElectLeadersRequest& request) {
  return ElectLeaders(catalog_.topics(), request);
}

kafka::AlterPartitionReassignmentsResponse Worker::Answer(
    const kafka::Caller& /*caller*/, const kafka::AlterPartitionReassignmentsRequest& request) {
  return AlterPartitionReassignments(context_.options.node_id, catalog_.topics(), request);
}

void Worker::Route(kafka::Call<kafka::InitProducerIdRequest> call) {
  if (call.request.transactional_id) return HandOver(*central_.transactions, std::move(call));
  central_.loop->Post([ids = central_.producer_ids, call = std::move(call)]() mutable {
    ids->Next([call = std::move(call)](ErrorCode error, int64_t id) mutable {
      AnswerProducerId(call, error, id);
    });
  });
}

// As an operation of the spool, so that the answer waits until what it tells is durable: who asks
// may drop its own copy of the records for it.
void Worker::Route(kafka::Call<kafka::DescribeProducersRequest> call) {
  struct Question {
    kafka::Call<kafka::DescribeProducersRequest> call;
    kafka::DescribeProducersResponse response;
    std::vector<Partition*> partitions;  // In the response's order; null if there is none.
    std::vector<std::vector<kafka::ActiveProducer>> producers;
  };
  auto question = std::make_shared<Question>(Question{std::move(call), {}, {}, {}});
  for (const auto& topic_request : question->call.request.topics) {
    auto& topic_out = question->response.topics.emplace_back();
    topic_out.name = topic_request.name;
    const Topic* topic = catalog_.topics().Find(topic_request.name);
    for (const int32_t index : topic_request.partition_indexes) {
      topic_out.partitions.emplace_back().partition_index = index;
      question->partitions.push_back(topic == nullptr ? nullptr : topic->Find(index));
    }
  }
  const auto list = [question](spool::Transaction&) {
    for (const Partition* partition : question->partitions) {
      question->producers.push_back(partition == nullptr ? std::vector<kafka::ActiveProducer>()
                                                         : partition->producers.List());
    }
  };
  const auto answer = [question](ErrorCode error) {
    size_t at = 0;
    for (auto& topic : question->response.topics) {
      for (auto& out : topic.partitions) {
        out.error_code =
            question->partitions[at] == nullptr ? ErrorCode::kUnknownTopicOrPartition : error;
        if (out.error_code == ErrorCode::kNone) Put(question->producers[at], &out);
        ++at;
      }
    }
    question->call.Respond(question->response);
  };
  submitter_.Submit(std::make_unique<StateChange>(list, [this, answer](const auto& result) {
    const ErrorCode error =
        result ? ErrorCode::kNone : kafka::ToPartitionError(result.error().code);
    loop_.Post([answer, error] { answer(error); });
  }));
}

}  // namespace holdfast::broker
