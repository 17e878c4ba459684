#include "proxy/login.h"

#include <fmt/format.h>

#include <algorithm>

#include "auth/sasl_session.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/codec.h"
#include "proxy/tier.h"

namespace holdfast::proxy {
namespace {

using base::Code;

constexpr int16_t kHandshakeVersion = 1;
// With the session's lifetime (KIP-368), and without flexible fields.
constexpr int16_t kAuthenticateVersion = 1;

}  // namespace

base::Result<base::Buffer> Login::Begin(const net::SaslCredentials& credentials,
                                        int32_t correlation_id) {
  credentials_ = credentials;
  agreed_ = false;
  return kafka::EncodeRequest(
      kafka::SaslHandshakeRequest{.mechanism = net::SaslName(credentials_.mechanism)},
      kHandshakeVersion, correlation_id, kClientId);
}

base::Result<std::optional<base::Buffer>> Login::OnAnswer(std::string_view answer,
                                                          int32_t correlation_id) {
  const std::string_view mechanism = net::SaslName(credentials_.mechanism);
  if (!agreed_) {
    HF_ASSIGN_OR_RETURN(const auto handshake, kafka::DecodeResponse<kafka::SaslHandshakeResponse>(
                                                  answer, kHandshakeVersion));
    if (handshake.error_code != kafka::ErrorCode::kNone) {
      return base::Unexpected(Code::kInvalid,
                              fmt::format("SASL {}: {}; the broker takes {}", mechanism,
                                          kafka::ErrorName(handshake.error_code),
                                          fmt::join(handshake.mechanisms, ", ")));
    }
    agreed_ = true;
    HF_ASSIGN_OR_RETURN(client_, net::SaslClient::Make(credentials_));
    return Authenticate(client_->First(), correlation_id);
  }
  HF_ASSIGN_OR_RETURN(const auto response, kafka::DecodeResponse<kafka::SaslAuthenticateResponse>(
                                               answer, kAuthenticateVersion));
  if (response.error_code != kafka::ErrorCode::kNone) {
    return base::Unexpected(
        Code::kInvalid,
        fmt::format("SASL {}: {}: {}", mechanism, kafka::ErrorName(response.error_code),
                    response.error_message.value_or("no reason given")));
  }
  auto next = client_->Next(response.auth_bytes);
  if (!next) {
    return base::Unexpected(std::move(next).error().Within(fmt::format("SASL {}", mechanism)));
  }
  if (next->has_value()) return Authenticate(**next, correlation_id);
  client_.reset();
  session_lifetime_ =
      std::min(std::chrono::milliseconds(response.session_lifetime_ms), auth::kSessionLifetimeMax);
  return std::optional<base::Buffer>();
}

base::Result<base::Buffer> Login::Authenticate(std::string_view message, int32_t correlation_id) {
  return kafka::EncodeRequest(kafka::SaslAuthenticateRequest{.auth_bytes = message},
                              kAuthenticateVersion, correlation_id, kClientId);
}

}  // namespace holdfast::proxy
