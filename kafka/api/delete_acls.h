// DeleteAcls (key 31): takes access rules away, all that one of the filters fits.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DeleteAclsResponse;

struct DeleteAclsRequest final {
  static constexpr Api kApi{
      .key = 31, .name = "DeleteAcls", .oldest = 1, .newest = 3, .flexible = 2};
  using Response = DeleteAclsResponse;

  struct DeleteAclsFilter {
    int8_t resource_type_filter = 0;
    std::optional<std::string_view> resource_name_filter;
    int8_t pattern_type_filter = 3;
    std::optional<std::string_view> principal_filter;
    std::optional<std::string_view> host_filter;
    int8_t operation = 0;
    int8_t permission_type = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.resource_type_filter);
      wire(m.resource_name_filter);
      wire(m.pattern_type_filter);
      wire(m.principal_filter);
      wire(m.host_filter);
      wire(m.operation);
      wire(m.permission_type);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<DeleteAclsFilter> filters;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.filters);
    wire.Tags(m.unknown_tags);
  }
};

struct DeleteAclsResponse final {
  static constexpr Api kApi = DeleteAclsRequest::kApi;

  struct DeleteAclsFilterResult {
    struct DeleteAclsMatchingAcl {
      ErrorCode error_code = ErrorCode::kNone;
      std::optional<std::string_view> error_message;
      int8_t resource_type = 0;
      std::string_view resource_name;
      int8_t pattern_type = 3;
      std::string_view principal;
      std::string_view host;
      int8_t operation = 0;
      int8_t permission_type = 0;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.error_code);
        wire(m.error_message);
        wire(m.resource_type);
        wire(m.resource_name);
        wire(m.pattern_type);
        wire(m.principal);
        wire(m.host);
        wire(m.operation);
        wire(m.permission_type);
        wire.Tags(m.unknown_tags);
      }
    };

    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::vector<DeleteAclsMatchingAcl> matching_acls;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire(m.matching_acls);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DeleteAclsFilterResult> filter_results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.filter_results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
