#include "agent/dead_letter.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "kafka/record_batch.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"

namespace holdfast::agent {
namespace {

using kafka::RecordBatchView;
using kafka::RecordHeader;

constexpr std::string_view kStreamSuffix = "/dead-letters";

// Calls `visit` with each record; kCorrupt if the batch cannot be read to its end.
template <class Visit>
base::Result<> ForEachRecord(const RecordBatchView& batch, Visit visit) {
  HF_ASSIGN_OR_RETURN(const auto uncompressed, kafka::UncompressedRecords::Of(batch));
  kafka::RecordReader reader(batch.header(), uncompressed.bytes());
  kafka::Record record;
  while (reader.Next(&record)) visit(record, reader.count() - 1);
  return reader.status();
}

// The texts live as long as this.
class OriginHeaders {
 public:
  explicit OriginHeaders(const DeadLetterOrigin& origin)
      : origin_(origin),
        partition_(std::to_string(origin.partition)),
        time_(std::to_string(origin.time_ms)) {}

  // Valid until the next call.
  std::vector<RecordHeader> For(int32_t index, std::vector<RecordHeader> own) {
    offset_ = std::to_string(origin_.offset + index);
    own.push_back({dead_letter_header::kTopic, origin_.topic});
    own.push_back({dead_letter_header::kPartition, partition_});
    own.push_back({dead_letter_header::kOffset, offset_});
    own.push_back({dead_letter_header::kError, kafka::ErrorName(origin_.error)});
    if (!origin_.message.empty()) own.push_back({dead_letter_header::kMessage, origin_.message});
    own.push_back({dead_letter_header::kTime, time_});
    return own;
  }

 private:
  const DeadLetterOrigin& origin_;
  const std::string partition_;
  const std::string time_;
  std::string offset_;
};

// Ours come behind the record's own.
const RecordHeader* FindHeader(const kafka::Record& record, std::string_view name) {
  const auto found =
      std::find_if(record.headers.rbegin(), record.headers.rend(),
                   [name](const RecordHeader& header) { return header.key == name; });
  return found == record.headers.rend() ? nullptr : &*found;
}

int64_t NumberIn(const kafka::Record& record, std::string_view name) {
  const RecordHeader* header = FindHeader(record, name);
  const std::string_view text = header == nullptr ? "" : header->value.value_or("");
  int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

DeadLetterReason ReasonOf(const kafka::Record& record) {
  const auto text = [&](std::string_view name) {
    const RecordHeader* header = FindHeader(record, name);
    return std::string(header == nullptr ? "" : header->value.value_or(""));
  };
  return {.error = text(dead_letter_header::kError),
          .message = text(dead_letter_header::kMessage),
          .time_ms = NumberIn(record, dead_letter_header::kTime)};
}

DeadLetters WrapUnreadable(const RecordBatchView& batch, const DeadLetterOrigin& origin) {
  const std::string count = std::to_string(batch.record_count());
  OriginHeaders texts(origin);
  const std::vector<RecordHeader> headers = texts.For(0, {{dead_letter_header::kBatch, count}});
  kafka::RecordBatchBuilder builder({});
  builder.Add({.timestamp = origin.time_ms, .value = batch.bytes(), .headers = headers});
  return {.batch = std::move(builder).Build(), .record_count = 1};
}

}  // namespace

std::string DeadLetterStreamName(std::string_view stream_name) {
  return std::string(stream_name).append(kStreamSuffix);
}

std::optional<std::string_view> ParseDeadLetterStreamName(std::string_view name) {
  if (!name.ends_with(kStreamSuffix)) return std::nullopt;
  return name.substr(0, name.size() - kStreamSuffix.size());
}

DeadLetters BuildDeadLetters(std::string_view bytes, const DeadLetterOrigin& origin) {
  const RecordBatchView batch(bytes);
  OriginHeaders headers(origin);
  kafka::RecordBatchBuilder builder({.codec = batch.header().codec()});
  const auto read = ForEachRecord(batch, [&](const kafka::Record& record, int32_t index) {
    const std::vector<RecordHeader> all = headers.For(index, record.headers);
    builder.Add(
        {.timestamp = record.timestamp, .key = record.key, .value = record.value, .headers = all});
  });
  if (!read || builder.count() == 0) return WrapUnreadable(batch, origin);
  const auto count = static_cast<uint32_t>(builder.count());
  return {.batch = std::move(builder).Build(), .record_count = count};
}

base::Result<DeadLetterReason> ReadDeadLetterReason(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(const RecordBatchView batch, RecordBatchView::Front(bytes));
  HF_ASSIGN_OR_RETURN(const auto uncompressed, kafka::UncompressedRecords::Of(batch));
  kafka::RecordReader reader(batch.header(), uncompressed.bytes());
  kafka::Record record;
  if (!reader.Next(&record)) {
    return base::Unexpected(base::Code::kCorrupt, "no record in the batch");
  }
  return ReasonOf(record);
}

base::Result<std::optional<FoundDeadLetter>> FindDeadLetter(std::string_view bytes,
                                                            std::string_view topic,
                                                            int32_t partition, int64_t offset) {
  HF_ASSIGN_OR_RETURN(const RecordBatchView batch, RecordBatchView::Front(bytes));
  std::optional<FoundDeadLetter> found;
  HF_RETURN_IF_ERROR(ForEachRecord(batch, [&](const kafka::Record& record, int32_t index) {
    const RecordHeader* from = FindHeader(record, dead_letter_header::kTopic);
    if (from == nullptr || from->value != topic ||
        NumberIn(record, dead_letter_header::kPartition) != partition)
      return;
    const int64_t first = NumberIn(record, dead_letter_header::kOffset);
    const int64_t count = std::max<int64_t>(1, NumberIn(record, dead_letter_header::kBatch));
    if (offset >= first && offset - first < count)
      found = FoundDeadLetter{.index = index, .reason = ReasonOf(record)};
  }));
  return found;
}

base::Result<DeadLetters> RestoreDeadLetters(std::string_view bytes) {
  HF_ASSIGN_OR_RETURN(const RecordBatchView batch, RecordBatchView::Front(bytes));
  kafka::RecordBatchBuilder builder({.codec = batch.header().codec()});
  DeadLetters wrapped;
  HF_RETURN_IF_ERROR(ForEachRecord(batch, [&](const kafka::Record& record, int32_t /*index*/) {
    std::vector<RecordHeader> own = record.headers;
    if (std::ranges::find(own, dead_letter_header::kBatch, &RecordHeader::key) != own.end()) {
      wrapped.batch = record.value.value_or("");
      wrapped.record_count = 1;
    }
    std::erase_if(own, [](const RecordHeader& header) {
      return header.key.starts_with(dead_letter_header::kPrefix);
    });
    builder.Add(
        {.timestamp = record.timestamp, .key = record.key, .value = record.value, .headers = own});
  }));
  if (wrapped.record_count != 0) {
    HF_ASSIGN_OR_RETURN(const RecordBatchView original, RecordBatchView::Front(wrapped.batch));
    wrapped.record_count = static_cast<uint32_t>(original.record_count());
    // Its transaction has gone without it.
    if (original.header().transactional()) {
      kafka::SetTransactional(wrapped.batch, /*transactional=*/false);
    }
    return wrapped;
  }
  if (builder.count() == 0) return base::Unexpected(base::Code::kCorrupt, "no record in the batch");
  const auto count = static_cast<uint32_t>(builder.count());
  return DeadLetters{.batch = std::move(builder).Build(), .record_count = count};
}

base::Result<std::string> SliceBatch(std::string_view bytes, int32_t first, int32_t count) {
  const RecordBatchView batch(bytes);
  kafka::RecordBatchBuilder builder({.codec = batch.header().codec()});
  HF_RETURN_IF_ERROR(ForEachRecord(batch, [&](const kafka::Record& record, int32_t index) {
    if (index < first || index - first >= count) return;
    builder.Add({.timestamp = record.timestamp,
                 .key = record.key,
                 .value = record.value,
                 .headers = record.headers});
  }));
  if (builder.count() != count) {
    return base::Unexpected(base::Code::kCorrupt,
                            fmt::format("a batch of {} records has no records {} to {}",
                                        batch.record_count(), first, first + count - 1));
  }
  return std::move(builder).Build();
}

}  // namespace holdfast::agent
