// The broker tier on one node: topics, partitions, consumer groups and transactions over one spool,
// spoken to in the Kafka protocol.
//
//   HF_ASSIGN_OR_RETURN(auto broker, Broker::Start(options, {writer, background, workers}));
//   HF_ASSIGN_OR_RETURN(auto server, Listen(*broker, ...));   // broker/server.h
//   ...
//   server.reset();     // No more requests.
//   broker->Stop();     // What is in flight is answered, the spool is closed.
//
// Every answer that says "stored" (records, offsets, topics, members) is given after an fdatasync
// that covers it.
//
// Ownership: the executors and the metrics registry outlive the broker.
// Threads: one Worker per loop serves the connections of that loop; the first worker's loop also
//   runs the coordinators and the retention timer. `writer` and `background` belong to the spool,
//   and the broker's tables of producers and transactions live on `writer`; `cleaner` may be kept
//   busy for minutes and serves nothing else. All loops must be
//   running before Start, which blocks its caller (none of the loops) until the state is read.
// Shutdown: Stop, or the destructor. Waiting requests (long polls, joins) are answered first; the
//   loops must still be running.
// Limits: those of Options; memory for requests is reserved by the server before they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/result.h"
#include "broker/authorizer.h"
#include "broker/consumer_group_options.h"
#include "net/sasl.h"
#include "spool/spool.h"

namespace holdfast::metrics {
class Registry;
}
namespace holdfast::net {
struct AdminRoute;
}

namespace holdfast::broker {

class Worker;

struct GroupOptions {
  base::Duration session_timeout_min = std::chrono::seconds(6);
  base::Duration session_timeout_max = std::chrono::minutes(30);
  // The first rebalance of an empty group waits this long for more members.
  base::Duration initial_rebalance_delay = std::chrono::seconds(3);
  // Offsets of a group without members are dropped after this long.
  base::Duration offsets_retention = std::chrono::hours(7 * 24);
  ConsumerGroupOptions consumer;  // Of the newer protocol.
};

// As Kafka's log.cleaner.* of a broker. Interval and rate are the sorter's, too.
struct CompactionOptions {
  base::Duration interval = std::chrono::seconds(15);
  size_t memory_bytes_max = size_t{128} << 20;  // For the newest offsets of keys, per round.
  uint64_t bytes_per_second_max = 0;            // Read and written; 0: no limit.
};

struct Options {
  spool::Options spool;  // Start sets its metrics, and check_entry if there is none.
  int32_t node_id = 0;
  int32_t num_partitions = 1;  // Of a topic whose creator does not say.
  bool auto_create_topics = true;
  int32_t max_message_bytes = 1048588;
  int32_t fetch_bytes_max = 57671680;
  // Of records in answers that have not left, without those that are sent from the disk.
  size_t fetched_waiting_bytes_max = size_t{128} << 20;
  size_t fetch_sessions_max = 1000;
  base::Duration producer_id_expiration = std::chrono::hours(24);
  base::Duration transaction_timeout_max = std::chrono::minutes(15);
  // Transactional ids that nobody uses are forgotten after this long.
  base::Duration transactional_id_expiration = std::chrono::hours(7 * 24);
  base::Duration retention_check_interval = std::chrono::minutes(5);
  GroupOptions groups;
  AuthorizerOptions authorizer;
  CompactionOptions compaction;
  std::vector<net::SaslUsers::User> users;  // Who may log in, beside those that clients make.

  metrics::Registry* metrics = nullptr;  // Optional.
};

struct Executors {
  base::Executor& writer;
  base::Executor& background;
  std::vector<base::Executor*> workers;  // At least one, at most 64.
  base::Executor* cleaner = nullptr;     // Compacts topics, sorts the log; null: nobody does.
};

class Broker {
 public:
  static base::Result<std::unique_ptr<Broker>> Start(Options options, Executors executors);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  void Stop();

  // Serves the connections of the loop executors.workers[index]; belongs to that loop.
  [[nodiscard]] Worker& worker(size_t index);
  // A random name that the data directory keeps.
  [[nodiscard]] const std::string& cluster_id() const;
  // For listeners that ask for SASL.
  [[nodiscard]] std::shared_ptr<const net::SaslUsers> users() const;
  void CountFailedLogin();

  // /live, /ready, /metrics and /status, for the admin server. They may be called from any thread,
  // until Stop.
  [[nodiscard]] std::vector<net::AdminRoute> AdminRoutes();

 private:
  struct Parts;
  explicit Broker(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace holdfast::broker
