// One connection's TLS, over a socket that does not block. Inside net/ only: Socket calls it.
//
// Ownership: the socket's descriptor outlives it. Threads: one at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "net/tls.h"

struct ssl_st;
struct x509_st;
struct x509_store_ctx_st;

namespace holdfast::net {

// What became of one attempt to read or write.
struct IoOutcome {
  enum class Kind : uint8_t { kDone, kBlocked, kEnd, kFailed };
  Kind kind;
  size_t bytes = 0;      // Of kDone, more than none.
  int error_number = 0;  // Of kFailed; 0: the failure is one of TLS.
  // Of kBlocked: a write waits for bytes from the peer, or a read for room. Messages of TLS itself
  // have to be whole before anything else can be read or written.
  bool crossed = false;
  // Of a read that gave less than it could: the next one says why, of which the socket does not
  // tell.
  bool ends = false;
};

class TlsSession {
 public:
  enum class Progress : uint8_t { kDone, kWantsRead, kWantsWrite, kFailed };

  // `name`: of the peer, sent as SNI and checked against its certificate.
  static std::unique_ptr<TlsSession> Connect(std::shared_ptr<const TlsContext> context, int fd,
                                             const std::string& name);
  static std::unique_ptr<TlsSession> Accept(std::shared_ptr<const TlsContext> context, int fd);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // To be called when the socket can do what was wanted, until it is done or failed.
  Progress Handshake();
  // Into, or from, the pieces in turn, as far as it goes.
  IoOutcome Read(std::span<iovec> pieces);
  IoOutcome Write(std::span<const iovec> pieces);
  // Some of a message of TLS itself has come: Write begins with reading the rest, and may take from
  // the socket what lies behind it.
  [[nodiscard]] bool WritingReads() const;
  // Tells the peer that no more comes.
  void End();

  // Bytes, or an end, were taken from the socket that Read has not given out: the socket will not
  // tell of them.
  [[nodiscard]] bool HoldsBytes() const;
  // Of the last failure, in one line.
  [[nodiscard]] const std::string& error() const { return error_; }
  // The subject of the peer's certificate, see DistinguishedName; none without one.
  [[nodiscard]] std::optional<std::string> PeerSubject() const;
  // When the first of the certificates that the peer shows ends, in seconds since 1970; infinity
  // without one.
  [[nodiscard]] double PeerExpiresAt() const;

 private:
  friend int RememberVerification(int accepted, x509_store_ctx_st* state);

  TlsSession(std::shared_ptr<const TlsContext> context, int fd);
  // Why reading, or writing, did not go on.
  IoOutcome Fail(int result, bool writing);
  std::string Explain(int result) const;

  const std::shared_ptr<const TlsContext> context_;
  ssl_st* const ssl_;
  std::string peer_name_;
  std::string rejected_;  // Which certificate was not accepted, and why.
  std::string error_;
  std::optional<IoOutcome> next_read_;  // What it came upon behind bytes that it gave out first.
  bool established_ = false;
  bool failed_ = false;
};

// OpenSSL's callback for each certificate of a chain; keeps what it says for the error message.
int RememberVerification(int accepted, x509_store_ctx_st* state);

// When it ends, in seconds since 1970.
double ExpiryOf(const x509_st* certificate);

// The errors that this thread's OpenSSL calls left behind, which are forgotten.
std::string TlsErrorText();

}  // namespace holdfast::net
