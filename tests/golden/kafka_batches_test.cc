// Record batches that the Java client made, against our reader and builder. The form of the golden
// file stands at its top.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kafka/record_batch.h"
#include "kafka/record_batch_builder.h"
#include "kafka/record_reader.h"
#include "tests/support/source_path.h"

namespace holdfast::kafka {
namespace {

using Bytes = std::optional<std::string>;

struct ForeignRecord {
  int64_t timestamp = 0;
  Bytes key;
  Bytes value;
  std::vector<std::pair<std::string, Bytes>> headers;
};

struct ForeignBatch {
  std::string name;
  std::map<std::string, std::string> fields;
  std::vector<ForeignRecord> records;
  std::string bytes;

  [[nodiscard]] int64_t number(const std::string& field) const {
    return std::stoll(fields.at(field));
  }
};

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

// "-" is null, "." empty, "N*HH" a byte N times.
Bytes ParseBytes(const std::string& word) {
  if (word == "-") return std::nullopt;
  if (word == ".") return "";
  if (const size_t star = word.find('*'); star != std::string::npos) {
    return std::string(std::stoul(word.substr(0, star)), FromHex(word.substr(star + 1))[0]);
  }
  return FromHex(word);
}

std::pair<std::string, std::string> SplitAtEquals(const std::string& word) {
  const size_t equals = word.find('=');
  return {word.substr(0, equals), word.substr(equals + 1)};
}

ForeignRecord ParseRecord(std::istringstream& words) {
  ForeignRecord record;
  std::string key;
  std::string value;
  words >> record.timestamp >> key >> value;
  record.key = ParseBytes(key);
  record.value = ParseBytes(value);
  for (std::string word; words >> word;) {
    const auto [name, header] = SplitAtEquals(word);
    record.headers.emplace_back(ParseBytes(name).value_or("?"), ParseBytes(header));
  }
  return record;
}

std::vector<ForeignBatch> ReadForeignBatches() {
  std::ifstream file(test::SourcePath("tests/golden/kafka/record_batches.hex"));
  std::vector<ForeignBatch> batches;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "batch") {
      words >> batches.emplace_back().name;
      for (std::string word; words >> word;) batches.back().fields.insert(SplitAtEquals(word));
    } else if (kind == "record") {
      batches.back().records.push_back(ParseRecord(words));
    } else if (kind == "bytes") {
      std::string hex;
      words >> hex;
      batches.back().bytes = FromHex(hex);
    }
  }
  return batches;
}

class ForeignBatches : public testing::TestWithParam<ForeignBatch> {};
INSTANTIATE_TEST_SUITE_P(GoldenTest, ForeignBatches, testing::ValuesIn(ReadForeignBatches()),
                         [](const auto& each) { return each.param.name; });

TEST_P(ForeignBatches, HeaderIsUnderstood) {
  const ForeignBatch& foreign = GetParam();
  const auto batch = RecordBatchView::Front(foreign.bytes);
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->size(), foreign.bytes.size());
  EXPECT_TRUE(batch->CrcMatches());
  const BatchHeader header = batch->header();
  EXPECT_EQ(CodecName(header.codec()), foreign.fields.at("codec"));
  EXPECT_EQ(header.record_count, foreign.number("count"));
  EXPECT_EQ(header.last_offset_delta, foreign.number("count") - 1);
  EXPECT_EQ(header.base_offset, foreign.number("base_offset"));
  EXPECT_EQ(header.producer.id, foreign.number("producer_id"));
  EXPECT_EQ(header.producer.epoch, foreign.number("epoch"));
  EXPECT_EQ(header.producer.base_sequence, foreign.number("base_sequence"));
  EXPECT_EQ(header.transactional(), foreign.number("transactional") == 1);
  EXPECT_EQ(header.control(), foreign.number("control") == 1);
  EXPECT_EQ(header.log_append_time(), foreign.fields.at("timestamp_type") == "append");
  EXPECT_EQ(header.base_timestamp, foreign.number("base_timestamp"));
  EXPECT_EQ(header.max_timestamp, foreign.number("max_timestamp"));
  EXPECT_EQ(header.partition_leader_epoch, foreign.number("leader_epoch"));
}

TEST_P(ForeignBatches, RecordsAreRead) {
  const ForeignBatch& foreign = GetParam();
  const RecordBatchView batch(foreign.bytes);
  const auto records = UncompressedRecords::Of(batch);
  ASSERT_TRUE(records) << records.error().message;
  RecordReader reader(batch.header(), records->bytes());
  Record record;
  for (const ForeignRecord& expected : foreign.records) {
    ASSERT_TRUE(reader.Next(&record));
    EXPECT_EQ(record.offset, batch.base_offset() + reader.count() - 1);
    // The file lists what stands in the record; the broker's stamp goes before it.
    EXPECT_EQ(record.timestamp,
              batch.header().log_append_time() ? batch.max_timestamp() : expected.timestamp);
    EXPECT_EQ(record.key, expected.key);
    EXPECT_TRUE(record.value == expected.value);  // Some are too long to print.
    ASSERT_EQ(record.headers.size(), expected.headers.size());
    for (size_t i = 0; i < record.headers.size(); ++i) {
      EXPECT_EQ(record.headers[i].key, expected.headers[i].first);
      EXPECT_EQ(record.headers[i].value, expected.headers[i].second);
    }
  }
  EXPECT_FALSE(reader.Next(&record));
  EXPECT_TRUE(reader.status());
}

TEST_P(ForeignBatches, WhatAProducerSentPassesTheChecks) {
  const ForeignBatch& foreign = GetParam();
  const BatchHeader header = RecordBatchView(foreign.bytes).header();
  const bool from_producer = !header.control() && !header.log_append_time();
  const BatchVerdict verdict = CheckProduced(foreign.bytes, {});
  EXPECT_EQ(verdict.ok(), from_producer) << verdict.message;
  EXPECT_TRUE(CheckRecords(RecordBatchView(foreign.bytes), {}).ok());
}

std::string Rebuild(const ForeignBatch& foreign) {
  const BatchHeader header = RecordBatchView(foreign.bytes).header();
  RecordBatchBuilder builder({.codec = header.codec(),
                              .producer = header.producer,
                              .transactional = header.transactional(),
                              .control = header.control(),
                              .base_offset = header.base_offset,
                              .partition_leader_epoch = header.partition_leader_epoch});
  for (const ForeignRecord& record : foreign.records) {
    std::vector<RecordHeader> headers;
    for (const auto& [key, value] : record.headers) headers.push_back({key, value});
    builder.Add({.timestamp = record.timestamp,
                 .key = record.key,
                 .value = record.value,
                 .headers = headers});
  }
  std::string batch = std::move(builder).Build();
  if (header.log_append_time()) SetLogAppendTime(batch, header.max_timestamp);
  return batch;
}

// Without a codec there is but one way to write a batch.
TEST(GoldenTest, UncompressedBatchesAreBuiltByteForByte) {
  int rebuilt = 0;
  for (const ForeignBatch& foreign : ReadForeignBatches()) {
    if (foreign.fields.at("codec") != "none") continue;
    ++rebuilt;
    EXPECT_TRUE(Rebuild(foreign) == foreign.bytes) << foreign.name;
  }
  EXPECT_GE(rebuilt, 8);
}

TEST(GoldenTest, MarkersAreThoseOfTheJavaBroker) {
  int markers = 0;
  for (const ForeignBatch& foreign : ReadForeignBatches()) {
    const BatchHeader header = RecordBatchView(foreign.bytes).header();
    if (!header.control()) continue;
    ++markers;
    const std::string& value = *foreign.records.at(0).value;
    const auto end =
        foreign.name == "commit_marker" ? TransactionEnd::kCommit : TransactionEnd::kAbort;
    std::string marker = BuildTransactionMarker(end, header.producer.id, header.producer.epoch,
                                                value.back(), header.base_timestamp);
    SetBaseOffset(marker, header.base_offset);
    SetPartitionLeaderEpoch(marker, header.partition_leader_epoch);
    EXPECT_EQ(marker, foreign.bytes) << foreign.name;
  }
  EXPECT_EQ(markers, 2);
}

TEST(GoldenTest, EveryCodecHasForeignBatches) {
  std::map<std::string, int> codecs;
  for (const ForeignBatch& foreign : ReadForeignBatches()) ++codecs[foreign.fields.at("codec")];
  EXPECT_EQ(codecs.size(), 5u);
}

}  // namespace
}  // namespace holdfast::kafka
