#include "cli/top/line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::top {
namespace {

using ::testing::ElementsAre;

TEST(LineTest, OnlyWhatATerminalShowsAsItselfIsShown) {
  const std::string_view hostile =
      "a\x1b[2Jb\x07\x7f\r\n\tc\xc2\x9b"
      "d\xe2\x80\xae"
      "e\xcc\x81\xff";
  EXPECT_EQ(Shown(hostile, Charset::kAscii), "a?[2Jb?????c?d?e??");
  EXPECT_EQ(Shown(hostile, Charset::kUtf8), "a�[2Jb�����c�d�e��");
  EXPECT_EQ(Shown(std::string_view("\0x", 2), Charset::kAscii), "?x");
  // Each byte and each pair of them: whatever comes out is harmless, and no wider than it says.
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string bytes{static_cast<char>(a), static_cast<char>(b)};
      for (const char c : Shown(bytes, Charset::kAscii)) ASSERT_TRUE(c >= 0x20 && c < 0x7f);
      const std::string shown = Shown(bytes, Charset::kUtf8);
      ASSERT_EQ(Shown(shown, Charset::kUtf8), shown);
      for (const char c : shown) ASSERT_TRUE(static_cast<uint8_t>(c) >= 0x20 && c != 0x7f);
    }
  }
}

TEST(LineTest, OwnSignsHaveASpellingInAscii) {
  EXPECT_EQ(Shown("● 1 – 2 …▲▼é", Charset::kAscii), "* 1 - 2 ...^v?");
}

TEST(LineTest, WideCharactersTakeTwoColumns) {
  EXPECT_EQ(WidthOf("日本", Charset::kUtf8), 4U);
  EXPECT_EQ(WidthOf("日本", Charset::kAscii), 2U);
  EXPECT_EQ(WidthOf("ö▁", Charset::kUtf8), 2U);
  Line line(Charset::kUtf8);
  line.AddCut("日本語", 5);
  EXPECT_EQ(line.Text(), "日本…");
  EXPECT_EQ(line.width(), 5U);
}

TEST(LineTest, WhatIsCutEndsInAnEllipsis) {
  const auto cut = [](std::string_view text, size_t width, Charset charset) {
    Line line(charset);
    line.AddCut(text, width);
    EXPECT_LE(line.width(), width);
    return line.Text();
  };
  EXPECT_EQ(cut("orders", 6, Charset::kUtf8), "orders");
  EXPECT_EQ(cut("orders", 5, Charset::kUtf8), "orde…");
  EXPECT_EQ(cut("orders", 5, Charset::kAscii), "or...");
  EXPECT_EQ(cut("orders", 2, Charset::kAscii), "");
  EXPECT_EQ(cut("orders", 0, Charset::kUtf8), "");
  EXPECT_EQ(cut("日本", 3, Charset::kUtf8), "日…");
}

TEST(LineTest, LongTextIsBrokenBetweenWords) {
  EXPECT_THAT(Wrap("the tier refuses  orders", 9, Charset::kUtf8),
              ElementsAre("the tier", "refuses", "orders"));
  EXPECT_THAT(Wrap("TOPIC_AUTHORIZATION_FAILED: x", 12, Charset::kUtf8),
              ElementsAre("TOPIC_AUTHOR", "IZATION_FAIL", "ED: x"));
  EXPECT_THAT(Wrap("日本語", 1, Charset::kUtf8), ElementsAre("日", "本", "語"));
  EXPECT_THAT(Wrap("", 9, Charset::kUtf8), ElementsAre());
}

TEST(LineTest, StylesAreWrittenAndEnd) {
  Line line(Charset::kUtf8);
  line.Add("a").Add("b", {.tone = Tone::kFailing, .bold = true}).PadTo(4, {.reverse = true});
  EXPECT_EQ(line.Ansi(Colors::kSixteen), "a\x1b[0;1;31mb\x1b[0m\x1b[0;7m  \x1b[0m");
  EXPECT_EQ(line.Ansi(Colors::kNone), "a\x1b[0;1mb\x1b[0m\x1b[0;7m  \x1b[0m");
  EXPECT_EQ(line.Text(), "ab  ");
}

TEST(LineTest, TheLocaleSaysWhatTheTerminalSpeaks) {
  EXPECT_EQ(CharsetOf("", "", "en_US.UTF-8"), Charset::kUtf8);
  EXPECT_EQ(CharsetOf("", "de_DE.utf8@euro", "C"), Charset::kUtf8);
  EXPECT_EQ(CharsetOf("C", "", "en_US.UTF-8"), Charset::kAscii);
  EXPECT_EQ(CharsetOf("", "", ""), Charset::kAscii);
  EXPECT_EQ(CharsetOf("", "", "de_DE.ISO-8859-1"), Charset::kAscii);
}

}  // namespace
}  // namespace holdfast::top
