// What the /overview pages of agent and broker have in common: tables that the server filters,
// sorts and pages, so that an answer stays small however long they are; rates; and the newest lines
// of the log.
//
//   HF_ASSIGN_OR_RETURN(const auto tables, ParseTableQueries(request, {
//       {.prefix = "", .sorts = {"topic", "backlog"}}}));
//   tables[0].SortBy(rows, [](const Row& row) { return row.backlog; }, name_of);
//   for (size_t i = tables[0].begin_of(n); i < tables[0].end_of(n); ++i) ...
//
// Threads: any; plain values. Limits: TableQuery::kLimitMax rows in one answer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "metrics/history.h"
#include "net/admin_server.h"

namespace holdfast::net {

// ?filter=TEXT&sort=COLUMN&order=asc|desc&limit=50&offset=0
struct TableQuery {
  static constexpr size_t kLimitMax = 500;

  std::string filter;
  std::string sort;
  bool descending = false;
  size_t limit = 50;
  size_t offset = 0;

  [[nodiscard]] bool Matches(std::string_view text) const {
    return text.find(filter) != std::string_view::npos;
  }
  // Puts the rows that are asked for in order, by key and then by name; the others stay unsorted.
  template <class Row, class Key, class Name>
  void SortBy(std::vector<Row>& rows, Key key, Name name) const {
    const auto before = [&](const Row& a, const Row& b) {
      const auto left = key(a);
      const auto right = key(b);
      if (left == right) return name(a) < name(b);
      return descending ? right < left : left < right;
    };
    const size_t end = std::min(rows.size(), offset + limit);
    std::partial_sort(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(end), rows.end(), before);
  }
  [[nodiscard]] size_t begin_of(size_t rows) const { return std::min(rows, offset); }
  [[nodiscard]] size_t end_of(size_t rows) const { return std::min(rows, offset + limit); }
};

struct TableName {
  std::string_view prefix;              // Of its parameters, "groups_".
  std::vector<std::string_view> sorts;  // The first is the default.
};
// One for each of the names; kInvalid, for a person, if a parameter is none of theirs.
base::Result<std::vector<TableQuery>> ParseTableQueries(const AdminRequest& request,
                                                        const std::vector<TableName>& names);

nlohmann::json DescribeRates(const metrics::History::Rates& rates);
nlohmann::json DescribeRecentLines();
// What is not UTF-8, as names that clients make need not be, is replaced.
AdminResponse JsonResponse(const nlohmann::json& document);

}  // namespace holdfast::net
