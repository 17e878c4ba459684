#include "kafka/record_filter.h"

#include <algorithm>

#include "kafka/record_batch_builder.h"

namespace holdfast::kafka {

base::Result<std::string> FilterRecords(const RecordBatchView& batch, std::string_view uncompressed,
                                        const std::function<bool(const Record&)>& keep,
                                        std::optional<int64_t> delete_horizon) {
  const BatchHeader header = batch.header();
  const int64_t base_timestamp = delete_horizon.value_or(header.base_timestamp);
  RecordReader reader(header, uncompressed);
  Record record;
  std::string records;
  NewRecords kept{.max_timestamp = kNoTimestamp, .delete_horizon = delete_horizon};
  while (reader.Next(&record)) {
    if (!keep(record)) continue;
    AppendRecord(record, {.base_offset = header.base_offset, .base_timestamp = base_timestamp},
                 &records);
    ++kept.count;
    kept.max_timestamp = std::max(kept.max_timestamp, record.timestamp);
  }
  HF_RETURN_IF_ERROR(reader.status());
  if (kept.count == 0) return std::string();
  // Every record's time is then the batch's.
  if (header.log_append_time()) kept.max_timestamp = header.max_timestamp;
  kept.uncompressed = records;
  return WithRecords(batch, kept);
}

}  // namespace holdfast::kafka
