// SaslHandshake (key 17): which SASL mechanism the connection is to be authenticated with.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct SaslHandshakeResponse;

struct SaslHandshakeRequest final {
  // Version 0 goes on without frames of Kafka's.
  static constexpr Api kApi{.key = 17, .name = "SaslHandshake", .oldest = 0, .newest = 1};
  using Response = SaslHandshakeResponse;

  std::string_view mechanism;
  Strings strings;

  static void Fields(auto& wire, auto& m) { wire(m.mechanism); }
};

struct SaslHandshakeResponse final {
  static constexpr Api kApi = SaslHandshakeRequest::kApi;

  ErrorCode error_code = ErrorCode::kNone;
  std::vector<std::string_view> mechanisms;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.error_code);
    wire(m.mechanisms);
  }
};

}  // namespace holdfast::kafka
