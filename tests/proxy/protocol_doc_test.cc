// The agent's table in docs/protocol.md is printed from proxy/api_policy.cc. After a change of it:
//
//   HOLDFAST_PRINT=1 build/dev/tests/proxy/proxy_test --gtest_filter='ProtocolDoc*'
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "proxy/api_policy.h"
#include "tests/support/source_path.h"

namespace holdfast::proxy {
namespace {

constexpr std::string_view kBegin = "<!-- printed from proxy/api_policy.cc: begin -->\n";
constexpr std::string_view kEnd = "<!-- printed from proxy/api_policy.cc: end -->\n";

TEST(ProtocolDocTest, TableIsWhatTheAgentDoes) {
  const std::string file = test::SourcePath("docs/protocol.md");
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string checked_in = text.str();
  const size_t begin = checked_in.find(kBegin);
  const size_t end = checked_in.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << file << " has no mark for the table";
  ASSERT_NE(end, std::string::npos) << file << " has no mark for the table's end";

  const std::string printed = checked_in.substr(0, begin) + std::string(kBegin) +
                              RenderApiPolicies() + checked_in.substr(end);
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << printed;
  EXPECT_EQ(checked_in, printed)
      << "run HOLDFAST_PRINT=1 proxy_test --gtest_filter='ProtocolDoc*' to print it anew";
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
