// Settings that are legal and dangerous, or that do not fit this host.
//
// Threads: any. Looks at the files that settings name, and reads none.
#pragma once

#include <string>

#include "cli/doctor/cgroup.h"
#include "cli/doctor/finding.h"

namespace holdfast::config {
class Config;
}

namespace holdfast::cli::doctor {

struct ConfigQuestion {
  const config::Config& config;
  // The same as it is written, references unresolved: which secrets stand in the file itself.
  const config::Config& written;
  std::string file;  // Empty: there is none.
  CgroupLimits limits;
};

Findings CheckConfig(const ConfigQuestion& question);

}  // namespace holdfast::cli::doctor
