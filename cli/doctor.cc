#include "cli/doctor.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "agent/spool_text.h"
#include "base/log.h"
#include "cli/command_line.h"
#include "cli/doctor/clock_check.h"
#include "cli/doctor/config_check.h"
#include "cli/doctor/disk_check.h"
#include "cli/doctor/finding.h"
#include "cli/doctor/kubernetes_check.h"
#include "cli/doctor/spool_facts.h"
#include "cli/doctor/upstream_check.h"
#include "cli/loops.h"
#include "cli/outbox_options.h"
#include "cli/output.h"
#include "cli/own_listener.h"
#include "cli/role.h"
#include "cli/security.h"
#include "cli/start_check.h"
#include "config/holdfast.pb.h"
#include "net/address.h"
#include "spool/directory.h"

namespace holdfast::cli {
namespace {

using base::Event;
using doctor::Area;
using doctor::Findings;
using doctor::Severity;

// Databases that do not answer are given up one by one; past this no more are asked.
constexpr std::chrono::seconds kDatabasesMost{20};

class Doctor {
 public:
  Doctor(const config::Config& config, const config::Config& written, const std::string& file)
      : config_(config), written_(written), file_(file), limits_(doctor::ReadCgroup("/")) {}

  Findings Look(Area area) {
    switch (area) {
      case Area::kConfig:
        return LookAtConfig();
      case Area::kDisk:
        return LookAtDisks();
      case Area::kClock:
        LookIntoSpool();
        return doctor::CheckClock(doctor::ReadClock(), agent::NowMs(),
                                  spool_ ? spool_->newest_ms : std::nullopt);
      case Area::kUpstream:
        return LookAtUpstream();
      case Area::kDatabases:
        return LookAtDatabases();
      case Area::kKubernetes:
        return doctor::CheckKubernetes(doctor::ReadSurroundings(limits_), DrainTime());
    }
    return Findings(area);
  }

 private:
  // Once, for the areas that ask for it: it reads what waits.
  void LookIntoSpool() {
    if (std::exchange(looked_, true)) return;
    if (!config_.has_agent() || !config_.agent().spool().has_directory()) return;
    const auto options = SpoolOptionsOf(config_.agent().spool(), "agent.spool");
    if (!options) return;
    auto facts = doctor::LookIntoSpool(options->directory, options->encryption_keys);
    if (facts) {
      spool_ = *std::move(facts);
    } else {
      spool_error_ = std::move(facts).error();
    }
  }

  // What stops a process from starting, besides what is missing.
  Findings LookAtConfig() {
    Findings findings = doctor::CheckConfig(
        {.config = config_, .written = written_, .file = file_, .limits = limits_});
    const auto check = [&](const base::Result<void>& result) {
      if (!result) findings.Trouble(Event::kConfigWrong, result.error().message);
    };
    if (config_.has_agent()) check(CheckAgent(config_.agent()));
    if (config_.has_broker()) check(CheckBroker(config_.broker()));
    if (config_.has_inject()) check(CheckInject(config_));
    check(CheckTierIsAnother(config_.agent()));
    if (const auto security = AgentSecurityOf(config_.agent())) {
      std::string what = NoSecretsFromElsewhere(config_.agent(), *security);
      if (!what.empty()) findings.Note(std::move(what));
    }
    for (std::string& text : TiersThatMayBeOwn(config_.agent())) findings.Note(std::move(text));
    return findings;
  }

  static doctor::DiskQuestion QuestionOf(std::string key, const config::Storage& storage,
                                         uint64_t connection_files_max) {
    // As spool/segment_store.cc has it.
    uint64_t segment = storage.segment_bytes();
    if (storage.bytes_max() != 0) segment = std::min(segment, storage.bytes_max() / 4);
    return {.key = std::move(key),
            .directory = storage.directory(),
            .segment_bytes = segment,
            .bytes_max = storage.bytes_max(),
            .free_bytes_min = storage.free_bytes_min(),
            .connection_files_max = connection_files_max};
  }

  Findings LookAtDisks() {
    LookIntoSpool();
    Findings findings(Area::kDisk);
    // The limit is that of each address. At an agent a client has a connection to the tier, too.
    const config::Agent& agent = config_.agent();
    const auto at_agent = static_cast<uint64_t>(agent.listen_size() + agent.listeners_size());
    findings.Add(doctor::CheckDisk(
        QuestionOf("agent.spool", agent.spool(), 2 * at_agent * agent.limits().connections_max())));
    const config::Broker& broker = config_.broker();
    const auto at_broker = static_cast<uint64_t>(1 + broker.listeners_size());
    findings.Add(doctor::CheckDisk(
        QuestionOf("broker.data", broker.data(), at_broker * broker.limits().connections_max())));
    if (findings.all().empty()) findings.Note("no directory is set");
    // There is one, and what is in it cannot be read: damage, or the wrong key.
    const bool said = std::ranges::any_of(findings.all(), [](const doctor::Finding& finding) {
      return finding.problem == Event::kSpoolNotUsable || finding.problem == Event::kNotASpool ||
             finding.problem == Event::kNoRightsOnDirectory;
    });
    if (spool_error_ && spool_error_->code != base::Code::kNotFound && !said)
      findings.Trouble(Event::kSpoolNotUsable, spool_error_->message);
    return findings;
  }

  Findings LookAtUpstream() {
    LookIntoSpool();
    Findings findings(Area::kUpstream);
    const config::Agent& agent = config_.agent();
    doctor::UpstreamQuestion question{.batch_bytes_max = agent.limits().batch_bytes_max(),
                                      .spool = spool_,
                                      .now_ms = agent::NowMs()};
    if (spool_ && spool_->cut_off)
      findings.Note(
          "agent.spool has so much that only its oldest entries were looked at: sizes and ages of "
          "what waits for topics are those of these");
    for (const std::string& address : agent.upstream().bootstrap()) {
      auto parsed = net::HostPort::Parse(address);
      if (parsed) question.bootstrap.push_back(*std::move(parsed));
    }
    if (question.bootstrap.empty()) {
      findings.Note("no tier is set (agent.upstream.bootstrap)");
      return findings;
    }
    auto identity = TierIdentityOf(agent.upstream());
    if (!identity) {
      findings.Trouble(Event::kConfigWrong, identity.error().message);
      return findings;
    }
    question.identity = *std::move(identity);
    question.transactional = agent.upstream().delivery() != config::Upstream::idempotent;
    for (const config::DeclaredTopic& topic : agent.topics())
      question.topics.push_back({.name = topic.name()});
    if (agent.ledger().has_topic()) question.topics.push_back({.name = agent.ledger().topic()});
    if (agent.dead_letters().policy() == config::DeadLetters::topic)
      question.topics.push_back({.name = agent.dead_letters().topic_name(), .declared = false});
    return doctor::CheckUpstream(question);
  }

  Findings LookAtDatabases() {
    Findings findings(Area::kDatabases);
    const auto sources = OutboxOptionsOf(config_.agent());
    if (!sources) {
      findings.Trouble(Event::kConfigWrong, sources.error().message);
      return findings;
    }
    if (sources->empty()) findings.Note("there are no outbox sources");
    const auto end = std::chrono::steady_clock::now() + kDatabasesMost;
    for (const outbox::OutboxOptions& options : *sources) {
      const std::string name = "agent.outbox " + options.drain.name;
      if (std::chrono::steady_clock::now() > end) {
        findings.Trouble(Event::kOutOfTime, name);
        continue;
      }
      LookAtDatabase(name, options, findings);
    }
    return findings;
  }

  void LookAtDatabase(const std::string& name, const outbox::OutboxOptions& options,
                      Findings& findings) const {
    const auto sight = options.make_source({.delivered = [] { return false; }})->Look();
    if (!sight) {
      findings.Trouble(Event::kOutboxNotUsable, fmt::format("{}: {}", name, sight.error().message));
      return;
    }
    if (sight->taken) SayWhoTakes(name, findings);
    const auto& lag = sight->lag;
    if (!lag) {
      findings.Note(name + ": not looked into, as a file would have to be made beside it for that");
      return;
    }
    uint64_t rows = 0;
    for (const outbox::Source::Lag::Part& part : lag->parts) rows += part.rows;
    findings.Good(fmt::format("{}: good; {}{} rows wait", name, agent::CountText(rows),
                              rows >= outbox::Source::Lag::kCountMost ? " or more" : ""));
    if (lag->without_position != 0)
      findings.Trouble(Event::kOutboxNotUsable, Severity::kWarning,
                       fmt::format("{}: {} rows have no integer as their position, and are never "
                                   "sent",
                                   name, agent::CountText(lag->without_position)));
    if (!sight->doubt.empty())
      findings.Trouble(Event::kOutboxOrderInDoubt, fmt::format("{}: {}", name, sight->doubt));
    if (lag->quarantined != 0)
      findings.Trouble(Event::kOutboxQuarantine,
                       fmt::format("{}: {} rows are in the quarantine", name,
                                   agent::CountText(lag->quarantined)));
  }

  void SayWhoTakes(const std::string& name, Findings& findings) const {
    const auto spool = spool::Directory::Look(config_.agent().spool().directory());
    if (spool && spool->live) {
      findings.Note(fmt::format(
          "{}: an agent takes events out of it; agent.spool is in use by the process with pid {}",
          name, spool->owner));
      return;
    }
    findings.Trouble(Event::kOutboxNotUsable, Severity::kWarning,
                     name +
                         ": another agent takes events out of it, and one at a time can; "
                         "agent.spool is in use by nobody");
  }

  [[nodiscard]] std::chrono::milliseconds DrainTime() const {
    const config::Agent& agent = config_.agent();
    return std::chrono::milliseconds(config_.has_agent()
                                         ? agent.drain_timeout_ms() + agent.drain_backlog_ms()
                                         : config_.broker().drain_timeout_ms());
  }

  const config::Config& config_;
  const config::Config& written_;
  const std::string& file_;
  const doctor::CgroupLimits limits_;
  bool looked_ = false;  // Into the spool.
  std::optional<doctor::SpoolFacts> spool_;
  std::optional<base::Error> spool_error_;  // Why there is none.
};

void Print(const DoctorCommand& command, const std::vector<Findings>& areas) {
  PrintText(command.json ? PrintJson(areas) : PrintText(areas));
}

}  // namespace

void AddDoctorOptions(CLI::App& doctor, DoctorCommand* command) {
  std::vector<std::string> names;
  for (const Area area : doctor::kAreas) names.emplace_back(AreaName(area));
  doctor.add_option("--only", command->only, "Look at these areas alone")
      ->delimiter(',')
      ->check(CLI::IsMember(names))
      ->type_name("AREA[,...]")
      ->allow_extra_args(false);
  doctor.add_flag("--json", command->json, "Print one JSON object");
  doctor.add_flag("--strict", command->strict, "Exit with 1 if there are warnings, too");
}

int RunDoctor(const DoctorCommand& command, const config::Sources& sources) {
  // What parts of an agent log in their course says nothing here.
  base::SetLogLevel(base::LogLevel::kError);
  const auto config = config::Load(sources);
  if (!config) {
    Findings wrong(Area::kConfig);
    wrong.Trouble(Event::kConfigWrong, config.error().message);
    Print(command, {wrong});
    return kExitWrongUsage;
  }
  config::Sources as_written = sources;
  as_written.references = config::References::kKeep;
  const auto written = config::Load(as_written);
  Doctor doctor(**config, written ? **written : **config, sources.file);
  std::vector<Findings> areas;
  for (const Area area : doctor::kAreas) {
    if (command.only.empty() ||
        std::ranges::find(command.only, AreaName(area)) != command.only.end())
      areas.push_back(doctor.Look(area));
  }
  Print(command, areas);
  const auto any = [&](Severity severity) {
    return std::ranges::any_of(
        areas, [&](const Findings& findings) { return findings.CountOf(severity) != 0; });
  };
  return any(Severity::kError) || (command.strict && any(Severity::kWarning)) ? kExitFailed
                                                                              : kExitFine;
}

}  // namespace holdfast::cli
