#include "inject/webhook_certificate.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>
#include <memory>
#include <utility>

namespace holdfast::inject {
namespace {

using base::Code;

struct Free {
  void operator()(BIO* it) const { BIO_free(it); }
  void operator()(EVP_PKEY* it) const { EVP_PKEY_free(it); }
  void operator()(X509* it) const { X509_free(it); }
  void operator()(X509_EXTENSION* it) const { X509_EXTENSION_free(it); }
  void operator()(X509_STORE* it) const { X509_STORE_free(it); }
  void operator()(X509_STORE_CTX* it) const { X509_STORE_CTX_free(it); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// For clocks that go behind.
constexpr int64_t kEarlierSeconds = 3600;
constexpr size_t kSerialBytes = 16;

base::Error Failed(const std::string& what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return {Code::kInvalid, what + ": " + text.data()};
}

Owned<BIO> Reading(const std::string& pem) {
  return Owned<BIO>(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

template <class Write>
std::string Written(Write write) {
  const Owned<BIO> out(BIO_new(BIO_s_mem()));
  if (!out || write(out.get()) != 1) return {};
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out.get(), &bytes);  // NOLINT(google-runtime-int)
  return {bytes, static_cast<size_t>(size)};
}

std::string PemOf(X509* certificate) {
  return Written([&](BIO* out) { return PEM_write_bio_X509(out, certificate); });
}

std::vector<Owned<X509>> CertificatesOf(const std::string& pem) {
  std::vector<Owned<X509>> all;
  const Owned<BIO> in = Reading(pem);
  while (X509* one = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr)) all.emplace_back(one);
  ERR_clear_error();  // The end is one.
  return all;
}

int64_t EndOf(const X509* certificate) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) return 0;
  return int64_t{timegm(&end)};
}

bool Extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION> extension(
      X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// With a serial number, its times, a name and a key; not signed.
Owned<X509> Begin(EVP_PKEY* key, const std::string& name, int64_t now, int64_t valid_seconds) {
  Owned<X509> made(X509_new());
  std::array<unsigned char, kSerialBytes> serial{};
  if (!made || RAND_bytes(serial.data(), serial.size()) != 1) return nullptr;
  serial[0] &= 0x7f;  // Positive.
  BIGNUM* const number = BN_bin2bn(serial.data(), serial.size(), nullptr);
  const bool numbered =
      number != nullptr && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made.get())) != nullptr;
  BN_free(number);
  X509_NAME* const subject = X509_get_subject_name(made.get());
  const bool done =
      numbered && X509_set_version(made.get(), X509_VERSION_3) == 1 &&
      ASN1_TIME_set(X509_getm_notBefore(made.get()), now - kEarlierSeconds) != nullptr &&
      ASN1_TIME_set(X509_getm_notAfter(made.get()), now + valid_seconds) != nullptr &&
      X509_set_pubkey(made.get(), key) == 1 &&
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(name.data()),
                                 static_cast<int>(name.size()), -1, 0) == 1;
  if (!done) return nullptr;
  return made;
}

bool Sign(X509* certificate, const X509* issuer, EVP_PKEY* key) {
  return X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
         X509_sign(certificate, key, EVP_sha256()) > 0;
}

Owned<X509> MakeCa(EVP_PKEY* key, int64_t now, int64_t valid_seconds) {
  // CAs that stand in one bundle have names of their own.
  Owned<X509> ca = Begin(key, fmt::format("holdfast inject CA {}", now), now, valid_seconds);
  if (!ca || !Extend(ca.get(), ca.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !Extend(ca.get(), ca.get(), NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !Extend(ca.get(), ca.get(), NID_subject_key_identifier, "hash") ||
      !Sign(ca.get(), ca.get(), key))
    return nullptr;
  return ca;
}

Owned<X509> MakeServer(EVP_PKEY* key, const std::vector<std::string>& names, X509* ca,
                       EVP_PKEY* ca_key, int64_t now, int64_t valid_seconds) {
  std::string alternatives;
  for (const std::string& name : names)
    alternatives += (alternatives.empty() ? "DNS:" : ",DNS:") + name;
  Owned<X509> server = Begin(key, "holdfast inject", now, valid_seconds);
  if (!server || !Extend(server.get(), ca, NID_basic_constraints, "critical,CA:FALSE") ||
      !Extend(server.get(), ca, NID_key_usage, "critical,digitalSignature") ||
      !Extend(server.get(), ca, NID_ext_key_usage, "serverAuth") ||
      !Extend(server.get(), ca, NID_subject_key_identifier, "hash") ||
      !Extend(server.get(), ca, NID_authority_key_identifier, "keyid:always") ||
      !Extend(server.get(), ca, NID_subject_alt_name, alternatives) ||
      !Sign(server.get(), ca, ca_key))
    return nullptr;
  return server;
}

}  // namespace

base::Result<WebhookCertificate> MakeCertificate(const std::vector<std::string>& names, int64_t now,
                                                 int64_t valid_seconds) {
  // Commas would begin another name.
  for (const std::string& name : names) {
    if (name.empty() || name.size() > 253 ||
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") != std::string::npos)
      return base::Unexpected(Code::kInvalid, "\"" + name + "\" is no DNS name");
  }
  const Owned<EVP_PKEY> ca_key(EVP_EC_gen("P-256"));
  const Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
  if (!ca_key || !key) return base::Unexpected(Failed("cannot make a key"));
  const Owned<X509> ca = MakeCa(ca_key.get(), now, valid_seconds);
  if (!ca) return base::Unexpected(Failed("cannot make a CA"));
  const Owned<X509> server =
      MakeServer(key.get(), names, ca.get(), ca_key.get(), now, valid_seconds);
  if (!server) return base::Unexpected(Failed("cannot make a certificate"));
  WebhookCertificate made{.ca = PemOf(ca.get()),
                          .certificate = PemOf(server.get()),
                          .key = Written([&](BIO* out) {
                            return PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0,
                                                            nullptr, nullptr);
                          })};
  HF_RETURN_IF_ERROR(CheckCertificate(made, names, now));
  return made;
}

base::Result<void> CheckCertificate(const WebhookCertificate& tls,
                                    const std::vector<std::string>& names, int64_t at) {
  const auto wrong = [](std::string what) {
    ERR_clear_error();
    return base::Unexpected(Code::kInvalid, std::move(what));
  };
  const std::vector<Owned<X509>> shown = CertificatesOf(tls.certificate);
  if (shown.empty()) return wrong("it has no certificate");
  X509* const certificate = shown.front().get();
  const Owned<BIO> key_text = Reading(tls.key);
  const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr));
  if (!key || X509_check_private_key(certificate, key.get()) != 1)
    return wrong("the key is not that of the certificate");
  for (const std::string& name : names) {
    if (X509_check_host(certificate, name.data(), name.size(), 0, nullptr) != 1)
      return wrong("the certificate is not for " + name);
  }
  const Owned<X509_STORE> trusted(X509_STORE_new());
  const Owned<X509_STORE_CTX> check(X509_STORE_CTX_new());
  if (!trusted || !check) return wrong("out of memory");
  for (const Owned<X509>& ca : CertificatesOf(tls.ca)) X509_STORE_add_cert(trusted.get(), ca.get());
  if (X509_STORE_CTX_init(check.get(), trusted.get(), certificate, nullptr) != 1)
    return wrong("out of memory");
  X509_STORE_CTX_set_time(check.get(), 0, at);
  X509_STORE_CTX_set_default(check.get(), "ssl_server");
  if (X509_verify_cert(check.get()) == 1) return {};
  return wrong(X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get())));
}

int64_t EndOf(const std::string& certificate) {
  const auto all = CertificatesOf(certificate);
  return all.empty() ? 0 : EndOf(all.front().get());
}

std::string JoinCas(const std::string& first, const std::string& others, int64_t now) {
  std::string joined = first;
  for (const Owned<X509>& other : CertificatesOf(others)) {
    const std::string pem = PemOf(other.get());
    if (EndOf(other.get()) > now && joined.find(pem) == std::string::npos) joined += pem;
  }
  return joined;
}

}  // namespace holdfast::inject
