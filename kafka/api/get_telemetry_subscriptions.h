// GetTelemetrySubscriptions (key 71): which of its own metrics a client is asked to push.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct GetTelemetrySubscriptionsResponse;

struct GetTelemetrySubscriptionsRequest final {
  static constexpr Api kApi{
      .key = 71, .name = "GetTelemetrySubscriptions", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = GetTelemetrySubscriptionsResponse;

  Uuid client_instance_id;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.client_instance_id);
    wire.Tags(m.unknown_tags);
  }
};

struct GetTelemetrySubscriptionsResponse final {
  static constexpr Api kApi = GetTelemetrySubscriptionsRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  Uuid client_instance_id;
  int32_t subscription_id = 0;
  std::vector<int8_t> accepted_compression_types;
  int32_t push_interval_ms = 0;
  int32_t telemetry_max_bytes = 0;
  bool delta_temporality = false;
  std::vector<std::string_view> requested_metrics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.client_instance_id);
    wire(m.subscription_id);
    wire(m.accepted_compression_types);
    wire(m.push_interval_ms);
    wire(m.telemetry_max_bytes);
    wire(m.delta_temporality);
    wire(m.requested_metrics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
