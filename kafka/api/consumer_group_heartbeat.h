// ConsumerGroupHeartbeat (key 68): a member of a consumer group joins, lives and leaves by it, says
// what it subscribes to and has, and is told what it is to have.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ConsumerGroupHeartbeatResponse;

struct ConsumerGroupHeartbeatRequest final {
  static constexpr Api kApi{
      .key = 68, .name = "ConsumerGroupHeartbeat", .oldest = 0, .newest = 1, .flexible = 0};
  using Response = ConsumerGroupHeartbeatResponse;

  struct TopicPartitions {
    Uuid topic_id;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    bool operator==(const TopicPartitions&) const = default;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_id);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  std::string_view member_id;
  int32_t member_epoch = 0;
  std::optional<std::string_view> instance_id;
  std::optional<std::string_view> rack_id;
  int32_t rebalance_timeout_ms = -1;
  std::optional<std::vector<std::string_view>> subscribed_topic_names;
  std::optional<std::string_view> subscribed_topic_regex;
  std::optional<std::string_view> server_assignor;
  std::optional<std::vector<TopicPartitions>> topic_partitions;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.member_id);
    wire(m.member_epoch);
    wire(m.instance_id);
    wire(m.rack_id);
    wire(m.rebalance_timeout_ms);
    wire(m.subscribed_topic_names);
    wire(m.subscribed_topic_regex, {.since = 1});
    wire(m.server_assignor);
    wire(m.topic_partitions);
    wire.Tags(m.unknown_tags);
  }
};

struct ConsumerGroupHeartbeatResponse final {
  static constexpr Api kApi = ConsumerGroupHeartbeatRequest::kApi;
  using TopicPartitions = ConsumerGroupHeartbeatRequest::TopicPartitions;

  struct Assignment {
    std::vector<TopicPartitions> topic_partitions;
    UnknownTags unknown_tags;

    bool operator==(const Assignment&) const = default;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::optional<std::string_view> member_id;
  int32_t member_epoch = 0;
  int32_t heartbeat_interval_ms = 0;
  std::optional<Assignment> assignment;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.member_id);
    wire(m.member_epoch);
    wire(m.heartbeat_interval_ms);
    wire(m.assignment);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
