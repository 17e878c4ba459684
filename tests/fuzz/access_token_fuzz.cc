// What clients show before anybody knows them, and what is read to judge it. The first byte says
// what the rest is: 0 a message of OAUTHBEARER, 1 the claims of a token, 2 a set of keys, 3 a
// subject under a rule for it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "auth/access_tokens.h"
#include "auth/json_web_keys.h"
#include "auth/principal_mapping.h"
#include "base/check.h"
#include "base/log.h"
#include "net/sasl.h"

namespace {

using namespace holdfast;

constexpr int64_t kNowMs = 1'700'000'000'000;

std::string Base64Url(std::string_view bytes) {
  constexpr std::string_view kFigures =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (held += 8; held >= 6; held -= 6) text.push_back(kFigures[bits >> (held - 6) & 63]);
  }
  if (held > 0) text.push_back(kFigures[bits << (6 - held) & 63]);
  return text;
}

// Who gets in has a name, and a token that has not ended long ago.
void CheckBearer(const base::Result<net::SaslTokens::Bearer>& bearer) {
  if (!bearer) return;
  HF_CHECK(!bearer->name.empty());
  HF_CHECK(bearer->expires_at_ms > kNowMs - 31'000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::SetLogLevel(base::LogLevel::kError);
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto tokens = std::make_shared<auth::AccessTokens>(auth::AccessTokenPolicy{});
  switch (data[0] % 4) {
    case 0: {
      const auto server = net::SaslServer::Make(tokens);
      const auto step = server->Next(input);
      if (step && step->done) HF_CHECK(!server->user().empty());
      CheckBearer(tokens->Check(input, kNowMs));
      break;
    }
    case 1:
      CheckBearer(
          tokens->Check(Base64Url(R"({"alg":"none"})") + "." + Base64Url(input) + ".", kNowMs));
      break;
    case 2: {
      const auto keys = auth::JsonWebKeys::Parse(input);
      if (keys) HF_CHECK((*keys)->size() > 0);
      break;
    }
    default: {
      const size_t end = std::min(input.find('\n'), input.size());
      const auto mapping = auth::PrincipalMapping::Parse(input.substr(0, end));
      if (mapping) (void)(*mapping)->NameOf(input.substr(std::min(end + 1, input.size())));
    }
  }
  return 0;
}
