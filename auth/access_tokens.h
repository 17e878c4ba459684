// Which bearer tokens (JSON Web Tokens, RFC 7519) a listener takes, and whom they name: by Apache
// Kafka's rules and under its names for them (sasl.oauthbearer.*).
//
// A token is signed with one of the issuer's keys; `exp` is later than now and `nbf` is not, give
// or take the clock skew; `iat` is there and not after `exp`; the issuer is the one that is
// expected, if one is; one of `aud` is expected, if the token has any or one is expected; scopes,
// if there are, are named once each; and the subject is there, which is the name.
//
// The unsecured ones are for tests: whoever makes one is whom it names. They are not signed
// ("alg":"none"), need no `iat`, and the rest holds for them, too.
//
// Threads: any; immutable but for the keys, which PublishedKeys exchanges.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "auth/published_keys.h"
#include "base/result.h"
#include "net/sasl.h"

namespace holdfast::auth {

struct AccessTokenPolicy {
  std::vector<std::string> expected_audience = {};
  std::string expected_issuer = {};  // Empty: any.
  int64_t clock_skew_seconds = 30;
  std::string scope_claim_name = "scope";
  std::string sub_claim_name = "sub";
};

class AccessTokens final : public net::SaslTokens {
 public:
  // Signed ones.
  AccessTokens(AccessTokenPolicy policy, std::shared_ptr<PublishedKeys> keys)
      : policy_(std::move(policy)), keys_(std::move(keys)) {}
  // Unsecured ones.
  explicit AccessTokens(AccessTokenPolicy policy) : policy_(std::move(policy)) {}

  [[nodiscard]] base::Result<Bearer> Check(std::string_view token, int64_t now_ms) const override;

 private:
  [[nodiscard]] base::Result<Bearer> CheckClaims(std::string_view claims, int64_t now_ms) const;

  const AccessTokenPolicy policy_;
  const std::shared_ptr<PublishedKeys> keys_ = nullptr;
};

}  // namespace holdfast::auth
