// `holdfast produce`.
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <set>
#include <string>
#include <utility>

#include "base/event.h"
#include "cli/client_verb.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "cli/record_text.h"
#include "cli/signals.h"
#include "cli/spool_verbs.h"
#include "cli/terminal.h"
#include "client/producer.h"
#include "client/record_format.h"

namespace holdfast::cli {
namespace {

using base::Code;
using client::Producer;
using client::Record;

constexpr const char* kFooter =
    R"(Reads standard input: a record for each line, unless --format says otherwise. Formats:
  %k %v %t %d   key, value, topic, timestamp in milliseconds; %p partition
  %h{%k=%v }    a header: as many as %H says in front of it, or one
  %K %V %T      the size of what comes later, so that it may hold anything
  {hex} {base64} behind %k, %v, %t; {big32} and so on (big, little, hex; 8 to 64) behind a number
  \n \t \r \0 \\ \xNN, %%
  json          one object a line, as `consume -f json` prints them; TOPIC and --partition, if
                given, count instead of what a line says, and its offset does not
What is neither in the format nor given as an option is null. A record with a key goes where Java's
client would put it.

Exit code 1 if a record was not delivered; it is named on standard error, and nothing more is read.
The same if it is stopped: what was sent before is delivered, a transaction aborted.
In a transaction (--transactional-id) all records are there, or none.

Example:
  echo hello | holdfast produce greetings
  holdfast produce orders -f '%k\t%v\n' -z zstd < orders.tsv
  echo | holdfast produce users -k 4711 -Z
  holdfast consume orders -e -f json | holdfast produce -f json -b other:9092)";

constexpr int kFailuresShown = 5;
constexpr auto kLookEvery = std::chrono::milliseconds(100);
// Beyond what the tier is waited for.
constexpr std::chrono::milliseconds kStopGrace = std::chrono::seconds(5);
constexpr std::string_view kOverdue =
    "holdfast: HF0006: the tier does not answer; what was sent last may not be there\n";
constexpr const char* kLine = "%v\\n";

struct Options {
  std::string topic;
  std::optional<std::string> key;
  std::vector<std::string> headers;
  int32_t partition = Producer::kAnyPartition;
  std::string format = kLine;
  std::string compression = "none";
  std::string acks = "all";
  bool tombstones = false;
  std::string transactional_id;
  bool offsets = false;
};

class Run {
 public:
  Run(const Options& options, const TierAccess& tier) : options_(options), tier_(tier) {}

  base::Result<int> Go() {
    HF_ASSIGN_OR_RETURN(const auto format,
                        client::RecordFormat::Parse(json() ? kLine : options_.format,
                                                    client::RecordFormat::Use::kRead));
    if (options_.topic.empty() && !json() && !format.Has(client::RecordFormat::Field::kTopic))
      return base::Unexpected(Code::kInvalid,
                              "which TOPIC? A --format with %t says it, and lines of json may");
    std::vector<client::Header> headers;
    for (const std::string& text : options_.headers) {
      HF_ASSIGN_OR_RETURN(auto pair, SplitPair("--header", text));
      headers.push_back({std::move(pair.first), std::move(pair.second)});
    }
    HF_ASSIGN_OR_RETURN(connection_, tier_.MakeConnection());
    client::Connection::Properties properties = tier_.further();
    properties.emplace("compression.codec", options_.compression);
    properties.emplace("acks", options_.acks);
    HF_ASSIGN_OR_RETURN(
        producer_, Producer::Open(*connection_, {.properties = std::move(properties),
                                                 .transactional_id = options_.transactional_id,
                                                 .delivered = [this](const auto& d) { Note(d); }}));
    signals_.emplace(Signals::Hangup::kStop);  // Before, there is nothing to finish.
    client::RecordInput input([this](std::span<char> out) { return ReadInput(out); });
    base::Result<> read = Send(format, input, headers);
    bar_.Show(input.taken(), input_bytes_, producer_->sent());
    while (read && !producer_->Flush(kLookEvery) && !Stopped()) {
    }
    if (!stopped_) LimitEnd();
    const base::Result<> ended = read && !stopped_ ? producer_->Finish() : producer_->Abort();
    if (!ended) {
      if (!read) Complain(read.error());
      return base::Unexpected(ended.error());
    }
    if (read && !stopped_ && failed() == 0) return kExitFine;
    if (failed() > kFailuresShown) Complain(fmt::format("and {} more", failed() - kFailuresShown));
    if (stopped_)
      Complain(fmt::format("stopped after {} records; what comes behind them was not sent",
                           producer_->sent()));
    if (!options_.transactional_id.empty())
      Complain("the transaction was aborted: no record is there");
    HF_RETURN_IF_ERROR(read);
    return kExitFailed;
  }

 private:
  [[nodiscard]] uint64_t failed() const { return producer_->failed(); }
  [[nodiscard]] bool json() const { return options_.format == "json"; }

  base::Result<> Send(const client::RecordFormat& format, client::RecordInput& input,
                      const std::vector<client::Header>& headers) {
    for (uint64_t line = 1; failed() == 0; ++line) {
      auto read = format.Read(input);
      if (stopped_) break;  // The record may be cut off.
      HF_ASSIGN_OR_RETURN(auto record, std::move(read));
      if (!record) break;
      if (json()) HF_RETURN_IF_ERROR(FromJson(line, *record));
      if (options_.key && !record->key) record->key = options_.key;
      if (options_.tombstones && record->value && record->value->empty()) record->value.reset();
      HF_RETURN_IF_ERROR(CheckProducible(line, *record));
      record->headers.insert(record->headers.end(), headers.begin(), headers.end());
      while (!producer_->Send(record->topic.value_or(options_.topic),
                              record->partition.value_or(options_.partition), *record)) {
        if (Stopped()) return {};
      }
      bar_.Show(input.taken(), input_bytes_, producer_->sent());
    }
    return {};
  }

  // What librdkafka would make something else of.
  [[nodiscard]] base::Result<> CheckProducible(uint64_t number, const Record& record) const {
    const auto wrong = [&](std::string_view what) {
      return base::Unexpected(Code::kInvalid,
                              fmt::format("{} {}: {}", json() ? "line" : "record", number, what));
    };
    if (record.timestamp_ms == 0)
      return wrong("its timestamp is 0, and would become the time of now");
    for (const client::Header& header : record.headers) {
      if (header.key.find('\0') != std::string::npos)
        return wrong("a header's key has a zero byte, where it would end");
    }
    return {};
  }

  // What the record is of which the line is read.
  base::Result<> FromJson(uint64_t line, Record& record) const {
    auto parsed = ParseJson(record.value.value_or(""));
    if (parsed && !parsed->topic && options_.topic.empty())
      parsed = base::Unexpected(Code::kInvalid, "no topic, and no TOPIC is given");
    if (!parsed)
      return base::Unexpected(Code::kInvalid,
                              fmt::format("line {}: {}", line, parsed.error().message));
    record = *std::move(parsed);
    if (!options_.topic.empty()) record.topic = options_.topic;
    if (options_.partition != Producer::kAnyPartition) record.partition = options_.partition;
    return {};
  }

  // While a person thinks, what was written is delivered and reported.
  base::Result<size_t> ReadInput(std::span<char> out) {
    while (!Stopped()) {
      pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      if (poll(&input, 1, 0) == 0) {
        FlushOutput();
        producer_->Poll(std::chrono::milliseconds(10));
        if (failed() > 0) return 0;
        if (poll(&input, 1, 40) == 0) continue;
      }
      const ssize_t got = read(STDIN_FILENO, out.data(), out.size());
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return base::Unexpected(base::ErrnoError("standard input", errno));
    }
    return 0;
  }

  // By a signal: what was sent is delivered, or the transaction aborted.
  bool Stopped() {
    if (!stopped_ && signals_->WaitFor(std::chrono::milliseconds(0)) == Signals::Wish::kStop) {
      stopped_ = true;
      LimitEnd();
    }
    return stopped_;
  }

  // Deliveries and the end of a transaction have the connection's timeout each.
  void LimitEnd() { signals_->ExitOnNext(2 * connection_->timeout() + kStopGrace, kOverdue); }

  void Note(const Producer::Delivery& delivery) {
    if (delivery.error.empty()) {
      if (options_.offsets) PrintOffset(delivery);
      return;
    }
    if (++shown_ > kFailuresShown) return;
    const std::string subject =
        fmt::format("record {} was not delivered to {}", delivery.number, delivery.topic);
    if (delivery.timed_out) {
      // It may have a connection, and get no answer that lets it go on.
      base::Error error = connection_->Failed(subject, delivery.error);
      error.event = base::Event::kTimeout;
      return Complain(error);
    }
    if (delivery.code == 0) return Complain(subject + ": " + delivery.error);
    Complain(RefusalError({.subject = subject,
                           .code = static_cast<kafka::ErrorCode>(delivery.code),
                           .message = delivery.error,
                           .needs = "--operation write --topic " + delivery.topic}));
  }

  // Who commits locally is told -1 of each batch, from which librdkafka counts on: what looks like
  // an offset after one is none.
  void PrintOffset(const Producer::Delivery& delivery) {
    if (!options_.transactional_id.empty() && delivery.offset < 0)
      without_offsets_.emplace(delivery.topic, delivery.partition);
    const bool known = !without_offsets_.contains({delivery.topic, delivery.partition});
    PrintText(fmt::format("{}@{}\n", delivery.partition,
                          known ? std::to_string(delivery.offset) : std::string("-")));
  }

  // 0: not known before.
  static uint64_t InputBytes() {
    struct stat status {};
    return fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode)
               ? static_cast<uint64_t>(status.st_size)
               : 0;
  }

  const Options& options_;
  const TierAccess& tier_;
  const uint64_t input_bytes_ = InputBytes();
  ProgressBar bar_{"producing"};
  int shown_ = 0;
  std::optional<Signals> signals_;
  bool stopped_ = false;
  std::set<std::pair<std::string, int32_t>> without_offsets_;  // Partitions.
  std::unique_ptr<client::Connection> connection_;  // Outlives the producer, which logs to it.
  std::unique_ptr<Producer> producer_;
};

}  // namespace

void AddProduce(CLI::App& produce, ClientCommand* command) {
  const auto options = std::make_shared<Options>();
  produce.footer(kFooter);
  MakeClientVerb(produce, command,
                 [options](const TierAccess& tier) { return Run(*options, tier).Go(); });
  produce
      .add_option("TOPIC", options->topic,
                  "Where to, unless the format has %t; --format json need not have it")
      ->type_name("");
  produce.add_option("-k,--key", options->key, "The key of records whose format has none")
      ->type_name("KEY");
  produce.add_option("-H,--header", options->headers, "A header of every record; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  produce.add_option("-p,--partition", options->partition, "Where to, unless the format has %p")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  produce.add_option("-f,--format", options->format, "How records are read, see below")
      ->capture_default_str()
      ->type_name("FORMAT");
  produce.add_option("-z,--compression", options->compression, "none, gzip, snappy, lz4 or zstd")
      ->check(CLI::IsMember({"none", "gzip", "snappy", "lz4", "zstd"}))
      ->type_name("CODEC");
  produce
      .add_option("--acks", options->acks,
                  "Whose acknowledgement is waited for: all, 1 (the leader's) or 0 (nobody's)")
      ->check(CLI::IsMember({"all", "-1", "1", "0"}))
      ->type_name("ACKS");
  produce.add_flag("-Z,--tombstone", options->tombstones, "An empty value is null");
  produce
      .add_option("--transactional-id", options->transactional_id,
                  "All of the input is one transaction")
      ->type_name("ID");
  produce.add_flag("--offsets", options->offsets,
                   "Print PARTITION@OFFSET of each record that was delivered; - where a local "
                   "transaction has none");
}

}  // namespace holdfast::cli
