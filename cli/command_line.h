// The command line of `holdfast`: which command, and where its configuration comes from.
//
// Threads: none.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "cli/client_command.h"
#include "cli/doctor.h"
#include "cli/half_command.h"
#include "cli/inject_command.h"
#include "cli/outbox_command.h"
#include "cli/spool_command.h"
#include "cli/top/command.h"
#include "cli/trace_command.h"
#include "config/config.h"

namespace holdfast::cli {

// What a process says by its exit code.
inline constexpr int kExitFine = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongUsage = 2;  // Or wrong configuration.

enum class Command : uint8_t {
  kAgent,
  kBroker,
  kDev,
  kValidate,
  kSpool,
  kDlq,
  kTrace,
  kOutbox,
  kHalf,
  kDoctor,
  kInject,
  kClient,  // Of a tier.
  kTop,
  kExplain,
  kVersion
};

struct CommandLine {
  Command command = Command::kVersion;
  config::Sources sources;
  SpoolCommand spool;
  TraceCommand trace;
  OutboxCommand outbox;
  HalfCommand half;
  DoctorCommand doctor;
  InjectCommand inject;
  ClientCommand client;
  top::TopCommand top;
  std::string explain;  // A code, or nothing for all.
};

// Nothing to run: a help text (standard output) or a wrong usage (standard error).
struct Exit {
  int code = kExitFine;
  std::string text;
};

std::variant<CommandLine, Exit> ParseCommandLine(int argc, const char* const* argv);

}  // namespace holdfast::cli
