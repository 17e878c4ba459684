// A spool of its own that is kept as busy as it can be, or given one entry at a time.
//
// Entries have at most 16 KiB and go to the streams in turn. While `trimming`, each stream is
// trimmed as it goes, so that segments are retired as in steady use; otherwise the backlog grows,
// as in an outage.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bench/samples.h"
#include "spool/spool.h"
#include "tests/support/thread_executor.h"

namespace holdfast::bench {

class SpoolLoad {
 public:
  struct Settings {
    std::string directory;
    size_t commit_bytes = size_t{256} << 10;
    uint32_t streams = 1;
    spool::KeyRing keys;
  };
  // Opens the spool and all streams.
  explicit SpoolLoad(const Settings& settings);

  bool trimming = true;

  // Until so many seconds are over, or so many bytes are durable.
  Samples Run(double seconds, uint64_t bytes = UINT64_MAX);
  std::vector<double> RunAlone(int count);
  // While under full load, moves every stream up to its end in steps of about `step_bytes`, as a
  // forwarder does that catches up.
  Samples Drain(uint64_t step_bytes);
  [[nodiscard]] spool::Status GetStatus() const { return spool_->GetStatus(); }

 private:
  class Append;
  class Change;
  void OpenStreams();
  void SubmitEntry();
  void Submit(std::unique_ptr<spool::Operation> operation);
  void SubmitAndWait(std::unique_ptr<spool::Operation> operation);
  void Answered(spool::CommitNumber commit, size_t bytes);

  const Settings settings_;
  const std::string payload_;
  std::vector<spool::StreamId> ids_;  // Of the writer's thread.
  uint32_t next_stream_ = 0;

  std::mutex mutex_;
  std::condition_variable answered_;
  size_t in_flight_ = 0;
  Samples samples_;
  spool::CommitNumber last_commit_;
  Clock::time_point last_commit_time_;

  class NoOwner;
  std::unique_ptr<spool::Owner> owner_;
  test::ThreadExecutor writer_;
  test::ThreadExecutor background_;
  std::unique_ptr<spool::Spool> spool_;
};

}  // namespace holdfast::bench
