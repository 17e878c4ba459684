// CreateTopics (key 19): creates topics, or checks whether they could be.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct CreateTopicsResponse;

struct CreateTopicsRequest final {
  static constexpr Api kApi{
      .key = 19, .name = "CreateTopics", .oldest = 2, .newest = 7, .flexible = 5};
  using Response = CreateTopicsResponse;

  struct CreatableReplicaAssignment {
    int32_t partition_index = 0;
    std::vector<int32_t> broker_ids;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.broker_ids);
      wire.Tags(m.unknown_tags);
    }
  };

  struct CreatableTopicConfig {
    std::string_view name;
    std::optional<std::string_view> value;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.value);
      wire.Tags(m.unknown_tags);
    }
  };

  struct CreatableTopic {
    std::string_view name;
    int32_t num_partitions = 0;
    int16_t replication_factor = 0;
    std::vector<CreatableReplicaAssignment> assignments;
    std::vector<CreatableTopicConfig> configs;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.num_partitions);
      wire(m.replication_factor);
      wire(m.assignments);
      wire(m.configs);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<CreatableTopic> topics;
  int32_t timeout_ms = 60000;
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

struct CreateTopicsResponse final {
  static constexpr Api kApi = CreateTopicsRequest::kApi;

  struct CreatableTopicConfigs {
    std::string_view name;
    std::optional<std::string_view> value;
    bool read_only = false;
    int8_t config_source = -1;
    bool is_sensitive = false;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.value);
      wire(m.read_only);
      wire(m.config_source);
      wire(m.is_sensitive);
      wire.Tags(m.unknown_tags);
    }
  };

  struct CreatableTopicResult {
    std::string_view name;
    Uuid topic_id;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    ErrorCode topic_config_error_code = ErrorCode::kNone;
    int32_t num_partitions = -1;
    int16_t replication_factor = -1;
    std::optional<std::vector<CreatableTopicConfigs>> configs;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.topic_id, {.since = 7});
      wire(m.error_code);
      wire(m.error_message);
      wire(m.num_partitions, {.since = 5});
      wire(m.replication_factor, {.since = 5});
      wire(m.configs, {.since = 5});
      wire.Tags(m.unknown_tags, Tag(0, m.topic_config_error_code));
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<CreatableTopicResult> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
