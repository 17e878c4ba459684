// Puts dead letters back at the end of the stream that they come from, for delivery: each batch is
// appended there and trimmed here in one commit, so that it is in one of the two places, whatever
// happens meanwhile. What is refused again is a dead letter again, behind the end of this replay.
// Those that are damaged, or that a repair has left out, are not put back: they go, and the log and
// the answer say how many. The ledger lists them as dead letters all the same. Of several replays
// at a time each batch is put back by one.
//
// Ownership: spool, records and loop outlive it; it keeps itself until it is done.
// Threads: the loop. Limits: one batch at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/result.h"
#include "base/unique_function.h"
#include "spool/spool.h"

namespace holdfast::agent {

class RecordLog;

class DeadLetterReplay final : public std::enable_shared_from_this<DeadLetterReplay> {
 public:
  struct Replayed {
    uint64_t records = 0;  // That were put back.
    uint64_t lost = 0;     // That are gone.

    bool operator==(const Replayed&) const = default;
  };
  // After an error, those before it were put back.
  using Done = base::UniqueFunction<void(base::Result<Replayed>)>;

  // `stream` is <topic>/<partition>. kNotFound: it has no dead letters.
  static void Start(spool::Spool& spool, RecordLog& records, base::Executor& loop,
                    std::string stream, Done done);

 private:
  class PutBack;
  DeadLetterReplay(spool::Spool& spool, RecordLog& records, base::Executor& loop,
                   std::string stream, Done done);
  void Next();
  // Those up to here are lost; the next ones are asked for.
  void PassLost();
  void Submit(std::unique_ptr<spool::Operation> operation);
  void End(base::Result<> result = {});

  spool::Spool& spool_;
  RecordLog& log_;  // Counts what is put back.
  base::Executor& loop_;
  const std::string stream_;
  Done done_;
  spool::StreamId dead_{0};
  int64_t at_ = 0;
  int64_t end_ = 0;
  Replayed replayed_;
};

}  // namespace holdfast::agent
