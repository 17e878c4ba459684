// Why batches of a Produce request are refused, in words: as many as kMax partitions have a
// message, and as many records are named; beyond that, of each batch one, without a message. The
// rest has its error code. A request has room for very many small batches, and its answer must not
// be many times as large. But a batch of which no record is named is taken for bad as a whole.
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
      const bool beyond = records_ >= kMax;
      if (beyond && !answer.record_errors.empty()) return;
      ++records_;
      auto& named = answer.record_errors.emplace_back();
      named.batch_index = record;
      if (!beyond) named.batch_index_error_message = answer.error_message;
    }
  }

 private:
  size_t messages_ = 0;
  size_t records_ = 0;
};

}  // namespace holdfast::kafka
