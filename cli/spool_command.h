// `holdfast spool VERB DIR`: what an operator does with a spool's directory, of an agent or of a
// broker. status, ls, cat and verify only look, and work beside a running process; the others
// change the directory, own it meanwhile, and refuse if a process has it. drain
// (agent/spool_drain.h) is the only one that needs a configuration.
//
// `holdfast dlq VERB DIR|FILE`: the same for dead letters, which are in an agent's spool or, as the
// agent's configuration FILE may say, in a topic.
//
// Output goes to standard output, what went wrong and progress to standard error.
// Threads: main.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace holdfast::cli {

enum class SpoolVerb : uint8_t {
  kStatus,
  kLs,
  kCat,
  kVerify,
  kRepair,
  kExport,
  kImport,
  kDrop,
  kCompact,
  kDrain,   // agent/spool_drain.h
  kReplay,  // Of dead letters.
};

enum class CatFormat : uint8_t { kText, kJson, kRaw };

// As the command line says it.
struct SpoolCommand {
  SpoolVerb verb = SpoolVerb::kStatus;
  std::string directory;             // dlq: or a configuration file.
  std::vector<std::string> streams;  // cat: one; drop: any.
  std::string file;                  // export, import; "-" is standard output or input.
  std::vector<std::string> key_files;
  std::vector<std::string> keys;  // From a configuration file.
  std::optional<int64_t> from;
  std::optional<uint64_t> count;
  CatFormat format = CatFormat::kText;
  bool json = false;
  bool yes = false;
  bool all = false;
  bool copy = false;
  bool undo = false;
  std::chrono::milliseconds timeout = std::chrono::minutes(10);  // drain.
  bool remove = false;                                           // drain.
  bool lend_rights = false;                                      // drain.
  std::chrono::milliseconds remove_after{};                      // drain, with `remove`.
  bool dead_letters = false;  // ls, cat: of dead letters only; streams are those they come from.
};

// Adds the verbs and their options below `spool`. Parsing fills `command`, which outlives `spool`.
void AddSpoolVerbs(CLI::App& spool, SpoolCommand* command);

// The same for `holdfast dlq`: what an agent set aside in its spool.
void AddDlqVerbs(CLI::App& dlq, SpoolCommand* command);

// Both return the exit code. `environment`: NAME=VALUE, for a configuration file.
int RunSpoolCommand(const SpoolCommand& command);
int RunDlqCommand(SpoolCommand command, std::vector<std::string> environment);

}  // namespace holdfast::cli
