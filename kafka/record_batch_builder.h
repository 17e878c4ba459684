// Makes record batches: for tests, dead letters, outbox events and transaction markers. What
// clients produced is never rebuilt; it travels byte for byte (but see Recompress, and
// record_filter.h).
//
//   RecordBatchBuilder builder({.codec = Codec::kZstd});
//   builder.Add({.timestamp = now, .key = "k", .value = "v"});
//   std::string batch = std::move(builder).Build();
//
// Ownership: Add copies. Threads: one. Limits: the caller looks at size() and closes the batch in
// time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kafka/compression.h"
#include "kafka/record_batch.h"
#include "kafka/record_reader.h"

namespace holdfast::kafka {

class RecordBatchBuilder {
 public:
  struct Options {
    Codec codec = Codec::kNone;
    Producer producer = {};
    bool transactional = false;
    bool control = false;
    int64_t base_offset = 0;
    int32_t partition_leader_epoch = -1;
  };
  struct NewRecord {
    int64_t timestamp = kNoTimestamp;
    std::optional<std::string_view> key = std::nullopt;
    std::optional<std::string_view> value = std::nullopt;
    std::span<const RecordHeader> headers = {};
  };

  explicit RecordBatchBuilder(const Options& options) : options_(options) {}

  void Add(const NewRecord& record);
  [[nodiscard]] int32_t count() const { return count_; }
  // Of the batch if it were not compressed.
  [[nodiscard]] size_t size() const { return kBatchHeaderSize + records_.size(); }
  // At least one record must have been added.
  [[nodiscard]] std::string Build() &&;

 private:
  Options options_;
  std::string records_;
  int32_t count_ = 0;
  int64_t base_timestamp_ = kNoTimestamp;
  int64_t max_timestamp_ = kNoTimestamp;
};

// One record as it stands in a batch that begins there.
struct BatchBase {
  int64_t base_offset = 0;
  int64_t base_timestamp = 0;
};
void AppendRecord(const Record& record, const BatchBase& base, std::string* out);

enum class TransactionEnd : int16_t { kAbort = 0, kCommit = 1 };

// Of such a batch; nothing if it is none.
[[nodiscard]] std::optional<TransactionEnd> ReadTransactionEnd(const RecordBatchView& batch);
// The control batch that ends a producer's transaction in one partition. Its base sequence is -1.
[[nodiscard]] std::string BuildTransactionMarker(TransactionEnd end, int64_t producer_id,
                                                 int16_t producer_epoch, int32_t coordinator_epoch,
                                                 int64_t timestamp);

}  // namespace holdfast::kafka
