// `holdfast top`: the status page (docs/status-page.md) in a terminal.
//
// Asks /overview of an agent or a broker every so often and shows it (cli/top/view.h); where there
// is no terminal, or on request, it prints it as plain text. If nobody answers it says so and asks
// again.
//
// Threads: main runs a loop; another asks, and blocks meanwhile.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace CLI {
class App;
}

namespace holdfast::top {

struct TopCommand {
  std::string admin = "127.0.0.1:9090";
  std::chrono::milliseconds interval = std::chrono::seconds(2);
  std::string sort;
  std::string filter;
  bool once = false;
  bool batch = false;
  uint64_t count = 0;  // Of what is printed in a batch; 0: no end.
};

// Parsing fills `command`, which outlives `top`.
void AddTopOptions(CLI::App& top, TopCommand* command);

// Returns the exit code.
int RunTop(const TopCommand& command);

}  // namespace holdfast::top
