// SaslAuthenticate (key 36): one message of the SASL mechanism that was agreed on.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct SaslAuthenticateResponse;

struct SaslAuthenticateRequest final {
  static constexpr Api kApi{
      .key = 36, .name = "SaslAuthenticate", .oldest = 0, .newest = 2, .flexible = 2};
  using Response = SaslAuthenticateResponse;

  std::string_view auth_bytes;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire.Bytes(m.auth_bytes);
    wire.Tags(m.unknown_tags);
  }
};

struct SaslAuthenticateResponse final {
  static constexpr Api kApi = SaslAuthenticateRequest::kApi;

  ErrorCode error_code = ErrorCode::kNone;
  std::optional<std::string_view> error_message;
  std::string_view auth_bytes;
  int64_t session_lifetime_ms = 0;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.error_message);
    wire.Bytes(m.auth_bytes);
    wire(m.session_lifetime_ms, {.since = 1, .ignorable = true});
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
