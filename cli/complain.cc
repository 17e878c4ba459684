#include "cli/complain.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/event.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/command_line.h"
#include "cli/output.h"

namespace holdfast::cli {
namespace {

constexpr size_t kColumns = 80;

// Broken between words.
std::string Fill(std::string_view text) {
  std::string filled;
  while (text.size() > kColumns) {
    const size_t blank = text.rfind(' ', kColumns);
    if (blank == std::string_view::npos) break;
    filled.append(text.substr(0, blank)).append("\n");
    text.remove_prefix(blank + 1);
  }
  return filled.append(text);
}

// Messages name what others chose. Some have lines.
std::string PrintableLines(std::string_view text) {
  std::string printable;
  for (size_t end = 0; (end = text.find('\n')) != std::string_view::npos;) {
    printable += base::Printable(text.substr(0, end)) + "\n";
    text.remove_prefix(end + 1);
  }
  return printable + base::Printable(text);
}

// Where nobody hears it the exit code says enough.
void Say(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stderr); }

}  // namespace

void Complain(std::string_view message) {
  Say(fmt::format("{}holdfast: {}\n", base::LogsToJournal() ? "<3>" : "", PrintableLines(message)));
}

void Complain(const base::Error& error) {
  const std::string code = base::EventCode(base::EventOf(error));
  Complain(fmt::format("{}: {}", code, error.message));
  if (isatty(STDERR_FILENO) == 1) Say(fmt::format("`holdfast explain {}` says more.\n", code));
}

int Fail(int exit_code, const base::Error& error) {
  Complain(error);
  return exit_code;
}

int Explain(std::string_view code) {
  if (code.empty()) {
    for (const base::EventInfo& info : base::Events())
      PrintText(fmt::format("{}  {}\n", base::EventCode(info.event), info.meaning));
    return kExitFine;
  }
  const base::EventInfo* const info = base::FindEvent(code);
  if (info == nullptr)
    return Fail(kExitWrongUsage,
                {base::Code::kNotFound,
                 fmt::format("there is no code {}; `holdfast explain` lists all", code),
                 base::Event::kWrongUsage});
  PrintText(fmt::format("{} ({}, {})\n\n{}\n\n{}\n", base::EventCode(info->event),
                        base::EventAreaName(info->event), base::LogLevelName(info->level),
                        Fill(info->meaning), Fill(info->remedy)));
  return kExitFine;
}

}  // namespace holdfast::cli
