// What administrators ask a whole broker for, in frames: settings changed, topics and resources
// listed, replicas moved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kafka/api/alter_configs.h"
#include "kafka/api/alter_partition_reassignments.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_log_dirs.h"
#include "kafka/api/describe_quorum.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/elect_leaders.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/list_config_resources.h"
#include "kafka/api/list_partition_reassignments.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int8_t kTopic = 2;
constexpr int8_t kBroker = 4;
constexpr int8_t kClientMetrics = 16;
constexpr int8_t kGroup = 32;

enum Operation : int8_t { kSet = 0, kDelete = 1, kAppend = 2, kSubtract = 3 };

class AlterConfigsTest : public testing::Test {
 protected:
  void SetUp() override { broker_.CreateTopic("t", 1, {{"retention.bytes", "5", {}}}); }

  // One name, one operation.
  ErrorCode Change(std::string_view name, int8_t operation, std::optional<std::string_view> value,
                   int8_t type = kTopic, std::string_view resource = "t",
                   bool validate_only = false) {
    kafka::IncrementalAlterConfigsRequest request;
    request.validate_only = validate_only;
    auto& out = request.resources.emplace_back();
    out.resource_type = type;
    out.resource_name = resource;
    out.configs.push_back({name, operation, value, {}});
    const auto pending = broker_.Ask(request, 1);
    const auto response = pending.Get();
    EXPECT_EQ(response.responses.size(), 1u);
    const auto& answer = response.responses.at(0);
    EXPECT_EQ(answer.resource_type, type);
    EXPECT_EQ(answer.resource_name, resource);
    EXPECT_EQ(answer.error_message.has_value(), answer.error_code != ErrorCode::kNone);
    message_ = answer.error_message.value_or("");
    return answer.error_code;
  }

  // With " (default)" behind it where nothing was set.
  std::string Value(std::string_view name) {
    kafka::DescribeConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kTopic;
    resource.resource_name = "t";
    resource.configuration_keys = {{name}};
    const auto pending = broker_.Ask(request, 4);
    const auto config = pending.Get().results.at(0).configs.at(0);
    constexpr int8_t kTopicConfig = 1;
    return std::string(*config.value) + (config.config_source == kTopicConfig ? "" : " (default)");
  }

  BrokerFixture broker_;
  std::string message_;
};

TEST_F(AlterConfigsTest, SettingsAreChangedAtOnceAndForGood) {
  EXPECT_EQ(Change("max.message.bytes", kSet, "10"), ErrorCode::kNone);
  EXPECT_EQ(Value("max.message.bytes"), "10");
  EXPECT_EQ(Value("retention.bytes"), "5") << "the others stay";
  EXPECT_EQ(broker_.Produce("t", 0, broker_.Batch({"a"})).error_code, ErrorCode::kMessageTooLarge);

  broker_.CrashAndRestart();
  EXPECT_EQ(Value("max.message.bytes"), "10");
  EXPECT_EQ(broker_.Produce("t", 0, broker_.Batch({"a"})).error_code, ErrorCode::kMessageTooLarge);

  EXPECT_EQ(Change("max.message.bytes", kDelete, std::nullopt), ErrorCode::kNone);
  EXPECT_EQ(Value("max.message.bytes"), "1048588 (default)");
  EXPECT_EQ(broker_.Produce("t", 0, broker_.Batch({"a"})).error_code, ErrorCode::kNone);
}

TEST_F(AlterConfigsTest, ListsGrowAndShrink) {
  EXPECT_EQ(Change("cleanup.policy", kAppend, "compact"), ErrorCode::kNone);
  EXPECT_EQ(Value("cleanup.policy"), "delete,compact") << "the default is what it grows from";
  EXPECT_EQ(Change("cleanup.policy", kAppend, "delete,compact"), ErrorCode::kNone);
  EXPECT_EQ(Value("cleanup.policy"), "delete,compact");
  EXPECT_EQ(Change("cleanup.policy", kSubtract, "delete,else"), ErrorCode::kNone);
  EXPECT_EQ(Value("cleanup.policy"), "compact");
  EXPECT_EQ(Change("cleanup.policy", kAppend, "else"), ErrorCode::kInvalidConfig);
  EXPECT_EQ(Change("retention.ms", kAppend, "1"), ErrorCode::kInvalidConfig);
  EXPECT_EQ(Value("cleanup.policy"), "compact");
}

// As ConfigDef of Kafka reads values that a file, a script or a tool has written.
TEST_F(AlterConfigsTest, ValuesAreReadAsKafkaReadsThem) {
  const std::tuple<const char*, const char*, const char*> taken[] = {
      {"cleanup.policy", "compact, delete", "compact,delete"},
      {"cleanup.policy", " delete ,\tcompact,delete\n", "delete,compact"},
      {"cleanup.policy", " ", ""},
      {"retention.ms", " 1000", "1000"},
      {"retention.ms", "1001 ", "1001"},
      {"retention.ms", "+1002", "1002"},
      {"retention.ms", "-1", "-1"},
      {"preallocate", "TRUE", "true"},
      {"preallocate", " False ", "false"},
      {"remote.storage.enable", "False", "false"},
      {"compression.type", " gzip", "gzip"},
      {"message.timestamp.type", " LogAppendTime", "LogAppendTime"},
      {"min.cleanable.dirty.ratio", " .5 ", "0.5"},
      {"min.cleanable.dirty.ratio", "0.25d", "0.25"},
      {"min.cleanable.dirty.ratio", "+1.0f", "1.0"},
      {"min.cleanable.dirty.ratio", "0", "0.0"},
      {"leader.replication.throttled.replicas", "0:1, 1:1,0:1", "0:1,1:1"},
      {"leader.replication.throttled.replicas", " * ", "*"},
      {"leader.replication.throttled.replicas", "", ""},
  };
  for (const auto& [name, given, shown] : taken) {
    EXPECT_EQ(Change(name, kSet, given), ErrorCode::kNone) << name << "=" << given << message_;
    EXPECT_EQ(Value(name), shown) << name << "=" << given;
  }
  const std::pair<const char*, const char*> refused[] = {
      {"cleanup.policy", "delete,"},
      {"cleanup.policy", ",delete"},
      {"cleanup.policy", "compact,,delete"},
      {"cleanup.policy", "Compact"},
      {"retention.ms", ""},
      {"retention.ms", "+-1"},
      {"retention.ms", "1 000"},
      {"retention.ms", "1000d"},
      {"preallocate", "yes"},
      {"preallocate", ""},
      {"compression.type", "GZIP"},
      {"compression.gzip.level", "+0"},
      {"min.cleanable.dirty.ratio", "d"},
      {"min.cleanable.dirty.ratio", ""},
      {"min.cleanable.dirty.ratio", "1.5"},
      {"leader.replication.throttled.replicas", "all"},
      {"leader.replication.throttled.replicas", "0:1,1"},
  };
  for (const auto& [name, given] : refused) {
    EXPECT_EQ(Change(name, kSet, given), ErrorCode::kInvalidConfig) << name << "=" << given;
  }

  EXPECT_EQ(Change("cleanup.policy", kSet, "delete"), ErrorCode::kNone);
  EXPECT_EQ(Change("cleanup.policy", kAppend, " compact, delete"), ErrorCode::kNone);
  EXPECT_EQ(Value("cleanup.policy"), "delete,compact");
  EXPECT_EQ(Change("cleanup.policy", kSubtract, "else , delete"), ErrorCode::kNone);
  EXPECT_EQ(Value("cleanup.policy"), "compact");
  EXPECT_EQ(Change("consumer.session.timeout.ms", kSet, " 50000", kGroup, "g"), ErrorCode::kNone);
  EXPECT_EQ(Change("share.auto.offset.reset", kSet, " by_duration:PT1H", kGroup, "g"),
            ErrorCode::kNone);
  EXPECT_EQ(Change("log.cleanup.policy", kSet, "compact, delete", kBroker, "0"), ErrorCode::kNone);
  broker_.CreateTopic("u", 1, {{"cleanup.policy", "compact , delete", {}}});
}

TEST_F(AlterConfigsTest, AppendsOfOneMomentAreBothDone) {
  kafka::IncrementalAlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kTopic;
  resource.resource_name = "t";
  auto& config = resource.configs.emplace_back();
  config.name = "leader.replication.throttled.replicas";
  config.config_operation = kAppend;
  config.value = "0:1";
  const auto first = broker_.Send(request, 1);
  config.value = "1:1";
  const auto second = broker_.Ask(request, 1);
  EXPECT_EQ(first.Get().responses[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(second.Get().responses[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(Value("leader.replication.throttled.replicas"), "0:1,1:1");
}

TEST_F(AlterConfigsTest, ChangesAreRefusedWithKafkasCodes) {
  EXPECT_EQ(Change("no.such.config", kSet, "1"), ErrorCode::kInvalidConfig);
  EXPECT_THAT(message_, HasSubstr("no.such.config"));
  EXPECT_EQ(Change("retention.ms", kSet, "-2"), ErrorCode::kInvalidConfig);
  EXPECT_EQ(Change("retention.ms", kSet, std::nullopt), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("retention.ms", 4, "1"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("retention.ms", kSet, "1", kTopic, "other"),
            ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(Change("retention.ms", kSet, "1", kTopic, "a b"), ErrorCode::kInvalidTopicException);
  EXPECT_EQ(Change("num.io.threads", kSet, "1", kBroker, "0"), ErrorCode::kInvalidRequest);
  EXPECT_THAT(message_, HasSubstr("num.io.threads"));
  EXPECT_EQ(Change("num.io.threads", kSet, "1", kBroker, "5"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("retention.ms", kSet, "1", kTopic, ""), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("any", kSet, "1", kClientMetrics, "m"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("any", kSet, "1", kGroup, "g"), ErrorCode::kInvalidConfig);
  EXPECT_EQ(Change("any", kDelete, std::nullopt, kGroup, "g"), ErrorCode::kNone);
  EXPECT_EQ(Change("any", kSet, "1", 77, "x"), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Change("retention.ms", kSet, "1", kTopic, "t", /*validate_only=*/true),
            ErrorCode::kNone);
  EXPECT_EQ(Value("retention.ms"), "604800000 (default)") << "the trial changed nothing";
}

TEST_F(AlterConfigsTest, ResourcesAndNamesStandInARequestOnce) {
  kafka::IncrementalAlterConfigsRequest request;
  for (const char* value : {"1", "2"}) {
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kTopic;
    resource.resource_name = "t";
    resource.configs.push_back({"retention.ms", kSet, value, {}});
  }
  const auto twice = broker_.Ask(request, 1).Get();
  ASSERT_EQ(twice.responses.size(), 2u);
  EXPECT_EQ(twice.responses[0].error_code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(twice.responses[1].error_code, ErrorCode::kInvalidRequest);

  request.resources.pop_back();
  request.resources[0].configs.push_back({"retention.ms", kSet, "3", {}});
  EXPECT_EQ(broker_.Ask(request, 1).Get().responses[0].error_code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(Value("retention.ms"), "604800000 (default)");
}

TEST_F(AlterConfigsTest, AGroupWithoutSettingsIsNotKept) {
  const auto list = [this] {
    kafka::ListConfigResourcesRequest request;
    request.resource_types = {kGroup};
    const auto pending = broker_.Ask(request, 1);
    std::vector<std::string> names;
    for (const auto& resource : pending.Get().config_resources)
      names.emplace_back(resource.resource_name);
    return names;
  };
  constexpr std::string_view kTimeout = "consumer.session.timeout.ms";
  EXPECT_EQ(Change(kTimeout, kDelete, std::nullopt, kGroup, "never"), ErrorCode::kNone);
  EXPECT_EQ(Change(kTimeout, kSet, "50000", kGroup, "g"), ErrorCode::kNone);
  EXPECT_THAT(list(), ElementsAre("g"));
  broker_.CrashAndRestart();
  EXPECT_THAT(list(), ElementsAre("g"));
  EXPECT_EQ(Change(kTimeout, kDelete, std::nullopt, kGroup, "g"), ErrorCode::kNone);
  EXPECT_THAT(list(), IsEmpty());
  // Versions before this one kept them.
  broker_.Amend([](spool::Transaction& transaction) {
    EXPECT_FALSE(transaction.Get(GroupConfigKey("g")));
    EXPECT_FALSE(transaction.Get(GroupConfigKey("never")));
    transaction.Put(GroupConfigKey("old"), Encode(ConfigsRecord()));
  });
  EXPECT_THAT(list(), IsEmpty());
}

TEST_F(AlterConfigsTest, AlterConfigsReplacesAllSettings) {
  kafka::AlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kTopic;
  resource.resource_name = "t";
  resource.configs.push_back({"retention.ms", "7", {}});
  request.validate_only = true;
  EXPECT_EQ(broker_.Ask(request, 2).Get().responses[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(Value("retention.bytes"), "5");

  request.validate_only = false;
  EXPECT_EQ(broker_.Ask(request, 2).Get().responses[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(Value("retention.ms"), "7");
  EXPECT_EQ(Value("retention.bytes"), "-1 (default)");
  resource.configs[0].value.reset();
  EXPECT_EQ(broker_.Ask(request, 2).Get().responses[0].error_code, ErrorCode::kInvalidRequest);
}

// --- DescribeTopicPartitions --------------------------------------------------------------------

// "name:partitions" of each topic, "name!code" where it is refused, and where to go on.
std::string Page(BrokerFixture& broker, std::vector<std::string_view> topics, int32_t limit,
                 std::optional<kafka::DescribeTopicPartitionsCursor> cursor = std::nullopt) {
  kafka::DescribeTopicPartitionsRequest request;
  for (const std::string_view topic : topics) request.topics.push_back({topic, {}});
  request.response_partition_limit = limit;
  request.cursor = cursor;
  const auto pending = broker.Ask(request, 0);
  const auto response = pending.Get();
  std::string page;
  for (const auto& topic : response.topics) {
    page += std::string(*topic.name);
    if (topic.error_code != ErrorCode::kNone) {
      page += "!" + std::string(kafka::ErrorName(topic.error_code)) + " ";
      continue;
    }
    page += ":";
    for (const auto& partition : topic.partitions) {
      EXPECT_EQ(partition.leader_id, 0);
      EXPECT_THAT(partition.isr_nodes, ElementsAre(0));
      page += std::to_string(partition.partition_index);
    }
    page += " ";
  }
  if (response.next_cursor) {
    page += "-> " + std::string(response.next_cursor->topic_name) + "/" +
            std::to_string(response.next_cursor->partition_index);
  }
  return page;
}

TEST(DescribeTopicPartitionsTest, TopicsAreGivenPageByPageInTheOrderOfTheirNames) {
  BrokerFixture broker;
  broker.CreateTopic("b", 3);
  broker.CreateTopic("a", 2);
  broker.CreateTopic("c", 1);
  EXPECT_EQ(Page(broker, {}, 2000), "a:01 b:012 c:0 ");
  EXPECT_EQ(Page(broker, {}, 0), "a:0 -> a/1") << "one partition at least";
  EXPECT_EQ(Page(broker, {}, 2), "a:01 -> b/0");
  EXPECT_EQ(Page(broker, {}, 2, {{"b", 0, {}}}), "b:01 -> b/2");
  EXPECT_EQ(Page(broker, {}, 2, {{"b", 2, {}}}), "b:2 c:0 ");
  EXPECT_EQ(Page(broker, {}, 9, {{"aa", 2, {}}}), "b:012 c:0 ") << "the cursor's topic is gone";
  EXPECT_EQ(Page(broker, {"c", "b"}, 3), "b:012 -> c/0");
  EXPECT_EQ(Page(broker, {"c", "b"}, 3, {{"c", 0, {}}}), "c:0 ");
}

TEST(DescribeTopicPartitionsTest, WhatCannotBeDescribedIsRefused) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  EXPECT_EQ(Page(broker, {"t", "u", "v w"}, 10),
            "t:0 u!UNKNOWN_TOPIC_OR_PARTITION v w!INVALID_TOPIC_EXCEPTION ");
  EXPECT_EQ(Page(broker, {"t"}, 10, {{"u", 0, {}}}), "t!INVALID_REQUEST ");
  EXPECT_EQ(Page(broker, {"t"}, 10, {{"t", -1, {}}}), "t!INVALID_REQUEST ");
}

// --- ListConfigResources ------------------------------------------------------------------------

TEST(ListConfigResourcesTest, TopicsAndTheBrokerHaveSettings) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto list = [&](std::vector<int8_t> types, int16_t version) {
    kafka::ListConfigResourcesRequest request;
    request.resource_types = std::move(types);
    const auto pending = broker.Ask(request, version);
    std::vector<std::string> names;
    for (const auto& resource : pending.Get().config_resources) {
      names.push_back(std::to_string(resource.resource_type) + ":" +
                      std::string(resource.resource_name));
    }
    if (pending.Get().error_code != ErrorCode::kNone) {
      names.emplace_back(kafka::ErrorName(pending.Get().error_code));
    }
    return names;
  };
  EXPECT_THAT(list({}, 1), ElementsAre("4:0", "2:t"));
  EXPECT_THAT(list({kTopic}, 1), ElementsAre("2:t"));
  EXPECT_THAT(list({kGroup}, 1), IsEmpty());
  EXPECT_THAT(list({kTopic, 77}, 1), ElementsAre("UNSUPPORTED_VERSION"));
  EXPECT_THAT(list({}, 0), IsEmpty()) << "version 0 asks for client metrics";
}

// --- Leaders and replicas -----------------------------------------------------------------------

TEST(ReplicasTest, NoElectionIsNeeded) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  kafka::ElectLeadersRequest request;
  EXPECT_THAT(broker.Ask(request, 2).Get().replica_election_results, IsEmpty());
  request.topic_partitions.emplace().push_back({"t", {0, 1}, {}});
  const auto response = broker.Ask(request, 2).Get();
  ASSERT_EQ(response.replica_election_results.size(), 1u);
  const auto& partitions = response.replica_election_results[0].partition_result;
  ASSERT_EQ(partitions.size(), 2u);
  EXPECT_EQ(partitions[0].error_code, ErrorCode::kElectionNotNeeded);
  EXPECT_EQ(partitions[1].error_code, ErrorCode::kUnknownTopicOrPartition);
  request.election_type = 2;
  EXPECT_EQ(broker.Ask(request, 2).Get().error_code, ErrorCode::kInvalidRequest);
}

TEST(ReplicasTest, PartitionsStayWhereTheyAre) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto move = [&](int32_t partition, std::optional<std::vector<int32_t>> replicas) {
    kafka::AlterPartitionReassignmentsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.push_back({partition, std::move(replicas), {}});
    const auto pending = broker.Ask(request, 1);
    const auto answer = pending.Get().responses.at(0).partitions.at(0);
    EXPECT_EQ(answer.error_message.has_value(), answer.error_code != ErrorCode::kNone);
    return answer.error_code;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(move(0, Ids{0}), ErrorCode::kNone);
  EXPECT_EQ(move(1, Ids{0}), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(move(0, Ids{}), ErrorCode::kInvalidReplicaAssignment);
  EXPECT_EQ(move(0, Ids{1}), ErrorCode::kInvalidReplicaAssignment);
  EXPECT_EQ(move(0, Ids{0, 0}), ErrorCode::kInvalidReplicaAssignment);
  EXPECT_EQ(move(0, std::nullopt), ErrorCode::kNoReassignmentInProgress);

  const auto list = broker.Ask(kafka::ListPartitionReassignmentsRequest(), 0).Get();
  EXPECT_EQ(list.error_code, ErrorCode::kNone);
  EXPECT_THAT(list.topics, IsEmpty());
}

TEST(ReplicasTest, TheBrokerIsTheQuorum) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  kafka::DescribeQuorumRequest request;
  auto& topic = request.topics.emplace_back();
  topic.topic_name = "__cluster_metadata";
  topic.partitions.emplace_back();
  const auto pending = broker.Ask(request, 2);
  const auto response = pending.Get();
  ASSERT_EQ(response.topics.at(0).partitions.size(), 1u);
  const auto& partition = response.topics[0].partitions[0];
  EXPECT_EQ(partition.error_code, ErrorCode::kNone);
  EXPECT_EQ(partition.leader_id, 0);
  EXPECT_GT(partition.high_watermark, 0);
  ASSERT_EQ(partition.current_voters.size(), 1u);
  EXPECT_EQ(partition.current_voters[0].log_end_offset, partition.high_watermark);
  ASSERT_EQ(response.nodes.size(), 1u);
  EXPECT_EQ(response.nodes[0].listeners.at(0).host, "10.0.0.1");
  EXPECT_EQ(response.nodes[0].listeners.at(0).port, 9092);

  request.topics[0].topic_name = "t";
  const auto other = broker.Ask(request, 2).Get();
  EXPECT_EQ(other.topics.at(0).partitions.at(0).error_code, ErrorCode::kUnknownTopicOrPartition);
}

TEST(BrokerConfigsTest, ClientsSeeTheAddressThatTheyAreGiven) {
  BrokerFixture broker;
  kafka::DescribeConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kBroker;
  resource.resource_name = "0";
  resource.configuration_keys = {{"advertised.listeners"}};
  const auto pending = broker.Ask(request, 4);
  const auto answer = pending.Get();
  ASSERT_EQ(answer.results.at(0).configs.size(), 1u);
  EXPECT_EQ(answer.results[0].configs[0].value, "CLIENT://10.0.0.1:9092");
  EXPECT_TRUE(answer.results[0].configs[0].read_only);
}

TEST(BrokerConfigsTest, WhoNamesNoSettingIsGivenAll) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto count = [&broker](int8_t type, std::string_view name,
                               std::optional<std::vector<std::string_view>> keys) {
    kafka::DescribeConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = type;
    resource.resource_name = name;
    resource.configuration_keys = std::move(keys);
    return broker.Ask(request, 4).Get().results.at(0).configs.size();
  };
  const std::pair<int8_t, const char*> resources[] = {{kTopic, "t"}, {kBroker, "0"}, {kGroup, "g"}};
  for (const auto& [type, name] : resources) {
    const size_t all = count(type, name, std::nullopt);
    EXPECT_GT(all, 5u);
    EXPECT_EQ(count(type, name, {{}}), all) << name;
    EXPECT_EQ(count(type, name, {{"no.such.setting"}}), 0u) << name;
  }
}

TEST(LogDirsTest, APartitionIsAsLargeAsItsBatches) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  broker.CreateTopic("u", 1);
  size_t bytes = 0;
  // Through several turns of the loop, and through a seal.
  for (int i = 0; i < 2500; ++i) {
    const std::string batch = broker.Batch({"record", std::string(2000, 'x')});
    bytes += batch.size();
    ASSERT_EQ(broker.Produce("t", 1, batch).error_code, ErrorCode::kNone);
  }
  const auto ask = [&broker](const kafka::DescribeLogDirsRequest& request, int16_t version) {
    auto asked = broker.Ask(request, version);
    broker.clock().Advance(std::chrono::milliseconds(1));  // It is measured in several turns.
    return asked;
  };
  const auto pending = ask({}, 4);
  const auto all = pending.Get();
  EXPECT_EQ(all.error_code, ErrorCode::kNone);
  ASSERT_EQ(all.results.size(), 1u);
  EXPECT_FALSE(all.results[0].log_dir.empty());
  EXPECT_GT(all.results[0].usable_bytes, 0);
  EXPECT_GE(all.results[0].total_bytes, all.results[0].usable_bytes);
  ASSERT_EQ(all.results[0].topics.size(), 2u);
  const auto& t = all.results[0].topics[0];
  EXPECT_EQ(t.name, "t");
  ASSERT_EQ(t.partitions.size(), 2u);
  EXPECT_EQ(t.partitions[0].partition_size, 0);
  EXPECT_EQ(t.partitions[1].partition_index, 1);
  EXPECT_EQ(t.partitions[1].partition_size, static_cast<int64_t>(bytes));
  EXPECT_EQ(t.partitions[1].offset_lag, 0);

  kafka::DeleteRecordsRequest deletion;
  deletion.topics.push_back({"t", {{1, 4998, {}}}, {}});
  EXPECT_EQ(broker.Ask(deletion, 2).Get().topics.at(0).partitions.at(0).error_code,
            ErrorCode::kNone);
  kafka::DescribeLogDirsRequest request;
  request.topics = {{"t", {1}, {}}, {"unknown", {0}, {}}, {"u", {7}, {}}};
  const auto chosen = ask(request, 1);
  const auto answer = chosen.Get();
  ASSERT_EQ(answer.results.at(0).topics.size(), 1u);
  const auto& left = answer.results[0].topics[0];
  ASSERT_EQ(left.partitions.size(), 1u);
  EXPECT_EQ(left.partitions[0].partition_size, static_cast<int64_t>(bytes / 2500));
}

// What cannot be opened is counted, so nothing is opened for it.
TEST(LogDirsTest, WhatIsEncryptedIsNotOpenedToBeMeasured) {
  Options options;
  options.spool.encryption_keys = *spool::KeyRing::Parse(std::vector{std::string(64, 'a')});
  BrokerFixture broker(options);
  broker.CreateTopic("t", 1);
  constexpr int kBatches = 150;
  int64_t bytes = 0;
  for (int i = 0; i < kBatches; ++i) {
    const std::string batch = broker.Batch({std::string(static_cast<size_t>(40'000 + i), 'x')});
    bytes += std::ssize(batch);
    ASSERT_EQ(broker.Produce("t", 0, batch).error_code, ErrorCode::kNone);
  }
  broker.CreateTopic("u", 1);  // The newest commit has to be whole.
  ASSERT_EQ(broker.DamageLargeBatches(), kBatches);
  ASSERT_THAT(broker.Values("t", 0, 0), IsEmpty()) << "they cannot be opened";
  const auto pending = broker.Ask(kafka::DescribeLogDirsRequest(), 4);
  broker.clock().Advance(std::chrono::milliseconds(1));
  const auto answer = pending.Get();
  EXPECT_EQ(answer.results.at(0).topics.at(0).partitions.at(0).partition_size, bytes);
}

TEST(LogDirsTest, ATopicThatIsNamedTwiceIsListedOnce) {
  BrokerFixture broker;
  broker.CreateTopic("t", 3);
  kafka::DescribeLogDirsRequest request;
  request.topics = {{"t", {2, 0, 2}, {}}, {"t", {0}, {}}};
  auto pending = broker.Ask(request, 4);
  broker.clock().Advance(std::chrono::milliseconds(1));
  const auto answer = pending.Get();
  ASSERT_EQ(answer.results.at(0).topics.size(), 1u);
  std::vector<int32_t> indexes;
  for (const auto& partition : answer.results[0].topics[0].partitions)
    indexes.push_back(partition.partition_index);
  EXPECT_THAT(indexes, ElementsAre(0, 2));
}

TEST(TopicLimitsTest, ARequestMakesSoManyPartitionsAtMost) {
  Options options;
  options.num_partitions = TopicAdmin::kPartitionsMax / 2 + 1;
  BrokerFixture broker(options);
  kafka::MetadataRequest request;
  for (const char* name : {"a", "b"}) {
    if (!request.topics) request.topics.emplace();
    request.topics->emplace_back().name = name;
  }
  const auto pending = broker.Ask(request, 9);
  const auto topics = pending.Get().topics;
  EXPECT_EQ(topics.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(topics.at(1).error_code, ErrorCode::kUnknownTopicOrPartition);

  for (const char* name : {"c", "d"}) broker.CreateTopic(name, 1);
  kafka::CreatePartitionsRequest growth;
  growth.validate_only = true;
  growth.topics.push_back({"c", TopicAdmin::kPartitionsMax / 2 + 1, std::nullopt, {}});
  growth.topics.push_back({"d", TopicAdmin::kPartitionsMax / 2 + 2, std::nullopt, {}});
  const auto results = broker.Ask(growth, 3).Get().results;
  EXPECT_EQ(results.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(results.at(1).error_code, ErrorCode::kInvalidPartitions);
}

TEST(CreatePartitionsTest, ATopicThatIsNamedTwiceStaysAsItIs) {
  BrokerFixture broker;
  for (const char* name : {"once", "twice"}) broker.CreateTopic(name, 1);
  kafka::CreatePartitionsRequest request;
  request.topics.push_back({"twice", 5, std::nullopt, {}});
  request.topics.push_back({"once", 2, std::nullopt, {}});
  request.topics.push_back({"twice", 6, std::nullopt, {}});
  const auto pending = broker.Ask(request, 3);
  const auto results = pending.Get().results;
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].name, "twice");
  EXPECT_EQ(results[0].error_code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(results[0].error_message, "Duplicate topic name.");
  EXPECT_EQ(results[1].name, "once");
  EXPECT_EQ(results[1].error_code, ErrorCode::kNone);
  EXPECT_EQ(Page(broker, {"once", "twice"}, 10), "once:01 twice:0 ");
}

TEST(DeleteTopicsTest, ATopicThatIsNamedTwiceStays) {
  BrokerFixture broker;
  for (const char* name : {"twice", "both", "once"}) broker.CreateTopic(name, 1);
  kafka::DeleteTopicsRequest request;
  for (const char* name : {"twice", "both", "once", "twice", "unknown", "unknown"}) {
    request.topics.emplace_back().name = name;
  }
  request.topics.emplace_back().topic_id = broker.TopicId("both");
  for (int i = 0; i < 2; ++i) request.topics.emplace_back().topic_id.bytes[0] = 1;
  const auto pending = broker.Ask(request, 6);
  std::vector<std::pair<std::string, ErrorCode>> answers;
  for (const auto& topic : pending.Get().responses) {
    answers.emplace_back(topic.name.value_or("an id"), topic.error_code);
  }
  EXPECT_THAT(answers, ElementsAre(std::pair("twice", ErrorCode::kInvalidRequest),
                                   std::pair("both", ErrorCode::kInvalidRequest),
                                   std::pair("once", ErrorCode::kNone),
                                   std::pair("unknown", ErrorCode::kInvalidRequest),
                                   std::pair("an id", ErrorCode::kInvalidRequest),
                                   std::pair("an id", ErrorCode::kInvalidRequest)));
  EXPECT_EQ(Page(broker, {"twice", "both"}, 10), "both:0 twice:0 ");
}

}  // namespace
}  // namespace holdfast::broker
