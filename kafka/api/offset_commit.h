// OffsetCommit (key 8): stores a group's positions.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct OffsetCommitResponse;

struct OffsetCommitRequest final {
  static constexpr Api kApi{
      .key = 8, .name = "OffsetCommit", .oldest = 2, .newest = 10, .flexible = 8};
  using Response = OffsetCommitResponse;

  struct OffsetCommitRequestPartition {
    int32_t partition_index = 0;
    int64_t committed_offset = 0;
    int32_t committed_leader_epoch = -1;
    std::optional<std::string_view> committed_metadata;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.committed_offset);
      wire(m.committed_leader_epoch, {.since = 6, .ignorable = true});
      wire(m.committed_metadata);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetCommitRequestTopic {
    std::string_view name;
    Uuid topic_id;
    std::vector<OffsetCommitRequestPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 9, .ignorable = true});
      wire(m.topic_id, {.since = 10, .ignorable = true});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  int32_t generation_id_or_member_epoch = -1;
  std::string_view member_id;
  std::optional<std::string_view> group_instance_id;
  int64_t retention_time_ms = -1;
  std::vector<OffsetCommitRequestTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.generation_id_or_member_epoch);
    wire(m.member_id);
    wire(m.group_instance_id, {.since = 7});
    wire(m.retention_time_ms, {.last = 4, .ignorable = true});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct OffsetCommitResponse final {
  static constexpr Api kApi = OffsetCommitRequest::kApi;

  struct OffsetCommitResponsePartition {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetCommitResponseTopic {
    std::string_view name;
    Uuid topic_id;
    std::vector<OffsetCommitResponsePartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 9});
      wire(m.topic_id, {.since = 10});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<OffsetCommitResponseTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 3});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
