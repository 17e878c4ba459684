// DeleteTopics (key 20): deletes topics by name or id.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DeleteTopicsResponse;

struct DeleteTopicsRequest final {
  static constexpr Api kApi{
      .key = 20, .name = "DeleteTopics", .oldest = 1, .newest = 6, .flexible = 4};
  using Response = DeleteTopicsResponse;

  struct DeleteTopicState {
    std::optional<std::string_view> name;
    Uuid topic_id;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.topic_id);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<DeleteTopicState> topics;
  std::vector<std::string_view> topic_names;
  int32_t timeout_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics, {.since = 6});
    wire(m.topic_names, {.last = 5, .ignorable = true});
    wire(m.timeout_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct DeleteTopicsResponse final {
  static constexpr Api kApi = DeleteTopicsRequest::kApi;

  struct DeletableTopicResult {
    std::optional<std::string_view> name;
    Uuid topic_id;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.nullable_since = 6});
      wire(m.topic_id, {.since = 6});
      wire(m.error_code);
      wire(m.error_message, {.since = 5});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DeletableTopicResult> responses;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.responses);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
