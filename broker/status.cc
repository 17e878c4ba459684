#include "broker/status.h"

#include <nlohmann/json.hpp>

#include "broker/run_and_wait.h"

namespace holdfast::broker {
namespace {

using nlohmann::json;

json DescribeSpool(const spool::Status& status) {
  json out{{"accepting", status.accepting},      {"disk_bytes", status.disk_bytes},
           {"entry_bytes", status.entry_bytes},  {"segments", status.segments},
           {"streams", status.streams},          {"durable_commit", status.durable.value()},
           {"queued_bytes", status.queued_bytes}};
  if (!status.accepting) out["refusing_because"] = status.refusing_because;
  if (status.bytes_max != 0) out["bytes_max"] = status.bytes_max;
  return out;
}

json DescribeTopic(const Topic& topic) {
  json partitions = json::array();
  for (const Partition* partition : topic.partitions) {
    partitions.push_back({{"partition", partition->id.partition},
                          {"log_start", partition->log_start.load()},
                          {"high_watermark", partition->high_watermark.load()}});
  }
  return {{"name", topic.name},
          {"id", topic.id.ToString()},
          {"config", topic.config.overrides()},
          {"partitions", std::move(partitions)}};
}

// Names come from clients and need not be UTF-8.
std::string Print(const json& document) {
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string Status(const Context& context, const Coordinator& coordinator, base::Executor& loop) {
  std::vector<Coordinator::Summary> groups;
  const auto topics = context.catalog.Get();
  RunAndWait(loop, [&] { groups = coordinator.Summarize(*topics); });
  json document{{"role", "broker"},
                {"cluster_id", context.cluster_id},
                {"node_id", context.options.node_id},
                {"spool", DescribeSpool(context.log->spool().GetStatus())},
                {"topics", json::array()},
                {"groups", json::array()}};
  for (const Topic* topic : topics->All()) document["topics"].push_back(DescribeTopic(*topic));
  for (const Coordinator::Summary& group : groups) {
    document["groups"].push_back({{"id", group.id},
                                  {"state", group.state},
                                  {"protocol_type", group.protocol_type},
                                  {"members", group.members},
                                  {"committed_offsets", group.offsets},
                                  {"lag", group.lag}});
  }
  return Print(document);
}

net::AdminResponse Ready(const Context& context) {
  const spool::Status status = context.log->spool().GetStatus();
  if (status.accepting) return {.body = "ready\n"};
  return {.status = 503, .body = "not accepting: " + status.refusing_because + "\n"};
}

std::string Expose(Context& context, const metrics::Registry& registry) {
  const auto topics = context.catalog.Get();
  context.metrics.topics.Set(static_cast<double>(topics->size()));
  context.metrics.partitions.Set(static_cast<double>(topics->partitions()));
  return registry.Expose();
}

}  // namespace

std::vector<net::AdminRoute> StatusRoutes(Context& context, Coordinator& coordinator,
                                          base::Executor& coordinator_loop, Overview& overview,
                                          const metrics::Registry& registry) {
  using net::AdminRequest;
  using net::AdminResponse;
  return {
      {net::HttpMethod::kGet, "/live", "200 while the process runs",
       [](const AdminRequest&) { return AdminResponse{.body = "live\n"}; }},
      {net::HttpMethod::kGet, "/ready", "200 while records are accepted, 503 and the reason if not",
       [&context](const AdminRequest&) { return Ready(context); }},
      {net::HttpMethod::kGet, "/metrics", "for Prometheus",
       [&context, &registry](const AdminRequest&) {
         return AdminResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                              .body = Expose(context, registry)};
       }},
      {net::HttpMethod::kGet, "/overview",
       "what the page at / shows, as JSON: ?filter=TEXT&limit=50 ...",
       [&overview](const AdminRequest& request) { return overview.Get(request); }},
      {net::HttpMethod::kGet, "/status", "topics, groups and the spool, as JSON",
       [&context, &coordinator, &coordinator_loop](const AdminRequest&) {
         return AdminResponse{.content_type = "application/json",
                              .body = Status(context, coordinator, coordinator_loop)};
       }},
  };
}

}  // namespace holdfast::broker
