#include "cli/agent_options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "cli/loops.h"
#include "cli/outbox_options.h"
#include "cli/security.h"
#include "config/holdfast.pb.h"

namespace holdfast::cli {
namespace {

using std::chrono::milliseconds;

agent::DeadLetterPolicy PolicyOf(config::DeadLetters::Policy policy) {
  switch (policy) {
    case config::DeadLetters::spool:
      return agent::DeadLetterPolicy::kSpool;
    case config::DeadLetters::topic:
      return agent::DeadLetterPolicy::kTopic;
    case config::DeadLetters::park:
      return agent::DeadLetterPolicy::kPark;
  }
  return agent::DeadLetterPolicy::kPark;
}

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "agent";
}

agent::PoliciesPtr PoliciesOf(const config::Agent& config) {
  std::vector<agent::Policies::TopicRule> topics;
  for (const config::TopicRule& rule : config.topic_rules()) {
    topics.push_back(
        {.pattern = rule.topic(),
         .policy = {.acks = static_cast<agent::TopicPolicy::Acks>(rule.acks()),
                    .priority = static_cast<agent::TopicPolicy::Priority>(rule.priority()),
                    .ttl_ms = static_cast<int64_t>(rule.ttl_ms()),
                    .bytes_max = rule.bytes_max(),
                    .bytes_per_second_max = rule.bytes_per_second_max(),
                    .when_full = static_cast<agent::WhenFull>(rule.when_full())}});
  }
  std::vector<agent::Policies::ClientRule> clients;
  for (const config::ClientRule& rule : config.client_rules()) {
    clients.push_back({.pattern = rule.client(),
                       .policy = {.bytes_max = rule.bytes_max(),
                                  .bytes_per_second_max = rule.bytes_per_second_max(),
                                  .when_full = static_cast<agent::WhenFull>(rule.when_full())}});
  }
  return std::make_shared<const agent::Policies>(std::move(topics), std::move(clients));
}

std::vector<agent::Agent::Options::NamedListener> ListenersOf(const config::Agent& config) {
  std::vector<agent::Agent::Options::NamedListener> listeners;
  for (const config::Listener& listener : config.listeners()) {
    listeners.push_back({.name = listener.name(),
                         .listen = listener.listen(),
                         .acks = static_cast<proxy::Acks>(listener.acks())});
  }
  return listeners;
}

agent::DeliveryMode DeliveryOf(config::Upstream::Delivery delivery) {
  switch (delivery) {
    case config::Upstream::transactional:
      return agent::DeliveryMode::kTransactional;
    case config::Upstream::auto_:
      return agent::DeliveryMode::kAuto;
    default:
      return agent::DeliveryMode::kIdempotent;
  }
}

}  // namespace

base::Result<agent::Schedule> ScheduleOf(const config::Schedule& config) {
  std::vector<agent::Schedule::Window> windows;
  for (const config::ScheduleWindow& configured : config.windows()) {
    auto window = agent::Schedule::ParseWindow(configured.when());
    if (!window)
      return base::Unexpected(std::move(window).error().Within("agent.upstream.schedule.windows"));
    window->bytes_per_second_max = configured.bytes_per_second_max();
    windows.push_back(*window);
  }
  return agent::Schedule(std::move(windows), static_cast<agent::Schedule::Clock>(config.clock()));
}

base::Result<agent::Agent::Options> AgentOptionsOf(const config::Agent& config) {
  const config::Upstream& upstream = config.upstream();
  const config::AgentLimits& limits = config.limits();
  HF_ASSIGN_OR_RETURN(spool::Options spool, SpoolOptionsOf(config.spool(), "agent.spool"));
  agent::Agent::Options options{
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
  if (config.has_orphans()) {
    if (config.orphans().directory().empty())
      return base::Unexpected(base::Code::kInvalid,
                              "agent.orphans.directory is not set: say where spools may be left");
    options.orphans = {.directory = config.orphans().directory(),
                       .after = milliseconds(config.orphans().after_ms()),
                       .remove_after = milliseconds(config.orphans().remove_after_ms())};
  }
  for (const config::TransactionRule& rule : config.transactions()) {
    options.transactions.rules.push_back(
        {.pattern = rule.pattern(), .local = rule.mode() == config::TransactionRule::local});
  }
  for (const config::DeclaredTopic& topic : config.topics())
    options.topics.push_back({.name = topic.name(), .partitions = topic.partitions()});
  if (const config::Ledger& ledger = config.ledger(); ledger.has_topic()) {
    options.ledger_topic =
        agent::LedgerTopic::Options{.topic = ledger.topic(),
                                    .agent = ledger.has_name() ? ledger.name() : HostName(),
                                    .interval = milliseconds(ledger.interval_ms())};
    const bool declared = std::ranges::any_of(
        options.topics, [&](const auto& topic) { return topic.name == ledger.topic(); });
    if (!declared) options.topics.push_back({.name = ledger.topic()});
  }
  return options;
}

}  // namespace holdfast::cli
