// The spool through its contract, on virtual time: what is appended is read back, also after
// reopening, over many segments, in any mixture of streams.
#include "spool/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using testing::ElementsAre;

TEST(SpoolTest, EntriesAreReadBackInOrder) {
  TemporaryDirectory directory;
  TestSpool spool(directory.path());
  ASSERT_TRUE(spool.Open());
  ASSERT_TRUE(spool.AppendNow("a", "one"));
  ASSERT_TRUE(spool.AppendNow("b", "two", 5));
  ASSERT_TRUE(spool.AppendNow("a", "three", 2));
  EXPECT_THAT(spool.ReadAll("a"), ElementsAre("one", "three"));
  EXPECT_THAT(spool.ReadAll("b"), ElementsAre("two"));
  const StreamId a = *spool.spool->FindStream("a");
  EXPECT_EQ(spool.spool->Range(a).end, 3);
  spool.Reopen();
  EXPECT_THAT(spool.ReadAll("a"), ElementsAre("one", "three"));
  EXPECT_EQ(*spool.spool->FindStream("a"), a);
  EXPECT_EQ(spool.Get("count/0"), "2");
}

TEST(SpoolTest, EntriesAreReadBackOverManySegments) {
  TemporaryDirectory directory;
  TestSpool spool(directory.path());
  ASSERT_TRUE(spool.Open());
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) {
    expected.push_back(std::string(50'000, static_cast<char>('a' + i % 26)) + std::to_string(i));
    ASSERT_TRUE(spool.AppendNow("stream", expected.back()));
  }
  EXPECT_GT(spool.spool->GetStatus().segments, 4u);
  EXPECT_EQ(spool.ReadAll("stream"), expected);
  spool.Reopen();
  EXPECT_EQ(spool.ReadAll("stream"), expected);
  EXPECT_EQ(spool.owner.seen[0], 100);
  EXPECT_EQ(spool.Get("count/0"), "100");
}

}  // namespace
}  // namespace holdfast::spool
