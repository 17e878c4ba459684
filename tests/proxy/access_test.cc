#include "proxy/access.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/fetch.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/metadata.h"
#include "kafka/api/txn_offset_commit.h"
#include "proxy/metadata_cache.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;

const AccessRules kRules({
    {.principal = "User:orders", .topics = {"orders-*"}, .produce = true},
    {.principal = "User:billing", .topics = {"orders-eu"}, .groups = {"billing"}, .consume = true},
    {.principal = "User:operator", .topics = {"*"}, .groups = {"*"}, .admin = true},
    {.principal = "User:copier",
     .topics = {"copies"},
     .groups = {"billing"},
     .produce = true,
     .consume = true},
    {.principal = "User:reader", .topics = {"*"}, .consume = true},
    {.principal = "User:*", .topics = {"public"}, .consume = true},
});

// Keeps the one answer that is given.
class Caught final : public net::ReplySink {
 public:
  void Complete(uint64_t /*connection*/, uint64_t /*request*/, net::Answer given) override {
    answer = std::move(given);
    ++answers;
  }
  net::Answer answer;
  int answers = 0;
};

class AccessTest : public ::testing::Test {
 protected:
  ~AccessTest() override {
    if (reply_) reply_.SendNothing();
  }
  // True if it passes.
  template <class Request>
  bool Send(std::string_view principal, const Request& request, int16_t version) {
    const auto frame = kafka::EncodeRequest(request, version, 7, "test");
    return SendFrame(principal, frame->view().substr(kafka::kLengthPrefixBytes));
  }
  bool SendFrame(std::string_view principal, std::string_view frame) {
    if (reply_) reply_.SendNothing();
    caught_ = Caught();
    net::Reply reply(&caught_, 1, 1);
    passed_ = base::Buffer::Copy(frame);
    const auto header = kafka::ReadRequestHeader(frame);
    const bool passes = MayPass(kRules, principal, cluster_, passed_, *header, reply);
    EXPECT_EQ(caught_.answers, passes ? 0 : 1);
    if (passes) reply_ = std::move(reply);
    return passes;
  }
  template <class Response>
  Response Answered(int16_t version) {
    frame_ = std::string(caught_.answer.first.view());
    for (const base::Buffer& piece : caught_.answer.rest) frame_ += piece.view();
    EXPECT_EQ(base::LoadBig<int32_t>(frame_.data()), frame_.size() - kafka::kLengthPrefixBytes);
    frame_.erase(0, kafka::kLengthPrefixBytes);
    auto response = kafka::DecodeResponse<Response>(frame_, version);
    EXPECT_TRUE(response);
    return response ? *std::move(response) : Response();
  }

  // As the tier gets it.
  template <class Request>
  Request Passed() {
    const auto header = kafka::ReadRequestHeader(passed_.view());
    return *kafka::DecodeRequest<Request>(passed_.view(), *header);
  }

  Cluster cluster_;
  Caught caught_;
  net::Reply reply_;  // Of what passes.
  base::Buffer passed_;
  std::string frame_;
};

TEST_F(AccessTest, RulesMatchPrincipalsTopicsAndOperations) {
  EXPECT_TRUE(kRules.AllowsTopic("User:orders", Operation::kProduce, "orders-eu"));
  EXPECT_FALSE(kRules.AllowsTopic("User:orders", Operation::kConsume, "orders-eu"));
  EXPECT_FALSE(kRules.AllowsTopic("User:orders", Operation::kProduce, "order"));
  EXPECT_FALSE(kRules.AllowsTopic("User:billing", Operation::kConsume, "orders-eu-2"));
  EXPECT_TRUE(kRules.AllowsTopic(kAnonymous, Operation::kConsume, "public"));
  EXPECT_FALSE(kRules.AllowsTopic(kAnonymous, Operation::kProduce, "public"));
  EXPECT_TRUE(kRules.ShowsTopic("User:orders", "orders-eu"));
  EXPECT_FALSE(kRules.ShowsTopic("User:orders", "audit"));
  EXPECT_TRUE(kRules.AllowsGroup("User:billing", "billing"));
  EXPECT_FALSE(kRules.AllowsGroup("User:billing", "other"));
  EXPECT_FALSE(kRules.AllowsGroup("User:orders", "billing"));
  EXPECT_TRUE(kRules.AllowsAll("User:operator", Operation::kAdmin));
  EXPECT_FALSE(kRules.AllowsSome("User:billing", Operation::kProduce));
}

TEST_F(AccessTest, WithoutRulesEverythingIsAllowed) {
  const AccessRules none;
  EXPECT_TRUE(none.AllowsTopic(kAnonymous, Operation::kProduce, "any"));
  EXPECT_TRUE(none.AllowsAll(kAnonymous, Operation::kAdmin));
  EXPECT_TRUE(none.AllowsGroup(kAnonymous, "any"));
}

TEST_F(AccessTest, AFetchOfATopicThatIsNotAllowedGetsItsErrorCode) {
  kafka::FetchRequest request;
  request.topics.push_back({.topic = "audit", .partitions = {{.partition = 5}}});
  EXPECT_FALSE(Send("User:billing", request, 11));
  const auto response = Answered<kafka::FetchResponse>(11);
  ASSERT_EQ(response.responses.size(), 1U);
  EXPECT_EQ(response.responses[0].topic, "audit");
  EXPECT_EQ(response.responses[0].partitions[0].partition_index, 5);
  EXPECT_EQ(response.responses[0].partitions[0].error_code, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(response.responses[0].partitions[0].records, "");
}

TEST_F(AccessTest, AFetchGoesOnWithoutTheTopicsThatAreRefused) {
  for (const int16_t version : {int16_t{4}, int16_t{11}, int16_t{12}}) {
    kafka::FetchRequest request;
    request.topics.push_back({.topic = "audit", .partitions = {{.partition = 5}}});
    request.topics.push_back(
        {.topic = "orders-eu", .partitions = {{.partition = 3}, {.partition = 4}}});
    EXPECT_TRUE(Send("User:billing", request, version));
    const auto passed = Passed<kafka::FetchRequest>();
    ASSERT_EQ(passed.topics.size(), 1U);
    EXPECT_EQ(passed.topics[0].topic, "orders-eu");
    EXPECT_EQ(passed.topics[0].partitions.size(), 2U);

    kafka::FetchResponse answer{.throttle_time_ms = 9};
    answer.responses.push_back(
        {.topic = "orders-eu",
         .partitions = {{.partition_index = 3, .high_watermark = 8, .records = "records"}}});
    reply_.Send(kafka::EncodeResponse(answer, version, 7));
    const auto response = Answered<kafka::FetchResponse>(version);
    EXPECT_EQ(response.throttle_time_ms, 9);
    ASSERT_EQ(response.responses.size(), 2U);
    const auto& refused = response.responses[0];
    EXPECT_EQ(refused.topic, "audit");
    EXPECT_EQ(refused.partitions.at(0).partition_index, 5);
    EXPECT_EQ(refused.partitions.at(0).error_code, ErrorCode::kTopicAuthorizationFailed);
    EXPECT_EQ(refused.partitions.at(0).records, "");
    EXPECT_EQ(response.responses[1].topic, "orders-eu");
    EXPECT_EQ(response.responses[1].partitions.at(0).records, "records");
  }
}

TEST_F(AccessTest, AnAnswerThatCannotBeReadEndsTheFetchThatWasMadeAnew) {
  kafka::FetchRequest request;
  request.topics.push_back({.topic = "audit", .partitions = {{.partition = 5}}});
  request.topics.push_back({.topic = "orders-eu", .partitions = {{.partition = 3}}});
  EXPECT_TRUE(Send("User:billing", request, 11));
  reply_.SendBody(base::Buffer::Copy("1234"));
  EXPECT_EQ(caught_.answer.kind, net::Answer::Kind::kClose);
}

// Of a topic that was made anew, perhaps: on the other error clients give up.
TEST_F(AccessTest, AFetchByAnIdThatNobodyKnowsIsToldSo) {
  kafka::FetchRequest request;
  auto& topic = request.topics.emplace_back();
  topic.topic_id.bytes.fill(9);
  topic.partitions.push_back({.partition = 0});
  EXPECT_FALSE(Send("User:billing", request, 13));
  const auto response = Answered<kafka::FetchResponse>(13);
  EXPECT_EQ(response.responses.at(0).partitions.at(0).error_code, ErrorCode::kUnknownTopicId);
}

TEST_F(AccessTest, WhoMayNotReadEverythingGetsNoSessionOfFetches) {
  for (const int16_t version : {int16_t{7}, int16_t{12}}) {
    kafka::FetchRequest request{.max_wait_ms = 500, .session_id = 7, .session_epoch = 0};
    request.topics.push_back({.topic = "orders-eu", .partitions = {{.partition = 3}}});
    EXPECT_TRUE(Send("User:billing", request, version));
    EXPECT_EQ(Passed<kafka::FetchRequest>().session_epoch, -1);
    EXPECT_EQ(Passed<kafka::FetchRequest>().session_id, 7) << "so that it ends";
    EXPECT_EQ(Passed<kafka::FetchRequest>().max_wait_ms, 500);
    EXPECT_EQ(Passed<kafka::FetchRequest>().topics.at(0).topic, "orders-eu");
    // It names nothing, and may have begun when the rules were others.
    request.session_epoch = 4;
    request.topics.clear();
    EXPECT_FALSE(Send("User:billing", request, version));
    EXPECT_EQ(Answered<kafka::FetchResponse>(version).error_code,
              ErrorCode::kFetchSessionIdNotFound);
    EXPECT_TRUE(Send("User:reader", request, version));
    EXPECT_EQ(Passed<kafka::FetchRequest>().session_epoch, 4);
  }
}

TEST_F(AccessTest, AFetchByAnIdThatIsNotKnownIsNotAllowed) {
  kafka::FetchRequest request;
  request.topics.push_back({.topic_id = {.bytes = {1}}, .partitions = {{.partition = 3}}});
  EXPECT_FALSE(Send("User:billing", request, 17));
  const auto response = Answered<kafka::FetchResponse>(17);
  EXPECT_EQ(response.responses[0].topic_id.bytes[0], 1);
}

TEST_F(AccessTest, TheTopicsOfATransactionAreJudgedByTheirNames) {
  kafka::AddPartitionsToTxnRequest request{.v3_and_below_transactional_id = "t"};
  request.v3_and_below_topics = {{.name = "orders-eu", .partitions = {0}}};
  for (const int16_t version : {int16_t{0}, int16_t{3}}) {
    EXPECT_TRUE(Send("User:orders", request, version));
    EXPECT_FALSE(Send("User:billing", request, version));
  }
  request.v3_and_below_topics.push_back({.name = "audit", .partitions = {1, 2}});
  EXPECT_FALSE(Send("User:orders", request, 3));
  const auto response = Answered<kafka::AddPartitionsToTxnResponse>(3);
  const auto& topics = response.results_by_topic_v3_and_below;
  ASSERT_EQ(topics.size(), 2U);
  EXPECT_EQ(topics[0].results_by_partition.at(0).partition_error_code,
            ErrorCode::kOperationNotAttempted);
  EXPECT_EQ(topics[1].name, "audit");
  EXPECT_EQ(topics[1].results_by_partition.at(1).partition_index, 2);
  EXPECT_EQ(topics[1].results_by_partition.at(1).partition_error_code,
            ErrorCode::kTopicAuthorizationFailed);
  // Those of brokers.
  kafka::AddPartitionsToTxnRequest many;
  many.transactions.push_back(
      {.transactional_id = "t", .topics = {{.name = "orders-eu", .partitions = {0}}}});
  EXPECT_FALSE(Send("User:orders", many, 4));
  EXPECT_TRUE(Send("User:operator", many, 4));
}

TEST_F(AccessTest, OffsetsInATransactionAreJudgedByTheirGroup) {
  kafka::AddOffsetsToTxnRequest begins{.transactional_id = "t", .group_id = "billing"};
  kafka::TxnOffsetCommitRequest commits{.transactional_id = "t", .group_id = "billing"};
  EXPECT_TRUE(Send("User:copier", begins, 3));
  EXPECT_TRUE(Send("User:copier", commits, 3));
  EXPECT_FALSE(Send("User:billing", begins, 3)) << "it may not produce";
  EXPECT_FALSE(Send("User:billing", commits, 3));
  begins.group_id = commits.group_id = "other";
  EXPECT_FALSE(Send("User:copier", begins, 3));
  EXPECT_EQ(Answered<kafka::AddOffsetsToTxnResponse>(3).error_code,
            ErrorCode::kGroupAuthorizationFailed);
  EXPECT_FALSE(Send("User:copier", commits, 3));
}

TEST_F(AccessTest, GroupsAreJudgedByTheirNames) {
  EXPECT_TRUE(Send("User:billing", kafka::HeartbeatRequest{.group_id = "billing"}, 4));
  EXPECT_FALSE(Send("User:billing", kafka::HeartbeatRequest{.group_id = "other"}, 4));
  EXPECT_EQ(Answered<kafka::HeartbeatResponse>(4).error_code, ErrorCode::kGroupAuthorizationFailed);
}

// The messages of KIP-848 are not in the codec: key 68, version 0, correlation id 7, no client id,
// no tags, then the group as a compact string.
TEST_F(AccessTest, GroupsOfTheNewProtocolAreJudgedToo) {
  const auto heartbeat = [](std::string_view group) {
    std::string frame("\0\x44\0\0\0\0\0\7\xff\xff\0", 11);
    frame.push_back(static_cast<char>(group.size() + 1));
    return frame.append(group);
  };
  EXPECT_TRUE(SendFrame("User:billing", heartbeat("billing")));
  EXPECT_FALSE(SendFrame("User:billing", heartbeat("other")));
  EXPECT_EQ(caught_.answer.kind, net::Answer::Kind::kClose);
  EXPECT_FALSE(SendFrame("User:billing", heartbeat("").substr(0, 11)));
}

TEST_F(AccessTest, TopicsAreMadeByWhoMayAdministerThem) {
  kafka::CreateTopicsRequest request;
  request.topics.push_back({.name = "orders-eu", .num_partitions = 1, .replication_factor = 1});
  EXPECT_TRUE(Send("User:operator", request, 7));
  EXPECT_FALSE(Send("User:orders", request, 7));
  EXPECT_EQ(Answered<kafka::CreateTopicsResponse>(7).topics[0].error_code,
            ErrorCode::kTopicAuthorizationFailed);
}

// AlterConfigs (33), and one that does not exist yet.
TEST_F(AccessTest, WhatIsNotKnownTakesAllRights) {
  for (const char key : {'\x21', '\x78'}) {
    std::string frame("\0?\0\0\0\0\0\7\xff\xff", 10);
    frame[1] = key;
    EXPECT_FALSE(SendFrame("User:orders", frame));
    EXPECT_EQ(caught_.answer.kind, net::Answer::Kind::kClose);
    EXPECT_TRUE(SendFrame("User:operator", frame));
  }
}

TEST_F(AccessTest, ARequestThatCannotBeReadDoesNotPass) {
  const std::string frame("\0\1\0\x0b\0\0\0\7\xff\xff", 10);
  EXPECT_FALSE(SendFrame("User:billing", frame));
  EXPECT_EQ(caught_.answer.kind, net::Answer::Kind::kClose);
}

TEST_F(AccessTest, TopicsThatMayNotBeSeenAreNotShown) {
  kafka::MetadataResponse response;
  for (const char* const name : {"orders-eu", "audit", "public"})
    response.topics.push_back({.name = name});
  HideTopics(kRules, "User:orders", response);
  ASSERT_EQ(response.topics.size(), 2U);
  EXPECT_EQ(response.topics[0].name, "orders-eu");
  EXPECT_EQ(response.topics[1].name, "public");
}

}  // namespace
}  // namespace holdfast::proxy
