// DescribeGroups (key 15): state and members of groups.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeGroupsResponse;

struct DescribeGroupsRequest final {
  static constexpr Api kApi{
      .key = 15, .name = "DescribeGroups", .oldest = 0, .newest = 6, .flexible = 5};
  using Response = DescribeGroupsResponse;

  std::vector<std::string_view> groups;
  bool include_authorized_operations = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.groups);
    wire(m.include_authorized_operations, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeGroupsResponse final {
  static constexpr Api kApi = DescribeGroupsRequest::kApi;

  struct DescribedGroupMember {
    std::string_view member_id;
    std::optional<std::string_view> group_instance_id;
    std::string_view client_id;
    std::string_view client_host;
    std::string_view member_metadata;
    std::string_view member_assignment;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire(m.group_instance_id, {.since = 4});
      wire(m.client_id);
      wire(m.client_host);
      wire.Bytes(m.member_metadata);
      wire.Bytes(m.member_assignment);
      wire.Tags(m.unknown_tags);
    }
  };

  struct DescribedGroup {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::string_view group_id;
    std::string_view group_state;
    std::string_view protocol_type;
    std::string_view protocol_data;
    std::vector<DescribedGroupMember> members;
    int32_t authorized_operations = std::numeric_limits<int32_t>::min();
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message, {.since = 6});
      wire(m.group_id);
      wire(m.group_state);
      wire(m.protocol_type);
      wire(m.protocol_data);
      wire(m.members);
      wire(m.authorized_operations, {.since = 3});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DescribedGroup> groups;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.groups);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
