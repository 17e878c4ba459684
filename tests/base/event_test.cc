#include "base/event.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace holdfast::base {
namespace {

TEST(EventTest, EachHasANameACodeAMeaningAndARemedyOfItsOwn) {
  std::set<std::string_view> names;
  std::set<std::string_view> meanings;
  for (const EventInfo& info : Events()) {
    const std::string code = EventCode(info.event);
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(meanings.insert(info.meaning).second) << code << " means what another does";
    EXPECT_GE(info.level, LogLevel::kWarn) << code;
    EXPECT_TRUE(info.meaning.ends_with('.')) << code;
    EXPECT_TRUE(info.remedy.ends_with('.')) << code;
    EXPECT_FALSE(EventAreaName(info.event).empty()) << code;
    EXPECT_EQ(&InfoOf(info.event), &info);
  }
}

TEST(EventTest, CodesHaveFourDigits) {
  EXPECT_EQ(EventCode(Event::kInvalid), "HF0001");
  EXPECT_EQ(EventCode(Event::kSpoolInUse), "HF2001");
}

TEST(EventTest, AnEventIsFoundByItsCodeAsPeopleWriteIt) {
  for (const char* const code : {"HF2001", "hf2001", "2001"}) {
    ASSERT_NE(FindEvent(code), nullptr) << code;
    EXPECT_EQ(FindEvent(code)->event, Event::kSpoolInUse) << code;
  }
  EXPECT_EQ(FindEvent("HF0001")->event, Event::kInvalid);
  for (const char* const code : {"", "HF", "HF2", "HF20011", "2999", "HF0000", "HFx001", "E2001"})
    EXPECT_EQ(FindEvent(code), nullptr) << code;
}

TEST(EventTest, AnErrorThatSaysNoMoreIsTheEventOfItsCode) {
  EXPECT_EQ(EventOf({Code::kFull, "no room"}), Event::kFull);
  const Error error{Code::kInvalid, "taken", Event::kPortTaken};
  EXPECT_EQ(EventOf(error), Event::kPortTaken);
  EXPECT_EQ(EventOf(Error(error).Within("agent")), Event::kPortTaken);
}

}  // namespace
}  // namespace holdfast::base
