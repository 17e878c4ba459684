// ListPartitionReassignments (key 46): the partitions whose replicas are being moved.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ListPartitionReassignmentsResponse;

struct ListPartitionReassignmentsRequest final {
  static constexpr Api kApi{
      .key = 46, .name = "ListPartitionReassignments", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = ListPartitionReassignmentsResponse;

  struct ListPartitionReassignmentsTopics {
    std::string_view name;
    std::vector<int32_t> partition_indexes;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partition_indexes);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t timeout_ms = 60000;
  std::optional<std::vector<ListPartitionReassignmentsTopics>> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.timeout_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct ListPartitionReassignmentsResponse final {
  static constexpr Api kApi = ListPartitionReassignmentsRequest::kApi;

  struct OngoingTopicReassignment {
    struct OngoingPartitionReassignment {
      int32_t partition_index = 0;
      std::vector<int32_t> replicas;
      std::vector<int32_t> adding_replicas;
      std::vector<int32_t> removing_replicas;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire(m.replicas);
        wire(m.adding_replicas);
        wire(m.removing_replicas);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view name;
    std::vector<OngoingPartitionReassignment> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::vector<OngoingTopicReassignment> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
