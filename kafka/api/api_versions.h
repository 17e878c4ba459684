// ApiVersions (key 18): which requests, in which versions, the other side serves. The response's
// header is v0 always.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ApiVersionsResponse;

struct ApiVersionsRequest final {
  static constexpr Api kApi{
      .key = 18, .name = "ApiVersions", .oldest = 0, .newest = 4, .flexible = 3};
  using Response = ApiVersionsResponse;

  std::string_view client_software_name;
  std::string_view client_software_version;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.client_software_name, {.since = 3, .ignorable = true});
    wire(m.client_software_version, {.since = 3, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

struct ApiVersionsResponse final {
  static constexpr Api kApi = ApiVersionsRequest::kApi;

  struct ApiVersion {
    int16_t api_key = 0;
    int16_t min_version = 0;
    int16_t max_version = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.api_key);
      wire(m.min_version);
      wire(m.max_version);
      wire.Tags(m.unknown_tags);
    }
  };

  struct SupportedFeatureKey {
    std::string_view name;
    int16_t min_version = 0;
    int16_t max_version = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.min_version);
      wire(m.max_version);
      wire.Tags(m.unknown_tags);
    }
  };

  struct FinalizedFeatureKey {
    std::string_view name;
    int16_t max_version_level = 0;
    int16_t min_version_level = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.max_version_level);
      wire(m.min_version_level);
      wire.Tags(m.unknown_tags);
    }
  };

  ErrorCode error_code = ErrorCode::kNone;
  std::vector<ApiVersion> api_keys;
  int32_t throttle_time_ms = 0;
  std::vector<SupportedFeatureKey> supported_features;
  int64_t finalized_features_epoch = -1;
  std::vector<FinalizedFeatureKey> finalized_features;
  bool zk_migration_ready = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.api_keys);
    wire(m.throttle_time_ms, {.since = 1});
    wire.Tags(m.unknown_tags, Tag(0, m.supported_features), Tag(1, m.finalized_features_epoch),
              Tag(2, m.finalized_features), Tag(3, m.zk_migration_ready));
  }
};

}  // namespace holdfast::kafka
