// CreatePartitions (key 37): raises the partition count of topics.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct CreatePartitionsResponse;

struct CreatePartitionsRequest final {
  static constexpr Api kApi{
      .key = 37, .name = "CreatePartitions", .oldest = 0, .newest = 3, .flexible = 2};
  using Response = CreatePartitionsResponse;

  struct CreatePartitionsAssignment {
    std::vector<int32_t> broker_ids;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.broker_ids);
      wire.Tags(m.unknown_tags);
    }
  };

  struct CreatePartitionsTopic {
    std::string_view name;
    int32_t count = 0;
    std::optional<std::vector<CreatePartitionsAssignment>> assignments;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.count);
      wire(m.assignments);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<CreatePartitionsTopic> topics;
  int32_t timeout_ms = 0;
  bool validate_only = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire(m.timeout_ms);
    wire(m.validate_only);
    wire.Tags(m.unknown_tags);
  }
};

struct CreatePartitionsResponse final {
  static constexpr Api kApi = CreatePartitionsRequest::kApi;

  struct CreatePartitionsTopicResult {
    std::string_view name;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.error_code);
      wire(m.error_message);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<CreatePartitionsTopicResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
