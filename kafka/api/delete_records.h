// DeleteRecords (key 21): moves the beginning of partitions up to an offset.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DeleteRecordsResponse;

struct DeleteRecordsRequest final {
  static constexpr Api kApi{
      .key = 21, .name = "DeleteRecords", .oldest = 0, .newest = 2, .flexible = 2};
  using Response = DeleteRecordsResponse;

  struct DeleteRecordsPartition {
    int32_t partition_index = 0;
    int64_t offset = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.offset);
      wire.Tags(m.unknown_tags);
    }
  };

  struct DeleteRecordsTopic {
    std::string_view name;
    std::vector<DeleteRecordsPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<DeleteRecordsTopic> topics;
  int32_t timeout_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire(m.timeout_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct DeleteRecordsResponse final {
  static constexpr Api kApi = DeleteRecordsRequest::kApi;

  struct DeleteRecordsPartitionResult {
    int32_t partition_index = 0;
    int64_t low_watermark = 0;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.low_watermark);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct DeleteRecordsTopicResult {
    std::string_view name;
    std::vector<DeleteRecordsPartitionResult> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DeleteRecordsTopicResult> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
