// DescribeTopicPartitions (key 75): partitions of topics, page by page.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeTopicPartitionsResponse;

// Where a page begins.
struct DescribeTopicPartitionsCursor {
  std::string_view topic_name;
  int32_t partition_index = 0;
  UnknownTags unknown_tags;

  static void Fields(auto& wire, auto& m) {
    wire(m.topic_name);
    wire(m.partition_index);
    wire.Tags(m.unknown_tags);
  }
  bool operator==(const DescribeTopicPartitionsCursor&) const = default;
};

struct DescribeTopicPartitionsRequest final {
  static constexpr Api kApi{
      .key = 75, .name = "DescribeTopicPartitions", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = DescribeTopicPartitionsResponse;
  using Cursor = DescribeTopicPartitionsCursor;

  struct TopicRequest {
    std::string_view name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<TopicRequest> topics;
  int32_t response_partition_limit = 2000;
  std::optional<Cursor> cursor;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire(m.response_partition_limit);
    wire(m.cursor);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeTopicPartitionsResponse final {
  static constexpr Api kApi = DescribeTopicPartitionsRequest::kApi;
  using Cursor = DescribeTopicPartitionsCursor;

  struct DescribeTopicPartitionsResponsePartition {
    ErrorCode error_code = ErrorCode::kNone;
    int32_t partition_index = 0;
    int32_t leader_id = 0;
    int32_t leader_epoch = -1;
    std::vector<int32_t> replica_nodes;
    std::vector<int32_t> isr_nodes;
    std::optional<std::vector<int32_t>> eligible_leader_replicas;
    std::optional<std::vector<int32_t>> last_known_elr;
    std::vector<int32_t> offline_replicas;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.partition_index);
      wire(m.leader_id);
      wire(m.leader_epoch);
      wire(m.replica_nodes);
      wire(m.isr_nodes);
      wire(m.eligible_leader_replicas);
      wire(m.last_known_elr);
      wire(m.offline_replicas);
      wire.Tags(m.unknown_tags);
    }
  };

  struct DescribeTopicPartitionsResponseTopic {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> name;
    Uuid topic_id;
    bool is_internal = false;
    std::vector<DescribeTopicPartitionsResponsePartition> partitions;
    int32_t topic_authorized_operations = std::numeric_limits<int32_t>::min();
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.name);
      wire(m.topic_id);
      wire(m.is_internal);
      wire(m.partitions);
      wire(m.topic_authorized_operations);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DescribeTopicPartitionsResponseTopic> topics;
  std::optional<Cursor> next_cursor;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire(m.next_cursor);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
