#include "cli/top/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::top {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Key Typed(std::string text) { return {Key::kText, std::move(text)}; }

TEST(KeysTest, WhatIsTypedIsText) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("q/ö日"), ElementsAre(Typed("q"), Typed("/"), Typed("ö"), Typed("日")));
  EXPECT_FALSE(keys.waits());
}

TEST(KeysTest, SequencesOfEitherModeAreKeys) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[Z\x1bOP"),
              ElementsAre(Key{Key::kUp}, Key{Key::kDown}, Key{Key::kPageUp}, Key{Key::kPageDown},
                          Key{Key::kHome}, Key{Key::kEnd}, Key{Key::kBackTab}, Key{Key::kHelp}));
  EXPECT_THAT(keys.Take("\r\n\t\x7f\b\x0c\x15"),
              ElementsAre(Key{Key::kEnter}, Key{Key::kEnter}, Key{Key::kTab}, Key{Key::kBackspace},
                          Key{Key::kBackspace}, Key{Key::kRedraw}, Key{Key::kErase}));
}

TEST(KeysTest, AKeyMayComeInPieces) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("\x1b"), IsEmpty());
  EXPECT_TRUE(keys.waits());
  EXPECT_THAT(keys.Take("["), IsEmpty());
  EXPECT_THAT(keys.Take("Bx\xc3"), ElementsAre(Key{Key::kDown}, Typed("x")));
  EXPECT_THAT(keys.Take("\xb6"), ElementsAre(Typed("ö")));
}

TEST(KeysTest, HalfACharacterTakesNothingWithIt) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("\xe2\x82"), IsEmpty());
  EXPECT_TRUE(keys.waits());
  EXPECT_THAT(keys.Take("(x"), ElementsAre(Typed("("), Typed("x")));
  EXPECT_THAT(keys.Take("\xe2\x82"), IsEmpty());
  EXPECT_THAT(keys.TakeRest(), IsEmpty());
  EXPECT_FALSE(keys.waits());
}

TEST(KeysTest, NothingBehindEscapeIsEscape) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("\x1b"), IsEmpty());
  EXPECT_THAT(keys.TakeRest(), ElementsAre(Key{Key::kEscape}));
  EXPECT_FALSE(keys.waits());
}

TEST(KeysTest, WhatIsNoKeyIsNothing) {
  KeyReader keys;
  EXPECT_THAT(keys.Take("\x1b[200~\x1b[1;5C\x1bx\x01\x02\xff"), IsEmpty());
  EXPECT_THAT(keys.Take("\x1b[" + std::string(100, '1') + "a"), ::testing::SizeIs(70));
  keys.TakeRest();
  EXPECT_FALSE(keys.waits());
}

}  // namespace
}  // namespace holdfast::top
