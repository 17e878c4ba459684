// `holdfast doctor`: looks at the settings, the disk, the clock, the tier, the databases and the
// pod as an agent or broker with this configuration would meet them, and says what is wrong, why it
// matters, and what to do. The checks themselves are in cli/doctor/.
//
// Output goes to standard output. Threads: main, which blocks: half a minute for a tier that does
// not answer, and for each database as long as its own timeouts say.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct DoctorCommand {
  std::vector<std::string> only;  // Names of areas. None: all.
  bool json = false;
  bool strict = false;  // Warnings count as errors.
};

// Adds the options. Parsing fills `command`, which outlives `doctor`.
void AddDoctorOptions(CLI::App& doctor, DoctorCommand* command);

// Returns the exit code.
int RunDoctor(const DoctorCommand& command, const config::Sources& sources);

}  // namespace holdfast::cli
