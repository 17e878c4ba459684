// Fetch sessions (KIP-227): what a consumer fetches is remembered between its requests, so that
// they name changes only, and answers only partitions with news.
//
// A session belongs to the worker whose connection began it, with all its partitions; what all
// workers share is the cache, which knows whose a session is and which one has to go when there is
// no room for another. A request that comes by another worker's connection is handed to the owner.
//
// A session watches its partitions from one request to the next: the writer's news puts them among
// those that are *ready*, and a fetch looks at these alone, so that with 10,000 silent partitions
// it costs nothing. What has been answered goes behind the others that are ready, which makes
// turns fair when an answer does not hold all.
//
// Ownership: the cache belongs to the broker's context and outlives the workers; a FetchHandler
//   owns its sessions, and a session its partitions.
// Threads: the cache from any (one short lock per fetch); the rest on the worker's loop.
// Limits: `slots` sessions in all. A new one takes the place of one that nobody has used for two
//   minutes, or of a smaller one that is older than that; otherwise it gets none, and the client
//   goes on sending whole requests. These are Kafka's rules. No session is privileged, since there
//   are no followers.
#pragma once

#include <cstdint>
#include <list>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/random.h"
#include "broker/catalog.h"
#include "kafka/api/fetch.h"
#include "metrics/catalogue.h"

namespace holdfast::broker {

class FetchHandler;
class FetchSession;

// Epochs of requests.
inline constexpr int32_t kSessionBegins = 0;  // A whole request that asks for a session.
inline constexpr int32_t kSessionEnds = -1;   // One that wants none.
int32_t NextSessionEpoch(int32_t epoch);

class FetchSessionCache {
 public:
  static constexpr base::Duration kUnusedMin = std::chrono::minutes(2);

  FetchSessionCache(size_t slots, metrics::BrokerMetrics& metrics)
      : slots_(slots), metrics_(metrics) {}

  // Returns the new session's id, or 0 if there is no room for it. The owner of one that had to go
  // is told by FetchHandler::OnEvicted.
  int32_t Open(FetchHandler& owner, size_t partitions, base::TimePoint now);
  // Null if there is none.
  [[nodiscard]] FetchHandler* FindOwner(int32_t id) const;
  // It was used, and has so many partitions now.
  void Touch(int32_t id, size_t partitions, base::TimePoint now);
  // Returns the owner, who is to forget it; null if there is no such session.
  FetchHandler* Close(int32_t id);

 private:
  struct Entry {
    FetchHandler* owner;
    size_t partitions;
    base::TimePoint created;
    base::TimePoint used;
    std::list<int32_t>::iterator in_order;
  };

  void Remove(std::unordered_map<int32_t, Entry>::iterator found) HF_REQUIRES(mutex_);
  // The id of the one that makes room; 0 if there is none.
  [[nodiscard]] int32_t FindEvictable(size_t partitions, base::TimePoint now) const
      HF_REQUIRES(mutex_);
  void Report() HF_REQUIRES(mutex_);

  const size_t slots_;
  metrics::BrokerMetrics& metrics_;

  mutable base::Mutex mutex_;
  base::Random random_ HF_GUARDED_BY(mutex_) = base::Random::FromSystem();
  std::unordered_map<int32_t, Entry> sessions_ HF_GUARDED_BY(mutex_);
  std::list<int32_t> by_use_ HF_GUARDED_BY(mutex_);  // The one unused for longest is first.
  // Those old enough to give way to a larger one, by size.
  std::set<std::pair<size_t, int32_t>> by_size_ HF_GUARDED_BY(mutex_);
  size_t partitions_ HF_GUARDED_BY(mutex_) = 0;
};

// A partition whose news somebody of this worker waits for.
struct Watch {
  Partition* partition = nullptr;
  int64_t offset = 0;               // Where the fetch begins.
  int64_t counted_to = 0;           // Entries below it are counted for the fetch that waits.
  FetchSession* session = nullptr;  // One of the two.
  uint64_t fetch = 0;
  Watch* previous = nullptr;
  Watch* next = nullptr;
};

// All watches of a worker, by partition. They take themselves out before they go.
class Watches {
 public:
  explicit Watches(size_t worker) : worker_bit_(uint64_t{1} << worker) {}

  // `watch.partition` is set; entries that become durable from now on are told to the worker.
  void Add(Watch& watch);
  void Remove(Watch& watch);
  // Null if nobody watches.
  [[nodiscard]] Watch* First(spool::StreamId stream) const;

 private:
  const uint64_t worker_bit_;
  std::unordered_map<spool::StreamId, Watch*> first_;
};

struct SessionTopic;

struct SessionPartition : Watch {
  const SessionTopic* topic = nullptr;
  int32_t index = 0;
  int32_t bytes_max = 0;
  int32_t leader_epoch = -1;
  // As the client knows them; -1 makes the next answer tell.
  int64_t known_high_watermark = -1;
  int64_t known_log_start = -1;
  bool ready = false;
};

struct SessionTopic {
  std::string name;  // Or id, as the session's requests have it.
  kafka::Uuid id;
  std::unordered_map<int32_t, std::list<SessionPartition>::iterator> partitions;
};

class FetchSession {
 public:
  using Partitions = std::list<SessionPartition>;

  FetchSession(int32_t session_id, bool topic_ids, Watches& watches)
      : id(session_id), by_topic_id(topic_ids), watches_(watches) {}
  ~FetchSession();
  FetchSession(const FetchSession&) = delete;
  FetchSession& operator=(const FetchSession&) = delete;

  const int32_t id;
  const bool by_topic_id;
  int32_t epoch = NextSessionEpoch(kSessionBegins);  // That the next request must have.
  uint64_t parked = 0;                               // The fetch of it that waits; 0 if none does.
  uint64_t rules_version = 0;                        // By which its partitions were looked at.

  // A partition that is new, or whose offset or limits changed. Ready.
  SessionPartition& Put(const kafka::FetchRequest::FetchTopic& topic,
                        const kafka::FetchRequest::FetchPartition& partition);
  void Forget(const kafka::FetchRequest::ForgottenTopic& topic, int32_t partition);
  [[nodiscard]] size_t size() const { return ready_.size() + idle_.size(); }

  // What `partition` now stands for; null if nothing.
  void Resolve(SessionPartition& partition, Partition* found);
  // Those that may have something to tell, in the order of their turns.
  [[nodiscard]] Partitions& ready() { return ready_; }
  void MarkReady(SessionPartition& partition);
  void MarkAllReady();
  // Nothing to tell before there is news. Returns the one behind it.
  Partitions::iterator MarkIdle(Partitions::iterator partition);
  // It had its turn, and may have more to tell.
  void MoveBack(SessionPartition& partition);
  [[nodiscard]] Partitions::iterator IteratorOf(const SessionPartition& partition) const;

 private:
  [[nodiscard]] std::string KeyOf(std::string_view name, const kafka::Uuid& topic_id) const;

  Watches& watches_;
  std::unordered_map<std::string, SessionTopic> topics_;
  Partitions ready_;
  Partitions idle_;
};

}  // namespace holdfast::broker
