// An agent as a part of a process: its loops, its admin server, and the options from the
// configuration.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <utility>

#include "agent/agent.h"
#include "agent/loops.h"
#include "agent/outbox_options.h"
#include "agent/role.h"
#include "agent/security.h"
#include "agent/status_page.h"
#include "config/holdfast.pb.h"
#include "config/value.h"
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

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "agent";
}

PoliciesPtr PoliciesOf(const config::Agent& config) {
  std::vector<Policies::TopicRule> topics;
  for (const config::TopicRule& rule : config.topic_rules()) {
    topics.push_back({.pattern = rule.topic(),
                      .policy = {.acks = static_cast<TopicPolicy::Acks>(rule.acks()),
                                 .priority = static_cast<TopicPolicy::Priority>(rule.priority()),
                                 .ttl_ms = static_cast<int64_t>(rule.ttl_ms()),
                                 .bytes_max = rule.bytes_max(),
                                 .bytes_per_second_max = rule.bytes_per_second_max(),
                                 .when_full = static_cast<WhenFull>(rule.when_full())}});
  }
  std::vector<Policies::ClientRule> clients;
  for (const config::ClientRule& rule : config.client_rules()) {
    clients.push_back({.pattern = rule.client(),
                       .policy = {.bytes_max = rule.bytes_max(),
                                  .bytes_per_second_max = rule.bytes_per_second_max(),
                                  .when_full = static_cast<WhenFull>(rule.when_full())}});
  }
  return std::make_shared<const Policies>(std::move(topics), std::move(clients));
}

std::vector<Agent::Options::NamedListener> ListenersOf(const config::Agent& config) {
  std::vector<Agent::Options::NamedListener> listeners;
  for (const config::Listener& listener : config.listeners()) {
    listeners.push_back({.name = listener.name(),
                         .listen = listener.listen(),
                         .acks = static_cast<proxy::Acks>(listener.acks())});
  }
  return listeners;
}

DeliveryMode DeliveryOf(config::Upstream::Delivery delivery) {
  switch (delivery) {
    case config::Upstream::transactional:
      return DeliveryMode::kTransactional;
    case config::Upstream::auto_:
      return DeliveryMode::kAuto;
    default:
      return DeliveryMode::kIdempotent;
  }
}

base::Result<Schedule> ScheduleOf(const config::Schedule& config) {
  std::vector<Schedule::Window> windows;
  for (const config::ScheduleWindow& configured : config.windows()) {
    auto window = Schedule::ParseWindow(configured.when());
    if (!window)
      return base::Unexpected(std::move(window).error().Within("agent.upstream.schedule.windows"));
    window->bytes_per_second_max = configured.bytes_per_second_max();
    windows.push_back(*window);
  }
  return Schedule(std::move(windows), static_cast<Schedule::Clock>(config.clock()));
}

base::Result<Agent::Options> OptionsOf(const config::Agent& config) {
  const config::Upstream& upstream = config.upstream();
  const config::AgentLimits& limits = config.limits();
  HF_ASSIGN_OR_RETURN(spool::Options spool, SpoolOptionsOf(config.spool()));
  Agent::Options options{
      .spool = std::move(spool),
      .upstream = {upstream.bootstrap().begin(), upstream.bootstrap().end()},
      .listen = {config.listen().begin(), config.listen().end()},
      .listeners = ListenersOf(config),
      .advertised_host = config.advertised_host(),
      .policies = PoliciesOf(config),
      .waiting_bytes_max = limits.waiting_bytes_max(),
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
      .forward_bytes_per_second_max = upstream.bytes_per_second_max(),
      .delivery = DeliveryOf(upstream.delivery()),
      .transactions = {.transaction_bytes_max = limits.transaction_bytes_max(),
                       .memory_max = limits.transactions_bytes_max()},
  };
  HF_ASSIGN_OR_RETURN(options.forward_schedule, ScheduleOf(upstream.schedule()));
  options.high_priority_always = upstream.schedule().high_priority_always();
  HF_ASSIGN_OR_RETURN(options.security, AgentSecurityOf(config));
  HF_ASSIGN_OR_RETURN(options.outbox, OutboxOptionsOf(config));
  HF_ASSIGN_OR_RETURN(options.half_messages, HalfMessagesOf(config));
  for (const config::TransactionRule& rule : config.transactions()) {
    options.transactions.rules.push_back(
        {.pattern = rule.pattern(), .local = rule.mode() == config::TransactionRule::local});
  }
  for (const config::DeclaredTopic& topic : config.topics())
    options.topics.push_back({.name = topic.name(), .partitions = topic.partitions()});
  if (const config::Ledger& ledger = config.ledger(); ledger.has_topic()) {
    options.ledger_topic =
        LedgerTopic::Options{.topic = ledger.topic(),
                             .agent = ledger.has_name() ? ledger.name() : HostName(),
                             .interval = milliseconds(ledger.interval_ms())};
    const bool declared = std::ranges::any_of(
        options.topics, [&](const auto& topic) { return topic.name == ledger.topic(); });
    if (!declared) options.topics.push_back({.name = ledger.topic()});
  }
  return options;
}

class AgentRole final : public Role {
 public:
  explicit AgentRole(Controls controls) : controls_(std::move(controls)), net_metrics_(registry_) {}

  base::Result<void> Start(const config::Agent& config) {
    HF_ASSIGN_OR_RETURN(Agent::Options options, OptionsOf(config));
    listens_in_tls_ = options.security.listener != nullptr;
    TakeTimes(config);
    const size_t sources = options.outbox.size();
    HF_ASSIGN_OR_RETURN(loops_, Loops::Start(config.workers(), &net_metrics_,
                                             sources + (options.half_messages ? 1 : 0)));
    std::vector<net::EventLoop*> blocking = loops_.blocking();
    net::EventLoop* const asking = options.half_messages ? blocking.back() : nullptr;
    blocking.resize(sources);
    HF_ASSIGN_OR_RETURN(agent_, Agent::Start(std::move(options),
                                             {.workers = loops_.workers(),
                                              .upstream = &loops_.upstream(),
                                              .spool_writer = &loops_.writer(),
                                              .spool_background = &loops_.background(),
                                              .metrics = &net_metrics_,
                                              .outbox = std::move(blocking),
                                              .asking = asking},
                                             registry_));
    HF_ASSIGN_OR_RETURN(admin_, ListenAdmin(loops_, config.admin(), Routes()));
    return {};
  }

  base::Result<void> Reload(const config::Config& config) override {
    HF_ASSIGN_OR_RETURN(const Agent::Options options, OptionsOf(config.agent()));
    if ((options.security.listener != nullptr) != listens_in_tls_) {
      return base::Unexpected(base::Code::kInvalid,
                              "setting or unsetting agent.tls needs a restart");
    }
    agent_->Reload(options);
    TakeTimes(config.agent());
    return {};
  }

  std::string_view name() const override { return "agent"; }
  std::vector<std::string> ListenAddresses() const override { return agent_->ListenAddresses(); }
  std::string AdminAddress() const override {
    return admin_ ? admin_->local_address().ToString() : "";
  }
  std::vector<base::Executor*> WatchedLoops() const override { return loops_.watched(); }
  std::string Summary() const override { return agent_->Summary(); }
  milliseconds drain_limit() const override {
    return 2 * drain_timeout_.load() + drain_backlog_.load();
  }
  void Drain() override {
    agent_->Drain(drain_timeout_, drain_backlog_);  // Until its end /ready says that it drains.
    admin_.reset();
    agent_->Stop();
  }

 private:
  void TakeTimes(const config::Agent& config) {
    drain_timeout_ = milliseconds(config.drain_timeout_ms());
    drain_backlog_ = milliseconds(config.drain_backlog_ms());
  }

  std::vector<net::AdminRoute> Routes() {
    using net::AdminRequest;
    using net::AdminResponse;
    std::vector<net::AdminRoute> routes = agent_->AdminRoutes();
    routes.push_back(StatusPageRoute());
    routes.push_back({net::HttpMethod::kGet, "/config", "the settings in effect, without secrets",
                      [this](const AdminRequest&) {
                        return AdminResponse{.content_type = "application/json",
                                             .body = controls_.print_config()};
                      }});
    routes.push_back({net::HttpMethod::kPost, "/reload", "reads the configuration anew, as SIGHUP",
                      [this](const AdminRequest&) {
                        const auto done = controls_.reload();
                        if (done) return AdminResponse{.body = *done + "\n"};
                        return AdminResponse{.status = 409, .body = done.error().message + "\n"};
                      }});
    routes.push_back({net::HttpMethod::kPost, "/drain",
                      "takes no more, gives the tier until ?deadline=30s to take what waits, exits",
                      [this](const AdminRequest& request) { return BeginDrain(request); }});
    return routes;
  }

  net::AdminResponse BeginDrain(const net::AdminRequest& request) {
    if (const auto deadline = request.query.find("deadline"); deadline != request.query.end()) {
      const auto ms = config::ParseNumber(deadline->second, config::Unit::kMilliseconds);
      if (!ms || *ms < 0) {
        return {.status = 400, .body = "deadline must be a duration such as 30s\n"};
      }
      drain_backlog_ = milliseconds(*ms);
    }
    controls_.stop();
    return {.status = 202, .body = "draining; /status says what is left\n"};
  }

  Controls controls_;
  bool listens_in_tls_ = false;
  std::atomic<milliseconds> drain_timeout_{};
  std::atomic<milliseconds> drain_backlog_{};
  // Destroyed from the bottom up: no scrape reaches an agent that is gone, and no agent a loop.
  metrics::Registry registry_;
  metrics::NetMetrics net_metrics_;
  Loops loops_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<net::AdminServer> admin_;
};

}  // namespace

base::Result<void> CheckSchedule(const config::Agent& config) {
  HF_RETURN_IF_ERROR(ScheduleOf(config.upstream().schedule()));
  return {};
}

base::Result<std::unique_ptr<Role>> StartAgent(const config::Agent& config, Controls controls) {
  auto role = std::make_unique<AgentRole>(std::move(controls));
  HF_RETURN_IF_ERROR(role->Start(config));
  return role;
}

}  // namespace holdfast::agent
