// Writes down how far delivery has come: cursors and identities, in the spool's state, and the trim
// that follows from a cursor. Cursors are late on purpose, so that many are written in one
// operation that costs next to nothing; what they have not said when the agent dies is asked of the
// tier again.
//
// What a cursor passes over is released from the accounts of its topic and client in the same
// operation (agent/spool_usage.h).
//
// Ownership: spool, loop and records outlive it. Threads: the loop.
// Shutdown: Flush, then destroy; callbacks that are still out are dropped.
// Limits: one record per stream waits at most, and one operation is in flight.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/forward_state.h"
#include "agent/spool_usage.h"
#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "spool/spool.h"

namespace holdfast::agent {

class RecordLog;

class ForwardLog {
 public:
  // `records` may be null: then nothing is counted.
  ForwardLog(spool::Spool& spool, base::Executor& loop, RecordLog* records,
             base::Duration interval);
  ~ForwardLog();
  ForwardLog(const ForwardLog&) = delete;
  ForwardLog& operator=(const ForwardLog&) = delete;

  // Some time within the interval. `release` is what the cursor passed over since the last call.
  void Note(spool::StreamId stream, const ForwardRecord& record, const Release& release = {});
  // The same for any other key; without a value it goes.
  void Note(std::string key, std::optional<std::string> value);
  // Moves a stream on to `record` and appends what it leaves behind to another stream, in one
  // commit. Until `done` says that it is durable, or that nothing was done, neither the stream nor
  // the keys of `values`, which are the stream's own, are noted, and what was noted of them before
  // is not written after it. If nothing was done, the keys are noted as before, and the stream by
  // `done`.
  struct Aside {
    std::string stream_name;
    std::string batch;
    uint32_t record_count = 0;
    Release release = {};                            // Of what is left behind.
    std::map<std::string, std::string> values = {};  // To be put with it.
  };
  using AsideDone = base::UniqueFunction<void(base::Result<>)>;
  void SetAside(spool::StreamId stream, const ForwardRecord& record, Aside aside, AsideDone done);
  // When this turn of the loop is over; `done` runs when everything noted so far is durable.
  // Failures are tried again.
  void Flush(base::Task done);

 private:
  class WriteOperation;
  class AsideOperation;
  struct Cursor {
    ForwardRecord record;
    Release release;
  };
  struct Batch {
    std::map<uint32_t, Cursor> cursors;  // By stream id.
    std::map<std::string, std::optional<std::string>> values;
    std::vector<base::Task> waiting;

    [[nodiscard]] bool empty() const {
      return cursors.empty() && values.empty() && waiting.empty();
    }
  };

  // Of a stream that is being set aside: what was noted before that.
  struct Superseded {
    std::set<std::string> keys;  // Of what is put with it.
    std::map<std::string, std::optional<std::string>> values;
    Release release;
  };

  void Plan(base::Duration delay);
  void Submit();
  void Written(bool ok, std::shared_ptr<Batch> batch);
  void OnAside(spool::StreamId stream, const ForwardRecord& record, bool stored, Release pending);

  spool::Spool& spool_;
  base::Executor& loop_;
  RecordLog* const records_;
  const base::Duration interval_;
  Batch batch_;                            // To be written next.
  std::map<uint32_t, Superseded> asides_;  // By stream id, of those that are out.
  bool writing_ = false;
  bool planned_ = false;
  base::Timer timer_;
  std::shared_ptr<ForwardLog*> self_;  // Null in it once this is gone.
};

}  // namespace holdfast::agent
