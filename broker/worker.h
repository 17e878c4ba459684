// Serves the requests of all connections of one loop: the service behind the broker's route table.
// Here each request finds the part of the broker that knows how to answer it.
//
// Ownership: the broker owns it; context, coordinators and producer ids outlive it.
// Threads: the loop's. Requests for groups, transactions and producer ids are handed to the
//   coordinators' loop.
// Shutdown: StopServing; then the submitter is closed, when nobody else uses it any more. What the
//   spool has taken may complete later; the worker must live until then.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/result.h"
#include "broker/access.h"
#include "broker/acl_admin.h"
#include "broker/authorizer.h"
#include "broker/cluster_admin.h"
#include "broker/context.h"
#include "broker/coordinator.h"
#include "broker/fetch.h"
#include "broker/log_dirs.h"
#include "broker/metadata.h"
#include "broker/produce.h"
#include "broker/producer_ids.h"
#include "broker/quota_admin.h"
#include "broker/quotas.h"
#include "broker/scram_admin.h"
#include "broker/submitter.h"
#include "broker/topic_admin.h"
#include "broker/transaction_coordinator.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/elect_leaders.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/list_partition_reassignments.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

// What runs once, on the first worker's loop.
struct Central {
  base::Executor* loop = nullptr;
  Coordinator* coordinator = nullptr;
  TransactionCoordinator* transactions = nullptr;
  ProducerIds* producer_ids = nullptr;
};

class Worker {
 public:
  // `central` is filled before the first request.
  Worker(Context& context, const Central& central, base::Executor& loop, size_t index);

  [[nodiscard]] base::Executor& loop() { return loop_; }
  [[nodiscard]] Submitter& submitter() { return submitter_; }

  // One request of a connection of this loop. An error says why the connection is to be closed;
  // the reply is not used then.
  base::Result<> Serve(std::shared_ptr<const kafka::Peer>& peer, base::Buffer frame,
                       kafka::Reply reply);
  void Wake(std::span<const spool::StreamId> streams) { fetch_.Wake(streams); }
  // Answers the fetches that wait, and takes no more requests.
  void StopServing();

  // A client connects. Zero: it may stay; otherwise it is to be closed after so long.
  base::Duration RecordConnection(std::string_view address) {
    quotas_.Refresh();
    return quotas_.RecordConnection(address, loop_.Now());
  }

  // For the route table.
  void Adjust(const kafka::Caller& caller, kafka::ApiVersionsResponse& response);
  // SASL reaches a worker only where it is not asked for, or is over.
  kafka::SaslHandshakeResponse Handle(const kafka::Caller& /*caller*/,
                                      const kafka::SaslHandshakeRequest& /*request*/) {
    return {.error_code = kafka::ErrorCode::kIllegalSaslState};
  }
  kafka::SaslAuthenticateResponse Handle(const kafka::Caller& /*caller*/,
                                         const kafka::SaslAuthenticateRequest& /*request*/) {
    return {.error_code = kafka::ErrorCode::kIllegalSaslState,
            .error_message = "SaslAuthenticate request received after successful authentication"};
  }
  template <class Request>
  void Handle(kafka::Call<Request> call) {
    const auto meter = kOfBrokers<Request> ? nullptr : quotas_.Meter(call.caller(), loop_);
    if (meter != nullptr) call.SetToll([meter] { return meter->Settle(); });
    Pass(std::move(call));
    if (meter != nullptr) meter->Stop();
  }

 private:
  // No client's: quotas do not hold.
  template <class Request>
  static constexpr bool kOfBrokers = std::is_same_v<Request, kafka::WriteTxnMarkersRequest>;

  template <class Request>
  void Pass(kafka::Call<Request> call) {
    if (!access_.Admit(call)) return;
    if constexpr (requires { Answer(call.caller(), std::as_const(call.request)); }) {
      call.Respond(Answer(call.caller(), std::as_const(call.request)));
    } else {
      Route(std::move(call));
    }
  }
  // Requests that are answered at once.
  kafka::ListOffsetsResponse Answer(const kafka::Caller& caller,
                                    const kafka::ListOffsetsRequest& request);
  kafka::OffsetForLeaderEpochResponse Answer(const kafka::Caller& caller,
                                             const kafka::OffsetForLeaderEpochRequest& request);
  kafka::DescribeConfigsResponse Answer(const kafka::Caller& caller,
                                        const kafka::DescribeConfigsRequest& request);
  kafka::ListConfigResourcesResponse Answer(const kafka::Caller& caller,
                                            const kafka::ListConfigResourcesRequest& request);
  kafka::ElectLeadersResponse Answer(const kafka::Caller& caller,
                                     const kafka::ElectLeadersRequest& request);
  kafka::AlterPartitionReassignmentsResponse Answer(
      const kafka::Caller& caller, const kafka::AlterPartitionReassignmentsRequest& request);
  // Partitions of one broker have nowhere to move to: none is moving, ever.
  kafka::ListPartitionReassignmentsResponse Answer(
      const kafka::Caller& /*caller*/,
      const kafka::ListPartitionReassignmentsRequest& /*request*/) {
    return {};
  }
  kafka::DescribeUserScramCredentialsResponse Answer(
      const kafka::Caller& /*caller*/, const kafka::DescribeUserScramCredentialsRequest& request) {
    return scram_admin_.Answer(request);
  }
  kafka::UpdateFeaturesResponse Answer(const kafka::Caller& caller,
                                       const kafka::UpdateFeaturesRequest& request) {
    kafka::ApiVersionsResponse versions;
    Adjust(caller, versions);
    return UpdateFeatures(versions, request);
  }
  kafka::UnregisterBrokerResponse Answer(const kafka::Caller& /*caller*/,
                                         const kafka::UnregisterBrokerRequest& request) {
    return UnregisterBroker(context_.options.node_id, request);
  }
  kafka::AlterReplicaLogDirsResponse Answer(const kafka::Caller& /*caller*/,
                                            const kafka::AlterReplicaLogDirsRequest& request) {
    return AlterReplicaLogDirs(context_.options.spool.directory, catalog_.topics(), request);
  }
  kafka::AddRaftVoterResponse Answer(const kafka::Caller& /*caller*/,
                                     const kafka::AddRaftVoterRequest& request) {
    return AddRaftVoter(context_.cluster_id, request);
  }
  kafka::RemoveRaftVoterResponse Answer(const kafka::Caller& /*caller*/,
                                        const kafka::RemoveRaftVoterRequest& request) {
    return RemoveRaftVoter(context_.cluster_id, request);
  }
  kafka::CreateDelegationTokenResponse Answer(const kafka::Caller& caller,
                                              const kafka::CreateDelegationTokenRequest& request) {
    return CreateDelegationToken(caller.peer->principal, request);
  }
  kafka::RenewDelegationTokenResponse Answer(
      const kafka::Caller& caller, const kafka::RenewDelegationTokenRequest& /*request*/) {
    return RenewDelegationToken(caller.peer->principal);
  }
  kafka::ExpireDelegationTokenResponse Answer(
      const kafka::Caller& caller, const kafka::ExpireDelegationTokenRequest& /*request*/) {
    return ExpireDelegationToken(caller.peer->principal);
  }
  kafka::DescribeDelegationTokenResponse Answer(
      const kafka::Caller& caller, const kafka::DescribeDelegationTokenRequest& /*request*/) {
    return DescribeDelegationToken(caller.peer->principal);
  }
  kafka::DescribeClientQuotasResponse Answer(const kafka::Caller& /*caller*/,
                                             const kafka::DescribeClientQuotasRequest& request) {
    return quota_admin_.Answer(request);
  }
  kafka::DescribeQuorumResponse Answer(const kafka::Caller& caller,
                                       const kafka::DescribeQuorumRequest& request) {
    return metadata_.Handle(caller, request);
  }
  kafka::DescribeTopicPartitionsResponse Answer(
      const kafka::Caller& caller, const kafka::DescribeTopicPartitionsRequest& request) {
    return metadata_.Handle(caller, request);
  }
  kafka::DescribeClusterResponse Answer(const kafka::Caller& caller,
                                        const kafka::DescribeClusterRequest& request) {
    return metadata_.Handle(caller, request);
  }
  kafka::FindCoordinatorResponse Answer(const kafka::Caller& caller,
                                        const kafka::FindCoordinatorRequest& request) {
    return metadata_.Handle(caller, request);
  }

  void Route(kafka::Call<kafka::ProduceRequest> call) { produce_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::FetchRequest> call) { fetch_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::MetadataRequest> call) { metadata_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::CreateTopicsRequest> call) { topic_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::DeleteTopicsRequest> call) { topic_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::CreatePartitionsRequest> call) {
    topic_admin_.Handle(std::move(call));
  }
  void Route(kafka::Call<kafka::DeleteRecordsRequest> call) {
    topic_admin_.Handle(std::move(call));
  }
  void Route(kafka::Call<kafka::AlterConfigsRequest> call) { topic_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::IncrementalAlterConfigsRequest> call) {
    topic_admin_.Handle(std::move(call));
  }
  void Route(kafka::Call<kafka::DescribeAclsRequest> call) { acl_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::CreateAclsRequest> call) { acl_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::DeleteAclsRequest> call) { acl_admin_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::AlterClientQuotasRequest> call) {
    quota_admin_.Handle(std::move(call));
  }
  void Route(kafka::Call<kafka::AlterUserScramCredentialsRequest> call) {
    scram_admin_.Handle(std::move(call));
  }
  void Route(kafka::Call<kafka::DescribeLogDirsRequest> call) { log_dirs_.Handle(std::move(call)); }
  void Route(kafka::Call<kafka::InitProducerIdRequest> call);
  void Route(kafka::Call<kafka::DescribeProducersRequest> call);
  // All others are a coordinator's.
  template <class Request>
  void Route(kafka::Call<Request> call) {
    if constexpr (requires(TransactionCoordinator & to) { to.Handle(std::move(call)); }) {
      HandOver(*central_.transactions, std::move(call));
    } else {
      HandOver(*central_.coordinator, std::move(call));
    }
  }
  template <class To, class Request>
  void HandOver(To& to, kafka::Call<Request> call) {
    if (central_.loop->InLoop()) return to.Handle(std::move(call));
    central_.loop->Post([&to, call = std::move(call)]() mutable { to.Handle(std::move(call)); });
  }

  Context& context_;
  const Central& central_;
  base::Executor& loop_;
  CatalogReader catalog_;
  Authorizer authorizer_;
  Access access_;
  ClientQuotas quotas_;
  Submitter submitter_;
  ProduceHandler produce_;
  FetchHandler fetch_;
  TopicAdmin topic_admin_;
  AclAdmin acl_admin_;
  ScramAdmin scram_admin_;
  QuotaAdmin quota_admin_;
  LogDirs log_dirs_;
  MetadataHandler metadata_;
  // By API key; null where there is none.
  std::vector<metrics::Counter*> requests_;
  bool closed_ = false;
};

// The APIs and versions that the broker serves, for docs/protocol.md.
std::span<const kafka::Served> ServedApis();

}  // namespace holdfast::broker
