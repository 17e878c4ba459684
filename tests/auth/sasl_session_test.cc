#include "auth/sasl_session.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::auth {
namespace {

using kafka::ErrorCode;
using net::SaslMechanism;
using Outcome = SaslSession::Outcome;
using namespace std::string_literals;

class SaslSessionTest : public ::testing::Test {
 protected:
  class Anybody final : public net::SaslTokens {
   public:
    [[nodiscard]] base::Result<Bearer> Check(std::string_view token,
                                             int64_t /*now_ms*/) const override {
      const int64_t year_9999 = 253'402'214'400'000;
      return Bearer{.name = std::string(token), .expires_at_ms = token == "late" ? year_9999 : 7};
    }
  };

  Outcome LogIn(const std::string& mechanism, const std::string& user) {
    EXPECT_EQ(session_.Handshake(policy_, mechanism).error_code, ErrorCode::kNone);
    EXPECT_TRUE(session_.under_way());
    response_ = {};
    return session_.Authenticate(mechanism == "PLAIN"
                                     ? "\0"s + user + "\0secret"s
                                     : "n,,\x01"s + "auth=Bearer " + user + "\x01\x01",
                                 &response_);
  }
  [[nodiscard]] std::string Message() const {
    return std::string(response_.error_message.value_or(""));
  }

  const SaslPolicy policy_{.mechanisms = {SaslMechanism::kPlain, SaslMechanism::kOauthBearer},
                           .users = net::SaslUsers::Make({{"a", "secret"}, {"b", "secret"}}),
                           .tokens = std::make_shared<Anybody>()};
  SaslSession session_;
  kafka::SaslAuthenticateResponse response_;
};

TEST_F(SaslSessionTest, EachMechanismNamesWhoIsThere) {
  EXPECT_EQ(LogIn("PLAIN", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(session_.principal(), "User:a");
  EXPECT_FALSE(session_.expires_at_ms());
  EXPECT_FALSE(session_.under_way());
  session_ = {};
  EXPECT_EQ(LogIn("OAUTHBEARER", "b"), Outcome::kAuthenticated);
  EXPECT_EQ(session_.principal(), "User:b");
  EXPECT_EQ(session_.expires_at_ms(), 7);
}

TEST_F(SaslSessionTest, ASessionIsAsLongAsTheTokenAndTheLimitAllow) {
  using std::chrono::milliseconds;
  constexpr auto kNoLimit = base::Duration::zero();
  EXPECT_EQ(LogIn("PLAIN", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(session_.Lifetime(5, kNoLimit), std::nullopt);
  EXPECT_EQ(session_.Lifetime(5, milliseconds(9)), milliseconds(9));
  session_ = {};
  EXPECT_EQ(LogIn("OAUTHBEARER", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(session_.Lifetime(5, kNoLimit), milliseconds(2));
  EXPECT_EQ(session_.Lifetime(5, milliseconds(9)), milliseconds(2));
  EXPECT_EQ(session_.Lifetime(5, milliseconds(1)), milliseconds(1));
  EXPECT_EQ(session_.Lifetime(8, kNoLimit), milliseconds(0));
  session_ = {};
  EXPECT_EQ(LogIn("OAUTHBEARER", "late"), Outcome::kAuthenticated);
  const auto longest = session_.Lifetime(1'700'000'000'000, kNoLimit);
  EXPECT_EQ(longest, kSessionLifetimeMax);
  EXPECT_GT(base::TimePoint() + *longest, base::TimePoint());
}

TEST_F(SaslSessionTest, WhoComesAgainIsWhoItWas) {
  EXPECT_EQ(LogIn("OAUTHBEARER", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(LogIn("OAUTHBEARER", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(LogIn("OAUTHBEARER", "b"), Outcome::kRefused);
  EXPECT_EQ(response_.error_code, ErrorCode::kSaslAuthenticationFailed);
  EXPECT_EQ(Message(), "Cannot change principals during re-authentication from User.a: User.b");
  EXPECT_FALSE(session_.authenticated());
}

TEST_F(SaslSessionTest, WhoComesAgainComesByTheSameMechanism) {
  EXPECT_EQ(LogIn("OAUTHBEARER", "a"), Outcome::kAuthenticated);
  EXPECT_EQ(LogIn("PLAIN", "a"), Outcome::kRefused);
  EXPECT_EQ(response_.error_code, ErrorCode::kSaslAuthenticationFailed);
  EXPECT_EQ(Message(),
            "SASL mechanism 'PLAIN' requested by client is not supported for re-authentication of "
            "mechanism 'OAUTHBEARER'");
  EXPECT_FALSE(session_.authenticated());
}

TEST_F(SaslSessionTest, AnUnknownMechanismEndsWhatWasBegun) {
  EXPECT_EQ(session_.Handshake(policy_, "PLAIN").error_code, ErrorCode::kNone);
  const auto response = session_.Handshake(policy_, "SCRAM-SHA-256");
  EXPECT_EQ(response.error_code, ErrorCode::kUnsupportedSaslMechanism);
  EXPECT_EQ(response.mechanisms, (std::vector<std::string_view>{"PLAIN", "OAUTHBEARER"}));
  EXPECT_EQ(session_.Authenticate("\0a\0secret"s, &response_), Outcome::kGoesOn);
  EXPECT_EQ(response_.error_code, ErrorCode::kIllegalSaslState);
}

}  // namespace
}  // namespace holdfast::auth
