// PushTelemetry (key 72): a client's own metrics, as GetTelemetrySubscriptions asked for them.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct PushTelemetryResponse;

struct PushTelemetryRequest final {
  static constexpr Api kApi{
      .key = 72, .name = "PushTelemetry", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = PushTelemetryResponse;

  Uuid client_instance_id;
  int32_t subscription_id = 0;
  bool terminating = false;
  int8_t compression_type = 0;
  std::string_view metrics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.client_instance_id);
    wire(m.subscription_id);
    wire(m.terminating);
    wire(m.compression_type);
    wire.Bytes(m.metrics);
    wire.Tags(m.unknown_tags);
  }
};

struct PushTelemetryResponse final {
  static constexpr Api kApi = PushTelemetryRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
