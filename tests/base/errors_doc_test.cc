// The tables of docs/errors.md are printed from base/events.def. After a change of it:
//
//   HOLDFAST_PRINT=1 build/dev/tests/base/base_test --gtest_filter='ErrorsDoc*'
#include <gtest/gtest.h>

#include <string>

#include "base/event.h"
#include "tests/support/printed_table.h"

namespace holdfast::base {
namespace {

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
  test::ExpectPrinted("docs/errors.md", "base/events.def", Tables());
}

}  // namespace
}  // namespace holdfast::base
