// Dead letters: records that the tier refuses for good, set aside so that their stream goes on.
//
// A dead letter is the record as it was, behind its own headers a few more that say where it comes
// from and why it is here, as Kafka Connect does it:
//
//   holdfast.dlq.topic      the topic it was produced to
//   holdfast.dlq.partition  the partition
//   holdfast.dlq.offset     the offset that its producer was told
//   holdfast.dlq.error      Kafka's name of the error, such as MESSAGE_TOO_LARGE
//   holdfast.dlq.message    what else the tier said, or is known of it, if anything
//   holdfast.dlq.time       when it was refused, in milliseconds since the Unix epoch
//   holdfast.dlq.batch      only if the batch cannot be read: its number of records. There is one
//                           dead letter for all of them then, and its value is the batch.
//
// They are kept in the spool, in a stream beside the one that they come from, or are produced to a
// topic. Either way they are appended in the same commit in which the stream moves past them, so
// each is there once, whenever the agent dies.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "kafka/error_code.h"

namespace holdfast::agent {

// The headers' names.
namespace dead_letter_header {
inline constexpr std::string_view kPrefix = "holdfast.dlq.";
inline constexpr std::string_view kTopic = "holdfast.dlq.topic";
inline constexpr std::string_view kPartition = "holdfast.dlq.partition";
inline constexpr std::string_view kOffset = "holdfast.dlq.offset";
inline constexpr std::string_view kError = "holdfast.dlq.error";
inline constexpr std::string_view kMessage = "holdfast.dlq.message";
inline constexpr std::string_view kTime = "holdfast.dlq.time";
inline constexpr std::string_view kBatch = "holdfast.dlq.batch";
}  // namespace dead_letter_header

// What becomes of records that the tier refuses for good.
enum class DeadLetterPolicy : uint8_t {
  kPark,   // Their stream stands still until somebody changes something.
  kSpool,  // They are set aside in the spool.
  kTopic,  // They are delivered to a topic.
};

// "<topic>/<partition>/dead-letters": no stream that is delivered has such a name.
std::string DeadLetterStreamName(std::string_view stream_name);
// The stream that these dead letters come from; none if it is no stream of dead letters.
std::optional<std::string_view> ParseDeadLetterStreamName(std::string_view name);

struct DeadLetterOrigin {
  std::string_view topic;
  int32_t partition = 0;
  int64_t offset = 0;  // Of the first record.
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  std::string_view message;
  int64_t time_ms = 0;
};

struct DeadLetters {
  std::string batch;
  uint32_t record_count = 0;
};

// Of all records in a batch.
DeadLetters BuildDeadLetters(std::string_view batch, const DeadLetterOrigin& origin);

// Why these were set aside, as their first record's headers say it.
struct DeadLetterReason {
  std::string error;
  std::string message;  // Empty if the tier said no more.
  int64_t time_ms = 0;
};
base::Result<DeadLetterReason> ReadDeadLetterReason(std::string_view batch);

// The one in a batch of dead letters that stands for the record whose producer was told `offset`.
struct FoundDeadLetter {
  int32_t index = 0;  // In the batch.
  DeadLetterReason reason;
};
base::Result<std::optional<FoundDeadLetter>> FindDeadLetter(std::string_view batch,
                                                            std::string_view topic,
                                                            int32_t partition, int64_t offset);

// What was produced: a batch without our headers, or the one that could not be read.
base::Result<DeadLetters> RestoreDeadLetters(std::string_view batch);

// Records [first, first + count) of a batch as a batch of their own, otherwise alike.
base::Result<std::string> SliceBatch(std::string_view batch, int32_t first, int32_t count);

}  // namespace holdfast::agent
