#include "auth/sasl_session.h"

#include <algorithm>

namespace holdfast::auth {

using kafka::ErrorCode;

kafka::SaslHandshakeResponse SaslSession::Handshake(const SaslPolicy& policy,
                                                    std::string_view mechanism) {
  kafka::SaslHandshakeResponse response;
  for (const net::SaslMechanism offered : policy.mechanisms)
    response.mechanisms.push_back(net::SaslName(offered));
  const auto known = net::ParseSaslMechanism(mechanism);
  if (!known || std::ranges::find(policy.mechanisms, *known) == policy.mechanisms.end()) {
    response.error_code = ErrorCode::kUnsupportedSaslMechanism;
    exchange_.reset();
  } else {
    exchange_ = net::SaslServer::Make(*known, policy.users);
  }
  return response;
}

SaslSession::Outcome SaslSession::Authenticate(std::string_view message,
                                               kafka::SaslAuthenticateResponse* response) {
  if (!exchange_) {
    response->error_code = ErrorCode::kIllegalSaslState;
    response->error_message = "SaslHandshake has to come first";
    return Outcome::kGoesOn;
  }
  auto step = exchange_->Next(message);
  answer_ = step ? step->answer : step.error().message;
  // As in Kafka: who authenticates itself again must be who it was.
  if (step && step->done && authenticated() && principal_ != "User:" + exchange_->user()) {
    step = base::Unexpected(base::Code::kInvalid, "the user of a connection cannot change");
    answer_ = step.error().message;
  }
  if (!step) {
    exchange_.reset();
    principal_.clear();
    response->error_code = ErrorCode::kSaslAuthenticationFailed;
    response->error_message = answer_;
    return Outcome::kRefused;
  }
  response->auth_bytes = answer_;
  if (!step->done) return Outcome::kGoesOn;
  principal_ = "User:" + exchange_->user();
  exchange_.reset();
  return Outcome::kAuthenticated;
}

}  // namespace holdfast::auth
