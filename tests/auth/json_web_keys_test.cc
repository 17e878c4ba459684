#include "auth/json_web_keys.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/auth/token_issuer.h"

namespace holdfast::auth {
namespace {

using base::Code;
using test::Base64Url;
using test::TokenIssuer;

std::string SetOf(const std::string& keys) { return R"({"keys":[)" + keys + "]}"; }

// The error's code, or none.
std::optional<Code> CodeOf(const std::string& keys, const std::string& token) {
  const auto set = JsonWebKeys::Parse(SetOf(keys));
  if (!set) return set.error().code;
  const auto parsed = JsonWebToken::Parse(token);
  if (!parsed) return parsed.error().code;
  const auto verified = (*set)->Verify(*parsed);
  if (verified) return std::nullopt;
  return verified.error().code;
}

// RFC 7515, appendices A.2, A.3 and A.4.
TEST(JsonWebKeysTest, TheStandardsExamplesAreSignedByItsKeys) {
  const std::string claims =
      "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl"
      "fQ";
  EXPECT_EQ(
      CodeOf(
          R"({"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26)"
          "mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2"
          "jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg66"
          "5xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFk"
          R"(MLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})",
          "eyJhbGciOiJSUzI1NiJ9." + claims +
              ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF"
              "5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h"
              "6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZES"
              "c6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN"
              "_IoypGlUPQGe77Rw"),
      std::nullopt);
  EXPECT_EQ(CodeOf(R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                   R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})",
                   "eyJhbGciOiJFUzI1NiJ9." + claims +
                       ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJ"
                       "qPP3-Kg6NU1Q"),
            std::nullopt);
  EXPECT_EQ(
      CodeOf(
          R"({"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5E)"
          R"(OnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMox)"
          R"(Vg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"})",
          "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1b"
          "KPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzD"
          "O7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"),
      std::nullopt);
}

class AlgorithmTest : public ::testing::TestWithParam<std::string> {};

TEST_P(AlgorithmTest, OnlyWhatTheKeySignedIsTaken) {
  const TokenIssuer issuer(GetParam(), "one");
  const TokenIssuer other(GetParam(), "one");
  const std::string token = issuer.Token(R"({"sub":"a"})");
  EXPECT_EQ(CodeOf(issuer.PublicKey(), token), std::nullopt);
  EXPECT_EQ(CodeOf(other.PublicKey(), token), Code::kInvalid);
  // With both under one id, each counts.
  EXPECT_EQ(CodeOf(other.PublicKey() + "," + issuer.PublicKey(), token), std::nullopt);
  EXPECT_EQ(JsonWebToken::Parse(token)->claims, R"({"sub":"a"})");

  const size_t end = token.rfind('.');
  EXPECT_EQ(CodeOf(issuer.PublicKey(), token.substr(0, end + 1)), Code::kInvalid);
  EXPECT_EQ(CodeOf(issuer.PublicKey(), token.substr(0, token.size() - 4)), Code::kInvalid);
  const std::string header = token.substr(0, token.find('.'));
  EXPECT_EQ(CodeOf(issuer.PublicKey(),
                   header + "." + Base64Url(R"({"sub":"b"})") + "." + token.substr(end + 1)),
            Code::kInvalid);
}

TEST_P(AlgorithmTest, AKeyIsFoundByItsIdAndItsUse) {
  const TokenIssuer issuer(GetParam(), "one");
  const std::string token = issuer.Token("{}");
  const std::string unnamed = issuer.Signed(R"({"alg":")" + GetParam() + R"("})", "{}");
  const std::string elsewhere =
      issuer.Signed(R"({"alg":")" + GetParam() + R"(","kid":"two"})", "{}");
  EXPECT_EQ(CodeOf(issuer.PublicKey(R"(,"use":"sig","alg":")" + GetParam() + R"(")"), token),
            std::nullopt);
  EXPECT_EQ(CodeOf(issuer.PublicKey(), unnamed), std::nullopt);
  EXPECT_EQ(CodeOf(issuer.PublicKey(), elsewhere), Code::kNotFound);
  EXPECT_EQ(CodeOf(issuer.PublicKey(R"(,"alg":"RS999")"), token), Code::kNotFound);
  EXPECT_EQ(CodeOf(issuer.PublicKey(R"(,"use":"enc")"), token), Code::kInvalid);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, AlgorithmTest,
                         ::testing::Values("RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
                                           "ES256", "ES384", "ES512"),
                         [](const auto& each) { return each.param; });

TEST(JsonWebKeysTest, AnAlgorithmIsTheIssuersChoiceAndNotTheTokens) {
  const TokenIssuer rsa("RS256", "one");
  const TokenIssuer ec("ES256", "one");
  for (const std::string algorithm : {"none", "NONE", "HS256", "rs256", "", "RS257", "EdDSA"}) {
    const std::string header = R"({"alg":")" + algorithm + R"("})";
    EXPECT_EQ(CodeOf(rsa.PublicKey(), rsa.Signed(header, "{}")), Code::kInvalid) << algorithm;
    EXPECT_EQ(CodeOf(rsa.PublicKey(), Base64Url(header) + "." + Base64Url("{}") + "."),
              Code::kInvalid);
  }
  EXPECT_EQ(CodeOf(rsa.PublicKey(), rsa.Signed(R"({"alg":"PS256"})", "{}")), Code::kInvalid);
  EXPECT_EQ(CodeOf(rsa.PublicKey(), ec.Token("{}")), Code::kNotFound);
  EXPECT_EQ(CodeOf(ec.PublicKey(), ec.Signed(R"({"alg":"ES384"})", "{}")), Code::kInvalid);
}

TEST(JsonWebKeysTest, WhatIsNoSetOfKeysIsNotTaken) {
  const TokenIssuer weak("RS256", "one", 1024);
  const std::string point = R"("x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
                            R"("y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")";
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string(R"({"keys":{}})"),
        SetOf(""), SetOf("1"), SetOf(R"({"kty":"RSA"})"), SetOf(R"({"kty":"oct","k":"AAAA"})"),
        SetOf(R"({"kty":"EC"})"), SetOf(R"({"kty":"EC","crv":"P-256",)" + point + "}"),
        SetOf(R"({"kty":"RSA","n":1,"e":{}})"), SetOf(weak.PublicKey())}) {
    const auto set = JsonWebKeys::Parse(text);
    ASSERT_FALSE(set) << text;
    EXPECT_EQ(set.error().code, Code::kInvalid);
  }
  // Unknown ones beside good ones are passed over.
  const TokenIssuer good("ES256", "two");
  const auto set = JsonWebKeys::Parse(SetOf(R"({"kty":"OKP","crv":"Ed25519","x":"AAAA"},)" +
                                            weak.PublicKey() + "," + good.PublicKey()));
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ((*set)->size(), 1u);
}

TEST(JsonWebKeysTest, WhatIsNoTokenIsNotTaken) {
  const std::string good = Base64Url(R"({"alg":"RS256"})");
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("a.b.c"), good + "." + good,
        good + ".." + good + ".", "=" + good + "..", good + ".A.", good + "..A",
        Base64Url("[]") + "..", Base64Url(R"({"alg":"RS256","crit":["exp"]})") + ".."}) {
    EXPECT_FALSE(JsonWebToken::Parse(text)) << text;
  }
  EXPECT_EQ(JsonWebToken::Parse(good + "..")->algorithm, "RS256");
}

}  // namespace
}  // namespace holdfast::auth
