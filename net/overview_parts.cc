#include "net/overview_parts.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/log.h"

namespace holdfast::net {
namespace {

using nlohmann::json;

std::optional<size_t> ParseSize(std::string_view text) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // So large that nothing is added to it is as good as the end.
  if (error != std::errc() || end != text.data() + text.size() || value > 1'000'000'000)
    return std::nullopt;
  return value;
}

base::Result<> Take(TableQuery& query, const TableName& table, std::string_view parameter,
                    const std::string& value) {
  const auto wrong = [&](const std::string& what) {
    return base::Unexpected(base::Code::kInvalid,
                            std::string(table.prefix).append(parameter) + " " + what);
  };
  if (parameter == "filter") {
    query.filter = value;
  } else if (parameter == "sort") {
    if (std::ranges::find(table.sorts, value) == table.sorts.end()) {
      std::string known;
      for (const std::string_view sort : table.sorts)
        known.append(known.empty() ? "" : ", ").append(sort);
      return wrong("must be one of " + known);
    }
    query.sort = value;
  } else if (parameter == "order") {
    if (value != "asc" && value != "desc") return wrong("must be asc or desc");
    query.descending = value == "desc";
  } else if (parameter == "limit" || parameter == "offset") {
    const auto number = ParseSize(value);
    if (!number) return wrong("must be a number");
    (parameter == "limit" ? query.limit : query.offset) = *number;
  } else {
    return wrong("is not known; use filter, sort, order, limit and offset");
  }
  return {};
}

}  // namespace

base::Result<std::vector<TableQuery>> ParseTableQueries(const AdminRequest& request,
                                                        const std::vector<TableName>& names) {
  std::vector<TableQuery> queries;
  for (const TableName& table : names)
    queries.push_back({.sort = std::string(table.sorts.front())});
  for (const auto& [name, value] : request.query) {
    // The longest prefix that fits, since one may be empty.
    std::optional<size_t> found;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!name.starts_with(names[i].prefix)) continue;
      if (!found || names[i].prefix.size() > names[*found].prefix.size()) found = i;
    }
    if (!found) return base::Unexpected(base::Code::kInvalid, name + " is not known");
    HF_RETURN_IF_ERROR(Take(queries[*found], names[*found],
                            std::string_view(name).substr(names[*found].prefix.size()), value));
  }
  for (TableQuery& query : queries) query.limit = std::min(query.limit, TableQuery::kLimitMax);
  return queries;
}

json DescribeRates(const metrics::History::Rates& rates) {
  json series = json::object();
  for (const auto& one : rates.series) {
    json points = json::array();
    for (const double rate : one.per_second) points.push_back(std::llround(rate));
    series[std::string(one.name)] = {{"lately", std::llround(one.lately)},
                                     {"per_second", std::move(points)}};
  }
  const auto every =
      std::chrono::duration_cast<std::chrono::milliseconds>(metrics::History::kSampleEvery);
  return {{"every_ms", every.count()},
          {"samples_max", metrics::History::kSamples},
          {"until_ms", rates.until_ms},
          {"series", std::move(series)}};
}

json DescribeRecentLines() {
  json lines = json::array();
  for (const base::RecentLine& line : base::RecentLines()) {
    lines.push_back(
        {{"time_ms", line.time_ms},
         {"level", base::LogLevelName(line.level)},
         {"code", line.event == base::Event{} ? std::string() : base::EventCode(line.event)},
         {"part", line.part},
         {"message", line.message}});
  }
  return lines;
}

AdminResponse JsonResponse(const json& document) {
  return {.content_type = "application/json",
          .body = document.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"};
}

}  // namespace holdfast::net
