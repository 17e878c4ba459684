#include "cli/doctor/finding.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

namespace holdfast::cli::doctor {
namespace {

using Json = nlohmann::ordered_json;

size_t CountOf(std::span<const Findings> areas, Severity severity) {
  size_t count = 0;
  for (const Findings& findings : areas) count += findings.CountOf(severity);
  return count;
}

std::string Counted(size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace

std::string_view AreaName(Area area) {
  switch (area) {
    case Area::kConfig:
      return "config";
    case Area::kDisk:
      return "disk";
    case Area::kClock:
      return "clock";
    case Area::kUpstream:
      return "upstream";
    case Area::kDatabases:
      return "databases";
    case Area::kKubernetes:
      return "kubernetes";
  }
  return "";
}

std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kGood:
      return "good";
    case Severity::kNote:
      return "note";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "";
}

Severity SeverityOf(base::Event problem) {
  return base::InfoOf(problem).level == base::LogLevel::kError ? Severity::kError
                                                               : Severity::kWarning;
}

void Findings::Good(std::string what) {
  all_.push_back({area_, Severity::kGood, base::Event::kNone, std::move(what)});
}

void Findings::Note(std::string what) {
  all_.push_back({area_, Severity::kNote, base::Event::kNone, std::move(what)});
}

void Findings::Trouble(base::Event problem, std::string what) {
  Trouble(problem, SeverityOf(problem), std::move(what));
}

void Findings::Trouble(base::Event problem, Severity severity, std::string what) {
  all_.push_back({area_, severity, problem, std::move(what)});
}

void Findings::Add(Findings others) {
  all_.insert(all_.end(), std::make_move_iterator(others.all_.begin()),
              std::make_move_iterator(others.all_.end()));
}

size_t Findings::CountOf(Severity severity) const {
  return static_cast<size_t>(std::ranges::count(all_, severity, &Finding::severity));
}

std::string PrintText(std::span<const Findings> areas) {
  std::string text;
  for (const Findings& findings : areas) {
    if (findings.all().empty()) continue;
    text += fmt::format("{}\n", AreaName(findings.all().front().area));
    for (const Finding& finding : findings.all()) {
      text += fmt::format("  {:<7}  ", SeverityName(finding.severity));
      if (finding.problem == base::Event::kNone) {
        text += finding.what + "\n";
        continue;
      }
      const base::EventInfo& more = base::InfoOf(finding.problem);
      text +=
          fmt::format("{}  {}\n           why  {}\n           do   {}\n",
                      base::EventCode(finding.problem), finding.what, more.meaning, more.remedy);
    }
  }
  const size_t errors = CountOf(areas, Severity::kError);
  const size_t warnings = CountOf(areas, Severity::kWarning);
  if (errors + warnings == 0) return text + "nothing is wrong\n";
  return text + fmt::format("{}, {}\n", Counted(errors, "error"), Counted(warnings, "warning"));
}

std::string PrintJson(std::span<const Findings> areas) {
  Json json;
  for (const Severity severity :
       {Severity::kError, Severity::kWarning, Severity::kNote, Severity::kGood})
    json[std::string(SeverityName(severity))] = CountOf(areas, severity);
  Json& list = json["findings"] = Json::array();
  for (const Findings& findings : areas) {
    for (const Finding& finding : findings.all()) {
      Json one;
      one["area"] = AreaName(finding.area);
      one["severity"] = SeverityName(finding.severity);
      const base::EventInfo* const more =
          finding.problem == base::Event::kNone ? nullptr : &base::InfoOf(finding.problem);
      one["code"] = more == nullptr ? Json() : Json(base::EventCode(finding.problem));
      one["what"] = finding.what;
      one["why"] = more == nullptr ? Json() : Json(more->meaning);
      one["do"] = more == nullptr ? Json() : Json(more->remedy);
      list.push_back(std::move(one));
    }
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace holdfast::cli::doctor
