#include "cli/half_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/spool_text.h"
#include "base/utf8.h"
#include "cli/command_line.h"
#include "cli/complain.h"
#include "cli/output.h"
#include "net/url_fetch.h"

namespace holdfast::cli {
namespace {

using nlohmann::json;

constexpr const char* kVerbFooter = R"(ADDRESS is the agent's admin address (agent.admin).

Example:
  holdfast half ls 127.0.0.1:9090
  holdfast half commit 127.0.0.1:9090 3f0c1a5e7b8d49626d0f4f0a8a1c2e3b)";

int List(const std::string& base) {
  const auto page = net::FetchUrl(base, {.bytes_max = size_t{64} << 20});
  if (!page) return Fail(kExitFailed, page.error());
  const json listed = json::parse(*page, nullptr, /*allow_exceptions=*/false);
  if (!listed.is_object())
    return Fail(kExitFailed, {base::Code::kInvalid, base + ": not the page of an agent"});
  PrintText(fmt::format("{:32}  {:24}  {:24}  {:>6}  {:6}  {}\n", "ID", "TOPIC", "PREPARED",
                        "CHECKS", "PARKED", "CHECK URL"));
  for (const json& message : listed.value("messages", json::array())) {
    PrintText(fmt::format("{:32}  {:24}  {:24}  {:>6}  {:6}  {}\n",
                          base::Printable(message.value("id", "")),
                          base::Printable(message.value("topic", "")),
                          agent::TimeText(message.value("prepared_ms", int64_t{0})),
                          message.value("checks", 0), message.value("parked", false) ? "yes" : "no",
                          base::Printable(message.value("check_url", ""))));
  }
  return kExitFine;
}

// The agent says why in a line.
base::Error Refusal(const std::string& id, const net::Fetched& answer) {
  const std::string why = answer.body.substr(0, answer.body.find('\n'));
  base::Code code = base::Code::kInvalid;
  if (answer.status == 404) code = base::Code::kNotFound;
  if (answer.status >= 500) code = base::Code::kUnavailable;
  return {code,
          fmt::format("{}: {}", id, why.empty() ? fmt::format("HTTP {}", answer.status) : why)};
}

}  // namespace

void AddHalfVerbs(CLI::App& half, HalfCommand* command) {
  half.require_subcommand(0, 1);
  const auto add = [&half, command](HalfVerb verb, const char* name, const char* description) {
    CLI::App* added = half.add_subcommand(name, description);
    added->footer(kVerbFooter);
    added->callback([command, verb] { command->verb = verb; });
    added->add_option("ADDRESS", command->address, "HOST:PORT of agent.admin")
        ->required()
        ->type_name("");
    if (verb == HalfVerb::kLs) return;
    added->add_option("ID", command->ids, "Which; as `ls` shows them")->required()->type_name("");
  };
  add(HalfVerb::kLs, "ls", "Half messages that are not resolved");
  add(HalfVerb::kCommit, "commit", "Send them");
  add(HalfVerb::kRollBack, "rollback", "Forget them");
}

int RunHalfCommand(const HalfCommand& command) {
  const std::string base = "http://" + command.address + "/half";
  if (command.verb == HalfVerb::kLs) return List(base);
  int code = kExitFine;
  const bool commit = command.verb == HalfVerb::kCommit;
  for (const std::string& id : command.ids) {
    const auto done = net::AskUrl(
        fmt::format("{}/{}?id={}", base, commit ? "commit" : "rollback", id), {.method = "POST"});
    if (!done) {
      code = Fail(kExitFailed, done.error());
    } else if (done->status >= 300) {
      code = Fail(kExitFailed, Refusal(id, *done));
    } else {
      PrintText(fmt::format("{} {}\n", id, commit ? "sent" : "forgotten"));
    }
  }
  return code;
}

}  // namespace holdfast::cli
