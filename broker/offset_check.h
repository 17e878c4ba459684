// What OffsetCommit and TxnOffsetCommit check of each offset that they are to keep.
//
// Threads: plain functions on values.
#pragma once

#include <string_view>
#include <vector>

#include "broker/catalog.h"
#include "broker/transactions.h"
#include "kafka/error_code.h"

namespace holdfast::broker {

inline constexpr size_t kOffsetMetadataBytesMax = 4096;

// An offset that is to be kept, and where in the response its error goes.
struct AcceptedOffset {
  TopicPartition partition;
  CommittedOffset committed;
  kafka::ErrorCode* error = nullptr;
};

// Fills the response with what is refused, and returns the rest. Topics are named by id if `by_id`.
template <class Request, class Response>
std::vector<AcceptedOffset> CheckOffsets(const Topics& topics, const Request& request, bool by_id,
                                         int64_t now_ms, Response* response) {
  using kafka::ErrorCode;
  std::vector<AcceptedOffset> accepted;
  response->topics.reserve(request.topics.size());
  for (const auto& topic_request : request.topics) {
    auto& topic_out = response->topics.emplace_back();
    topic_out.name = topic_request.name;
    const Topic* topic = nullptr;
    if constexpr (requires { topic_request.topic_id; }) {
      topic_out.topic_id = topic_request.topic_id;
      topic = by_id ? topics.Find(topic_request.topic_id) : topics.Find(topic_request.name);
    } else {
      topic = topics.Find(topic_request.name);
    }
    topic_out.partitions.reserve(topic_request.partitions.size());
    for (const auto& partition : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = partition.partition_index;
      const std::string_view metadata = partition.committed_metadata.value_or("");
      if (topic == nullptr && by_id) {
        out.error_code = ErrorCode::kUnknownTopicId;
      } else if (topic == nullptr || topic->Find(partition.partition_index) == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
      } else if (metadata.size() > kOffsetMetadataBytesMax) {
        out.error_code = ErrorCode::kOffsetMetadataTooLarge;
      } else {
        accepted.push_back({{topic->id, partition.partition_index},
                            {partition.committed_offset, partition.committed_leader_epoch,
                             std::string(metadata), now_ms},
                            &out.error_code});
      }
    }
  }
  return accepted;
}

}  // namespace holdfast::broker
