// What a whole broker with an authorizer lets whom do, in frames, and its rules' own APIs.
#include "broker/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/create_acls.h"
#include "kafka/api/delete_acls.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_acls.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/elect_leaders.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "tests/broker/broker_fixture.h"
#include "tests/support/printed_table.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr auto kNone = ErrorCode::kNone;
constexpr auto kTopicRefused = ErrorCode::kTopicAuthorizationFailed;
constexpr auto kGroupRefused = ErrorCode::kGroupAuthorizationFailed;
constexpr auto kClusterRefused = ErrorCode::kClusterAuthorizationFailed;
constexpr auto kIdRefused = ErrorCode::kTransactionalIdAuthorizationFailed;

Options WithAuthorizer(bool open = false) {
  Options options;
  options.authorizer = {
      .enabled = true, .super_users = {"User:admin"}, .allow_everyone_if_no_acl_found = open};
  return options;
}

class AccessTest : public testing::Test {
 protected:
  explicit AccessTest(Options options = WithAuthorizer()) : broker_(std::move(options)) {
    broker_.ActAs("User:admin");
    broker_.CreateTopic("mine", 1);
    broker_.CreateTopic("other", 1);
    broker_.ActAs("User:a");
  }

  // By the super user.
  void Allow(ResourceType type, AclOperation operation, std::string_view name,
             Permission permission = Permission::kAllow,
             PatternType pattern = PatternType::kLiteral) {
    kafka::CreateAclsRequest request;
    request.creations.push_back({static_cast<int8_t>(type),
                                 name,
                                 static_cast<int8_t>(pattern),
                                 "User:a",
                                 "*",
                                 static_cast<int8_t>(operation),
                                 static_cast<int8_t>(permission),
                                 {}});
    broker_.ActAs("User:admin");
    const auto pending = broker_.Ask(request, 3);
    EXPECT_EQ(pending.Get().results.at(0).error_code, kNone);
    broker_.ActAs("User:a");
  }
  void AllowTopic(AclOperation operation, std::string_view name = "mine") {
    Allow(ResourceType::kTopic, operation, name);
  }
  size_t CountAcls() {
    kafka::DescribeAclsRequest request;
    request.resource_type_filter = 1;
    request.pattern_type_filter = 1;
    request.operation = 1;
    request.permission_type = 1;
    broker_.ActAs("User:admin");
    const auto pending = broker_.Ask(request, 3);
    EXPECT_EQ(pending.Get().error_code, kNone);
    size_t count = 0;
    for (const auto& resource : pending.Get().resources) count += resource.acls.size();
    broker_.ActAs("User:a");
    return count;
  }

  // Of both topics, in one request.
  std::vector<std::pair<std::string, ErrorCode>> ProduceBoth() {
    const std::string batch = broker_.Batch({"v"});
    auto request = BrokerFixture::MakeProduce("other", 0, batch);
    request.topic_data.push_back({.name = "mine", .partition_data = {{0, batch, {}}}});
    const auto pending = broker_.Ask(request, 9);
    std::vector<std::pair<std::string, ErrorCode>> errors;
    for (const auto& topic : pending.Get().responses) {
      errors.emplace_back(topic.name, topic.partition_responses.at(0).error_code);
    }
    return errors;
  }
  ErrorCode Fetch(std::string_view topic) {
    const auto pending = broker_.Ask(BrokerFixture::MakeFetch(topic, 0, 0), 12);
    broker_.clock().Advance(std::chrono::seconds(1));
    return pending.Get().responses.at(0).partitions.at(0).error_code;
  }
  std::vector<std::string> ShownTopics() {
    const auto pending = broker_.Ask(kafka::MetadataRequest{.topics = std::nullopt}, 9);
    std::vector<std::string> names;
    for (const auto& topic : pending.Get().topics) names.emplace_back(*topic.name);
    return names;
  }
  ErrorCode AskTopic(std::string_view name, bool create = true) {
    kafka::MetadataRequest request{.allow_auto_topic_creation = create};
    request.topics.emplace().push_back({.name = name});
    const auto pending = broker_.Ask(request, 9);
    return pending.Get().topics.at(0).error_code;
  }
  ErrorCode InitProducer(std::optional<std::string_view> id = std::nullopt) {
    kafka::InitProducerIdRequest request;
    request.transactional_id = id;
    request.transaction_timeout_ms = 1000;
    request.producer_id = -1;
    request.producer_epoch = -1;
    const auto pending = broker_.Ask(request, 4);
    return pending.Get().error_code;
  }

  BrokerFixture broker_;
};

TEST_F(AccessTest, ProduceIsRefusedTopicByTopic) {
  EXPECT_THAT(ProduceBoth(), UnorderedElementsAre(std::pair("mine", kTopicRefused),
                                                  std::pair("other", kTopicRefused)));
  AllowTopic(AclOperation::kWrite);
  EXPECT_THAT(ProduceBoth(),
              UnorderedElementsAre(std::pair("mine", kNone), std::pair("other", kTopicRefused)));
  AllowTopic(AclOperation::kRead, "other");
  EXPECT_THAT(ProduceBoth(),
              UnorderedElementsAre(std::pair("mine", kNone), std::pair("other", kTopicRefused)))
      << "who may read may not write";
  broker_.ActAs("User:admin");
  EXPECT_THAT(broker_.Values("mine", 0, 0), ElementsAre("v", "v"));
  EXPECT_THAT(broker_.Values("other", 0, 0), IsEmpty());
}

TEST_F(AccessTest, ProduceWithoutAnswerClosesTheConnectionWhenRefused) {
  AllowTopic(AclOperation::kWrite);
  const std::string batch = broker_.Batch({"v"});
  auto request = BrokerFixture::MakeProduce("mine", 0, batch, /*acks=*/0);
  EXPECT_EQ(broker_.Ask(request, 9).kind(), kafka::Answer::Kind::kNothing);
  request.topic_data.push_back({.name = "other", .partition_data = {{0, batch, {}}}});
  EXPECT_EQ(broker_.Ask(request, 9).kind(), kafka::Answer::Kind::kClose);
  broker_.ActAs("User:admin");
  EXPECT_THAT(broker_.Values("mine", 0, 0), ElementsAre("v", "v"));
}

TEST_F(AccessTest, ProduceAndFetchByIdAreJudgedByTheTopicsName) {
  broker_.ActAs("User:admin");
  kafka::MetadataRequest metadata;
  metadata.topics.emplace().push_back({.name = "mine"});
  const kafka::Uuid id = broker_.Ask(metadata, 12).Get().topics.at(0).topic_id;
  broker_.ActAs("User:a");
  const std::string batch = broker_.Batch({"v"});
  auto request = BrokerFixture::MakeProduce("", 0, batch);
  request.topic_data[0].topic_id = id;
  auto fetch = BrokerFixture::MakeFetch("", 0, 0);
  fetch.topics[0].topic_id = id;
  fetch.max_wait_ms = 0;
  const auto produce = [&] {
    const auto pending = broker_.Ask(request, 13);
    EXPECT_EQ(pending.Get().responses.at(0).topic_id, request.topic_data[0].topic_id);
    return pending.Get().responses.at(0).partition_responses.at(0).error_code;
  };
  const auto read = [&] {
    return broker_.Ask(fetch, 16).Get().responses.at(0).partitions.at(0).error_code;
  };
  EXPECT_EQ(produce(), kTopicRefused);
  EXPECT_EQ(read(), kTopicRefused);
  AllowTopic(AclOperation::kWrite);
  AllowTopic(AclOperation::kRead);
  EXPECT_EQ(produce(), kNone);
  EXPECT_EQ(read(), kNone);
  request.topic_data[0].topic_id.bytes[0] ^= 1;
  EXPECT_EQ(produce(), ErrorCode::kUnknownTopicId);
}

TEST_F(AccessTest, ReadingNeedsReadAndAskingOffsetsDescribe) {
  EXPECT_EQ(Fetch("mine"), kTopicRefused);
  AllowTopic(AclOperation::kDescribe);
  EXPECT_EQ(Fetch("mine"), kTopicRefused);
  const auto offsets = [&](std::string_view topic) {
    kafka::ListOffsetsRequest request;
    request.topics.push_back({topic, {{.partition_index = 0, .timestamp = -1}}, {}});
    return broker_.Ask(request, 5).Get().topics.at(0).partitions.at(0).error_code;
  };
  EXPECT_EQ(offsets("mine"), kNone);
  EXPECT_EQ(offsets("other"), kTopicRefused);
  EXPECT_EQ(offsets("no-such-topic"), kTopicRefused) << "what is not there is not told either";
  AllowTopic(AclOperation::kRead);
  EXPECT_EQ(Fetch("mine"), kNone);
}

TEST_F(AccessTest, ARightTakenAwayIsMissedByAFetchThatWaits) {
  AllowTopic(AclOperation::kRead);
  auto request = BrokerFixture::MakeFetch("mine", 0, 0);
  const auto waiting = broker_.Ask(request, 12);
  EXPECT_FALSE(waiting.answered());
  Allow(ResourceType::kTopic, AclOperation::kRead, "mine", Permission::kDeny);
  broker_.ActAs("User:admin");
  EXPECT_EQ(broker_.Produce("mine", 0, broker_.Batch({"secret"})).error_code, kNone);
  ASSERT_TRUE(waiting.answered());
  EXPECT_EQ(waiting.Get().responses.at(0).partitions.at(0).error_code, kTopicRefused);
}

TEST_F(AccessTest, TopicsAreHiddenFromWhoMayNotDescribeThem) {
  EXPECT_THAT(ShownTopics(), IsEmpty());
  EXPECT_EQ(AskTopic("mine"), kTopicRefused);
  EXPECT_EQ(AskTopic("new"), kTopicRefused) << "and not made";
  AllowTopic(AclOperation::kWrite);
  EXPECT_THAT(ShownTopics(), ElementsAre("mine"));
  EXPECT_EQ(AskTopic("mine"), kNone);

  AllowTopic(AclOperation::kDescribe, "new");
  EXPECT_EQ(AskTopic("new", /*create=*/false), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(AskTopic("new"), kTopicRefused) << "making it takes Create";
  AllowTopic(AclOperation::kCreate, "new");
  EXPECT_EQ(AskTopic("new"), kNone);
  EXPECT_THAT(ShownTopics(), ElementsAre("mine", "new"));

  kafka::DescribeTopicPartitionsRequest pages;
  pages.response_partition_limit = 100;
  const auto all = broker_.Ask(pages, 0);
  ASSERT_EQ(all.Get().topics.size(), 2u);
  EXPECT_EQ(all.Get().topics[0].name, "mine");
  pages.topics.push_back({"other", {}});
  const auto named = broker_.Ask(pages, 0);
  EXPECT_EQ(named.Get().topics.at(0).error_code, kTopicRefused);
  EXPECT_THAT(named.Get().topics.at(0).partitions, IsEmpty());
}

TEST_F(AccessTest, OperationsShownAreThoseAllowed) {
  const auto bits = [](std::initializer_list<AclOperation> operations) {
    int32_t sum = 0;
    for (const AclOperation operation : operations) sum |= 1 << static_cast<int>(operation);
    return sum;
  };
  AllowTopic(AclOperation::kWrite);
  kafka::MetadataRequest request{.include_cluster_authorized_operations = true,
                                 .include_topic_authorized_operations = true};
  request.topics.emplace().push_back({.name = "mine"});
  auto pending = broker_.Ask(request, 8);
  EXPECT_EQ(pending.Get().topics.at(0).topic_authorized_operations,
            bits({AclOperation::kWrite, AclOperation::kDescribe}));
  EXPECT_EQ(pending.Get().cluster_authorized_operations, 0) << "which takes Describe";
  Allow(ResourceType::kCluster, AclOperation::kAlter, kClusterResource);
  pending = broker_.Ask(request, 8);
  EXPECT_EQ(pending.Get().cluster_authorized_operations,
            bits({AclOperation::kAlter, AclOperation::kDescribe}));
  const auto cluster =
      broker_.Ask(kafka::DescribeClusterRequest{.include_cluster_authorized_operations = true}, 1);
  EXPECT_EQ(cluster.Get().cluster_authorized_operations,
            bits({AclOperation::kAlter, AclOperation::kDescribe}));
  broker_.ActAs("User:admin");
  pending = broker_.Ask(request, 8);
  EXPECT_EQ(pending.Get().topics.at(0).topic_authorized_operations, 0x0df8);
  EXPECT_EQ(pending.Get().cluster_authorized_operations, 0x1fa0);

  Allow(ResourceType::kGroup, AclOperation::kRead, "g");
  kafka::DescribeGroupsRequest groups;
  groups.groups = {"g"};
  groups.include_authorized_operations = true;
  EXPECT_EQ(broker_.Ask(groups, 5).Get().groups.at(0).authorized_operations,
            bits({AclOperation::kRead, AclOperation::kDescribe}));
}

TEST_F(AccessTest, GroupsNeedReadAndTheirOffsetsTheTopicsToo) {
  kafka::JoinGroupRequest join;
  join.group_id = "g";
  join.session_timeout_ms = 10000;
  join.rebalance_timeout_ms = 10000;
  join.protocol_type = "consumer";
  join.protocols.push_back({"range", "", {}});
  EXPECT_EQ(broker_.Ask(join, 5).Get().error_code, kGroupRefused);

  kafka::OffsetCommitRequest commit;
  commit.group_id = "g";
  commit.generation_id_or_member_epoch = -1;
  for (const char* topic : {"mine", "other"}) {
    auto& out = commit.topics.emplace_back();
    out.name = topic;
    out.partitions.push_back({.partition_index = 0, .committed_offset = 5});
  }
  const auto committed = [&] {
    const auto pending = broker_.Ask(commit, 7);
    std::map<std::string, ErrorCode> errors;
    for (const auto& topic : pending.Get().topics) {
      errors[std::string(topic.name)] = topic.partitions.at(0).error_code;
    }
    return errors;
  };
  using Errors = std::map<std::string, ErrorCode>;
  EXPECT_EQ(committed(), (Errors{{"mine", kGroupRefused}, {"other", kGroupRefused}}));
  Allow(ResourceType::kGroup, AclOperation::kRead, "g");
  EXPECT_EQ(broker_.Ask(join, 5).Get().error_code, ErrorCode::kMemberIdRequired);
  EXPECT_EQ(committed(), (Errors{{"mine", kTopicRefused}, {"other", kTopicRefused}}));
  AllowTopic(AclOperation::kRead);
  EXPECT_EQ(committed(), (Errors{{"mine", kNone}, {"other", kTopicRefused}}));

  broker_.ActAs("User:admin");
  EXPECT_EQ(committed(), (Errors{{"mine", kNone}, {"other", kNone}}));
  broker_.ActAs("User:a");
  kafka::OffsetFetchRequest fetch;
  fetch.groups.push_back({.group_id = "g", .topics = std::nullopt});
  fetch.groups.push_back({.group_id = "h", .topics = std::nullopt});
  const auto shown = broker_.Ask(fetch, 8);
  ASSERT_EQ(shown.Get().groups.size(), 2u);
  ASSERT_EQ(shown.Get().groups[0].topics.size(), 1u) << "of all topics those that may be seen";
  EXPECT_EQ(shown.Get().groups[0].topics[0].name, "mine");
  EXPECT_EQ(shown.Get().groups[1].group_id, "h");
  EXPECT_EQ(shown.Get().groups[1].error_code, kGroupRefused);
  fetch.groups.pop_back();
  auto& named = fetch.groups[0].topics.emplace();
  named.push_back({.name = "other", .partition_indexes = {0}});
  named.push_back({.name = "mine", .partition_indexes = {0}});
  const auto both = broker_.Ask(fetch, 8).Get();
  ASSERT_EQ(both.groups.at(0).topics.size(), 2u);
  for (const auto& topic : both.groups[0].topics) {
    EXPECT_EQ(topic.partitions.at(0).error_code, topic.name == "mine" ? kNone : kTopicRefused);
    EXPECT_EQ(topic.partitions.at(0).committed_offset, topic.name == "mine" ? 5 : -1);
  }

  broker_.ActAs("User:admin");
  commit.group_id = "h";
  EXPECT_EQ(committed(), (Errors{{"mine", kNone}, {"other", kNone}}));
  broker_.ActAs("User:a");
  const auto listed = broker_.Ask(kafka::ListGroupsRequest(), 4);
  ASSERT_EQ(listed.Get().groups.size(), 1u);
  EXPECT_EQ(listed.Get().groups[0].group_id, "g");
  kafka::DeleteGroupsRequest deletion;
  deletion.groups_names = {"h"};
  EXPECT_EQ(broker_.Ask(deletion, 2).Get().results.at(0).error_code, kGroupRefused);
  Allow(ResourceType::kCluster, AclOperation::kDescribe, kClusterResource);
  EXPECT_EQ(broker_.Ask(kafka::ListGroupsRequest(), 4).Get().groups.size(), 2u);
}

TEST_F(AccessTest, CoordinatorsAreFoundByWhoMayUseThem) {
  kafka::FindCoordinatorRequest request;
  request.coordinator_keys = {"g", "h"};
  Allow(ResourceType::kGroup, AclOperation::kDescribe, "g");
  const auto groups = broker_.Ask(request, 4).Get();
  ASSERT_EQ(groups.coordinators.size(), 2u);
  EXPECT_EQ(groups.coordinators[0].error_code, kNone);
  EXPECT_EQ(groups.coordinators[1].key, "h");
  EXPECT_EQ(groups.coordinators[1].error_code, kGroupRefused);
  request.key_type = 1;
  EXPECT_EQ(broker_.Ask(request, 4).Get().coordinators.at(0).error_code, kIdRefused);
  request = {};
  request.key = "h";
  EXPECT_EQ(broker_.Ask(request, 3).Get().error_code, kGroupRefused);
}

TEST_F(AccessTest, ProducerIdsNeedIdempotentWriteOrAnyTopic) {
  EXPECT_EQ(InitProducer(), kClusterRefused);
  Allow(ResourceType::kTopic, AclOperation::kWrite, "mi", Permission::kAllow,
        PatternType::kPrefixed);
  EXPECT_EQ(InitProducer(), kNone);
  Allow(ResourceType::kTopic, AclOperation::kWrite, "m", Permission::kDeny, PatternType::kPrefixed);
  EXPECT_EQ(InitProducer(), kClusterRefused) << "the wider prefix takes all of it away";
  Allow(ResourceType::kCluster, AclOperation::kIdempotentWrite, kClusterResource);
  EXPECT_EQ(InitProducer(), kNone);
}

TEST_F(AccessTest, TransactionsNeedTheirId) {
  EXPECT_EQ(InitProducer("tx"), kIdRefused);
  Allow(ResourceType::kTransactionalId, AclOperation::kWrite, "tx");
  EXPECT_EQ(InitProducer("tx"), kNone);
  kafka::AddPartitionsToTxnRequest add;
  add.v3_and_below_transactional_id = "tx";
  add.v3_and_below_topics = {{"mine", {0}, {}}, {"other", {0}, {}}};
  AllowTopic(AclOperation::kWrite);
  const auto added = broker_.Ask(add, 3).Get();
  ASSERT_EQ(added.results_by_topic_v3_and_below.size(), 2u);
  for (const auto& topic : added.results_by_topic_v3_and_below) {
    EXPECT_EQ(topic.results_by_partition.at(0).partition_error_code,
              topic.name == "mine" ? ErrorCode::kOperationNotAttempted : kTopicRefused);
  }
  kafka::EndTxnRequest end;
  end.transactional_id = "ty";
  EXPECT_EQ(broker_.Ask(end, 3).Get().error_code, kIdRefused);
  const std::string batch = broker_.Batch({"v"});
  auto produce = BrokerFixture::MakeProduce("mine", 0, batch);
  produce.transactional_id = "ty";
  EXPECT_EQ(broker_.Ask(produce, 9).Get().responses.at(0).partition_responses.at(0).error_code,
            kIdRefused);
}

TEST_F(AccessTest, TopicsAreMadeAndDeletedByWhoMay) {
  const auto create = [&](std::string_view name) {
    kafka::CreateTopicsRequest request;
    request.topics.push_back({.name = name, .num_partitions = 1, .replication_factor = 1});
    return broker_.Ask(request, 7);
  };
  EXPECT_EQ(create("new").Get().topics.at(0).error_code, kTopicRefused);
  AllowTopic(AclOperation::kCreate, "new");
  auto made = create("new");
  EXPECT_EQ(made.Get().topics.at(0).error_code, kNone);
  EXPECT_EQ(made.Get().topics.at(0).topic_config_error_code, kTopicRefused);
  EXPECT_EQ(made.Get().topics.at(0).num_partitions, -1);
  Allow(ResourceType::kCluster, AclOperation::kCreate, kClusterResource);
  AllowTopic(AclOperation::kDescribeConfigs, "new2");
  made = create("new2");
  EXPECT_EQ(made.Get().topics.at(0).error_code, kNone);
  EXPECT_EQ(made.Get().topics.at(0).num_partitions, 1);

  kafka::DeleteTopicsRequest deletion;
  deletion.topics.push_back({.name = "new"});
  EXPECT_EQ(broker_.Ask(deletion, 6).Get().responses.at(0).error_code, kTopicRefused);
  deletion.topics[0] = {.name = std::nullopt, .topic_id = made.Get().topics[0].topic_id};
  const auto by_id = broker_.Ask(deletion, 6);
  EXPECT_EQ(by_id.Get().responses.at(0).error_code, kTopicRefused);
  EXPECT_FALSE(by_id.Get().responses[0].name.has_value()) << "the name stays a secret";
  AllowTopic(AclOperation::kDelete, "new2");
  EXPECT_EQ(broker_.Ask(deletion, 6).Get().responses.at(0).error_code, kNone);
}

TEST_F(AccessTest, SettingsAreShownAndChangedByWhoMay) {
  kafka::DescribeConfigsRequest describe;
  describe.resources.push_back({.resource_type = 2, .resource_name = "mine"});
  describe.resources.push_back({.resource_type = 4, .resource_name = "0"});
  auto shown = broker_.Ask(describe, 4).Get();
  EXPECT_EQ(shown.results.at(0).error_code, kTopicRefused);
  EXPECT_EQ(shown.results.at(1).error_code, kClusterRefused);
  AllowTopic(AclOperation::kAlterConfigs);
  shown = broker_.Ask(describe, 4).Get();
  EXPECT_EQ(shown.results.at(0).error_code, kNone);
  EXPECT_EQ(shown.results.at(1).error_code, kClusterRefused);
  kafka::IncrementalAlterConfigsRequest alter;
  for (const char* topic : {"mine", "other"}) {
    auto& out = alter.resources.emplace_back();
    out.resource_type = 2;
    out.resource_name = topic;
    out.configs.push_back({"retention.ms", 0, "1000", {}});
  }
  const auto changed = broker_.Ask(alter, 1).Get();
  ASSERT_EQ(changed.responses.size(), 2u);
  for (const auto& out : changed.responses) {
    EXPECT_EQ(out.error_code, out.resource_name == "mine" ? kNone : kTopicRefused);
  }
  EXPECT_EQ(broker_.Ask(kafka::ElectLeadersRequest(), 2).Get().error_code, kClusterRefused);
}

TEST_F(AccessTest, RulesOutliveACrashAndAreTakenAwayByFilters) {
  AllowTopic(AclOperation::kWrite);
  AllowTopic(AclOperation::kWrite);
  EXPECT_EQ(CountAcls(), 1u) << "the same rule twice is one";
  Allow(ResourceType::kGroup, AclOperation::kRead, "g");
  broker_.CrashAndRestart();
  EXPECT_EQ(CountAcls(), 2u);
  EXPECT_THAT(ProduceBoth(),
              UnorderedElementsAre(std::pair("mine", kNone), std::pair("other", kTopicRefused)));

  kafka::DeleteAclsRequest deletion;
  deletion.filters.push_back({.resource_type_filter = 2,
                              .resource_name_filter = "mine",
                              .pattern_type_filter = 2,
                              .operation = 1,
                              .permission_type = 1});
  EXPECT_EQ(broker_.Ask(deletion, 3).Get().filter_results.at(0).error_code, kClusterRefused);
  EXPECT_EQ(CountAcls(), 2u);
  broker_.ActAs("User:admin");
  const auto pending = broker_.Ask(deletion, 3);
  const auto deleted = pending.Get();
  EXPECT_EQ(deleted.filter_results.at(0).error_code, kNone);
  ASSERT_EQ(deleted.filter_results[0].matching_acls.size(), 1u);
  EXPECT_EQ(deleted.filter_results[0].matching_acls[0].resource_name, "mine");
  broker_.ActAs("User:a");
  EXPECT_THAT(ProduceBoth(), UnorderedElementsAre(std::pair("mine", kTopicRefused),
                                                  std::pair("other", kTopicRefused)));
  broker_.CrashAndRestart();
  EXPECT_EQ(CountAcls(), 1u);
}

TEST_F(AccessTest, RulesThatMeanNothingAreRefused) {
  using Creation = kafka::CreateAclsRequest::AclCreation;
  const Creation good{2, "t", 3, "User:a", "*", 3, 3, {}};
  const auto error = [&](auto change) {
    kafka::CreateAclsRequest request;
    request.creations.push_back(good);
    change(request.creations[0]);
    broker_.ActAs("User:admin");
    return broker_.Ask(request, 3).Get().results.at(0).error_code;
  };
  constexpr auto kInvalid = ErrorCode::kInvalidRequest;
  EXPECT_EQ(error([](Creation&) {}), kNone);
  constexpr auto kUnknown = ErrorCode::kUnknownServerError;
  EXPECT_EQ(error([](Creation& acl) { acl.resource_type = 1; }), kUnknown);
  EXPECT_EQ(error([](Creation& acl) { acl.resource_type = 8; }), kInvalid);
  EXPECT_EQ(error([](Creation& acl) { acl.resource_type = 4; }), kInvalid) << "not kafka-cluster";
  EXPECT_EQ(error([](Creation& acl) { acl.resource_pattern_type = 2; }), kUnknown);
  EXPECT_EQ(error([](Creation& acl) { acl.operation = 1; }), kUnknown);
  EXPECT_EQ(error([](Creation& acl) { acl.operation = 16; }), kInvalid);
  EXPECT_EQ(error([](Creation& acl) { acl.permission_type = 1; }), kUnknown);
  EXPECT_EQ(error([](Creation& acl) { acl.resource_name = ""; }), kInvalid);
  EXPECT_EQ(error([](Creation& acl) { acl.principal = "a"; }), kInvalid);
  const std::string long_name(Acl::kTextBytesMax, 'x');
  EXPECT_EQ(error([&](Creation& acl) { acl.resource_name = long_name; }), kInvalid);
  EXPECT_EQ(CountAcls(), 1u);

  // What is meant for filters spoils the whole request, what Kafka cannot decode the connection.
  kafka::CreateAclsRequest request;
  request.creations = {good, good};
  request.creations[0].resource_name = "u";
  request.creations[1].operation = 1;
  broker_.ActAs("User:admin");
  const auto spoiled = broker_.Ask(request, 3);
  for (const auto& result : spoiled.Get().results) {
    EXPECT_EQ(result.error_code, kUnknown);
    EXPECT_FALSE(result.error_message.has_value());
  }
  EXPECT_EQ(CountAcls(), 1u);
  request.creations[1].operation = 0;
  broker_.ActAs("User:admin");
  EXPECT_EQ(broker_.Ask(request, 3).kind(), kafka::Answer::Kind::kClose);
  request.creations = {good};
  EXPECT_EQ(broker_.Ask(request, 3).Get().results.at(0).error_message, "") << "as Kafka says it";
}

TEST_F(AccessTest, FiltersOfNumbersThatNobodyKnowsFitNothing) {
  AllowTopic(AclOperation::kRead);
  kafka::DescribeAclsRequest describe{
      .resource_type_filter = 1, .pattern_type_filter = 1, .operation = 1, .permission_type = 9};
  broker_.ActAs("User:admin");
  const auto shown = broker_.Ask(describe, 3);
  EXPECT_EQ(shown.Get().error_code, kNone);
  EXPECT_EQ(shown.Get().error_message, "");
  EXPECT_THAT(shown.Get().resources, IsEmpty());
  describe.permission_type = 0;
  EXPECT_EQ(broker_.Ask(describe, 3).kind(), kafka::Answer::Kind::kClose);

  const auto message = [&](int8_t pattern, int8_t operation) {
    kafka::DeleteAclsRequest deletion;
    deletion.filters.push_back({.resource_type_filter = 1,
                                .pattern_type_filter = pattern,
                                .operation = operation,
                                .permission_type = 1});
    const auto pending = broker_.Ask(deletion, 3);
    const auto result = pending.Get().filter_results.at(0);
    EXPECT_EQ(result.error_code, ErrorCode::kInvalidRequest);
    return std::string(result.error_message.value_or(""));
  };
  EXPECT_EQ(message(9, 1), "Unknown patternFilter.");
  EXPECT_EQ(message(1, 99), "Unknown entryFilter.");
  EXPECT_EQ(CountAcls(), 1u);
}

TEST_F(AccessTest, ARightTakenAwayIsToldToASilentSession) {
  AllowTopic(AclOperation::kRead);
  auto request = BrokerFixture::MakeFetch("mine", 0, 0);
  request.session_epoch = 0;
  request.max_wait_ms = 0;
  request.session_id = broker_.Ask(request, 12).Get().session_id;
  ASSERT_GT(request.session_id, 0);
  request.topics.clear();
  request.session_epoch = 1;
  request.max_wait_ms = 500;
  const auto silent = broker_.Ask(request, 12);
  EXPECT_FALSE(silent.answered());
  broker_.clock().Advance(std::chrono::seconds(1));
  EXPECT_THAT(silent.Get().responses, IsEmpty());
  Allow(ResourceType::kTopic, AclOperation::kRead, "mine", Permission::kDeny);
  request.session_epoch = 2;
  const auto told = broker_.Ask(request, 12);
  ASSERT_TRUE(told.answered());
  EXPECT_EQ(told.Get().responses.at(0).partitions.at(0).error_code, kTopicRefused);
}

class OpenAccessTest : public AccessTest {
 protected:
  OpenAccessTest() : AccessTest(WithAuthorizer(/*open=*/true)) {}
};

TEST_F(OpenAccessTest, WhatNoRuleSpeaksOfIsOpen) {
  EXPECT_THAT(ProduceBoth(),
              UnorderedElementsAre(std::pair("mine", kNone), std::pair("other", kNone)));
  AllowTopic(AclOperation::kRead, "other");
  EXPECT_THAT(ProduceBoth(),
              UnorderedElementsAre(std::pair("mine", kNone), std::pair("other", kTopicRefused)));
}

TEST(NoAuthorizerTest, RulesCannotBeMadeAndEverythingIsAllowed) {
  BrokerFixture broker;
  kafka::CreateAclsRequest create;
  create.creations.push_back({2, "t", 3, "User:a", "*", 3, 3, {}});
  EXPECT_EQ(broker.Ask(create, 3).Get().results.at(0).error_code, ErrorCode::kSecurityDisabled);
  kafka::DescribeAclsRequest describe{
      .resource_type_filter = 1, .pattern_type_filter = 1, .operation = 1, .permission_type = 1};
  EXPECT_EQ(broker.Ask(describe, 3).Get().error_code, ErrorCode::kSecurityDisabled);
  kafka::DeleteAclsRequest remove;
  remove.filters.emplace_back();
  EXPECT_EQ(broker.Ask(remove, 3).Get().filter_results.at(0).error_code,
            ErrorCode::kSecurityDisabled);
  kafka::MetadataRequest metadata{.include_cluster_authorized_operations = true,
                                  .include_topic_authorized_operations = true};
  metadata.topics.emplace().push_back({.name = "t"});
  const auto shown = broker.Ask(metadata, 8).Get();
  EXPECT_EQ(shown.topics.at(0).error_code, kNone);
  EXPECT_EQ(shown.topics.at(0).topic_authorized_operations, 0x0df8);
  EXPECT_EQ(shown.cluster_authorized_operations, 0x1fa0);
}

// Whoever serves an API says what it has to be allowed.
TEST(AccessTableTest, EveryServedApiHasALine) {
  for (const kafka::Served& served : ServedApis()) {
    if (served.api.name == "ApiVersions" || served.api.name.starts_with("Sasl")) continue;
    if (served.api.name.ends_with("DelegationToken")) continue;  // Which nobody gets.
    EXPECT_TRUE(std::ranges::any_of(AccessRequirements(), [&](const AccessRequirement& line) {
      return line.api.key == served.api.key;
    })) << served.api.name;
  }
}

// HOLDFAST_PRINT=1 broker_test --gtest_filter='AccessTable*' prints it anew.
TEST(AccessTableTest, IsPrintedIntoTheDocumentation) {
  test::ExpectPrinted("docs/security.md", "broker/access.cc", RenderAccessTable());
}

}  // namespace
}  // namespace holdfast::broker
