#include "proxy/tier_security.h"

#include <fmt/format.h>

#include "net/distinguished_name.h"

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

std::string CertificatePrincipal(const net::TlsContext& shown) {
  const auto subject = shown.Subject();
  if (!subject) return "nobody";
  std::string principal;
  // No subject begins as they do.
  for (const std::string& uri : net::UrisOf(shown)) principal += " " + Measured(uri);
  if (!subject->empty()) principal += " " + *subject;
  return principal.empty() ? "" : "certificate" + principal;
}

}  // namespace

std::string PrincipalOf(const TierIdentity& identity) {
  if (identity.sasl) {
    if (identity.sasl->mechanism == net::SaslMechanism::kOauthBearer)
      return TokenPrincipal(*identity.sasl);
    return fmt::format("{} {}", net::SaslName(identity.sasl->mechanism), identity.sasl->username);
  }
  return identity.tls ? CertificatePrincipal(*identity.tls->context()) : "nobody";
}

}  // namespace holdfast::proxy
