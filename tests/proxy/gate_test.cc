// What local clients may do, over real sockets: a blocking client, a sink that takes everything,
// and a tier whose answers the test writes.
#include "proxy/gate.h"

#include <atomic>
#include <future>
#include <set>

#include "kafka/api/api_versions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/produce.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/api/sync_group.h"
#include "kafka/record_batch_builder.h"
#include "proxy/session.h"
#include "tests/net/loopback.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::SaslAuthenticateRequest;
using kafka::SaslAuthenticateResponse;
using kafka::SaslHandshakeRequest;
using kafka::SaslHandshakeResponse;
using net::TestPeer;
using namespace std::string_literals;

constexpr int16_t kProduceVersion = 9;
constexpr int16_t kByIdSince = 13;
constexpr int32_t kWrite = 1 << 4;
constexpr int32_t kRead = 1 << 3;

class TakingSink final : public RecordSink {
 public:
  void Append(std::unique_ptr<SinkRequest> request) override {
    client = request->client;
    taken += static_cast<int>(request->entries.size());
    if (holds) {
      const std::lock_guard lock(mutex_);
      return held_.push_back(std::move(request));
    }
    Complete(std::move(request));
  }
  void NewProducerId(ProducerIdDone done) override { done(int64_t{1}); }
  void CompleteHeld() {
    const std::lock_guard lock(mutex_);
    for (auto& request : std::exchange(held_, {})) Complete(std::move(request));
  }
  std::atomic<int> taken = 0;
  std::atomic<bool> holds = false;
  std::string client;  // Of the last request.

 private:
  static void Complete(std::unique_ptr<SinkRequest> request) {
    SinkRequest& target = *request;
    target.Complete(std::move(request));
  }
  std::mutex mutex_;
  std::vector<std::unique_ptr<SinkRequest>> held_;
};

// Owns "local".
class NotingTransactions final : public LocalTransactions {
 public:
  [[nodiscard]] bool Owns(std::string_view transactional_id) const override {
    return transactional_id == "local";
  }
  void InitProducer(Target target, int32_t /*timeout_ms*/, Producer /*known*/,
                    OnProducer done) override {
    principal = target.principal;
    done(ErrorCode::kNone, {.id = 7, .epoch = 0});
  }
  void AddPartitions(Target /*target*/, Producer /*producer*/, Partitions /*partitions*/,
                     Done done) override {
    done(ErrorCode::kNone);
  }
  void Append(Target target, Protocol /*protocol*/, std::unique_ptr<SinkRequest> request) override {
    principal = target.principal;
    SinkRequest& taken = *request;
    taken.Complete(std::move(request));
  }
  void End(Target /*target*/, Producer producer, bool /*commit*/, Protocol /*protocol*/,
           OnProducer done) override {
    done(ErrorCode::kNone, producer);
  }
  std::string principal = "none yet";
};

class GateTest : public net::LoopbackTest {
 protected:
  void Open(LocalPolicy policy) {
    policies_ = std::make_unique<LocalPolicies>(std::move(policy));
    kafka::MetadataResponse metadata = TierMetadata({{"orders", kWrite}, {"audit", kWrite}});
    cache_.Learn(metadata, 1);
    cache_.SetTierAway(false);
    std::promise<void> mapped;
    ports_.Request({1}, [&] { mapped.set_value(); });
    mapped.get_future().wait();
    front_ = std::make_unique<FrontDoor>(
        FrontDoorOptions{.bootstrap = {{"127.0.0.1", tier_->local_address().port()}},
                         .settings_wait = {},
                         .versions_wait = std::chrono::milliseconds(5),
                         .rights_for = rights_for_,
                         .local_policies = policies_.get()},
        cache_, ports_, sink_, [](const std::string&) {}, [](const std::string&) {}, resolver_,
        metrics_, agent_metrics_);
    agent_ = Serve({}, [this](net::Connection& connection) {
      return std::make_unique<Session>(*front_, connection, kNoNode);
    });
    front_->SetTransactions(&transactions_);
    front_->SetAddresses({agent_->local_address()});
    client_ = std::make_unique<TestPeer>(agent_->local_address());
  }

  // Topics with what is allowed there.
  kafka::MetadataResponse TierMetadata(std::vector<std::pair<std::string_view, int32_t>> topics) {
    kafka::MetadataResponse metadata;
    metadata.cluster_id = "tier";
    metadata.brokers.push_back(
        {.node_id = 1, .host = "127.0.0.1", .port = tier_->local_address().port()});
    for (const auto& [name, allowed] : topics) {
      auto& topic = metadata.topics.emplace_back();
      topic.name = name;
      topic.partitions.push_back({.partition_index = 0, .leader_id = 1});
      topic.topic_authorized_operations = allowed;
      if (allowed == 0) topic.error_code = ErrorCode::kTopicAuthorizationFailed;
    }
    return metadata;
  }
  template <class Request>
  void Send(const Request& request, int16_t version) {
    client_->Write(kafka::EncodeRequest(request, version, next_id_++, "test")->view());
  }
  // Without its last byte, in a frame that is whole.
  template <class Request>
  void SendCut(const Request& request, int16_t version) {
    const auto whole = kafka::EncodeRequest(request, version, next_id_++, "test");
    std::string cut(whole->view().substr(kafka::kLengthPrefixBytes));
    cut.pop_back();
    client_->Write(std::string("\0\0\0", 3) + static_cast<char>(cut.size()) + cut);
  }
  template <class Response>
  Response Read(int16_t version) {
    frame_ = client_->ReadFrame();
    auto response = kafka::DecodeResponse<Response>(frame_, version);
    EXPECT_TRUE(response) << frame_;
    return response ? *std::move(response) : Response();
  }
  // What the tier gets, and answers.
  template <class Request>
  Request TierGets() {
    request_ = witness_.Take();
    header_ = *kafka::ReadRequestHeader(request_.body);
    EXPECT_EQ(header_.api_key, Request::kApi.key);
    return *kafka::DecodeRequest<Request>(request_.body, header_);
  }
  template <class Response>
  void TierAnswers(const Response& response) {
    request_.reply.Send(
        kafka::EncodeResponse(response, header_.api_version, header_.correlation_id));
  }
  void SendRecord(std::string_view topic, std::string_view value = "v", int16_t acks = -1) {
    kafka::RecordBatchBuilder builder({});
    builder.Add({.timestamp = 1'700'000'000'000, .value = value});
    const std::string batch = std::move(builder).Build();
    kafka::ProduceRequest request{.acks = acks};
    request.topic_data.push_back(
        {.name = topic, .partition_data = {{.index = 0, .records = batch}}});
    Send(request, kProduceVersion);
  }
  ErrorCode ReadRecordsError() {
    const auto answer = Read<kafka::ProduceResponse>(kProduceVersion);
    return answer.responses.at(0).partition_responses.at(0).error_code;
  }
  ErrorCode Produce(std::string_view topic) {
    SendRecord(topic);
    return ReadRecordsError();
  }
  // To `orders`; the tier is asked about it first.
  ErrorCode ProduceOnceTold(const kafka::MetadataResponse& metadata, std::string_view value = "v") {
    SendRecord("orders", value);
    TierGets<kafka::MetadataRequest>();
    TierAnswers(metadata);
    return ReadRecordsError();
  }
  SaslAuthenticateResponse Authenticate(std::string_view bytes) {
    Send(SaslAuthenticateRequest{.auth_bytes = bytes}, 2);
    return Read<SaslAuthenticateResponse>(2);
  }
  // As whom the client takes a local transactional id.
  std::string PrincipalOfTransactions() {
    Send(kafka::InitProducerIdRequest{.transactional_id = "local"}, 4);
    EXPECT_EQ(Read<kafka::InitProducerIdResponse>(4).producer_id, 7);
    return transactions_.principal;
  }
  ErrorCode Handshake(std::string_view mechanism) {
    Send(SaslHandshakeRequest{.mechanism = mechanism}, 1);
    return Read<SaslHandshakeResponse>(1).error_code;
  }
  // The tier is asked.
  ErrorCode HandshakeAtTier(std::string_view mechanism) {
    Send(SaslHandshakeRequest{.mechanism = mechanism}, 1);
    EXPECT_EQ(TierGets<SaslHandshakeRequest>().mechanism, mechanism);
    TierAnswers(SaslHandshakeResponse{});
    return Read<SaslHandshakeResponse>(1).error_code;
  }
  // As far as the tier lets the client in.
  void LogInAtTier() {
    Send(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
    EXPECT_EQ(TierGets<SaslHandshakeRequest>().mechanism, "PLAIN");
    TierAnswers(SaslHandshakeResponse{});
    Read<SaslHandshakeResponse>(1);
    Send(SaslAuthenticateRequest{.auth_bytes = "\0a\0b"s}, 2);
    EXPECT_EQ(TierGets<SaslAuthenticateRequest>().auth_bytes, "\0a\0b"s);
    TierAnswers(SaslAuthenticateResponse{});
    Read<SaslAuthenticateResponse>(2);
  }
  std::unique_ptr<net::FramedServer> ServeTier() {
    auto tier = net::FramedServer::Listen(
        {.listen = {"127.0.0.1", 0}},
        {.acceptor = acceptor_->loop(), .workers = {&first_->loop(), &second_->loop()}},
        tier_budget_, metrics_, [this](net::Connection& connection) {
          return std::make_unique<net::WitnessedSession>(connection, witness_);
        });
    EXPECT_TRUE(tier);
    return *std::move(tier);
  }
  static LocalPolicy Terminating() {
    return {.sasl = {.mechanisms = {net::SaslMechanism::kPlain},
                     .users = net::SaslUsers::Make({{"orders", "secret"}, {"other", "secret"}})}};
  }
  static LocalPolicy TierDecides() { return {.tier_decides = true, .tier_wants_sasl = true}; }

  // With memory of its own: a request waits for it while the client's is held.
  net::MemoryBudget tier_budget_{size_t{16} << 20, metrics_};
  std::unique_ptr<net::FramedServer> tier_ = ServeTier();
  metrics::AgentMetrics agent_metrics_{registry_};
  net::Resolver resolver_;
  MetadataCache cache_{{{"orders-declared", 3}}};
  TakingSink sink_;
  NotingTransactions transactions_;
  BrokerPorts ports_{
      first_->loop(),
      {.open = [](int32_t, uint16_t) -> base::Result<uint16_t> { return uint16_t{7001}; },
       .changed = [](const BrokerPorts::Ports&) {}}};
  base::Duration rights_for_ = std::chrono::seconds(60);
  std::unique_ptr<LocalPolicies> policies_;
  std::unique_ptr<FrontDoor> front_;
  std::unique_ptr<net::FramedServer> agent_;
  std::unique_ptr<TestPeer> client_;
  int32_t next_id_ = 1;
  std::string frame_;
  net::Witness::Request request_;
  kafka::RequestHeader header_;
};

TEST_F(GateTest, NothingPassesBeforeTheSaslThatTheAgentAsksFor) {
  Open(Terminating());
  Send(kafka::ApiVersionsRequest{}, 0);
  const auto versions = Read<kafka::ApiVersionsResponse>(0);
  const auto handshake = std::ranges::find(versions.api_keys, SaslHandshakeRequest::kApi.key,
                                           &kafka::ApiVersionsResponse::ApiVersion::api_key);
  ASSERT_NE(handshake, versions.api_keys.end());
  EXPECT_EQ(handshake->min_version, 0) << "librdkafka would not log in";
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(sink_.taken, 0);
}

TEST_F(GateTest, WhoProvesToBeAUserMayGoOn) {
  Open(Terminating());
  EXPECT_EQ(Handshake("GSSAPI"), ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(Authenticate("\0orders\0secret"s).error_code, ErrorCode::kIllegalSaslState);
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kNone);
  EXPECT_EQ(Authenticate("\0orders\0secret"s).error_code, ErrorCode::kNone);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  // And may say so again, but nothing else.
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kNone);
  EXPECT_EQ(Authenticate("\0orders\0secret"s).error_code, ErrorCode::kNone);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kNone);
  EXPECT_EQ(Authenticate("\0other\0secret"s).error_code, ErrorCode::kSaslAuthenticationFailed);
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(GateTest, TheAccountIsThatOfTheUser) {
  LocalPolicy policy = Terminating();
  Open(policy);
  Handshake("PLAIN");
  Authenticate("\0orders\0secret"s);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(sink_.client, "orders");
}

TEST_F(GateTest, SoIsThatOfAUserWhomTheTierHasLetIn) {
  Open(TierDecides());
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
  EXPECT_EQ(sink_.client, "a");
}

TEST_F(GateTest, AClientThatHasNotSaidWhoItIsHasItsClientIdForAnAccount) {
  Open({});
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(sink_.client, "test");
}

TEST_F(GateTest, BeforeALoginThatTheAgentAsksForNoLargeRequestIsRead) {
  const std::string large(auth::kLoginBytesMax, 'x');
  Open(Terminating());
  Send(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
  Read<SaslHandshakeResponse>(1);
  client_->Write(net::Framed(large + "x").substr(0, 20000));
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(budget_.used(), 0U);

  client_ = std::make_unique<TestPeer>(agent_->local_address());
  Handshake("PLAIN");
  EXPECT_EQ(Authenticate("\0orders\0secret"s).error_code, ErrorCode::kNone);
  SendRecord("orders", large);
  EXPECT_EQ(ReadRecordsError(), ErrorCode::kNone);
}

TEST_F(GateTest, BeforeALoginAtTheTierNoLargeRequestIsRead) {
  const std::string large(auth::kLoginBytesMax, 'x');
  Open(TierDecides());
  client_->Write(net::Framed(large + "x").substr(0, 20000));
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(budget_.used(), 0U);

  client_ = std::make_unique<TestPeer>(agent_->local_address());
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}}), large), ErrorCode::kNone);
}

// A session whose client is on another host.
class FarConnection final : public net::Connection {
 public:
  explicit FarConnection(net::Connection& near) : near_(near) {}
  net::EventLoop& loop() override { return near_.loop(); }
  uint64_t id() const override { return near_.id(); }
  const net::SocketAddress& peer() const override { return peer_; }
  const net::SocketAddress& local() const override { return near_.local(); }
  size_t requests_in_flight() const override { return near_.requests_in_flight(); }
  size_t bytes_queued() const override { return near_.bytes_queued(); }
  void Close(std::string_view reason) override { near_.Close(reason); }
  void Pause() override { near_.Pause(); }
  void Resume() override { near_.Resume(); }
  void Throttle(base::Duration time) override { near_.Throttle(time); }
  void AwaitLogin(std::optional<size_t> bytes) override { near_.AwaitLogin(bytes); }

 private:
  net::Connection& near_;
  const net::SocketAddress peer_ = *net::SocketAddress::FromIp("192.0.2.1", 4711);
};

class FarSession final : public net::Session {
 public:
  FarSession(FrontDoor& front, net::Connection& connection)
      : far_(connection), session_(front, far_, kNoNode) {}
  void OnFrame(base::Buffer frame, net::Reply reply) override {
    session_.OnFrame(std::move(frame), std::move(reply));
  }
  void OnClosed() override { session_.OnClosed(); }

 private:
  FarConnection far_;
  proxy::Session session_;
};

TEST_F(GateTest, InTheClearNoSecretPassesFromAnotherHost) {
  LocalPolicy policy = TierDecides();
  policy.secrets_stay_here = true;
  Open(policy);
  // From this one it does.
  EXPECT_EQ(HandshakeAtTier("PLAIN"), ErrorCode::kNone);

  const auto far = Serve({}, [this](net::Connection& connection) {
    return std::make_unique<FarSession>(*front_, connection);
  });
  client_ = std::make_unique<TestPeer>(far->local_address());
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(Handshake("OAUTHBEARER"), ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(HandshakeAtTier("SCRAM-SHA-256"), ErrorCode::kNone);

  policy.secrets_stay_here = false;
  policies_->Replace(policy);
  EXPECT_EQ(HandshakeAtTier("PLAIN"), ErrorCode::kNone);
  client_.reset();
}

// The tier might read more into it, a mechanism that shows a secret among it.
TEST_F(GateTest, AHandshakeThatCannotBeReadDoesNotPass) {
  Open(TierDecides());
  SendCut(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(witness_.received(), 0U);
}

TEST_F(GateTest, NorDoesALoginThatCannotBeRead) {
  Open(TierDecides());
  EXPECT_EQ(HandshakeAtTier("PLAIN"), ErrorCode::kNone);
  SendCut(SaslAuthenticateRequest{.auth_bytes = "\0a\0b"s}, 1);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(witness_.received(), 1U);
}

// The tier does not see the handshake that is refused here: it goes on with the exchange before.
TEST_F(GateTest, AHandshakeRefusedHereMakesNoLoginOfHalfAnExchange) {
  LocalPolicy policy = TierDecides();
  policy.secrets_stay_here = true;
  Open(policy);
  const auto far = Serve({}, [this](net::Connection& connection) {
    return std::make_unique<FarSession>(*front_, connection);
  });
  client_ = std::make_unique<TestPeer>(far->local_address());
  EXPECT_EQ(HandshakeAtTier("SCRAM-SHA-256"), ErrorCode::kNone);
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kUnsupportedSaslMechanism);
  Send(SaslAuthenticateRequest{.auth_bytes = "n,,n=a,r=x"}, 2);
  TierGets<SaslAuthenticateRequest>();
  TierAnswers(SaslAuthenticateResponse{.auth_bytes = "r=xy,s=AAAA,i=4096"});
  EXPECT_EQ(Read<SaslAuthenticateResponse>(2).error_code, ErrorCode::kNone);
  Send(kafka::InitProducerIdRequest{.transactional_id = "local"}, 4);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(transactions_.principal, "none yet");
  client_.reset();
}

TEST_F(GateTest, AWrongPasswordIsRefusedAfterAWhileAndCounted) {
  Open(Terminating());
  Handshake("PLAIN");
  const auto before = std::chrono::steady_clock::now();
  Send(SaslAuthenticateRequest{.auth_bytes = "\0orders\0wrong"s}, 2);
  // Nobody guesses on meanwhile.
  Send(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
  Send(SaslAuthenticateRequest{.auth_bytes = "\0orders\0wrong"s}, 2);
  EXPECT_EQ(Read<SaslAuthenticateResponse>(2).error_code, ErrorCode::kSaslAuthenticationFailed);
  EXPECT_GE(std::chrono::steady_clock::now() - before, auth::kFailedLoginDelay);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(agent_metrics_.local_login_failures.Value(), 1U);
}

TEST_F(GateTest, RulesBoundWhatAUserProducesAndSees) {
  LocalPolicy policy = Terminating();
  policy.rules = AccessRules(
      {{.principal = "User:orders", .topics = {"orders"}, .produce = true, .consume = true}});
  Open(std::move(policy));
  Handshake("PLAIN");
  Authenticate("\0orders\0secret"s);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(Produce("audit"), ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(sink_.taken, 1);

  // The tier is not asked for what the client may not see.
  kafka::MetadataRequest request;
  request.topics = {{.name = "orders"}, {.name = "audit"}};
  Send(request, 9);
  EXPECT_EQ(TierGets<kafka::MetadataRequest>().topics->size(), 1U);
  TierAnswers(TierMetadata({{"orders", kRead}}));
  const auto named = Read<kafka::MetadataResponse>(9);
  ASSERT_EQ(named.topics.size(), 2U);
  EXPECT_EQ(named.topics[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(named.topics[1].name, "audit");
  EXPECT_EQ(named.topics[1].error_code, ErrorCode::kTopicAuthorizationFailed);
  request.topics.reset();
  Send(request, 9);
  TierGets<kafka::MetadataRequest>();
  TierAnswers(TierMetadata({{"orders", kRead}, {"audit", kRead}}));
  EXPECT_EQ(Read<kafka::MetadataResponse>(9).topics.size(), 1U);
}

// Of a tier that is newer than the codec: a client takes what it is offered for the life of its
// connection, and what cannot be judged would cost it that.
TEST_F(GateTest, WhereRequestsAreReadNoVersionIsOfferedThatCannotBe) {
  constexpr int16_t kNewer = 99;
  Open({});
  kafka::ApiVersionsResponse tier;
  const auto newest = [&](const kafka::Api& api) {
    Send(kafka::ApiVersionsRequest{}, 0);
    const auto offered = Read<kafka::ApiVersionsResponse>(0).api_keys;
    const auto found =
        std::ranges::find(offered, api.key, &kafka::ApiVersionsResponse::ApiVersion::api_key);
    return found == offered.end() ? int16_t{-1} : found->max_version;
  };
  constexpr kafka::Api kOffsetCommit = kafka::OffsetCommitRequest::kApi;
  constexpr kafka::Api kListOffsets = kafka::ListOffsetsRequest::kApi;
  constexpr kafka::Api kListGroups = kafka::ListGroupsRequest::kApi;
  constexpr kafka::Api kEndTxn = kafka::EndTxnRequest::kApi;
  constexpr kafka::Api kHandshake = SaslHandshakeRequest::kApi;
  for (const kafka::Api& api : {kOffsetCommit, kListOffsets, kListGroups, kEndTxn, kHandshake})
    tier.api_keys.push_back({.api_key = api.key, .min_version = 0, .max_version = kNewer});
  // None that could be read is left.
  constexpr kafka::Api kSyncGroup = kafka::SyncGroupRequest::kApi;
  tier.api_keys.push_back(
      {.api_key = kSyncGroup.key, .min_version = kNewer, .max_version = kNewer});
  cache_.Learn(tier);

  EXPECT_EQ(newest(kOffsetCommit), kNewer);
  EXPECT_EQ(newest(kListOffsets), kNewer);
  EXPECT_EQ(newest(kListGroups), kNewer);
  EXPECT_EQ(newest(kSyncGroup), kNewer);
  EXPECT_EQ(newest(kEndTxn), kEndTxn.newest);  // There are local transactions.
  EXPECT_EQ(newest(kHandshake), kHandshake.newest);
  const std::vector<AccessRule> rules = {{.principal = "User:*", .topics = {"*"}}};
  policies_->Replace({.rules = AccessRules(rules)});
  EXPECT_EQ(newest(kOffsetCommit), kOffsetCommit.newest);
  EXPECT_EQ(newest(kListOffsets), kListOffsets.newest);
  EXPECT_EQ(newest(kListGroups), kNewer);
  EXPECT_EQ(newest(kSyncGroup), -1);
  policies_->Replace({.lends_agent_rights = true});
  EXPECT_EQ(newest(kOffsetCommit), kOffsetCommit.newest);
  EXPECT_EQ(newest(kListOffsets), kNewer);
  EXPECT_EQ(newest(kListGroups), kListGroups.newest);
}

TEST_F(GateTest, ALongAnswerPassesWithWhatIsToldOfTheTopicsThatWereLeftOut) {
  Open({.rules = AccessRules({{.principal = "User:*", .topics = {"orders"}, .consume = true}})});
  kafka::MetadataResponse metadata = TierMetadata({{"orders", kRead}, {"audit", kRead}});
  metadata.topics[0].topic_id.bytes[0] = 1;
  metadata.topics[1].topic_id.bytes[0] = 2;
  cache_.Learn(metadata, 1);
  const std::string records(3'000'000, 'r');
  for (const int16_t version : {int16_t{11}, int16_t{16}}) {
    const bool by_id = version >= 13;
    kafka::FetchRequest request;
    for (const size_t at : {0U, 1U}) {
      auto& topic = request.topics.emplace_back();
      if (by_id) topic.topic_id = metadata.topics[at].topic_id;
      if (!by_id) topic.topic = *metadata.topics[at].name;
      topic.partitions.push_back({.partition = 0});
    }
    Send(request, version);
    const auto asked = TierGets<kafka::FetchRequest>();
    ASSERT_EQ(asked.topics.size(), 1U);
    kafka::FetchResponse answer;
    answer.responses.push_back({.topic = asked.topics[0].topic,
                                .topic_id = asked.topics[0].topic_id,
                                .partitions = {{.high_watermark = 8, .records = records}}});
    TierAnswers(answer);
    const auto told = Read<kafka::FetchResponse>(version);
    ASSERT_EQ(told.responses.size(), 2U);
    EXPECT_EQ(told.responses[0].topic_id, request.topics[1].topic_id);
    EXPECT_EQ(told.responses[0].partitions.at(0).error_code, ErrorCode::kTopicAuthorizationFailed);
    EXPECT_TRUE(told.responses[1].partitions.at(0).records == records);
  }
}

TEST_F(GateTest, TheClientsIdStaysWhereARequestIsMadeAnew) {
  Open({.rules = AccessRules(
            {{.principal = "User:*", .topics = {"orders", "orders-*"}, .produce = true}})});
  kafka::MetadataRequest request{.allow_auto_topic_creation = true};
  // One is hidden, and one is not made by the tier's defaults.
  request.topics = {{.name = "audit"}, {.name = "orders-declared"}};
  const std::string client_id(100, 'i');
  client_->Write(kafka::EncodeRequest(request, 9, next_id_++, client_id)->view());
  EXPECT_EQ(TierGets<kafka::MetadataRequest>().topics->size(), 1U);
  EXPECT_EQ(header_.client_id, client_id);
}

TEST_F(GateTest, RulesThatChangeCountOnConnectionsThatStand) {
  Open(Terminating());
  Handshake("PLAIN");
  Authenticate("\0orders\0secret"s);
  EXPECT_EQ(Produce("audit"), ErrorCode::kNone);
  LocalPolicy policy = Terminating();
  policy.rules = AccessRules({{.principal = "User:orders", .topics = {"orders"}, .produce = true}});
  policies_->Replace(std::move(policy));
  EXPECT_EQ(Produce("audit"), ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
}

TEST_F(GateTest, WhoDidNotSayWhoHeIsIsAskedOnceThatIsAsked) {
  Open({});
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  policies_->Replace(Terminating());
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(GateTest, WhoOnlyReadsMakesNoTopicsByAskingForThem) {
  LocalPolicy policy = {.rules = AccessRules({
                            {.principal = "User:*", .topics = {"read-*"}, .consume = true},
                            {.principal = "User:*", .topics = {"write-*"}, .produce = true},
                        })};
  Open(std::move(policy));
  kafka::MetadataRequest request{.allow_auto_topic_creation = true};
  request.topics = {{.name = "write-1"}};
  Send(request, 9);
  EXPECT_TRUE(TierGets<kafka::MetadataRequest>().allow_auto_topic_creation);
  TierAnswers(TierMetadata({}));
  Read<kafka::MetadataResponse>(9);
  request.topics->push_back({.name = "read-1"});
  Send(request, 9);
  EXPECT_FALSE(TierGets<kafka::MetadataRequest>().allow_auto_topic_creation);
  TierAnswers(TierMetadata({}));
  Read<kafka::MetadataResponse>(9);
}

TEST_F(GateTest, WhereTheAgentSpeaksForClientsTheirSaslDoesNotPass) {
  Open({.passes_as_agent = true});
  EXPECT_EQ(Handshake("PLAIN"), ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(witness_.received(), 0U);
}

// A list of more than a piece: it is taken whole all the same.
TEST_F(GateTest, WhereTheAgentSpeaksForClientsItsOwnStateIsNotTheirs) {
  constexpr std::string_view kAgents = "holdfast-agent-00000000000000a1";
  Open({.rules = AccessRules({{.principal = "User:*",
                               .topics = {"*"},
                               .groups = {"*"},
                               .produce = true,
                               .consume = true,
                               .admin = true}}),
        .lends_agent_rights = true});
  Send(kafka::ListGroupsRequest{}, 4);
  TierGets<kafka::ListGroupsRequest>();
  kafka::ListGroupsResponse groups;
  groups.groups.assign(20'000, {.group_id = "a-group-of-some-client"});
  groups.groups.push_back({.group_id = kAgents});
  TierAnswers(groups);
  EXPECT_EQ(Read<kafka::ListGroupsResponse>(4).groups.size(), 20'000U);
  Send(kafka::HeartbeatRequest{.group_id = kAgents}, 4);
  EXPECT_EQ(Read<kafka::HeartbeatResponse>(4).error_code, ErrorCode::kGroupAuthorizationFailed);
  kafka::ProduceRequest request{.transactional_id = kAgents, .acks = -1};
  request.topic_data.push_back({.name = "orders", .partition_data = {{.index = 0}}});
  Send(request, kProduceVersion);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(witness_.received(), 1U);
}

TEST_F(GateTest, AClientThatTheTierDoesNotKnowProducesNothing) {
  Open(TierDecides());
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(sink_.taken, 0);
  EXPECT_EQ(witness_.received(), 0U);
}

TEST_F(GateTest, ALoginThatTheTierRefusesIsNone) {
  Open(TierDecides());
  Send(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
  TierGets<SaslHandshakeRequest>();
  TierAnswers(SaslHandshakeResponse{});
  Read<SaslHandshakeResponse>(1);
  Send(SaslAuthenticateRequest{.auth_bytes = "x"}, 2);
  TierGets<SaslAuthenticateRequest>();
  TierAnswers(SaslAuthenticateResponse{.error_code = ErrorCode::kSaslAuthenticationFailed});
  Read<SaslAuthenticateResponse>(2);
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(sink_.taken, 0);
}

TEST_F(GateTest, TheFirstMessageOfScramIsNoLoginYet) {
  Open(TierDecides());
  Send(SaslHandshakeRequest{.mechanism = "SCRAM-SHA-256"}, 1);
  TierGets<SaslHandshakeRequest>();
  TierAnswers(SaslHandshakeResponse{});
  Read<SaslHandshakeResponse>(1);
  Send(SaslAuthenticateRequest{.auth_bytes = "n,,n=a,r=x"}, 2);
  TierGets<SaslAuthenticateRequest>();
  TierAnswers(SaslAuthenticateResponse{.auth_bytes = "r=xy,s=AAAA,i=4096"});
  Read<SaslAuthenticateResponse>(2);
  SendRecord("orders");
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(GateTest, NorIsItWithTheHandshakeOfAShorterMechanismBehindIt) {
  Open(TierDecides());
  Send(SaslHandshakeRequest{.mechanism = "SCRAM-SHA-256"}, 1);
  Send(SaslAuthenticateRequest{.auth_bytes = "n,,n=a,r=x"}, 2);
  Send(SaslHandshakeRequest{.mechanism = "PLAIN"}, 1);
  TierGets<SaslHandshakeRequest>();
  TierAnswers(SaslHandshakeResponse{});
  TierGets<SaslAuthenticateRequest>();
  // So that the last one is on its way before the answer.
  witness_.WaitForRequests(3);
  TierAnswers(SaslAuthenticateResponse{.auth_bytes = "r=xy,s=AAAA,i=4096"});
  Read<SaslHandshakeResponse>(1);
  Read<SaslAuthenticateResponse>(2);
  SendRecord("orders");
  TierGets<SaslHandshakeRequest>();
  TierAnswers(SaslHandshakeResponse{});
  Read<SaslHandshakeResponse>(1);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(sink_.taken, 0);
}

TEST_F(GateTest, TheTierIsAskedOnceWhatAClientMayProduce) {
  Open(TierDecides());
  LogInAtTier();
  SendRecord("orders");
  SendRecord("audit");
  SendRecord("orders");
  const auto first = TierGets<kafka::MetadataRequest>();
  EXPECT_TRUE(first.include_topic_authorized_operations);
  EXPECT_FALSE(first.allow_auto_topic_creation);
  EXPECT_EQ((*first.topics)[0].name, "orders");
  TierAnswers(TierMetadata({{"orders", kWrite}}));
  EXPECT_EQ((*TierGets<kafka::MetadataRequest>().topics)[0].name, "audit");
  TierAnswers(TierMetadata({{"audit", kRead}}));
  EXPECT_EQ(ReadRecordsError(), ErrorCode::kNone);
  EXPECT_EQ(ReadRecordsError(), ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(ReadRecordsError(), ErrorCode::kNone);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(sink_.taken, 3);
  EXPECT_EQ(witness_.received(), 4U);
}

TEST_F(GateTest, RecordsAreTakenOnceTheTierHasToldThoughTheClientIsGone) {
  Open(TierDecides());
  for (const int32_t allowed : {kRead, kWrite}) {
    client_ = std::make_unique<TestPeer>(agent_->local_address());
    LogInAtTier();
    SendRecord("orders", "v", /*acks=*/0);
    TierGets<kafka::MetadataRequest>();
    client_->Close();
    LetLoopsTurn();
    EXPECT_EQ(sink_.taken, 0);
    TierAnswers(TierMetadata({{"orders", allowed}}));
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (agent_->connections() > 0 && std::chrono::steady_clock::now() < limit) LetLoopsTurn();
    EXPECT_EQ(agent_->connections(), 0);
  }
  EXPECT_EQ(sink_.taken, 1);
}

TEST_F(GateTest, ATierThatLetsInTheClientIsAskedThoughItDoesNotLetInTheAgent) {
  Open(TierDecides());
  cache_.SetTierAway(true);
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
}

TEST_F(GateTest, VeryManyTopicsInOneRequestAreAskedAboutAtOnce) {
  Open(TierDecides());
  LogInAtTier();
  constexpr int kTopics = 200'000;
  std::vector<std::string> names;
  for (int i = 0; i < kTopics; ++i) names.push_back(std::to_string(i));
  names.push_back(names.front());
  kafka::ProduceRequest request{.acks = -1};
  for (const std::string& name : names)
    request.topic_data.push_back({.name = name, .partition_data = {{.records = ""}}});
  Send(request, kProduceVersion);
  EXPECT_EQ(TierGets<kafka::MetadataRequest>().topics->size(), kTopics);
  TierAnswers(TierMetadata({}));
  const auto answer = Read<kafka::ProduceResponse>(kProduceVersion);
  ASSERT_EQ(answer.responses.size(), names.size());
  EXPECT_EQ(answer.responses.back().partition_responses.at(0).error_code,
            ErrorCode::kLeaderNotAvailable);
}

TEST_F(GateTest, RulesBoundTransactionsThatTheTierJudgesToo) {
  LocalPolicy policy = TierDecides();
  policy.rules = AccessRules({{.principal = "User:*", .topics = {"orders"}, .produce = true}});
  Open(std::move(policy));
  LogInAtTier();
  kafka::ProduceRequest request{.transactional_id = "t", .acks = -1};
  request.topic_data.push_back({.name = "orders", .partition_data = {{.index = 0}}});
  Send(request, kProduceVersion);
  EXPECT_EQ(TierGets<kafka::ProduceRequest>().topic_data.at(0).name, "orders");
  TierAnswers(kafka::ProduceResponse{});
  Read<kafka::ProduceResponse>(kProduceVersion);
  request.topic_data.push_back({.name = "audit", .partition_data = {{.index = 0}}});
  Send(request, kProduceVersion);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(witness_.received(), 3U);
}

// By records that are written there, others would count as delivered that are not.
TEST_F(GateTest, NoTransactionReachesATopicOfTheTiersOwn) {
  const kafka::Uuid id{{7}};
  LocalPolicy policy{.lends_agent_rights = true};
  policy.rules = AccessRules({{.principal = "User:*", .topics = {"*"}, .produce = true}});
  Open(std::move(policy));
  kafka::MetadataResponse metadata = TierMetadata({{"orders", kWrite}, {"__consumer_offsets", 0}});
  metadata.topics.back() = {.name = "__consumer_offsets",
                            .topic_id = id,
                            .is_internal = true,
                            .partitions = {{.partition_index = 0, .leader_id = 1}}};
  cache_.Learn(metadata, 1);
  kafka::ProduceRequest request{.transactional_id = "t", .acks = -1};
  request.topic_data.push_back({.name = "orders", .partition_data = {{.index = 0}}});
  request.topic_data.push_back({.name = "__consumer_offsets", .partition_data = {{.index = 0}}});
  Send(request, kByIdSince - 1);
  EXPECT_TRUE(client_->AtEnd());
  client_ = std::make_unique<TestPeer>(agent_->local_address());
  kafka::ProduceRequest by_id{.transactional_id = "t", .acks = -1};
  by_id.topic_data.push_back({.topic_id = id, .partition_data = {{.index = 0}}});
  Send(by_id, kByIdSince);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(witness_.received(), 0U);
}

// The tier may be about to make one of its own.
TEST_F(GateTest, WithTheAgentsRightsNoTransactionReachesATopicThatIsNotKnown) {
  LocalPolicy policy{.lends_agent_rights = true};
  policy.rules = AccessRules({{.principal = "User:*", .topics = {"*"}, .produce = true}});
  Open(std::move(policy));
  kafka::ProduceRequest request{.transactional_id = "t", .acks = -1};
  request.topic_data.push_back(
      {.name = "unseen", .topic_id = {{8}}, .partition_data = {{.index = 0}}});
  for (const int16_t version : {kProduceVersion, kByIdSince}) {
    client_ = std::make_unique<TestPeer>(agent_->local_address());
    Send(request, version);
    EXPECT_TRUE(client_->AtEnd());
  }
  EXPECT_EQ(witness_.received(), 0U);
}

TEST_F(GateTest, WhatWasAllowedIsAllowedWhileTheTierIsAway) {
  Open(TierDecides());
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
  tier_.reset();
  cache_.SetTierAway(true);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone);
  EXPECT_EQ(Produce("audit"), ErrorCode::kLeaderNotAvailable);
  EXPECT_EQ(sink_.taken, 2);
  // It has to log in again for anything else, once the tier is back.
  cache_.SetTierAway(false);
  Send(kafka::HeartbeatRequest{.group_id = "g"}, 4);
  EXPECT_TRUE(client_->AtEnd());
}

TEST_F(GateTest, ALostLoginEndsTheConnectionBehindTheAnswersThatAreDue) {
  Open(TierDecides());
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
  sink_.holds = true;
  for (int i = 0; i < 2; ++i) SendRecord("orders");
  LetLoopsTurn();
  tier_.reset();
  LetLoopsTurn();
  SendRecord("audit");
  SendRecord("orders");
  LetLoopsTurn();
  sink_.CompleteHeld();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ReadRecordsError(), ErrorCode::kNone);
  EXPECT_TRUE(client_->AtEnd());
  EXPECT_EQ(sink_.taken, 3) << "what gets no answer is not taken";
}

TEST_F(GateTest, WhileTheTierIsAwayAClientSeesWhatTheTierHasShownToIt) {
  Open(TierDecides());
  LogInAtTier();
  kafka::MetadataRequest request;
  request.topics.reset();
  const auto names = [](const kafka::MetadataResponse& response) {
    std::set<std::string_view> all;
    for (const auto& topic : response.topics) all.insert(*topic.name);
    return all;
  };
  Send(request, 9);
  TierGets<kafka::MetadataRequest>();
  TierAnswers(TierMetadata({{"orders", kRead}}));
  EXPECT_EQ(Read<kafka::MetadataResponse>(9).topics.size(), 1U);
  cache_.SetTierAway(true);
  Send(request, 9);
  const auto all = Read<kafka::MetadataResponse>(9);
  EXPECT_EQ(names(all), (std::set<std::string_view>{"orders", "orders-declared"}));
  request.topics = {{.name = "audit"}, {.name = "orders"}};
  Send(request, 9);
  const auto named = Read<kafka::MetadataResponse>(9);
  ASSERT_EQ(named.topics.size(), 2U);
  EXPECT_EQ(named.topics[0].error_code, ErrorCode::kLeaderNotAvailable);
  EXPECT_TRUE(named.topics[0].partitions.empty());
  EXPECT_EQ(named.topics[1].error_code, ErrorCode::kNone);
  EXPECT_EQ(named.topics[1].partitions.size(), 1U);

  // What it no longer shows is not shown any more.
  cache_.SetTierAway(false);
  request.topics.reset();
  Send(request, 9);
  TierGets<kafka::MetadataRequest>();
  TierAnswers(TierMetadata({}));
  EXPECT_TRUE(Read<kafka::MetadataResponse>(9).topics.empty());
  cache_.SetTierAway(true);
  Send(request, 9);
  const auto none = Read<kafka::MetadataResponse>(9);
  EXPECT_EQ(names(none), (std::set<std::string_view>{"orders-declared"}));
}

TEST_F(GateTest, AnOldRightIsAskedForBeforeRecordsAreTaken) {
  rights_for_ = {};  // It is old at once.
  Open(TierDecides());
  LogInAtTier();
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
  cache_.SetTierAway(true);
  EXPECT_EQ(Produce("orders"), ErrorCode::kNone) << "nobody else can tell";
  cache_.SetTierAway(false);
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kRead}})),
            ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(sink_.taken, 2);
}

TEST_F(GateTest, LocalTransactionsAreOfWhoLoggedInHereOrAtTheTier) {
  Open(Terminating());
  Handshake("PLAIN");
  Authenticate("\0orders\0secret"s);
  EXPECT_EQ(PrincipalOfTransactions(), "User:orders");
  policies_->Replace({});
  client_ = std::make_unique<TestPeer>(agent_->local_address());
  EXPECT_EQ(PrincipalOfTransactions(), "");

  policies_->Replace(TierDecides());
  client_ = std::make_unique<TestPeer>(agent_->local_address());
  LogInAtTier();
  EXPECT_EQ(PrincipalOfTransactions(), "User:a");
  for (const auto& [first, principal] :
       {std::pair("n,,n=b,r=x", "User:b"), std::pair("y,a=c,n=c,r=,n=d", "User:c"),
        std::pair("garbage", "")}) {
    client_ = std::make_unique<TestPeer>(agent_->local_address());
    Send(SaslHandshakeRequest{.mechanism = "SCRAM-SHA-256"}, 1);
    TierGets<SaslHandshakeRequest>();
    TierAnswers(SaslHandshakeResponse{});
    Read<SaslHandshakeResponse>(1);
    for (const char* const message : {first, "c=biws,r=xy,n=e"}) {
      Send(SaslAuthenticateRequest{.auth_bytes = message}, 2);
      TierGets<SaslAuthenticateRequest>();
      TierAnswers(SaslAuthenticateResponse{});
      Read<SaslAuthenticateResponse>(2);
    }
    EXPECT_EQ(PrincipalOfTransactions(), principal);
  }
}

// As Kafka does, of topics that are not there, too.
TEST_F(GateTest, OfAMissingTopicTheTierTellsWhatIsForbiddenButNotThatItMayBeProducedTo) {
  Open(TierDecides());
  LogInAtTier();
  SendRecord("audit");
  TierGets<kafka::MetadataRequest>();
  kafka::MetadataResponse missing = TierMetadata({{"audit", kRead}});
  missing.topics[0].error_code = ErrorCode::kUnknownTopicOrPartition;
  TierAnswers(missing);
  EXPECT_EQ(ReadRecordsError(), ErrorCode::kTopicAuthorizationFailed);

  // Who may is asked to try again, until the topic is there.
  missing = TierMetadata({{"orders", kWrite}});
  missing.topics[0].error_code = ErrorCode::kUnknownTopicOrPartition;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ProduceOnceTold(missing), ErrorCode::kLeaderNotAvailable);
  }
  EXPECT_EQ(ProduceOnceTold(TierMetadata({{"orders", kWrite}})), ErrorCode::kNone);
  EXPECT_EQ(sink_.taken, 1);
}

}  // namespace
}  // namespace holdfast::proxy
