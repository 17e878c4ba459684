#include "cli/top/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/spool_text.h"

namespace holdfast::top {
namespace {

using agent::AgeText;
using agent::BytesText;
using nlohmann::json;

// --- Reading without trust.

const json& At(const json& from, const char* name) {
  static const json kNothing;
  if (!from.is_object()) return kNothing;
  const auto found = from.find(name);
  return found == from.end() ? kNothing : *found;
}

std::string Text(const json& from, const char* name) {
  const json& at = At(from, name);
  return at.is_string() ? at.get<std::string>() : std::string();
}

double Real(const json& at) {
  const double value = at.is_number() ? at.get<double>() : 0;
  return std::isfinite(value) ? value : 0;
}

int64_t WholeOf(const json& at) {
  constexpr double kMost = 9e18;
  if (at.is_number_unsigned()) {
    return static_cast<int64_t>(std::min<uint64_t>(
        at.get<uint64_t>(), static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
  }
  if (at.is_number_integer()) return at.get<int64_t>();
  return static_cast<int64_t>(std::clamp(Real(at), -kMost, kMost));
}
int64_t Whole(const json& from, const char* name) { return WholeOf(At(from, name)); }

// What cannot be negative.
uint64_t Amount(const json& from, const char* name) {
  return static_cast<uint64_t>(std::max<int64_t>(Whole(from, name), 0));
}

std::optional<int64_t> Known(const json& from, const char* name) {
  const json& at = At(from, name);
  return at.is_number() ? std::optional(WholeOf(at)) : std::nullopt;
}

bool Flag(const json& from, const char* name) {
  const json& at = At(from, name);
  return at.is_boolean() && at.get<bool>();
}

const json& List(const json& from, const char* name) {
  static const json kNone = json::array();
  const json& at = At(from, name);
  return at.is_array() ? at : kNone;
}

// Of a list of texts, with commas between them.
std::string Texts(const json& from, const char* name) {
  std::string all;
  for (const json& one : List(from, name)) {
    if (one.is_string()) all += (all.empty() ? "" : ", ") + one.get<std::string>();
  }
  return all;
}

// --- As people read it.

std::string Count(const json& from, const char* name) {
  return agent::CountText(Amount(from, name));
}

std::string Counted(uint64_t count, std::string_view one, std::string_view more) {
  return fmt::format("{} {}", agent::CountText(count), count == 1 ? one : more);
}

std::string Since(int64_t since_ms, int64_t now_ms) {
  // Times are anything: the difference must not overflow.
  if (since_ms <= 0) return "–";
  return AgeText(now_ms > since_ms ? now_ms - since_ms : 0);
}

std::string About(int64_t ms) {
  constexpr int64_t kMinuteMs = 60'000;
  return ms < kMinuteMs ? "less than a minute" : "about " + AgeText(ms);
}

Tone ToneOfSeverity(std::string_view severity) {
  if (severity == "fine") return Tone::kFine;
  if (severity == "notice") return Tone::kNotice;
  if (severity == "waiting") return Tone::kWaiting;
  return Tone::kFailing;
}

Tone ToneOfState(std::string_view state) {
  if (state == "held" || state == "error") return Tone::kFailing;
  if (state == "waiting" || state == "warn") return Tone::kWaiting;
  if (state == "delivering") return Tone::kNotice;
  return Tone::kPlain;
}

Cell Plain(std::string text) { return {.text = std::move(text)}; }
Cell State(std::string text) {
  const Tone tone = ToneOfState(text);
  return {.text = std::move(text), .tone = tone};
}

// What is to be typed names this address.
std::string WithAdmin(std::string text, const std::string& admin) {
  constexpr std::string_view kPlace = "ADMIN";
  for (size_t at = text.find(kPlace); at != std::string::npos;
       at = text.find(kPlace, at + admin.size()))
    text.replace(at, kPlace.size(), admin);
  return text;
}

// --- Parts that both roles have.

void ReadVerdict(const json& answer, const std::string& admin, Model& model) {
  const json& verdict = At(answer, "verdict");
  model.tone = ToneOfSeverity(Text(verdict, "severity"));
  model.headline = Text(verdict, "headline");
  for (const json& remark : List(verdict, "remarks")) {
    model.remarks.push_back({.tone = ToneOfSeverity(Text(remark, "severity")),
                             .title = Text(remark, "title"),
                             .why = Text(remark, "why"),
                             .todo = WithAdmin(Text(remark, "todo"), admin)});
  }
}

// `records` may be null.
Fact Flow(std::string_view label, const json& answer, const char* records, const char* bytes) {
  const json& series = At(At(answer, "rates"), "series");
  const std::string size = BytesText(Amount(At(series, bytes), "lately")) + "/s";
  Fact fact{.label = label, .text = size};
  if (records != nullptr)
    fact.text = fmt::format("{}/s, {}", Count(At(series, records), "lately"), size);
  for (const json& point : List(At(series, records != nullptr ? records : bytes), "per_second"))
    fact.curve.push_back(std::max(Real(point), 0.0));
  return fact;
}

Table Served(const json& page, Table table) {
  table.served = true;
  table.offset = Amount(page, "offset");
  table.matching = Amount(page, "matching");
  table.total = Amount(page, "total");
  return table;
}

Table Whole(Table table) {
  table.matching = table.total = table.rows.size();
  return table;
}

Table Events(const json& answer) {
  Table table{.name = "Events",
              .one = "event",
              .more = "events",
              .empty = "Nothing was worth a line in the log.",
              .columns = {{.title = "When"},
                          {.title = "Kind"},
                          {.title = "Part", .rank = 1},
                          {.title = "What happened", .wide = true}}};
  const json& events = List(answer, "events");
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    table.rows.push_back({Plain(ClockText(Whole(*event, "time_ms"))), State(Text(*event, "level")),
                          Plain(Text(*event, "part")), Plain(Text(*event, "message"))});
  }
  return Whole(std::move(table));
}

// --- An agent.

Fact Waiting(const json& answer, int64_t now_ms) {
  const json& backlog = At(answer, "backlog");
  if (Whole(backlog, "records") == 0) return {.label = "Waiting", .text = "nothing"};
  const auto drain_ms = Known(backlog, "drain_ms");
  std::string text = fmt::format("{}, the oldest for {}, {}",
                                 Counted(Amount(backlog, "records"), "record", "records"),
                                 Since(Whole(backlog, "oldest_ms"), now_ms),
                                 drain_ms ? "drained in " + About(*drain_ms) : "not draining");
  const uint64_t parked = Amount(backlog, "parked_partitions");
  if (parked != 0) text += "; " + Counted(parked, "partition parked", "partitions parked");
  return {.label = "Waiting", .text = std::move(text)};
}

Fact Disk(const json& disk) {
  const auto used = static_cast<double>(Amount(disk, "entry_bytes"));
  const auto room = static_cast<double>(Amount(disk, "room_bytes"));
  const double share = room > 0 ? std::min(used / room, 1.0) : 0;
  const auto full_in_ms = Known(disk, "full_in_ms");
  Fact fact{
      .label = "Disk",
      .text = fmt::format("{:.0f} %, {} of {}", 100 * share, BytesText(Amount(disk, "entry_bytes")),
                          BytesText(Amount(disk, "room_bytes"))),
      .share = share};
  if (!Flag(disk, "accepting")) {
    fact.text += ", " + Text(disk, "refusing_because");
    fact.tone = Tone::kFailing;
  } else if (full_in_ms) {
    fact.text += ", full in " + About(*full_in_ms);
  }
  return fact;
}

Fact CommitPoint(const json& answer) {
  const json& ledger = At(answer, "ledger");
  const int64_t until_ms = Whole(ledger, "complete_until_ms");
  std::string text = until_ms > 0 ? "until " + MomentText(until_ms, Whole(answer, "now_ms")) : "–";
  const uint64_t dropped = Amount(ledger, "dropped_records");
  if (dropped != 0)
    text += ", but for " + Counted(dropped, "record", "records") + " dropped or set aside";
  return {.label = "Complete", .text = std::move(text)};
}

Fact Tier(const json& tier) {
  const json& brokers = List(tier, "brokers");
  const auto ready = std::ranges::count_if(brokers, [](const json& b) { return Flag(b, "ready"); });
  const std::string cluster = Text(tier, "cluster_id");
  std::string text =
      fmt::format("{} of {} connected", ready, Counted(brokers.size(), "broker", "brokers"));
  if (!cluster.empty()) text += ", cluster " + cluster;
  return {.label = "Tier",
          .text = std::move(text),
          .tone = Flag(tier, "away") ? Tone::kWaiting : Tone::kPlain};
}

Table Topics(const json& answer, int64_t now_ms) {
  const json& page = At(answer, "topics");
  Table table{
      .name = "Topics",
      .one = "topic",
      .more = "topics",
      .empty = "Nothing was produced through this agent.",
      .sort = "trouble",
      .columns = {
          {.title = "Topic", .sort = "topic"},
          {.title = "State", .sort = "trouble"},
          {.title = "Waiting", .sort = "backlog", .number = true, .descending = true},
          {.title = "Oldest", .sort = "oldest", .number = true, .rank = 1},
          {.title = "Drained in", .sort = "drain", .number = true, .descending = true, .rank = 2},
          {.title = "Partitions", .number = true, .rank = 3},
          {.title = "Why", .wide = true}}};
  for (const json& row : List(page, "shown")) {
    const uint64_t waiting = Amount(row, "waiting_partitions");
    const std::string partitions = Count(row, "partitions");
    const auto drain_ms = Known(row, "drain_ms");
    std::string why = Text(row, "why");
    const int64_t partition = Whole(row, "why_partition");
    if (!why.empty() && partition >= 0) why = fmt::format("partition {}, {}", partition, why);
    table.rows.push_back(
        {Plain(Text(row, "topic")), State(Text(row, "state")), Plain(Count(row, "backlog_records")),
         Plain(Since(Whole(row, "oldest_ms"), now_ms)),
         Plain(Whole(row, "backlog_records") == 0 ? "–"
               : drain_ms                         ? About(*drain_ms)
                                                  : "not draining"),
         Plain(waiting == 0 ? partitions
                            : fmt::format("{} of {}", agent::CountText(waiting), partitions)),
         Plain(std::move(why))});
  }
  return Served(page, std::move(table));
}

Table Brokers(const json& tier) {
  Table table{.name = "Brokers",
              .one = "broker",
              .more = "brokers",
              .empty = "No broker of the tier is known yet.",
              .columns = {{.title = "Address"},
                          {.title = "Id", .number = true, .rank = 1},
                          {.title = "State"},
                          {.title = "Why", .wide = true}}};
  for (const json& row : List(tier, "brokers")) {
    const auto node = Known(row, "node");
    const std::string trouble = Text(row, "trouble");
    const Cell state = Flag(row, "ready") ? Cell{.text = "connected", .tone = Tone::kFine}
                       : trouble.empty()  ? Cell{.text = "connecting", .tone = Tone::kWaiting}
                                          : Cell{.text = "not reached", .tone = Tone::kFailing};
    table.rows.push_back({Plain(Text(row, "address")), Plain(node ? std::to_string(*node) : "–"),
                          state, Plain(trouble)});
  }
  return Whole(std::move(table));
}

Table DeadLetters(const json& dead, int64_t now_ms) {
  Table table{.name = "Dead letters",
              .one = "partition",
              .more = "partitions",
              .empty = "None: the tier refused nothing for good.",
              .columns = {{.title = "Partition"},
                          {.title = "Records", .number = true},
                          {.title = "Newest", .number = true, .rank = 1},
                          {.title = "Why", .wide = true}}};
  for (const json& row : List(dead, "streams")) {
    std::string why = Text(row, "error");
    const std::string message = Text(row, "message");
    if (!message.empty()) why += (why.empty() ? "" : ": ") + message;
    table.rows.push_back({Plain(Text(row, "stream")), Plain(Count(row, "records")),
                          Plain(Since(Whole(row, "time_ms"), now_ms)), Plain(std::move(why))});
  }
  return Whole(std::move(table));
}

Table OrphanedSpools(const json& orphans) {
  Table table{.name = "Orphans",
              .one = "spool",
              .more = "spools",
              .empty = "None.",
              .columns = {{.title = "Spool"},
                          {.title = "State"},
                          {.title = "Records left", .number = true},
                          {.title = "Why", .wide = true}}};
  for (const json& row : List(orphans, "shown")) {
    const std::string state = Text(row, "state");
    table.rows.push_back({Plain(Text(row, "name")),
                          {.text = state, .tone = state == "kept" ? Tone::kFailing : Tone::kPlain},
                          Plain(Count(row, "left_records")),
                          Plain(Text(row, "why"))});
  }
  return Whole(std::move(table));
}

Cell StateOfOutbox(const json& row) {
  if (!Text(row, "trouble").empty()) return {.text = "in trouble", .tone = Tone::kFailing};
  if (Flag(row, "connected")) return {.text = "connected", .tone = Tone::kFine};
  return {.text = "connecting", .tone = Tone::kWaiting};
}

Table Outboxes(const json& sources, int64_t now_ms) {
  Table table{.name = "Outboxes",
              .one = "source",
              .more = "sources",
              .empty = "None.",
              .columns = {{.title = "Source"},
                          {.title = "State"},
                          {.title = "Rows waiting", .number = true},
                          {.title = "Oldest", .number = true, .rank = 1},
                          {.title = "Taken", .number = true, .rank = 3},
                          {.title = "In quarantine", .number = true, .rank = 2},
                          {.title = "Why", .wide = true}}};
  for (const json& row : sources) {
    std::string why = Text(row, "trouble");
    if (why.empty()) {
      const std::string routes = Texts(row, "waiting_for_topics_of");
      if (!routes.empty()) why = "no topic is known for " + routes;
    }
    table.rows.push_back(
        {Plain(Text(row, "name")), StateOfOutbox(row), Plain(Count(row, "waiting_rows")),
         Plain(Since(Whole(row, "oldest_ms"), now_ms)), Plain(Count(row, "taken_rows")),
         Plain(Count(row, "quarantine_rows")), Plain(std::move(why))});
  }
  return Whole(std::move(table));
}

void ReadAgent(const json& answer, Model& model) {
  const json& dead = At(answer, "dead_letters");
  model.facts = {Flow("In", answer, "in_records", "in_bytes"),
                 Flow("Out", answer, "out_records", "out_bytes"),
                 Waiting(answer, model.now_ms),
                 Disk(At(answer, "disk")),
                 CommitPoint(answer),
                 Tier(At(answer, "tier"))};
  if (const uint64_t records = Amount(dead, "records"); records != 0) {
    model.facts.push_back({.label = "Set aside",
                           .text = Counted(records, "dead letter", "dead letters"),
                           .tone = Tone::kWaiting});
  }
  model.tables.push_back(Topics(answer, model.now_ms));
  model.tables.push_back(Brokers(At(answer, "tier")));
  model.tables.push_back(DeadLetters(dead, model.now_ms));
  model.tables.push_back(Events(answer));
  // Few have them.
  Table orphans = OrphanedSpools(At(answer, "orphans"));
  if (!orphans.rows.empty()) model.tables.push_back(std::move(orphans));
  Table outboxes = Outboxes(List(answer, "outboxes"), model.now_ms);
  if (!outboxes.rows.empty()) model.tables.push_back(std::move(outboxes));
}

// --- A broker.

Table OpenTransactions(const json& transactions, int64_t now_ms) {
  Table table{.name = "Transactions",
              .one = "transaction",
              .more = "transactions",
              .empty = "No transaction is open.",
              .columns = {{.title = "Transactional id"},
                          {.title = "Open for", .number = true},
                          {.title = "Timeout", .number = true, .rank = 2},
                          {.title = "Producer", .number = true},
                          {.title = "Epoch", .number = true, .rank = 1},
                          {.title = "Partitions", .wide = true}}};
  for (const json& row : List(transactions, "oldest")) {
    std::string partitions = Texts(row, "partitions");
    const uint64_t named = List(row, "partitions").size();
    const uint64_t count = Amount(row, "partition_count");
    if (count > named) partitions += fmt::format(" and {} more", agent::CountText(count - named));
    table.rows.push_back(
        {Plain(Text(row, "id")), Plain(Since(Whole(row, "start_ms"), now_ms)),
         Plain(AgeText(Whole(row, "timeout_ms"))), Plain(std::to_string(Whole(row, "producer_id"))),
         Plain(std::to_string(Whole(row, "producer_epoch"))), Plain(std::move(partitions))});
  }
  return Whole(std::move(table));
}

// How many there are, open and otherwise.
std::string TransactionsText(const json& transactions) {
  std::string text = Count(transactions, "open") + " open";
  const json& states = At(transactions, "states");
  if (!states.is_object()) return text;
  for (const auto& [name, count] : states.items()) {
    if (name != "Ongoing") text += fmt::format(", {} {}", Count(states, name.c_str()), name);
  }
  return text;
}

Table Partitions(const json& page) {
  Table table{
      .name = "Partitions",
      .one = "partition",
      .more = "partitions",
      .empty = "There is no topic.",
      .sort = "topic",
      .columns = {{.title = "Topic", .sort = "topic", .wide = true},
                  {.title = "Partition", .number = true},
                  {.title = "Records", .sort = "records", .number = true, .descending = true},
                  {.title = "From", .sort = "start", .number = true, .descending = true, .rank = 2},
                  {.title = "To", .sort = "end", .number = true, .descending = true, .rank = 1},
                  {.title = "In open transactions", .number = true, .rank = 3}}};
  for (const json& row : List(page, "shown")) {
    const uint64_t start = Amount(row, "log_start");
    const uint64_t end = Amount(row, "high_watermark");
    const uint64_t stable = Amount(row, "last_stable_offset");
    const auto beyond = [](uint64_t a, uint64_t b) {
      return Plain(agent::CountText(a - std::min(a, b)));
    };
    table.rows.push_back({Plain(Text(row, "topic")), Plain(Count(row, "partition")),
                          beyond(end, start), Plain(agent::CountText(start)),
                          Plain(agent::CountText(end)), beyond(end, stable)});
  }
  return Served(page, std::move(table));
}

Table Groups(const json& page) {
  Table table{
      .name = "Groups",
      .one = "group",
      .more = "groups",
      .empty = "There is no consumer group.",
      .prefix = "groups_",
      .sort = "lag",
      .descending = true,
      .columns = {{.title = "Group", .sort = "group", .wide = true},
                  {.title = "State", .sort = "state"},
                  {.title = "Members", .sort = "members", .number = true, .descending = true},
                  {.title = "Lag", .sort = "lag", .number = true, .descending = true},
                  {.title = "Committed offsets", .number = true, .rank = 1}}};
  for (const json& row : List(page, "shown")) {
    table.rows.push_back({Plain(Text(row, "group")), Plain(Text(row, "state")),
                          Plain(Count(row, "members")), Plain(Count(row, "lag")),
                          Plain(Count(row, "committed_offsets"))});
  }
  return Served(page, std::move(table));
}

Fact BrokersDisk(const json& disk) {
  const uint64_t most = Amount(disk, "bytes_max");
  Fact fact{.label = "Disk",
            .text = fmt::format("{}{}, {} of records", BytesText(Amount(disk, "disk_bytes")),
                                most == 0 ? "" : " of " + BytesText(most),
                                BytesText(Amount(disk, "entry_bytes")))};
  if (!Flag(disk, "accepting")) {
    fact.text += ", " + Text(disk, "refusing_because");
    fact.tone = Tone::kFailing;
  }
  return fact;
}

void ReadBroker(const json& answer, Model& model) {
  const json& groups = At(answer, "groups");
  const json& transactions = At(answer, "transactions");
  model.facts = {
      Flow("In", answer, "in_records", "in_bytes"),
      Flow("Out", answer, nullptr, "out_bytes"),
      {.label = "Serving",
       .text = fmt::format(
           "{}, {}, {}", Counted(Amount(answer, "topics"), "topic", "topics"),
           Counted(Amount(At(answer, "partitions"), "total"), "partition", "partitions"),
           Counted(Amount(groups, "total"), "group", "groups"))},
      {.label = "Transactions", .text = TransactionsText(transactions)},
      {.label = "Commits", .text = Count(At(answer, "disk"), "durable_commit") + " are durable"},
      BrokersDisk(At(answer, "disk"))};
  model.tables.push_back(Partitions(At(answer, "partitions")));
  model.tables.push_back(Groups(groups));
  model.tables.push_back(OpenTransactions(transactions, model.now_ms));
  model.tables.push_back(Events(answer));
}

std::optional<tm> LocalTime(int64_t time_ms) {
  const auto seconds = static_cast<time_t>(time_ms / 1000);
  tm parts{};
  if (localtime_r(&seconds, &parts) == nullptr) return std::nullopt;
  return parts;
}

}  // namespace

std::string ClockText(int64_t time_ms) {
  const auto parts = LocalTime(time_ms);
  if (!parts) return "–";
  return fmt::format("{:02}:{:02}:{:02}", parts->tm_hour, parts->tm_min, parts->tm_sec);
}

std::string MomentText(int64_t time_ms, int64_t now_ms) {
  const auto parts = LocalTime(time_ms);
  const auto now = LocalTime(now_ms);
  if (!parts || (now && parts->tm_year == now->tm_year && parts->tm_yday == now->tm_yday))
    return ClockText(time_ms);
  return fmt::format("{}-{:02}-{:02} {}", int64_t{parts->tm_year} + 1900, parts->tm_mon + 1,
                     parts->tm_mday, ClockText(time_ms));
}

base::Result<Model> ReadModel(std::string_view answer, const std::string& admin) {
  const json read = json::parse(answer, nullptr, /*allow_exceptions=*/false);
  Model model{.role = Text(read, "role"), .now_ms = Whole(read, "now_ms")};
  if (model.role != "agent" && model.role != "broker") {
    return base::Unexpected(base::Code::kInvalid,
                            "what answers is neither an agent nor a broker of Holdfast");
  }
  ReadVerdict(read, admin, model);
  if (model.role == "agent") {
    ReadAgent(read, model);
  } else {
    ReadBroker(read, model);
  }
  return model;
}

}  // namespace holdfast::top
