// ListConfigResources (key 74): what there is that has settings.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ListConfigResourcesResponse;

struct ListConfigResourcesRequest final {
  static constexpr Api kApi{
      .key = 74, .name = "ListConfigResources", .oldest = 0, .newest = 1, .flexible = 0};
  using Response = ListConfigResourcesResponse;

  std::vector<int8_t> resource_types;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.resource_types, {.since = 1});
    wire.Tags(m.unknown_tags);
  }
};

struct ListConfigResourcesResponse final {
  static constexpr Api kApi = ListConfigResourcesRequest::kApi;

  struct ConfigResource {
    std::string_view resource_name;
    int8_t resource_type = 16;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.resource_name);
      wire(m.resource_type, {.since = 1});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<ConfigResource> config_resources;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.config_resources);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
