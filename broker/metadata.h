// What there is and where: Metadata, DescribeTopicPartitions, DescribeCluster, DescribeQuorum and
// FindCoordinator. On one node the answer to every "where" is this broker, under the address by
// which the client reached it.
//
// Topics that the client may not describe are not shown, as if they were not there; whoever asks
// for one by name is refused, whether it is there or not.
//
// Ownership: context, catalog reader, authorizer, topic admin and loop outlive it.
// Threads: the worker's loop.
#pragma once

#include <set>
#include <string>

#include "broker/authorizer.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/topic_admin.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_quorum.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/metadata.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class MetadataHandler {
 public:
  MetadataHandler(Context& context, const CatalogReader& catalog, Authorizer& authorizer,
                  TopicAdmin& topic_admin, const base::Executor& loop)
      : context_(context),
        catalog_(catalog),
        authorizer_(authorizer),
        topic_admin_(topic_admin),
        loop_(loop) {}

  // Topics that are missing are made first, if broker and client want that and the client's quota
  // lets it: the answer has them.
  void Handle(kafka::Call<kafka::MetadataRequest> call);
  kafka::DescribeClusterResponse Handle(const kafka::Caller& caller,
                                        const kafka::DescribeClusterRequest& request);
  // Topics in the order of their names, at most kPagePartitionsMax partitions at once.
  kafka::DescribeTopicPartitionsResponse Handle(
      const kafka::Caller& caller, const kafka::DescribeTopicPartitionsRequest& request);
  // The broker is the only voter; its commits stand for the metadata log's offsets.
  kafka::DescribeQuorumResponse Handle(const kafka::Caller& caller,
                                       const kafka::DescribeQuorumRequest& request);
  kafka::FindCoordinatorResponse Handle(const kafka::Caller& caller,
                                        const kafka::FindCoordinatorRequest& request);

 private:
  static constexpr int32_t kPagePartitionsMax = 2000;

  struct Address {
    std::string host;
    int32_t port;
  };

  [[nodiscard]] static Address AddressFor(const kafka::Caller& caller);
  // Not more than may be made.
  [[nodiscard]] std::set<std::string> MissingTopics(
      const kafka::Call<kafka::MetadataRequest>& call) const;
  [[nodiscard]] bool MayDescribe(const kafka::Caller& caller, std::string_view topic) const {
    return authorizer_.Allows(caller, AclOperation::kDescribe, ResourceType::kTopic, topic);
  }
  [[nodiscard]] bool MayCreate(const kafka::Caller& caller, std::string_view topic) const {
    return authorizer_.Allows(caller, AclOperation::kCreate, ResourceType::kCluster,
                              kClusterResource) ||
           authorizer_.Allows(caller, AclOperation::kCreate, ResourceType::kTopic, topic);
  }
  [[nodiscard]] int32_t TopicOperations(const kafka::Caller& caller, std::string_view topic) const;
  [[nodiscard]] int32_t ClusterOperations(const kafka::Caller& caller) const;
  void Respond(kafka::Call<kafka::MetadataRequest>& call);

  Context& context_;
  const CatalogReader& catalog_;
  Authorizer& authorizer_;
  TopicAdmin& topic_admin_;
  const base::Executor& loop_;
};

}  // namespace holdfast::broker
