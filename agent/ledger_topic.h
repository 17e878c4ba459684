// Tells consumers at the tier how complete this agent's records are: a topic with the commit points
// (agent/ledger.h) as small JSON records. They go through the spool as all others, so what has
// arrived there is never ahead of what it speaks of by more than what was delivered meanwhile.
//
// At each interval one record with the agent's name as its key,
//   {"agent": "host-1", "measured_ms": ..., "complete_until_ms": ..., "dropped_records": ...},
// and one for each stream whose commit point has moved, with the key "host-1/orders/0", so that the
// topic can be compacted.
//
// Ownership: log and forwarder outlive it. Threads: the forwarder's loop.
// Shutdown: the destructor. What is in the spool is delivered as everything is.
// Limits: kStreamsAtOnce streams at an interval, the others at the next ones, in turn; nothing is
//   said while the last record is not at the tier, so that an outage leaves one of them in the
//   spool.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "agent/forwarder.h"
#include "agent/record_log.h"
#include "base/executor.h"

namespace holdfast::agent {

class LedgerTopic {
 public:
  static constexpr size_t kStreamsAtOnce = 500;
  struct Options {
    std::string topic;
    std::string agent;  // Its name among the topic's writers.
    base::Duration interval = std::chrono::seconds(10);
  };

  LedgerTopic(base::Executor& loop, RecordLog& log, Forwarder& forwarder, Options options);
  ~LedgerTopic();
  LedgerTopic(const LedgerTopic&) = delete;
  LedgerTopic& operator=(const LedgerTopic&) = delete;

 private:
  struct Said {
    int64_t confirmed = -1;
    int64_t end = -1;

    bool operator==(const Said&) const = default;
  };

  void Tick();
  void Say(const Ledger& ledger);
  void OnSaid(const std::map<std::string, Said>& said, bool stored);

  base::Executor& loop_;
  RecordLog& log_;
  Forwarder& forwarder_;
  const Options options_;
  const std::string own_stream_;
  std::map<std::string, Said> said_;  // By stream.
  std::string last_;                  // The stream at which the last one ended.
  bool appending_ = false;
  base::Timer timer_;
  std::shared_ptr<LedgerTopic*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
