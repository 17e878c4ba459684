#include "agent/drain_report.h"

#include <nlohmann/json.hpp>

namespace holdfast::agent {

std::string DrainReport::Print() const {
  const nlohmann::ordered_json json{{"done", done},
                                    {"wanted", wanted},
                                    {"removed", removed},
                                    {"delivered_records", delivered_records},
                                    {"dead_letter_records", dead_letter_records},
                                    {"dropped_records", dropped_records},
                                    {"left_records", left_records},
                                    {"left_bytes", left_bytes},
                                    {"removable_in_ms", removable_in_ms},
                                    {"why", why},
                                    {"kept", kept}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

base::Result<DrainReport> DrainReport::Parse(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return base::Unexpected(base::Code::kInvalid, "no report: " + line);
  DrainReport report;
  report.done = json.value("done", false);
  report.wanted = json.value("wanted", false);
  report.removed = json.value("removed", false);
  report.delivered_records = json.value("delivered_records", int64_t{0});
  report.dead_letter_records = json.value("dead_letter_records", int64_t{0});
  report.dropped_records = json.value("dropped_records", int64_t{0});
  report.left_records = json.value("left_records", int64_t{0});
  report.left_bytes = json.value("left_bytes", uint64_t{0});
  report.removable_in_ms = json.value("removable_in_ms", int64_t{0});
  report.why = json.value("why", "");
  report.kept = json.value("kept", "");
  return report;
}

}  // namespace holdfast::agent
