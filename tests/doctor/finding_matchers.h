// What tests look for among findings.
#pragma once

#include <algorithm>
#include <vector>

#include "cli/doctor/finding.h"

namespace holdfast::cli::doctor {

inline std::vector<base::Event> ProblemsOf(const Findings& findings) {
  std::vector<base::Event> problems;
  for (const Finding& finding : findings.all()) {
    if (finding.problem != base::Event::kNone) problems.push_back(finding.problem);
  }
  return problems;
}

inline const Finding* Find(const Findings& findings, base::Event problem) {
  const auto found = std::ranges::find(findings.all(), problem, &Finding::problem);
  return found == findings.all().end() ? nullptr : &*found;
}

}  // namespace holdfast::cli::doctor
