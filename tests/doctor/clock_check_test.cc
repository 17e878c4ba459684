#include "cli/doctor/clock_check.h"

#include <gtest/gtest.h>

#include "tests/doctor/finding_matchers.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using Problems = std::vector<Event>;

constexpr int64_t kNow = 1'800'000'000'000;

TEST(ClockCheckTest, AClockThatIsKeptIsGood) {
  const auto findings =
      CheckClock(ClockState{.synchronised = true, .error_us_max = 2000}, kNow, kNow - 5);
  EXPECT_EQ(ProblemsOf(findings), Problems{});
  EXPECT_EQ(findings.CountOf(Severity::kGood), 1);
}

TEST(ClockCheckTest, OneThatNobodyKeepsIsNot) {
  EXPECT_EQ(ProblemsOf(CheckClock(ClockState{}, kNow, {})), Problems{Event::kClockUnsynchronised});
  EXPECT_EQ(ProblemsOf(CheckClock(ClockState{.synchronised = true, .error_us_max = 3'600'000'000},
                                  kNow, {})),
            Problems{Event::kClockUnsynchronised});
}

TEST(ClockCheckTest, WhereTheKernelDoesNotTellNothingIsSaid) {
  EXPECT_EQ(ProblemsOf(CheckClock(std::nullopt, kNow, {})), Problems{});
}

TEST(ClockCheckTest, RecordsOfTheFutureShowAClockThatWentBack) {
  const ClockState kept{.synchronised = true};
  EXPECT_EQ(ProblemsOf(CheckClock(kept, kNow, kNow + 500)), Problems{});
  EXPECT_EQ(ProblemsOf(CheckClock(kept, kNow, kNow + 60'000)), Problems{Event::kClockBehindSpool});
}

}  // namespace
}  // namespace holdfast::cli::doctor
