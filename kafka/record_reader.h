// The records inside a batch.
//
//   HF_ASSIGN_OR_RETURN(auto records, UncompressedRecords::Of(batch));
//   RecordReader reader(batch.header(), records.bytes());
//   while (reader.Next(&record)) ...
//   HF_RETURN_IF_ERROR(reader.status());
//
// Ownership: a Record's keys, values and headers borrow the uncompressed bytes.
// Threads: any; one reader belongs to one thread.
// Limits: sizes and counts are held against the bytes that are there before anything is reserved.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kafka/compression.h"
#include "kafka/record_batch.h"

namespace holdfast::kafka {

struct RecordHeader {
  std::string_view key = {};
  std::optional<std::string_view> value = {};

  bool operator==(const RecordHeader&) const = default;
};

// Null and empty differ: a null value is a tombstone.
struct Record {
  int64_t offset = 0;
  int64_t timestamp = kNoTimestamp;
  std::optional<std::string_view> key = {};
  std::optional<std::string_view> value = {};
  std::vector<RecordHeader> headers = {};
};

// A batch's records uncompressed: borrowed from the batch if it is not compressed, else owned.
class UncompressedRecords {
 public:
  static base::Result<UncompressedRecords> Of(const RecordBatchView& batch,
                                              size_t limit = kDecompressedLimit,
                                              DecompressionBudget* budget = nullptr);
  [[nodiscard]] std::string_view bytes() const { return borrowed_ ? *borrowed_ : owned_; }

 private:
  std::optional<std::string_view> borrowed_;
  std::string owned_;
};

class RecordReader {
 public:
  RecordReader(const BatchHeader& header, std::string_view uncompressed)
      : header_(header), rest_(uncompressed) {}

  // The next record into `record`, whose memory is used again. False after the last, or at damage.
  [[nodiscard]] bool Next(Record* record);
  // After Next gave false: kCorrupt if the bytes are not the records that the header announces.
  [[nodiscard]] base::Result<> status() const;
  // How many records Next has given.
  [[nodiscard]] int32_t count() const { return count_; }

 private:
  bool Fail(std::string_view what);

  BatchHeader header_;
  std::string_view rest_;
  int32_t count_ = 0;
  std::string damage_;
};

}  // namespace holdfast::kafka
