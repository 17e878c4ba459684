// ExpireDelegationToken (key 40): lets a token end.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ExpireDelegationTokenResponse;

struct ExpireDelegationTokenRequest final {
  static constexpr Api kApi{
      .key = 40, .name = "ExpireDelegationToken", .oldest = 1, .newest = 2, .flexible = 2};
  using Response = ExpireDelegationTokenResponse;

  std::string_view hmac;
  int64_t expiry_time_period_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire.Bytes(m.hmac);
    wire(m.expiry_time_period_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct ExpireDelegationTokenResponse final {
  static constexpr Api kApi = ExpireDelegationTokenRequest::kApi;

  ErrorCode error_code = ErrorCode::kNone;
  int64_t expiry_timestamp_ms = 0;
  int32_t throttle_time_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.expiry_timestamp_ms);
    wire(m.throttle_time_ms);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
