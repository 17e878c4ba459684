// Produce requests whose topics say that the tier must have the records before they are
// acknowledged (TopicPolicy::Acks kUpstream and kBoth). The records are in the spool already and
// go the usual way; only the answer waits here for the forwarder's word, and then has the tier's
// offset.
//
// A request that is not answered by its deadline (AppendJob) gets REQUEST_TIMED_OUT; its records
// stay spooled and are delivered. What that means for the client's retry: docs/guarantees.md.
//
// Ownership: everything named in the constructor outlives it.
// Threads: the forwarder's loop, but Take.
// Shutdown: Close answers what waits; before the destructor.
// Limits: those of WaitingBytes; what comes then is answered REQUEST_TIMED_OUT at once. Of each
//   stream the newest kGoneRemembered ranges that are gone are known.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/append_job.h"
#include "agent/ledger.h"
#include "agent/waiting_bytes.h"
#include "base/executor.h"
#include "metrics/catalogue.h"

namespace holdfast::agent {

class WaitingAcks {
 public:
  // Runs the task once what the forwarder has noted so far is durable.
  using WhenRecorded = std::function<void(base::Task)>;

  WaitingAcks(base::Executor& loop, metrics::AgentMetrics& metrics, WaitingBytes& bytes);
  ~WaitingAcks();
  WaitingAcks(const WaitingAcks&) = delete;
  WaitingAcks& operator=(const WaitingAcks&) = delete;

  void SetWhenRecorded(WhenRecorded when_recorded) { when_recorded_ = std::move(when_recorded); }

  // What is stored of the job is durable. It is counted in WaitingBytes, or to be answered at once:
  // see AppendJob::counted. From any thread.
  void Take(std::unique_ptr<AppendJob> job);

  // Records [begin, end) of a stream that the tier will never have.
  struct Gone {
    int64_t begin = 0;
    int64_t end = 0;
    DropCause cause = DropCause::kExpired;
    kafka::ErrorCode error = kafka::ErrorCode::kPolicyViolation;
  };
  // Before anything behind them is confirmed. A batch of which a part is gone is refused, also when
  // it comes once more.
  void OnGone(spool::StreamId stream, const Gone& gone);
  // The tier has the stream's records below `end` that are not gone; its offset behind them, or -1.
  void OnConfirmed(spool::StreamId stream, int64_t end, int64_t tier_end);

  void Close();

 private:
  // As many ends as may be confirmed before the request that stored them, or its retry, is here.
  static constexpr size_t kRemembered = 16;
  static constexpr size_t kGoneRemembered = Drops::kRangesMax;

  struct Settled {
    int64_t end = 0;
    int64_t tier_end = -1;
  };
  struct Waiter {
    uint64_t job = 0;
    size_t entry = 0;
  };
  struct Stream {
    int64_t settled = 0;
    bool asked_about = false;  // Somebody has waited: worth remembering.
    std::vector<Settled> newest;
    std::vector<Gone> gone;
    std::multimap<int64_t, Waiter> waiters;  // By the end of their batches.
  };
  struct Job {
    std::unique_ptr<AppendJob> job;
    size_t open = 0;  // Entries without their answers.
  };

  void Add(std::unique_ptr<AppendJob> job);
  void Settle(Stream& stream, const Settled& settled);
  void Answer(const Waiter& waiter, const Settled& settled);
  void EndOne(const Waiter& waiter);
  void Finish(std::map<uint64_t, Job>::iterator job);
  void TimeOut(std::map<uint64_t, Job>::iterator job);
  void Plan();
  void Show();

  base::Executor& loop_;
  metrics::AgentMetrics& metrics_;
  WaitingBytes& bytes_;
  WhenRecorded when_recorded_;
  std::unordered_map<uint32_t, Stream> streams_;  // By stream id.
  std::map<uint64_t, Job> jobs_;
  std::multimap<base::TimePoint, uint64_t> deadlines_;
  uint64_t next_job_ = 0;
  bool closed_ = false;
  base::Timer timer_;
  std::shared_ptr<WaitingAcks*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
