#include "base/log_limit.h"

#include <gtest/gtest.h>

#include <string>

#include "base/event.h"

namespace holdfast::base {
namespace {

using std::chrono::seconds;

// Far from the clock's beginning, as a real one.
constexpr TimePoint kStart{std::chrono::hours(1000)};

TEST(LogLimitTest, AfterABurstThereIsOneLineInAnIntervalWhichTellsWhatWasLeftOut) {
  LogLimit limit;
  for (int i = 0; i < LogLimit::kBurst; ++i)
    EXPECT_EQ(limit.Admit(Event::kStreamHeld, {}, kStart), 0U) << i;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(limit.Admit(Event::kStreamHeld, {}, kStart));
  EXPECT_FALSE(
      limit.Admit(Event::kStreamHeld, {}, kStart + LogLimit::kInterval - std::chrono::seconds(1)));
  EXPECT_EQ(limit.Admit(Event::kStreamHeld, {}, kStart + LogLimit::kInterval), 6U);
  EXPECT_FALSE(limit.Admit(Event::kStreamHeld, {}, kStart + LogLimit::kInterval));
  EXPECT_EQ(limit.Admit(Event::kStreamHeld, {}, kStart + 2 * LogLimit::kInterval), 1U);
}

TEST(LogLimitTest, AQuietEventHasItsBurstAgain) {
  LogLimit limit;
  for (int i = 0; i < LogLimit::kBurst; ++i)
    ASSERT_TRUE(limit.Admit(Event::kStreamHeld, {}, kStart));
  const TimePoint later = kStart + LogLimit::kBurst * LogLimit::kInterval;
  for (int i = 0; i < LogLimit::kBurst; ++i)
    EXPECT_TRUE(limit.Admit(Event::kStreamHeld, {}, later)) << i;
  EXPECT_FALSE(limit.Admit(Event::kStreamHeld, {}, later));
}

TEST(LogLimitTest, EventsDoNotLimitEachOther) {
  LogLimit limit;
  for (int i = 0; i < 1000; ++i) static_cast<void>(limit.Admit(Event::kStreamDelayed, "a", kStart));
  EXPECT_EQ(limit.Admit(Event::kStreamHeld, "a", kStart), 0U);
}

TEST(LogLimitTest, ANoisySubjectLeavesRoomToTheOthers) {
  LogLimit limit;
  int noisy = 0;
  for (int second = 0; second < 60; ++second) {
    for (int i = 0; i < 100; ++i)
      noisy += limit.Admit(Event::kStreamDelayed, "noisy/0", kStart + seconds(second)) ? 1 : 0;
  }
  EXPECT_EQ(noisy, LogLimit::kSubjectBurst);
  EXPECT_EQ(limit.Admit(Event::kStreamDelayed, "quiet/0", kStart + seconds(59)), 5997U);
}

TEST(LogLimitTest, ManySubjectsAtOnceAreLimitedTogether) {
  LogLimit limit;
  uint64_t lines = 0;
  uint64_t left_out = 0;
  for (int second = 0; second < 60; ++second) {
    for (int i = 0; i < 10'000; ++i) {
      const auto admitted = limit.Admit(Event::kStreamDelayed, "topic/" + std::to_string(i),
                                        kStart + seconds(second));
      if (!admitted) continue;
      ++lines;
      left_out += *admitted;
    }
  }
  EXPECT_EQ(lines, LogLimit::kBurst + 60 / 10 - 1);
  const auto last = limit.Admit(Event::kStreamDelayed, "topic/x", kStart + seconds(60));
  ASSERT_TRUE(last);
  EXPECT_EQ(lines + left_out + *last, 600'000U) << "each was written or counted";
}

}  // namespace
}  // namespace holdfast::base
