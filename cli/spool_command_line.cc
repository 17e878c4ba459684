// The verbs of `holdfast spool` and `holdfast dlq`, their options and what --help says.
#include <CLI/CLI.hpp>
#include <chrono>
#include <map>
#include <string>

#include "cli/spool_command.h"
#include "config/value.h"

namespace holdfast::cli {
namespace {

constexpr std::chrono::milliseconds kDrainTimeMax = std::chrono::hours(7 * 24);

constexpr const char* kStatusFooter = R"(Beside a running process or without one. Changes nothing.

Example:
  holdfast spool status /var/spool/holdfast
  holdfast spool status --json /var/spool/holdfast | jq .oldest_ms)";

constexpr const char* kLsFooter =
    R"(A stream is one partition: <topic>/<partition>. RECORDS and BYTES are what
still waits in it (in a broker: what is kept), OLDEST is since when the oldest of these is there.
Beside a running process or without one. Changes nothing.

Example:
  holdfast spool ls /var/spool/holdfast)";

constexpr const char* kCatFooter = R"(Formats:
  text  key, TAB, value, one record a line. \t, \n, \r and \\ stand for themselves, \xNN for a byte
        that is no text, \N for a key or value that is null.
  json  one object a line: offset, timestamp, key, value, headers, and producer_id if there is one.
        A key or value that is not UTF-8 is key_base64 or value_base64 instead.
  raw   the record batches as they are stored, one after another, with the offsets of this spool.
Damaged records are named on standard error and left out; the exit code is then 1.
Beside a running process or without one. Changes nothing.

Example:
  holdfast spool cat /var/spool/holdfast orders/0 --count 10
  holdfast spool cat /var/spool/holdfast orders/0 --from 4711 --format json | jq .value)";

constexpr const char* kVerifyFooter =
    R"(Reads every frame and every record batch and checks all sums.
Exit code 1 and a line for each damage if there is any.
Beside a running process or without one. Changes nothing.

Example:
  holdfast spool verify /var/spool/holdfast)";

constexpr const char* kRepairFooter =
    R"(Writes each damaged segment anew from what is intact in it. What is lost is lost, and listed.
The agent or broker starts and skips damage without this, too.

Example:
  holdfast spool repair /var/spool/holdfast)";

constexpr const char* kExportFooter =
    R"(FILE then holds everything: an agent started on the directory that it is imported to goes on
exactly where this one stopped. Afterwards this spool does not open any more, so that nobody
delivers it twice, until --undo takes it back. That is only right if the file is never imported.
--copy leaves the spool as it is: for a look at it elsewhere, not for another agent.

Example:
  holdfast spool export /var/spool/holdfast spool.export
  holdfast spool export /var/spool/holdfast - | ssh b holdfast spool import - /var/spool/holdfast
  holdfast spool export --undo /var/spool/holdfast)";

constexpr const char* kImportFooter =
    R"(DIR must be new or empty. If the import is cut off, DIR holds no spool, and it can be run
again.

Example:
  holdfast spool import spool.export /var/spool/holdfast)";

constexpr const char* kDropFooter =
    R"(Records that were not delivered are lost. Asks first; without a terminal it wants --yes.
The stream stays, with its offsets, and takes new records.
A local transaction that has records in a stream that is dropped and in one that is not goes whole:
the agent passes over the rest of it.

Example:
  holdfast spool drop /var/spool/holdfast orders/0 orders/1
  holdfast spool drop --all --yes /var/spool/holdfast)";

constexpr const char* kCompactFooter =
    R"(A segment stays on the disk as long as one stream needs something in it. This writes such
segments anew with only that, and gives the rest of their space back.

Example:
  holdfast spool compact /var/spool/holdfast)";

constexpr const char* kDrainFooter =
    R"(For a spool whose agent is gone, or not to be started again: what waits in it is delivered as
that agent would have done it, once and in order, by the upstream, security and delivery settings
(agent.*) of the configuration. Nobody is served meanwhile. If the spool's own agent is started, it
waits until this command has let go, which it does at once, and goes on itself.

Exit code 0 when nothing is left to deliver, 1 with what is left, and why, if something is: when the
time is over, on a signal, when the spool is wanted, or if the tier is another cluster than the one
that the spool was delivered to before, or that its agent was to deliver to, or if that agent is
another user of the tier, or one that cannot be told: --lend-rights delivers that by the rights of
this configuration, which that agent may not have had. What is left is delivered by the next one,
but not what is of partitions that have lost their names (HF2110): the message says what to do.

--remove then takes the directory away, unless dead letters are set aside in it, a part of it is
damaged, or it keeps what an outbox or half messages need. If the spool's agent may come back after
all, give --remove-after: a producer that was not answered sends its batch again, and only this
spool tells it from a new one.
--json writes a line a second about how far it is, and a last one with "done": true.

Example:
  holdfast spool drain /var/spool/holdfast --config /etc/holdfast.yaml
  holdfast spool drain /mnt/old/spool --config agent.yaml --timeout 1h --remove)";

constexpr const char* kDlqLsFooter =
    R"(Which streams have dead letters: in RECORDS and BYTES how many, in OLDEST since when.
Of a topic those that were not replayed yet.
Beside a running process or without one. Changes nothing.

Example:
  holdfast dlq ls /var/spool/holdfast
  holdfast dlq ls /etc/holdfast.yaml)";

constexpr const char* kDlqCatFooter =
    R"(STREAM is where they come from. In JSON, holdfast.dlq.* among the headers say why each is
here; formats and exit codes are those of `holdfast spool cat`. Of a topic, offsets are those that
the records had where they come from, and there is no format raw.
Beside a running process or without one. Changes nothing.

Example:
  holdfast dlq cat /var/spool/holdfast orders/0 --format json | jq .headers)";

constexpr const char* kDlqReplayFooter =
    R"(Puts the dead letters of the streams, or of all if none is named, back at the end of the
streams that they come from, without the headers that were added, and the agent delivers them when
it runs again. Do it when what made the tier refuse them has changed. To throw dead letters away:
holdfast spool drop DIR orders/0/dead-letters

Of a spool the agent must be stopped. One that runs does it itself:
  curl -X POST 'http://127.0.0.1:9090/dead-letters/replay?stream=orders/0'

Of a topic they are produced to the tier by this command, beside agents that run, each once, even
if it is cut off and run again. What is not chosen, and what is refused again, goes to the end of
the topic; the exit code is 1 if any was refused. How far the topic was replayed is kept at the tier
as offsets of the group holdfast-dlq-replay.TOPIC.

Example:
  holdfast dlq replay /var/spool/holdfast orders/0
  holdfast dlq replay /etc/holdfast.yaml)";

class Verbs {
 public:
  Verbs(CLI::App& spool, SpoolCommand* command, const char* directory = "The spool's directory")
      : spool_(spool), command_(command), directory_(directory) {}

  void AddAll() {
    Flag(Add(SpoolVerb::kStatus, "status", "What it is, who owns it, how much waits in it",
             kStatusFooter),
         "--json", &command_->json, "As one JSON object");
    Flag(Add(SpoolVerb::kLs, "ls", "Its streams and what waits in each", kLsFooter), "--json",
         &command_->json, "As one JSON object a line");
    AddCatOptions(Add(SpoolVerb::kCat, "cat", "The records of a stream", kCatFooter));
    Flag(Add(SpoolVerb::kVerify, "verify", "Check everything in it for damage", kVerifyFooter),
         "--json", &command_->json, "As one JSON object");
    AddYes(Add(SpoolVerb::kRepair, "repair", "Write damaged segments anew", kRepairFooter));
    AddExport();
    AddImport();
    AddDrop();
    AddDrain();
    Add(SpoolVerb::kCompact, "compact", "Give disk space back that delivered records still take",
        kCompactFooter);
  }

  void AddAllOfDlq() {
    const auto add = [this](SpoolVerb verb, const char* name, const char* description,
                            const char* footer) {
      CLI::App* added = Add(verb, name, description, footer);
      added->callback([command = command_, verb] {
        command->verb = verb;
        command->dead_letters = true;
      });
      return added;
    };
    Flag(add(SpoolVerb::kLs, "ls", "Which streams have dead letters, and how many", kDlqLsFooter),
         "--json", &command_->json, "As one JSON object a line");
    AddCatOptions(add(SpoolVerb::kCat, "cat", "The dead letters of a stream", kDlqCatFooter));
    add(SpoolVerb::kReplay, "replay", "Have dead letters delivered again", kDlqReplayFooter)
        ->add_option("STREAM", command_->streams, "Such as orders/0 [all]")
        ->type_name("");
  }

 private:
  CLI::App* Add(SpoolVerb verb, const char* name, const char* description, const char* footer,
                bool directory_first = true, bool keys = true) {
    CLI::App* added = spool_.add_subcommand(name, description);
    added->footer(footer);
    added->group("Verbs");
    added->callback([command = command_, verb] { command->verb = verb; });
    if (directory_first) AddDirectory(added, directory_);
    if (!keys) return added;
    added
        ->add_option("--key", command_->key_files,
                     "File with a key of an encrypted spool; may be repeated, the first encrypts")
        ->type_name("FILE")
        ->allow_extra_args(false);
    return added;
  }
  void AddDirectory(CLI::App* verb, const char* description) {
    verb->add_option("DIR", command_->directory, description)->required()->type_name("");
  }
  static CLI::Option* Flag(CLI::App* verb, const char* name, bool* flag, const char* description) {
    return verb->add_flag(name, *flag, description);
  }
  void AddYes(CLI::App* verb) { Flag(verb, "--yes", &command_->yes, "Do not ask"); }

  void AddCatOptions(CLI::App* cat) {
    cat->add_option("STREAM", command_->streams, "Such as orders/0")
        ->required()
        ->expected(1)
        ->type_name("");
    cat->add_option("--from", command_->from, "Begin at this offset [the stream's start]")
        ->type_name("OFFSET");
    cat->add_option("--count", command_->count, "At most so many records [all]")->type_name("N");
    const auto parse = [](std::string& name) -> std::string {
      static const std::map<std::string, CatFormat> kFormats = {
          {"text", CatFormat::kText}, {"json", CatFormat::kJson}, {"raw", CatFormat::kRaw}};
      const auto found = kFormats.find(name);
      if (found == kFormats.end()) return "must be text, json or raw";
      name = std::to_string(static_cast<int>(found->second));
      return {};
    };
    cat->add_option("--format", command_->format, "text, json or raw [text]")
        ->transform(CLI::Validator(parse, ""))
        ->type_name("FORMAT");
  }

  void AddExport() {
    CLI::App* verb =
        Add(SpoolVerb::kExport, "export", "Hand it over to another host or agent", kExportFooter);
    CLI::Option* file = verb->add_option("FILE", command_->file, "The file; - is standard output");
    file->type_name("");
    CLI::Option* copy = verb->add_flag("--copy", command_->copy, "Leave the spool as it is");
    CLI::Option* undo = verb->add_flag("--undo", command_->undo, "Take a handed over spool back");
    undo->excludes(copy)->excludes(file);
  }

  void AddImport() {
    CLI::App* verb = Add(SpoolVerb::kImport, "import", "Make a spool of an exported file",
                         kImportFooter, /*directory_first=*/false);
    verb->add_option("FILE", command_->file, "The file; - is standard input")
        ->required()
        ->type_name("");
    AddDirectory(verb, "The directory to be made, or an empty one");
  }

  void AddDrop() {
    CLI::App* verb =
        Add(SpoolVerb::kDrop, "drop", "Throw away what waits in streams, or all", kDropFooter);
    CLI::Option* streams = verb->add_option("STREAM", command_->streams, "Such as orders/0");
    streams->type_name("");
    CLI::Option* all = verb->add_flag("--all", command_->all, "The whole spool, with its state");
    all->excludes(streams);
    AddYes(verb);
  }

  void AddDrain() {
    CLI::App* verb = Add(SpoolVerb::kDrain, "drain",
                         "Deliver what waits in it, with no agent running", kDrainFooter,
                         /*directory_first=*/true, /*keys=*/false);
    AddTime(verb, "--timeout", &command_->timeout, "How long it may take, at most 7d [10m]");
    CLI::Option* remove = Flag(verb, "--remove", &command_->remove, "Remove it once it is empty");
    AddTime(verb, "--remove-after", &command_->remove_after,
            "But not before its producers were silent for so long [0]")
        ->needs(remove);
    Flag(verb, "--lend-rights", &command_->lend_rights,
         "Also what is of another user of the tier, by the rights of this one");
    Flag(verb, "--json", &command_->json, "As one JSON object a line");
  }

  static CLI::Option* AddTime(CLI::App* verb, const char* name, std::chrono::milliseconds* time,
                              const char* help) {
    const auto parse = [](const std::string& text) {
      return config::ParseNumber(text, config::Unit::kMilliseconds).value_or(0);
    };
    const auto check = [parse](std::string& text) -> std::string {
      const bool good = parse(text) > 0 && parse(text) <= kDrainTimeMax.count();
      return good ? "" : "must be a duration of at most 7d, such as 10m";
    };
    const auto set = [parse, time](const std::string& text) {
      *time = std::chrono::milliseconds(parse(text));
    };
    return verb->add_option_function<std::string>(name, set, help)
        ->check(CLI::Validator(check, ""))
        ->type_name("TIME");
  }

  CLI::App& spool_;
  SpoolCommand* const command_;
  const char* const directory_;
};

}  // namespace

void AddSpoolVerbs(CLI::App& spool, SpoolCommand* command) {
  spool.require_subcommand(0, 1);
  spool.get_formatter()->label("SUBCOMMAND", "VERB");
  Verbs(spool, command).AddAll();
}

void AddDlqVerbs(CLI::App& dlq, SpoolCommand* command) {
  dlq.require_subcommand(0, 1);
  dlq.get_formatter()->label("SUBCOMMAND", "VERB");
  Verbs(dlq, command, "The agent's spool, or its configuration file").AddAllOfDlq();
}

}  // namespace holdfast::cli
