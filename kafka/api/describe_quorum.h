// DescribeQuorum (key 55): the voters and observers of the metadata log.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeQuorumResponse;

struct DescribeQuorumRequest final {
  static constexpr Api kApi{
      .key = 55, .name = "DescribeQuorum", .oldest = 0, .newest = 2, .flexible = 0};
  using Response = DescribeQuorumResponse;

  struct TopicData {
    struct PartitionData {
      int32_t partition_index = 0;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view topic_name;
    std::vector<PartitionData> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<TopicData> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeQuorumResponse final {
  static constexpr Api kApi = DescribeQuorumRequest::kApi;

  struct ReplicaState {
    int32_t replica_id = 0;
    Uuid replica_directory_id;
    int64_t log_end_offset = 0;
    int64_t last_fetch_timestamp = -1;
    int64_t last_caught_up_timestamp = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.replica_id);
      wire(m.replica_directory_id, {.since = 2});
      wire(m.log_end_offset);
      wire(m.last_fetch_timestamp, {.since = 1});
      wire(m.last_caught_up_timestamp, {.since = 1});
      wire.Tags(m.unknown_tags);
    }
  };

  struct TopicData {
    struct PartitionData {
      int32_t partition_index = 0;
      ErrorCode error_code = ErrorCode::kNone;
      std::optional<std::string_view> error_message;
      int32_t leader_id = 0;
      int32_t leader_epoch = 0;
      int64_t high_watermark = 0;
      std::vector<ReplicaState> current_voters;
      std::vector<ReplicaState> observers;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire(m.error_code);
        wire(m.error_message, {.since = 2});
        wire(m.leader_id);
        wire(m.leader_epoch);
        wire(m.high_watermark);
        wire(m.current_voters);
        wire(m.observers);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view topic_name;
    std::vector<PartitionData> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct Node {
    struct Listener {
      std::string_view name;
      std::string_view host;
      uint16_t port = 0;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.name);
        wire(m.host);
        wire(m.port);
        wire.Tags(m.unknown_tags);
      }
    };

    int32_t node_id = 0;
    std::vector<Listener> listeners;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.node_id);
      wire(m.listeners);
      wire.Tags(m.unknown_tags);
    }
  };

  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::vector<TopicData> topics;
  std::vector<Node> nodes;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.error_message, {.since = 2});
    wire(m.topics);
    wire(m.nodes, {.since = 2});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
