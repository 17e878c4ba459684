// OffsetDelete (key 47): forgets a group's positions of some partitions.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct OffsetDeleteResponse;

struct OffsetDeleteRequest final {
  static constexpr Api kApi{.key = 47, .name = "OffsetDelete", .oldest = 0, .newest = 0};
  using Response = OffsetDeleteResponse;

  struct OffsetDeleteRequestPartition {
    int32_t partition_index = 0;

    static void Fields(auto& wire, auto& m) { wire(m.partition_index); }
  };

  struct OffsetDeleteRequestTopic {
    std::string_view name;
    std::vector<OffsetDeleteRequestPartition> partitions;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
    }
  };

  std::string_view group_id;
  std::vector<OffsetDeleteRequestTopic> topics;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.topics);
  }
};

struct OffsetDeleteResponse final {
  static constexpr Api kApi = OffsetDeleteRequest::kApi;

  struct OffsetDeleteResponsePartition {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
    }
  };

  struct OffsetDeleteResponseTopic {
    std::string_view name;
    std::vector<OffsetDeleteResponsePartition> partitions;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
    }
  };

  ErrorCode error_code = ErrorCode::kNone;
  int32_t throttle_time_ms = 0;
  std::vector<OffsetDeleteResponseTopic> topics;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.throttle_time_ms);
    wire(m.topics);
  }
};

}  // namespace holdfast::kafka
