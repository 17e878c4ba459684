#include "base/log.h"

#include <gtest/gtest.h>

namespace holdfast::base {
namespace {

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    SetLogFormat(LogFormat::kText);
    SetLogLevel(LogLevel::kInfo);
  }
};

TEST_F(LogTest, TextNamesThePart) {
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kWarn, "spool", "lost {} frames", 3);
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find("spool: lost 3 frames"), std::string::npos) << line;
}

TEST_F(LogTest, JsonEscapesWhatAMessageMayHold) {
  SetLogFormat(LogFormat::kJson);
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kError, "net", "bad \"frame\"\n");
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(R"("part":"net","message":"bad \"frame\"\u000a"})"), std::string::npos)
      << line;
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  SetLogLevel(LogLevel::kError);
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kWarn, "net", "quiet");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(LogTest, AnUnknownLevelIsRefusedWithTheKnownOnes) {
  const auto level = ParseLogLevel("loud");
  ASSERT_FALSE(level);
  EXPECT_NE(level.error().message.find("use debug, info, warn or error"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::base
