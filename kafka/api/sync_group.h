// SyncGroup (key 14): takes the leader's assignment, gives each member its own.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct SyncGroupResponse;

struct SyncGroupRequest final {
  static constexpr Api kApi{
      .key = 14, .name = "SyncGroup", .oldest = 0, .newest = 5, .flexible = 4};
  using Response = SyncGroupResponse;

  struct SyncGroupRequestAssignment {
    std::string_view member_id;
    std::string_view assignment;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.member_id);
      wire.Bytes(m.assignment);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view group_id;
  int32_t generation_id = 0;
  std::string_view member_id;
  std::optional<std::string_view> group_instance_id;
  std::optional<std::string_view> protocol_type;
  std::optional<std::string_view> protocol_name;
  std::vector<SyncGroupRequestAssignment> assignments;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.generation_id);
    wire(m.member_id);
    wire(m.group_instance_id, {.since = 3});
    wire(m.protocol_type, {.since = 5, .ignorable = true});
    wire(m.protocol_name, {.since = 5, .ignorable = true});
    wire(m.assignments);
    wire.Tags(m.unknown_tags);
  }
};

struct SyncGroupResponse final {
  static constexpr Api kApi = SyncGroupRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> protocol_type;
  std::optional<std::string_view> protocol_name;
  std::string_view assignment;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.error_code);
    wire(m.protocol_type, {.since = 5});
    wire(m.protocol_name, {.since = 5});
    wire.Bytes(m.assignment);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
