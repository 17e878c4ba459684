// `holdfast trace TOPIC PARTITION`: what happened to a record, from the spool of an agent
// (agent/record_trace.h). Works beside the agent or without one, and changes nothing.
//
// The record is named by its offset, here or at the tier; or looked for by key and time, which
// lists those that match, and traces the one that is alone.
//
// Output goes to standard output, what went wrong and progress to standard error.
// Threads: main.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"

namespace CLI {
class App;
}

namespace holdfast::cli {

struct TraceCommand {
  std::string topic;
  int32_t partition = 0;
  std::string directory;  // Or where it is from: the configuration or a running agent.
  std::string admin;      // HOST:PORT.
  std::vector<std::string> key_files;
  std::optional<int64_t> offset;
  std::optional<int64_t> tier_offset;
  std::optional<std::string> key;
  std::optional<int64_t> from_ms;
  std::optional<int64_t> to_ms;
  uint64_t limit = 20;
  bool json = false;
};

// Adds the command's own options. Parsing fills `command`, which outlives `trace`.
void AddTraceOptions(CLI::App& trace, TraceCommand* command);

// Returns the exit code. `sources`: of the configuration, if its file is named.
int RunTraceCommand(const TraceCommand& command, const config::Sources& sources);

}  // namespace holdfast::cli
