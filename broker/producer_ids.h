// Producer ids: unique for the life of the data directory. They are taken from the state in blocks,
// so that a crash skips some but never gives one twice.
//
// Ownership: submitter and loop outlive it, and it lives until the spool has completed all
//   operations.
// Threads: the loop's; an answer may come later.
#pragma once

#include <cstdint>
#include <vector>

#include "base/executor.h"
#include "base/unique_function.h"
#include "broker/submitter.h"
#include "kafka/error_code.h"

namespace holdfast::broker {

// The first of so many ids that are the taker's from now on; for operations, on the writer.
int64_t TakeProducerIds(spool::Transaction& transaction, int64_t count);

class ProducerIds {
 public:
  using Answer = base::UniqueFunction<void(kafka::ErrorCode error, int64_t id)>;

  ProducerIds(Submitter& submitter, base::Executor& loop) : submitter_(submitter), loop_(loop) {}

  void Next(Answer answer);

 private:
  void TakeBlock();
  void OnBlock(kafka::ErrorCode error, int64_t first);

  Submitter& submitter_;
  base::Executor& loop_;
  int64_t next_ = 0;
  int64_t end_ = 0;
  std::vector<Answer> waiting_;  // For the next block, which is on its way if there are any.
};

}  // namespace holdfast::broker
