#include "agent/overview.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/dead_letter.h"
#include "net/overview_parts.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;

// A pace below is none.
constexpr double kSlowest = 0.01;
constexpr int64_t kFarthestMs = int64_t{30} * 24 * 3600 * 1000;
// Of a segment, where batches are small.
constexpr double kEntriesShare = 0.85;

std::optional<int64_t> TimeFor(double amount, double per_second) {
  if (amount <= 0 || per_second < kSlowest) return std::nullopt;
  const double ms = 1000 * amount / per_second;
  if (ms > static_cast<double>(kFarthestMs)) return std::nullopt;
  return static_cast<int64_t>(ms);
}

json OrNull(std::optional<int64_t> value) { return value ? json(*value) : json(nullptr); }

json Describe(const Verdict& verdict) {
  json remarks = json::array();
  for (const Remark& remark : verdict.remarks) {
    remarks.push_back({{"severity", SeverityName(remark.severity)},
                       {"title", remark.title},
                       {"why", remark.why},
                       {"todo", remark.todo}});
  }
  return {{"severity", SeverityName(verdict.severity)},
          {"headline", verdict.headline},
          {"remarks", std::move(remarks)}};
}

std::string_view StateOf(const TopicState& topic, const Situation& situation) {
  if (topic.parked > 0 || topic.denied) return "held";
  if (topic.backlog_records == 0) return "delivered";
  if (situation.tier_away || !topic.trouble.empty()) return "waiting";
  return "delivering";
}

json Describe(const TopicState& topic, const Situation& situation) {
  return {{"topic", topic.topic},
          {"state", StateOf(topic, situation)},
          {"partitions", topic.partitions},
          {"waiting_partitions", topic.waiting},
          {"parked_partitions", topic.parked},
          {"backlog_records", topic.backlog_records},
          {"oldest_ms", topic.oldest_ms},
          {"drain_ms",
           OrNull(TimeFor(static_cast<double>(topic.backlog_records), topic.drain_per_second))},
          {"why", WhyWaiting(topic, situation)},
          {"why_partition", topic.trouble_partition}};
}

// How urgent it is that somebody looks.
int Urgency(const TopicState& topic) {
  if (topic.parked > 0 || topic.denied) return 0;
  if (topic.backlog_records > 0 && !topic.trouble.empty()) return 1;
  return topic.backlog_records > 0 ? 2 : 3;
}

// Of those without an oldest record the last.
int64_t OldestFirst(const TopicState& topic) {
  return topic.oldest_ms == 0 ? std::numeric_limits<int64_t>::max() : topic.oldest_ms;
}

void Sort(std::vector<const TopicState*>& topics, const net::TableQuery& query) {
  const auto by = [&](auto key) {
    query.SortBy(
        topics, [&](const TopicState* topic) { return key(*topic); },
        [](const TopicState* topic) -> const std::string& { return topic->topic; });
  };
  if (query.sort == "topic")
    return by([](const TopicState& t) -> std::string_view { return t.topic; });
  if (query.sort == "backlog") return by([](const TopicState& t) { return t.backlog_records; });
  if (query.sort == "oldest") return by(OldestFirst);
  if (query.sort == "drain")
    return by([](const TopicState& t) {
      return TimeFor(static_cast<double>(t.backlog_records), t.drain_per_second)
          .value_or(t.backlog_records > 0 ? kFarthestMs : 0);
    });
  by([](const TopicState& t) { return std::pair(Urgency(t), OldestFirst(t)); });
}

json DescribeTopics(const Situation& situation, const net::TableQuery& query) {
  std::vector<const TopicState*> matching;
  for (const TopicState& topic : situation.topics) {
    if (query.Matches(topic.topic) || query.Matches(WhyWaiting(topic, situation)))
      matching.push_back(&topic);
  }
  Sort(matching, query);
  json shown = json::array();
  for (size_t i = query.begin_of(matching.size()); i < query.end_of(matching.size()); ++i)
    shown.push_back(Describe(*matching[i], situation));
  return {{"total", situation.topics.size()},
          {"matching", matching.size()},
          {"offset", query.offset},
          {"shown", std::move(shown)}};
}

json DescribeDeadLetters(const Situation& situation) {
  json streams = json::array();
  for (const DeadLetterState& dead : situation.dead_letters) {
    streams.push_back({{"stream", dead.stream},
                       {"records", dead.records},
                       {"error", dead.error},
                       {"message", dead.message},
                       {"time_ms", dead.time_ms}});
  }
  return {{"records", situation.dead_letter_records}, {"streams", std::move(streams)}};
}

// An address of the list that a broker has told of as its own is shown once.
json DescribePeers(const Situation& situation) {
  json peers = json::array();
  for (const auto& peer : situation.peers) {
    const bool known = peer.node == proxy::kAnyNode &&
                       std::ranges::any_of(situation.peers, [&](const auto& other) {
                         return other.node != proxy::kAnyNode && other.address == peer.address;
                       });
    if (known) continue;
    peers.push_back({{"node", peer.node == proxy::kAnyNode ? json(nullptr) : json(peer.node)},
                     {"address", peer.address.ToString()},
                     {"ready", peer.ready},
                     {"trouble", peer.trouble}});
  }
  return peers;
}

// Those that are worked on, or cannot go on, first.
json DescribeOrphans(std::vector<Orphans::Status> spools) {
  std::ranges::stable_sort(spools, std::ranges::greater(), [](const Orphans::Status& one) {
    return std::pair(one.state != Orphans::State::kWaiting, one.left_records);
  });
  json shown = json::array();
  int64_t records = 0;
  for (const Orphans::Status& one : spools) {
    records += one.left_records;
    if (shown.size() == Overview::kOrphansShown) continue;
    shown.push_back({{"name", one.name},
                     {"state", Orphans::NameOf(one.state)},
                     {"left_records", one.left_records},
                     {"why", one.why}});
  }
  return {{"total", spools.size()}, {"left_records", records}, {"shown", std::move(shown)}};
}

json DescribeOutboxes(const std::vector<outbox::Outboxes::Status>& sources) {
  json described = json::array();
  for (const auto& [name, drain] : sources) {
    uint64_t rows = 0;
    std::optional<int64_t> oldest_ms;
    for (const outbox::Source::Lag::Part& part : drain.lag.parts) {
      if (!part.owned) continue;
      rows += part.rows;
      if (part.oldest_ms)
        oldest_ms = std::min(oldest_ms.value_or(*part.oldest_ms), *part.oldest_ms);
    }
    described.push_back({{"name", name},
                         {"connected", drain.connected},
                         {"waiting_rows", rows},
                         {"oldest_ms", oldest_ms.value_or(0)},
                         {"taken_rows", drain.taken_rows},
                         {"quarantine_rows", drain.lag.quarantined},
                         {"waiting_for_topics_of", drain.held},
                         {"trouble", drain.trouble}});
  }
  return described;
}

}  // namespace

Overview::Overview(Context context)
    : context_(std::move(context)),
      history_({{"in_records", &context_.metrics.acknowledged_records},
                {"in_bytes", &context_.metrics.acknowledged_bytes},
                {"out_records", &context_.metrics.forwarded_records},
                {"out_bytes", &context_.metrics.forwarded_bytes}},
               &context_.metrics.backlog_bytes) {
  Sample();
}

void Overview::Sample() {
  const int64_t now_ms = context_.loop.WallClockMs();
  history_.Sample(now_ms);
  Sampled sampled{.now_ms = now_ms, .peers = context_.upstream.Peers()};
  {
    const base::MutexLock lock(mutex_);
    sampled_ = std::move(sampled);
  }
  timer_ = context_.loop.After(metrics::History::kSampleEvery, [this] { Sample(); });
}

// The ledger is sorted by stream, "topic/partition", so that a topic's streams are neighbours.
void Overview::LookAtTopics(const Ledger& ledger, Situation& situation) {
  const auto topic_of = [](const CommitPoint& point) {
    return std::string_view(point.stream).substr(0, point.stream.rfind('/'));
  };
  // Counted first: a vector that grows takes three times its memory, and keeps it from others.
  size_t topics = 0;
  std::string_view last;
  for (const CommitPoint& point : ledger.streams) {
    topics += topics == 0 || topic_of(point) != last ? 1 : 0;
    last = topic_of(point);
  }
  situation.topics.reserve(topics);
  for (const CommitPoint& point : ledger.streams) {
    const std::string_view topic = topic_of(point);
    if (situation.topics.empty() || situation.topics.back().topic != topic) {
      TopicState& added = situation.topics.emplace_back();
      added.topic = topic;
      added.denied = context_.cache.Denied(topic, situation.now_ms);
    }
    TopicState& state = situation.topics.back();
    ++state.partitions;
    const int64_t backlog = point.end - point.confirmed;
    if (backlog <= 0) continue;
    ++state.waiting;
    state.parked += point.parked ? 1 : 0;
    state.backlog_records += backlog;
    state.drain_per_second += point.drain_per_second;
    if (point.oldest_ms != 0 && (state.oldest_ms == 0 || point.oldest_ms < state.oldest_ms))
      state.oldest_ms = point.oldest_ms;
    if (point.trouble.empty() || (!state.trouble.empty() && !(point.parked && state.parked == 1)))
      continue;
    state.trouble = point.trouble;
    if (topic.size() == point.stream.size()) continue;  // Its name is lost.
    const std::string_view partition = std::string_view(point.stream).substr(topic.size() + 1);
    std::from_chars(partition.data(), partition.data() + partition.size(), state.trouble_partition);
  }
}

Overview::Reason Overview::ReasonOf(spool::StreamId stream, int64_t end) {
  const base::MutexLock lock(mutex_);
  Reason& kept = reasons_[stream.value()];
  if (kept.end == end) return kept;
  kept = {.end = end};
  const auto newest = context_.spool.Read(stream, end - 1, 1);
  if (!newest || newest->empty()) return kept;
  const auto reason = ReadDeadLetterReason(newest->entries().front().bytes);
  if (!reason) return kept;
  kept.error = reason->error;
  kept.message = reason->message;
  kept.time_ms = reason->time_ms;
  return kept;
}

void Overview::LookAtDeadLetters(Situation& situation) {
  for (const auto& [name, id] : context_.spool.Streams()) {
    const auto origin = ParseDeadLetterStreamName(name);
    if (!origin) continue;
    const spool::OffsetRange range = context_.spool.Range(id);
    if (range.start == range.end) continue;
    situation.dead_letter_records += range.end - range.start;
    if (situation.dead_letters.size() == kDeadLettersShown) continue;
    Reason reason = ReasonOf(id, range.end);
    situation.dead_letters.push_back({.stream = std::string(*origin),
                                      .records = range.end - range.start,
                                      .error = std::move(reason.error),
                                      .message = std::move(reason.message),
                                      .time_ms = reason.time_ms});
  }
}

// What entries can take: of what the file system has left and the configuration allows, without the
// segment that is kept for writing others anew, and without what pages cost.
uint64_t Overview::RoomBytes(const spool::Status& spool) const {
  const auto beyond = [](uint64_t have, uint64_t kept) { return have - std::min(have, kept); };
  std::error_code error;
  const auto space = std::filesystem::space(context_.spool_directory, error);
  uint64_t room = error ? 0 : spool.disk_bytes + beyond(space.available, context_.free_bytes_min);
  uint64_t segment = context_.segment_bytes;
  if (spool.bytes_max != 0) {
    room = error ? spool.bytes_max : std::min(room, spool.bytes_max);
    segment = std::min(segment, spool.bytes_max / 4);
  }
  return static_cast<uint64_t>(kEntriesShare * static_cast<double>(beyond(room, segment)));
}

Situation Overview::Look(const Ledger& ledger, const metrics::History::Rates& rates) {
  Situation situation;
  {
    const base::MutexLock lock(mutex_);
    situation.now_ms = std::max(sampled_.now_ms, ledger.measured_ms);
    situation.peers = sampled_.peers;
  }
  situation.draining = context_.draining;
  situation.tier_away = context_.cache.tier_away();
  const Forwarder::Status delivery = context_.forwarder.GetStatus();
  situation.paused = !delivery.schedule.open;
  situation.opens_ms = delivery.schedule_changes_ms;
  situation.spool = context_.spool.GetStatus();
  LookAtTopics(ledger, situation);
  LookAtDeadLetters(situation);

  situation.room_bytes = RoomBytes(situation.spool);
  const double left =
      static_cast<double>(situation.room_bytes) - static_cast<double>(situation.spool.entry_bytes);
  // What is acknowledged only by the tier waits here as well, and what is dropped does not.
  situation.full_in_ms = TimeFor(left, rates.growth_lately);

  double backlog = 0;
  double drain = 0;
  for (const TopicState& topic : situation.topics) {
    backlog += static_cast<double>(topic.backlog_records);
    if (topic.backlog_records > 0) drain += topic.drain_per_second;
  }
  situation.drain_in_ms = TimeFor(backlog, drain);
  return situation;
}

net::AdminResponse Overview::Get(const net::AdminRequest& request) {
  const auto queries = net::ParseTableQueries(
      request, {{.prefix = "", .sorts = {"trouble", "topic", "backlog", "oldest", "drain"}}});
  if (!queries) return {.status = 400, .body = queries.error().message + "\n"};
  const std::shared_ptr<const Ledger> ledger = context_.forwarder.GetLedger();
  const metrics::History::Rates rates = history_.Get();
  const Situation situation = Look(*ledger, rates);
  int64_t backlog = 0;
  int64_t oldest_ms = 0;
  uint32_t parked = 0;
  for (const TopicState& topic : situation.topics) {
    backlog += topic.backlog_records;
    parked += topic.parked;
    if (topic.oldest_ms != 0 && (oldest_ms == 0 || topic.oldest_ms < oldest_ms))
      oldest_ms = topic.oldest_ms;
  }
  json document{{"role", "agent"},
                {"now_ms", situation.now_ms},
                {"draining", situation.draining},
                {"verdict", Describe(Judge(situation))},
                {"rates", net::DescribeRates(rates)},
                {"backlog",
                 {{"records", backlog},
                  {"oldest_ms", oldest_ms},
                  {"drain_ms", OrNull(situation.drain_in_ms)},
                  {"parked_partitions", parked},
                  {"partitions", ledger->streams.size()}}},
                {"topics", DescribeTopics(situation, queries->front())},
                {"tier",
                 {{"away", situation.tier_away},
                  {"cluster_id", context_.cache.cluster()->id},
                  {"brokers", DescribePeers(situation)}}},
                {"disk",
                 {{"directory", context_.spool_directory},
                  {"entry_bytes", situation.spool.entry_bytes},
                  {"disk_bytes", situation.spool.disk_bytes},
                  {"room_bytes", situation.room_bytes},
                  {"bytes_max", situation.spool.bytes_max},
                  {"full_in_ms", OrNull(situation.full_in_ms)},
                  {"accepting", situation.spool.accepting},
                  {"refusing_because", situation.spool.refusing_because},
                  {"segments", situation.spool.segments}}},
                {"ledger",
                 {{"complete_until_ms", ledger->complete_until_ms},
                  {"dropped_records", ledger->dropped_records},
                  {"durable_commit", situation.spool.durable.value()}}},
                {"dead_letters", DescribeDeadLetters(situation)},
                {"events", net::DescribeRecentLines()}};
  if (context_.orphans) document["orphans"] = DescribeOrphans(context_.orphans->GetStatus());
  if (context_.outboxes) document["outboxes"] = DescribeOutboxes(context_.outboxes->GetStatus());
  return net::JsonResponse(document);
}

}  // namespace holdfast::agent
