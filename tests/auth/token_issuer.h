// Issues signed tokens in tests, and publishes the key to check them with.
//
//   TokenIssuer issuer("RS256", "key-1");
//   JsonWebKeys::Parse(R"({"keys":[)" + issuer.PublicKey() + "]}");
//   issuer.Token(R"({"sub":"orders",...})");
#pragma once

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"

namespace holdfast::test {

inline std::string Base64Url(std::string_view bytes) {
  std::string text(4 * (bytes.size() / 3 + 1) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  text.erase(text.find_last_not_of('=') + 1);
  return text;
}

class TokenIssuer {
 public:
  TokenIssuer(std::string algorithm, std::string key_id, unsigned rsa_bits = 2048)
      : algorithm_(std::move(algorithm)), key_id_(std::move(key_id)) {
    key_.reset(IsEc() ? EVP_EC_gen(Curve().c_str()) : EVP_RSA_gen(rsa_bits));
    HF_CHECK(key_ != nullptr);
  }

  [[nodiscard]] std::string PublicKey(const std::string& more = "") const {
    const std::string common = R"("kid":")" + key_id_ + R"(")" + more;
    if (IsEc()) {
      return R"({"kty":"EC","crv":")" + Curve() + R"(","x":")" +
             Base64Url(Number(OSSL_PKEY_PARAM_EC_PUB_X)) + R"(","y":")" +
             Base64Url(Number(OSSL_PKEY_PARAM_EC_PUB_Y)) + R"(",)" + common + "}";
    }
    return R"({"kty":"RSA","n":")" + Base64Url(Number(OSSL_PKEY_PARAM_RSA_N)) + R"(","e":")" +
           Base64Url(Number(OSSL_PKEY_PARAM_RSA_E)) + R"(",)" + common + "}";
  }

  [[nodiscard]] std::string Token(const std::string& claims) const {
    return Signed(R"({"alg":")" + algorithm_ + R"(","kid":")" + key_id_ + R"("})", claims);
  }
  [[nodiscard]] std::string Signed(const std::string& header, const std::string& claims) const {
    const std::string text = Base64Url(header) + "." + Base64Url(claims);
    return text + "." + Base64Url(Sign(text));
  }

 private:
  struct Free {
    void operator()(EVP_PKEY* it) const { EVP_PKEY_free(it); }
  };

  [[nodiscard]] bool IsEc() const { return algorithm_[0] == 'E'; }
  [[nodiscard]] std::string Bits() const { return algorithm_.substr(2); }
  [[nodiscard]] std::string Curve() const {
    return Bits() == "256" ? "P-256" : Bits() == "384" ? "P-384" : "P-521";
  }
  [[nodiscard]] size_t CoordinateBytes() const {
    return Bits() == "256" ? 32 : Bits() == "384" ? 48 : 66;
  }
  [[nodiscard]] std::string Number(const char* name) const {
    BIGNUM* number = nullptr;
    HF_CHECK(EVP_PKEY_get_bn_param(key_.get(), name, &number) == 1);
    const int size = IsEc() ? static_cast<int>(CoordinateBytes()) : BN_num_bytes(number);
    std::string bytes(static_cast<size_t>(size), '\0');
    BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), size);
    BN_free(number);
    return bytes;
  }
  [[nodiscard]] std::string Sign(const std::string& text) const {
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    EVP_PKEY_CTX* of_key = nullptr;
    const EVP_MD* const hash = EVP_get_digestbyname(("SHA" + Bits()).c_str());
    HF_CHECK(EVP_DigestSignInit(context, &of_key, hash, nullptr, key_.get()) == 1);
    if (algorithm_[0] == 'P') {
      EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING);
      EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, RSA_PSS_SALTLEN_DIGEST);
    }
    std::vector<unsigned char> made(1024);
    size_t size = made.size();
    HF_CHECK(EVP_DigestSign(context, made.data(), &size,
                            reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1);
    EVP_MD_CTX_free(context);
    if (!IsEc()) return {reinterpret_cast<const char*>(made.data()), size};
    const unsigned char* der = made.data();
    ECDSA_SIG* const both = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(size));
    const int bytes = static_cast<int>(CoordinateBytes());
    std::string fixed(2 * CoordinateBytes(), '\0');
    auto* const out = reinterpret_cast<unsigned char*>(fixed.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(both), out, bytes);
    BN_bn2binpad(ECDSA_SIG_get0_s(both), out + bytes, bytes);
    ECDSA_SIG_free(both);
    return fixed;
  }

  const std::string algorithm_;
  const std::string key_id_;
  std::unique_ptr<EVP_PKEY, Free> key_;
};

}  // namespace holdfast::test
