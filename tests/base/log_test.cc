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

TEST_F(LogTest, TheNewestLinesAreKept) {
  ::testing::internal::CaptureStderr();
  for (size_t i = 0; i < kRecentLines + 3; ++i) Log(LogLevel::kWarn, "spool", "line {}", i);
  Log(LogLevel::kDebug, "spool", "not of interest");
  static_cast<void>(::testing::internal::GetCapturedStderr());
  const std::vector<RecentLine> lines = RecentLines();
  ASSERT_EQ(lines.size(), kRecentLines);
  EXPECT_EQ(lines.front().message, "line 3");
  EXPECT_EQ(lines.back().message, fmt::format("line {}", kRecentLines + 2));
  EXPECT_EQ(lines.back().part, "spool");
  EXPECT_EQ(lines.back().level, LogLevel::kWarn);
  EXPECT_LE(lines.front().time_ms, lines.back().time_ms);
  EXPECT_GT(lines.front().time_ms, 0);
}

TEST_F(LogTest, AnUnknownLevelIsRefusedWithTheKnownOnes) {
  const auto level = ParseLogLevel("loud");
  ASSERT_FALSE(level);
  EXPECT_NE(level.error().message.find("use debug, info, warn or error"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::base
