#include "auth/access_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/auth/token_issuer.h"
#include "tests/support/certificates.h"
#include "tests/support/manual_executor.h"

namespace holdfast::auth {
namespace {

using test::Base64Url;
using test::TokenIssuer;
using ::testing::HasSubstr;

constexpr int64_t kNow = 1'700'000'000;

std::string Unsecured(const std::string& claims) {
  return Base64Url(R"({"alg":"none"})") + "." + Base64Url(claims) + ".";
}

// Claims that are good, with these beside them or in their place.
std::string Claims(const std::string& more = "", const std::string& subject = R"("sub":"orders")",
                   const std::string& times = R"("iat":1699999999,"exp":1700000060)") {
  std::string claims = "{" + times;
  if (!subject.empty()) claims += "," + subject;
  if (!more.empty()) claims += "," + more;
  return claims + "}";
}

std::string Answer(const net::SaslTokens& tokens, const std::string& token, int64_t now = kNow) {
  const auto bearer = tokens.Check(token, now * 1000);
  return bearer ? "welcome, " + bearer->name : bearer.error().message;
}

TEST(AccessTokensTest, ItsSubjectIsTheName) {
  const AccessTokens tokens({});
  const auto bearer = tokens.Check(Unsecured(Claims()), kNow * 1000);
  ASSERT_TRUE(bearer) << bearer.error().message;
  EXPECT_EQ(bearer->name, "orders");
  EXPECT_EQ(bearer->expires_at_ms, (kNow + 60) * 1000);
  for (const char* const subject :
       {"", R"("sub":"")", R"("sub":" ")", R"("sub":1)", R"("sub":["a"])"})
    EXPECT_EQ(Answer(tokens, Unsecured(Claims("", subject))), "its sub is not a name");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims("", R"("sub":" a b ")"))), "welcome, a b");
  const AccessTokens other({.sub_claim_name = "email"});
  EXPECT_EQ(Answer(other, Unsecured(Claims(R"("email":"a@b")"))), "welcome, a@b");
  EXPECT_EQ(Answer(other, Unsecured(Claims())), "its email is not a name");
}

TEST(AccessTokensTest, TimesCountGiveOrTakeTheSkew) {
  const AccessTokens tokens({.clock_skew_seconds = 10});
  const auto at = [&](const std::string& times) {
    return Answer(tokens, Unsecured(Claims("", R"("sub":"a")", times)));
  };
  EXPECT_EQ(at(R"("exp":1699999991)"), "welcome, a");
  EXPECT_EQ(at(R"("exp":1699999990)"), "it has expired");
  EXPECT_EQ(at(R"("exp":1700000000.5)"), "welcome, a");
  EXPECT_EQ(at(R"("iat":1)"), "it has no exp");
  EXPECT_EQ(at(R"("exp":"1700000060")"), "exp is not a time");
  EXPECT_EQ(at(R"("exp":1e300)"), "exp is not a time");
  EXPECT_EQ(at(R"("exp":-1)"), "exp is not a time");
  EXPECT_EQ(at(R"("exp":1700000060,"iat":1700000061)"), "its exp is before its iat");
  EXPECT_EQ(at(R"("exp":1700000060,"nbf":1700000061)"), "its exp is before its nbf");
  EXPECT_EQ(at(R"("exp":1700000060,"nbf":1700000010)"), "welcome, a");
  EXPECT_EQ(at(R"("exp":1700000060,"nbf":1700000011)"), "it is not valid yet");
}

TEST(AccessTokensTest, AudienceAndIssuerAreThoseThatAreExpected) {
  const auto answer = [](const AccessTokenPolicy& policy, const std::string& more) {
    return Answer(AccessTokens(policy), Unsecured(Claims(more)));
  };
  const AccessTokenPolicy open;
  EXPECT_EQ(answer(open, R"("iss":"anybody")"), "welcome, orders");
  // Kafka's rule: who is not the one it is for does not take it.
  EXPECT_EQ(answer(open, R"("aud":[])"), "its aud is not an expected_audience");
  EXPECT_EQ(answer(open, R"("aud":"kafka")"), "its aud is not an expected_audience");
  const AccessTokenPolicy strict{.expected_audience = {"kafka", "broker"},
                                 .expected_issuer = "https://login"};
  EXPECT_EQ(answer(strict, R"("aud":"broker","iss":"https://login")"), "welcome, orders");
  EXPECT_EQ(answer(strict, R"("aud":["x","kafka"],"iss":"https://login")"), "welcome, orders");
  EXPECT_EQ(answer(strict, R"("aud":["x"],"iss":"https://login")"),
            "its aud is not an expected_audience");
  EXPECT_EQ(answer(strict, R"("iss":"https://login")"), "its aud is not an expected_audience");
  EXPECT_EQ(answer(strict, R"("aud":1,"iss":"https://login")"), "aud is neither a text nor a list");
  EXPECT_EQ(answer(strict, R"("aud":"kafka","iss":"https://login/")"),
            "its iss is not the expected_issuer");
  EXPECT_EQ(answer(strict, R"("aud":"kafka","iss":["https://login"])"),
            "its iss is not the expected_issuer");
  EXPECT_EQ(answer(strict, R"("aud":"kafka")"), "its iss is not the expected_issuer");
}

TEST(AccessTokensTest, DeepClaimsDoNoHarm) {
  const std::string deep(100'000, '[');
  EXPECT_EQ(
      Answer(AccessTokens({}), Unsecured(Claims(R"("x":)" + deep + std::string(100'000, ']')))),
      "welcome, orders");
  for (const char* const name : {"aud", "scope", "iss"}) {
    const std::string claim = '"' + std::string(name) + "\":" + deep + std::string(100'000, ']');
    EXPECT_THAT(Answer(AccessTokens({.expected_issuer = "us"}), Unsecured(Claims(claim))),
                testing::StartsWith(name == std::string("aud") ? "aud is neither" : "its iss is"));
  }
  EXPECT_EQ(Answer(AccessTokens({}), Unsecured(Claims(R"("x":)" + deep))),
            "its claims are not a JSON object");
}

TEST(AccessTokensTest, ScopesAreNamedOnce) {
  const AccessTokens tokens({.scope_claim_name = "scp"});
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":["a","b"],"scope":1)"))), "welcome, orders");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":"a a")"))), "welcome, orders");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":["a","a"])"))), "scp has a text twice");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":["a",""])"))), "scp has an empty text");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":["a"," a"])"))), "scp has a text twice");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":[1])"))), "scp is neither a text nor a list");
  EXPECT_EQ(Answer(tokens, Unsecured(Claims(R"("scp":1)"))), "welcome, orders");
}

class SignedTokensTest : public ::testing::Test {
 protected:
  void Publish(const TokenIssuer& issuer) {
    std::ofstream(directory_.File("keys")) << R"({"keys":[)" << issuer.PublicKey() << "]}";
  }
  std::shared_ptr<PublishedKeys> Start() {
    auto keys = PublishedKeys::Start({.url = "file://" + directory_.File("keys")}, loop_);
    HF_CHECK(keys.has_value());
    clock_.RunUntilIdle();
    return *keys;
  }

  test::TestDirectory directory_;
  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
};

TEST_F(SignedTokensTest, AnUnsecuredTokenIsNotTakenWhereKeysAreNorASignedOneWhereNoneAre) {
  const TokenIssuer issuer("ES256", "one");
  Publish(issuer);
  const AccessTokens secured({}, Start());
  EXPECT_EQ(Answer(secured, issuer.Token(Claims())), "welcome, orders");
  EXPECT_EQ(Answer(secured, Unsecured(Claims())), "it is not signed by RS, PS or ES");
  EXPECT_EQ(Answer(secured, issuer.Token(Claims("", R"("sub":"a")", R"("exp":1700000060)"))),
            "it has no iat");
  EXPECT_EQ(Answer(secured, issuer.Token("[]")), "its claims are not a JSON object");
  EXPECT_THAT(Answer(AccessTokens({}), issuer.Token(Claims())), HasSubstr("only unsecured"));
  EXPECT_THAT(Answer(AccessTokens({}), Unsecured(Claims()) + "AAAA"), HasSubstr("only unsecured"));
}

TEST_F(SignedTokensTest, AFileThatChangesIsReadAndOneThatIsBrokenIsNot) {
  const TokenIssuer one("ES256", "one");
  const TokenIssuer two("RS256", "two");
  Publish(one);
  const AccessTokens tokens({}, Start());
  EXPECT_EQ(Answer(tokens, two.Token(Claims())), "no key is known for its key id and algorithm");
  Publish(two);
  clock_.Advance(PublishedKeys::kFileEvery);
  EXPECT_EQ(Answer(tokens, two.Token(Claims())), "welcome, orders");
  EXPECT_EQ(Answer(tokens, one.Token(Claims())), "no key is known for its key id and algorithm");
  std::ofstream(directory_.File("keys")) << "{";
  clock_.Advance(PublishedKeys::kFileEvery);
  EXPECT_EQ(Answer(tokens, two.Token(Claims())), "welcome, orders");
  Publish(one);
  clock_.Advance(PublishedKeys::kFileEvery);
  EXPECT_EQ(Answer(tokens, one.Token(Claims())), "welcome, orders");
}

TEST_F(SignedTokensTest, WithoutItsFileItDoesNotStart) {
  const auto keys = PublishedKeys::Start({.url = "file://" + directory_.File("keys")}, loop_);
  ASSERT_FALSE(keys);
  EXPECT_THAT(keys.error().message, HasSubstr(directory_.File("keys")));
}

}  // namespace
}  // namespace holdfast::auth
