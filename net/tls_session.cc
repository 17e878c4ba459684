#include "net/tls_session.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <limits>

#include "base/check.h"
#include "base/result.h"
#include "net/distinguished_name.h"

namespace holdfast::net {
namespace {

// The most that fits into one record.
constexpr size_t kRecordBytes = 16384;
// One call of Write ends after so much, like one of the kernel.
constexpr size_t kWriteBytes = 16 * kRecordBytes;

// Small pieces share a record; of large ones no copy is made.
std::span<const char> NextRecord(std::span<const iovec> pieces, size_t skip,
                                 std::array<char, kRecordBytes>& space) {
  while (skip >= pieces.front().iov_len) {
    skip -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  const std::span<const char> first(static_cast<const char*>(pieces.front().iov_base) + skip,
                                    pieces.front().iov_len - skip);
  if (first.size() >= kRecordBytes) return first.first(kRecordBytes);
  if (pieces.size() == 1) return first;
  size_t filled = 0;
  for (const iovec& piece : pieces) {
    const size_t taken = std::min(piece.iov_len - skip, space.size() - filled);
    std::memcpy(space.data() + filled, static_cast<const char*>(piece.iov_base) + skip, taken);
    filled += taken;
    skip = 0;
    if (filled == space.size()) break;
  }
  return {space.data(), filled};
}

}  // namespace

std::string TlsErrorText() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (ERR_SYSTEM_ERROR(code)) reason = std::strerror(ERR_GET_REASON(code));
    if (reason == nullptr) continue;
    if (!text.empty()) text += ": ";
    text += reason;
  }
  return text.empty() ? "unknown error" : text;
}

double ExpiryOf(const x509_st* certificate) {
  std::tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) return 0;
  return static_cast<double>(timegm(&end));
}

int RememberVerification(int accepted, x509_store_ctx_st* state) {
  if (accepted == 1) return 1;
  auto* ssl =
      static_cast<ssl_st*>(X509_STORE_CTX_get_ex_data(state, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* session = static_cast<TlsSession*>(SSL_get_app_data(ssl));
  const int error = X509_STORE_CTX_get_error(state);
  session->rejected_ = X509_verify_cert_error_string(error);
  if (const X509* certificate = X509_STORE_CTX_get_current_cert(state))
    session->rejected_ += " (" + DistinguishedName(X509_get_subject_name(certificate)) + ")";
  return 0;
}

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context, int fd)
    : context_(std::move(context)), ssl_(SSL_new(context_->get())) {
  HF_CHECK(ssl_ != nullptr && SSL_set_fd(ssl_, fd) == 1);
  SSL_set_app_data(ssl_, this);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

std::unique_ptr<TlsSession> TlsSession::Connect(std::shared_ptr<const TlsContext> context, int fd,
                                                const std::string& name) {
  std::unique_ptr<TlsSession> session(new TlsSession(std::move(context), fd));
  session->peer_name_ = name;
  ssl_st* const ssl = session->ssl_;
  X509_VERIFY_PARAM* const rules = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  // An address in figures stands elsewhere in a certificate, and is no server name.
  ASN1_OCTET_STRING* const ip = a2i_IPADDRESS(name.c_str());
  ERR_clear_error();
  if (ip == nullptr) SSL_set_tlsext_host_name(ssl, name.c_str());
  if (session->context_->check_name()) {
    const int set = ip != nullptr ? X509_VERIFY_PARAM_set1_ip_asc(rules, name.c_str())
                                  : X509_VERIFY_PARAM_set1_host(rules, name.c_str(), name.size());
    HF_CHECK(set == 1);
  }
  ASN1_OCTET_STRING_free(ip);
  SSL_set_connect_state(ssl);
  return session;
}

std::unique_ptr<TlsSession> TlsSession::Accept(std::shared_ptr<const TlsContext> context, int fd) {
  std::unique_ptr<TlsSession> session(new TlsSession(std::move(context), fd));
  SSL_set_accept_state(session->ssl_);
  return session;
}

TlsSession::Progress TlsSession::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    established_ = true;
    return Progress::kDone;
  }
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return Progress::kWantsRead;
    case SSL_ERROR_WANT_WRITE:
      return Progress::kWantsWrite;
    default:
      failed_ = true;
      error_ = Explain(result);
      return Progress::kFailed;
  }
}

IoOutcome TlsSession::Read(std::span<iovec> pieces) {
  if (next_read_) return *std::exchange(next_read_, std::nullopt);
  size_t total = 0;
  for (const iovec& piece : pieces) {
    size_t filled = 0;
    while (filled < piece.iov_len) {
      ERR_clear_error();
      size_t got = 0;
      const int result = SSL_read_ex(ssl_, static_cast<char*>(piece.iov_base) + filled,
                                     piece.iov_len - filled, &got);
      if (result != 1) {
        const IoOutcome why = Fail(result, /*writing=*/false);
        if (total == 0) return why;
        const bool emptied = why.kind == IoOutcome::Kind::kBlocked && !why.crossed;
        if (!emptied) next_read_ = why;
        return {.kind = IoOutcome::Kind::kDone, .bytes = total, .ends = !emptied};
      }
      filled += got;
      total += got;
    }
  }
  return {IoOutcome::Kind::kDone, total};
}

IoOutcome TlsSession::Write(std::span<const iovec> pieces) {
  thread_local std::array<char, kRecordBytes> space;
  size_t all = 0;
  for (const iovec& piece : pieces) all += piece.iov_len;
  size_t total = 0;
  while (total < std::min(all, kWriteBytes)) {
    const std::span<const char> record = NextRecord(pieces, total, space);
    ERR_clear_error();
    size_t written = 0;
    const int result = SSL_write_ex(ssl_, record.data(), record.size(), &written);
    if (result != 1) {
      if (total > 0) return {IoOutcome::Kind::kDone, total};
      return Fail(result, /*writing=*/true);
    }
    total += written;
  }
  return {IoOutcome::Kind::kDone, total};
}

IoOutcome TlsSession::Fail(int result, bool writing) {
  const int system_error = errno;
  const int why = SSL_get_error(ssl_, result);
  switch (why) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return {.kind = IoOutcome::Kind::kBlocked,
              .crossed = writing != (why == SSL_ERROR_WANT_WRITE)};
    case SSL_ERROR_ZERO_RETURN:
      return {IoOutcome::Kind::kEnd};
    case SSL_ERROR_SYSCALL:
      failed_ = true;
      if (system_error == 0) return {IoOutcome::Kind::kEnd};
      return {IoOutcome::Kind::kFailed, 0, system_error};
    default:
      failed_ = true;
      error_ = Explain(result);
      return {IoOutcome::Kind::kFailed};
  }
}

std::string TlsSession::Explain(int result) const {
  const int system_error = errno;
  const std::string whose = peer_name_.empty() ? "the peer's" : "the certificate of " + peer_name_;
  if (!rejected_.empty()) {
    return "TLS: " + (peer_name_.empty() ? "the peer's certificate" : whose) +
           " is not accepted: " + rejected_;
  }
  if (SSL_get_error(ssl_, result) == SSL_ERROR_SYSCALL) {
    if (system_error == 0) return "TLS: the peer closed the connection during the handshake";
    return base::ErrnoError("TLS", system_error).message;
  }
  if (SSL_get_error(ssl_, result) == SSL_ERROR_ZERO_RETURN)
    return "TLS: the peer closed the connection during the handshake";
  return "TLS: " + TlsErrorText();
}

void TlsSession::End() {
  if (!established_ || failed_) return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::WritingReads() const { return SSL_in_init(ssl_) == 1; }

bool TlsSession::HoldsBytes() const { return next_read_ || SSL_has_pending(ssl_) == 1; }

std::optional<std::string> TlsSession::PeerSubject() const {
  X509* const certificate = SSL_get1_peer_certificate(ssl_);
  if (certificate == nullptr) return std::nullopt;
  std::string subject = DistinguishedName(X509_get_subject_name(certificate));
  X509_free(certificate);
  return subject;
}

double TlsSession::PeerExpiresAt() const {
  double first = std::numeric_limits<double>::infinity();
  const STACK_OF(X509)* const shown = SSL_get_peer_cert_chain(ssl_);
  for (int i = 0; shown != nullptr && i < sk_X509_num(shown); ++i)
    first = std::min(first, ExpiryOf(sk_X509_value(shown, i)));
  return first;
}

}  // namespace holdfast::net
