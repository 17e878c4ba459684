#include "base/utf8.h"

#include <gtest/gtest.h>

namespace holdfast::base {
namespace {

TEST(Utf8Test, WhatOthersChoseStaysInItsLineAndDoesNothingToATerminal) {
  EXPECT_EQ(Printable("orders/0, \u00e4 \\"), "orders/0, \u00e4 \\");
  EXPECT_EQ(Printable("a\x1b[2J\n\x7f\xc2\x9b"
                      "31m\xff"),
            R"(a\x1b[2J\x0a\x7f\xc2\x9b31m\xff)");
}

}  // namespace
}  // namespace holdfast::base
