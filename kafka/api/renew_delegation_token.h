// RenewDelegationToken (key 39): lets a token live longer.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct RenewDelegationTokenResponse;

struct RenewDelegationTokenRequest final {
  static constexpr Api kApi{
      .key = 39, .name = "RenewDelegationToken", .oldest = 1, .newest = 2, .flexible = 2};
  using Response = RenewDelegationTokenResponse;

  std::string_view hmac;
  int64_t renew_period_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire.Bytes(m.hmac);
    wire(m.renew_period_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct RenewDelegationTokenResponse final {
  static constexpr Api kApi = RenewDelegationTokenRequest::kApi;

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
