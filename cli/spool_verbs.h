// The verbs of `holdfast spool`, one function each; see agent/spool_command.h. Each returns the
// process's exit code, or the error that it ends with.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/complain.h"
#include "cli/spool_command.h"
#include "spool/offline.h"

namespace holdfast::config {
class Agent;
}

namespace holdfast::cli {

base::Result<int> ShowStatus(const SpoolCommand& command);
base::Result<int> ListStreams(const SpoolCommand& command);
base::Result<int> CatStream(const SpoolCommand& command);
base::Result<int> VerifySpool(const SpoolCommand& command);
base::Result<int> RepairSpool(const SpoolCommand& command);
base::Result<int> ExportSpool(const SpoolCommand& command);
base::Result<int> ImportSpool(const SpoolCommand& command);
base::Result<int> DropStreams(const SpoolCommand& command);
base::Result<int> CompactSpool(const SpoolCommand& command);
base::Result<int> ReplayDeadLetters(const SpoolCommand& command);

// Of dead letters in a topic of the tier.
base::Result<int> RunOverTopic(const SpoolCommand& command, const config::Agent& config);

// From the files that the command names.
base::Result<spool::KeyRing> ReadKeys(const SpoolCommand& command);
// With these keys.
base::Result<std::unique_ptr<spool::OfflineView>> OpenView(const SpoolCommand& command);

// kUnavailable, with what to do, if a process owns the directory.
base::Result<void> CheckIdle(const std::string& directory);
// For spool/verify.h: a sound record batch. Of one that is not, says on standard error that it is
// left out.
base::Result<void> CheckEntry(const spool::EntryView& entry);
// kExitFine if the command line says --yes, or a person at the terminal does.
int Confirm(bool yes, const std::string& question);

}  // namespace holdfast::cli
