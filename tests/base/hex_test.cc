#include "base/hex.h"

#include <gtest/gtest.h>

namespace holdfast::base {
namespace {

TEST(HexTest, EveryByteComesBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const std::string text = ToHex(bytes);
  EXPECT_EQ(text.substr(0, 6), "000102");
  EXPECT_EQ(text.substr(text.size() - 4), "feff");
  EXPECT_EQ(FromHex(text), bytes);
  EXPECT_EQ(FromHex("Fe0A"), std::string("\xfe\x0a"));
  EXPECT_EQ(ToHex(""), "");
  EXPECT_EQ(FromHex(""), "");
}

TEST(HexTest, NothingElseIsTaken) {
  for (const char* const text : {"0", "012", "0g", " 1", "+1", "0x", "00 "})
    EXPECT_EQ(FromHex(text), std::nullopt) << text;
}

}  // namespace
}  // namespace holdfast::base
