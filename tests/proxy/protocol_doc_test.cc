// The agent's table in docs/protocol.md is printed from proxy/api_policy.cc. After a change of it:
//
//   HOLDFAST_PRINT=1 build/dev/tests/proxy/proxy_test --gtest_filter='ProtocolDoc*'
#include <gtest/gtest.h>

#include "proxy/api_policy.h"
#include "tests/support/printed_table.h"

namespace holdfast::proxy {
namespace {

TEST(ProtocolDocTest, TableIsWhatTheAgentDoes) {
  test::ExpectPrinted("docs/protocol.md", "proxy/api_policy.cc", RenderApiPolicies());
}

TEST(ApiPolicyTest, WhatIsNotKnownPassesThrough) {
  EXPECT_EQ(PolicyOf(12).name, "Heartbeat");
  EXPECT_EQ(PolicyOf(0).way, Way::kHere);
  for (const int16_t key : {int16_t{-1}, int16_t{4}, int16_t{93}, int16_t{1000}}) {
    EXPECT_EQ(PolicyOf(key).way, Way::kPassed);
    EXPECT_EQ(PolicyOf(key).newest, kafka::kNever);
  }
}

}  // namespace
}  // namespace holdfast::proxy
