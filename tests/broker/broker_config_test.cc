// Settings of the broker changed while it runs: which, what clients see of them, and what they do.
#include "broker/broker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/catalog.h"
#include "kafka/api/alter_configs.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/incremental_alter_configs.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int8_t kTopic = 2;
constexpr int8_t kBroker = 4;
constexpr int8_t kSet = 0;
constexpr int8_t kDelete = 1;
constexpr int8_t kAppend = 2;
// As DescribeConfigs numbers them.
constexpr int8_t kFromTopic = 1;
constexpr int8_t kFromThisBroker = 2;
constexpr int8_t kFromAllBrokers = 3;
constexpr int8_t kFromFile = 4;
constexpr int8_t kFromDefault = 5;

struct Change {
  std::string_view name;
  int8_t operation;
  std::optional<std::string_view> value;
};

struct Seen {
  std::string name;
  std::optional<std::string> value;
  int8_t source = 0;
  bool read_only = false;
  std::vector<std::tuple<std::string, std::string, int8_t>> synonyms;
};

class BrokerConfigTest : public testing::Test {
 protected:
  ErrorCode Alter(std::string_view broker, const std::vector<Change>& changes,
                  bool validate_only = false) {
    kafka::IncrementalAlterConfigsRequest request;
    request.validate_only = validate_only;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kBroker;
    resource.resource_name = broker;
    for (const Change& change : changes) {
      resource.configs.push_back({change.name, change.operation, change.value, {}});
    }
    const auto pending = broker_.Ask(request, 1);
    const auto answer = pending.Get().responses.at(0);
    message_ = answer.error_message.value_or("");
    return answer.error_code;
  }
  ErrorCode Replace(std::string_view broker,
                    const std::vector<std::pair<std::string_view, std::string_view>>& settings) {
    kafka::AlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kBroker;
    resource.resource_name = broker;
    for (const auto& [name, value] : settings) resource.configs.push_back({name, value, {}});
    return broker_.Ask(request, 2).Get().responses.at(0).error_code;
  }
  std::vector<Seen> Describe(int8_t type, std::string_view name,
                             std::optional<std::vector<std::string_view>> keys) {
    kafka::DescribeConfigsRequest request;
    request.include_synonyms = true;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = type;
    resource.resource_name = name;
    resource.configuration_keys = std::move(keys);
    const auto pending = broker_.Ask(request, 4);
    const auto answer = pending.Get();
    std::vector<Seen> all;
    EXPECT_EQ(answer.results.at(0).error_code, ErrorCode::kNone);
    for (const auto& config : answer.results[0].configs) {
      Seen& seen = all.emplace_back();
      seen.name = config.name;
      seen.value = std::optional<std::string>(config.value);
      seen.source = config.config_source;
      seen.read_only = config.read_only;
      for (const auto& synonym : config.synonyms) {
        seen.synonyms.emplace_back(synonym.name, synonym.value.value_or("null"), synonym.source);
      }
    }
    return all;
  }
  Seen One(int8_t type, std::string_view name, std::string_view key) {
    const auto all = Describe(type, name, {{key}});
    return all.size() == 1 ? all.front() : Seen{};
  }

  BrokerFixture broker_;
  std::string message_;
};

// All of it as Apache Kafka 4.2.1 answers.
TEST_F(BrokerConfigTest, ThisBrokersCountBeforeAllBrokersBeforeTheDefault) {
  broker_.CreateTopic("t", 1);
  Seen seen = One(kBroker, "0", "log.retention.ms");
  EXPECT_EQ(seen.value, std::nullopt);
  EXPECT_EQ(seen.source, kFromDefault);
  EXPECT_FALSE(seen.read_only);
  EXPECT_THAT(seen.synonyms, IsEmpty());
  seen = One(kTopic, "t", "retention.ms");
  EXPECT_EQ(seen.value, "604800000");
  EXPECT_EQ(seen.source, kFromDefault);
  EXPECT_THAT(seen.synonyms, ElementsAre(std::tuple("log.retention.hours", "168", kFromDefault)));

  EXPECT_EQ(Alter("", {{"log.retention.ms", kSet, "3600000"}}), ErrorCode::kNone);
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kSet, "7200000"}}), ErrorCode::kNone);
  const std::tuple own("log.retention.ms", "7200000", kFromThisBroker);
  const std::tuple all("log.retention.ms", "3600000", kFromAllBrokers);
  const std::tuple otherwise("log.retention.hours", "168", kFromDefault);
  seen = One(kBroker, "0", "log.retention.ms");
  EXPECT_EQ(seen.value, "7200000");
  EXPECT_EQ(seen.source, kFromThisBroker);
  EXPECT_THAT(seen.synonyms, ElementsAre(own, all, otherwise));
  seen = One(kTopic, "t", "retention.ms");
  EXPECT_EQ(seen.value, "7200000");
  EXPECT_EQ(seen.source, kFromThisBroker);
  EXPECT_THAT(seen.synonyms, ElementsAre(own, all, otherwise));
  const auto cluster = Describe(kBroker, "", std::nullopt);
  ASSERT_EQ(cluster.size(), 1u);
  EXPECT_EQ(cluster[0].value, "3600000");
  EXPECT_THAT(cluster[0].synonyms, ElementsAre(all));

  broker_.CreateTopic("u", 1, {{"retention.ms", "5", {}}});
  seen = One(kTopic, "u", "retention.ms");
  EXPECT_EQ(seen.source, kFromTopic);
  EXPECT_THAT(seen.synonyms,
              ElementsAre(std::tuple("retention.ms", "5", kFromTopic), own, all, otherwise));

  broker_.CrashAndRestart();
  EXPECT_THAT(One(kTopic, "t", "retention.ms").synonyms, ElementsAre(own, all, otherwise));
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kDelete, {}}}), ErrorCode::kNone);
  EXPECT_EQ(One(kTopic, "t", "retention.ms").value, "3600000");
  EXPECT_EQ(Alter("", {{"log.retention.ms", kDelete, {}}}), ErrorCode::kNone);
  EXPECT_EQ(One(kTopic, "t", "retention.ms").value, "604800000");
  EXPECT_THAT(Describe(kBroker, "", std::nullopt), IsEmpty());
}

TEST_F(BrokerConfigTest, WhatTopicsHaveNotOfTheirOwnHoldsForThemAtOnce) {
  broker_.CreateTopic("old", 1);
  broker_.CreateTopic("own", 1, {{"max.message.bytes", "5000", {}}});
  const std::string large = broker_.Batch({std::string(1000, 'x')});
  EXPECT_EQ(Alter("", {{"message.max.bytes", kSet, "500"}}), ErrorCode::kNone);
  broker_.CreateTopic("young", 1);
  const auto check = [&] {
    EXPECT_EQ(broker_.Produce("old", 0, large).error_code, ErrorCode::kMessageTooLarge);
    EXPECT_EQ(broker_.Produce("young", 0, large).error_code, ErrorCode::kMessageTooLarge);
    EXPECT_EQ(broker_.Produce("own", 0, large).error_code, ErrorCode::kNone);
  };
  check();
  broker_.CrashAndRestart();
  check();
  // A topic keeps the defaults when it is given other settings, and when it loses its own.
  kafka::AlterConfigsRequest request;
  for (const std::string_view topic : {"own", "old"}) {
    auto& resource = request.resources.emplace_back();
    resource.resource_type = kTopic;
    resource.resource_name = topic;
  }
  request.resources.back().configs.push_back({"segment.ms", "1000", {}});
  EXPECT_EQ(broker_.Ask(request, 2).Get().responses.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(broker_.Produce("own", 0, large).error_code, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(broker_.Produce("old", 0, large).error_code, ErrorCode::kMessageTooLarge);
  EXPECT_EQ(Alter("", {{"message.max.bytes", kDelete, {}}}), ErrorCode::kNone);
  EXPECT_EQ(broker_.Produce("old", 0, large).error_code, ErrorCode::kNone);
}

TEST_F(BrokerConfigTest, RetentionGoesByTheBrokers) {
  broker_.CreateTopic("t", 1);
  broker_.Produce("t", 0, broker_.Batch({"old"}));
  EXPECT_EQ(Alter("", {{"log.retention.ms", kSet, "60000"}}), ErrorCode::kNone);
  broker_.clock().Advance(minutes(6));
  broker_.Produce("t", 0, broker_.Batch({"young"}));
  EXPECT_THAT(broker_.Values("t", 0, 1), ElementsAre("young"));
  const auto pending = broker_.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
  EXPECT_EQ(pending.Get().responses.at(0).partitions.at(0).error_code,
            ErrorCode::kOffsetOutOfRange);
}

TEST_F(BrokerConfigTest, ProducersAreForgottenAfterTheTimeThatIsSet) {
  broker_.CreateTopic("t", 1);
  const std::string batch = broker_.Batch({"a"}, {.id = 5, .epoch = 0, .base_sequence = 0});
  EXPECT_EQ(broker_.Produce("t", 0, batch).base_offset, 0);
  EXPECT_EQ(broker_.Produce("t", 0, batch).base_offset, 0) << "a retry";
  EXPECT_EQ(Alter("0", {{"producer.id.expiration.ms", kSet, "1000"}}), ErrorCode::kNone);
  broker_.clock().Advance(minutes(11));
  EXPECT_EQ(broker_.Produce("t", 0, batch).base_offset, 1) << "nobody knows that it is one";
}

TEST_F(BrokerConfigTest, ListsGrowAndShrink) {
  EXPECT_EQ(Alter("", {{"log.cleanup.policy", kAppend, "compact"}}), ErrorCode::kNone);
  EXPECT_EQ(One(kBroker, "0", "log.cleanup.policy").value, "delete,compact");
  EXPECT_EQ(Alter("", {{"log.retention.ms", kAppend, "5"}}), ErrorCode::kInvalidConfig);
}

TEST_F(BrokerConfigTest, WhatComesFromTheFileIsReadOnly) {
  EXPECT_TRUE(One(kBroker, "0", "num.partitions").read_only);
  EXPECT_EQ(One(kBroker, "0", "num.partitions").source, kFromFile);
  EXPECT_EQ(
      Alter("0",
            {{"node.id", kSet, "3"}, {"num.partitions", kSet, "3"}, {"log.roll.ms", kSet, "5"}}),
      ErrorCode::kInvalidRequest);
  EXPECT_EQ(message_, "Cannot update these configs dynamically: Set(node.id, num.partitions)");
  EXPECT_EQ(One(kBroker, "0", "log.roll.ms").value, std::nullopt) << "all or nothing";
  EXPECT_EQ(Alter("", {{"num.partitions", kSet, "3"}}, /*validate_only=*/true),
            ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("0", {{"num.partitions", kDelete, {}}}), ErrorCode::kNone);
}

TEST_F(BrokerConfigTest, BadValuesAreRefused) {
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kSet, "x"}}), ErrorCode::kInvalidRequest);
  EXPECT_THAT(message_, HasSubstr("log.retention.ms"));
  EXPECT_EQ(Alter("0", {{"message.max.bytes", kSet, "-1"}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("0", {{"log.roll.ms", kSet, "0"}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("0", {{"compression.gzip.level", kSet, "0"}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("0", {{"producer.id.expiration.ms", kSet, "0"}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kSet, {}}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(Alter("77", {{"log.retention.ms", kSet, "5"}}), ErrorCode::kInvalidRequest);
  EXPECT_EQ(message_, "Unexpected broker id, expected 0, but received 77");
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kSet, "5"}}, /*validate_only=*/true),
            ErrorCode::kNone);
  EXPECT_EQ(One(kBroker, "0", "log.retention.ms").value, std::nullopt);
}

TEST_F(BrokerConfigTest, ASettingWithoutMeaningHereIsKeptForOneBroker) {
  constexpr std::string_view kName = "sasl.kerberos.min.time.before.relogin";
  EXPECT_EQ(Alter("", {{kName, kSet, "58000"}}), ErrorCode::kInvalidRequest);
  EXPECT_THAT(message_, HasSubstr("broker id must be specified: Set(" + std::string(kName) + ")"));
  EXPECT_EQ(Alter("0", {{kName, kSet, "58000"}}), ErrorCode::kNone);
  broker_.CrashAndRestart();
  EXPECT_THAT(One(kBroker, "0", kName).synonyms,
              ElementsAre(std::tuple(std::string(kName), "58000", kFromThisBroker),
                          std::tuple(std::string(kName), "60000", kFromDefault)));
}

TEST_F(BrokerConfigTest, TheOlderCallForgetsWhatWasSetBefore) {
  EXPECT_EQ(Alter("0", {{"log.retention.ms", kSet, "5"}}), ErrorCode::kNone);
  EXPECT_EQ(Alter("", {{"log.retention.ms", kSet, "6"}}), ErrorCode::kNone);
  EXPECT_EQ(Replace("0", {{"message.max.bytes", "2000000"}}), ErrorCode::kNone);
  EXPECT_EQ(One(kBroker, "0", "log.retention.ms").value, "6") << "of the other scope";
  EXPECT_EQ(One(kBroker, "0", "message.max.bytes").value, "2000000");
  EXPECT_EQ(Replace("0", {{"node.id", "1"}}), ErrorCode::kInvalidRequest);
}

TEST_F(BrokerConfigTest, WhatThisVersionDoesNotTakeIsLeftOut) {
  broker_.Amend([](spool::Transaction& transaction) {
    ConfigsRecord record;
    record.configs.push_back({"log.retention.ms", "1000000", {}});
    record.configs.push_back({"of.a.later.version", "1", {}});
    transaction.Put(BrokerConfigKey(BrokerScope::kAll), Encode(record));
  });
  EXPECT_EQ(One(kBroker, "0", "log.retention.ms").value, "1000000");
  EXPECT_EQ(Alter("", {{"log.retention.ms", kSet, "5"}}), ErrorCode::kNone);
}

// A value that is refused now, and was taken and kept.
TEST(KeptConfigTest, ATopicWithAnEmptyItemInItsPolicyStaysCompacted) {
  TopicRecord record;
  record.configs.push_back({"cleanup.policy", "compact,"});
  EXPECT_TRUE(ReadConfig(record).compacted());
  EXPECT_FALSE(TopicConfig().Set("cleanup.policy", "compact,"));

  ConfigsRecord of_broker;
  of_broker.configs.push_back({"log.cleanup.policy", "compact,"});
  BrokerConfig config;
  ReadConfig(BrokerScope::kAll, of_broker, &config);
  ASSERT_TRUE(config.topic_defaults()->contains("cleanup.policy"));
  EXPECT_EQ(config.topic_defaults()->at("cleanup.policy"), "compact");
}

}  // namespace
}  // namespace holdfast::broker
