#include "proxy/tier_security.h"

#include <fmt/format.h>

namespace holdfast::proxy {
namespace {

// Names may hold anything: with its length in front no text is that of another one.
std::string Measured(const std::string& text) { return fmt::format("{}:{}", text.size(), text); }

std::string TokenPrincipal(const net::SaslCredentials& credentials) {
  const auto name = net::ReadTokenName(credentials.token_file);
  if (!name) return {};
  std::string principal = fmt::format("{} {} of {}", net::SaslName(credentials.mechanism),
                                      Measured(name->subject), Measured(name->issuer));
  // They may choose among the rights of one subject.
  for (const auto& [key, value] : credentials.extensions)
    principal += fmt::format(" {}={}", Measured(key), Measured(value));
  return principal;
}

}  // namespace

std::string PrincipalOf(const TierIdentity& identity) {
  if (identity.sasl) {
    if (identity.sasl->mechanism == net::SaslMechanism::kOauthBearer)
      return TokenPrincipal(*identity.sasl);
    return fmt::format("{} {}", net::SaslName(identity.sasl->mechanism), identity.sasl->username);
  }
  const auto subject = identity.tls ? identity.tls->context()->Subject() : std::nullopt;
  if (!subject) return "nobody";
  // The names of one without a subject stand elsewhere, as in SPIFFE's.
  return subject->empty() ? "" : "certificate " + *subject;
}

}  // namespace holdfast::proxy
