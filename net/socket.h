// A connected or listening TCP socket. All bytes of framed connections pass through Socket::Read
// and Socket::Write, in TLS if the socket was secured.
//
// Ownership: move-only, closes its descriptor. Threads: one at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/executor.h"
#include "base/result.h"
#include "net/address.h"
#include "net/pipe.h"
#include "net/tls_session.h"

namespace holdfast::net {

class Socket {
 public:
  using Outcome = IoOutcome;
  // Of the kernel; 0 leaves its automatic choice.
  struct BufferBytes {
    int receive = 0;
    int send = 0;
  };

  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), tls_(std::move(other.tls_)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { Close(); }

  // Where Listen binds.
  static base::Result<SocketAddress> AddressToListen(const HostPort& at);
  // Bound and listening, not blocking. The buffer sizes go over to accepted sockets.
  static base::Result<Socket> Listen(const HostPort& at, BufferBytes buffers);
  // A connection that may still be under way: it stands once it can be written and Error is 0.
  static base::Result<Socket> Connect(const SocketAddress& to, BufferBytes buffers);

  // From here on in TLS. Handshake comes before Read and Write.
  void SecureAsClient(std::shared_ptr<const TlsContext> context, const std::string& peer_name);
  void SecureAsServer(std::shared_ptr<const TlsContext> context);
  [[nodiscard]] bool secure() const { return tls_ != nullptr; }
  TlsSession::Progress Handshake() { return tls_->Handshake(); }
  // Of the peer's certificate, see TlsSession; empty without one.
  [[nodiscard]] std::optional<std::string> PeerSubject() const {
    return tls_ ? tls_->PeerSubject() : std::nullopt;
  }

  // Of the peer's certificates, see TlsSession; infinity without one.
  [[nodiscard]] double PeerExpiresAt() const {
    return tls_ ? tls_->PeerExpiresAt() : std::numeric_limits<double>::infinity();
  }

  // Into, or from, the pieces in turn. Never blocks. A read that gives less than it could has
  // emptied the socket, unless the outcome says otherwise.
  Outcome Read(std::span<iovec> pieces);
  Outcome Write(std::span<iovec> pieces);
  // The same with a pipe, see there; not in TLS.
  Outcome ReadInto(Pipe& pipe, size_t bytes) { return pipe.Fill(fd_, bytes); }
  Outcome WriteFrom(Pipe& pipe, size_t bytes, bool more_follow) {
    return pipe.Drain(fd_, bytes, more_follow);
  }
  // See TlsSession.
  [[nodiscard]] bool WritingReads() const { return tls_ && tls_->WritingReads(); }
  // The kernel will not tell of these, which may be the end: they were read from it already.
  [[nodiscard]] bool HoldsBytes() const { return tls_ && tls_->HoldsBytes(); }
  // In words what failed.
  [[nodiscard]] std::string Explain(std::string_view what, const Outcome& failed) const;
  [[nodiscard]] const std::string& tls_error() const { return tls_->error(); }
  // The peer reads the end after what was written.
  void EndOutput();
  void Close();
  // Gives the descriptor away.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

  // Small frames leave at once, on the loopback interface without pacing, and a peer that vanished
  // is found by the kernel if nothing is on its way to it.
  void SetOptions(const SocketAddress& peer);
  enum class Delivery : uint8_t { kDone, kUnderWay, kGone };
  // Of what was written longer than `limit` ago. Gone: for so long the peer's host has acknowledged
  // nothing, though it was sent again. To say that there is no room is to acknowledge.
  [[nodiscard]] Delivery DeliveryAfter(base::Duration limit) const;
  // The pending error of the socket, which it forgets.
  [[nodiscard]] int TakeError();
  [[nodiscard]] SocketAddress LocalAddress() const;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
  std::unique_ptr<TlsSession> tls_;
};

}  // namespace holdfast::net
