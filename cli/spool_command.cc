#include "cli/spool_command.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/event.h"
#include "cli/command_line.h"
#include "cli/spool_verbs.h"
#include "config/config.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {
namespace {

base::Result<int> Run(const SpoolCommand& command) {
  switch (command.verb) {
    case SpoolVerb::kStatus:
      return ShowStatus(command);
    case SpoolVerb::kLs:
      return ListStreams(command);
    case SpoolVerb::kCat:
      return CatStream(command);
    case SpoolVerb::kVerify:
      return VerifySpool(command);
    case SpoolVerb::kRepair:
      return RepairSpool(command);
    case SpoolVerb::kExport:
      return ExportSpool(command);
    case SpoolVerb::kImport:
      return ImportSpool(command);
    case SpoolVerb::kDrop:
      return DropStreams(command);
    case SpoolVerb::kCompact:
      return CompactSpool(command);
    case SpoolVerb::kReplay:
      return ReplayDeadLetters(command);
    case SpoolVerb::kDrain:
      break;
  }
  return kExitWrongUsage;
}

// What the parser cannot say.
const char* WrongUsage(const SpoolCommand& command) {
  if (command.verb == SpoolVerb::kExport && command.file.empty() && !command.undo)
    return "export: FILE is missing; it may be - for standard output";
  if (command.verb == SpoolVerb::kDrop && command.streams.empty() && !command.all)
    return "drop: name the streams, or give --all for the whole spool";
  return nullptr;
}

int Finish(const base::Result<int>& code) {
  if (!code) return Fail(kExitFailed, code.error());
  return *code;
}

}  // namespace

base::Result<spool::KeyRing> ReadKeys(const SpoolCommand& command) {
  std::vector<std::string> keys = command.keys;
  for (const std::string& path : command.key_files) {
    std::ifstream file(path);
    std::string key;
    if (!file || !std::getline(file, key))
      return base::Unexpected(base::Code::kInvalid, path + ": cannot read a key from it");
    keys.push_back(std::move(key));
  }
  return spool::KeyRing::Parse(keys);
}

base::Result<std::unique_ptr<spool::OfflineView>> OpenView(const SpoolCommand& command) {
  HF_ASSIGN_OR_RETURN(const spool::KeyRing keys, ReadKeys(command));
  return spool::OfflineView::Open(command.directory, keys);
}

int RunSpoolCommand(const SpoolCommand& command) {
  if (const char* wrong = WrongUsage(command))
    return Fail(kExitWrongUsage, {base::Code::kInvalid, wrong, base::Event::kWrongUsage});
  return Finish(Run(command));
}

int RunDlqCommand(SpoolCommand command, std::vector<std::string> environment) {
  if (!std::filesystem::is_regular_file(command.directory)) return RunSpoolCommand(command);
  const auto config =
      config::Load({.file = command.directory, .environment = std::move(environment)});
  const auto usable = config ? config::CheckComplete(**config, "agent") : base::Result<>();
  if (!config || !usable) return Fail(kExitWrongUsage, config ? usable.error() : config.error());
  const config::Agent& agent = (*config)->agent();
  if (agent.dead_letters().policy() == config::DeadLetters::topic)
    return Finish(RunOverTopic(command, agent));
  command.directory = agent.spool().directory();
  command.keys.assign(agent.spool().encryption_keys().begin(),
                      agent.spool().encryption_keys().end());
  return RunSpoolCommand(command);
}

}  // namespace holdfast::cli
