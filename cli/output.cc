#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <string>

#include "cli/command_line.h"
#include "cli/complain.h"

namespace holdfast::cli {
namespace {

int first_errno = 0;  // Of what could not be written; 0: nothing.

void NoteFailure() {
  if (first_errno == 0) first_errno = errno;
}

}  // namespace

void PrintText(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) NoteFailure();
}

bool FlushOutput() {
  if (std::fflush(stdout) != 0) NoteFailure();
  return !OutputFailed();
}

bool OutputFailed() { return first_errno != 0; }

int FinishOutput(int exit_code) {
  if (FlushOutput()) return exit_code;
  if (first_errno != EPIPE)
    Complain(base::ErrnoError("cannot write to standard output", first_errno));
  return exit_code == kExitFine ? kExitFailed : exit_code;
}

}  // namespace holdfast::cli
