// CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords, AlterConfigs and
// IncrementalAlterConfigs, and the topics that come into being when they are first asked for.
//
// The broker's own settings come from its file: changes of them are refused.
//
// A topic that a request to make, grow or delete topics names twice is refused, once, and stays as
// it is.
//
// Partitions made and deleted are charged to the client's quota: what is too much is refused in
// versions whose clients know that error, and made in older ones, whose clients have to wait. What
// would come into being by being asked for is not made then; internal topics, which the broker
// needs, are charged to nobody.
//
// Ownership: context, catalog reader, submitter and quotas outlive it, and it lives until the spool
//   has completed all operations.
// Threads: the worker's loop.
// Limits: a request creates at most kPartitionsMax partitions.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/unique_function.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "broker/quotas.h"
#include "broker/submitter.h"
#include "broker/topic_changes.h"
#include "kafka/api/alter_configs.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class TopicAdmin {
 public:
  static constexpr int32_t kPartitionsMax = 100000;

  TopicAdmin(Context& context, CatalogReader& catalog, Submitter& submitter, ClientQuotas& quotas,
             base::Executor& loop)
      : context_(context), catalog_(catalog), submitter_(submitter), quotas_(quotas), loop_(loop) {}

  void Handle(kafka::Call<kafka::CreateTopicsRequest> call);
  void Handle(kafka::Call<kafka::DeleteTopicsRequest> call);
  void Handle(kafka::Call<kafka::CreatePartitionsRequest> call);
  void Handle(kafka::Call<kafka::DeleteRecordsRequest> call);
  void Handle(kafka::Call<kafka::AlterConfigsRequest> call);
  void Handle(kafka::Call<kafka::IncrementalAlterConfigsRequest> call);

  // Makes topics with the broker's own settings. `done` runs on the loop, when the catalog reader
  // shows them, perhaps at once; those that could not be made are missing from it.
  void AutoCreate(const kafka::Caller& caller, const std::set<std::string>& names, base::Task done);

 private:
  using CreatableTopic = kafka::CreateTopicsRequest::CreatableTopic;
  using TopicResult = kafka::CreateTopicsResponse::CreatableTopicResult;

  // What is to be made, or why not.
  TopicOutcome CheckCreation(const CreatableTopic& request, NewTopic* topic) const;
  TopicOutcome CheckGrowth(const kafka::CreatePartitionsRequest::CreatePartitionsTopic& request,
                           Growth* growth) const;

  template <class Request>
  void Alter(kafka::Call<Request> call);
  // For either request; the resource is named once in it.
  template <class Resource>
  TopicOutcome CheckAlteration(const Resource& resource, Alteration* alteration) const;

  Context& context_;
  CatalogReader& catalog_;
  Submitter& submitter_;
  ClientQuotas& quotas_;
  base::Executor& loop_;
};

}  // namespace holdfast::broker
