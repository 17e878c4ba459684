#include "agent/outbox/json_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace holdfast::outbox {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(JsonHeaders, EntriesBecomeHeadersInTheirOrder) {
  Row row;
  row.headers = {{"before", "b"}};
  ASSERT_TRUE(TakeJsonHeaders(R"({"z":"1","a":"\u00e4 \"quoted\"","n":-1.5,"t":true,"none":null})",
                              std::nullopt, &row));
  EXPECT_THAT(row.headers,
              ElementsAre(Pair("before", "b"), Pair("z", "1"), Pair("a", "\u00e4 \"quoted\""),
                          Pair("n", "-1.5"), Pair("t", "true"), Pair("none", std::nullopt)));
}

TEST(JsonHeaders, AnEntryMayBeTheKey) {
  Row row;
  ASSERT_TRUE(TakeJsonHeaders(R"({"ID":"7","PARTITION_ID":"order-1"})", "PARTITION_ID", &row));
  EXPECT_EQ(row.key, "order-1");
  EXPECT_THAT(row.headers, ElementsAre(Pair("ID", "7"), Pair("PARTITION_ID", "order-1")));

  ASSERT_TRUE(TakeJsonHeaders(R"({"ID":"8"})", "PARTITION_ID", &row));
  EXPECT_EQ(row.key, std::nullopt);
}

TEST(JsonHeaders, WithoutANameTheKeyStays) {
  Row row;
  row.key = "mine";
  ASSERT_TRUE(TakeJsonHeaders("{}", std::nullopt, &row));
  EXPECT_EQ(row.key, "mine");
  EXPECT_THAT(row.headers, IsEmpty());
}

TEST(JsonHeaders, WhatIsNoObjectOfTextIsRefused) {
  const auto message = [](std::string_view json) {
    Row row;
    row.key = "mine";
    const auto taken = TakeJsonHeaders(json, "good", &row);
    EXPECT_FALSE(taken) << json;
    EXPECT_EQ(row.key, "mine");
    EXPECT_THAT(row.headers, IsEmpty());
    return taken ? "" : taken.error().message;
  };
  EXPECT_THAT(message(""), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"good\":\"yes\""), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"good\":\"\xff\"}"), HasSubstr("not JSON in UTF-8"));
  EXPECT_THAT(message("[\"good\"]"), HasSubstr("not an object"));
  EXPECT_THAT(message("null"), HasSubstr("not an object"));
  EXPECT_THAT(message(R"({"good":"yes","bad":{}})"), HasSubstr("`bad` is an object"));
  EXPECT_THAT(message(R"({"good":"yes","bad":[1]})"), HasSubstr("`bad` is an array"));
  // Nesting must not cost stack.
  const std::string deep =
      "{\"bad\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  EXPECT_THAT(message(deep), HasSubstr("`bad` is an array"));
}

}  // namespace
}  // namespace holdfast::outbox
