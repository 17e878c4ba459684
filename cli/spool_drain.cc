#include "cli/spool_drain.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "agent/agent.h"
#include "agent/dead_letter.h"
#include "agent/drain_report.h"
#include "agent/forward_state.h"
#include "agent/record_log.h"
#include "agent/spool_text.h"
#include "base/event.h"
#include "base/log.h"
#include "cli/agent_options.h"
#include "cli/command_line.h"
#include "cli/loops.h"
#include "cli/output.h"
#include "cli/signals.h"
#include "cli/spool_verbs.h"
#include "cli/stream_names.h"
#include "cli/terminal.h"
#include "config/holdfast.pb.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "spool/directory.h"
#include "spool/offline.h"
#include "spool/verify.h"

namespace holdfast::cli {
namespace {

using Clock = std::chrono::steady_clock;
using spool::Directory;
using std::chrono::milliseconds;

// So soon it lets go of a spool that is wanted.
constexpr milliseconds kLookEvery = milliseconds(100);
constexpr milliseconds kTellEvery = std::chrono::seconds(1);
// Cursors are written down in this time, or asked of the tier by the next one.
constexpr milliseconds kFlushWithin = std::chrono::seconds(2);

// What of the settings concerns delivery: nobody is served, and nothing new comes from anywhere.
config::Agent ForDelivery(config::Agent agent, const std::string& directory) {
  agent.mutable_spool()->set_directory(directory);
  agent.clear_listen();
  agent.clear_listeners();
  agent.clear_admin();
  agent.clear_tls();
  agent.clear_sasl();
  agent.clear_access();
  agent.clear_ledger();
  agent.clear_transactions();
  agent.clear_outbox();
  agent.clear_half_messages();
  agent.clear_orphans();
  return agent;
}

class SpoolDrain {
 public:
  SpoolDrain(const SpoolCommand& command, Signals& signals, bool json)
      : command_(command), signals_(signals), json_(json), net_metrics_(registry_) {}

  base::Result<agent::DrainReport> Run(agent::Agent::Options options) {
    HF_ASSIGN_OR_RETURN(loops_, Loops::Start(/*workers=*/1, &net_metrics_));
    HF_ASSIGN_OR_RETURN(agent_, agent::Agent::Start(std::move(options),
                                                    {.workers = loops_.workers(),
                                                     .upstream = &loops_.upstream(),
                                                     .spool_writer = &loops_.writer(),
                                                     .spool_background = &loops_.background(),
                                                     .metrics = &net_metrics_},
                                                    registry_));
    agent::DrainReport report = Deliver();
    agent_->Drain(kFlushWithin, {});
    agent_->Stop();
    return report;
  }

 private:
  agent::DrainReport Deliver() {
    const Clock::time_point end = Clock::now() + command_.timeout;
    ProgressBar bar("delivering");
    const uint64_t bytes = agent_->WhatIsLeft().bytes;
    Clock::time_point told = Clock::now();
    while (true) {
      const agent::Left left = agent_->WhatIsLeft();
      agent::DrainReport report = ReportOf(left);
      report.why = WhyToEnd(left, end);
      report.wanted = !left.none() && agent_->Wanted();
      if (left.none()) report.why = report.kept = left.NamelessText();
      if (left.none() || !report.why.empty()) return report;
      bar.Show(bytes - std::min(bytes, left.bytes), bytes);
      if (json_ && Clock::now() - told >= kTellEvery) {
        told = Clock::now();
        PrintText(report.Print() + "\n");
        FlushOutput();
      }
    }
  }

  // Empty: go on. Waits a little for a reason.
  std::string WhyToEnd(const agent::Left& left, Clock::time_point end) {
    if (left.none()) return {};
    if (!left.other_cluster.empty()) {
      return fmt::format(
          "what waits here is of another cluster than the tier, which is {}; give the settings of "
          "the agent that this spool belongs to",
          left.other_cluster);
    }
    if (!left.withheld.empty()) return left.withheld;
    if (agent_->Wanted()) return "the spool's own agent is there, and delivers the rest";
    if (Clock::now() >= end)
      return left.trouble.empty() ? "the time is over" : "the time is over: " + left.trouble;
    if (signals_.WaitFor(kLookEvery) == Signals::Wish::kStop) return "told to stop";
    return {};
  }

  agent::DrainReport ReportOf(const agent::Left& left) {
    const agent::Settled settled = agent_->WhatIsSettled();
    return {.delivered_records = settled.delivered,
            .dead_letter_records = settled.dead_letters,
            .dropped_records = settled.dropped,
            .left_records = left.records + left.nameless_records,
            .left_bytes = left.bytes};
  }

  const SpoolCommand& command_;
  Signals& signals_;
  const bool json_;
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  Loops loops_;
  std::unique_ptr<agent::Agent> agent_;
};

// Why a spool in which nothing waits for delivery is not to go, but for damage. Empty: it may.
std::string WhyKeep(const spool::OfflineView& view) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(view.path(), error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".damaged")
      return "nothing in " + it->path().filename().string() + " can be read";
  }
  if (error) return view.path() + ": cannot list: " + error.message();
  const StreamNames names(view.state());
  for (const spool::StreamId id : names.Sorted()) {
    const spool::StreamState& stream = view.state().stream(id);
    if (stream.start == stream.end) continue;
    const auto origin = agent::ParseDeadLetterStreamName(names.Of(id));
    return fmt::format("{} {} of {} {} in it", stream.end - stream.start,
                       origin ? "dead letters" : "records", origin.value_or(names.Of(id)),
                       origin ? "are set aside" : "are");
  }
  std::string kept;
  for (const auto& [prefix, what] :
       {std::pair(agent::kOutboxPrefix, "it notes which rows of an outbox it has taken"),
        std::pair(agent::kHalfPrefix, "half messages in it are not resolved")})
    view.state().ForEach(prefix, [&](std::string_view, std::string_view) { kept = what; });
  return kept;
}

// The same of its damage. Reads all of it.
base::Result<std::string> WhyKeepDamaged(const spool::OfflineView& view,
                                         const spool::KeyRing& keys) {
  HF_ASSIGN_OR_RETURN(const spool::VerifyReport report, spool::Verify(view.path(), {.keys = keys}));
  if (!report.damages.empty()) return "it is damaged: " + report.damages.front().what;
  return std::string();
}

// How long the spool is still needed to recognise what a producer sends again: its agent may be
// back any time. Zero: no longer.
base::Result<milliseconds> ProducersWait(const spool::OfflineView& view,
                                         milliseconds remove_after) {
  HF_ASSIGN_OR_RETURN(const auto last_ms, agent::LastProducedMs(view));
  if (!last_ms) return milliseconds::zero();
  const milliseconds silent(agent::NowMs() - *last_ms);
  return std::clamp(remove_after - silent, milliseconds::zero(), remove_after);
}

// What is left when an earlier call was cut off is no spool any more.
base::Result<void> RemoveRest(const std::string& path) {
  HF_ASSIGN_OR_RETURN(Directory directory, Directory::OpenEmpty(path));
  HF_RETURN_IF_ERROR(directory.RemoveAll());
  return directory.RemoveDirectory();
}

base::Result<void> Remove(const SpoolCommand& command, const spool::KeyRing& keys,
                          agent::DrainReport& report) {
  // Who came in between goes on with it.
  HF_ASSIGN_OR_RETURN(Directory directory,
                      Directory::OpenExisting(command.directory, Directory::Tenure::kYields));
  if (!directory.being_removed()) {
    HF_RETURN_IF_ERROR(directory.CheckExported());
    HF_ASSIGN_OR_RETURN(const auto view, spool::OfflineView::Open(command.directory, keys));
    report.kept = WhyKeep(*view);
    HF_ASSIGN_OR_RETURN(const milliseconds wait, ProducersWait(*view, command.remove_after));
    if (report.kept.empty() && wait > milliseconds::zero()) {
      report.removable_in_ms = wait.count();
      report.kept =
          fmt::format("its agent could come back and be sent again what it has; it can go in {} s",
                      std::chrono::ceil<std::chrono::seconds>(wait).count());
    }
    if (report.kept.empty()) {
      HF_ASSIGN_OR_RETURN(report.kept, WhyKeepDamaged(*view, keys));
    }
    // That took its time.
    report.wanted = directory.Wanted();
    if (report.wanted) report.kept = "its own agent is there";
  }
  if (!report.kept.empty()) return {};
  HF_RETURN_IF_ERROR(directory.RemoveAll());
  HF_RETURN_IF_ERROR(directory.RemoveDirectory());
  report.removed = true;
  return {};
}

base::Result<agent::DrainReport> Drain(const SpoolCommand& command, const config::Agent& agent) {
  agent::DrainReport report;
  HF_ASSIGN_OR_RETURN(agent::Agent::Options options,
                      AgentOptionsOf(ForDelivery(agent, command.directory)));
  const auto view = Directory::Look(command.directory);
  if (!view && command.remove && view.error().code == base::Code::kNotFound &&
      std::filesystem::is_directory(command.directory)) {
    HF_RETURN_IF_ERROR(RemoveRest(command.directory));
    report.removed = true;
    return report;
  }
  if (!view) return base::Unexpected(view.error());
  HF_RETURN_IF_ERROR(CheckIdle(command.directory));
  options.spool.yields = true;
  options.only_its_cluster = true;
  options.lends_rights = command.lend_rights;
  const spool::KeyRing keys = options.spool.encryption_keys;
  if (!command.remove || !view->being_removed) {
    Signals signals(Signals::Hangup::kStop);
    SpoolDrain drain(command, signals, command.json);
    HF_ASSIGN_OR_RETURN(report, drain.Run(std::move(options)));
  }
  if (command.remove && report.left_records == 0) HF_RETURN_IF_ERROR(Remove(command, keys, report));
  return report;
}

std::string TextOf(const agent::DrainReport& report, const std::string& directory) {
  std::string text = fmt::format("delivered {} records",
                                 agent::CountText(static_cast<uint64_t>(report.delivered_records)));
  for (const auto& [count, what] : {std::pair(report.dead_letter_records, "refused for good"),
                                    std::pair(report.dropped_records, "dropped")}) {
    if (count != 0)
      text += fmt::format(", {} {}", agent::CountText(static_cast<uint64_t>(count)), what);
  }
  if (report.left_records != 0) {
    text += fmt::format("; {} ({}) are left in {}",
                        agent::CountText(static_cast<uint64_t>(report.left_records)),
                        agent::BytesText(report.left_bytes), directory);
  }
  if (report.removed) text += fmt::format("; removed {}", directory);
  if (!report.kept.empty() && report.left_records == 0)
    text += fmt::format("; kept {}: {}", directory, report.kept);
  return text + "\n";
}

}  // namespace

int DrainSpool(const SpoolCommand& command, config::Sources sources) {
  const auto config = config::Load(sources);
  const auto usable =
      config ? config::CheckComplete(**config, "agent.upstream") : base::Result<void>();
  if (!config || !usable) return Fail(kExitWrongUsage, config ? usable.error() : config.error());
  // What an agent logs in its normal course says nothing here.
  base::SetLogLevel(
      std::max(static_cast<base::LogLevel>((*config)->log().level()), base::LogLevel::kWarn));
  base::SetLogFormat((*config)->log().format() == config::Log::json ? base::LogFormat::kJson
                                                                    : base::LogFormat::kText);
  auto report = Drain(command, (*config)->agent());
  if (!report) {
    Complain(report.error());
    if (!command.json) return kExitFailed;
    report = agent::DrainReport{.why = report.error().message};
    report->done = true;
    PrintText(report->Print() + "\n");
    return kExitFailed;
  }
  report->done = true;
  if (command.json) {
    PrintText(report->Print() + "\n");
  } else {
    PrintText(TextOf(*report, command.directory));
  }
  FlushOutput();
  if (report->left_records == 0) return kExitFine;
  return Fail(kExitFailed, {base::Code::kUnavailable, command.directory + ": " + report->why,
                            base::Event::kRecordsLeft});
}

}  // namespace holdfast::cli
