#include "proxy/settings_inquiry.h"

#include <gtest/gtest.h>

#include <deque>

#include "kafka/api/metadata.h"
#include "tests/support/manual_executor.h"

namespace holdfast::proxy {
namespace {

using kafka::DescribeConfigsRequest;
using kafka::DescribeConfigsResponse;
using kafka::ErrorCode;

// Keeps what it is asked until the test answers.
class QuestionedTier final : public Tier {
 public:
  struct Question {
    std::vector<std::string> topics;
    OnAnswer on_answer;
  };

  bool Ready(int32_t /*node*/) override { return ready; }
  std::optional<int16_t> Version(int32_t /*node*/, const kafka::Api& api,
                                 int16_t /*cap*/) override {
    return serves ? std::optional(api.newest) : std::nullopt;
  }
  void Send(int32_t /*node*/, base::Buffer frame, OnAnswer on_answer) override {
    const std::string_view body = frame.view().substr(kafka::kLengthPrefixBytes);
    const auto request =
        kafka::DecodeRequest<DescribeConfigsRequest>(body, *kafka::ReadRequestHeader(body));
    Question& question = questions.emplace_back();
    for (const auto& resource : request->resources) {
      question.topics.emplace_back(resource.resource_name);
      EXPECT_TRUE(resource.configuration_keys);
    }
    question.on_answer = std::move(on_answer);
  }
  void RefreshMetadata(std::string_view /*topic*/) override {}

  void Answer(ErrorCode error, std::string_view max_message_bytes = "5") {
    Question question = Take();
    DescribeConfigsResponse response;
    for (const std::string& topic : question.topics) {
      auto& told = response.results.emplace_back();
      told.error_code = error;
      told.resource_name = topic;
      if (error == ErrorCode::kNone) {
        told.configs.push_back({.name = "max.message.bytes", .value = max_message_bytes});
      }
    }
    const base::Buffer frame =
        kafka::EncodeResponse(response, DescribeConfigsRequest::kApi.newest, 0);
    question.on_answer(frame.view().substr(kafka::kLengthPrefixBytes));
  }
  Question Take() {
    Question question = std::move(questions.front());
    questions.pop_front();
    return question;
  }

  bool ready = true;
  bool serves = true;
  std::deque<Question> questions;
};

class SettingsInquiryTest : public testing::Test {
 protected:
  SettingsInquiryTest() { Learn("t"); }

  void Learn(const std::string& topic) {
    kafka::MetadataResponse metadata;
    metadata.brokers.push_back({.node_id = 1, .host = "one", .port = 1});
    metadata.topics.push_back({.name = topic, .partitions = {{.leader_id = 1}}});
    cache_.Learn(metadata, 1);
  }
  std::optional<TopicSettings> Known(std::string_view topic = "t") {
    return cache_.cluster()->FindTopic(topic)->settings;
  }

  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
  QuestionedTier tier_;
  MetadataCache cache_{{}};
  SettingsInquiry inquiry_{loop_, tier_, cache_, std::chrono::seconds(60)};
};

TEST_F(SettingsInquiryTest, AsksForWhatIsProducedToAndAgainAtTheInterval) {
  clock_.Advance(std::chrono::seconds(90));
  EXPECT_TRUE(tier_.questions.empty()) << "nobody produces";
  inquiry_.Want("t");
  ASSERT_EQ(tier_.questions.size(), 1);
  EXPECT_EQ(tier_.questions.front().topics, std::vector<std::string>{"t"});
  tier_.Answer(ErrorCode::kNone, "77");
  ASSERT_TRUE(Known());
  EXPECT_TRUE(Known()->from_tier);
  EXPECT_EQ(Known()->max_message_bytes, 77);
  clock_.Advance(std::chrono::seconds(60));
  ASSERT_EQ(tier_.questions.size(), 1);
  tier_.Answer(ErrorCode::kNone, "78");
  EXPECT_EQ(Known()->max_message_bytes, 78);
}

TEST_F(SettingsInquiryTest, ATierThatDoesNotAllowTheQuestionLeavesTheDefaults) {
  inquiry_.Want("t");
  tier_.Answer(ErrorCode::kTopicAuthorizationFailed);
  ASSERT_TRUE(Known());
  EXPECT_FALSE(Known()->from_tier);
  // It may change its mind, and then again: what it told stays.
  clock_.Advance(std::chrono::seconds(60));
  tier_.Answer(ErrorCode::kNone, "77");
  clock_.Advance(std::chrono::seconds(60));
  tier_.Answer(ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(Known()->max_message_bytes, 77);
}

TEST_F(SettingsInquiryTest, ATierWithoutTheApiIsNotAsked) {
  tier_.serves = false;
  inquiry_.Want("t");
  EXPECT_TRUE(tier_.questions.empty());
  ASSERT_TRUE(Known());
  EXPECT_FALSE(Known()->from_tier);
}

TEST_F(SettingsInquiryTest, ALostAnswerIsAskedForAgain) {
  inquiry_.Want("t");
  tier_.Take().on_answer(base::Unexpected(base::Code::kUnavailable, "lost"));
  EXPECT_FALSE(Known());
  tier_.ready = false;
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_TRUE(tier_.questions.empty());
  tier_.ready = true;
  inquiry_.OnTierReady();
  ASSERT_EQ(tier_.questions.size(), 1);
  tier_.Answer(ErrorCode::kNone);
  EXPECT_TRUE(Known());
}

TEST_F(SettingsInquiryTest, ManyTopicsAreAskedForInTurns) {
  tier_.ready = false;
  for (size_t i = 0; i < SettingsInquiry::kTopicsPerQuestion + 1; ++i) {
    Learn("many" + std::to_string(i));
    inquiry_.Want("many" + std::to_string(i));
  }
  tier_.ready = true;
  inquiry_.OnTierReady();
  ASSERT_EQ(tier_.questions.size(), 1);
  EXPECT_EQ(tier_.questions.front().topics.size(), SettingsInquiry::kTopicsPerQuestion);
  tier_.Answer(ErrorCode::kNone);
  ASSERT_EQ(tier_.questions.size(), 1);
  tier_.Answer(ErrorCode::kNone);
  EXPECT_TRUE(Known("many0"));
  EXPECT_TRUE(tier_.questions.empty());
}

}  // namespace
}  // namespace holdfast::proxy
