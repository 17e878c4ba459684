#include "auth/json_web_keys.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace holdfast::auth {
namespace {

using base::Code;
using nlohmann::json;

constexpr int kRsaBitsMin = 2048;

struct Free {
  void operator()(EVP_PKEY* it) const { EVP_PKEY_free(it); }
  void operator()(EVP_PKEY_CTX* it) const { EVP_PKEY_CTX_free(it); }
  void operator()(EVP_MD_CTX* it) const { EVP_MD_CTX_free(it); }
  void operator()(BIGNUM* it) const { BN_free(it); }
  void operator()(OSSL_PARAM_BLD* it) const { OSSL_PARAM_BLD_free(it); }
  void operator()(OSSL_PARAM* it) const { OSSL_PARAM_free(it); }
  void operator()(ECDSA_SIG* it) const { ECDSA_SIG_free(it); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

enum class Kind : uint8_t { kRsa, kRsaPss, kEc };

struct Algorithm {
  std::string_view name;
  Kind kind;
  const EVP_MD* (*hash)();
  std::string_view curve;  // As keys name it.
  size_t coordinate_bytes;
};
constexpr std::array<Algorithm, 9> kAlgorithms{{
    {"RS256", Kind::kRsa, EVP_sha256, "", 0},
    {"RS384", Kind::kRsa, EVP_sha384, "", 0},
    {"RS512", Kind::kRsa, EVP_sha512, "", 0},
    {"PS256", Kind::kRsaPss, EVP_sha256, "", 0},
    {"PS384", Kind::kRsaPss, EVP_sha384, "", 0},
    {"PS512", Kind::kRsaPss, EVP_sha512, "", 0},
    {"ES256", Kind::kEc, EVP_sha256, "P-256", 32},
    {"ES384", Kind::kEc, EVP_sha384, "P-384", 48},
    {"ES512", Kind::kEc, EVP_sha512, "P-521", 66},
}};

const Algorithm* FindAlgorithm(std::string_view name) {
  const auto* const found = std::ranges::find(kAlgorithms, name, &Algorithm::name);
  return found == kAlgorithms.end() ? nullptr : found;
}

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// Without padding, as JOSE has it.
std::optional<std::string> DecodeBase64Url(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size() * 3 / 4);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      value = static_cast<uint32_t>(c - '0') + 52;
    } else if (c == '-' || c == '_') {
      value = c == '-' ? 62 : 63;
    } else {
      return std::nullopt;
    }
    bits = bits << 6 | value;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    decoded.push_back(static_cast<char>(bits >> held & 0xff));
  }
  if (text.size() % 4 == 1 || (bits & ((1u << held) - 1)) != 0) return std::nullopt;
  return decoded;
}

// Empty if it is not there, or no text.
std::string TextOf(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

Owned<BIGNUM> NumberOf(const json& key, const char* name) {
  const auto bytes = DecodeBase64Url(TextOf(key, name));
  if (!bytes || bytes->empty()) return nullptr;
  return Owned<BIGNUM>(BN_bin2bn(Bytes(*bytes), static_cast<int>(bytes->size()), nullptr));
}

Owned<EVP_PKEY> MakeKey(const char* type, OSSL_PARAM_BLD* from) {
  const Owned<OSSL_PARAM> parameters(OSSL_PARAM_BLD_to_param(from));
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* made = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    return nullptr;
  }
  Owned<EVP_PKEY> key(made);
  const Owned<EVP_PKEY_CTX> check(EVP_PKEY_CTX_new_from_pkey(nullptr, made, nullptr));
  const bool good = check && EVP_PKEY_public_check(check.get()) == 1;
  return good ? std::move(key) : nullptr;
}

Owned<EVP_PKEY> RsaKeyOf(const json& key) {
  const Owned<BIGNUM> modulus = NumberOf(key, "n");
  const Owned<BIGNUM> exponent = NumberOf(key, "e");
  if (!modulus || !exponent || BN_num_bits(modulus.get()) < kRsaBitsMin) return nullptr;
  const Owned<OSSL_PARAM_BLD> parameters(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(parameters.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(parameters.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  return MakeKey("RSA", parameters.get());
}

Owned<EVP_PKEY> EcKeyOf(const json& key, const Algorithm& algorithm) {
  const auto x = DecodeBase64Url(TextOf(key, "x"));
  const auto y = DecodeBase64Url(TextOf(key, "y"));
  if (!x || !y || x->size() != algorithm.coordinate_bytes ||
      y->size() != algorithm.coordinate_bytes) {
    return nullptr;
  }
  const std::string point = "\x04" + *x + *y;
  const std::string curve(algorithm.curve);
  const Owned<OSSL_PARAM_BLD> parameters(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(parameters.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.data(),
                                  curve.size());
  OSSL_PARAM_BLD_push_octet_string(parameters.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return MakeKey("EC", parameters.get());
}

// JOSE has the two numbers of fixed size, OpenSSL wants them in DER.
std::optional<std::string> DerSignature(std::string_view signature, size_t coordinate_bytes) {
  if (signature.size() != 2 * coordinate_bytes) return std::nullopt;
  const int size = static_cast<int>(coordinate_bytes);
  const Owned<ECDSA_SIG> both(ECDSA_SIG_new());
  BIGNUM* const r = BN_bin2bn(Bytes(signature), size, nullptr);
  BIGNUM* const s = BN_bin2bn(Bytes(signature) + size, size, nullptr);
  if (ECDSA_SIG_set0(both.get(), r, s) != 1) return std::nullopt;
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(both.get(), &der);
  if (length <= 0) return std::nullopt;
  std::string made(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return made;
}

bool IsSignedBy(EVP_PKEY* key, const Algorithm& algorithm, std::string_view text,
                std::string_view signature) {
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* of_key = nullptr;
  if (EVP_DigestVerifyInit(context.get(), &of_key, algorithm.hash(), nullptr, key) != 1)
    return false;
  if (algorithm.kind == Kind::kRsaPss &&
      (EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING) <= 0 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, RSA_PSS_SALTLEN_DIGEST) <= 0)) {
    return false;
  }
  const bool right = EVP_DigestVerify(context.get(), Bytes(signature), signature.size(),
                                      Bytes(text), text.size()) == 1;
  ERR_clear_error();  // TLS on this thread would take it for its own.
  return right;
}

}  // namespace

base::Result<JsonWebToken> JsonWebToken::Parse(std::string_view token) {
  const auto wrong = [] {
    return base::Unexpected(Code::kInvalid, "it is not a JSON Web Token in three parts");
  };
  const size_t first = token.find('.');
  const size_t second = first == token.npos ? first : token.find('.', first + 1);
  if (second == token.npos) return wrong();
  const auto header = DecodeBase64Url(token.substr(0, first));
  auto claims = DecodeBase64Url(token.substr(first + 1, second - first - 1));
  auto signature = DecodeBase64Url(token.substr(second + 1));
  if (!header || !claims || !signature) return wrong();
  const json parsed = json::parse(*header, nullptr, false);
  if (!parsed.is_object()) return wrong();
  // What must be understood, and is not.
  if (parsed.contains("crit"))
    return base::Unexpected(Code::kInvalid, "its header has critical extensions");
  return JsonWebToken{.algorithm = TextOf(parsed, "alg"),
                      .key_id = TextOf(parsed, "kid"),
                      .signed_text = token.substr(0, second),
                      .signature = *std::move(signature),
                      .claims = *std::move(claims)};
}

struct JsonWebKeys::Key {
  std::string id;
  std::string algorithm;  // The only one that it is for. Empty: all of its kind.
  std::string curve;      // Empty: RSA.
  Owned<EVP_PKEY> key;

  [[nodiscard]] bool IsFor(const JsonWebToken& token, const Algorithm& wanted) const {
    return (token.key_id.empty() || token.key_id == id) && curve == wanted.curve &&
           (algorithm.empty() || algorithm == wanted.name);
  }
};

JsonWebKeys::JsonWebKeys(std::vector<Key> keys) : keys_(std::move(keys)) {}
JsonWebKeys::~JsonWebKeys() = default;
size_t JsonWebKeys::size() const { return keys_.size(); }

base::Result<std::shared_ptr<const JsonWebKeys>> JsonWebKeys::Parse(std::string_view text) {
  const json parsed = json::parse(text, nullptr, false);
  const auto listed = parsed.is_object() ? parsed.find("keys") : parsed.end();
  if (!parsed.is_object() || listed == parsed.end() || !listed->is_array())
    return base::Unexpected(Code::kInvalid, "it is not a JSON Web Key Set");
  std::vector<Key> keys;
  for (const json& each : *listed) {
    if (!each.is_object()) continue;
    if (const std::string use = TextOf(each, "use"); !use.empty() && use != "sig") continue;
    Key key{.id = TextOf(each, "kid"), .algorithm = TextOf(each, "alg")};
    const std::string type = TextOf(each, "kty");
    if (type == "RSA") {
      key.key = RsaKeyOf(each);
    } else if (type == "EC") {
      key.curve = TextOf(each, "crv");
      const auto* const of_curve = std::ranges::find(kAlgorithms, key.curve, &Algorithm::curve);
      if (!key.curve.empty() && of_curve != kAlgorithms.end()) key.key = EcKeyOf(each, *of_curve);
    }
    if (key.key) keys.push_back(std::move(key));
  }
  ERR_clear_error();
  if (keys.empty())
    return base::Unexpected(Code::kInvalid, "it has no RSA or EC key that can be used");
  return std::shared_ptr<const JsonWebKeys>(new JsonWebKeys(std::move(keys)));
}

base::Result<> JsonWebKeys::Verify(const JsonWebToken& token) const {
  const Algorithm* const algorithm = FindAlgorithm(token.algorithm);
  if (algorithm == nullptr)
    return base::Unexpected(Code::kInvalid, "it is not signed by RS, PS or ES");
  std::optional<std::string> der;
  if (algorithm->kind == Kind::kEc) {
    der = DerSignature(token.signature, algorithm->coordinate_bytes);
    if (!der) return base::Unexpected(Code::kInvalid, "its signature is not right");
  }
  bool found = false;
  for (const Key& key : keys_) {
    if (!key.IsFor(token, *algorithm)) continue;
    found = true;
    if (IsSignedBy(key.key.get(), *algorithm, token.signed_text, der ? *der : token.signature))
      return {};
  }
  if (!found)
    return base::Unexpected(Code::kNotFound, "no key is known for its key id and algorithm");
  return base::Unexpected(Code::kInvalid, "its signature is not right");
}

}  // namespace holdfast::auth
