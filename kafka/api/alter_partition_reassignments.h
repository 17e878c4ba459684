// AlterPartitionReassignments (key 45): gives partitions other replicas, or calls that off.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AlterPartitionReassignmentsResponse;

struct AlterPartitionReassignmentsRequest final {
  static constexpr Api kApi{
      .key = 45, .name = "AlterPartitionReassignments", .oldest = 0, .newest = 1, .flexible = 0};
  using Response = AlterPartitionReassignmentsResponse;

  struct ReassignableTopic {
    struct ReassignablePartition {
      int32_t partition_index = 0;
      std::optional<std::vector<int32_t>> replicas;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire(m.replicas);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view name;
    std::vector<ReassignablePartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t timeout_ms = 60000;
  bool allow_replication_factor_change = true;
  std::vector<ReassignableTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.timeout_ms);
    wire(m.allow_replication_factor_change, {.since = 1});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct AlterPartitionReassignmentsResponse final {
  static constexpr Api kApi = AlterPartitionReassignmentsRequest::kApi;

  struct ReassignableTopicResponse {
    struct ReassignablePartitionResponse {
      int32_t partition_index = 0;
      ErrorCode error_code = ErrorCode::kNone;
      std::optional<std::string_view> error_message;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire(m.error_code);
        wire(m.error_message);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view name;
    std::vector<ReassignablePartitionResponse> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  bool allow_replication_factor_change = true;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::vector<ReassignableTopicResponse> responses;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.allow_replication_factor_change, {.since = 1});
    wire(m.error_code);
    wire(m.error_message);
    wire(m.responses);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
