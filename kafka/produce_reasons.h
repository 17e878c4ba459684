// Why batches of a Produce request are refused, in words: as many as kMax partitions have a
// message, and as many records are named. The rest has its error code. A request has room for very
// many small batches, and its answer must not be many times as large.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kafka/api/produce.h"

namespace holdfast::kafka {

class ProduceReasons {
 public:
  static constexpr size_t kMax = 1000;
  using Answer = ProduceResponse::PartitionProduceResponse;

  // `message` is kept by the response.
  void Explain(ProduceResponse& response, Answer& answer, std::string message) {
    if (message.empty() || messages_ == kMax) return;
    ++messages_;
    answer.error_message = response.strings.Keep(std::move(message));
  }
  // After Explain, whose message each of them has.
  void Name(std::span<const int32_t> records, Answer& answer) {
    for (const int32_t record : records) {
      if (records_ == kMax) return;
      ++records_;
      answer.record_errors.push_back(
          {.batch_index = record, .batch_index_error_message = answer.error_message});
    }
  }

 private:
  size_t messages_ = 0;
  size_t records_ = 0;
};

}  // namespace holdfast::kafka
