#include "proxy/access.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/fetch.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/txn_offset_commit.h"
#include "proxy/api_policy.h"
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
    {.principal = "User:owner", .topics = {"*"}, .consume = true, .admin = true},
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
    if (caught_.answer.kind != net::Answer::Kind::kBody) {
      EXPECT_EQ(base::LoadBig<int32_t>(frame_.data()), frame_.size() - kafka::kLengthPrefixBytes);
      frame_.erase(0, kafka::kLengthPrefixBytes);
    }
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

// What is offered where rules are, is what they can judge.
TEST_F(AccessTest, TheTableOfApisSaysWhichRequestsRulesRead) {
  constexpr int16_t kUnheardOf = 99;
  const AccessRules all({{.principal = "User:*",
                          .topics = {"*"},
                          .groups = {"*"},
                          .produce = true,
                          .consume = true,
                          .admin = true}});
  for (const ApiPolicy& api : ApiPolicies()) {
    if (!api.Offers(kUnheardOf)) continue;
    Caught caught;
    net::Reply reply(&caught, 1, 1);
    base::Buffer frame;
    const kafka::RequestHeader header{
        .api_key = api.key, .api_version = kUnheardOf, .correlation_id = 7};
    const bool unread = MayPass(all, kAnonymous, cluster_, frame, header, reply);
    EXPECT_EQ(unread, (api.read_for & kForRules) == 0) << api.name;
    if (unread) reply.SendNothing();
  }
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

TEST_F(AccessTest, NobodyFetchesAsAReplicaWhoIsNotAllowedEverything) {
  for (const int16_t version : {int16_t{4}, int16_t{14}, int16_t{15}}) {
    for (const int32_t replica : {2, -2, -3}) {
      kafka::FetchRequest request;
      if (version < 15) {
        request.replica_id = replica;
      } else {
        request.replica_state.replica_id = replica;
      }
      request.topics.push_back({.topic = "audit", .partitions = {{.partition = 5}}});
      request.topics[0].topic_id.bytes[0] = 1;
      EXPECT_FALSE(Send("User:reader", request, version));
      const auto response = Answered<kafka::FetchResponse>(version);
      ASSERT_EQ(response.responses.size(), 1U);
      EXPECT_EQ(response.responses[0].partitions[0].error_code,
                ErrorCode::kTopicAuthorizationFailed);
      EXPECT_TRUE(Send("User:owner", request, version));
    }
    kafka::FetchRequest consumers;
    consumers.topics.push_back({.topic = "audit", .partitions = {{.partition = 5}}});
    EXPECT_TRUE(Send("User:reader", consumers, version));
  }
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

TEST_F(AccessTest, PositionsAreCommittedOfTopicsThatMayBeRead) {
  for (const int16_t version : {int16_t{2}, int16_t{9}}) {
    kafka::OffsetCommitRequest request{.group_id = "billing"};
    request.topics.push_back({.name = "audit", .partitions = {{.partition_index = 5}}});
    request.topics.push_back({.name = "orders-eu", .partitions = {{.partition_index = 3}}});
    EXPECT_TRUE(Send("User:billing", request, version));
    const auto passed = Passed<kafka::OffsetCommitRequest>();
    ASSERT_EQ(passed.topics.size(), 1U);
    EXPECT_EQ(passed.topics[0].name, "orders-eu");
    kafka::OffsetCommitResponse answer;
    answer.topics.push_back({.name = "orders-eu", .partitions = {{.partition_index = 3}}});
    reply_.Send(kafka::EncodeResponse(answer, version, 7));
    const auto response = Answered<kafka::OffsetCommitResponse>(version);
    ASSERT_EQ(response.topics.size(), 2U);
    EXPECT_EQ(response.topics[0].partitions.at(0).error_code, ErrorCode::kNone);
    EXPECT_EQ(response.topics[1].name, "audit");
    EXPECT_EQ(response.topics[1].partitions.at(0).partition_index, 5);
    EXPECT_EQ(response.topics[1].partitions.at(0).error_code, ErrorCode::kTopicAuthorizationFailed);

    request.topics.pop_back();
    EXPECT_FALSE(Send("User:billing", request, version));
    EXPECT_EQ(Answered<kafka::OffsetCommitResponse>(version).topics.size(), 1U);
    request.group_id = "other";
    EXPECT_FALSE(Send("User:billing", request, version));
    const auto other = Answered<kafka::OffsetCommitResponse>(version);
    EXPECT_EQ(other.topics.at(0).partitions.at(0).error_code, ErrorCode::kGroupAuthorizationFailed);
  }
  kafka::OffsetCommitRequest by_id{.group_id = "billing"};
  by_id.topics.push_back({.topic_id = {.bytes = {1}}, .partitions = {{.partition_index = 5}}});
  EXPECT_FALSE(Send("User:billing", by_id, 10));
  const auto response = Answered<kafka::OffsetCommitResponse>(10);
  EXPECT_EQ(response.topics.at(0).topic_id.bytes[0], 1);
  EXPECT_EQ(response.topics.at(0).partitions.at(0).error_code, ErrorCode::kUnknownTopicId);
}

TEST_F(AccessTest, PositionsAreCommittedInATransactionByTheSameRule) {
  kafka::TxnOffsetCommitRequest request{.transactional_id = "t", .group_id = "billing"};
  request.topics.push_back({.name = "copies", .partitions = {{.partition_index = 3}}});
  EXPECT_TRUE(Send("User:copier", request, 3));
  request.topics[0].name = "audit";
  EXPECT_FALSE(Send("User:copier", request, 3));
  const auto refused = Answered<kafka::TxnOffsetCommitResponse>(3);
  EXPECT_EQ(refused.topics.at(0).partitions.at(0).error_code, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_FALSE(Send("User:billing", request, 3));
  const auto no_producer = Answered<kafka::TxnOffsetCommitResponse>(3);
  EXPECT_EQ(no_producer.topics.at(0).partitions.at(0).error_code,
            ErrorCode::kTransactionalIdAuthorizationFailed);
}

TEST_F(AccessTest, PositionsAreShownOfTopicsThatMayBeSeen) {
  kafka::OffsetFetchRequest request{.group_id = "billing"};
  request.topics = {{.name = "audit", .partition_indexes = {5}},
                    {.name = "orders-eu", .partition_indexes = {3}}};
  kafka::OffsetFetchResponse answer;
  answer.topics.push_back({.name = "orders-eu", .partitions = {{.metadata = ""}}});
  EXPECT_TRUE(Send("User:billing", request, 5));
  EXPECT_EQ(Passed<kafka::OffsetFetchRequest>().topics->size(), 1U);
  reply_.Send(kafka::EncodeResponse(answer, 5, 7));
  const auto one = Answered<kafka::OffsetFetchResponse>(5);
  ASSERT_EQ(one.topics.size(), 2U);
  EXPECT_EQ(one.topics[1].partitions.at(0).error_code, ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(one.topics[1].partitions.at(0).committed_offset, -1);

  request.topics.reset();  // All of them.
  answer.topics.push_back({.name = "audit", .partitions = {{.metadata = ""}}});
  EXPECT_TRUE(Send("User:billing", request, 5));
  reply_.Send(kafka::EncodeResponse(answer, 5, 7));
  const auto all = Answered<kafka::OffsetFetchResponse>(5);
  ASSERT_EQ(all.topics.size(), 1U);
  EXPECT_EQ(all.topics[0].name, "orders-eu");
  request.group_id = "other";
  EXPECT_FALSE(Send("User:billing", request, 5));
  EXPECT_EQ(Answered<kafka::OffsetFetchResponse>(5).error_code,
            ErrorCode::kGroupAuthorizationFailed);
}

TEST_F(AccessTest, SoAreThoseOfManyGroups) {
  kafka::OffsetFetchRequest request;
  request.groups.push_back({.group_id = "billing"});
  request.groups[0].topics = {{.name = "audit", .partition_indexes = {5}}};
  EXPECT_TRUE(Send("User:billing", request, 9));
  EXPECT_TRUE(Passed<kafka::OffsetFetchRequest>().groups.at(0).topics->empty());
  kafka::OffsetFetchResponse answer;
  answer.groups.push_back({.group_id = "billing"});
  reply_.Send(kafka::EncodeResponse(answer, 9, 7));
  const auto named = Answered<kafka::OffsetFetchResponse>(9);
  EXPECT_EQ(named.groups.at(0).topics.at(0).partitions.at(0).error_code,
            ErrorCode::kTopicAuthorizationFailed);

  request.groups[0].topics.reset();
  request.groups.push_back({.group_id = "other"});
  EXPECT_TRUE(Send("User:billing", request, 9));
  EXPECT_EQ(Passed<kafka::OffsetFetchRequest>().groups.size(), 1U);
  answer.groups[0].topics = {{.name = "audit"}, {.name = "orders-eu"}};
  reply_.Send(kafka::EncodeResponse(answer, 9, 7));
  const auto all = Answered<kafka::OffsetFetchResponse>(9);
  ASSERT_EQ(all.groups.size(), 2U);
  ASSERT_EQ(all.groups[0].topics.size(), 1U);
  EXPECT_EQ(all.groups[0].topics[0].name, "orders-eu");
  EXPECT_EQ(all.groups[1].error_code, ErrorCode::kGroupAuthorizationFailed);
  EXPECT_FALSE(Send("User:billing", request, 10)) << "its answer names topics by their ids";
}

TEST_F(AccessTest, GroupsAreJudgedByTheirNames) {
  EXPECT_TRUE(Send("User:billing", kafka::HeartbeatRequest{.group_id = "billing"}, 4));
  EXPECT_FALSE(Send("User:billing", kafka::HeartbeatRequest{.group_id = "other"}, 4));
  EXPECT_EQ(Answered<kafka::HeartbeatResponse>(4).error_code, ErrorCode::kGroupAuthorizationFailed);
}

TEST_F(AccessTest, GroupsOfTheNewProtocolAreJudgedByWhatTheySubscribeTo) {
  kafka::ConsumerGroupHeartbeatRequest request{.group_id = "billing"};
  const auto refused = [&](std::string_view principal) {
    EXPECT_FALSE(Send(principal, request, 1));
    return Answered<kafka::ConsumerGroupHeartbeatResponse>(1).error_code;
  };
  EXPECT_TRUE(Send("User:billing", request, 0)) << "as before";
  request.subscribed_topic_names = {"orders-eu", "public"};
  EXPECT_TRUE(Send("User:billing", request, 1));
  request.subscribed_topic_names->push_back("audit");
  EXPECT_EQ(refused("User:billing"), ErrorCode::kTopicAuthorizationFailed);
  request.subscribed_topic_names.reset();
  request.subscribed_topic_regex = "";
  EXPECT_TRUE(Send("User:billing", request, 1)) << "there is none any more";
  request.subscribed_topic_regex = "public";
  EXPECT_EQ(refused("User:billing"), ErrorCode::kTopicAuthorizationFailed);
  request.group_id = "other";
  EXPECT_EQ(refused("User:billing"), ErrorCode::kGroupAuthorizationFailed);
}

// ShareGroupHeartbeat, which is not in the codec.
TEST_F(AccessTest, AShareGroupTakesAllTopicsAndGroups) {
  const std::string frame(
      "\0\x4c\0\1\0\0\0\7\xff\xff\0\x08"
      "billing",
      19);
  EXPECT_FALSE(SendFrame("User:billing", frame));
  EXPECT_EQ(caught_.answer.kind, net::Answer::Kind::kClose);
  EXPECT_FALSE(SendFrame("User:reader", frame)) << "it has no groups";
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
