#include "net/overview_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace holdfast::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

base::Result<std::vector<TableQuery>> Parse(std::map<std::string, std::string> query) {
  return ParseTableQueries(
      {.method = HttpMethod::kGet, .query = std::move(query)},
      {{.prefix = "", .sorts = {"topic", "backlog"}}, {.prefix = "groups_", .sorts = {"lag"}}});
}

std::string ComplaintOf(std::map<std::string, std::string> query) {
  const auto parsed = Parse(std::move(query));
  return parsed ? "" : parsed.error().message;
}

TEST(OverviewPartsTest, NothingAskedIsTheFirstPageOfEachTable) {
  const auto queries = Parse({});
  ASSERT_TRUE(queries);
  ASSERT_EQ(queries->size(), 2U);
  EXPECT_EQ(queries->at(0).sort, "topic");
  EXPECT_EQ(queries->at(0).limit, 50U);
  EXPECT_EQ(queries->at(1).sort, "lag");
}

TEST(OverviewPartsTest, EachTableHasItsOwnParameters) {
  const auto queries = Parse({{"sort", "backlog"},
                              {"order", "desc"},
                              {"groups_filter", "bill"},
                              {"groups_offset", "50"},
                              {"limit", "100000"}});
  ASSERT_TRUE(queries);
  EXPECT_EQ(queries->at(0).sort, "backlog");
  EXPECT_TRUE(queries->at(0).descending);
  EXPECT_EQ(queries->at(0).limit, TableQuery::kLimitMax);
  EXPECT_EQ(queries->at(0).filter, "");
  EXPECT_TRUE(queries->at(1).Matches("billing"));
  EXPECT_FALSE(queries->at(1).Matches("orders"));
  EXPECT_EQ(queries->at(1).offset, 50U);
}

TEST(OverviewPartsTest, WhatIsWrongIsNamed) {
  EXPECT_THAT(ComplaintOf({{"sort", "age"}}), HasSubstr("sort must be one of topic, backlog"));
  EXPECT_THAT(ComplaintOf({{"groups_order", "up"}}), HasSubstr("groups_order must be asc or desc"));
  EXPECT_THAT(ComplaintOf({{"limit", "-1"}}), HasSubstr("limit must be a number"));
  EXPECT_THAT(ComplaintOf({{"offset", "99999999999999999999"}}), HasSubstr("must be a number"));
  EXPECT_THAT(ComplaintOf({{"page", "2"}}), HasSubstr("page is not known"));
}

TEST(OverviewPartsTest, RowsAreInOrderAsFarAsTheyAreAskedFor) {
  std::vector<int> rows{5, 3, 9, 1, 7};
  const TableQuery query{.limit = 2, .offset = 1};
  query.SortBy(
      rows, [](int row) { return row; }, [](int row) { return row; });
  std::vector<int> shown;
  for (size_t i = query.begin_of(rows.size()); i < query.end_of(rows.size()); ++i)
    shown.push_back(rows[i]);
  EXPECT_THAT(shown, ElementsAre(3, 5));
  EXPECT_EQ(TableQuery{.offset = 9}.begin_of(5), 5U);
}

TEST(OverviewPartsTest, NamesThatAreNoTextDoNotBreakTheAnswer) {
  EXPECT_THAT(JsonResponse({{"topic", "a\xff"}}).body, HasSubstr("a\xef\xbf\xbd"));
}

}  // namespace
}  // namespace holdfast::net
