#include "inject/webhook_certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::inject {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kNow = 1'800'000'000;
constexpr int64_t kDay = 86400;
const std::vector<std::string> kNames{"injector.holdfast.svc", "injector.example.com"};

WebhookCertificate Make(int64_t now = kNow) {
  const auto made = MakeCertificate(kNames, now, 90 * kDay);
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

std::string WrongWith(const WebhookCertificate& tls, int64_t at = kNow,
                      const std::vector<std::string>& names = kNames) {
  const auto good = CheckCertificate(tls, names, at);
  return good ? "" : good.error().message;
}

TEST(WebhookCertificateTest, HoldsForItsNamesAndItsTime) {
  const WebhookCertificate made = Make();
  EXPECT_EQ(EndOf(made.certificate), kNow + 90 * kDay);
  EXPECT_EQ(WrongWith(made), "");
  EXPECT_EQ(WrongWith(made, kNow - 60), "") << "clocks are not all the same";
  EXPECT_EQ(WrongWith(made, kNow + 90 * kDay - 1), "");
  EXPECT_THAT(WrongWith(made, kNow + 90 * kDay + 1), HasSubstr("expired"));
  EXPECT_THAT(WrongWith(made, kNow - kDay), HasSubstr("not yet valid"));
  EXPECT_THAT(WrongWith(made, kNow, {"injector"}), HasSubstr("not for injector"));
}

TEST(WebhookCertificateTest, WhatDoesNotBelongTogetherIsNotGood) {
  WebhookCertificate made = Make();
  const WebhookCertificate other = Make();
  EXPECT_THAT(WrongWith({made.ca, made.certificate, other.key}), HasSubstr("the key is not"));
  EXPECT_NE(WrongWith({other.ca, made.certificate, made.key}), "");
  EXPECT_THAT(WrongWith({made.ca, "", made.key}), HasSubstr("no certificate"));
  EXPECT_THAT(WrongWith({made.ca, "nonsense", made.key}), HasSubstr("no certificate"));
  EXPECT_THAT(WrongWith({made.ca, made.certificate, ""}), HasSubstr("the key is not"));
  EXPECT_NE(WrongWith({"", made.certificate, made.key}), "");
  EXPECT_EQ(EndOf("nonsense"), 0);
}

TEST(WebhookCertificateTest, TheOldCaIsTrustedUntilItEnds) {
  const WebhookCertificate old = Make(kNow - 80 * kDay);
  const WebhookCertificate renewed = Make();
  const std::string both = JoinCas(renewed.ca, old.ca, kNow);
  EXPECT_EQ(WrongWith({both, old.certificate, old.key}), "");
  EXPECT_EQ(WrongWith({both, renewed.certificate, renewed.key}), "");
  EXPECT_EQ(JoinCas(renewed.ca, both, kNow), both) << "none twice";
  EXPECT_EQ(JoinCas(renewed.ca, old.ca, kNow + 11 * kDay), renewed.ca);
}

TEST(WebhookCertificateTest, TakesDnsNamesOnly) {
  for (const char* name : {"", "a,DNS:b", "a b", "Name", "*.example.com", "a\n"})
    EXPECT_FALSE(MakeCertificate({name}, kNow, kDay)) << name;
}

}  // namespace
}  // namespace holdfast::inject
