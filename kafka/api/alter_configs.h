// AlterConfigs (key 33): sets all settings of topics and brokers anew.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AlterConfigsResponse;

struct AlterConfigsRequest final {
  static constexpr Api kApi{
      .key = 33, .name = "AlterConfigs", .oldest = 0, .newest = 2, .flexible = 2};
  using Response = AlterConfigsResponse;

  struct AlterConfigsResource {
    struct AlterableConfig {
      std::string_view name;
      std::optional<std::string_view> value;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.name);
        wire(m.value);
        wire.Tags(m.unknown_tags);
      }
    };

    int8_t resource_type = 0;
    std::string_view resource_name;
    std::vector<AlterableConfig> configs;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.resource_type);
      wire(m.resource_name);
      wire(m.configs);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<AlterConfigsResource> resources;
  bool validate_only = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.resources);
    wire(m.validate_only);
    wire.Tags(m.unknown_tags);
  }
};

struct AlterConfigsResponse final {
  static constexpr Api kApi = AlterConfigsRequest::kApi;

  struct AlterConfigsResourceResponse {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    int8_t resource_type = 0;
    std::string_view resource_name;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire(m.resource_type);
      wire(m.resource_name);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<AlterConfigsResourceResponse> responses;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.responses);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
