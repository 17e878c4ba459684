// An agent as a part of a process: its loops, its admin server, and the options from the
// configuration.
#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/agent.h"
#include "agent/loops.h"
#include "agent/role.h"
#include "agent/security.h"
#include "config/holdfast.pb.h"
#include "metrics/catalogue.h"
#include "metrics/registry.h"
#include "net/admin_server.h"

namespace holdfast::agent {
namespace {

using std::chrono::milliseconds;

DeadLetterPolicy PolicyOf(config::DeadLetters::Policy policy) {
  switch (policy) {
    case config::DeadLetters::spool:
      return DeadLetterPolicy::kSpool;
    case config::DeadLetters::topic:
      return DeadLetterPolicy::kTopic;
    case config::DeadLetters::park:
      return DeadLetterPolicy::kPark;
  }
  return DeadLetterPolicy::kPark;
}

base::Result<Agent::Options> OptionsOf(const config::Agent& config) {
  const config::Upstream& upstream = config.upstream();
  const config::AgentLimits& limits = config.limits();
  HF_ASSIGN_OR_RETURN(spool::Options spool, SpoolOptionsOf(config.spool()));
  Agent::Options options{
      .spool = std::move(spool),
      .upstream = {upstream.bootstrap().begin(), upstream.bootstrap().end()},
      .listen = {config.listen().begin(), config.listen().end()},
      .advertised_host = config.advertised_host(),
      .batch_bytes_max = limits.batch_bytes_max(),
      .timestamp_ahead_max = milliseconds(limits.timestamp_ahead_max_ms()),
      .request_bytes_max = limits.request_bytes_max(),
      .connections_max = limits.connections_max(),
      .memory_in_flight_max = limits.memory_in_flight_bytes_max(),
      .idle_timeout = milliseconds(limits.idle_timeout_ms()),
      .upstream_timeout = milliseconds(upstream.timeout_ms()),
      .backoff_min = milliseconds(upstream.backoff_min_ms()),
      .backoff_max = milliseconds(upstream.backoff_max_ms()),
      .metadata_refresh = milliseconds(upstream.metadata_refresh_ms()),
      .forward_request_bytes_max = upstream.request_bytes_max(),
      .forward_requests_in_flight = upstream.requests_in_flight_max(),
      .dead_letters = PolicyOf(config.dead_letters().policy()),
      .dead_letter_topic = config.dead_letters().topic_name(),
  };
  HF_ASSIGN_OR_RETURN(options.security, AgentSecurityOf(config));
  for (const config::DeclaredTopic& topic : config.topics())
    options.topics.push_back({.name = topic.name(), .partitions = topic.partitions()});
  return options;
}

class AgentRole final : public Role {
 public:
  explicit AgentRole(milliseconds drain_timeout)
      : drain_timeout_(drain_timeout), net_metrics_(registry_) {}

  base::Result<void> Start(const config::Agent& config) {
    HF_ASSIGN_OR_RETURN(Agent::Options options, OptionsOf(config));
    HF_ASSIGN_OR_RETURN(loops_, Loops::Start(config.workers(), &net_metrics_));
    HF_ASSIGN_OR_RETURN(agent_, Agent::Start(std::move(options),
                                             {.workers = loops_.workers(),
                                              .upstream = &loops_.upstream(),
                                              .spool_writer = &loops_.writer(),
                                              .spool_background = &loops_.background(),
                                              .metrics = &net_metrics_},
                                             registry_));
    HF_ASSIGN_OR_RETURN(admin_, ListenAdmin(loops_, config.admin(), agent_->AdminRoutes()));
    return {};
  }

  std::string_view name() const override { return "agent"; }
  std::vector<std::string> ListenAddresses() const override { return agent_->ListenAddresses(); }
  std::string AdminAddress() const override {
    return admin_ ? admin_->local_address().ToString() : "";
  }
  void Drain() override {
    agent_->Drain(drain_timeout_);  // Until its end /ready says that it drains.
    admin_.reset();
    agent_->Stop();
  }

 private:
  const milliseconds drain_timeout_;
  // Destroyed from the bottom up: no scrape reaches an agent that is gone, and no agent a loop.
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  Loops loops_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<net::AdminServer> admin_;
};

}  // namespace

base::Result<std::unique_ptr<Role>> StartAgent(const config::Agent& config) {
  auto role = std::make_unique<AgentRole>(milliseconds(config.drain_timeout_ms()));
  HF_RETURN_IF_ERROR(role->Start(config));
  return role;
}

}  // namespace holdfast::agent
