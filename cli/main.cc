// The `holdfast` binary: from the command line and the configuration to a running process.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "agent/watch.h"
#include "base/event.h"
#include "base/log.h"
#include "base/supervisor.h"
#include "cli/command_line.h"
#include "cli/complain.h"
#include "cli/doctor.h"
#include "cli/loops.h"
#include "cli/output.h"
#include "cli/own_listener.h"
#include "cli/reloader.h"
#include "cli/role.h"
#include "cli/signals.h"
#include "cli/spool_drain.h"
#include "cli/start_check.h"
#include "config/config.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {
namespace {

// A drain that hangs is cut off this long after its own limit.
constexpr std::chrono::milliseconds kDrainGrace = std::chrono::seconds(5);
constexpr std::string_view kOverdue =
    "holdfast: HF4201: did not drain in time, exiting; what was acknowledged is on disk\n";

using Roles = std::vector<std::unique_ptr<Role>>;  // In the order of draining.

// What a process has besides its roles.
struct Process {
  Signals& signals;
  Reloader& reloader;
  const base::Supervisor& supervisor;
};

void PrintListeners(const Role& role) {
  std::string lines;
  for (const std::string& address : role.ListenAddresses())
    lines += fmt::format("{} listening on {}\n", role.name(), address);
  if (const std::string admin = role.AdminAddress(); !admin.empty())
    lines += fmt::format("{} admin on {}\n", role.name(), admin);
  PrintText(lines);
  FlushOutput();
}

void PrintWhatToTry(const Role& agent) {
  const std::string address = agent.ListenAddresses().front();
  PrintText(fmt::format(
      "\nTry, in another terminal:\n"
      "  echo hello | kcat -P -b {0} -t greetings     # acknowledged once it is on this disk\n"
      "  kcat -C -b {0} -t greetings -o beginning -e  # read through the agent from its broker\n"
      "  kcat -L -b {0}                               # what is there\n"
      "  curl http://{1}/status                       # what waits, and how the tier is\n"
      "Ctrl-C stops both; the records stay.\n",
      address, agent.AdminAddress()));
  FlushOutput();
}

std::string Summary(const Roles& roles) {
  std::string text;
  for (const std::unique_ptr<Role>& role : roles)
    text += (text.empty() ? "" : "; ") + role->Summary();
  return text;
}

// A Watch over all loops of the roles, on a thread of its own.
class WatchThread {
 public:
  static base::Result<std::unique_ptr<WatchThread>> Start(const Roles& roles,
                                                          const base::Supervisor& supervisor) {
    HF_ASSIGN_OR_RETURN(auto thread, net::LoopThread::Start({.name = "watch"}));
    return std::unique_ptr<WatchThread>(new WatchThread(std::move(thread), roles, supervisor));
  }
  ~WatchThread() {
    thread_->loop().RunAndWait([this] { watch_.reset(); });
  }

  void NoteDraining() { draining_ = true; }

 private:
  WatchThread(std::unique_ptr<net::LoopThread> thread, const Roles& roles,
              const base::Supervisor& supervisor)
      : thread_(std::move(thread)) {
    std::vector<base::Executor*> watched;
    for (const std::unique_ptr<Role>& role : roles) {
      for (base::Executor* const loop : role->WatchedLoops()) watched.push_back(loop);
    }
    watch_ = std::make_unique<agent::Watch>(agent::Watch::Context{
        .loop = thread_->loop(),
        .supervisor = supervisor,
        .watched = std::move(watched),
        .status = [this, &roles] { return (draining_ ? "draining; " : "") + Summary(roles); }});
    thread_->loop().Post([this] { watch_->Start(); });
  }

  std::unique_ptr<net::LoopThread> thread_;
  std::atomic<bool> draining_{false};
  std::unique_ptr<agent::Watch> watch_;  // Of the thread.
};

// Until a signal says stop.
int Serve(const Roles& roles, const Process& process) {
  const auto& [signals, reloader, supervisor] = process;
  std::unique_ptr<WatchThread> watch;
  if (supervisor.present()) {
    auto started = WatchThread::Start(roles, supervisor);
    if (!started) return Fail(kExitFailed, started.error());
    watch = *std::move(started);
    supervisor.Ready(Summary(roles));
  }
  reloader.SetApply([&roles](const config::Config& config) -> base::Result<void> {
    for (const std::unique_ptr<Role>& role : roles) HF_RETURN_IF_ERROR(role->Reload(config));
    return {};
  });
  while (signals.Wait() == Signals::Wish::kReload) {
    // The log has the outcome.
    [[maybe_unused]] const auto done = reloader.Reload();
  }
  reloader.SetApply({});
  std::chrono::milliseconds limit = kDrainGrace;
  for (const std::unique_ptr<Role>& role : roles) limit += role->drain_limit();
  signals.ExitOnNext(limit, kOverdue);
  supervisor.Stopping(limit + kDrainGrace);
  if (watch) watch->NoteDraining();
  for (const std::unique_ptr<Role>& role : roles) role->Drain();
  base::Log(base::LogLevel::kInfo, "main", "drained");
  const bool blocked =
      std::ranges::any_of(roles, [](const std::unique_ptr<Role>& role) { return role->Blocked(); });
  if (blocked) std::_Exit(FinishOutput(kExitFine));
  return kExitFine;
}

// An option of its own has become a setting by now.
std::vector<std::string> SettingsOf(const config::Sources& sources) {
  std::vector<std::string> arguments;
  if (!sources.file.empty()) arguments = {"--config", sources.file};
  for (const config::Setting& setting : sources.sets) {
    arguments.emplace_back("--set");
    arguments.push_back(setting.key + "=" + setting.value);
  }
  return arguments;
}

Controls ControlsOf(Reloader& reloader) {
  return {.reload = [&reloader] { return reloader.Reload(); },
          .print_config = [&reloader] { return reloader.Print(); },
          .stop = [] { Signals::RequestStop(); }};
}

int RunAgent(const config::Config& config, const config::Sources& sources, const Process& process) {
  for (const std::string& text : TiersThatMayBeOwn(config.agent()))
    base::Log(base::Event::kTierMayBeOwn, "main", "{}", text);
  Controls controls = ControlsOf(process.reloader);
  controls.settings = SettingsOf(sources);
  auto agent = StartAgent(config.agent(), std::move(controls));
  if (!agent) return Fail(kExitFailed, agent.error());
  PrintListeners(**agent);
  Roles roles;
  roles.push_back(*std::move(agent));
  return Serve(roles, process);
}

int RunBroker(const config::Config& config, const Process& process) {
  auto broker = StartBroker(config.broker(), ControlsOf(process.reloader));
  if (!broker) return Fail(kExitFailed, broker.error());
  PrintListeners(**broker);
  Roles roles;
  roles.push_back(*std::move(broker));
  return Serve(roles, process);
}

int RunInject(const config::Config& config, const std::string& file, const Process& process) {
  auto inject = StartInject(config.inject(), file, [&reloader = process.reloader] {
    return reloader.Reload().has_value();
  });
  if (!inject) return Fail(kExitFailed, inject.error());
  PrintListeners(**inject);
  Roles roles;
  roles.push_back(*std::move(inject));
  return Serve(roles, process);
}

// What a file that other roles share says of another tier.
void LeaveOutForDev(config::Agent& agent) {
  agent.mutable_upstream()->clear_bootstrap();
  agent.clear_orphans();  // A child would not know the address of this tier.
}

int RunDev(config::Config config, const Process& process) {
  const std::string& directory = config.dev().directory();
  config::Storage& spool = *config.mutable_agent()->mutable_spool();
  if (!spool.has_directory()) spool.set_directory(directory + "/agent");
  config::Storage& data = *config.mutable_broker()->mutable_data();
  if (!data.has_directory()) data.set_directory(directory + "/broker");

  auto broker = StartBroker(config.broker(), ControlsOf(process.reloader));
  if (!broker) return Fail(kExitFailed, broker.error());
  LeaveOutForDev(*config.mutable_agent());
  for (const std::string& address : (*broker)->ListenAddresses())
    config.mutable_agent()->mutable_upstream()->add_bootstrap(address);
  auto agent = StartAgent(config.agent(), ControlsOf(process.reloader));
  if (!agent) return Fail(kExitFailed, agent.error());

  PrintListeners(**agent);
  PrintListeners(**broker);
  PrintWhatToTry(**agent);
  Roles roles;
  roles.push_back(*std::move(agent));
  roles.push_back(*std::move(broker));
  return Serve(roles, process);
}

// What is different when both run on one machine to be tried.
std::vector<config::Setting> DevDefaults() {
  return {{"agent.listen", "127.0.0.1:9092", "default"},
          {"agent.admin", "127.0.0.1:9090", "default"},
          {"broker.listen", "127.0.0.1:9192", "default"},
          {"broker.admin", "127.0.0.1:9190", "default"},
          {"broker.groups.initial_rebalance_delay_ms", "0", "default"}};
}

// A role of its own, with its part of the configuration.
struct Part {
  const char* name;
  Command command;
  bool present;
  base::Result<> (*check)(const config::Config&);
};

std::array<Part, 3> PartsOf(const config::Config& config) {
  return {{{"agent", Command::kAgent, config.has_agent(),
            [](const config::Config& all) -> base::Result<> {
              HF_RETURN_IF_ERROR(CheckTierIsAnother(all.agent()));
              return CheckAgent(all.agent());
            }},
           {"broker", Command::kBroker, config.has_broker(),
            [](const config::Config& all) { return CheckBroker(all.broker()); }},
           {"inject", Command::kInject, config.has_inject(), CheckInject}}};
}

// Says what the roles of the command would not start with; the exit code.
int Check(const config::Config& config, const CommandLine& line) {
  int code = kExitFine;
  const auto complain = [&code](const base::Result<>& result) {
    if (result) return;
    base::Error error = result.error();
    // A file of TLS may be there, and good, the next time.
    const bool wrong =
        error.code == base::Code::kInvalid && error.event != base::Event::kBadTlsFile;
    if (wrong && error.event == base::Event::kNone) error.event = base::Event::kBadConfiguration;
    code = std::max<int>(code, Fail(wrong ? kExitWrongUsage : kExitFailed, error));
  };
  if (line.command == Command::kDev) {  // Which sets what is not set.
    config::Agent agent = config.agent();
    LeaveOutForDev(agent);
    complain(CheckAgent(agent));
    complain(CheckBroker(config.broker()));
  }
  for (const Part& part : PartsOf(config)) {
    const bool validates = line.command == Command::kValidate;
    if (line.command != part.command && !(validates && part.present)) continue;
    auto complete = config::CheckComplete(config, part.name);
    if (!complete && validates)
      complete.error() = std::move(complete.error()).Within(line.sources.file);
    complain(complete);
    complain(part.check(config));
  }
  return code;
}

int SayGood(const config::Config& config, const std::string& file) {
  std::string parts;
  for (const Part& part : PartsOf(config))
    if (part.present) parts += (parts.empty() ? " for " : " and ") + std::string(part.name);
  PrintText(file + ": good" + parts + "\n");
  return kExitFine;
}

// Frames of megabytes come and go. glibc gives such memory back to the kernel each time, or not,
// as chance has it, and getting it again costs a page fault for every 4 KiB: a fetch of 4 MiB then
// takes 7 ms instead of 3.
void KeepMemoryOfFrames() {
  constexpr int kMegabyte = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, 32 * kMegabyte);
  mallopt(M_TRIM_THRESHOLD, 16 * kMegabyte);
}

// Of a command that answers and ends; nothing if it is none.
std::optional<int> RunCommand(CommandLine& line) {
  if (line.command == Command::kVersion) {
    PrintText("holdfast " HOLDFAST_VERSION "\n");
    return kExitFine;
  }
  const bool drain = line.command == Command::kSpool && line.spool.verb == SpoolVerb::kDrain;
  if (line.command == Command::kSpool && !drain) return RunSpoolCommand(line.spool);
  if (line.command == Command::kOutbox) return RunOutboxCommand(line.outbox);
  if (line.command == Command::kTop) return top::RunTop(line.top);
  if (line.command == Command::kHalf) return RunHalfCommand(line.half);
  if (line.command == Command::kExplain) return Explain(line.explain);
  if (line.command == Command::kInject && line.inject.verb != InjectVerb::kServe)
    return RunInjectCommand(line.inject);
  for (char** variable = environ; *variable != nullptr; ++variable)
    line.sources.environment.emplace_back(*variable);
  if (line.command == Command::kClient)
    return RunClientCommand(line.client, std::move(line.sources.environment));
  if (line.command == Command::kDlq)
    return RunDlqCommand(std::move(line.spool), std::move(line.sources.environment));
  if (line.command == Command::kTrace) return RunTraceCommand(line.trace, line.sources);
  if (drain) return DrainSpool(line.spool, std::move(line.sources));
  if (line.command == Command::kDoctor) return RunDoctor(line.doctor, line.sources);
  return std::nullopt;
}

int Run(CommandLine line) {
  if (const auto code = RunCommand(line)) return FinishOutput(*code);
  if (line.command == Command::kDev) line.sources.defaults = DevDefaults();
  const auto config = config::Load(line.sources);
  if (!config) return Fail(kExitWrongUsage, config.error());
  if (const int code = Check(**config, line); code != kExitFine) return code;
  base::SetLogLevel(static_cast<base::LogLevel>((*config)->log().level()));
  base::SetLogFormat((*config)->log().format() == config::Log::json ? base::LogFormat::kJson
                                                                    : base::LogFormat::kText);
  if (line.command == Command::kValidate) return FinishOutput(SayGood(**config, line.sources.file));
  KeepMemoryOfFrames();
  const auto supervisor = base::Supervisor::FromEnvironment();
  if (!supervisor) return Fail(kExitWrongUsage, supervisor.error());
  Signals signals(Signals::Hangup::kReload);
  Reloader reloader(line.sources, *config, *supervisor);
  const Process process{.signals = signals, .reloader = reloader, .supervisor = *supervisor};
  if (line.command == Command::kAgent) return RunAgent(**config, line.sources, process);
  if (line.command == Command::kInject) return RunInject(**config, line.sources.file, process);
  if (line.command == Command::kBroker) return RunBroker(**config, process);
  return RunDev(**config, process);
}

int Main(int argc, char** argv) {
  auto line = ParseCommandLine(argc, argv);
  if (const auto* exit = std::get_if<Exit>(&line)) {
    if (exit->code == kExitFine) {
      PrintText(exit->text);
    } else {
      std::fputs(exit->text.c_str(), stderr);
    }
    return FinishOutput(exit->code);
  }
  return Run(std::get<CommandLine>(std::move(line)));
}

}  // namespace
}  // namespace holdfast::cli

int main(int argc, char** argv) { return holdfast::cli::Main(argc, argv); }
