#include "base/base64.h"

#include <gtest/gtest.h>

namespace holdfast::base {
namespace {

TEST(Base64Test, WritesAndReadsTheSamplesOfRfc4648) {
  const std::pair<std::string, std::string> samples[] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"\xfb\xff", "+/8="},
      {"foobar", "Zm9vYmFy"},
  };
  for (const auto& [bytes, text] : samples) {
    EXPECT_EQ(ToBase64(bytes), text);
    EXPECT_EQ(FromBase64(text), bytes);
  }
}

TEST(Base64Test, TakesNothingElse) {
  for (const char* text : {"Zg=", "Zg", "Z===", "Zm9v\nZm9v", "Zm9 ", "Zm9-", "=Zm9", "Z=g="})
    EXPECT_FALSE(FromBase64(text)) << text;
}

}  // namespace
}  // namespace holdfast::base
