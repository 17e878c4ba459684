#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/event.h"
#include "base/log_limit.h"

namespace holdfast::base {
namespace {

class LogTest : public ::testing::Test {
 protected:
  LogTest() { ResetLogLimit(); }
  ~LogTest() override {
    SetLogFormat(LogFormat::kText);
    SetLogLevel(LogLevel::kInfo);
  }
};

TEST_F(LogTest, TextNamesThePart) {
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kWarn, "spool", "lost {} frames", 3);
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(" warn  spool: lost 3 frames\n"), std::string::npos) << line;
}

// As log.level has it, and docs/errors.md.
TEST_F(LogTest, ALevelHasOneName) {
  SetLogLevel(LogLevel::kDebug);
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError}) {
    for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
      SetLogFormat(format);
      ::testing::internal::CaptureStderr();
      Log(level, "spool", "said");
      const std::string line = ::testing::internal::GetCapturedStderr();
      const std::string name(LogLevelName(level));
      EXPECT_EQ(*ParseLogLevel(name), level);
      const std::string written = format == LogFormat::kJson
                                      ? R"(","level":")" + name + R"(","part":"spool",)"
                                      : fmt::format(" {:<5} spool: said\n", name);
      EXPECT_NE(line.find(written), std::string::npos) << line;
    }
  }
}

TEST_F(LogTest, JsonEscapesWhatAMessageMayHold) {
  SetLogFormat(LogFormat::kJson);
  ::testing::internal::CaptureStderr();
  Log(LogLevel::kError, "net", "bad \"frame\"\n");
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(R"("part":"net","message":"bad \"frame\"\u000a"})"), std::string::npos)
      << line;
}

TEST_F(LogTest, WhatAPeerChoosesStaysInItsLine) {
  const std::string hostile = "a\nb\r\x1b[31m\x7f\xff\xc2\x9b ö\\";
  ::testing::internal::CaptureStderr();
  Log(Event::kLoginRefused, {"groups", hostile}, "left {}", hostile);
  const std::string text = ::testing::internal::GetCapturedStderr();
  const std::string shown = R"(a\x0ab\x0d\x1b[31m\x7f\xff\xc2\x9b ö\)";
  EXPECT_NE(text.find(" warn  HF5005 groups: " + shown + ": left " + shown + "\n"),
            std::string::npos)
      << text;

  SetLogFormat(LogFormat::kJson);
  ::testing::internal::CaptureStderr();
  Log(Event::kLoginRefused, {"groups", hostile}, "left");
  const std::string json = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(json.find(R"("subject":"a\u000ab\u000d\u001b[31m\u007f\ufffd\u009b ö\\",)"),
            std::string::npos)
      << json;
}

TEST_F(LogTest, AnEventHasItsLevelItsCodeAndWhatItIsAbout) {
  ::testing::internal::CaptureStderr();
  Log(Event::kStreamHeld, {"forward", "orders/3"}, "held: {}", "no right to write");
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find("error HF4002 forward: orders/3: held: no right to write\n"),
            std::string::npos)
      << line;
  const RecentLine kept = RecentLines().back();
  EXPECT_EQ(kept.event, Event::kStreamHeld);
  EXPECT_EQ(kept.level, LogLevel::kError);
  EXPECT_EQ(kept.message, "orders/3: held: no right to write");
}

TEST_F(LogTest, AnEventInJsonHasAFieldForEach) {
  SetLogFormat(LogFormat::kJson);
  ::testing::internal::CaptureStderr();
  Log(Event::kLoginRefused, {"sasl", "10.0.0.1:7"}, "refused \"{}\"", "bob");
  const std::string line = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(line.find(R"("level":"warn","code":"HF5005","part":"sasl",)"
                      R"("subject":"10.0.0.1:7","message":"refused \"bob\""})"),
            std::string::npos)
      << line;
}

TEST_F(LogTest, AStormOfOneEventIsAFewLinesAndANumber) {
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) Log(Event::kStreamDelayed, {"forward", "a/1"}, "again");
  Log(Event::kStreamDelayed, {"forward", "b/1"}, "another");
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::ranges::count(text, '\n'), LogLimit::kSubjectBurst + 1) << text;
  EXPECT_NE(text.find("b/1: another (997 more lines of HF4001 were left out)\n"), std::string::npos)
      << text;
}

TEST_F(LogTest, APartHasALevelOfItsOwn) {
  ASSERT_TRUE(SetLogLevel("net", LogLevel::kDebug));
  ASSERT_TRUE(SetLogLevel("spool", LogLevel::kError));
  EXPECT_TRUE(LogEnabled(LogLevel::kDebug, "net"));
  EXPECT_FALSE(LogEnabled(LogLevel::kDebug, "forward"));
  EXPECT_TRUE(LogEnabled(LogLevel::kInfo, "forward"));
  EXPECT_FALSE(LogEnabled(LogLevel::kWarn, "spool"));
  EXPECT_EQ(LogLevelOf("spool"), LogLevel::kError);

  SetLogLevel(LogLevel::kWarn);
  EXPECT_FALSE(LogEnabled(LogLevel::kInfo, "net"));
  EXPECT_TRUE(LogEnabled(LogLevel::kWarn, "spool"));

  const auto unknown = SetLogLevel("nett", LogLevel::kDebug);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("there are agent, broker"), std::string::npos);
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
