// What the doctor finds: one thing that is well, or one that is not, and then why that matters and
// what to do.
//
//   findings.Good("synchronised");
//   findings.Trouble(base::Event::kVolatileFileSystem, "agent.spool is on tmpfs");
//
// What is wrong is one of base/events.def, whose code, meaning (why it matters) and remedy are
// printed with it; a finding adds what was seen here.
//
// Threads: any; plain values.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/event.h"

namespace holdfast::cli::doctor {

enum class Area : uint8_t { kConfig, kDisk, kClock, kUpstream, kDatabases, kKubernetes };
inline constexpr std::array kAreas{Area::kConfig,   Area::kDisk,      Area::kClock,
                                   Area::kUpstream, Area::kDatabases, Area::kKubernetes};
// As on the command line and in JSON: "config", "disk", ...
std::string_view AreaName(Area area);

enum class Severity : uint8_t {
  kGood,     // Looked at, and as it should be.
  kNote,     // Worth knowing; nothing is wrong.
  kWarning,  // Goes wrong in some case that was not met today.
  kError,    // Goes wrong now, or loses what was acknowledged.
};
std::string_view SeverityName(Severity severity);
// A warning or an error.
Severity SeverityOf(base::Event problem);

struct Finding {
  Area area;
  Severity severity;
  base::Event problem;  // Of warnings and errors; kNone of others.
  std::string what;
};

// Those of one area, in the order in which they were found.
class Findings {
 public:
  explicit Findings(Area area) : area_(area) {}

  void Good(std::string what);
  void Note(std::string what);
  void Trouble(base::Event problem, std::string what);
  void Trouble(base::Event problem, Severity severity, std::string what);
  void Add(Findings others);

  [[nodiscard]] const std::vector<Finding>& all() const { return all_; }
  [[nodiscard]] size_t CountOf(Severity severity) const;

 private:
  Area area_;
  std::vector<Finding> all_;
};

// Of all areas, as the command prints them. Ends with a line that counts them.
std::string PrintText(std::span<const Findings> areas);
// One object; keys are only ever added to it.
std::string PrintJson(std::span<const Findings> areas);

}  // namespace holdfast::cli::doctor
