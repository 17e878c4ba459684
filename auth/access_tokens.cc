#include "auth/access_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "auth/json_web_keys.h"

namespace holdfast::auth {
namespace {

using base::Code;
using nlohmann::json;

// Beyond it a number of seconds is no time, and its milliseconds would not fit.
constexpr double kSecondsMax = 1e12;

auto Refused(std::string why) { return base::Unexpected(Code::kInvalid, std::move(why)); }

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

// None if there is no such claim.
base::Result<std::optional<int64_t>> SecondsOf(const json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::optional<int64_t>();
  const double seconds = found->is_number() ? found->get<double>() : -1;
  if (seconds < 0 || seconds > kSecondsMax) return Refused(fmt::format("{} is not a time", name));
  return std::optional<int64_t>(static_cast<int64_t>(std::floor(seconds)));
}

// One text, or a list of them; none if there is no such claim.
base::Result<std::vector<std::string>> TextsOf(const json& claims, const std::string& name) {
  std::vector<std::string> texts;
  const auto found = claims.find(name);
  if (found == claims.end()) return texts;
  const auto take = [&](const json& each) -> base::Result<> {
    if (!each.is_string()) return Refused(fmt::format("{} is neither a text nor a list", name));
    texts.push_back(each.get<std::string>());
    return {};
  };
  // A claim is not copied: that goes as deep as its lists are nested.
  if (!found->is_array()) {
    HF_RETURN_IF_ERROR(take(*found));
  } else {
    for (const json& each : *found) HF_RETURN_IF_ERROR(take(each));
  }
  return texts;
}

base::Result<> CheckScopes(const json& claims, const std::string& name) {
  const auto found = claims.find(name);
  // As in Kafka, to which anything else is no scope.
  if (found == claims.end() || (!found->is_string() && !found->is_array())) return {};
  HF_ASSIGN_OR_RETURN(const auto scopes, TextsOf(claims, name));
  std::set<std::string> seen;
  for (const std::string& scope : scopes) {
    const std::string_view text = Trimmed(scope);
    if (text.empty()) return Refused(fmt::format("{} has an empty text", name));
    if (!seen.emplace(text).second) return Refused(fmt::format("{} has a text twice", name));
  }
  return {};
}

}  // namespace

base::Result<net::SaslTokens::Bearer> AccessTokens::Check(std::string_view token,
                                                          int64_t now_ms) const {
  HF_ASSIGN_OR_RETURN(const JsonWebToken parsed, JsonWebToken::Parse(token));
  if (!keys_) {
    if (parsed.algorithm != "none" || !parsed.signature.empty())
      return Refused("it is signed, and only unsecured tokens are taken here");
  } else {
    const auto keys = keys_->Get();
    const base::Result<> verified =
        keys ? keys->Verify(parsed)
             : base::Result<>(base::Unexpected(Code::kNotFound, "no keys were read yet"));
    if (!verified) {
      // Its issuer may have begun to use a new key.
      if (verified.error().code == Code::kNotFound) keys_->AskAnew();
      return base::Unexpected(verified.error());
    }
  }
  return CheckClaims(parsed.claims, now_ms);
}

base::Result<net::SaslTokens::Bearer> AccessTokens::CheckClaims(std::string_view text,
                                                                int64_t now_ms) const {
  const json claims = json::parse(text, nullptr, false);
  if (!claims.is_object()) return Refused("its claims are not a JSON object");

  HF_ASSIGN_OR_RETURN(const auto expires, SecondsOf(claims, "exp"));
  HF_ASSIGN_OR_RETURN(const auto issued, SecondsOf(claims, "iat"));
  HF_ASSIGN_OR_RETURN(const auto not_before, SecondsOf(claims, "nbf"));
  const int64_t now = now_ms / 1000;
  const int64_t skew = policy_.clock_skew_seconds;
  if (!expires) return Refused("it has no exp");
  if (!issued && keys_) return Refused("it has no iat");
  if (now - skew >= *expires) return Refused("it has expired");
  if (issued && *expires < *issued) return Refused("its exp is before its iat");
  if (not_before && *expires < *not_before) return Refused("its exp is before its nbf");
  if (not_before && now + skew < *not_before) return Refused("it is not valid yet");

  HF_ASSIGN_OR_RETURN(const auto audience, TextsOf(claims, "aud"));
  const bool expected = std::ranges::any_of(audience, [&](const std::string& each) {
    return std::ranges::find(policy_.expected_audience, each) != policy_.expected_audience.end();
  });
  // As in Kafka: a token that names whom it is for is not taken by somebody else.
  const bool anybody = !claims.contains("aud") && policy_.expected_audience.empty();
  if (!expected && !anybody) return Refused("its aud is not an expected_audience");
  if (!policy_.expected_issuer.empty()) {
    const auto issuer = claims.find("iss");
    if (issuer == claims.end() || *issuer != policy_.expected_issuer)
      return Refused("its iss is not the expected_issuer");
  }

  HF_RETURN_IF_ERROR(CheckScopes(claims, policy_.scope_claim_name));
  const auto subject = claims.find(policy_.sub_claim_name);
  std::string name;
  if (subject != claims.end() && subject->is_string())
    name = Trimmed(subject->get_ref<const std::string&>());
  if (name.empty()) return Refused(fmt::format("its {} is not a name", policy_.sub_claim_name));
  return Bearer{.name = std::move(name), .expires_at_ms = *expires * 1000};
}

}  // namespace holdfast::auth
