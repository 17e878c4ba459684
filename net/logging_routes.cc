#include "net/logging_routes.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"

namespace holdfast::net {
namespace {

using base::LogLevel;

std::string ListLevels() {
  std::string text;
  for (const std::string_view part : base::LogParts())
    text += fmt::format("{}: {}\n", part, base::LogLevelName(base::LogLevelOf(part)));
  return text;
}

base::Result<void> SetLevels(const std::map<std::string, std::string>& query) {
  if (query.empty())
    return base::Unexpected(
        base::Code::kInvalid,
        "say ?level=LEVEL for all parts, or ?PART=LEVEL for one; GET lists them");
  // All are looked at before any is set.
  std::vector<std::pair<std::string_view, LogLevel>> levels;
  for (const auto& [part, text] : query) {
    HF_ASSIGN_OR_RETURN(const LogLevel level, base::ParseLogLevel(text));
    if (part == "level") {
      levels.insert(levels.begin(), {part, level});
    } else {
      HF_RETURN_IF_ERROR(base::SetLogLevel(part, base::LogLevelOf(part)));  // Whether there is one.
      levels.emplace_back(part, level);
    }
  }
  for (const auto& [part, level] : levels) {
    if (part == "level")
      base::SetLogLevel(level);
    else
      HF_RETURN_IF_ERROR(base::SetLogLevel(part, level));
  }
  return {};
}

}  // namespace

void AddLoggingRoutes(std::vector<AdminRoute>* routes) {
  routes->push_back({HttpMethod::kGet, "/logging", "the level of the log, by part",
                     [](const AdminRequest&) { return AdminResponse{.body = ListLevels()}; }});
  routes->push_back({HttpMethod::kPost, "/logging",
                     "?level=debug sets it for all parts, ?forward=debug for one",
                     [](const AdminRequest& request) {
                       if (const auto set = SetLevels(request.query); !set)
                         return AdminResponse{.status = 400, .body = set.error().message + "\n"};
                       base::Log(LogLevel::kInfo, "main", "levels of the log were changed");
                       return AdminResponse{.body = ListLevels()};
                     }});
}

}  // namespace holdfast::net
