#include "net/sasl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <string>

#include "net/scram.h"
#include "tests/support/certificates.h"

namespace holdfast::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::string_literals;

std::unique_ptr<SaslClient> NewScramClient(SaslMechanism mechanism, std::string user,
                                           std::string password, std::string nonce) {
  return MakeScramClient(mechanism, std::move(user),
                         std::make_shared<SaltedPassword>(std::move(password)), std::move(nonce));
}

// The example of RFC 7677, section 3.
TEST(ScramTest, TheClientSaysWhatTheStandardsExampleSays) {
  const auto client =
      NewScramClient(SaslMechanism::kScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
  EXPECT_EQ(client->First(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  const auto proof = client->Next(
      "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  ASSERT_TRUE(proof) << proof.error().message;
  EXPECT_EQ(*proof,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
  const auto done = client->Next("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_FALSE(done->has_value());
}

TEST(ScramTest, AServerThatDoesNotKnowThePasswordIsNotBelieved) {
  const auto client =
      NewScramClient(SaslMechanism::kScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
  ASSERT_TRUE(client->Next(
      "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
  EXPECT_FALSE(client->Next("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
  EXPECT_FALSE(client->Next(""));
  const auto refused = client->Next("e=other-error");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("other-error"));
}

TEST(ScramTest, TheClientTakesNeitherAForeignNonceNorTooFewOrTooManyIterations) {
  for (const char* const first :
       {"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
        "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=999999999",
        "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=x", "r=nonceX,s=!,i=4096", "r=nonceX,i=4096", ""}) {
    const auto client = NewScramClient(SaslMechanism::kScramSha512, "user", "pencil", "nonce");
    EXPECT_FALSE(client->Next(first)) << first;
  }
}

class SaslTest : public ::testing::TestWithParam<SaslMechanism> {
 protected:
  // The client's error or the server's, or "welcome, <user>".
  std::string Meet(const std::string& user, const std::string& password,
                   std::shared_ptr<SaltedPassword> salted_password = nullptr) {
    const auto client = SaslClient::Make({.mechanism = GetParam(),
                                          .username = user,
                                          .password = password,
                                          .salted_password = std::move(salted_password)});
    if (!client) return client.error().message;
    const auto server = SaslServer::Make(GetParam(), users_);
    std::string message = (*client)->First();
    while (true) {
      const auto step = server->Next(message);
      if (!step) return step.error().message;
      const auto next = (*client)->Next(step->answer);
      if (!next) return next.error().message;
      if (step->done) return next->has_value() ? "more?" : "welcome, " + server->user();
      if (!next->has_value()) return "the client ended first";
      message = **next;
    }
  }

  std::shared_ptr<const SaslUsers> users_ =
      SaslUsers::Make({{"orders", "a, strange=password"}, {"o=d,d", "x"}, {"grüße", "schön"}});
};

TEST_P(SaslTest, ClientAndServerAgree) {
  EXPECT_EQ(Meet("orders", "a, strange=password"), "welcome, orders");
  EXPECT_EQ(Meet("o=d,d", "x"), "welcome, o=d,d");
  EXPECT_EQ(Meet("grüße", "schön"), "welcome, grüße");
}

TEST_P(SaslTest, WhoseNameOrPasswordIsWrongDoesNotLearnWhich) {
  EXPECT_EQ(Meet("orders", "b"), "wrong user name or password");
  EXPECT_EQ(Meet("orders", ""), "wrong user name or password");
  EXPECT_EQ(Meet("nobody", "b"), "wrong user name or password");
}

TEST_P(SaslTest, WhatAPasswordBecameServesUntilTheSaltIsAnother) {
  const auto kept = std::make_shared<SaltedPassword>("a, strange=password");
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(Meet("orders", "a, strange=password", kept), "welcome, orders");
  users_ = SaslUsers::Make({{"orders", "a, strange=password"}});
  EXPECT_EQ(Meet("orders", "a, strange=password", kept), "welcome, orders");
}

TEST(SaslUsersTest, SaltsTellNobodyWhoExists) {
  const std::vector<SaslUsers::User> configured = {{"orders", "x"}};
  const std::string key = SaslUsers::NewSaltKey();
  const auto first = SaslUsers::Make(configured, key);
  const auto again = SaslUsers::Make(configured, key);
  const auto other = SaslUsers::Make(configured);
  const auto without = SaslUsers::Make({}, key);
  for (const std::string_view user : {"orders", "nobody"}) {
    for (const auto mechanism : {SaslMechanism::kScramSha256, SaslMechanism::kScramSha512}) {
      const std::string salt = first->SecretOf(user, mechanism).salt;
      EXPECT_EQ(again->SecretOf(user, mechanism).salt, salt);
      EXPECT_EQ(without->SecretOf(user, mechanism).salt, salt) << "it comes and goes unseen";
      EXPECT_NE(other->SecretOf(user, mechanism).salt, salt);
    }
  }
}

TEST(SaltedPasswordTest, IsComputedOncePerSalt) {
  SaltedPassword password("pencil");
  const auto hash = [&](const std::string& salt) {
    return password.Of(SaslMechanism::kScramSha512, salt, kScramIterationsMax);
  };
  const auto begun = std::clock();
  const std::string first = hash("a");
  const auto once = std::clock() - begun;
  for (int i = 0; i < 50; ++i) EXPECT_EQ(hash("a"), first);
  // Of the processor's time; computed each time it would be fifty-one times as much.
  EXPECT_LT(std::clock() - begun, 10 * once);
  const std::string other = hash("b");
  EXPECT_NE(other, first);
  EXPECT_EQ(hash("a"), first);
  EXPECT_NE(password.Of(SaslMechanism::kScramSha256, "a", kScramIterationsMax), first);
  EXPECT_NE(password.Of(SaslMechanism::kScramSha512, "a", 4096), first);
}

TEST_P(SaslTest, TheServerTakesNoNonsense) {
  for (const std::string& message :
       {""s, "\0"s, "x"s, "\0orders"s, "other\0orders\0a, strange=password"s, "a\0b\0c\0d"s, "n,,"s,
        "n,,n=orders"s, "n,,n=,r=x"s, "y,,n=orders,r=x"s, "n,a=other,n=orders,r=x"s,
        "n,,n=ord=ers,r=x"s, "p=tls-unique,,n=orders,r=x"s}) {
    EXPECT_FALSE(SaslServer::Make(GetParam(), users_)->Next(message)) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, SaslTest,
                         ::testing::Values(SaslMechanism::kPlain, SaslMechanism::kScramSha256,
                                           SaslMechanism::kScramSha512),
                         [](const auto& each) {
                           std::string name(SaslName(each.param));
                           std::erase(name, '-');
                           return name;
                         });

TEST(ScramTest, AProofIsGoodForOneExchangeOnly) {
  const auto users = SaslUsers::Make({{"orders", "secret"}});
  const auto client = NewScramClient(SaslMechanism::kScramSha256, "orders", "secret", "nonce");
  const auto server = MakeScramServer(SaslMechanism::kScramSha256, users, "one");
  const auto challenge = server->Next(client->First());
  const auto proof = client->Next(challenge->answer);
  ASSERT_TRUE(server->Next(**proof));
  const auto other = MakeScramServer(SaslMechanism::kScramSha256, users, "two");
  ASSERT_TRUE(other->Next(client->First()));
  EXPECT_FALSE(other->Next(**proof));
}

// librdkafka before 2.6: its own nonce, and then both.
TEST(ScramTest, AServerTakesNoLongMessages) {
  const auto users = SaslUsers::Make({{"orders", "secret"}});
  const std::string name = "n,,n=orders,r=";
  const auto first = [&](size_t size) {
    return MakeScramServer(SaslMechanism::kScramSha256, users, "server")
        ->Next(name + std::string(size - name.size(), 'x'))
        .has_value();
  };
  EXPECT_TRUE(first(4096));
  EXPECT_FALSE(first(4097));
}

TEST(ScramTest, ANonceThatEndsWithTheServersIsTakenAsKafkaTakesIt) {
  const auto users = SaslUsers::Make({{"orders", "secret"}});
  const auto server = MakeScramServer(SaslMechanism::kScramSha256, users, "server");
  const auto client = NewScramClient(SaslMechanism::kScramSha256, "orders", "secret", "c");
  const auto challenge = server->Next("n,,n=orders,r=c");
  // The proof is over what is sent, so the client is made to believe that the server said it.
  const auto doubled = "r=c" + challenge->answer.substr(2);
  const std::string last = **client->Next(doubled);
  const auto step = server->Next(last);
  // Right form, wrong proof: what the server said is not what the client heard.
  ASSERT_FALSE(step);
  EXPECT_EQ(step.error().message, "wrong user name or password");
}

TEST(ScramTest, AnUnknownUserIsChallengedLikeAKnownOne) {
  const auto users = SaslUsers::Make({{"orders", "secret"}});
  const auto ask = [&](const std::string& user) {
    return MakeScramServer(SaslMechanism::kScramSha256, users, "s")
        ->Next("n,,n=" + user + ",r=c")
        ->answer;
  };
  EXPECT_EQ(ask("nobody"), ask("nobody"));
  EXPECT_NE(ask("nobody"), ask("anybody"));
  EXPECT_EQ(ask("nobody").size(), ask("orders").size());
  for (const char* user : {"nobody", "orders"}) {
    EXPECT_NE(users->SecretOf(user, SaslMechanism::kScramSha256).salt,
              users->SecretOf(user, SaslMechanism::kScramSha512).salt)
        << user;
  }
}

class OauthBearerTest : public ::testing::Test {
 protected:
  void WriteToken(const std::string& token) { std::ofstream(directory_.File("token")) << token; }
  SaslCredentials Credentials() {
    return {.mechanism = SaslMechanism::kOauthBearer,
            .token_file = directory_.File("token"),
            .extensions = {{"logicalCluster", "lkc-1"}}};
  }
  test::TestDirectory directory_;
};

TEST_F(OauthBearerTest, TheTokenIsReadForEachExchange) {
  WriteToken("first.token\n");
  EXPECT_EQ((*SaslClient::Make(Credentials()))->First(),
            "n,,\x01"
            "auth=Bearer first.token\x01logicalCluster=lkc-1\x01\x01");
  WriteToken("second.token");
  const auto client = SaslClient::Make(Credentials());
  EXPECT_THAT((*client)->First(), HasSubstr("Bearer second.token\x01"));
  EXPECT_FALSE((*client)->Next("")->has_value());
}

TEST_F(OauthBearerTest, ARefusalIsAcknowledgedAsTheStandardHasIt) {
  WriteToken("token");
  const auto client = SaslClient::Make(Credentials());
  EXPECT_EQ(**(*client)->Next("{\"status\":\"invalid_token\"}"), "\x01");
}

class KnownTokens final : public SaslTokens {
 public:
  [[nodiscard]] base::Result<Bearer> Check(std::string_view token,
                                           int64_t /*now_ms*/) const override {
    if (token != "good.token") return base::Unexpected(base::Code::kInvalid, "not the one");
    return Bearer{.name = "orders", .expires_at_ms = 7};
  }
};

TEST_F(OauthBearerTest, TheServerTakesAGoodToken) {
  WriteToken("good.token");
  const auto client = SaslClient::Make(Credentials());
  const auto server = SaslServer::Make(std::make_shared<KnownTokens>());
  const auto step = server->Next((*client)->First());
  ASSERT_TRUE(step) << step.error().message;
  EXPECT_TRUE(step->done);
  EXPECT_EQ(step->answer, "");
  EXPECT_EQ(server->user(), "orders");
  EXPECT_EQ(server->expires_at_ms(), 7);
}

TEST_F(OauthBearerTest, TheServerSaysWhyBeforeItRefuses) {
  WriteToken("bad.token");
  const auto client = SaslClient::Make(Credentials());
  const auto server = SaslServer::Make(std::make_shared<KnownTokens>());
  const auto step = server->Next((*client)->First());
  ASSERT_TRUE(step) << step.error().message;
  EXPECT_FALSE(step->done);
  EXPECT_EQ(step->answer, R"({"status":"invalid_token"})");
  const auto refused = server->Next(**(*client)->Next(step->answer));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, R"({"status":"invalid_token"})");
  // One exchange is one try.
  EXPECT_FALSE(
      server->Next("n,,\x01"
                   "auth=Bearer good.token\x01\x01"));
}

TEST_F(OauthBearerTest, TheServerReadsTheStandardsMessageAndNoOther) {
  const auto answer = [](const std::string& message) -> std::string {
    const auto server = SaslServer::Make(std::make_shared<KnownTokens>());
    const auto step = server->Next(message);
    if (!step) return step.error().message;
    return step->done ? "welcome" : step->answer;
  };
  const std::string pair = "auth=Bearer good.token\x01";
  for (const std::string& good : {"n,,\x01" + pair + "\x01", "n,a=orders,\x01" + pair + "\x01",
                                  "n,,\x01host=h\x01port=1\x01" + pair + "x=y=z\x01\x01",
                                  "n,,\x01"s + "auth=bEARER   good.token\x01\x01"}) {
    EXPECT_EQ(answer(good), "welcome") << good;
  }
  EXPECT_EQ(answer("n,a=other,\x01" + pair + "\x01"), "one user cannot act for another");
  for (const std::string& bad : {""s,
                                 "\x01"s,
                                 "n,"s,
                                 "n,,"s,
                                 "n,,\x01"s,
                                 "n,,\x01\x01"s,
                                 "n,,\x01" + pair,
                                 "y,,\x01" + pair + "\x01",
                                 "n,a=,\x01" + pair + "\x01",
                                 "n,b=x,\x01" + pair + "\x01",
                                 "n,,x\x01" + pair + "\x01",
                                 "n,a=o,n,\x01" + pair + "\x01",
                                 "n,,\x01" + pair + "x\x01\x01",
                                 "n,,\x01" + pair + "=x\x01\x01",
                                 "n,,\x01" + pair + pair + "\x01",
                                 "n,,\x01" + pair + "x\x01",
                                 "n,,\x01"s + "auth=Basic good.token\x01\x01",
                                 "n,,\x01"s + "auth=Bearer\x01\x01",
                                 "n,,\x01"s + "auth=Bearer \x01\x01",
                                 "n,,\x01"s + "auth=Bearer =\x01\x01",
                                 "n,,\x01"s + "auth=Bearer good.token x\x01\x01",
                                 "n,,\x01"s + "auth=Bearer g=d.token\x01\x01"}) {
    EXPECT_EQ(answer(bad), "malformed OAUTHBEARER message") << bad;
  }
}

TEST_F(OauthBearerTest, WhatIsNoTokenIsNotSent) {
  const auto missing = SaslClient::Make(Credentials());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message,
            "cannot read the token in " + directory_.File("token") + ": No such file or directory");
  for (const std::string& bad : {""s, "\n"s, "two lines\nof secrets"s,
                                 "a\x01"
                                 "b"s,
                                 std::string(70000, 'x')}) {
    WriteToken(bad);
    const auto client = SaslClient::Make(Credentials());
    ASSERT_FALSE(client);
    EXPECT_THAT(client.error().message, Not(HasSubstr("secrets")));
  }
}

}  // namespace
}  // namespace holdfast::net
