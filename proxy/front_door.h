// What all client connections of one listener share. A connection asks it where things are; it owns
// nothing of a connection.
//
// Ownership: everything named here outlives the sessions.
// Threads: all members may be used from any session's loop.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "metrics/catalogue.h"
#include "net/address.h"
#include "proxy/broker_ports.h"
#include "proxy/local_policy.h"
#include "proxy/local_transactions.h"
#include "proxy/metadata_cache.h"
#include "proxy/record_sink.h"
#include "proxy/rewrite.h"
#include "proxy/tier_security.h"

namespace holdfast::net {
class Connection;
}

namespace holdfast::proxy {

struct FrontDoorOptions {
  std::vector<net::HostPort> bootstrap;  // Of the tier.
  std::string advertised_host;           // Empty: the address by which the client came.
  Acks acks = Acks::kLocal;              // What comes in here is acknowledged no earlier.
  size_t batch_bytes_max = 1048588;
  std::chrono::milliseconds timestamp_ahead_max = std::chrono::hours(1);
  base::Duration connect_timeout = std::chrono::seconds(10);
  // A question that can be answered from the cache waits no longer for the tier.
  base::Duration local_answer_after = std::chrono::seconds(3);
  // For an answer that the cache does not have, the tier may keep silent for this long.
  base::Duration answer_within = std::chrono::seconds(60);
  // The first records for a topic wait so long for the tier to tell its settings.
  base::Duration settings_wait = std::chrono::seconds(1);
  // A client's first ApiVersions waits so long for the tier's, if that was never seen.
  base::Duration versions_wait = std::chrono::seconds(1);
  // What the tier says a client may produce counts so long, as long as it can be asked again.
  base::Duration rights_for = std::chrono::seconds(60);
  // What the connections on which clients' requests pass through show to the tier. None: nothing,
  // in the clear.
  const TierSecurity* tier_security = nullptr;
  // What local clients are asked for and allowed. None: nothing, and everything.
  const LocalPolicies* local_policies = nullptr;
};

// Whether who listens at `address` is reached at `host`, too: it is the same, or `address` is a
// wildcard. That of IPv6 takes IPv4 as well.
[[nodiscard]] bool Covers(const net::SocketAddress& address, const std::string& host);

class FrontDoor {
 public:
  FrontDoor(FrontDoorOptions front_options, MetadataCache& metadata, BrokerPorts& broker_ports,
            RecordSink& records, std::function<void(std::string)> ask_for_topic,
            std::function<void(std::string)> ask_for_settings, net::Resolver& names,
            metrics::NetMetrics& net, metrics::AgentMetrics& agent);

  // The addresses that stand for the tier's first broker, as bound.
  void SetAddresses(std::vector<net::SocketAddress> addresses);
  // Who serves local transactions; null if none are. Before the first connection is taken.
  void SetTransactions(LocalTransactions* transactions) { transactions_ = transactions; }
  [[nodiscard]] LocalTransactions* transactions() const { return transactions_; }
  // As the client of this connection should see the brokers: the first by the address by which it
  // came, or, if it came by the port of another broker, by one of the same host. At an advertised
  // host where none of the addresses is known to be, it has the port of the first.
  [[nodiscard]] LocalAddresses AddressesFor(net::Connection& connection) const;
  struct Way {
    net::HostPort to;
    bool detour = false;  // Not to the listener's own broker.
  };
  // Where to connect for a listener's broker (kNoNode: the bootstrap listener's). None if the
  // broker is gone. The bootstrap listener goes on to other brokers while its own is gone, or was
  // not to be reached a moment ago: any of them can tell a client where to go. The client takes
  // them for the listener's own, and should come again once that is there. Before the
  // cluster is confirmed, only the addresses that are set are taken.
  [[nodiscard]] std::optional<Way> WayToTier(int32_t node, base::TimePoint now) const;
  void NoteReached(int32_t node, const Way& way);
  void NoteUnreachable(int32_t node, const Way& way, base::TimePoint now);
  // A way led to another cluster than the tier.
  void NoteOtherCluster();

  void CountRequest(int16_t api_key);

  const FrontDoorOptions options;
  MetadataCache& cache;
  BrokerPorts& ports;
  RecordSink& sink;
  const std::function<void(std::string)> refresh_topic;
  const std::function<void(std::string)> want_settings;
  net::Resolver& resolver;
  metrics::NetMetrics& net_metrics;
  metrics::AgentMetrics& metrics;

 private:
  [[nodiscard]] uint16_t BootstrapPort(const std::string& host, uint16_t came_by) const;

  static constexpr size_t kCountedApis = 96;
  // Doubled while the broker is not to be reached: each attempt costs a client its connection.
  static constexpr base::Duration kAvoidMin = std::chrono::seconds(2);
  static constexpr base::Duration kAvoidMax = std::chrono::minutes(1);
  mutable base::Mutex mutex_;
  std::vector<net::SocketAddress> addresses_ HF_GUARDED_BY(mutex_);
  std::atomic<size_t> bootstrap_turn_{0};
  std::atomic<base::TimePoint> bootstrap_avoided_until_{base::TimePoint()};
  std::atomic<base::Duration> bootstrap_avoid_next_{kAvoidMin};
  LocalTransactions* transactions_ = nullptr;
  std::array<metrics::Counter*, kCountedApis> requests_{};
  metrics::Counter& other_requests_;
};

}  // namespace holdfast::proxy
