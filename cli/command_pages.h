// The manual page and the shell completion of a command line, made from what parses it, so that
// they say no more and no less than it takes.
//
// Threads: none.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace holdfast::cli {

// In the man(7) language. `date`: of the release, as 2026-11-28.
std::string ManualPage(const CLI::App& app, const std::string& date);

// For bash: commands, verbs and options; where neither fits, names of files.
std::string BashCompletion(const CLI::App& app);

}  // namespace holdfast::cli
