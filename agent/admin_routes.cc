#include "agent/admin_routes.h"

#include <nlohmann/json.hpp>

namespace holdfast::agent {
namespace {

using nlohmann::json;

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

json DescribeDelivery(const Forwarder::Status& status) {
  json worst = json::array();
  for (const auto& stream : status.worst) {
    worst.push_back({{"stream", stream.name},
                     {"backlog_records", stream.backlog_records},
                     {"oldest_ms", stream.oldest_ms},
                     {"trouble", stream.trouble}});
  }
  return {{"streams", status.streams},
          {"backlog_records", status.backlog_records},
          {"oldest_ms", status.oldest_ms},
          {"oldest_streams", std::move(worst)}};
}

net::AdminResponse StatusPage(const AdminSubjects& subjects) {
  const json status{{"draining", subjects.draining.load()},
                    {"spool", DescribeSpool(subjects.spool.GetStatus())},
                    {"tier", DescribeTier(subjects.cache, subjects.ports)},
                    {"delivery", DescribeDelivery(subjects.forwarder.GetStatus())}};
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
         return AdminResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                              .body = subjects.registry.Expose()};
       }},
      {HttpMethod::kGet, "/status", "spool, tier and delivery, as JSON",
       [subjects](const AdminRequest&) { return StatusPage(subjects); }},
  };
}

}  // namespace holdfast::agent
