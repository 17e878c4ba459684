// Heartbeat (key 12): keeps a group member alive and tells it of a rebalance.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct HeartbeatResponse;

struct HeartbeatRequest final {
  static constexpr Api kApi{
      .key = 12, .name = "Heartbeat", .oldest = 0, .newest = 4, .flexible = 4};
  using Response = HeartbeatResponse;

  std::string_view group_id;
  int32_t generation_id = 0;
  std::string_view member_id;
  std::optional<std::string_view> group_instance_id;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.group_id);
    wire(m.generation_id);
    wire(m.member_id);
    wire(m.group_instance_id, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct HeartbeatResponse final {
  static constexpr Api kApi = HeartbeatRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.error_code);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
