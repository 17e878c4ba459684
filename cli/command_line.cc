#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "cli/command_pages.h"

namespace holdfast::cli {
namespace {

constexpr const char* kDescription =
    R"(Holdfast keeps Kafka records on this host's disk until the broker tier has them.)";

constexpr const char* kFooter = R"(Examples:
  holdfast dev
      An agent on 127.0.0.1:9092 and its broker on 127.0.0.1:9192, to try.
  holdfast agent --upstream kafka-1:9092,kafka-2:9092 --spool /var/spool/holdfast \
      --listen 127.0.0.1:9092
      Local Kafka clients use bootstrap.servers=127.0.0.1:9092 and change nothing else.
  holdfast broker --data /var/lib/holdfast --listen 0.0.0.0:9092

`holdfast COMMAND --help` says more.
Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration.)";

constexpr const char* kSettingsFooter =
    R"(Every setting can be given in the file, as HOLDFAST__A__B=value in the environment, and with
--set; of several, the later of these wins, and options of their own win over all.

SIGTERM and SIGINT stop gracefully: requests in flight are answered, then it exits. A second one
exits at once.)";

constexpr const char* kAgentFooter = R"(Example:
  holdfast agent --upstream kafka-1:9092,kafka-2:9092 --spool /var/spool/holdfast \
      --listen 127.0.0.1:9092 --admin 127.0.0.1:9090 \
      --set 'agent.topics=[{name: orders, partitions: 12}]'

  Declared topics (agent.topics) can be produced to before the tier was ever reached.
  Port 0 takes a free port. Each listener is one line on standard output:
      agent listening on 127.0.0.1:9092
      agent admin on 127.0.0.1:9090)";

constexpr const char* kBrokerFooter = R"(Example:
  holdfast broker --data /var/lib/holdfast --listen 0.0.0.0:9092 --admin 127.0.0.1:9090 \
      --set broker.num_partitions=8 --set broker.auto_create_topics=false

  Port 0 takes a free port. Each listener is one line on standard output:
      broker listening on 0.0.0.0:9092
      broker admin on 127.0.0.1:9090)";

constexpr const char* kDevFooter = R"(Addresses, unless they are set otherwise:
  agent   127.0.0.1:9092, admin http://127.0.0.1:9090/
  broker  127.0.0.1:9192, admin http://127.0.0.1:9190/

Example, in another terminal:
  echo hello | kcat -P -b 127.0.0.1:9092 -t greetings
  kcat -C -b 127.0.0.1:9092 -t greetings -e)";

constexpr const char* kExplainFooter =
    R"(Lines of the log and errors of commands begin with a code; docs/errors.md has the same texts.

Example:
  holdfast explain HF2101)";

constexpr const char* kValidateFooter =
    R"(Prints what is wrong, one line per mistake with file, line and column, and exits with 2; or
says that the file is good. Parts that are in the file (agent, broker, inject) must be
complete.

Example:
  holdfast validate /etc/holdfast.yaml)";

constexpr const char* kSpoolFooter =
    R"(DIR is the directory of an agent's spool (--spool) or of a broker's data (--data).
status, ls, cat and verify also work while the agent or broker runs; for the others it must be
stopped. `holdfast spool VERB --help` says more.

Example:
  holdfast spool status /var/spool/holdfast
  holdfast spool cat /var/spool/holdfast orders/0 --count 10)";

constexpr const char* kDlqFooter =
    R"(DIR is the directory of an agent's spool (--spool), or the agent's configuration file. With
agent.dead_letters.policy=spool, records that the tier refuses for good are set aside in the spool,
and the rest of their partition goes on; with policy=topic they are in a topic of the tier, which
only the configuration file can tell. `holdfast dlq VERB --help` says more.

Example:
  holdfast dlq ls /var/spool/holdfast
  holdfast dlq cat /etc/holdfast.yaml orders/0 --format json)";

constexpr const char* kTraceFooter =
    R"(When it was accepted and synced, whether and when the tier took it, and if not, why. From the
agent's spool, beside the agent or without it; changes nothing. A record that is delivered can be
traced for as long as its segment is there, and after that as far as the state remembers.

--key and --time look for records; several that match are listed, a line each. Exit code 1 if there
is none, or if what should be there is damaged.

Example:
  holdfast trace orders 0 /var/spool/holdfast --offset 4711
  holdfast trace orders 0 --config /etc/holdfast.yaml --key customer-7
  holdfast trace orders 0 --admin 127.0.0.1:9090 --time -2h..-90m)";

constexpr const char* kOutboxFooter =
    R"(docs/outbox.md says what an outbox is, and which one to take.
`holdfast outbox VERB --help` says more.)";

constexpr const char* kHalfFooter =
    R"(ADDRESS is the admin address of a running agent with agent.half_messages.enabled.
`holdfast half VERB --help` says more.)";

constexpr const char* kDoctorFooter =
    R"(Looks at what an agent or broker with these settings would meet, as the user that runs it:
the settings themselves, the disk (file system, speed of flushes and whether they seem to reach it,
room, limits), the clock, the tier (names, TLS, login, versions, rights, topics whose settings
would refuse records), the databases of outbox sources, and the pod. Each finding says what is
seen, and if that is not good, why it matters and what to do; docs/doctor.md says more.

It changes nothing, and works beside a running agent: in its spool only a file without a name is
written, to measure flushes.

Exit codes: 0 no errors (there may be warnings), 1 errors, 2 wrong usage, or settings that cannot
be read.

Example:
  holdfast doctor --config /etc/holdfast/agent.yaml
  holdfast doctor --upstream kafka-1:9092 --spool /var/spool/holdfast --only disk,upstream --json)";

constexpr const char* kVerbsFooter =
    R"(Works directly and through an agent's listener. docs/commands.md has examples of everything.
`holdfast COMMAND VERB --help` says more.)";

constexpr const char* kCompletionFooter =
    R"(Example:
  source <(holdfast completion bash))";

constexpr const char* kInjectFooter =
    R"(Without a further command it serves: it gives pods an agent of their own, as the admission
webhook of a cluster. The chart in helm/holdfast installs it; docs/kubernetes.md says more. SIGHUP
and a changed file make it read its configuration anew.

Example:
  holdfast inject --config /etc/holdfast/inject.yaml

  Port 0 takes a free port. Each listener is one line on standard output:
      inject listening on 0.0.0.0:8443
      inject admin on 0.0.0.0:9090)";

// Collects the settings of one subcommand. Options of their own come after all --set.
struct Settings {
  std::string file;
  std::vector<std::string> sets;
  std::vector<config::Setting> options;
};

class Parser {
 public:
  Parser() {
    app_.footer(kFooter);
    app_.get_formatter()->label("SUBCOMMAND", "COMMAND");
    app_.require_subcommand(0, 1);
    app_.set_help_flag("-h,--help", "Print this help");
    app_.add_flag("--version", show_version_, "Print the version");
    AddAgent();
    AddBroker();
    AddDev();
    AddValidate();
    CLI::App* const spool =
        Add(Command::kSpool, "spool", "Look into a spool's directory, check it, move it, drain it",
            kSpoolFooter);
    AddSpoolVerbs(*spool, &spool_);
    AddSources(spool->get_subcommand("drain"));
    AddDlqVerbs(*Add(Command::kDlq, "dlq", "Records that the tier refused for good", kDlqFooter),
                &spool_);
    CLI::App* const trace =
        Add(Command::kTrace, "trace", "What happened to a record", kTraceFooter);
    AddTraceOptions(*trace, &trace_);
    AddSources(trace);
    AddOutboxVerbs(
        *Add(Command::kOutbox, "outbox", "Events in services' own databases", kOutboxFooter),
        &outbox_);
    AddHalfVerbs(*Add(Command::kHalf, "half", "Half messages that their services did not resolve",
                      kHalfFooter),
                 &half_);
    AddDoctor();
    AddInject();
    AddTopicVerbs(*Add(Command::kClient, "topic", "Topics of the tier", kVerbsFooter), &client_);
    AddGroupVerbs(*Add(Command::kClient, "group", "Consumer groups of the tier", kVerbsFooter),
                  &client_);
    AddAclVerbs(*Add(Command::kClient, "acl", "Access rules of the tier", kVerbsFooter), &client_);
    AddConfigVerbs(
        *Add(Command::kClient, "config", "Settings of the tier's topics and brokers", kVerbsFooter),
        &client_);
    AddProduce(*Add(Command::kClient, "produce", "Produce records from standard input", ""),
               &client_);
    AddConsume(*Add(Command::kClient, "consume", "Print records of topics", ""), &client_);
    top::AddTopOptions(
        *Add(Command::kTop, "top", "Show what is held back, and why, in a terminal", ""), &top_);
    AddExplain();
    AddPages();
    Add(Command::kVersion, "version", "Print the version", "");
  }

  std::variant<CommandLine, Exit> Parse(int argc, const char* const* argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return Stop(error);
    }
    if (show_version_) return CommandLine{.command = Command::kVersion};
    const std::vector<CLI::App*> chosen = app_.get_subcommands();
    if (chosen.empty()) return Exit{kExitWrongUsage, app_.help()};
    if (chosen.front() == completion_) return Exit{kExitFine, BashCompletion(app_)};
    if (chosen.front() == manual_) return Exit{kExitFine, ManualPage(app_, manual_date_)};
    const Command command = commands_.at(chosen.front());
    if ((command == Command::kSpool || command == Command::kDlq || command == Command::kOutbox ||
         command == Command::kHalf || (command == Command::kClient && !client_.run)) &&
        chosen.front()->get_subcommands().empty())
      return Exit{kExitWrongUsage, chosen.front()->help()};
    CommandLine line{.command = command,
                     .spool = std::move(spool_),
                     .trace = std::move(trace_),
                     .outbox = std::move(outbox_),
                     .half = std::move(half_),
                     .doctor = std::move(doctor_),
                     .inject = std::move(inject_),
                     .client = std::move(client_),
                     .top = std::move(top_),
                     .explain = std::move(explain_)};
    line.sources.file = settings_.file;
    for (const std::string& set : settings_.sets) {
      const size_t equals = set.find('=');
      if (equals == std::string::npos)
        return Exit{kExitWrongUsage, "holdfast: HF0009: --set " + set +
                                         ": write KEY=VALUE, such as --set log.level=debug\n"};
      line.sources.sets.push_back({set.substr(0, equals), set.substr(equals + 1), "--set"});
    }
    for (config::Setting& option : settings_.options)
      line.sources.sets.push_back(std::move(option));
    return line;
  }

 private:
  CLI::App* Add(Command command, const char* name, const char* description, std::string footer) {
    CLI::App* added = app_.add_subcommand(name, description);
    added->footer(std::move(footer));
    added->group("Commands");
    commands_[added] = command;
    return added;
  }

  void AddAgent() {
    CLI::App* agent = Add(Command::kAgent, "agent",
                          "Take records from local Kafka clients, keep them, deliver them",
                          std::string(kSettingsFooter) + "\n\n" + kAgentFooter);
    AddOption(agent, "--upstream", "agent.upstream.bootstrap", "HOST:PORT[,...]",
              "Brokers of the tier to deliver to: Holdfast's or Apache Kafka's");
    AddOption(agent, "--spool", "agent.spool.directory", "DIR",
              "Where records wait until the tier has them");
    AddOption(agent, "--listen", "agent.listen", "HOST:PORT", "Where local clients connect");
    AddOption(agent, "--admin", "agent.admin", "HOST:PORT", "Health, metrics and status over HTTP");
    AddSources(agent);
  }

  void AddBroker() {
    CLI::App* broker = Add(Command::kBroker, "broker", "Serve topics: the broker tier on one node",
                           std::string(kSettingsFooter) + "\n\n" + kBrokerFooter);
    AddOption(broker, "--data", "broker.data.directory", "DIR", "Where records and offsets are");
    AddOption(broker, "--listen", "broker.listen", "HOST:PORT", "Where clients and agents connect");
    AddOption(broker, "--admin", "broker.admin", "HOST:PORT",
              "Health, metrics and status over HTTP");
    AddSources(broker);
  }

  void AddDev() {
    CLI::App* dev = Add(Command::kDev, "dev", "Agent and broker in one process, to try Holdfast",
                        std::string(kSettingsFooter) + "\n\n" + kDevFooter);
    AddOption(dev, "--dir", "dev.directory", "DIR",
              "Where spool and data are kept [holdfast-data]");
    AddSources(dev);
  }

  void AddValidate() {
    CLI::App* validate =
        Add(Command::kValidate, "validate", "Check a configuration file", kValidateFooter);
    validate->add_option("FILE", settings_.file, "The YAML file")->required()->type_name("");
    AddSet(validate);
  }

  // What packages install; the latter is of no use to others.
  void AddPages() {
    completion_ = app_.add_subcommand("completion", "Print a shell's completion of this command");
    completion_->group("Commands")->footer(kCompletionFooter);
    completion_->add_option("SHELL", shell_, "bash")
        ->required()
        ->check(CLI::IsMember({"bash"}))
        ->type_name("");
    manual_ = app_.add_subcommand("manual", "Print holdfast(1)");
    manual_->group("");
    manual_->add_option("DATE", manual_date_, "Of the release")->required();
  }

  void AddExplain() {
    Add(Command::kExplain, "explain", "Say what the code of an error means, and what to do",
        kExplainFooter)
        ->add_option("CODE", explain_, "Such as HF2101; without one all are listed")
        ->type_name("");
  }

  void AddInject() {
    CLI::App* inject = Add(Command::kInject, "inject", "Give Kubernetes pods an agent of their own",
                           kInjectFooter);
    AddSources(inject);
    AddInjectVerbs(*inject, &inject_);
  }

  void AddDoctor() {
    CLI::App* doctor = Add(Command::kDoctor, "doctor",
                           "Check settings, disk, clock, tier, databases and pod", kDoctorFooter);
    AddOption(doctor, "--upstream", "agent.upstream.bootstrap", "HOST:PORT[,...]",
              "Brokers of the tier, as of `holdfast agent`");
    AddOption(doctor, "--spool", "agent.spool.directory", "DIR", "As of `holdfast agent`");
    AddOption(doctor, "--listen", "agent.listen", "HOST:PORT", "As of `holdfast agent`");
    AddDoctorOptions(*doctor, &doctor_);
    AddSources(doctor);
  }

  void AddOption(CLI::App* command, const std::string& name, const std::string& key,
                 const std::string& type, const std::string& help) {
    const auto note = [this, name, key](const std::string& value) {
      settings_.options.push_back({key, value, name});
    };
    command->add_option_function<std::string>(name, note, help)->type_name(type);
  }

  void AddSources(CLI::App* command) {
    command->add_option("--config", settings_.file, "YAML file, see docs/configuration.md")
        ->type_name("FILE");
    AddSet(command);
  }

  void AddSet(CLI::App* command) {
    command
        ->add_option("--set", settings_.sets,
                     "One setting, such as log.level=debug; may be repeated")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
  }

  Exit Stop(const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    const int code = app_.exit(error, out, err);
    if (code == 0) return {kExitFine, out.str()};
    return {kExitWrongUsage, "holdfast: HF0009: " + err.str()};
  }

  CLI::App app_{kDescription, "holdfast"};
  bool show_version_ = false;
  CLI::App* completion_ = nullptr;
  std::string shell_;
  CLI::App* manual_ = nullptr;
  std::string manual_date_;
  Settings settings_;
  SpoolCommand spool_;
  TraceCommand trace_;
  OutboxCommand outbox_;
  HalfCommand half_;
  DoctorCommand doctor_;
  InjectCommand inject_;
  ClientCommand client_;
  top::TopCommand top_;
  std::string explain_;
  std::map<CLI::App*, Command> commands_;
};

}  // namespace

std::variant<CommandLine, Exit> ParseCommandLine(int argc, const char* const* argv) {
  return Parser().Parse(argc, argv);
}

}  // namespace holdfast::cli
