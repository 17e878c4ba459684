// Certificates for tests, made on the spot: a CA, and what it signs.
//
//   TestAuthority ca(directory, "ca");                   // directory/ca.pem
//   ca.Issue("server", {.name = "tier", .hosts = "DNS:localhost,IP:127.0.0.1"});
//   ... directory/server.pem, directory/server.key ...
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"

namespace holdfast::test {

class TestDirectory {
 public:
  TestDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "holdfast-tls-XXXXXX").string();
    HF_CHECK(mkdtemp(path.data()) != nullptr);
    path_ = path;
  }
  ~TestDirectory() { std::filesystem::remove_all(path_); }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class TestAuthority {
 public:
  struct Subject {
    std::string name;
    std::string hosts = {};  // As in openssl.cnf: "DNS:localhost,IP:127.0.0.1".
    int days = 2;
    std::string key_password = {};
  };

  TestAuthority(const TestDirectory& directory, const std::string& name)
      : directory_(directory), key_(NewKey()), certificate_(NewCertificate(name, 2)) {
    X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
    AddExtension(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
    Sign(certificate_.get(), key_.get());
    WriteCertificate(certificate_.get(), directory_.File(name + ".pem"));
  }

  // Writes `file`.pem and `file`.key.
  void Issue(const std::string& file, const Subject& subject) {
    const Key key = NewKey();
    const Certificate made = NewCertificate(subject.name, subject.days);
    X509_set_issuer_name(made.get(), X509_get_subject_name(certificate_.get()));
    if (!subject.hosts.empty()) AddExtension(made.get(), NID_subject_alt_name, subject.hosts);
    Sign(made.get(), key.get());
    WriteCertificate(made.get(), directory_.File(file + ".pem"));
    FILE* const out = std::fopen(directory_.File(file + ".key").c_str(), "w");
    HF_CHECK(out != nullptr);
    const std::string& password = subject.key_password;
    HF_CHECK(PEM_write_PrivateKey(out, key.get(), password.empty() ? nullptr : EVP_aes_128_cbc(),
                                  reinterpret_cast<const unsigned char*>(password.data()),
                                  static_cast<int>(password.size()), nullptr, nullptr) == 1);
    std::fclose(out);
  }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  using Key = std::unique_ptr<EVP_PKEY, Free>;
  using Certificate = std::unique_ptr<X509, Free>;

  static Key NewKey() {
    Key key(EVP_EC_gen("P-256"));
    HF_CHECK(key != nullptr);
    return key;
  }
  static Certificate NewCertificate(const std::string& name, int days) {
    static long serial = 1;
    Certificate made(X509_new());
    X509_set_version(made.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), days < 0 ? -86400L * 10 : -3600);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), 86400L * days);
    if (name.empty()) return made;
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    return made;
  }
  void AddExtension(X509* to, int kind, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate_ ? certificate_.get() : to, to, nullptr, nullptr, 0);
    X509_EXTENSION* const made = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
    HF_CHECK(made != nullptr);
    X509_add_ext(to, made, -1);
    X509_EXTENSION_free(made);
  }
  // With the key that belongs to the certificate, signed by the authority's.
  void Sign(X509* certificate, EVP_PKEY* own) {
    HF_CHECK(X509_set_pubkey(certificate, own) == 1);
    HF_CHECK(X509_sign(certificate, key_.get(), EVP_sha256()) > 0);
  }
  static void WriteCertificate(X509* certificate, const std::string& file) {
    FILE* const out = std::fopen(file.c_str(), "w");
    HF_CHECK(out != nullptr && PEM_write_X509(out, certificate) == 1);
    std::fclose(out);
  }

  const TestDirectory& directory_;
  const Key key_;
  const Certificate certificate_;
};

}  // namespace holdfast::test
