// CreateAcls (key 30): adds access rules.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct CreateAclsResponse;

struct CreateAclsRequest final {
  static constexpr Api kApi{
      .key = 30, .name = "CreateAcls", .oldest = 1, .newest = 3, .flexible = 2};
  using Response = CreateAclsResponse;

  struct AclCreation {
    int8_t resource_type = 0;
    std::string_view resource_name;
    int8_t resource_pattern_type = 3;
    std::string_view principal;
    std::string_view host;
    int8_t operation = 0;
    int8_t permission_type = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.resource_type);
      wire(m.resource_name);
      wire(m.resource_pattern_type);
      wire(m.principal);
      wire(m.host);
      wire(m.operation);
      wire(m.permission_type);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<AclCreation> creations;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.creations);
    wire.Tags(m.unknown_tags);
  }
};

struct CreateAclsResponse final {
  static constexpr Api kApi = CreateAclsRequest::kApi;

  struct AclCreationResult {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<AclCreationResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
