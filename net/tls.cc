#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "base/event.h"
#include "net/distinguished_name.h"
#include "net/tls_session.h"

namespace holdfast::net {
namespace {

using base::Code;

base::Error Wrong(const std::string& what) {
  return {Code::kInvalid, what + ": " + TlsErrorText(), base::Event::kBadTlsFile};
}

// Without one OpenSSL would ask the terminal.
int GivePassword(char* into, int size, int /*writing*/, void* password) {
  const auto& text = *static_cast<const std::string*>(password);
  if (text.size() > static_cast<size_t>(size)) return -1;
  std::memcpy(into, text.data(), text.size());
  return static_cast<int>(text.size());
}

base::Result<> CheckReadable(const std::string& file) {
  struct stat found {};
  if (stat(file.c_str(), &found) == 0) return {};
  base::Error error = base::ErrnoError("cannot read " + file, errno);
  error.event = base::Event::kBadTlsFile;
  return base::Unexpected(std::move(error));
}

base::Result<> LoadTrusted(ssl_ctx_st* context, const std::string& location) {
  if (location.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) == 1) return {};
    return base::Unexpected(Wrong("the system's CA certificates"));
  }
  HF_RETURN_IF_ERROR(CheckReadable(location));
  struct stat found {};
  const bool directory = stat(location.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
  const int loaded = directory ? SSL_CTX_load_verify_dir(context, location.c_str())
                               : SSL_CTX_load_verify_file(context, location.c_str());
  if (loaded != 1) return base::Unexpected(Wrong("CA certificates in " + location));
  return {};
}

base::Result<> LoadCertificate(ssl_ctx_st* context, const TlsOptions& options) {
  const std::string& certificate = options.certificate_location;
  if (certificate.empty()) {
    if (options.key_location.empty() && !options.server) return {};
    return base::Unexpected(Code::kInvalid, "TLS: a certificate is needed, and none is given",
                            base::Event::kBadConfiguration);
  }
  const std::string& key = options.key_location.empty() ? certificate : options.key_location;
  HF_RETURN_IF_ERROR(CheckReadable(certificate));
  HF_RETURN_IF_ERROR(CheckReadable(key));
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1)
    return base::Unexpected(Wrong("the certificate in " + certificate));
  SSL_CTX_set_default_passwd_cb(context, GivePassword);
  SSL_CTX_set_default_passwd_cb_userdata(context, const_cast<std::string*>(&options.key_password));
  const int loaded = SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
  SSL_CTX_set_default_passwd_cb(context, nullptr);
  if (loaded != 1) return base::Unexpected(Wrong("the private key in " + key));
  if (SSL_CTX_check_private_key(context) != 1)
    return base::Unexpected(Wrong("the private key in " + key + " is not that of " + certificate));
  return {};
}

// Of the certificate and those between it and a CA: without any of them it is worth nothing.
double FirstExpiry(ssl_ctx_st* context) {
  double first = std::numeric_limits<double>::infinity();
  const X509* const own = SSL_CTX_get0_certificate(context);
  if (own == nullptr) return first;
  first = ExpiryOf(own);
  STACK_OF(X509)* between = nullptr;
  HF_CHECK(SSL_CTX_get0_chain_certs(context, &between) == 1);
  for (int i = 0; i < sk_X509_num(between); ++i)
    first = std::min(first, ExpiryOf(sk_X509_value(between, i)));
  return first;
}

int VerifyMode(const TlsOptions& options) {
  if (!options.server) return SSL_VERIFY_PEER;
  switch (options.client_auth) {
    case TlsOptions::ClientAuth::kNone:
      return SSL_VERIFY_NONE;
    case TlsOptions::ClientAuth::kRequested:
      return SSL_VERIFY_PEER;
    case TlsOptions::ClientAuth::kRequired:
      break;
  }
  return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

// Clients are told which CAs a server takes certificates of, so that they can choose one.
void NameAcceptedIssuers(ssl_ctx_st* context, const TlsOptions& options) {
  if (!options.server || options.ca_location.empty()) return;
  if (STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(options.ca_location.c_str()))
    SSL_CTX_set_client_CA_list(context, names);
  ERR_clear_error();
}

}  // namespace

base::Result<std::shared_ptr<const TlsContext>> TlsContext::Make(const TlsOptions& options) {
  ERR_clear_error();
  ssl_ctx_st* const context =
      SSL_CTX_new(options.server ? TLS_server_method() : TLS_client_method());
  if (context == nullptr) return base::Unexpected(Wrong("TLS"));
  const std::shared_ptr<TlsContext> made(new TlsContext(context, options.check_name));
  HF_CHECK(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                   SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // What was not written is tried again with the same bytes, at whichever place they are by then.
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  // One call of the kernel reads the length of a record and the record.
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_verify(context, VerifyMode(options), RememberVerification);
  if (!options.server || options.client_auth != TlsOptions::ClientAuth::kNone) {
    HF_RETURN_IF_ERROR(LoadTrusted(context, options.ca_location));
    NameAcceptedIssuers(context, options);
  }
  HF_RETURN_IF_ERROR(LoadCertificate(context, options));
  made->expires_at_ = FirstExpiry(context);
  return made;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

std::optional<std::string> TlsContext::Subject() const {
  const X509* const own = SSL_CTX_get0_certificate(context_);
  if (own == nullptr) return std::nullopt;
  return DistinguishedName(X509_get_subject_name(own));
}

base::Result<std::shared_ptr<TlsCredentials>> TlsCredentials::Load(TlsOptions options) {
  // First the stamps: a file that changes meanwhile is read once more.
  Stamps stamps = StampsOf(options);
  HF_ASSIGN_OR_RETURN(auto context, TlsContext::Make(options));
  return std::shared_ptr<TlsCredentials>(
      new TlsCredentials(std::move(options), std::move(stamps), std::move(context)));
}

std::shared_ptr<const TlsContext> TlsCredentials::context() const {
  const base::MutexLock lock(mutex_);
  return context_;
}

base::Result<bool> TlsCredentials::Refresh() {
  TlsOptions options;
  {
    const base::MutexLock lock(mutex_);
    options = options_;
  }
  Stamps stamps = StampsOf(options);
  {
    const base::MutexLock lock(mutex_);
    if (stamps == stamps_) return false;
  }
  HF_ASSIGN_OR_RETURN(auto context, TlsContext::Make(options));
  const base::MutexLock lock(mutex_);
  if (options != options_) return false;  // Replaced meanwhile.
  stamps_ = std::move(stamps);
  context_ = std::move(context);
  return true;
}

void TlsCredentials::Replace(const TlsCredentials& other) {
  TlsOptions options;
  Stamps stamps;
  std::shared_ptr<const TlsContext> context;
  {
    const base::MutexLock lock(other.mutex_);
    options = other.options_;
    stamps = other.stamps_;
    context = other.context_;
  }
  const base::MutexLock lock(mutex_);
  options_ = std::move(options);
  stamps_ = std::move(stamps);
  context_ = std::move(context);
}

TlsCredentials::Stamps TlsCredentials::StampsOf(const TlsOptions& options) {
  Stamps stamps;
  for (const std::string& file :
       {options.ca_location, options.certificate_location, options.key_location}) {
    if (!file.empty()) stamps[file] = base::StampOf(file);
  }
  return stamps;
}

}  // namespace holdfast::net
