#include "base/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/notify_listener.h"

namespace holdfast::base {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string PathOf(const std::string& name) {
  return ::testing::TempDir() + name + std::to_string(getpid());
}

TEST(SupervisorTest, HearsWhatTheServiceDoes) {
  test::NotifyListener manager(PathOf("notify"));
  const auto supervisor = Supervisor::FromEnvironment();
  ASSERT_TRUE(supervisor) << supervisor.error().message;
  EXPECT_TRUE(supervisor->present());
  EXPECT_EQ(supervisor->watchdog(), Duration::zero());
  supervisor->Ready("serves\nwell");
  supervisor->Reloading();
  supervisor->Reloaded();
  supervisor->Status("waits");
  supervisor->Beat();
  supervisor->Stopping(std::chrono::milliseconds(1500));
  EXPECT_THAT(manager.Take(),
              ElementsAre("READY=1\nSTATUS=serves well", StartsWith("RELOADING=1\nMONOTONIC_USEC="),
                          "READY=1", "STATUS=waits", "WATCHDOG=1",
                          "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=1500000"));
}

TEST(SupervisorTest, MayListenInTheAbstractSpace) {
  test::NotifyListener manager("@holdfast-test-" + std::to_string(getpid()));
  const auto supervisor = Supervisor::FromEnvironment();
  ASSERT_TRUE(supervisor) << supervisor.error().message;
  supervisor->Beat();
  EXPECT_THAT(manager.Take(), ElementsAre("WATCHDOG=1"));
}

TEST(SupervisorTest, NobodyIsToldWithoutASocket) {
  const auto supervisor = Supervisor::FromEnvironment();
  ASSERT_TRUE(supervisor);
  EXPECT_FALSE(supervisor->present());
  supervisor->Ready("serves");
}

TEST(SupervisorTest, AWatchdogMayBeMeantForAnotherProcess) {
  test::NotifyListener manager(PathOf("watchdog"), "3000000");
  EXPECT_EQ(Supervisor::FromEnvironment()->watchdog(), std::chrono::seconds(3));
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  EXPECT_EQ(Supervisor::FromEnvironment()->watchdog(), std::chrono::seconds(3));
  setenv("WATCHDOG_PID", std::to_string(getpid() + 1).c_str(), 1);
  EXPECT_EQ(Supervisor::FromEnvironment()->watchdog(), Duration::zero());
}

std::string WhyNot() {
  const auto supervisor = Supervisor::FromEnvironment();
  return supervisor ? "" : supervisor.error().message;
}

TEST(SupervisorTest, AWrongEnvironmentIsNamed) {
  setenv("NOTIFY_SOCKET", "run/notify", 1);
  EXPECT_THAT(WhyNot(), HasSubstr("NOTIFY_SOCKET=run/notify"));
  setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
  EXPECT_THAT(WhyNot(), HasSubstr("cannot reach NOTIFY_SOCKET=/nonexistent/notify"));
  test::NotifyListener manager(PathOf("wrong"), "soon");
  EXPECT_THAT(WhyNot(), HasSubstr("WATCHDOG_USEC=soon is no number"));
}

}  // namespace
}  // namespace holdfast::base
