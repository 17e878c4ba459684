#include "proxy/tier_security.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "base/base64.h"
#include "tests/support/certificates.h"

namespace holdfast::proxy {
namespace {

using net::SaslMechanism;

class PrincipalTest : public testing::Test {
 protected:
  std::string OfPassword(SaslMechanism mechanism, std::string name, std::string password) {
    return PrincipalOf({.sasl = {{.mechanism = mechanism,
                                  .username = std::move(name),
                                  .password = std::move(password)}}});
  }
  std::string OfCertificate(const std::string& name) {
    auto tls = net::TlsCredentials::Load({.ca_location = directory_.File("ca.pem"),
                                          .certificate_location = directory_.File(name + ".pem"),
                                          .key_location = directory_.File(name + ".key")});
    EXPECT_TRUE(tls) << tls.error().message;
    return PrincipalOf({.tls = *tls});
  }
  std::string OfToken(const std::string& claims,
                      std::vector<std::pair<std::string, std::string>> extensions = {}) {
    std::string encoded = base::ToBase64(claims);  // And then as RFC 7515 has it.
    std::ranges::replace(encoded, '+', '-');
    std::ranges::replace(encoded, '/', '_');
    encoded.resize(std::min(encoded.find('='), encoded.size()));
    return OfOpaque("e30." + encoded + ".c2ln", std::move(extensions));
  }
  std::string OfOpaque(const std::string& token,
                       std::vector<std::pair<std::string, std::string>> extensions = {}) {
    std::ofstream(directory_.File("token")) << token << "\n";
    return PrincipalOf({.sasl = {{.mechanism = SaslMechanism::kOauthBearer,
                                  .token_file = directory_.File("token"),
                                  .extensions = std::move(extensions)}}});
  }

  const test::TestDirectory directory_;
};

TEST_F(PrincipalTest, IsTheUserWhateverThePassword) {
  EXPECT_EQ(OfPassword(SaslMechanism::kScramSha512, "orders", "a"), "SCRAM-SHA-512 orders");
  EXPECT_EQ(OfPassword(SaslMechanism::kScramSha512, "orders", "b"), "SCRAM-SHA-512 orders");
  EXPECT_EQ(OfPassword(SaslMechanism::kPlain, "orders", "a"), "PLAIN orders");
  EXPECT_EQ(PrincipalOf({}), "nobody");
}

TEST_F(PrincipalTest, IsTheSubjectWhateverTheCertificate) {
  test::TestAuthority ca(directory_, "ca");
  ca.Issue("one", {.name = "orders"});
  ca.Issue("renewed", {.name = "orders"});
  ca.Issue("other", {.name = "others"});
  EXPECT_EQ(OfCertificate("one"), "certificate CN=orders");
  EXPECT_EQ(OfCertificate("renewed"), OfCertificate("one"));
  EXPECT_NE(OfCertificate("other"), OfCertificate("one"));
  auto only_ca = net::TlsCredentials::Load({.ca_location = directory_.File("ca.pem")});
  EXPECT_EQ(PrincipalOf({.tls = *only_ca}), "nobody");
}

TEST_F(PrincipalTest, IsTheUriToo) {
  test::TestAuthority ca(directory_, "ca");
  ca.Issue("one", {.name = "SPIRE", .hosts = "URI:spiffe://a/one,DNS:host"});
  ca.Issue("renewed", {.name = "SPIRE", .hosts = "DNS:other,URI:spiffe://a/one"});
  ca.Issue("two", {.name = "SPIRE", .hosts = "URI:spiffe://a/two"});
  ca.Issue("both", {.name = "SPIRE", .hosts = "URI:spiffe://a/two,URI:spiffe://a/one"});
  ca.Issue("neither", {.name = "SPIRE"});
  ca.Issue("only", {.name = "", .hosts = "URI:spiffe://a/one"});
  ca.Issue("none", {.name = "", .hosts = "DNS:host"});
  EXPECT_EQ(OfCertificate("one"), "certificate 14:spiffe://a/one CN=SPIRE");
  EXPECT_EQ(OfCertificate("renewed"), OfCertificate("one"));
  EXPECT_EQ(OfCertificate("two"), "certificate 14:spiffe://a/two CN=SPIRE");
  EXPECT_EQ(OfCertificate("both"), "certificate 14:spiffe://a/one 14:spiffe://a/two CN=SPIRE");
  EXPECT_EQ(OfCertificate("neither"), "certificate CN=SPIRE");
  EXPECT_EQ(OfCertificate("only"), "certificate 14:spiffe://a/one");
  EXPECT_EQ(OfCertificate("none"), "");
}

TEST_F(PrincipalTest, IsWhomTheTokenNamesWhicheverItIs) {
  const std::string one = OfToken(R"({"iss":"i","sub":"orders?>","exp":1})");
  EXPECT_EQ(one, "OAUTHBEARER 8:orders?> of 1:i");
  EXPECT_EQ(OfToken(R"({"iss":"i","sub":"orders?>","exp":22})"), one);
  EXPECT_NE(OfToken(R"({"iss":"j","sub":"orders?>"})"), one);
  EXPECT_NE(OfToken(R"({"iss":"i","sub":"others"})"), one);
  EXPECT_NE(OfToken(R"({"iss":"i","sub":"orders?>"})", {{"identityPoolId", "p"}}), one);
  for (const char* claims : {R"({"iss":"i"})", R"({"sub":7})", "[]", "no JSON"})
    EXPECT_EQ(OfToken(claims), "") << claims;
  for (const char* opaque : {"opaque", "a.b", "a.%.c", ""}) EXPECT_EQ(OfOpaque(opaque), "");
}

}  // namespace
}  // namespace holdfast::proxy
