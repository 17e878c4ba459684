// ConsumerGroupDescribe (key 69): state and members of consumer groups of the newer protocol.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ConsumerGroupDescribeResponse;

struct ConsumerGroupDescribeRequest final {
  static constexpr Api kApi{
      .key = 69, .name = "ConsumerGroupDescribe", .oldest = 0, .newest = 1, .flexible = 0};
  using Response = ConsumerGroupDescribeResponse;

  std::vector<std::string_view> group_ids;
  bool include_authorized_operations = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_ids);
    wire(m.include_authorized_operations);
    wire.Tags(m.unknown_tags);
  }
};

struct ConsumerGroupDescribeResponse final {
  static constexpr Api kApi = ConsumerGroupDescribeRequest::kApi;

  struct TopicPartitions {
    Uuid topic_id;
    std::string_view topic_name;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    bool operator==(const TopicPartitions&) const = default;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_id);
      wire(m.topic_name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct Assignment {
    std::vector<TopicPartitions> topic_partitions;
    UnknownTags unknown_tags;

    bool operator==(const Assignment&) const = default;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct Member {
    std::string_view member_id;
    std::optional<std::string_view> instance_id;
    std::optional<std::string_view> rack_id;
    int32_t member_epoch = 0;
    std::string_view client_id;
    std::string_view client_host;
    std::vector<std::string_view> subscribed_topic_names;
    std::optional<std::string_view> subscribed_topic_regex;
    Assignment assignment;
    Assignment target_assignment;
    int8_t member_type = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire(m.instance_id);
      wire(m.rack_id);
      wire(m.member_epoch);
      wire(m.client_id);
      wire(m.client_host);
      wire(m.subscribed_topic_names);
      wire(m.subscribed_topic_regex);
      wire(m.assignment);
      wire(m.target_assignment);
      wire(m.member_type, {.since = 1, .ignorable = true});
      wire.Tags(m.unknown_tags);
    }
  };

  struct DescribedGroup {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::string_view group_id;
    std::string_view group_state;
    int32_t group_epoch = 0;
    int32_t assignment_epoch = 0;
    std::string_view assignor_name;
    std::vector<Member> members;
    int32_t authorized_operations = std::numeric_limits<int32_t>::min();
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire(m.group_id);
      wire(m.group_state);
      wire(m.group_epoch);
      wire(m.assignment_epoch);
      wire(m.assignor_name);
      wire(m.members);
      wire(m.authorized_operations);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DescribedGroup> groups;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.groups);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
