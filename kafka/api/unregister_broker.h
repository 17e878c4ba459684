// UnregisterBroker (key 64): takes a broker that is gone off the cluster.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct UnregisterBrokerResponse;

struct UnregisterBrokerRequest final {
  static constexpr Api kApi{
      .key = 64, .name = "UnregisterBroker", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = UnregisterBrokerResponse;

  int32_t broker_id = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.broker_id);
    wire.Tags(m.unknown_tags);
  }
};

struct UnregisterBrokerResponse final {
  static constexpr Api kApi = UnregisterBrokerRequest::kApi;

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code);
    wire(m.error_message);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
