// Addresses in answers that Java's own classes encoded: after rewriting, no host of the tier is
// left, and nothing else has changed.
#include "proxy/rewrite.h"

#include "kafka/api/describe_cluster.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/endpoint_tail.h"
#include "tests/golden/golden.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;

LocalAddresses Local(const std::vector<int32_t>& nodes) {
  auto ports = std::make_shared<std::map<int32_t, uint16_t>>();
  uint16_t port = 0;  // The first is the bootstrap listener's.
  for (const int32_t node : nodes) {
    (*ports)[node] = port;
    port = static_cast<uint16_t>(port == 0 ? 7001 : port + 1);
  }
  return {.host = "local.test", .bootstrap_port = 7000, .ports = ports};
}

// Gives each address to `visit`, for the answers' different shapes.
void VisitAddresses(kafka::MetadataResponse& response, auto visit) {
  for (auto& broker : response.brokers) visit(broker);
}
void VisitAddresses(kafka::DescribeClusterResponse& response, auto visit) {
  for (auto& broker : response.brokers) visit(broker);
}
void VisitAddresses(kafka::FindCoordinatorResponse& response, auto visit) {
  if (!response.host.empty()) visit(response);
  for (auto& coordinator : response.coordinators) visit(coordinator);
}

template <class Response>
void CheckAll(std::string_view message, auto prepare) {
  int addresses = 0;
  for (const kafka::GoldenFrame& golden : kafka::ReadGolden(message)) {
    SCOPED_TRACE(testing::Message() << message << " v" << golden.version << " " << golden.variant);
    auto response = kafka::DecodeResponse<Response>(golden.bytes, golden.version);
    ASSERT_TRUE(response) << response.error().message;
    prepare(*response);
    const auto encode = [&] {
      return kafka::EncodeResponse(*response, golden.version, kafka::kGoldenCorrelationId);
    };
    const base::Buffer before = encode();
    std::vector<std::pair<std::string, int32_t>> original;
    VisitAddresses(*response, [&](auto& at) { original.emplace_back(at.host, at.port); });

    const LocalAddresses local = Local(NodesIn(*response));
    Rewrite(*response, local);
    const base::Buffer rewritten = encode();
    for (const auto& [host, port] : original) {
      if (host.empty()) continue;
      ++addresses;
      EXPECT_EQ(rewritten.view().find(host), std::string_view::npos) << host;
    }
    size_t next = 0;
    VisitAddresses(*response, [&](auto& at) {
      if (!original[next].first.empty()) {
        EXPECT_EQ(at.host, "local.test");
        EXPECT_GE(at.port, 7000);
        EXPECT_LT(at.port, 7100);
      }
      at.host = original[next].first;
      at.port = original[next].second;
      ++next;
    });
    EXPECT_EQ(next, original.size());
    EXPECT_EQ(encode().view(), before.view());
  }
  EXPECT_GT(addresses, 0);
}

TEST(RewriteTest, MetadataCarriesOurAddressesAndNothingElseChanges) {
  CheckAll<kafka::MetadataResponse>("MetadataResponse", [](auto&) {});
}

TEST(RewriteTest, FindCoordinatorCarriesOurAddressesAndNothingElseChanges) {
  CheckAll<kafka::FindCoordinatorResponse>("FindCoordinatorResponse", [](auto& response) {
    response.error_code = ErrorCode::kNone;
    for (auto& coordinator : response.coordinators) coordinator.error_code = ErrorCode::kNone;
  });
}

TEST(RewriteTest, DescribeClusterCarriesOurAddressesAndNothingElseChanges) {
  CheckAll<kafka::DescribeClusterResponse>("DescribeClusterResponse",
                                           [](auto& response) { response.endpoint_type = 1; });
}

TEST(RewriteTest, ControllersAreNotMapped) {
  kafka::DescribeClusterResponse response{.endpoint_type = 2};
  response.brokers.push_back({.broker_id = 9, .host = "controller", .port = 9093});
  EXPECT_TRUE(NodesIn(response).empty());
  Rewrite(response, Local({}));
  EXPECT_EQ(response.brokers.front().host, "controller");
}

TEST(RewriteTest, BrokersWithoutALocalPortAreLeftOut) {
  kafka::MetadataResponse response{.controller_id = 1};
  response.brokers.push_back({.node_id = 1, .host = "one", .port = 1});
  response.brokers.push_back({.node_id = 2, .host = "two", .port = 2});
  kafka::MetadataResponse none = response;
  Rewrite(response, Local({2}));
  ASSERT_EQ(response.brokers.size(), 1);
  EXPECT_EQ(response.brokers.front().node_id, 2);
  EXPECT_EQ(response.brokers.front().port, 7000);
  EXPECT_EQ(response.controller_id, 2);
  none.controller_id = 2;
  Rewrite(none, Local({}));
  ASSERT_EQ(none.brokers.size(), 1);
  EXPECT_EQ(none.brokers.front().node_id, 1);
  EXPECT_EQ(none.controller_id, 1);
}

TEST(RewriteTest, NorIsOneOfThemTheControllerOfACluster) {
  kafka::DescribeClusterResponse response{.controller_id = 1};
  response.brokers.push_back({.broker_id = 1, .host = "one", .port = 1});
  response.brokers.push_back({.broker_id = 2, .host = "two", .port = 2});
  response.brokers.push_back({.broker_id = 3, .host = "three", .port = 3});
  kafka::DescribeClusterResponse with = response;
  Rewrite(response, Local({2, 3}));
  ASSERT_EQ(response.brokers.size(), 2);
  EXPECT_EQ(response.controller_id, 2);
  Rewrite(with, Local({3, 1}));
  EXPECT_EQ(with.controller_id, 1);
}

TEST(RewriteTest, ACoordinatorWithoutALocalPortIsNotAvailable) {
  kafka::FindCoordinatorResponse response{.node_id = 3, .host = "three", .port = 3};
  Rewrite(response, Local({1}));
  EXPECT_EQ(response.error_code, ErrorCode::kCoordinatorNotAvailable);
  EXPECT_EQ(response.host, "");
}

TEST(RewriteTest, EndpointsOfNewLeadersAreOurs) {
  const LocalAddresses local = Local({9, 1});
  kafka::ProduceResponse response;
  response.node_endpoints.push_back({.node_id = 1, .host = "secret", .port = 1});
  response.node_endpoints.push_back({.node_id = 2, .host = "secret", .port = 2});
  EXPECT_EQ(NodesIn(response), (std::vector<int32_t>{1, 2}));
  Rewrite(response, local);
  ASSERT_EQ(response.node_endpoints.size(), 1);
  EXPECT_EQ(response.node_endpoints[0].port, 7001);
  EXPECT_EQ(kafka::EncodeResponse(response, 10, 1).view().find("secret"), std::string_view::npos);

  kafka::EndpointTail tail;
  tail.node_endpoints.push_back({.node_id = 1, .host = "secret", .port = 1, .rack = "r"});
  tail.node_endpoints.push_back({.node_id = 2, .host = "secret", .port = 2});
  EXPECT_EQ(NodesIn(tail), (std::vector<int32_t>{1, 2}));
  Rewrite(tail, local);
  ASSERT_EQ(tail.node_endpoints.size(), 1);
  EXPECT_EQ(tail.node_endpoints[0].host, "local.test");
  EXPECT_EQ(tail.node_endpoints[0].rack, "r");
}

TEST(RewriteTest, ClientsCanProduceWhereBrokersHaveNoPort) {
  kafka::MetadataResponse tier;
  tier.brokers = {{.node_id = 65, .host = "a", .port = 9092},
                  {.node_id = 66, .host = "b", .port = 9092}};
  tier.topics.push_back({.name = "t", .partitions = {{.leader_id = 65}, {.leader_id = 66}}});
  kafka::MetadataResponse one = tier;
  const LocalAddresses of_one = Local({1, 66});
  Rewrite(one, of_one);
  ASSERT_EQ(one.brokers.size(), 1);
  EXPECT_EQ(one.brokers[0].port, 7001);
  EXPECT_EQ(one.topics[0].partitions[0].leader_id, 66);
  const LocalAddresses of_none = Local({1, 2});
  Rewrite(tier, of_none);
  ASSERT_EQ(tier.brokers.size(), 1);
  EXPECT_EQ(tier.brokers[0].node_id, 65);
  EXPECT_EQ(tier.brokers[0].host, "local.test");
  EXPECT_EQ(tier.brokers[0].port, 7000);
  EXPECT_EQ(tier.topics[0].partitions[1].leader_id, 65);
}

}  // namespace
}  // namespace holdfast::proxy
