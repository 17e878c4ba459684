// ListOffsets (key 2): offsets by timestamp, and the ends of a partition.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ListOffsetsResponse;

struct ListOffsetsRequest final {
  static constexpr Api kApi{
      .key = 2, .name = "ListOffsets", .oldest = 1, .newest = 11, .flexible = 6};
  using Response = ListOffsetsResponse;

  struct ListOffsetsPartition {
    int32_t partition_index = 0;
    int32_t current_leader_epoch = -1;
    int64_t timestamp = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.current_leader_epoch, {.since = 4, .ignorable = true});
      wire(m.timestamp);
      wire.Tags(m.unknown_tags);
    }
  };

  struct ListOffsetsTopic {
    std::string_view name;
    std::vector<ListOffsetsPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t replica_id = -1;
  int8_t isolation_level = 0;
  std::vector<ListOffsetsTopic> topics;
  int32_t timeout_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.replica_id);
    wire(m.isolation_level, {.since = 2});
    wire(m.topics);
    wire(m.timeout_ms, {.since = 10, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

struct ListOffsetsResponse final {
  static constexpr Api kApi = ListOffsetsRequest::kApi;

  struct ListOffsetsPartitionResponse {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    int64_t timestamp = -1;
    int64_t offset = -1;
    int32_t leader_epoch = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire(m.timestamp);
      wire(m.offset);
      wire(m.leader_epoch, {.since = 4});
      wire.Tags(m.unknown_tags);
    }
  };

  struct ListOffsetsTopicResponse {
    std::string_view name;
    std::vector<ListOffsetsPartitionResponse> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<ListOffsetsTopicResponse> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 2});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
