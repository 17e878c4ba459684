#include "cli/doctor/finding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/doctor/finding_matchers.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using testing::HasSubstr;

TEST(FindingTest, AProblemIsPrintedWithWhyItMattersAndWhatToDo) {
  Findings disk(Area::kDisk);
  disk.Good("there is room");
  disk.Trouble(Event::kVolatileFileSystem, "agent.spool is on tmpfs");
  const std::string text = PrintText(std::vector{disk});
  EXPECT_THAT(text, HasSubstr("disk\n  good     there is room\n  error    HF9101  agent.spool is "
                              "on tmpfs\n           why  The file system is memory"));
  EXPECT_THAT(text, HasSubstr("\n           do   Put the directory on a disk"));
  EXPECT_THAT(text, HasSubstr("\n1 error, 0 warnings\n"));
}

TEST(FindingTest, WithoutProblemsNothingIsWrong) {
  Findings clock(Area::kClock);
  clock.Note("nobody knows");
  EXPECT_EQ(PrintText(std::vector{clock}), "clock\n  note     nobody knows\nnothing is wrong\n");
}

TEST(FindingTest, JsonHasEveryFindingWithItsCode) {
  Findings upstream(Area::kUpstream);
  upstream.Good("connected");
  upstream.Trouble(Event::kTopicMissing, Severity::kWarning, "topic \"a\" is not there");
  const auto json = nlohmann::json::parse(PrintJson(std::vector{upstream}));
  EXPECT_EQ(json["error"], 0);
  EXPECT_EQ(json["warning"], 1);
  EXPECT_EQ(json["good"], 1);
  ASSERT_EQ(json["findings"].size(), 2);
  EXPECT_TRUE(json["findings"][0]["code"].is_null());
  const auto& problem = json["findings"][1];
  EXPECT_EQ(problem["area"], "upstream");
  EXPECT_EQ(problem["severity"], "warning");
  EXPECT_EQ(problem["code"], "HF9317");
  EXPECT_EQ(problem["what"], "topic \"a\" is not there");
  EXPECT_EQ(problem["do"], base::InfoOf(Event::kTopicMissing).remedy);
}

TEST(FindingTest, AnEventsLevelIsAFindingsSeverity) {
  EXPECT_EQ(SeverityOf(Event::kVolatileFileSystem), Severity::kError);
  EXPECT_EQ(SeverityOf(Event::kSlowFlushes), Severity::kWarning);
}

}  // namespace
}  // namespace holdfast::cli::doctor
