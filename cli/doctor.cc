#include "cli/doctor.h"

#include <fmt/format.h>

#include "cli/command_line.h"
#include "cli/outbox_options.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {

int RunDoctor(const config::Config& config) {
  const auto sources = OutboxOptionsOf(config.agent());
  if (!sources) {
    fmt::print("{}\n", sources.error().message);
    return kExitFailed;
  }
  if (sources->empty()) fmt::print("agent.outbox: there are no sources\n");
  int code = kExitFine;
  for (const outbox::OutboxOptions& options : *sources) {
    const auto source = options.make_source([] { return false; });
    if (const auto opened = source->Open(); opened) {
      fmt::print("agent.outbox {}: good\n", options.drain.name);
      source->Close(/*clean=*/true);
    } else {
      fmt::print("agent.outbox {}: {}\n", options.drain.name, opened.error().message);
      code = kExitFailed;
    }
  }
  return code;
}

}  // namespace holdfast::cli
