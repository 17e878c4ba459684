#include "agent/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <string>

namespace holdfast::agent {
namespace {

using ::testing::HasSubstr;

// A time in UTC. 2026-06-01 is a Monday.
int64_t Utc(const std::string& text) {
  std::tm time{};
  EXPECT_NE(strptime(text.c_str(), "%Y-%m-%d %H:%M", &time), nullptr) << text;
  return static_cast<int64_t>(timegm(&time)) * 1000;
}

Schedule Of(std::initializer_list<const char*> windows,
            Schedule::Clock clock = Schedule::Clock::kUtc) {
  std::vector<Schedule::Window> parsed;
  for (const char* text : windows) {
    const auto window = Schedule::ParseWindow(text);
    EXPECT_TRUE(window) << text;
    if (window) parsed.push_back(*window);
    parsed.back().bytes_per_second_max = parsed.size();  // To tell them apart.
  }
  return {std::move(parsed), clock};
}

TEST(ScheduleTest, WithoutWindowsEverythingAlwaysGoes) {
  EXPECT_EQ(Schedule().At(Utc("2026-06-01 12:00")), Schedule::State{});
  EXPECT_EQ(Schedule().NextChange(Utc("2026-06-01 12:00")), std::nullopt);
}

TEST(ScheduleTest, AWindowEndsBeforeItsLastMinute) {
  const Schedule schedule = Of({"09:30-17:00"});
  EXPECT_FALSE(schedule.At(Utc("2026-06-01 09:29")).open);
  EXPECT_TRUE(schedule.At(Utc("2026-06-01 09:30")).open);
  EXPECT_TRUE(schedule.At(Utc("2026-06-01 16:59") + 59'999).open);
  EXPECT_FALSE(schedule.At(Utc("2026-06-01 17:00")).open);
}

TEST(ScheduleTest, AWindowOverMidnightBelongsToTheDayOnWhichItBegins) {
  const Schedule schedule = Of({"Fri 22:00-06:00"});
  EXPECT_FALSE(schedule.At(Utc("2026-06-05 05:00")).open);  // Of Thursday.
  EXPECT_TRUE(schedule.At(Utc("2026-06-05 22:00")).open);
  EXPECT_TRUE(schedule.At(Utc("2026-06-06 05:59")).open);
  EXPECT_FALSE(schedule.At(Utc("2026-06-06 06:00")).open);
  EXPECT_FALSE(schedule.At(Utc("2026-06-06 22:00")).open);
}

TEST(ScheduleTest, DaysAreListsAndRangesThatMayPassTheWeeksEnd) {
  const Schedule schedule = Of({"Fri-Sun,Tue"});
  std::string open;
  for (int day = 1; day <= 7; ++day) {
    open += schedule.At(Utc("2026-06-0" + std::to_string(day) + " 12:00")).open ? 'o' : '-';
  }
  EXPECT_EQ(open, "-o--ooo");  // From Monday on.
  EXPECT_TRUE(Of({"Sat-Mon"}).At(Utc("2026-06-07 00:00")).open);
}

TEST(ScheduleTest, TheFirstWindowThatFitsCounts) {
  const Schedule schedule = Of({"12:00-13:00", "Mon-Fri 08:00-24:00"});
  EXPECT_EQ(schedule.At(Utc("2026-06-01 12:30")).bytes_per_second_max, 1U);
  EXPECT_EQ(schedule.At(Utc("2026-06-01 23:59")).bytes_per_second_max, 2U);
  EXPECT_EQ(schedule.NextChange(Utc("2026-06-01 12:30")), Utc("2026-06-01 13:00"));
  EXPECT_EQ(schedule.NextChange(Utc("2026-06-05 23:10") + 1), Utc("2026-06-06 00:00"));
  EXPECT_EQ(schedule.NextChange(Utc("2026-06-06 13:00")), Utc("2026-06-07 12:00"));
}

TEST(ScheduleTest, TheLocalClockKnowsSummerTime) {
  const char* const before = std::getenv("TZ");
  const std::string restored = before == nullptr ? "" : before;
  setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
  tzset();
  const Schedule schedule = Of({"22:00-06:00"}, Schedule::Clock::kLocal);
  EXPECT_TRUE(schedule.At(Utc("2026-01-10 21:00")).open);  // 22:00 there.
  EXPECT_FALSE(schedule.At(Utc("2026-01-10 20:59")).open);
  EXPECT_TRUE(schedule.At(Utc("2026-07-10 20:00")).open);
  EXPECT_EQ(schedule.NextChange(Utc("2026-03-28 22:00")), Utc("2026-03-29 04:00"));
  before == nullptr ? unsetenv("TZ") : setenv("TZ", restored.c_str(), 1);
  tzset();
}

TEST(ScheduleTest, WhatIsNoWindowIsRefusedWithAnExample) {
  for (const char* wrong :
       {"", "night", "22:00", "22:00-", "25:00-26:00", "24:00-01:00", "1:00-2:00", "12:00-12:00",
        "Mon-", "Mon,", "Mon 10:00", "mon 10:00-11:00", "10:60-11:00", "-1:00-11:00",
        "10:00-11:00 Mon", "Mon  10:00-11:00"}) {
    const auto window = Schedule::ParseWindow(wrong);
    ASSERT_FALSE(window) << wrong;
    EXPECT_THAT(window.error().message, HasSubstr("Mon-Fri 18:00-24:00")) << wrong;
  }
}

}  // namespace
}  // namespace holdfast::agent
