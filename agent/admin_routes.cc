#include "agent/admin_routes.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "agent/dead_letter.h"
#include "agent/dead_letter_replay.h"
#include "agent/stream_page.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::agent {
namespace {

using nlohmann::json;

constexpr size_t kDeadLettersShown = 100;
constexpr char kPrometheusText[] = "text/plain; version=0.0.4; charset=utf-8";

net::AdminResponse Ready(const AdminSubjects& subjects) {
  if (subjects.draining) return {.status = 503, .body = "draining\n"};
  const spool::Status spool = subjects.spool.GetStatus();
  if (spool.accepting) return {.body = "ready\n"};
  return {.status = 503, .body = "the spool takes nothing: " + spool.refusing_because + "\n"};
}

json DescribeSpool(const spool::Status& spool) {
  return {{"accepting", spool.accepting},      {"refusing_because", spool.refusing_because},
          {"disk_bytes", spool.disk_bytes},    {"bytes_max", spool.bytes_max},
          {"entry_bytes", spool.entry_bytes},  {"segments", spool.segments},
          {"streams", spool.streams},          {"durable_commit", spool.durable.value()},
          {"queued_bytes", spool.queued_bytes}};
}

json DescribeTier(const proxy::MetadataCache& cache, const proxy::BrokerPorts& ports) {
  const proxy::ClusterPtr cluster = cache.cluster();
  const auto mapped = ports.Snapshot();
  json brokers = json::array();
  for (const auto& [node, broker] : cluster->brokers) {
    const auto port = mapped->find(node);
    brokers.push_back({{"node", node},
                       {"address", broker.address.ToString()},
                       {"bootstrap", port != mapped->end() && port->second == 0},
                       {"local_port", port == mapped->end() ? 0 : port->second}});
  }
  return {{"away", cache.tier_away()},
          {"cluster_id", cluster->id},
          {"brokers", std::move(brokers)},
          {"topics", cluster->topics.size()}};
}

json DescribeLedger(const Ledger& ledger) {
  return {{"measured_ms", ledger.measured_ms},
          {"complete_until_ms", ledger.complete_until_ms},
          {"dropped_records", ledger.dropped_records}};
}

json DescribeStreams(const std::vector<Forwarder::StreamStatus>& streams) {
  json described = json::array();
  for (const auto& stream : streams) {
    described.push_back({{"stream", stream.name},
                         {"backlog_records", stream.backlog_records},
                         {"oldest_ms", stream.oldest_ms},
                         {"trouble", stream.trouble}});
  }
  return described;
}

json DescribeSchedule(const Forwarder::Status& status) {
  return {{"open", status.schedule.open},
          {"bytes_per_second_max", status.schedule.bytes_per_second_max},
          {"changes_ms", status.schedule_changes_ms.value_or(0)}};
}

json DescribeDelivery(const Forwarder::Status& status) {
  return {{"schedule", DescribeSchedule(status)},
          {"streams", status.streams},
          {"backlog_records", status.backlog_records},
          {"oldest_ms", status.oldest_ms},
          {"oldest_streams", DescribeStreams(status.worst)},
          {"parked", status.parked_streams},
          {"parked_streams", DescribeStreams(status.parked)}};
}

// At most kDeadLettersShown streams that have some.
json DescribeDeadLetters(const spool::Spool& spool) {
  json streams = json::array();
  int64_t records = 0;
  for (const auto& [name, id] : spool.Streams()) {
    const auto origin = ParseDeadLetterStreamName(name);
    if (!origin) continue;
    const spool::OffsetRange range = spool.Range(id);
    if (range.start == range.end) continue;
    records += range.end - range.start;
    if (streams.size() == kDeadLettersShown) continue;
    streams.push_back({{"stream", *origin}, {"records", range.end - range.start}});
  }
  return {{"records", records}, {"streams", std::move(streams)}};
}

json DescribeOrphans(Orphans& orphans) {
  json spools = json::array();
  for (const Orphans::Status& one : orphans.GetStatus()) {
    spools.push_back({{"name", one.name},
                      {"state", Orphans::NameOf(one.state)},
                      {"left_records", one.left_records},
                      {"why", one.why}});
  }
  return spools;
}

std::string Parameter(const net::AdminRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found == request.query.end() ? "" : found->second;
}

net::AdminResponse Resume(const AdminSubjects& subjects, const net::AdminRequest& request) {
  const std::string stream = Parameter(request, "stream");
  if (subjects.forwarder.Resume(stream)) return {.status = 202, .body = "trying again\n"};
  return {.status = 404,
          .body = stream.empty() ? "no partition is parked\n" : stream + " is not parked\n"};
}

net::AdminResponse Replay(const AdminSubjects& subjects, const net::AdminRequest& request) {
  const std::string stream = Parameter(request, "stream");
  const auto dead = subjects.spool.FindStream(DeadLetterStreamName(stream));
  if (!dead || subjects.spool.Range(*dead).start == subjects.spool.Range(*dead).end) {
    return {.status = 404, .body = "no dead letters; say which with ?stream=TOPIC/PARTITION\n"};
  }
  DeadLetterReplay::Start(subjects.spool, subjects.records, subjects.upstream, stream,
                          [stream](const base::Result<DeadLetterReplay::Replayed>& replayed) {
                            if (replayed) {
                              base::Log(base::LogLevel::kInfo, {"forward", stream},
                                        "{} dead letters are delivered again", replayed->records);
                            } else {
                              base::Log(base::Event::kDeadLettersNotReplayed, {"forward", stream},
                                        "dead letters not replayed: {}", replayed.error().message);
                            }
                          });
  return {.status = 202, .body = "replaying\n"};
}

net::AdminResponse StatusPage(const AdminSubjects& subjects) {
  json status{{"draining", subjects.draining.load()},
              {"spool", DescribeSpool(subjects.spool.GetStatus())},
              {"tier", DescribeTier(subjects.cache, subjects.ports)},
              {"delivery", DescribeDelivery(subjects.forwarder.GetStatus())},
              {"dead_letters", DescribeDeadLetters(subjects.spool)},
              {"ledger", DescribeLedger(*subjects.forwarder.GetLedger())}};
  if (subjects.orphans != nullptr) status["orphans"] = DescribeOrphans(*subjects.orphans);
  // Names come from clients: what is not UTF-8 is replaced.
  return {.content_type = "application/json",
          .body = status.dump(2, ' ', false, json::error_handler_t::replace) + "\n"};
}

}  // namespace

std::vector<net::AdminRoute> MakeAdminRoutes(AdminSubjects subjects) {
  using net::AdminRequest;
  using net::AdminResponse;
  using net::HttpMethod;
  return {
      {HttpMethod::kGet, "/live", "200 while the process runs",
       [](const AdminRequest&) { return AdminResponse{.body = "live\n"}; }},
      {HttpMethod::kGet, "/ready",
       "200 if records are accepted and made durable on this host; says nothing about the tier",
       [subjects](const AdminRequest&) { return Ready(subjects); }},
      {HttpMethod::kGet, "/metrics", "metrics in the text format of Prometheus",
       [subjects](const AdminRequest&) {
         return AdminResponse{.content_type = kPrometheusText, .body = subjects.registry.Expose()};
       }},
      {HttpMethod::kGet, "/metrics/detail",
       "the same of each stream, as on /ledger; ?filter=TEXT: of topics with it in their names",
       [subjects](const AdminRequest& request) {
         return AdminResponse{.content_type = kPrometheusText,
                              .body = PrintStreamPage(*subjects.forwarder.GetLedger(),
                                                      Parameter(request, "filter"))};
       }},
      {HttpMethod::kGet, "/ledger",
       "how complete each stream is at the tier, and what was dropped, as JSON",
       [subjects](const AdminRequest&) {
         return AdminResponse{.content_type = "application/json",
                              .body = subjects.forwarder.GetLedger()->Print()};
       }},
      {HttpMethod::kGet, "/deliveries",
       "how records were delivered, as far as the spool does not have it yet; for `holdfast trace`",
       [subjects](const AdminRequest&) {
         return AdminResponse{.content_type = "application/octet-stream",
                              .body = subjects.forwarder.UnwrittenDeliveries()};
       }},
      {HttpMethod::kGet, "/status", "spool, tier and delivery, as JSON",
       [subjects](const AdminRequest&) { return StatusPage(subjects); }},
      {HttpMethod::kGet, "/overview",
       "what the page at / shows, as JSON: ?filter=TEXT&limit=50 ...",
       [subjects](const AdminRequest& request) { return subjects.overview.Get(request); }},
      {HttpMethod::kPost, "/resume",
       "?stream=TOPIC/PARTITION, or all: try parked partitions again now",
       [subjects](const AdminRequest& request) { return Resume(subjects, request); }},
      {HttpMethod::kPost, "/dead-letters/replay",
       "?stream=TOPIC/PARTITION: deliver what was set aside of it once more",
       [subjects](const AdminRequest& request) { return Replay(subjects, request); }},
  };
}

}  // namespace holdfast::agent
