// The agent of one host: takes produce requests from local clients into a spool on this host's
// disk, acknowledges them there, and delivers them to the broker tier; everything else it passes
// through to the tier.
//
//   Agent::Options options{.spool = {.directory = "spool"}, .upstream = {"kafka:9092"},
//                          .listen = {"127.0.0.1:9092"}};
//   auto agent = Agent::Start(std::move(options), loops, registry);
//   for (auto& route : (*agent)->AdminRoutes()) admin.Add(std::move(route));
//   ...
//   (*agent)->Drain(std::chrono::seconds(10), {});  // SIGTERM: stop accepting, answer.
//   (*agent)->Stop();
//
// Ownership: the loops, executors and the registry outlive the agent, and the loops run while it
//   lives. AdminRoutes' handlers must not be called after Stop.
// Threads: Start, Drain, Stop, WhatIsLeft and the destructor from a thread that is none of the
//   loops: they block. The rest from any thread.
// Shutdown: Drain, then Stop; Stop alone (or the destructor) closes connections at once. Either
//   way no acknowledged record is lost: what is not delivered waits in the spool.
// Limits: Options names each.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/dead_letter.h"
#include "agent/ledger_topic.h"
#include "agent/left.h"
#include "agent/local_transactions.h"
#include "agent/orphans.h"
#include "agent/outbox/half_messages.h"
#include "agent/outbox/outboxes.h"
#include "agent/schedule.h"
#include "agent/topic_policy.h"
#include "agent/transaction_lane.h"
#include "base/executor.h"
#include "base/result.h"
#include "net/admin_server.h"
#include "net/tls.h"
#include "proxy/local_policy.h"
#include "proxy/tier_security.h"
#include "spool/spool.h"

namespace holdfast::metrics {
class Registry;
struct NetMetrics;
}  // namespace holdfast::metrics
namespace holdfast::net {
class EventLoop;
}

namespace holdfast::agent {

// What the agent shows to the tier and its clients, and asks of them. Two roads lead to the same
// tier: the agent's own, and that of requests which pass through.
struct AgentSecurity {
  proxy::TierIdentity tier;
  proxy::TierIdentity passing;
  std::shared_ptr<net::TlsCredentials> listener;  // None: local clients come in the clear.
  proxy::LocalPolicy local;
};

class Agent {
 public:
  // A topic that can be produced to before the tier was ever seen; made there when it is missing.
  struct DeclaredTopic {
    std::string name;
    int32_t partitions = 1;
  };

  struct Options {
    spool::Options spool;               // Start sets its metrics and check_entry.
    std::vector<std::string> upstream;  // HOST:PORT of the tier, in the order to be tried.
    // The spool is that of another agent. If it has been delivered to a cluster before, nothing
    // goes to another one; if not, to none but that agent's own bootstrap leads to. Nor does
    // anything go by the rights of another principal than that agent's.
    bool only_its_cluster = false;
    // Then what another principal's agent left goes by the rights of this one all the same.
    bool lends_rights = false;
    // HOST:PORT each, port 0 for any. Each stands for the tier's first broker, too. None: nobody is
    // served, and what the spool holds is delivered.
    std::vector<std::string> listen;
    struct NamedListener {
      std::string name;
      std::string listen;
      proxy::Acks acks = proxy::Acks::kLocal;
    };
    std::vector<NamedListener> listeners;  // Besides; each name once.
    // The host that clients are told to connect to; empty: that by which each of them came. A name
    // has the port of the first of `listen`.
    std::string advertised_host;
    std::vector<DeclaredTopic> topics;
    PoliciesPtr policies = std::make_shared<const Policies>();  // Of topics and clients.
    // Produce requests that wait for room or for the tier.
    size_t waiting_bytes_max = size_t{32} << 20;

    // Of a topic whose own max.message.bytes is not known.
    size_t batch_bytes_max = 1048588;
    // A record's timestamp may be this far ahead, as Kafka's message.timestamp.after.max.ms.
    std::chrono::milliseconds timestamp_ahead_max = std::chrono::hours(1);
    size_t request_bytes_max = size_t{100} << 20;
    size_t connections_max = 1000;
    size_t memory_in_flight_max = size_t{64} << 20;  // Requests being read or not yet answered.
    std::chrono::milliseconds idle_timeout = std::chrono::minutes(10);

    AgentSecurity security;

    // Towards the tier.
    std::chrono::milliseconds upstream_timeout = std::chrono::seconds(30);
    std::chrono::milliseconds backoff_min = std::chrono::milliseconds(100);
    std::chrono::milliseconds backoff_max = std::chrono::seconds(10);
    std::chrono::milliseconds metadata_refresh = std::chrono::seconds(60);
    size_t forward_request_bytes_max = size_t{1} << 20;
    size_t forward_requests_in_flight = 5;  // Per broker of the tier.
    DeadLetterPolicy dead_letters = DeadLetterPolicy::kSpool;
    std::string dead_letter_topic;
    uint64_t forward_bytes_per_second_max = 0;  // 0: no limit.
    Schedule forward_schedule;
    bool high_priority_always = false;  // Whatever the schedule says.
    std::optional<LedgerTopic::Options> ledger_topic;
    DeliveryMode delivery = DeliveryMode::kIdempotent;

    LocalTransactions::Options transactions;
    std::vector<outbox::OutboxOptions> outbox;
    struct HalfMessages {
      outbox::HalfMessages::Options options;
      std::chrono::milliseconds check_timeout = std::chrono::seconds(2);
    };
    std::optional<HalfMessages> half_messages;  // None: they are not taken.
    std::optional<Orphans::Options> orphans;    // None: they are not looked for.
  };

  struct Loops {
    std::vector<net::EventLoop*> workers;        // Local clients; at least one.
    net::EventLoop* upstream = nullptr;          // The forwarder; may be one of the workers.
    base::Executor* spool_writer = nullptr;      // For the spool alone.
    base::Executor* spool_background = nullptr;  // For the spool alone.
    metrics::NetMetrics* metrics = nullptr;      // What the loops were made with.
    std::vector<net::EventLoop*> outbox;         // One for each of Options::outbox.
    net::EventLoop* asking = nullptr;            // If there are half messages.
    net::EventLoop* orphans = nullptr;           // If they are looked for.
  };

  // Opens the spool, binds the listeners and begins to forward. Does not wait for the tier.
  static base::Result<std::unique_ptr<Agent>> Start(Options options, Loops loops,
                                                    metrics::Registry& registry);
  virtual ~Agent() = default;

  // Addresses as bound (the chosen port in place of port 0), those of Options::listen first.
  [[nodiscard]] virtual std::vector<std::string> ListenAddresses() const = 0;

  // /live, /ready (accepts, and can make durable, here and now; says nothing about the tier),
  // /metrics, /status (JSON).
  [[nodiscard]] virtual std::vector<net::AdminRoute> AdminRoutes() = 0;

  // What waits, and whether the tier is there, in a few words. From any thread.
  [[nodiscard]] virtual std::string Summary() const = 0;

  // Takes the policies, the rate, the schedule, the identities, and the TLS of listeners if they
  // have one, of new options; everything else in them is left alone. From any thread.
  virtual void Reload(const Options& options) = 0;

  // Stops accepting connections and requests, answers what is in flight until the deadline, gives
  // the tier `backlog` to take what waits, and records how far delivery has come. The log says what
  // is left at the beginning, every few seconds, and at the end.
  virtual void Drain(std::chrono::milliseconds deadline, std::chrono::milliseconds backlog) = 0;
  virtual void Stop() = 0;

  // Not after Stop.
  [[nodiscard]] virtual Left WhatIsLeft() = 0;
  [[nodiscard]] virtual Settled WhatIsSettled() = 0;
  // Whether another process waits for the spool, if it is opened as one that yields. Not after
  // Stop.
  [[nodiscard]] virtual bool Wanted() const = 0;

  // After Stop, which waits for the source of an outbox for so long only: whether one has not come
  // back yet. The destructor waits until it has, and all else is done.
  [[nodiscard]] virtual bool Blocked() const = 0;
};

}  // namespace holdfast::agent
