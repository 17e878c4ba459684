// `holdfast consume`.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>

#include "agent/spool_text.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/record_text.h"
#include "cli/signals.h"
#include "cli/spool_verbs.h"
#include "cli/terminal.h"
#include "client/consumer.h"
#include "client/record_format.h"
#include "client/topics.h"

namespace holdfast::cli {
namespace {

using base::Code;
using client::Consumer;
using client::Position;
using kafka::ErrorCode;
using Clock = std::chrono::steady_clock;

constexpr auto kWait = std::chrono::milliseconds(100);
constexpr auto kCommitEvery = std::chrono::seconds(1);
// Of the last commit, when it is told to stop.
constexpr std::chrono::milliseconds kStopWithin = std::chrono::seconds(5);
// Beyond the last commit, to leave a group.
constexpr std::chrono::milliseconds kLeaveGrace = std::chrono::seconds(5);
constexpr auto kTellEvery = std::chrono::minutes(1);
constexpr std::string_view kOverdue =
    "holdfast: HF0006: the tier does not answer; what was printed last may come again\n";

constexpr const char* kFooter =
    R"(Reads on until it is stopped, unless --exit or --number says when to end. Offsets:
  start, end    the first record that there is, or those that come from now on
  4711          this one; +10 and -10: so many after the start, or before the end
  @TIME         the first of that time or later: milliseconds, seconds, 2026-01-31,
                2026-01-31T12:00:00Z, or @-90m for so long ago (s, m, h, d)
Formats:
  %k %v %t      key, value, topic; {hex} or {base64} behind it for bytes that are no text
  %p %o %d      partition, offset, timestamp in milliseconds
  %h{%k=%v }    each header; %H is their number
  %K %V %T      sizes in bytes
  {big32} and so on (big, little, hex; 8 to 64) behind a number; \n \t \r \0 \\ \xNN, %%
  json          one object a line: topic, partition, offset, timestamp, key, value, headers. What
                is not UTF-8 has _base64 behind its name.
With --group it is a member of that group, and commits what was printed; --offset (start or end) is
then for partitions of which the group has none yet.

Example:
  holdfast consume orders -o -10 -e
  holdfast consume orders -f '%p@%o %k\t%v\n' -o @-1h
  holdfast consume orders payments -f json -n 100 | jq .value)";

struct Options {
  std::vector<std::string> topics;
  std::string offset = "start";
  std::vector<int32_t> partitions;
  uint64_t number = std::numeric_limits<uint64_t>::max();
  std::string group;
  std::string format = "%v\\n";
  bool exit = false;
  bool uncommitted = false;
};

class Run {
 public:
  Run(const Options& options, const TierAccess& tier) : options_(options), tier_(tier) {}

  base::Result<int> Go() {
    if (options_.format != "json") {
      HF_ASSIGN_OR_RETURN(auto format, client::RecordFormat::Parse(
                                           options_.format, client::RecordFormat::Use::kPrint));
      format_.emplace(std::move(format));
    }
    HF_ASSIGN_OR_RETURN(const Position position,
                        client::ParsePosition(options_.offset, agent::NowMs()));
    HF_ASSIGN_OR_RETURN(const auto connection, tier_.MakeConnection());
    HF_ASSIGN_OR_RETURN(const auto consumer, options_.group.empty()
                                                 ? Assign(*connection, position)
                                                 : Subscribe(*connection, position));
    if (!consumer) return kExitFailed;
    Signals signals(Signals::Hangup::kStop);
    const auto code = Read(*consumer, *connection, signals);
    const std::chrono::milliseconds limit = stopped_ || !code ? kStopWithin : connection->timeout();
    signals.ExitOnNext(limit + kLeaveGrace, kOverdue);
    const auto committed = consumer->Commit(limit);
    if (code) HF_RETURN_IF_ERROR(committed);
    return code;
  }

 private:
  [[nodiscard]] Consumer::Options ConsumerOptions() const {
    return {.committed_only = !options_.uncommitted,
            .to_end = options_.exit,
            .properties = tier_.further(),
            .processed = FlushOutput};
  }

  // Null: the tier does not have something, which was said.
  base::Result<std::unique_ptr<Consumer>> Assign(const client::Connection& connection,
                                                 Position position) const {
    HF_ASSIGN_OR_RETURN(const auto cluster, tier_.ConnectForRecords());
    HF_ASSIGN_OR_RETURN(auto topics, client::LookUpTopics(*cluster, options_.topics));
    bool fine = true;
    const auto refuse = [&fine](const std::string& subject, ErrorCode code,
                                const std::string& topic) {
      Complain(RefusalError(
          {.subject = subject, .code = code, .needs = "--operation read --topic " + topic}));
      fine = false;
    };
    for (const client::Topic& topic : topics) {
      if (topic.error != ErrorCode::kNone) refuse("topic " + topic.name, topic.error, topic.name);
    }
    HF_RETURN_IF_ERROR(client::KeepPartitions(topics, options_.partitions));
    if (!fine) return nullptr;
    HF_ASSIGN_OR_RETURN(const auto located,
                        client::Locate(*cluster, topics, position, {}, !options_.uncommitted));
    std::vector<Consumer::Start> starts;
    for (const auto& [name, at] : located) {
      if (at.error != ErrorCode::kNone) {
        refuse(fmt::format("{}/{}", name.first, name.second), at.error, name.first);
      } else {
        starts.push_back({name.first, name.second, at.offset});
      }
    }
    if (!fine) return nullptr;
    return Consumer::Assign(connection, starts, ConsumerOptions());
  }

  base::Result<std::unique_ptr<Consumer>> Subscribe(const client::Connection& connection,
                                                    Position position) const {
    if (position.kind != Position::Kind::kStart && position.kind != Position::Kind::kEnd)
      return base::Unexpected(Code::kInvalid,
                              "--offset with --group is start or end; `holdfast group seek` moves "
                              "a group");
    if (!options_.partitions.empty())
      return base::Unexpected(Code::kInvalid,
                              "--partitions with --group: the group gives its members partitions");
    // A member of a group tries for ever, and says nothing of a wrong address or password.
    HF_RETURN_IF_ERROR(tier_.ConnectForRecords());
    return Consumer::Subscribe(connection, options_.group, options_.topics,
                               position.kind == Position::Kind::kStart, ConsumerOptions());
  }

  base::Result<int> Read(Consumer& consumer, const client::Connection& connection,
                         Signals& signals) {
    const bool limited = options_.number != std::numeric_limits<uint64_t>::max();
    uint64_t count = 0;
    Clock::time_point committed = Clock::now();
    // A person who sees the records needs no bar.
    std::optional<ProgressBar> bar;
    if (isatty(STDOUT_FILENO) == 0) bar.emplace("consuming", ProgressBar::Unit::kRecords);
    bool idle = true;
    while (count < options_.number && !(options_.exit && consumer.at_end())) {
      const auto message = consumer.Next(idle ? kWait : std::chrono::milliseconds(0));
      if (!message) return Refused(consumer, message.error());
      idle = *message == nullptr;
      if (!idle) {
        Show(client::View(**message));
        ++count;
        if (bar) bar->Show(count, limited ? options_.number : 0);
      } else {
        FlushOutput();
        TellOutage(connection);
        if (Stopped(signals)) break;
      }
      // Nobody reads any more if the pipe is broken.
      if (OutputFailed()) return kExitFailed;
      if (Clock::now() - committed > kCommitEvery) {
        committed = Clock::now();
        HF_RETURN_IF_ERROR(consumer.BeginCommit());
        if (Stopped(signals)) break;
      }
    }
    return kExitFine;
  }

  // It waits for the tier, and a person may wonder for what.
  void TellOutage(const client::Connection& connection) {
    const std::string outage = connection.TakeOutage();
    const Clock::time_point now = Clock::now();
    if (outage.empty() || (told_ && now - *told_ < kTellEvery)) return;
    told_ = now;
    Complain("waiting for the tier: " + outage);
  }

  bool Stopped(Signals& signals) {
    stopped_ = signals.WaitFor(std::chrono::milliseconds(0)) == Signals::Wish::kStop;
    return stopped_;
  }

  base::Result<int> Refused(const Consumer& consumer, const base::Error& error) const {
    const auto& [number, topic] = consumer.refusal();
    const auto code = static_cast<ErrorCode>(number);
    if (code == ErrorCode::kNone) return base::Unexpected(error);
    const bool of_group = code == ErrorCode::kGroupAuthorizationFailed;
    const std::string& name = topic.empty() ? options_.topics.front() : topic;
    return Refuse({.subject = of_group ? "group " + options_.group : "topic " + name,
                   .code = code,
                   .message = error.message,
                   .needs = of_group ? "--operation read --group " + options_.group
                                     : "--operation read --topic " + name});
  }

  void Show(const client::Message& message) {
    line_.clear();
    if (format_) {
      format_->Print(message, line_);
    } else {
      line_ = JsonOf(RecordOf(message), message.offset, message.timestamp_ms,
                     {{"topic", message.topic}, {"partition", message.partition}})
                  .dump() +
              "\n";
    }
    PrintText(line_);
  }

  const Options& options_;
  const TierAccess& tier_;
  std::optional<client::RecordFormat> format_;  // None: JSON.
  std::string line_;
  bool stopped_ = false;  // By a signal.
  std::optional<Clock::time_point> told_;
};

}  // namespace

void AddConsume(CLI::App& consume, ClientCommand* command) {
  const auto options = std::make_shared<Options>();
  consume.footer(kFooter);
  MakeClientVerb(consume, command,
                 [options](const TierAccess& tier) { return Run(*options, tier).Go(); });
  consume.add_option("TOPIC", options->topics, "Which")->required()->type_name("");
  consume.add_option("-o,--offset", options->offset, "Where to begin, see below")
      ->capture_default_str()
      ->type_name("POSITION");
  consume.add_option("-p,--partitions", options->partitions, "Of these alone")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N[,...]");
  consume.add_option("-n,--number", options->number, "End after so many records")->type_name("N");
  consume.add_option("-g,--group", options->group, "As a member of this consumer group")
      ->type_name("GROUP");
  consume.add_option("-f,--format", options->format, "How records are printed, see below")
      ->capture_default_str()
      ->type_name("FORMAT");
  consume.add_flag("-e,--exit", options->exit, "End when everything that is there was read");
  consume.add_flag("--read-uncommitted", options->uncommitted,
                   "Also records of transactions that are open or were aborted");
}

}  // namespace holdfast::cli
