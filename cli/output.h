// A command's standard output, and whether all of it was written: stdio says so once, and then
// throws away what it could not write.
//
// Threads: main.
#pragma once

#include <string_view>

namespace holdfast::cli {

// Everything that a command prints goes this way.
void PrintText(std::string_view text);
// Writes what is still held back. False: something was lost, now or before.
bool FlushOutput();
// What was printed was lost, as far as is known without a flush.
bool OutputFailed();

// For the command's end: its exit code, or kExitFailed if what it printed is not all there. Says so
// unless whoever read it has gone.
int FinishOutput(int exit_code);

}  // namespace holdfast::cli
