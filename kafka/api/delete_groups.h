// DeleteGroups (key 42): forgets empty groups and their offsets.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DeleteGroupsResponse;

struct DeleteGroupsRequest final {
  static constexpr Api kApi{
      .key = 42, .name = "DeleteGroups", .oldest = 0, .newest = 2, .flexible = 2};
  using Response = DeleteGroupsResponse;

  std::vector<std::string_view> groups_names;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.groups_names);
    wire.Tags(m.unknown_tags);
  }
};

struct DeleteGroupsResponse final {
  static constexpr Api kApi = DeleteGroupsRequest::kApi;

  struct DeletableGroupResult {
    std::string_view group_id;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.group_id);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DeletableGroupResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
