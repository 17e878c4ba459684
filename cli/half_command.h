// `holdfast half VERB ADDRESS`: what an operator does with half messages that nobody resolved
// (agent/outbox/half_messages.h), by way of the running agent's admin address.
//
// Output goes to standard output, what went wrong to standard error. Threads: main.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace holdfast::cli {

enum class HalfVerb : uint8_t { kLs, kCommit, kRollBack };

struct HalfCommand {
  HalfVerb verb = HalfVerb::kLs;
  std::string address;
  std::vector<std::string> ids;
};

// Adds the verbs below `half`. Parsing fills `command`, which outlives `half`.
void AddHalfVerbs(CLI::App& half, HalfCommand* command);

// Returns the exit code.
int RunHalfCommand(const HalfCommand& command);

}  // namespace holdfast::cli
