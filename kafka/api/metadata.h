// Metadata (key 3): brokers, topics and who leads each partition.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct MetadataResponse;

struct MetadataRequest final {
  static constexpr Api kApi{.key = 3, .name = "Metadata", .oldest = 0, .newest = 13, .flexible = 9};
  using Response = MetadataResponse;

  struct MetadataRequestTopic {
    Uuid topic_id;
    std::optional<std::string_view> name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_id, {.since = 10, .ignorable = true});
      wire(m.name, {.nullable_since = 10});
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::vector<MetadataRequestTopic>> topics;
  bool allow_auto_topic_creation = true;
  bool include_cluster_authorized_operations = false;
  bool include_topic_authorized_operations = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics, {.nullable_since = 1});
    wire(m.allow_auto_topic_creation, {.since = 4});
    wire(m.include_cluster_authorized_operations, {.since = 8, .last = 10});
    wire(m.include_topic_authorized_operations, {.since = 8});
    wire.Tags(m.unknown_tags);
  }
};

struct MetadataResponse final {
  static constexpr Api kApi = MetadataRequest::kApi;

  struct MetadataResponseBroker {
    int32_t node_id = 0;
    std::string_view host;
    int32_t port = 0;
    std::optional<std::string_view> rack;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.node_id);
      wire(m.host);
      wire(m.port);
      wire(m.rack, {.since = 1});
      wire.Tags(m.unknown_tags);
    }
  };

  struct MetadataResponsePartition {
    ErrorCode error_code = ErrorCode::kNone;
    int32_t partition_index = 0;
    int32_t leader_id = 0;
    int32_t leader_epoch = -1;
    std::vector<int32_t> replica_nodes;
    std::vector<int32_t> isr_nodes;
    std::vector<int32_t> offline_replicas;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.partition_index);
      wire(m.leader_id);
      wire(m.leader_epoch, {.since = 7});
      wire(m.replica_nodes);
      wire(m.isr_nodes);
      wire(m.offline_replicas, {.since = 5});
      wire.Tags(m.unknown_tags);
    }
  };

  struct MetadataResponseTopic {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> name;
    Uuid topic_id;
    bool is_internal = false;
    std::vector<MetadataResponsePartition> partitions;
    int32_t topic_authorized_operations = std::numeric_limits<int32_t>::min();
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.name, {.nullable_since = 12});
      wire(m.topic_id, {.since = 10});
      wire(m.is_internal, {.since = 1});
      wire(m.partitions);
      wire(m.topic_authorized_operations, {.since = 8});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<MetadataResponseBroker> brokers;
  std::optional<std::string_view> cluster_id;
  int32_t controller_id = -1;
  std::vector<MetadataResponseTopic> topics;
  int32_t cluster_authorized_operations = std::numeric_limits<int32_t>::min();
  ErrorCode error_code = ErrorCode::kNone;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 3});
    wire(m.brokers);
    wire(m.cluster_id, {.since = 2});
    wire(m.controller_id, {.since = 1});
    wire(m.topics);
    wire(m.cluster_authorized_operations, {.since = 8, .last = 10});
    wire(m.error_code, {.since = 13});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
