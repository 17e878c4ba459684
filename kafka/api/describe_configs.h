// DescribeConfigs (key 32): settings of topics and brokers, and where each comes from.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeConfigsResponse;

struct DescribeConfigsRequest final {
  static constexpr Api kApi{
      .key = 32, .name = "DescribeConfigs", .oldest = 1, .newest = 4, .flexible = 4};
  using Response = DescribeConfigsResponse;

  struct DescribeConfigsResource {
    int8_t resource_type = 0;
    std::string_view resource_name;
    std::optional<std::vector<std::string_view>> configuration_keys;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.resource_type);
      wire(m.resource_name);
      wire(m.configuration_keys);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<DescribeConfigsResource> resources;
  bool include_synonyms = false;
  bool include_documentation = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.resources);
    wire(m.include_synonyms);
    wire(m.include_documentation, {.since = 3});
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeConfigsResponse final {
  static constexpr Api kApi = DescribeConfigsRequest::kApi;

  struct DescribeConfigsSynonym {
    std::string_view name;
    std::optional<std::string_view> value;
    int8_t source = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.value);
      wire(m.source);
      wire.Tags(m.unknown_tags);
    }
  };

  struct DescribeConfigsResourceResult {
    std::string_view name;
    std::optional<std::string_view> value;
    bool read_only = false;
    int8_t config_source = -1;
    bool is_sensitive = false;
    std::vector<DescribeConfigsSynonym> synonyms;
    int8_t config_type = 0;
    std::optional<std::string_view> documentation;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.value);
      wire(m.read_only);
      wire(m.config_source);
      wire(m.is_sensitive);
      wire(m.synonyms);
      wire(m.config_type, {.since = 3});
      wire(m.documentation, {.since = 3});
      wire.Tags(m.unknown_tags);
    }
  };

  struct DescribeConfigsResult {
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    int8_t resource_type = 0;
    std::string_view resource_name;
    std::vector<DescribeConfigsResourceResult> configs;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.error_message);
      wire(m.resource_type);
      wire(m.resource_name);
      wire(m.configs);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<DescribeConfigsResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
