// The tables of docs/errors.md are printed from base/events.def. After a change of it:
//
//   HOLDFAST_PRINT=1 build/dev/tests/base/base_test --gtest_filter='ErrorsDoc*'
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "base/event.h"
#include "tests/support/source_path.h"

namespace holdfast::base {
namespace {

constexpr std::string_view kBegin = "<!-- printed from base/events.def: begin -->\n";
constexpr std::string_view kEnd = "<!-- printed from base/events.def: end -->\n";

std::string Tables() {
  std::string text;
  std::string_view area;
  for (const EventInfo& info : Events()) {
    if (EventAreaName(info.event) != area) {
      area = EventAreaName(info.event);
      text += fmt::format("\n## {}\n\n| code | level | what it means | what to do |\n", area);
      text += "| --- | --- | --- | --- |\n";
    }
    text += fmt::format("| {} | {} | {} | {} |\n", EventCode(info.event), LogLevelName(info.level),
                        info.meaning, info.remedy);
  }
  return text + "\n";
}

TEST(ErrorsDocTest, TablesAreWhatTheCatalogueSays) {
  const std::string file = test::SourcePath("docs/errors.md");
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string checked_in = text.str();
  const size_t begin = checked_in.find(kBegin);
  const size_t end = checked_in.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << file << " has no mark for the tables";
  ASSERT_NE(end, std::string::npos) << file << " has no mark for the tables' end";

  const std::string printed =
      checked_in.substr(0, begin) + std::string(kBegin) + Tables() + checked_in.substr(end);
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << printed;
  EXPECT_EQ(checked_in, printed)
      << "run HOLDFAST_PRINT=1 base_test --gtest_filter='ErrorsDoc*' to print it anew";
}

}  // namespace
}  // namespace holdfast::base
