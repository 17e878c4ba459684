// What the status page shows of an agent: a small JSON document, made when somebody asks, whose
// size does not depend on how many streams there are.
//
//   GET /overview?filter=TEXT&sort=COLUMN&order=asc|desc&limit=50&offset=0
//
// Columns: trouble, topic, backlog, oldest, drain. `verdict` says in sentences what is held back,
// why, and what to do (agent/verdict.h); `topics` is the page that was asked for of those that have
// a stream here; `rates` the last minutes. `orphans` and `outboxes` are there if the agent looks
// for orphaned spools, and if it has outboxes.
//
// Ownership: what the context names outlives it.
// Threads: made, started and destroyed on the loop, on which it also takes its samples; Get from
//   any.
// Limits: at most net::TableQuery::kLimitMax topics in one answer, kDeadLettersShown streams with
//   dead letters, kOrphansShown orphaned spools. One answer costs a pass over the ledger: some
//   milliseconds at 10,000 streams.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/forwarder.h"
#include "agent/orphans.h"
#include "agent/outbox/outboxes.h"
#include "agent/verdict.h"
#include "base/mutex.h"
#include "metrics/catalogue.h"
#include "metrics/history.h"
#include "net/admin_server.h"
#include "proxy/metadata_cache.h"
#include "proxy/upstream.h"
#include "spool/spool.h"

namespace holdfast::agent {

class Overview {
 public:
  static constexpr size_t kDeadLettersShown = 20;
  static constexpr size_t kOrphansShown = 20;

  struct Context {
    base::Executor& loop;  // The upstream's.
    spool::Spool& spool;
    std::string spool_directory;
    uint64_t free_bytes_min = 0;  // That the spool leaves on the file system.
    uint64_t segment_bytes = 0;   // Of which it keeps one for writing others anew.
    Forwarder& forwarder;
    proxy::Upstream& upstream;
    proxy::MetadataCache& cache;
    metrics::AgentMetrics& metrics;
    // Null if there are none, and until the agent has started.
    const std::unique_ptr<Orphans>& orphans;
    const std::unique_ptr<outbox::Outboxes>& outboxes;
    const std::atomic<bool>& draining;
  };

  explicit Overview(Context context);

  [[nodiscard]] net::AdminResponse Get(const net::AdminRequest& request);

 private:
  struct Sampled {
    int64_t now_ms = 0;
    std::vector<proxy::Upstream::Peer> peers;
  };
  struct Reason {
    int64_t end = -1;  // Of the stream of dead letters whose newest this is.
    std::string error;
    std::string message;
    int64_t time_ms = 0;
  };

  void Sample();
  [[nodiscard]] Situation Look(const Ledger& ledger, const metrics::History::Rates& rates);
  [[nodiscard]] uint64_t RoomBytes(const spool::Status& spool) const;
  void LookAtTopics(const Ledger& ledger, Situation& situation);
  void LookAtDeadLetters(Situation& situation);
  [[nodiscard]] Reason ReasonOf(spool::StreamId stream, int64_t end);

  const Context context_;
  metrics::History history_;
  base::Timer timer_;

  base::Mutex mutex_;
  Sampled sampled_ HF_GUARDED_BY(mutex_);
  std::map<uint32_t, Reason> reasons_ HF_GUARDED_BY(mutex_);  // By stream of dead letters.
};

}  // namespace holdfast::agent
