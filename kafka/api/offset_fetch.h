// OffsetFetch (key 9): a group's stored positions.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct OffsetFetchResponse;

struct OffsetFetchRequest final {
  static constexpr Api kApi{
      .key = 9, .name = "OffsetFetch", .oldest = 1, .newest = 10, .flexible = 6};
  using Response = OffsetFetchResponse;

  struct OffsetFetchRequestTopic {
    std::string_view name;
    std::vector<int32_t> partition_indexes;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partition_indexes);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchRequestTopics {
    std::string_view name;
    Uuid topic_id;
    std::vector<int32_t> partition_indexes;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 9, .ignorable = true});
      wire(m.topic_id, {.since = 10, .ignorable = true});
      wire(m.partition_indexes);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchRequestGroup {
    std::string_view group_id;
    std::optional<std::string_view> member_id;
    int32_t member_epoch = -1;
    std::optional<std::vector<OffsetFetchRequestTopics>> topics;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.group_id);
      wire(m.member_id, {.since = 9, .ignorable = true});
      wire(m.member_epoch, {.since = 9, .ignorable = true});
      wire(m.topics);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  std::optional<std::vector<OffsetFetchRequestTopic>> topics;
  std::vector<OffsetFetchRequestGroup> groups;
  bool require_stable = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id, {.last = 7});
    wire(m.topics, {.last = 7, .nullable_since = 2});
    wire(m.groups, {.since = 8});
    wire(m.require_stable, {.since = 7});
    wire.Tags(m.unknown_tags);
  }
};

struct OffsetFetchResponse final {
  static constexpr Api kApi = OffsetFetchRequest::kApi;

  struct OffsetFetchResponsePartition {
    int32_t partition_index = 0;
    int64_t committed_offset = 0;
    int32_t committed_leader_epoch = -1;
    std::optional<std::string_view> metadata;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.committed_offset);
      wire(m.committed_leader_epoch, {.since = 5});
      wire(m.metadata);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchResponseTopic {
    std::string_view name;
    std::vector<OffsetFetchResponsePartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchResponsePartitions {
    int32_t partition_index = 0;
    int64_t committed_offset = 0;
    int32_t committed_leader_epoch = -1;
    std::optional<std::string_view> metadata;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.committed_offset);
      wire(m.committed_leader_epoch);
      wire(m.metadata);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchResponseTopics {
    std::string_view name;
    Uuid topic_id;
    std::vector<OffsetFetchResponsePartitions> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 9});
      wire(m.topic_id, {.since = 10});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetFetchResponseGroup {
    std::string_view group_id;
    std::vector<OffsetFetchResponseTopics> topics;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.group_id);
      wire(m.topics);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<OffsetFetchResponseTopic> topics;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<OffsetFetchResponseGroup> groups;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 3});
    wire(m.topics, {.last = 7});
    wire(m.error_code, {.since = 2, .last = 7});
    wire(m.groups, {.since = 8});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
