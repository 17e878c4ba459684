// LeaveGroup (key 13): takes members out of a group.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct LeaveGroupResponse;

struct LeaveGroupRequest final {
  static constexpr Api kApi{
      .key = 13, .name = "LeaveGroup", .oldest = 0, .newest = 5, .flexible = 4};
  using Response = LeaveGroupResponse;

  struct MemberIdentity {
    std::string_view member_id;
    std::optional<std::string_view> group_instance_id;
    std::optional<std::string_view> reason;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire(m.group_instance_id);
      wire(m.reason, {.since = 5, .ignorable = true});
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  std::string_view member_id;
  std::vector<MemberIdentity> members;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.member_id, {.last = 2});
    wire(m.members, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct LeaveGroupResponse final {
  static constexpr Api kApi = LeaveGroupRequest::kApi;

  struct MemberResponse {
    std::string_view member_id;
    std::optional<std::string_view> group_instance_id;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire(m.group_instance_id);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<MemberResponse> members;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.error_code);
    wire(m.members, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
