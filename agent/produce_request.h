// Puts batches from the spool into a Produce request for the tier: the bytes as they are, under a
// header with the agent's own producer id, epoch and sequence. And reads the answer.
//
// Threads: any; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "agent/delivery_outcome.h"
#include "base/buffer.h"
#include "base/result.h"
#include "kafka/api/produce.h"
#include "kafka/record_batch.h"

namespace holdfast::agent {

// From this version on topics go by id.
inline constexpr int16_t kForwardProduceCap = 12;
// Of a request. While it is made each batch holds its segment, which LMDB lets a thousand do.
inline constexpr size_t kRequestBatchesMax = 500;

struct OutgoingBatch {
  std::string_view topic;
  int32_t partition = 0;
  std::string_view bytes;  // One whole batch, as the client made it.
  kafka::Producer producer;
};

// `batches` are in the order of their topics, and each partition is there once. The frame's
// correlation id is left 0. With a transactional id the batches become part of its transaction,
// without one they are outside of any.
base::Result<base::Buffer> BuildProduceRequest(
    std::span<const OutgoingBatch> batches, int16_t version, int32_t timeout_ms,
    std::optional<std::string_view> transactional_id = std::nullopt);

// What the answer says of one of them.
using ProducedPartition = kafka::ProduceResponse::PartitionProduceResponse;
TierAnswer AnswerOf(const ProducedPartition& partition);

}  // namespace holdfast::agent
