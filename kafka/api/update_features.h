// UpdateFeatures (key 57): changes the versions of features that a cluster has agreed on.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct UpdateFeaturesResponse;

struct UpdateFeaturesRequest final {
  static constexpr Api kApi{
      .key = 57, .name = "UpdateFeatures", .oldest = 0, .newest = 2, .flexible = 0};
  using Response = UpdateFeaturesResponse;

  struct FeatureUpdateKey {
    std::string_view feature;
    int16_t max_version_level = 0;
    bool allow_downgrade = false;
    int8_t upgrade_type = 1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.feature);
      wire(m.max_version_level);
      wire(m.allow_downgrade, {.last = 0});
      wire(m.upgrade_type, {.since = 1});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t timeout_ms = 60000;
  std::vector<FeatureUpdateKey> feature_updates;
  bool validate_only = false;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.timeout_ms);
    wire(m.feature_updates);
    wire(m.validate_only, {.since = 1});
    wire.Tags(m.unknown_tags);
  }
};

struct UpdateFeaturesResponse final {
  static constexpr Api kApi = UpdateFeaturesRequest::kApi;

  struct UpdatableFeatureResult {
    std::string_view feature;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.feature);
      wire(m.error_code);
      wire(m.error_message);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::vector<UpdatableFeatureResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire(m.results, {.last = 1, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
