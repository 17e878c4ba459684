// Over real sockets, against a broker whose answers the test writes.
#include "proxy/tier_connection.h"

#include <gmock/gmock.h>

#include <fstream>
#include <future>

#include "auth/sasl_session.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/codec.h"
#include "tests/net/loopback.h"
#include "tests/support/certificates.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;
using kafka::SaslAuthenticateRequest;
using kafka::SaslAuthenticateResponse;
using kafka::SaslHandshakeRequest;
using kafka::SaslHandshakeResponse;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::string_literals;

class TierConnectionTest : public net::LoopbackTest {
 protected:
  ~TierConnectionTest() override {
    loop().RunAndWait([this] { connection_.reset(); });
  }

  net::EventLoop& loop() { return first_->loop(); }

  void Connect(std::optional<net::SaslCredentials> sasl,
               base::Duration timeout = std::chrono::seconds(10)) {
    auto identity = std::make_shared<const TierIdentity>(TierIdentity{.sasl = std::move(sasl)});
    loop().RunAndWait([&] {
      connection_ = std::make_unique<TierConnection>(
          TierConnection::Context{loop(), resolver_, metrics_}, identity,
          net::FramedClient::Options{.peer = {"127.0.0.1", tier_->local_address().port()},
                                     .connect_timeout = timeout},
          net::FramedClient::Callbacks{
              .on_connected = [this] { mine_.Note("connected"); },
              .on_frame =
                  [this](base::Buffer frame) {
                    mine_.Add({0, std::string(frame.view()), net::Reply()});
                  },
              .on_closed = [this](base::Error error) { closed_.set_value(std::move(error)); }});
    });
  }
  void Send(int32_t correlation_id) {
    auto frame = kafka::EncodeRequest(kafka::HeartbeatRequest{.group_id = "g"}, 0, correlation_id,
                                      std::nullopt);
    loop().RunAndWait([&] { connection_->Send(*std::move(frame)); });
  }
  static int16_t KeyOf(const net::Witness::Request& request) {
    return kafka::ReadRequestHeader(request.body)->api_key;
  }
  template <class Response>
  static void Answer(net::Witness::Request& request, const Response& response) {
    const auto header = kafka::ReadRequestHeader(request.body);
    request.reply.Send(
        kafka::EncodeResponse(response, header->api_version, header->correlation_id));
  }
  template <class Request>
  net::Witness::Request Expect() {
    net::Witness::Request request = witness_.Take();
    EXPECT_EQ(KeyOf(request), Request::kApi.key);
    return request;
  }
  // What the client says in it; answered with no error.
  std::string AcceptAuthenticate(int64_t lifetime_ms = 0) {
    auto request = Expect<SaslAuthenticateRequest>();
    const auto header = kafka::ReadRequestHeader(request.body);
    std::string said(
        kafka::DecodeRequest<SaslAuthenticateRequest>(request.body, *header)->auth_bytes);
    Answer(request, SaslAuthenticateResponse{.session_lifetime_ms = lifetime_ms});
    return said;
  }
  void AcceptHandshake() {
    auto request = Expect<SaslHandshakeRequest>();
    Answer(request, SaslHandshakeResponse{});
  }
  int32_t CorrelationIdOfNextAnswer() { return *kafka::ReadCorrelationId(mine_.Take().body); }

  std::unique_ptr<net::FramedServer> tier_ = ServeWitnessed();
  net::Resolver resolver_;
  net::Witness mine_;
  std::promise<base::Error> closed_;
  std::unique_ptr<TierConnection> connection_;
  const net::SaslCredentials plain_{
      .mechanism = net::SaslMechanism::kPlain, .username = "agent", .password = "secret"};
};

TEST_F(TierConnectionTest, RequestsWaitUntilTheBrokerKnowsWhoAsks) {
  Connect(plain_);
  Send(1);
  Send(2);
  AcceptHandshake();
  EXPECT_EQ(AcceptAuthenticate(), "\0agent\0secret"s);
  mine_.WaitForEvent("connected");
  for (const int32_t id : {1, 2}) {
    auto request = Expect<kafka::HeartbeatRequest>();
    Answer(request, kafka::HeartbeatResponse{});
    EXPECT_EQ(CorrelationIdOfNextAnswer(), id);
  }
}

TEST_F(TierConnectionTest, WithoutCredentialsNothingIsAsked) {
  Connect(std::nullopt);
  Send(1);
  auto request = Expect<kafka::HeartbeatRequest>();
  Answer(request, kafka::HeartbeatResponse{});
  EXPECT_EQ(CorrelationIdOfNextAnswer(), 1);
}

TEST_F(TierConnectionTest, CredentialsAreShownAgainBetweenTwoRequests) {
  Connect(plain_);
  // These leave in the turn in which the session begins, and so before its end.
  Send(1);
  Send(2);
  AcceptHandshake();
  AcceptAuthenticate(/*lifetime_ms=*/1);
  auto first = Expect<kafka::HeartbeatRequest>();
  auto second = Expect<kafka::HeartbeatRequest>();
  // In flight when the session is prolonged; what comes now waits.
  auto handshake = Expect<SaslHandshakeRequest>();
  Send(3);
  Answer(first, kafka::HeartbeatResponse{});
  Answer(second, kafka::HeartbeatResponse{});
  EXPECT_EQ(CorrelationIdOfNextAnswer(), 1);
  EXPECT_EQ(CorrelationIdOfNextAnswer(), 2);
  Answer(handshake, SaslHandshakeResponse{});
  AcceptAuthenticate();
  auto third = Expect<kafka::HeartbeatRequest>();
  Answer(third, kafka::HeartbeatResponse{});
  EXPECT_EQ(CorrelationIdOfNextAnswer(), 3);
}

// The broker is at work for another request when the session is prolonged, and the token is renewed
// meanwhile.
TEST_F(TierConnectionTest, ATokenIsReadWhenTheBrokerWantsToSeeIt) {
  const test::TestDirectory directory;
  const std::string file = directory.File("token");
  std::ofstream(file) << "before";
  Connect(net::SaslCredentials{.mechanism = net::SaslMechanism::kOauthBearer, .token_file = file});
  Send(1);
  AcceptHandshake();
  EXPECT_THAT(AcceptAuthenticate(/*lifetime_ms=*/1), HasSubstr("Bearer before"));
  auto slow = Expect<kafka::HeartbeatRequest>();
  auto handshake = Expect<SaslHandshakeRequest>();
  std::ofstream(file) << "after";
  Answer(slow, kafka::HeartbeatResponse{});
  Answer(handshake, SaslHandshakeResponse{});
  EXPECT_THAT(AcceptAuthenticate(), HasSubstr("Bearer after"));
}

TEST(LoginTest, ASessionOfThousandsOfYearsIsOneOfAHundred) {
  Login login;
  ASSERT_TRUE(
      login.Begin({.mechanism = net::SaslMechanism::kPlain, .username = "a", .password = "b"}, 1));
  const auto answer = [&](const auto& response) {
    const base::Buffer frame = kafka::EncodeResponse(response, /*version=*/1, 1);
    return login.OnAnswer(frame.view().substr(kafka::kLengthPrefixBytes), 1);
  };
  ASSERT_TRUE(answer(SaslHandshakeResponse{}));
  ASSERT_TRUE(answer(SaslAuthenticateResponse{.session_lifetime_ms = 252'000'000'000'000}));
  EXPECT_EQ(login.session_lifetime(), auth::kSessionLifetimeMax);
}

// Lets a client in at once, for a moment, and hands the rest to the test.
class WelcomingSession final : public net::Session {
 public:
  explicit WelcomingSession(net::Witness& witness) : witness_(witness) {}
  void OnFrame(base::Buffer frame, net::Reply reply) override {
    const auto header = kafka::ReadRequestHeader(frame.view());
    const auto send = [&](const auto& response) {
      reply.Send(kafka::EncodeResponse(response, header->api_version, header->correlation_id));
    };
    if (header->api_key == SaslHandshakeRequest::kApi.key && !std::exchange(welcomed_, true)) {
      send(SaslHandshakeResponse{});
    } else if (header->api_key == SaslAuthenticateRequest::kApi.key) {
      send(SaslAuthenticateResponse{.session_lifetime_ms = 1});
    } else {
      witness_.Add({0, std::string(frame.view()), std::move(reply)});
    }
  }

 private:
  net::Witness& witness_;
  bool welcomed_ = false;
};

TEST_F(TierConnectionTest, ALoginIsNotTimedWhileTheBrokerIsAtWorkForOthers) {
  tier_ =
      Serve({}, [this](net::Connection&) { return std::make_unique<WelcomingSession>(witness_); });
  constexpr base::Duration kLimit = std::chrono::seconds(2);  // For the first login, too.
  Connect(plain_, kLimit);
  Send(1);
  auto slow = Expect<kafka::HeartbeatRequest>();
  auto handshake = Expect<SaslHandshakeRequest>();
  std::promise<void> later;
  base::Timer timer;
  loop().RunAndWait([&] { timer = loop().After(kLimit * 5 / 4, [&] { later.set_value(); }); });
  later.get_future().wait();
  loop().RunAndWait([&] { timer.Cancel(); });
  Answer(slow, kafka::HeartbeatResponse{});
  EXPECT_EQ(CorrelationIdOfNextAnswer(), 1);
  EXPECT_THAT(closed_.get_future().get().message, HasSubstr("authenticating took too long"));
  handshake.reply.Close("too late");
}

TEST_F(TierConnectionTest, ARefusalSaysWhyAndHoldsNoSecret) {
  Connect(plain_);
  AcceptHandshake();
  auto request = Expect<SaslAuthenticateRequest>();
  Answer(request, SaslAuthenticateResponse{.error_code = ErrorCode::kSaslAuthenticationFailed,
                                           .error_message = "Invalid username or password"});
  const base::Error error = closed_.get_future().get();
  EXPECT_EQ(error.code, base::Code::kInvalid);
  EXPECT_THAT(error.message,
              HasSubstr(": SASL PLAIN: SASL_AUTHENTICATION_FAILED: Invalid username or password"));
  EXPECT_THAT(error.message, Not(HasSubstr("secret")));
}

TEST_F(TierConnectionTest, AMechanismThatTheBrokerDoesNotTakeIsNamedWithThoseItTakes) {
  Connect(plain_);
  auto request = Expect<SaslHandshakeRequest>();
  SaslHandshakeResponse response{.error_code = ErrorCode::kUnsupportedSaslMechanism};
  response.mechanisms = {"SCRAM-SHA-512", "OAUTHBEARER"};
  Answer(request, response);
  EXPECT_THAT(closed_.get_future().get().message,
              HasSubstr("the broker takes SCRAM-SHA-512, OAUTHBEARER"));
}

TEST_F(TierConnectionTest, ATokenThatCannotBeReadIsSaid) {
  Connect(net::SaslCredentials{.mechanism = net::SaslMechanism::kOauthBearer,
                               .token_file = "/nowhere/token"});
  AcceptHandshake();
  const base::Error error = closed_.get_future().get();
  EXPECT_EQ(error.code, base::Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("cannot read the token in /nowhere/token"));
}

}  // namespace
}  // namespace holdfast::proxy
