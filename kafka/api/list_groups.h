// ListGroups (key 16): the groups that a broker coordinates.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ListGroupsResponse;

struct ListGroupsRequest final {
  static constexpr Api kApi{
      .key = 16, .name = "ListGroups", .oldest = 0, .newest = 5, .flexible = 3};
  using Response = ListGroupsResponse;

  std::vector<std::string_view> states_filter;
  std::vector<std::string_view> types_filter;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.states_filter, {.since = 4});
    wire(m.types_filter, {.since = 5});
    wire.Tags(m.unknown_tags);
  }
};

struct ListGroupsResponse final {
  static constexpr Api kApi = ListGroupsRequest::kApi;

  struct ListedGroup {
    std::string_view group_id;
    std::string_view protocol_type;
    std::string_view group_state;
    std::string_view group_type;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.group_id);
      wire(m.protocol_type);
      wire(m.group_state, {.since = 4});
      wire(m.group_type, {.since = 5});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<ListedGroup> groups;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms, {.since = 1});
    wire(m.error_code);
    wire(m.groups);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
