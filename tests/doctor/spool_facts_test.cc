#include "cli/doctor/spool_facts.h"

#include <gtest/gtest.h>

#include "tests/agent/agent_fixture.h"

namespace holdfast::cli::doctor {
namespace {

class SpoolFactsTest : public agent::AgentFixture {};

TEST_F(SpoolFactsTest, CountsAreWholeAlsoIfNotAllIsLookedAt) {
  for (int i = 0; i < 3; ++i) Produce("a", i % 2, {"1", "2"});
  Produce("b", 0, {"3"});
  CloseSpool();
  const auto whole = LookIntoSpool(directory_, {});
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_FALSE(whole->cut_off);
  const auto cut = LookIntoSpool(directory_, {}, /*entries_max=*/2);
  ASSERT_TRUE(cut);
  EXPECT_TRUE(cut->cut_off);
  for (const auto* facts : {&*whole, &*cut}) {
    ASSERT_EQ(facts->waiting.size(), 2);
    EXPECT_EQ(facts->waiting.at("a").records, 6);
    EXPECT_EQ(facts->waiting.at("b").records, 1);
  }
  EXPECT_GT(whole->waiting.at("b").oldest_timestamp_ms, 0);
  EXPECT_EQ(cut->waiting.at("b").bytes, 0);
  EXPECT_EQ(cut->waiting.at("b").oldest_timestamp_ms, -1);
}

}  // namespace
}  // namespace holdfast::cli::doctor
