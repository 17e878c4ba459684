#include "auth/principal_mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace holdfast::auth {
namespace {

using ::testing::HasSubstr;

std::string NameOf(const std::string& rules, const std::string& subject) {
  const auto mapping = PrincipalMapping::Parse(rules);
  if (!mapping) return mapping.error().message;
  return (*mapping)->NameOf(subject).value_or("nobody");
}

// Those of Kafka's documentation.
TEST(PrincipalMappingTest, TheFirstRuleThatFitsCounts) {
  const std::string rules = R"(RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,)"
                            R"(RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L,)"
                            R"(RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,DEFAULT)";
  EXPECT_EQ(
      NameOf(rules, "CN=serviceuser,OU=ServiceUsers,O=Unknown,L=Unknown,ST=Unknown,C=Unknown"),
      "serviceuser");
  EXPECT_EQ(NameOf(rules, "CN=adminUser,OU=Admin,O=Unknown,L=Unknown,ST=Unknown,C=Unknown"),
            "adminuser@admin");
  EXPECT_EQ(NameOf(rules, "O=Unknown,cn=Some.Body"), "some.body");
  EXPECT_EQ(NameOf(rules, "O=Unknown"), "O=Unknown");
  EXPECT_EQ(NameOf("RULE:^CN=(.*)$/$1/", "O=Unknown"), "nobody");
  EXPECT_EQ(NameOf(" RULE:^CN=(.*)$/$1/U , DEFAULT ", "CN=a"), "A");
  EXPECT_EQ(NameOf("DEFAULT", "CN=a"), "CN=a");
  EXPECT_EQ(NameOf("DEFAULT,", "CN=a"), "CN=a");
}

TEST(PrincipalMappingTest, AReplacementIsReadAsJavaDoes) {
  EXPECT_EQ(NameOf(R"(RULE:^CN=(.*),O=(.*)$/\$1\/$2$3$0\\/)", "CN=a,O=b"), "$1/b$3CN=a,O=b\\");
  EXPECT_EQ(NameOf(R"(RULE:^CN=(.*)$/$12$x$/)", "CN=a"), "a2$x$");
  EXPECT_EQ(NameOf(R"(RULE:^CN=(.*)$//)", "CN=a"), "");
  EXPECT_EQ(NameOf(R"(RULE:^CN=a\/b$/slash/)", "CN=a/b"), "slash");
  // Where it is found again, it is replaced again.
  EXPECT_EQ(NameOf("RULE:(.*)/<$1>/", "CN=a"), "<CN=a><>");
  EXPECT_EQ(NameOf("RULE:CN=(.*?)/$1/", "CN=a"), "a");
  EXPECT_EQ(NameOf("RULE:(CN=a|.)*/x/", "CN=a"), "xx");
}

TEST(PrincipalMappingTest, WhatIsNoRuleIsRefused) {
  for (const char* const rules :
       {"", ",", "default", "DEFAULT x", "RULE:", "RULE:a", "RULE:a/b", "RULE:a/b\\/", "RULE:a/b/X",
        "RULE:a/b/L DEFAULT", "RULE:(/b/", "RULE:(?=a)/b/", "RULE:(a)\\1/b/"}) {
    EXPECT_THAT(NameOf(rules, "CN=a"), HasSubstr("has \"")) << rules;
  }
}

}  // namespace
}  // namespace holdfast::auth
