// What administrators ask a whole broker for, in frames: settings changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kafka/api/alter_configs.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/incremental_alter_configs.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using testing::HasSubstr;

constexpr int8_t kTopic = 2;
constexpr int8_t kBroker = 4;
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
  EXPECT_EQ(Change("any", kSet, "1", kGroup, "g"), ErrorCode::kInvalidConfig);
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

}  // namespace
}  // namespace holdfast::broker
