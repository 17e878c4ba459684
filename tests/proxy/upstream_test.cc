// The tier's client over real sockets, against a tier whose answers the test writes.
#include "proxy/upstream.h"

#include <algorithm>
#include <functional>
#include <future>
#include <thread>

#include "kafka/api/create_topics.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "proxy/backoff.h"
#include "tests/net/loopback.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;

class UpstreamTest : public net::LoopbackTest, public TierObserver {
 protected:
  // Not in the destructor: until the upstream is gone, its loop calls the observer that this is.
  void TearDown() override {
    first_->loop().RunAndWait([this] { upstream_.reset(); });
  }

  // Where a test answers, no request may time out before it does.
  void Start(std::vector<net::HostPort> bootstrap = {},
             base::Duration request_timeout = std::chrono::seconds(60),
             base::Duration metadata_refresh = std::chrono::seconds(60)) {
    if (bootstrap.empty()) bootstrap = {{"127.0.0.1", tier_->local_address().port()}};
    first_->loop().RunAndWait([=, this] {
      upstream_ = std::make_unique<Upstream>(
          Link::Context{first_->loop(), resolver_, metrics_, agent_metrics_, random_},
          Upstream::Options{.bootstrap = bootstrap,
                            .link = {.request_timeout = request_timeout,
                                     .backoff_min = std::chrono::milliseconds(5),
                                     .backoff_max = std::chrono::milliseconds(20)},
                            .metadata_refresh = metadata_refresh},
          cache_);
      upstream_->SetObserver(this);
    });
  }
  void OnNodeReady(int32_t node) override { witness_.Note("ready " + std::to_string(node)); }
  void OnNodeLost(int32_t node) override { witness_.Note("lost " + std::to_string(node)); }
  void OnMetadata() override { witness_.Note("metadata"); }

  template <class Response>
  static void Reply(net::Witness::Request& request, const Response& response) {
    const auto header = kafka::ReadRequestHeader(request.body);
    request.reply.Send(
        kafka::EncodeResponse(response, header->api_version, header->correlation_id));
  }
  static kafka::ApiVersionsResponse Versions() {
    kafka::ApiVersionsResponse versions;
    versions.api_keys.push_back({.api_key = 3, .min_version = 0, .max_version = 12});
    versions.api_keys.push_back({.api_key = 18, .min_version = 0, .max_version = 4});
    versions.api_keys.push_back({.api_key = 19, .min_version = 2, .max_version = 7});
    versions.api_keys.push_back({.api_key = 22, .min_version = 0, .max_version = 4});
    return versions;
  }
  kafka::MetadataResponse Metadata() {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = "tier";
    metadata.brokers.push_back(
        {.node_id = 5, .host = "127.0.0.1", .port = tier_->local_address().port()});
    return metadata;
  }
  // What a link asks by itself.
  bool AnswerIfItSettles(net::Witness::Request& request) {
    const auto header = kafka::ReadRequestHeader(request.body);
    if (header->api_key == kafka::ApiVersionsRequest::kApi.key) {
      Reply(request, Versions());
    } else if (header->api_key == kafka::MetadataRequest::kApi.key) {
      Reply(request, Metadata());
    } else {
      return false;
    }
    return true;
  }
  // The next request of this API; those before it are answered.
  net::Witness::Request Expect(int16_t api_key) {
    for (;;) {
      net::Witness::Request request = witness_.Take();
      const auto header = kafka::ReadRequestHeader(request.body);
      if (!header || header->api_key == api_key || !AnswerIfItSettles(request)) return request;
    }
  }
  // Until a node's own link is ready.
  kafka::MetadataResponse OtherMetadata() {
    kafka::MetadataResponse metadata = Metadata();
    metadata.cluster_id = "other";
    return metadata;
  }
  // What an address of the list is asked, beginning with this.
  void AnswerList(net::Witness::Request& versions, const kafka::MetadataResponse& answer) {
    Reply(versions, Versions());
    auto metadata = Expect(kafka::MetadataRequest::kApi.key);
    Reply(metadata, answer);
  }
  void Settle() {
    auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
    AnswerList(versions, Metadata());
    auto own = Expect(kafka::ApiVersionsRequest::kApi.key);
    Reply(own, Versions());
    witness_.WaitForEvent("ready 5");
  }

  std::unique_ptr<net::FramedServer> tier_ = ServeWitnessed();
  metrics::AgentMetrics agent_metrics_{registry_};
  net::Resolver resolver_;
  base::Random random_{1};
  MetadataCache cache_{{{"declared", 3}}};
  std::unique_ptr<Upstream> upstream_;
};

TEST_F(UpstreamTest, LearnsTheClusterFromABootstrapAddress) {
  Start();
  Settle();
  EXPECT_EQ(cache_.cluster()->brokers.size(), 1);
  EXPECT_FALSE(cache_.cluster()->api_versions.empty());
  EXPECT_FALSE(cache_.tier_away());
  // Only the node's own connection is left.
  LetLoopsTurn();
  EXPECT_EQ(agent_metrics_.upstream_connections.Value(), 1);
}

TEST_F(UpstreamTest, GoesOnToTheNextAddressWhenOneIsRefused) {
  uint16_t closed_port = 0;
  {
    auto closed = ServeEcho();
    closed_port = closed->local_address().port();
  }
  Start({{"127.0.0.1", closed_port}, {"127.0.0.1", tier_->local_address().port()}});
  Settle();
  EXPECT_GE(agent_metrics_.upstream_errors.With("disconnected").Value(), 1);
}

TEST_F(UpstreamTest, ClosedAddressesAreTriedInTurnWithABackoff) {
  std::vector<net::HostPort> closed;
  {
    const auto first = ServeEcho();
    const auto second = ServeEcho();
    closed = {{"127.0.0.1", first->local_address().port()},
              {"127.0.0.1", second->local_address().port()}};
  }
  const auto began = std::chrono::steady_clock::now();
  Start(closed);
  while (agent_metrics_.upstream_connects.Value() < 10) LetLoopsTurn();
  // Rounds of two with 5, 10 and then 20 ms after each attempt, of which a half is sure.
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(60));
  first_->loop().RunAndWait([&] {
    const std::vector<Upstream::Peer> peers = upstream_->Peers();
    ASSERT_EQ(peers.size(), 2U) << "also between two attempts";
    for (const Upstream::Peer& peer : peers) EXPECT_NE(peer.trouble, "");
  });
}

TEST_F(UpstreamTest, AfterAnOutageANodeThatIsBackBeforeTheBootstrapAddressesIsAsked) {
  auto bootstrap = ServeWitnessed();
  uint16_t closed_port = 0;
  {
    auto closed = ServeEcho();
    closed_port = closed->local_address().port();
  }
  Start({{"127.0.0.1", bootstrap->local_address().port()}, {"127.0.0.1", closed_port}},
        std::chrono::seconds(60), std::chrono::seconds(2));
  Settle();
  bootstrap.reset();
  first_->loop().Post([&] {
    upstream_->Call(5, kafka::InitProducerIdRequest(),
                    [](const base::Result<kafka::InitProducerIdResponse>&) {});
  });
  Expect(kafka::InitProducerIdRequest::kApi.key).reply.Close("away");
  witness_.WaitForEvent("lost 5");
  auto own = Expect(kafka::ApiVersionsRequest::kApi.key);
  // Until the refresh that the loss brought has found nobody to ask.
  std::promise<void> later;
  base::Timer timer;
  first_->loop().RunAndWait([&] {
    timer = first_->loop().After(std::chrono::milliseconds(200), [&] { later.set_value(); });
  });
  later.get_future().wait();
  Reply(own, Versions());
  EXPECT_NE(Expect(kafka::MetadataRequest::kApi.key).body, "");
}

TEST_F(UpstreamTest, AsksAgainInAVersionThatAnOlderTierKnows) {
  Start();
  auto request = witness_.Take();
  EXPECT_EQ(kafka::ReadRequestHeader(request.body)->api_version, 4);
  kafka::ApiVersionsResponse refused{.error_code = ErrorCode::kUnsupportedVersion};
  refused.api_keys.push_back({.api_key = 18, .min_version = 0, .max_version = 2});
  request.reply.Send(kafka::EncodeResponse(refused, 0, 0));
  request = witness_.Take();
  EXPECT_EQ(kafka::ReadRequestHeader(request.body)->api_version, 2);
  request.reply.Close("enough");
}

TEST_F(UpstreamTest, CallsAreAnswered) {
  Start();
  Settle();
  std::promise<int64_t> answered;
  first_->loop().Post([&] {
    upstream_->Call(5, kafka::InitProducerIdRequest(),
                    [&](base::Result<kafka::InitProducerIdResponse> response) {
                      answered.set_value(response ? response->producer_id : -1);
                    });
  });
  auto request = Expect(kafka::InitProducerIdRequest::kApi.key);
  Reply(request, kafka::InitProducerIdResponse{.producer_id = 99});
  EXPECT_EQ(answered.get_future().get(), 99);
}

// Answers at once what a link asks by itself, and hands the rest to the test.
class SettlingSession final : public net::Session {
 public:
  SettlingSession(std::function<bool(net::Witness::Request&)> answers, net::Witness& witness)
      : answers_(std::move(answers)), witness_(witness) {}
  void OnFrame(base::Buffer frame, net::Reply reply) override {
    net::Witness::Request request{0, std::string(frame.view()), std::move(reply)};
    if (!answers_(request)) witness_.Add(std::move(request));
  }

 private:
  const std::function<bool(net::Witness::Request&)> answers_;
  net::Witness& witness_;
};

TEST_F(UpstreamTest, OfBrokersThatDifferTheCommonVersionsAreLearned) {
  const auto newer = Serve({}, [this](net::Connection&) {
    return std::make_unique<SettlingSession>(
        [this](net::Witness::Request& request) {
          kafka::ApiVersionsResponse versions = Versions();
          versions.api_keys.back().max_version += 1;
          Reply(request, versions);
          return true;
        },
        witness_);
  });
  Start();
  Settle();
  const std::string of_one = cache_.cluster()->api_versions;
  first_->loop().RunAndWait([&] { upstream_->RefreshMetadata(""); });
  auto asked = Expect(kafka::MetadataRequest::kApi.key);
  kafka::MetadataResponse metadata = Metadata();
  metadata.brokers.push_back(
      {.node_id = 6, .host = "127.0.0.1", .port = newer->local_address().port()});
  Reply(asked, metadata);
  while (!cache_.cluster()->brokers.contains(6)) LetLoopsTurn();
  first_->loop().RunAndWait([&] { static_cast<void>(upstream_->Ready(6)); });
  witness_.WaitForEvent("ready 6");
  EXPECT_EQ(cache_.cluster()->api_versions, of_one);
}

// An upgrade of the tier ends with a change of its features, and no connection ends with it.
TEST_F(UpstreamTest, FeaturesThatChangeAreLearnedWhileALinkStands) {
  Start({}, std::chrono::seconds(60), /*metadata_refresh=*/std::chrono::milliseconds(100));
  Settle();
  const auto features = [this](int16_t level, int64_t epoch) {
    kafka::ApiVersionsResponse versions = Versions();
    versions.finalized_features_epoch = epoch;
    versions.finalized_features.push_back(
        {.name = "transaction.version", .max_version_level = level, .min_version_level = level});
    return versions;
  };
  const auto answer = [&](int16_t level, int64_t epoch) {
    auto asked = Expect(kafka::ApiVersionsRequest::kApi.key);
    Reply(asked, features(level, epoch));
    // The one after it is asked when the answer has been learned.
    asked = Expect(kafka::ApiVersionsRequest::kApi.key);
    Reply(asked, features(level, epoch));
    return cache_.cluster()->api_versions;
  };
  const std::string before = answer(1, 7);
  EXPECT_NE(before.find("transaction.version"), std::string::npos);
  EXPECT_EQ(answer(1, 8), before) << "kept anew for the epoch alone";
  EXPECT_NE(answer(2, 9), before);
}

// The old address may be that of another broker by now.
TEST_F(UpstreamTest, ABrokerIsFollowedToANewAddressAlsoWhereTheOldOneAnswers) {
  Start();
  Settle();
  const auto moved = Serve({}, [this](net::Connection&) {
    return std::make_unique<SettlingSession>(
        [this](net::Witness::Request& request) {
          witness_.Note("asked at the new address");
          return AnswerIfItSettles(request);
        },
        witness_);
  });
  first_->loop().RunAndWait([&] { upstream_->RefreshMetadata(""); });
  auto asked = Expect(kafka::MetadataRequest::kApi.key);
  kafka::MetadataResponse metadata = Metadata();
  metadata.brokers[0].port = moved->local_address().port();
  Reply(asked, metadata);
  witness_.WaitForEvent("lost 5");
  witness_.WaitForEvent("asked at the new address");
}

// As when a broker's address is another cluster's by now.
TEST_F(UpstreamTest, OnlyTheAddressesThatAreSetLeadToAnotherCluster) {
  Start();
  Settle();
  const kafka::MetadataResponse other = OtherMetadata();
  for (const kafka::MetadataResponse& by_list : {Metadata(), other}) {
    first_->loop().RunAndWait([&] { upstream_->RefreshMetadata(""); });
    auto asked = Expect(kafka::MetadataRequest::kApi.key);
    Reply(asked, other);
    witness_.WaitForEvent("lost 5");
    auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
    EXPECT_EQ(cache_.cluster()->id, "tier");
    EXPECT_FALSE(cache_.cluster()->confirmed);
    AnswerList(versions, by_list);
    auto own = Expect(kafka::ApiVersionsRequest::kApi.key);
    EXPECT_EQ(cache_.cluster()->id, by_list.cluster_id);
    EXPECT_TRUE(cache_.cluster()->confirmed);
    Reply(own, Versions());
    witness_.WaitForEvent("ready 5");
  }
}

// The names of the list may lead to another cluster by now, while connections to this one live.
TEST_F(UpstreamTest, WhereClientsMeetAnotherClusterTheListIsAsked) {
  Start();
  Settle();
  const kafka::MetadataResponse other = OtherMetadata();
  ASSERT_FALSE(cache_.LearnPassing(other, 1, /*by_list=*/true));
  upstream_->RequestRefresh("");
  witness_.WaitForEvent("lost 5");
  auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
  AnswerList(versions, other);
  EXPECT_NE(Expect(kafka::ApiVersionsRequest::kApi.key).body, "");
  EXPECT_EQ(cache_.cluster()->id, "other");
}

// One of the list that is another cluster's by now does not take the agent there.
TEST_F(UpstreamTest, ItIsAnotherClusterOnlyIfNoneOfTheListDisagrees) {
  const net::HostPort address{"127.0.0.1", tier_->local_address().port()};
  Start({address, address});
  Settle();
  const kafka::MetadataResponse other = OtherMetadata();
  ASSERT_FALSE(cache_.LearnPassing(other, 1, /*by_list=*/true));
  upstream_->RequestRefresh("");
  witness_.WaitForEvent("lost 5");
  for (const kafka::MetadataResponse& answer : {other, Metadata()}) {
    auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
    EXPECT_FALSE(cache_.cluster()->confirmed);
    // Nor does a client that was answered by it meanwhile.
    EXPECT_TRUE(cache_.LearnPassing(other, 1, /*by_list=*/true));
    AnswerList(versions, answer);
  }
  EXPECT_NE(Expect(kafka::ApiVersionsRequest::kApi.key).body, "");
  EXPECT_EQ(cache_.cluster()->id, "tier");
  EXPECT_TRUE(cache_.cluster()->confirmed);
}

TEST_F(UpstreamTest, SilenceClosesTheConnection) {
  tier_ = Serve({}, [this](net::Connection&) {
    return std::make_unique<SettlingSession>(
        [this](net::Witness::Request& request) { return AnswerIfItSettles(request); }, witness_);
  });
  Start({}, std::chrono::milliseconds(300));
  witness_.WaitForEvent("ready 5");
  std::promise<base::Code> lost;
  first_->loop().Post([&] {
    upstream_->Call(5, kafka::InitProducerIdRequest(),
                    [&](base::Result<kafka::InitProducerIdResponse> response) {
                      lost.set_value(response ? base::Code::kInvalid : response.error().code);
                    });
  });
  auto ignored = witness_.Take();
  EXPECT_EQ(lost.get_future().get(), base::Code::kUnavailable);
  witness_.WaitForEvent("lost 5");
  EXPECT_GE(agent_metrics_.upstream_errors.With("request timeout").Value(), 1U);
  ignored.reply.Close("late");
}

TEST_F(UpstreamTest, ACallOverALinkThatIsLetGoIsAnsweredAllTheSame) {
  Start();
  auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
  Reply(versions, Versions());
  auto metadata = Expect(kafka::MetadataRequest::kApi.key);
  Reply(metadata, Metadata());
  auto own = Expect(kafka::ApiVersionsRequest::kApi.key);
  std::promise<bool> answered;
  first_->loop().Post([&] {
    upstream_->Call(kAnyNode, kafka::InitProducerIdRequest(),
                    [&](const base::Result<kafka::InitProducerIdResponse>& response) {
                      answered.set_value(response.has_value());
                    });
  });
  auto asked = Expect(kafka::InitProducerIdRequest::kApi.key);
  // The node's own link makes that of the bootstrap address superfluous.
  Reply(own, Versions());
  EXPECT_FALSE(answered.get_future().get());
  asked.reply.Close("too late");
}

TEST_F(UpstreamTest, MakesDeclaredTopicsThatTheTierDoesNotHave) {
  Start();
  auto versions = Expect(kafka::ApiVersionsRequest::kApi.key);
  Reply(versions, Versions());
  auto asked = Expect(kafka::MetadataRequest::kApi.key);
  kafka::MetadataResponse metadata = Metadata();
  metadata.topics.push_back(
      {.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "declared"});
  Reply(asked, metadata);
  auto create = Expect(kafka::CreateTopicsRequest::kApi.key);
  const auto header = kafka::ReadRequestHeader(create.body);
  const auto request = kafka::DecodeRequest<kafka::CreateTopicsRequest>(create.body, *header);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->topics.at(0).name, "declared");
  EXPECT_EQ(request->topics.at(0).num_partitions, 3);
  EXPECT_EQ(request->topics.at(0).replication_factor, -1);
  create.reply.Close("enough");
}

// Brokers of a tier with ZooKeeper do not pass it on.
TEST_F(UpstreamTest, TheControllerIsAskedForTopicsAndLessAndLessOftenIfItRefuses) {
  kafka::MetadataResponse metadata = Metadata();
  metadata.topics.push_back(
      {.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "declared"});
  std::vector<std::chrono::steady_clock::time_point> refusals;
  const auto answers = [&](net::Witness::Request& request, ErrorCode error) {
    const auto header = kafka::ReadRequestHeader(request.body);
    if (header->api_key == kafka::MetadataRequest::kApi.key) {
      Reply(request, metadata);
    } else if (header->api_key == kafka::CreateTopicsRequest::kApi.key) {
      if (error == ErrorCode::kNotController) {
        witness_.Note("not the controller");
      } else {
        refusals.push_back(std::chrono::steady_clock::now());
        witness_.Note("refusal " + std::to_string(refusals.size()));
      }
      kafka::CreateTopicsResponse response;
      response.topics.push_back({.name = "declared", .error_code = error});
      Reply(request, response);
    } else {
      return AnswerIfItSettles(request);
    }
    return true;
  };
  const auto serve = [&](ErrorCode error) {
    return Serve({}, [&, error](net::Connection&) {
      return std::make_unique<SettlingSession>(
          [&, error](net::Witness::Request& request) { return answers(request, error); }, witness_);
    });
  };
  const auto controller = serve(ErrorCode::kPolicyViolation);
  tier_ = serve(ErrorCode::kNotController);
  metadata.controller_id = 6;
  metadata.brokers[0].port = tier_->local_address().port();
  metadata.brokers.push_back(
      {.node_id = 6, .host = "127.0.0.1", .port = controller->local_address().port()});
  Start();
  witness_.WaitForEvent("not the controller");
  witness_.WaitForEvent("refusal 3");
  first_->loop().RunAndWait([this] { upstream_.reset(); });
  EXPECT_GE(refusals.at(2) - refusals.at(0), std::chrono::milliseconds(1500));
}

TEST_F(UpstreamTest, AWantedTopicIsMadeOnceAndNotAgainAfterItWasDeleted) {
  Start();
  Settle();
  // The next question about metadata, and whether it lets the tier make the topic.
  const auto next = [this] {
    net::Witness::Request asked = Expect(kafka::MetadataRequest::kApi.key);
    const auto request = kafka::DecodeRequest<kafka::MetadataRequest>(
        asked.body, *kafka::ReadRequestHeader(asked.body));
    return std::pair(std::move(asked), request->allow_auto_topic_creation);
  };
  const auto refresh = [this](std::string_view topic) {
    first_->loop().RunAndWait([&] { upstream_->RefreshMetadata(topic); });
  };
  kafka::MetadataResponse denying = Metadata();
  denying.topics.push_back({.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "wanted"});
  kafka::MetadataResponse having = Metadata();
  having.topics.push_back({.name = "wanted", .partitions = {{.leader_id = 5}}});

  refresh("wanted");
  auto [asked, makes] = next();
  EXPECT_FALSE(makes);
  Reply(asked, denying);
  auto [making, made] = next();
  EXPECT_TRUE(made);
  Reply(making, having);
  auto [seeing, again] = next();
  EXPECT_FALSE(again);
  Reply(seeing, having);

  // Deleted by somebody, and nothing waits for it.
  for (int i = 0; i < 2; ++i) {
    refresh("");
    auto [gone, remade] = next();
    EXPECT_FALSE(remade);
    Reply(gone, denying);
  }
}

TEST_F(UpstreamTest, ATopicThatTheTierDoesNotMakeIsAskedForLessAndLessOften) {
  Start();
  Settle();
  first_->loop().RunAndWait([this] { upstream_->RefreshMetadata("gone"); });
  kafka::MetadataResponse denying = Metadata();
  denying.topics.push_back({.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "gone"});
  std::vector<std::chrono::steady_clock::time_point> tries;
  while (tries.size() < 3) {
    net::Witness::Request request = Expect(kafka::MetadataRequest::kApi.key);
    const auto metadata = kafka::DecodeRequest<kafka::MetadataRequest>(
        request.body, *kafka::ReadRequestHeader(request.body));
    if (metadata->allow_auto_topic_creation) tries.push_back(std::chrono::steady_clock::now());
    Reply(request, denying);
  }
  EXPECT_GE(tries.at(2) - tries.at(0), std::chrono::milliseconds(1250));
}

TEST_F(UpstreamTest, ATopicThatNobodyNamesAnyMoreIsNotAskedFor) {
  Start({}, std::chrono::seconds(60), /*metadata_refresh=*/std::chrono::milliseconds(50));
  Settle();
  first_->loop().RunAndWait([this] { upstream_->RefreshMetadata("gone"); });
  kafka::MetadataResponse denying = Metadata();
  denying.topics.push_back({.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "gone"});
  bool named = false;
  bool left = false;
  for (int i = 0; i < 50 && !left; ++i) {
    net::Witness::Request request = Expect(kafka::MetadataRequest::kApi.key);
    const auto metadata = kafka::DecodeRequest<kafka::MetadataRequest>(
        request.body, *kafka::ReadRequestHeader(request.body));
    const bool names =
        metadata->topics &&
        std::ranges::any_of(*metadata->topics, [](const auto& t) { return t.name == "gone"; });
    left = named && !names;
    named |= names;
    Reply(request, denying);
  }
  EXPECT_TRUE(left);
}

TEST_F(UpstreamTest, ARefreshThatIsDueWhenAnAnswerComesIsNotForgotten) {
  auto tier = net::FramedServer::Listen(
      {.listen = {"127.0.0.1", 0}}, {.acceptor = acceptor_->loop(), .workers = {&second_->loop()}},
      budget_, metrics_, [this](net::Connection& connection) {
        return std::make_unique<net::WitnessedSession>(connection, witness_);
      });
  ASSERT_TRUE(tier);
  tier_ = *std::move(tier);
  Start();
  Settle();
  first_->loop().RunAndWait([&] { upstream_->RefreshMetadata(""); });
  auto asked = Expect(kafka::MetadataRequest::kApi.key);
  // The loop stands still until both the answer is there and the next refresh is due.
  std::promise<void> both;
  first_->loop().Post([&] {
    upstream_->RefreshMetadata("");
    both.get_future().wait();
  });
  Reply(asked, Metadata());
  for (int i = 0; i < 4; ++i) second_->loop().RunAndWait([] {});
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  both.set_value();
  EXPECT_NE(Expect(kafka::MetadataRequest::kApi.key).body, "");
}

TEST_F(UpstreamTest, SaysThatTheTierIsAway) {
  Start();
  Settle();
  tier_.reset();
  witness_.WaitForEvent("lost 5");
  first_->loop().RunAndWait([] {});
  EXPECT_TRUE(cache_.tier_away());
  EXPECT_EQ(agent_metrics_.upstream_connected.Value(), 0);
}

TEST(BackoffTest, DoublesUpToTheMostAndIsSpread) {
  using std::chrono::milliseconds;
  base::Random random(1);
  for (uint32_t attempt = 0; attempt < 100; ++attempt) {
    const base::Duration whole = std::min<base::Duration>(
        milliseconds(1000), milliseconds(10) * (1 << std::min(attempt, 7U)));
    const base::Duration wait = Backoff(milliseconds(10), milliseconds(1000), attempt, random);
    EXPECT_LE(wait, whole);
    EXPECT_GE(wait, whole / 2);
  }
}

}  // namespace
}  // namespace holdfast::proxy
