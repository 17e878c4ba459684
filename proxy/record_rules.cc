#include "proxy/record_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "kafka/record_reader.h"

namespace holdfast::proxy {
namespace {

using kafka::BatchVerdict;
using kafka::ErrorCode;

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t Latest(const TopicSettings& settings, int64_t now_ms) {
  if (settings.log_append_time || settings.timestamp_after_max_ms > kNever - now_ms) return kNever;
  return now_ms + settings.timestamp_after_max_ms;
}

int64_t Earliest(const TopicSettings& settings, int64_t now_ms) {
  if (settings.log_append_time || settings.timestamp_before_max_ms > now_ms) {
    return std::numeric_limits<int64_t>::min();
  }
  return now_ms - settings.timestamp_before_max_ms;
}

// After the broker has taken a compressed batch apart, as `uncompressed` asks for.
BatchVerdict CheckStoredSize(const kafka::RecordBatchView& batch, const TopicSettings& settings,
                             kafka::DecompressionBudget* budget) {
  if (settings.compression != kafka::Codec::kNone ||
      batch.header().codec() == kafka::Codec::kNone) {
    return {};
  }
  const auto limit = static_cast<size_t>(std::max<int64_t>(settings.max_message_bytes, 0));
  const auto records = kafka::UncompressedRecords::Of(batch, limit, budget);
  if (!records && records.error().code != base::Code::kFull) {
    return kafka::RefuseUncompressed(records.error());
  }
  if (records && kafka::kBatchHeaderSize + records->bytes().size() <= limit) return {};
  return {
      .error = ErrorCode::kMessageTooLarge,
      .message = fmt::format(
          "the batch, which the topic stores uncompressed, then exceeds the topic's {}", limit)};
}

}  // namespace

BatchVerdict CheckForTopic(std::string_view records, const TopicSettings& settings, int64_t now_ms,
                           bool zstd_allowed, kafka::DecompressionBudget* budget) {
  const kafka::RecordRules record_rules{.latest_timestamp = Latest(settings, now_ms),
                                        .earliest_timestamp = Earliest(settings, now_ms),
                                        .keys_required = settings.compacted,
                                        .budget = budget};
  BatchVerdict verdict = kafka::CheckProduced(
      records,
      {.max_batch_bytes = static_cast<size_t>(std::max<int64_t>(settings.max_message_bytes, 0)),
       .latest_timestamp = record_rules.latest_timestamp,
       .zstd_allowed = zstd_allowed});
  if (verdict.error == ErrorCode::kInvalidTimestamp) {
    BatchVerdict guilty = kafka::CheckRecords(kafka::RecordBatchView(records), record_rules);
    return guilty.ok() ? verdict : guilty;
  }
  if (!verdict.ok()) return verdict;
  if (static_cast<int64_t>(records.size()) > settings.segment_bytes) {
    return {.error = ErrorCode::kRecordListTooLarge,
            .message = fmt::format("batch of {} bytes exceeds the topic's segment.bytes of {}",
                                   records.size(), settings.segment_bytes)};
  }
  const kafka::RecordBatchView batch(records);
  const bool of_records =
      settings.compacted || record_rules.earliest_timestamp != std::numeric_limits<int64_t>::min();
  if (of_records) verdict = kafka::CheckRecords(batch, record_rules);
  return verdict.ok() ? CheckStoredSize(batch, settings, budget) : verdict;
}

}  // namespace holdfast::proxy
