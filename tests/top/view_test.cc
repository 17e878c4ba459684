#include "cli/top/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>

#include "tests/support/source_path.h"

namespace holdfast::top {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string ReadFile(const std::string& name) {
  std::ifstream file(test::SourcePath("tests/top/golden/" + name));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// What an agent and a broker have answered to GET /overview, shortened.
const std::string kAgent = ReadFile("agent.json");
const std::string kBroker = ReadFile("broker.json");

class ViewTest : public ::testing::Test {
 protected:
  ViewTest() {
    setenv("TZ", "UTC", 1);
    tzset();
  }

  static Model Read(const std::string& answer) {
    auto model = ReadModel(answer, "host:9090");
    EXPECT_TRUE(model);
    return *std::move(model);
  }
  View Make(Size size, const std::string& answer = kAgent, Charset charset = Charset::kUtf8) {
    View view("host:9090", charset);
    view.Resize(size);
    view.Take(Read(answer));
    return view;
  }
  // The screen, without blanks at the ends of lines. No line is wider than it.
  static std::string Screen(const View& view, Size size) {
    const std::vector<Line> lines = view.Draw();
    EXPECT_EQ(lines.size(), size.rows);
    std::string screen;
    for (const Line& line : lines) {
      EXPECT_LE(line.width(), size.columns) << line.Text();
      std::string text = line.Text();
      text.resize(text.find_last_not_of(' ') + 1);
      screen += text + "\n";
    }
    return screen;
  }
  // With a file in golden/; HOLDFAST_PRINT=1 writes it anew.
  static void Compare(const std::string& name, const std::string& text) {
    const std::string path = test::SourcePath("tests/top/golden/" + name + ".txt");
    if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(path) << text;
    EXPECT_EQ(text, ReadFile(name + ".txt"));
  }
  static View::Deed Type(View& view, std::string_view text) {
    View::Deed deed = View::Deed::kNothing;
    for (const char c : text) deed = view.Press({Key::kText, std::string(1, c)});
    return deed;
  }
};

TEST_F(ViewTest, AnAgent) {
  Compare("agent_80x24", Screen(Make({80, 24}), {80, 24}));
  Compare("agent_140x30", Screen(Make({140, 30}), {140, 30}));
  Compare("agent_40x24_ascii", Screen(Make({40, 24}, kAgent, Charset::kAscii), {40, 24}));
  Compare("agent_60x12", Screen(Make({60, 12}), {60, 12}));
}

TEST_F(ViewTest, ABroker) {
  View view = Make({80, 16}, kBroker);
  Compare("broker_80x16", Screen(view, {80, 16}));
  view.Press({Key::kTab});
  Compare("broker_80x16_groups", Screen(view, {80, 16}));
  view.Press({Key::kTab});
  Compare("broker_80x16_transactions", Screen(view, {80, 16}));
}

TEST_F(ViewTest, ItIsPrintedWhole) { Compare("agent_printed", Make({20, 5}).Print()); }

TEST_F(ViewTest, OfAnotherDayTheDateIsSaidToo) {
  std::string answer = kAgent;
  const std::string until = R"("complete_until_ms": 1700000000000)";
  answer.replace(answer.find(until), until.size(), R"("complete_until_ms": 1699919999000)");
  EXPECT_THAT(Screen(Make({80, 24}, answer), {80, 24}), HasSubstr("until 2023-11-13 23:59:59"));
}

TEST_F(ViewTest, AnySizeIsDrawn) {
  for (const std::string& answer : {kAgent, kBroker}) {
    for (size_t columns = 1; columns < 130; columns += 7) {
      for (size_t rows = 1; rows < 40; rows += 3) {
        View view = Make({columns, rows}, answer);
        Screen(view, {columns, rows});
        for (const char key : {'?', '?', 'v', 'x', '/', 'a', 'b'}) {
          Type(view, std::string(1, key));
          Screen(view, {columns, rows});
        }
        view.Press({Key::kEscape});
        view.Press({Key::kEnter});
        Screen(view, {columns, rows});
        view.Lose("refused", std::chrono::seconds(7));
        Screen(view, {columns, rows});
      }
    }
  }
}

TEST_F(ViewTest, BeforeThereIsAnAnswerAndWithoutOne) {
  View view("host:9090", Charset::kUtf8);
  view.Resize({80, 8});
  EXPECT_THAT(Screen(view, {80, 8}), StartsWith("holdfast at host:9090\nAsking …\n"));
  EXPECT_EQ(view.Parameters(View::Purpose::kScreen), "");
  for (const Key::Kind kind :
       {Key::kUp, Key::kEnd, Key::kTab, Key::kRight, Key::kEnter, Key::kEscape, Key::kBackspace})
    view.Press({kind});
  Type(view, "r/x1?v");
  view.Lose("Connection refused", std::chrono::seconds(0));
  EXPECT_THAT(Screen(view, {80, 8}), HasSubstr("● No answer from host:9090\n"));
  view.Lose("Connection refused", std::chrono::seconds(62));
  EXPECT_THAT(Screen(view, {80, 8}), HasSubstr("No answer from host:9090, for 1 min 2 s"));
}

TEST_F(ViewTest, TheServerIsAskedForWhatIsSeen) {
  View view = Make({80, 24});
  EXPECT_EQ(view.Parameters(View::Purpose::kScreen), "?sort=trouble&order=asc&limit=24&offset=0");
  EXPECT_EQ(view.Parameters(View::Purpose::kPrint), "?sort=trouble&order=asc&limit=50&offset=0");
  EXPECT_EQ(view.Press({Key::kRight}), View::Deed::kAsk);
  EXPECT_EQ(view.Parameters(View::Purpose::kScreen), "?sort=backlog&order=desc&limit=24&offset=0");
  EXPECT_EQ(Type(view, "r"), View::Deed::kAsk);
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("sort=backlog&order=asc"));
  Type(view, "<<<");
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("sort=drain"));
  EXPECT_EQ(view.Press({Key::kDown}), View::Deed::kNothing);
  EXPECT_EQ(view.Press({Key::kPageDown}), View::Deed::kAsk);
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("offset=2"));
  view.Press({Key::kEnd});
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("offset=199"));
  view.Press({Key::kHome});
  Type(view, "/a&b");
  view.Press({Key::kText, "ö"});
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), StartsWith("?filter=a%26b%C3%B6&"));
  view.Press({Key::kBackspace});
  view.Press({Key::kBackspace});
  view.Press({Key::kEnter});
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), StartsWith("?filter=a%26&"));
  Type(view, "/zz");
  view.Press({Key::kEscape});
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), StartsWith("?filter=a%26&"));
  // Of what is not seen, nothing.
  view.Press({Key::kTab});
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("limit=0"));
}

TEST_F(ViewTest, ABrokersGroupsHaveTheirOwnWishes) {
  View view = Make({80, 24}, kBroker);
  EXPECT_EQ(view.Parameters(View::Purpose::kScreen),
            "?sort=topic&order=asc&limit=24&offset=0"
            "&groups_sort=lag&groups_order=desc&groups_limit=0&groups_offset=0");
  ASSERT_TRUE(view.Choose("members", "bill"));
  EXPECT_EQ(view.Parameters(View::Purpose::kScreen),
            "?sort=topic&order=asc&limit=0&offset=0&groups_filter=bill&groups_sort=members"
            "&groups_order=desc&groups_limit=24&groups_offset=0");
  const auto wrong = view.Choose("size", "");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("the broker cannot be sorted by size"));
}

TEST_F(ViewTest, TablesThatAreAllHereAreFilteredHere) {
  View view = Make({120, 24});
  Type(view, "2/refused");
  view.Press({Key::kEnter});
  const std::string screen = Screen(view, {120, 24});
  EXPECT_THAT(screen, HasSubstr("1 broker matching, 2 in all, /refused"));
  EXPECT_THAT(screen, HasSubstr("kafka-2:9092"));
  EXPECT_THAT(screen, Not(HasSubstr("kafka-1:9092")));
}

TEST_F(ViewTest, ARowAndTheReasonsCanBeReadWhole) {
  View view = Make({40, 24});
  view.Press({Key::kEnter});
  EXPECT_THAT(Screen(view, {40, 24}), HasSubstr("Why\n    partition 0,\n"));
  view.Press({Key::kEscape});
  view.Resize({40, 10});
  EXPECT_THAT(Screen(view, {40, 10}), HasSubstr("… v: all of it"));
  Type(view, "v");
  EXPECT_THAT(Screen(view, {40, 10}), HasSubstr("1,234 records are kept"));
  for (int i = 0; i < 50; ++i) view.Press({Key::kDown});
  EXPECT_THAT(Screen(view, {40, 10}), HasSubstr("What to do: See `holdfast dlq ls`."));
}

TEST_F(ViewTest, ChosenRowsStayInSight) {
  View view = Make({80, 24});
  view.Press({Key::kEnd});
  auto answer = Read(kAgent);
  answer.tables[0].matching = 2;  // Meanwhile there are fewer.
  view.Take(answer);
  EXPECT_THAT(view.Parameters(View::Purpose::kScreen), HasSubstr("offset=0"));
  const std::vector<Line> lines = view.Draw();
  EXPECT_TRUE(std::ranges::any_of(lines, [](const Line& line) {
    return line.Text().starts_with("payments") &&
           line.Ansi(Colors::kNone).find("\x1b[0;7m") != std::string::npos;
  }));
}

TEST_F(ViewTest, WhatIsNoAnswerIsSaidToBeNone) {
  for (const char* answer : {"", "{", "[]", "null", "\"agent\"", "{\"role\": \"inject\"}",
                             "{\"role\": 7}", "<html>", "\xff"})
    EXPECT_FALSE(ReadModel(answer, "host:9090")) << answer;
  EXPECT_FALSE(ReadModel(std::string(100000, '['), "host:9090"));
}

// Each value of a good answer in turn replaced by values of every other kind.
TEST_F(ViewTest, AnAnswerMayHaveAnything) {
  for (const std::string& whole : {kAgent, kBroker}) {
    size_t replaced = 0;
    for (size_t at = whole.find("\": "); at != std::string::npos; at = whole.find("\": ", at + 1)) {
      const size_t begin = at + 3;
      size_t end = begin;
      int depth = 0;
      bool quoted = false;
      for (; end < whole.size(); ++end) {
        const char c = whole[end];
        if (c == '"') quoted = !quoted;
        if (quoted) continue;
        if (c == '{' || c == '[') ++depth;
        if ((c == '}' || c == ']') && depth-- == 0) break;
        if (c == ',' && depth == 0) break;
      }
      for (const char* value : {"null", "true", "-1", "1e308", "18446744073709551615", "\"x\"",
                                "[]", "{}", "[null, 1, [], {}]", "-9223372036854775808"}) {
        std::string answer = whole;
        answer.replace(begin, end - begin, value);
        auto model = ReadModel(answer, "host:9090");
        if (!model) continue;
        ++replaced;
        View view("host:9090", Charset::kUtf8);
        view.Resize({100, 30});
        view.Take(*std::move(model));
        for (size_t table = 0; table < 4; ++table) {
          Screen(view, {100, 30});
          view.Press({Key::kTab});
          view.Press({Key::kEnd});
        }
        EXPECT_THAT(view.Print(), Not(HasSubstr("\x1b")));
      }
    }
    EXPECT_GT(replaced, 200U);
  }
}

}  // namespace
}  // namespace holdfast::top
