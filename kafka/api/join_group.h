// JoinGroup (key 11): makes the sender a member of the group's next generation.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct JoinGroupResponse;

struct JoinGroupRequest final {
  static constexpr Api kApi{
      .key = 11, .name = "JoinGroup", .oldest = 0, .newest = 9, .flexible = 6};
  using Response = JoinGroupResponse;

  struct JoinGroupRequestProtocol {
    std::string_view name;
    std::string_view metadata;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire.Bytes(m.metadata);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  int32_t session_timeout_ms = 0;
  int32_t rebalance_timeout_ms = -1;
  std::string_view member_id;
  std::optional<std::string_view> group_instance_id;
  std::string_view protocol_type;
  std::vector<JoinGroupRequestProtocol> protocols;
  std::optional<std::string_view> reason;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.session_timeout_ms);
    wire(m.rebalance_timeout_ms, {.since = 1, .ignorable = true});
    wire(m.member_id);
    wire(m.group_instance_id, {.since = 5});
    wire(m.protocol_type);
    wire(m.protocols);
    wire(m.reason, {.since = 8, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

struct JoinGroupResponse final {
  static constexpr Api kApi = JoinGroupRequest::kApi;

  struct JoinGroupResponseMember {
    std::string_view member_id;
    std::optional<std::string_view> group_instance_id;
    std::string_view metadata;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire(m.group_instance_id, {.since = 5});
      wire.Bytes(m.metadata);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  int32_t generation_id = -1;
  std::optional<std::string_view> protocol_type;
  std::optional<std::string_view> protocol_name;
  std::string_view leader;
  bool skip_assignment = false;
  std::string_view member_id;
  std::vector<JoinGroupResponseMember> members;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 2});
    wire(m.error_code);
    wire(m.generation_id);
    wire(m.protocol_type, {.since = 7});
    wire(m.protocol_name, {.nullable_since = 7});
    wire(m.leader);
    wire(m.skip_assignment, {.since = 9});
    wire(m.member_id);
    wire(m.members);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
