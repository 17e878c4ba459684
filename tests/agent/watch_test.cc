#include "agent/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "tests/support/manual_executor.h"
#include "tests/support/notify_listener.h"

namespace holdfast::agent {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::Not;

// The watchdog waits for eight seconds. The second of the watched loops has a clock of its own, so
// that it hangs while only the other clock goes on.
class WatchTest : public ::testing::Test {
 protected:
  WatchTest() {
    HF_CHECK(supervisor_.has_value());
    watch_.Start();
  }

  static size_t Beats(const std::vector<std::string>& messages) {
    return static_cast<size_t>(std::ranges::count(messages, "WATCHDOG=1"));
  }
  size_t BeatsWithin(seconds time, bool hangs) {
    size_t beats = 0;
    for (auto second = seconds(0); second < time; ++second) {
      clock_.Advance(seconds(1));
      if (!hangs) other_clock_.RunUntilIdle();
      beats += Beats(manager_.Take());  // A socket holds few messages.
    }
    return beats;
  }

  test::NotifyListener manager_{"@holdfast-watch-" + std::to_string(getpid()), "8000000"};
  base::Result<base::Supervisor> supervisor_ = base::Supervisor::FromEnvironment();
  test::ManualClock clock_;
  test::ManualClock other_clock_;
  test::ManualExecutor loop_{clock_};
  test::ManualExecutor watched_{clock_};
  test::ManualExecutor other_{other_clock_};
  std::string status_ = "3 records wait";
  Watch watch_{{.loop = loop_,
                .supervisor = *supervisor_,
                .watched = {&watched_, &other_},
                .status = [this] { return status_; }}};
};

TEST_F(WatchTest, BeatsSeveralTimesWhileTheWatchdogWaits) {
  EXPECT_GE(BeatsWithin(seconds(80), /*hangs=*/false), 30U);
}

TEST_F(WatchTest, NoBeatFollowsTheRoundThatALoopDoesNotAnswer) {
  EXPECT_EQ(BeatsWithin(seconds(80), /*hangs=*/true), 1U);  // The one of the start.
  // A loop that answers late is alive after all.
  other_clock_.RunUntilIdle();
  EXPECT_GE(BeatsWithin(seconds(8), /*hangs=*/false), 3U);
}

TEST_F(WatchTest, ShowsTheStatusWhenItHasChanged) {
  EXPECT_THAT(manager_.Take(), Contains("STATUS=3 records wait"));
  clock_.Advance(seconds(60));
  EXPECT_THAT(manager_.Take(), Not(Contains("STATUS=3 records wait")));
  status_ = "none wait";
  clock_.Advance(Watch::kStatusEvery);
  EXPECT_THAT(manager_.Take(), Contains("STATUS=none wait"));
}

TEST(WatchWithoutWatchdogTest, SendsNoBeats) {
  test::NotifyListener manager("@holdfast-no-watchdog-" + std::to_string(getpid()));
  const auto supervisor = base::Supervisor::FromEnvironment();
  ASSERT_TRUE(supervisor);
  test::ManualClock clock;
  test::ManualExecutor loop(clock);
  Watch watch({.loop = loop, .supervisor = *supervisor, .watched = {}, .status = [] {
                 return std::string("fine");
               }});
  watch.Start();
  clock.Advance(seconds(60));
  EXPECT_THAT(manager.Take(), ::testing::ElementsAre("STATUS=fine"));
}

}  // namespace
}  // namespace holdfast::agent
