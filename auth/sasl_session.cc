#include "auth/sasl_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace holdfast::auth {

using kafka::ErrorCode;

namespace {
constexpr std::string_view kUser = "User:";
}

kafka::SaslHandshakeResponse SaslSession::Handshake(const SaslPolicy& policy,
                                                    std::string_view mechanism) {
  kafka::SaslHandshakeResponse response;
  for (const net::SaslMechanism offered : policy.mechanisms)
    response.mechanisms.push_back(net::SaslName(offered));
  exchange_.reset();
  wrong_mechanism_.clear();
  const auto known = net::ParseSaslMechanism(mechanism);
  if (!known || std::ranges::find(policy.mechanisms, *known) == policy.mechanisms.end()) {
    response.error_code = ErrorCode::kUnsupportedSaslMechanism;
  } else if (authenticated() && *known != mechanism_) {
    // As in Kafka: the client hears of it when it goes on.
    wrong_mechanism_ = fmt::format(
        "SASL mechanism '{}' requested by client is not supported for re-authentication of "
        "mechanism '{}'",
        mechanism, net::SaslName(mechanism_));
  } else {
    mechanism_ = *known;
    exchange_ = *known == net::SaslMechanism::kOauthBearer
                    ? net::SaslServer::Make(policy.tokens)
                    : net::SaslServer::Make(*known, policy.users);
  }
  return response;
}

SaslSession::Outcome SaslSession::Authenticate(std::string_view message,
                                               kafka::SaslAuthenticateResponse* response) {
  if (!under_way()) {
    response->error_code = ErrorCode::kIllegalSaslState;
    response->error_message = "SaslHandshake has to come first";
    return Outcome::kGoesOn;
  }
  const auto refuse = [&](std::string why) {
    answer_ = std::move(why);
    exchange_.reset();
    wrong_mechanism_.clear();
    principal_.clear();
    response->error_code = ErrorCode::kSaslAuthenticationFailed;
    response->error_message = answer_;
    return Outcome::kRefused;
  };
  if (!exchange_) return refuse(wrong_mechanism_);
  auto step = exchange_->Next(message);
  if (!step) return refuse(std::move(step).error().message);
  if (step->done && authenticated() && principal_.substr(kUser.size()) != exchange_->user()) {
    return refuse(
        fmt::format("Cannot change principals during re-authentication from User.{}: User.{}",
                    principal_.substr(kUser.size()), exchange_->user()));
  }
  answer_ = std::move(step->answer);
  response->auth_bytes = answer_;
  response->error_message = "";  // As in Kafka, rather than null.
  if (!step->done) return Outcome::kGoesOn;
  principal_ = std::string(kUser) + exchange_->user();
  expires_at_ms_ = exchange_->expires_at_ms();
  exchange_.reset();
  return Outcome::kAuthenticated;
}

std::optional<std::chrono::milliseconds> SaslSession::Lifetime(int64_t now_ms,
                                                               base::Duration limit) const {
  std::optional<std::chrono::milliseconds> lifetime;
  if (limit > base::Duration::zero())
    lifetime = std::chrono::duration_cast<std::chrono::milliseconds>(limit);
  if (expires_at_ms_) {
    const std::chrono::milliseconds left(std::max<int64_t>(*expires_at_ms_ - now_ms, 0));
    lifetime = std::min({lifetime.value_or(left), left, kSessionLifetimeMax});
  }
  return lifetime;
}

}  // namespace holdfast::auth
