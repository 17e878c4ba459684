#include "agent/produce_request.h"

#include <algorithm>

#include "kafka/codec.h"
#include "proxy/tier.h"

namespace holdfast::agent {
namespace {

constexpr int16_t kAcksAll = -1;

// The batch's place in the frame. It was written there by us, so it may be written again.
std::span<char> Writable(base::Buffer& frame, std::string_view part) {
  return {frame.data() + (part.data() - frame.data()), part.size()};
}

}  // namespace

base::Result<base::Buffer> BuildProduceRequest(std::span<const OutgoingBatch> batches,
                                               int16_t version, int32_t timeout_ms,
                                               std::optional<std::string_view> transactional_id) {
  kafka::ProduceRequest request{
      .transactional_id = transactional_id, .acks = kAcksAll, .timeout_ms = timeout_ms};
  for (const OutgoingBatch& batch : batches) {
    if (request.topic_data.empty() || request.topic_data.back().name != batch.topic) {
      request.topic_data.push_back({.name = batch.topic});
    }
    request.topic_data.back().partition_data.push_back(
        {.index = batch.partition, .records = batch.bytes});
  }
  HF_ASSIGN_OR_RETURN(
      base::Buffer frame,
      kafka::EncodeRequest(request, version, /*correlation_id=*/0, proxy::kClientId));

  // The only copy of the records is now in the frame; their headers are changed in place.
  const std::string_view body = frame.view().substr(kafka::kLengthPrefixBytes);
  HF_ASSIGN_OR_RETURN(const kafka::RequestHeader header, kafka::ReadRequestHeader(body));
  HF_ASSIGN_OR_RETURN(const auto placed, kafka::DecodeRequest<kafka::ProduceRequest>(body, header));
  auto batch = batches.begin();
  for (const auto& topic : placed.topic_data) {
    for (const auto& partition : topic.partition_data) {
      const std::span<char> bytes = Writable(frame, *partition.records);
      kafka::SetBaseOffset(bytes, 0);
      kafka::SetPartitionLeaderEpoch(bytes, -1);
      kafka::SetProducer(bytes, batch->producer);
      if (kafka::RecordBatchView(*partition.records).header().transactional() !=
          transactional_id.has_value()) {
        kafka::SetTransactional(bytes, transactional_id.has_value());
      }
      ++batch;
    }
  }
  return frame;
}

TierAnswer AnswerOf(const ProducedPartition& partition) {
  TierAnswer answer{.error = partition.error_code, .tier_offset = partition.base_offset};
  if (partition.error_message) answer.message = *partition.error_message;
  for (const auto& refused : partition.record_errors) {
    answer.refused.push_back(refused.batch_index);
    if (answer.message.empty() && refused.batch_index_error_message) {
      answer.message = *refused.batch_index_error_message;
    }
  }
  std::ranges::sort(answer.refused);
  return answer;
}

}  // namespace holdfast::agent
