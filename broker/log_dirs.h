// DescribeLogDirs: the one directory that there is, the space on its volume, and the size of each
// partition, which is that of its batches.
//
// The spool counts no bytes by stream, so the entries are walked, some per turn of the loop
// (broker/entries.h): an answer about gigabytes of small batches takes seconds, and nobody else
// waits for it.
//
// Ownership: context, catalog reader and loop outlive it.
// Threads: the worker's loop.
// Shutdown: Close answers what is still being measured with KAFKA_STORAGE_ERROR.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "base/executor.h"
#include "broker/catalog.h"
#include "broker/context.h"
#include "kafka/api/describe_log_dirs.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

class LogDirs {
 public:
  LogDirs(Context& context, CatalogReader& catalog, base::Executor& loop)
      : context_(context), catalog_(catalog), loop_(loop) {}

  void Handle(kafka::Call<kafka::DescribeLogDirsRequest> call);
  void Close();

 private:
  using Call = kafka::Call<kafka::DescribeLogDirsRequest>;
  struct Measured {
    const Partition* partition;
    size_t topic;  // Of the answer's topics, and of its partitions.
    size_t index;
  };
  struct Question {
    Call call;
    kafka::DescribeLogDirsResponse response;
    std::vector<Measured> left;  // The last is being measured, from `offset` on.
    int64_t offset = -1;         // -1: from its start.
  };

  // Null: all of its partitions.
  static void Ask(const Topic& topic, const std::set<int32_t>* partitions, Question* question);
  void GoOn();
  // Counts some entries of the last partition that is left; says whether there were any.
  bool Measure(Question& question);

  Context& context_;
  CatalogReader& catalog_;
  base::Executor& loop_;
  std::deque<Question> questions_;
  base::Timer timer_;
};

}  // namespace holdfast::broker
