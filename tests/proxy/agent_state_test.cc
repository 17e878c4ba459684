#include "proxy/agent_state.h"

#include <gtest/gtest.h>

#include "base/endian.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/sync_group.h"
#include "proxy/api_policy.h"
#include "proxy/refusals.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;

constexpr std::string_view kAgents = "holdfast-agent-00000000000000a1";

class AgentStateTest : public ::testing::Test, public net::ReplySink {
 protected:
  void Complete(uint64_t /*connection*/, uint64_t /*request*/, net::Answer given) override {
    answer_ = std::move(given);
  }
  bool SendFrame(std::string_view frame) {
    answer_ = {};
    net::Reply reply(this, 1, 1);
    const bool passes = SparesAgentState(frame, *kafka::ReadRequestHeader(frame), reply);
    if (passes) passed_ = std::move(reply);
    return passes;
  }
  template <class Request>
  bool Send(const Request& request, int16_t version = Request::kApi.newest) {
    if (passed_) passed_.SendNothing();
    const auto frame = kafka::EncodeRequest(request, version, 7, "test");
    EXPECT_TRUE(frame);
    return SendFrame(frame->view().substr(kafka::kLengthPrefixBytes));
  }
  template <class Response>
  Response Answered(int16_t version = Response::kApi.newest) {
    if (answer_.kind == net::Answer::Kind::kBody) {
      frame_ = answer_.first.view();
    } else {
      EXPECT_EQ(answer_.kind, net::Answer::Kind::kSend);
      frame_ = answer_.first.view().substr(kafka::kLengthPrefixBytes);
    }
    auto response = kafka::DecodeResponse<Response>(frame_, version);
    EXPECT_TRUE(response);
    return response ? *std::move(response) : Response();
  }
  // One error for all of it.
  template <class Request>
  ErrorCode Refused(const Request& request, int16_t version = Request::kApi.newest) {
    EXPECT_FALSE(Send(request, version)) << Request::kApi.name;
    return Answered<typename Request::Response>(version).error_code;
  }
  ~AgentStateTest() override {
    if (passed_) passed_.SendNothing();
  }

  net::Answer answer_;
  net::Reply passed_;
  std::string frame_;
};

// Those of share and streams groups and their state close in every version: none is in the codec.
TEST_F(AgentStateTest, TheTableOfApisSaysWhichRequestsAreRead) {
  constexpr int16_t kUnheardOf = 99;
  for (const ApiPolicy& api : ApiPolicies()) {
    const bool unknown = api.name.find("Share") != std::string_view::npos ||
                         api.name.find("Streams") != std::string_view::npos;
    if (!api.Offers(kUnheardOf) || unknown) continue;
    net::Reply reply(this, 1, 1);
    const kafka::RequestHeader header{
        .api_key = api.key, .api_version = kUnheardOf, .correlation_id = 7};
    const bool unread = SparesAgentState(kAgents, header, reply);
    EXPECT_EQ(unread, (api.read_for & kForAgentState) == 0) << api.name;
    if (unread) reply.SendNothing();
  }
}

TEST_F(AgentStateTest, AgentsGroupsAreNotForClients) {
  constexpr ErrorCode kRefused = ErrorCode::kGroupAuthorizationFailed;
  EXPECT_EQ(Refused(kafka::JoinGroupRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::SyncGroupRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::HeartbeatRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::LeaveGroupRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::OffsetDeleteRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::ConsumerGroupHeartbeatRequest{.group_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::FindCoordinatorRequest{.key = kAgents}, 3), kRefused);
  EXPECT_TRUE(Send(kafka::HeartbeatRequest{.group_id = "holdfast"}));
  EXPECT_TRUE(Send(kafka::HeartbeatRequest{.group_id = "g", .member_id = kAgents}));

  EXPECT_FALSE(Send(kafka::FindCoordinatorRequest{.coordinator_keys = {"g", kAgents}}));
  EXPECT_EQ(Answered<kafka::FindCoordinatorResponse>().coordinators.at(1).error_code, kRefused);
  EXPECT_FALSE(Send(kafka::DescribeGroupsRequest{.groups = {kAgents}}));
  EXPECT_EQ(Answered<kafka::DescribeGroupsResponse>().groups.at(0).error_code, kRefused);
  EXPECT_FALSE(Send(kafka::ConsumerGroupDescribeRequest{.group_ids = {kAgents}}));
  EXPECT_EQ(Answered<kafka::ConsumerGroupDescribeResponse>().groups.at(0).group_id, kAgents);
  EXPECT_FALSE(Send(kafka::DeleteGroupsRequest{.groups_names = {kAgents}}));
  EXPECT_EQ(Answered<kafka::DeleteGroupsResponse>().results.at(0).error_code, kRefused);
}

TEST_F(AgentStateTest, NorAreTheirPositions) {
  constexpr ErrorCode kRefused = ErrorCode::kGroupAuthorizationFailed;
  kafka::OffsetCommitRequest commit{.group_id = kAgents};
  commit.topics.push_back({.name = "orders", .partitions = {{.partition_index = 3}}});
  for (const int16_t version : {int16_t{2}, int16_t{9}}) {
    EXPECT_FALSE(Send(commit, version));
    const auto response = Answered<kafka::OffsetCommitResponse>(version);
    const auto& topic = response.topics.at(0);
    EXPECT_EQ(topic.name, "orders");
    EXPECT_EQ(topic.partitions.at(0).partition_index, 3);
    EXPECT_EQ(topic.partitions.at(0).error_code, kRefused);
  }
  commit.topics[0].topic_id.bytes[0] = 1;
  EXPECT_FALSE(Send(commit, 10));
  EXPECT_EQ(Answered<kafka::OffsetCommitResponse>(10).topics.at(0).topic_id.bytes[0], 1);
  commit.group_id = "g";
  commit.topics[0].partitions[0].committed_metadata = kAgents;
  EXPECT_TRUE(Send(commit, 9));

  kafka::TxnOffsetCommitRequest in_transaction{.transactional_id = "t", .group_id = kAgents};
  in_transaction.topics.push_back({.name = "orders", .partitions = {{.partition_index = 3}}});
  EXPECT_FALSE(Send(in_transaction));
  EXPECT_EQ(Answered<kafka::TxnOffsetCommitResponse>().topics.at(0).partitions.at(0).error_code,
            kRefused);

  EXPECT_EQ(Refused(kafka::OffsetFetchRequest{.group_id = kAgents}, 7), kRefused);
  kafka::OffsetFetchRequest one{.group_id = kAgents};
  one.topics = {{.name = "orders", .partition_indexes = {3}}};
  EXPECT_FALSE(Send(one, 1));
  EXPECT_EQ(Answered<kafka::OffsetFetchResponse>(1).topics.at(0).partitions.at(0).error_code,
            kRefused);
  kafka::OffsetFetchRequest many;
  many.groups.push_back({.group_id = "g"});
  EXPECT_TRUE(Send(many));
  many.groups.push_back({.group_id = kAgents});
  EXPECT_FALSE(Send(many));
  EXPECT_EQ(Answered<kafka::OffsetFetchResponse>().groups.at(1).error_code, kRefused);
}

TEST_F(AgentStateTest, NorAreTheirTransactions) {
  constexpr ErrorCode kRefused = ErrorCode::kTransactionalIdAuthorizationFailed;
  EXPECT_EQ(Refused(kafka::InitProducerIdRequest{.transactional_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::EndTxnRequest{.transactional_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::AddOffsetsToTxnRequest{.transactional_id = kAgents}), kRefused);
  EXPECT_EQ(Refused(kafka::AddOffsetsToTxnRequest{.transactional_id = "t", .group_id = kAgents}),
            ErrorCode::kGroupAuthorizationFailed);
  EXPECT_EQ(Refused(kafka::FindCoordinatorRequest{.key = kAgents, .key_type = 1}, 3), kRefused);
  EXPECT_TRUE(Send(kafka::InitProducerIdRequest{}));
  EXPECT_TRUE(Send(kafka::EndTxnRequest{.transactional_id = "orders"}));

  kafka::AddPartitionsToTxnRequest begins{.v3_and_below_transactional_id = kAgents};
  begins.v3_and_below_topics = {{.name = "orders", .partitions = {3}}};
  EXPECT_FALSE(Send(begins, 3));
  EXPECT_EQ(Answered<kafka::AddPartitionsToTxnResponse>(3)
                .results_by_topic_v3_and_below.at(0)
                .results_by_partition.at(0)
                .partition_error_code,
            kRefused);
  kafka::AddPartitionsToTxnRequest of_brokers;
  of_brokers.transactions.push_back({.transactional_id = kAgents});
  EXPECT_FALSE(Send(of_brokers));
  EXPECT_EQ(answer_.kind, net::Answer::Kind::kClose);

  EXPECT_FALSE(Send(kafka::DescribeTransactionsRequest{.transactional_ids = {kAgents}}));
  EXPECT_EQ(Answered<kafka::DescribeTransactionsResponse>().transaction_states.at(0).error_code,
            kRefused);
}

TEST_F(AgentStateTest, ListsPassWithoutThem) {
  EXPECT_TRUE(Send(kafka::ListGroupsRequest{}));
  kafka::ListGroupsResponse groups;
  groups.groups = {{.group_id = "billing"}, {.group_id = kAgents}};
  passed_.Send(kafka::EncodeResponse(groups, kafka::ListGroupsRequest::kApi.newest, 7));
  const auto shown = Answered<kafka::ListGroupsResponse>();
  ASSERT_EQ(shown.groups.size(), 1U);
  EXPECT_EQ(shown.groups[0].group_id, "billing");

  EXPECT_TRUE(Send(kafka::ListTransactionsRequest{}));
  kafka::ListTransactionsResponse transactions;
  transactions.transaction_states = {{.transactional_id = kAgents}, {.transactional_id = "t"}};
  passed_.Send(kafka::EncodeResponse(transactions, kafka::ListTransactionsRequest::kApi.newest, 7));
  EXPECT_EQ(Answered<kafka::ListTransactionsResponse>().transaction_states.size(), 1U);
}

// ShareGroupHeartbeat (76) to DeleteShareGroupOffsets (92), with the group in some place.
TEST_F(AgentStateTest, WhatCannotBeReadDoesNotPassIfItNamesThem) {
  for (const char key : {'\x4c', '\x4f', '\x53', '\x58', '\x5c'}) {
    std::string frame("\0?\0\0\0\0\0\7\xff\xff\0\x20", 12);
    frame[1] = key;
    EXPECT_TRUE(SendFrame(frame + "billing"));
    passed_.SendNothing();
    EXPECT_FALSE(SendFrame(frame + std::string(kAgents)));
    EXPECT_EQ(answer_.kind, net::Answer::Kind::kClose);
  }
  // Heartbeat of a version that is not known.
  EXPECT_FALSE(
      SendFrame(std::string("\0\x0c\0\x09\0\0\0\7\xff\xff\0\x20", 12) + std::string(kAgents)));
  // A topic may be called so.
  kafka::MetadataRequest metadata;
  metadata.topics = {{.name = kAgents}};
  EXPECT_TRUE(Send(metadata));
}

}  // namespace
}  // namespace holdfast::proxy
