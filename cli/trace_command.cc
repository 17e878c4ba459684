#include "cli/trace_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/record_trace.h"
#include "agent/spool_text.h"
#include "base/event.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/spool_verbs.h"
#include "cli/stream_names.h"
#include "cli/terminal.h"
#include "cli/trace_text.h"
#include "client/position.h"
#include "config/holdfast.pb.h"
#include "net/url_fetch.h"

namespace holdfast::cli {
namespace {

using agent::RecordTrace;
using Json = nlohmann::ordered_json;

// A time alone means the minute that begins there.
constexpr int64_t kMinuteMs = 60'000;
// Some ten bytes a stream.
constexpr size_t kDeliveriesBytesMax = size_t{64} << 20;

base::Error Wrong(std::string message) { return {base::Code::kInvalid, std::move(message)}; }

// Where the agent has its spool, as it says itself.
base::Result<std::string> AskDirectory(const std::string& admin) {
  HF_ASSIGN_OR_RETURN(const std::string page,
                      net::FetchUrl("http://" + admin + "/overview?limit=1", {}));
  const Json overview = Json::parse(page, nullptr, /*allow_exceptions=*/false);
  const Json::json_pointer role("/role");
  const Json::json_pointer at("/disk/directory");
  if (!overview.is_object() || !overview.contains(role) || overview[role] != "agent" ||
      !overview.contains(at) || !overview[at].is_string())
    return base::Unexpected(base::Code::kInvalid, admin + ": not the admin address of an agent");
  return overview[at].get<std::string>();
}

// What that agent has not written into its spool yet.
std::vector<agent::Delivery> AskDeliveries(const std::string& admin) {
  if (admin.empty()) return {};
  const auto block =
      net::FetchUrl("http://" + admin + "/deliveries", {.bytes_max = kDeliveriesBytesMax});
  if (block) return agent::ParseBlock(*block);
  Complain("how records were delivered in the last minute is left out: " + block.error().message);
  return {};
}

base::Result<SpoolCommand> SpoolOf(const TraceCommand& command, const config::Sources& sources) {
  SpoolCommand spool{.directory = command.directory, .key_files = command.key_files};
  if (!command.admin.empty()) {
    HF_ASSIGN_OR_RETURN(spool.directory, AskDirectory(command.admin));
  } else if (!sources.file.empty()) {
    HF_ASSIGN_OR_RETURN(const auto config, config::Load(sources));
    const config::Storage& storage = config->agent().spool();
    if (spool.directory.empty()) spool.directory = storage.directory();
    spool.keys.assign(storage.encryption_keys().begin(), storage.encryption_keys().end());
  }
  if (spool.directory.empty())
    return base::Unexpected(
        Wrong("which spool? Name its DIR, or --config FILE or --admin "
              "HOST:PORT of its agent"));
  return spool;
}

class Trace {
 public:
  Trace(const TraceCommand& command, const spool::OfflineView& view, spool::StreamId stream,
        const std::vector<agent::Delivery>& recent)
      : command_(command),
        view_(view),
        stream_(stream),
        deliveries_(agent::DeliveriesOf(view, stream, recent)) {}

  base::Result<int> Run() {
    if (command_.offset) return Show(*command_.offset);
    if (command_.tier_offset) {
      HF_ASSIGN_OR_RETURN(
          const int64_t offset,
          agent::OffsetAtTier(view_, stream_, *command_.tier_offset, deliveries_, Sinks()));
      return Show(offset);
    }
    return Find();
  }

 private:
  agent::TraceSinks Sinks() {
    return {.damaged =
                [this](const base::Error& error) {
                  damaged_ = true;
                  Complain(error);
                },
            .progress = [this](uint64_t done, uint64_t total) { bar_->Show(done, total); }};
  }
  [[nodiscard]] int ExitCode() const { return damaged_ ? kExitFailed : kExitFine; }

  base::Result<int> Show(int64_t offset) {
    HF_ASSIGN_OR_RETURN(const RecordTrace trace,
                        agent::TraceRecord(view_, stream_, offset, deliveries_, Sinks()));
    bar_.reset();
    const std::string text =
        command_.json ? JsonOf(trace, view_.state()).dump(-1, ' ', false, kReplace) + "\n"
                      : TextOf(trace, view_.state());
    PrintText(text);
    return ExitCode();
  }

  base::Result<int> Find() {
    std::vector<int64_t> found;
    bool more = false;
    HF_RETURN_IF_ERROR(agent::FindRecords(
        view_, stream_, {.key = command_.key, .from_ms = command_.from_ms, .to_ms = command_.to_ms},
        [&](const spool::EntryInfo&, const kafka::Record&, int64_t offset) {
          more = found.size() == command_.limit;
          if (!more) found.push_back(offset);
          return !more;
        },
        Sinks()));
    if (found.empty())
      return base::Unexpected(
          base::Code::kNotFound,
          fmt::format("{}: no such record from offset {} on is in the spool any more or yet",
                      view_.state().stream(stream_).name, view_.state().stream(stream_).start));
    if (found.size() == 1 && !more) return Show(found.front());
    for (const int64_t offset : found) HF_RETURN_IF_ERROR(ShowShort(offset));
    if (more)
      Complain(fmt::format("there are more; --limit shows more than the first {}", command_.limit));
    return ExitCode();
  }

  base::Result<> ShowShort(int64_t offset) {
    HF_ASSIGN_OR_RETURN(const RecordTrace trace,
                        agent::TraceRecord(view_, stream_, offset, deliveries_, Sinks()));
    const RecordTrace::Acceptance& accepted = *trace.accepted;
    const std::string text =
        command_.json
            ? JsonOf(trace, view_.state()).dump(-1, ' ', false, kReplace)
            : fmt::format("offset {:<12}  {}  {:<12}  {}", offset,
                          agent::TimeText(accepted.entry.commit_time_ms), FateName(trace.fate),
                          agent::Escaped(accepted.record ? accepted.record->key : std::nullopt));
    PrintText(text + "\n");
    return {};
  }

  static constexpr auto kReplace = Json::error_handler_t::replace;

  const TraceCommand& command_;
  const spool::OfflineView& view_;
  const spool::StreamId stream_;
  const std::vector<agent::Delivery> deliveries_;
  std::optional<ProgressBar> bar_{std::in_place, "looking"};
  bool damaged_ = false;
};

base::Result<int> Run(const TraceCommand& command, const SpoolCommand& spool) {
  // In this order, or what is written in between would be in neither.
  const std::vector<agent::Delivery> recent = AskDeliveries(command.admin);
  HF_ASSIGN_OR_RETURN(const auto view, OpenView(spool));
  HF_ASSIGN_OR_RETURN(
      const spool::StreamId stream,
      StreamNames(view->state()).Find(agent::StreamName(command.topic, command.partition)));
  return Trace(command, *view, stream, recent).Run();
}

struct Period {
  int64_t from_ms = 0;
  int64_t to_ms = 0;
};

std::optional<Period> ParsePeriod(const std::string& text) {
  const auto parse = [](const std::string& time) {
    return client::ParsePosition("@" + time, agent::NowMs());
  };
  const size_t dots = text.find("..");
  const auto from = parse(text.substr(0, dots));
  if (!from) return std::nullopt;
  if (dots == std::string::npos) return Period{from->value, from->value + kMinuteMs};
  const auto to = parse(text.substr(dots + 2));
  if (!to || to->value < from->value) return std::nullopt;
  return Period{from->value, to->value};
}

}  // namespace

void AddTraceOptions(CLI::App& trace, TraceCommand* command) {
  trace.add_option("TOPIC", command->topic, "The record's topic")->required()->type_name("");
  trace.add_option("PARTITION", command->partition, "And partition")
      ->required()
      ->check(CLI::NonNegativeNumber)
      ->type_name("");
  trace
      .add_option("DIR", command->directory, "The agent's spool; or --config or --admin say where")
      ->type_name("");
  CLI::Option* offset = trace.add_option("--offset", command->offset,
                                         "The offset that its producer was told with acks: local");
  offset->type_name("N");
  CLI::Option* tier =
      trace.add_option("--tier-offset", command->tier_offset, "The offset that the tier gave it");
  tier->type_name("N")->excludes(offset);
  trace.add_option("--key", command->key, "Records with this key")
      ->type_name("KEY")
      ->excludes(offset)
      ->excludes(tier);
  const auto check_time = [](const std::string& text) -> std::string {
    return ParsePeriod(text) ? "" : "must be a time such as 2026-01-31T03:00:00Z or -90m, or T..T";
  };
  const auto set_time = [command](const std::string& text) {
    const auto period = ParsePeriod(text);
    command->from_ms = period->from_ms;
    command->to_ms = period->to_ms;
  };
  trace
      .add_option_function<std::string>(
          "--time", set_time, "Records accepted in the minute that begins there, or between; UTC")
      ->check(CLI::Validator(check_time, ""))
      ->type_name("T[..T]")
      ->excludes(offset)
      ->excludes(tier);
  trace.add_option("--limit", command->limit, "Of those found show the first N [20]")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  trace.add_option("--admin", command->admin, "Ask the agent there where its spool is")
      ->type_name("HOST:PORT");
  trace
      .add_option("--spool-key", command->key_files,
                  "File with a key of an encrypted spool; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  trace.add_flag("--json", command->json, "As one JSON object a line");
}

int RunTraceCommand(const TraceCommand& command, const config::Sources& sources) {
  if (!command.offset && !command.tier_offset && !command.key && !command.from_ms)
    return Fail(kExitWrongUsage, {base::Code::kInvalid,
                                  "which record? Give --offset, --tier-offset, --key or --time",
                                  base::Event::kWrongUsage});
  const auto spool = SpoolOf(command, sources);
  if (!spool) return Fail(kExitWrongUsage, spool.error());
  const auto code = Run(command, *spool);
  return code ? *code : Fail(kExitFailed, code.error());
}

}  // namespace holdfast::cli
