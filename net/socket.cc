#include "net/socket.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/event.h"
namespace holdfast::net {
namespace {

constexpr int kBacklog = 511;
// A peer that drops packets is given up after half a minute: by these probes if nothing is on its
// way to it.
constexpr int kProbeAfterSeconds = 15;
constexpr int kProbeEverySeconds = 5;
constexpr int kProbes = 3;
// The tier also if something is. It has to answer within about that time anyway.
constexpr int kUnacknowledgedMs = 30'000;
// So often something has been sent again before a peer counts as gone.
constexpr int kRepeats = 3;

void SetInt(int fd, int level, int name, int value) {
  // These options are wishes; a socket without them works too.
  setsockopt(fd, level, name, &value, sizeof(value));
}

void SetBuffers(int fd, Socket::BufferBytes buffers) {
  if (buffers.receive > 0) SetInt(fd, SOL_SOCKET, SO_RCVBUF, buffers.receive);
  if (buffers.send > 0) SetInt(fd, SOL_SOCKET, SO_SNDBUF, buffers.send);
}

Socket::Outcome ToOutcome(ssize_t result) {
  if (result > 0) return {Socket::Outcome::Kind::kDone, static_cast<size_t>(result)};
  if (result == 0) return {Socket::Outcome::Kind::kEnd};
  if (errno == EAGAIN || errno == EWOULDBLOCK) return {Socket::Outcome::Kind::kBlocked};
  return {Socket::Outcome::Kind::kFailed, 0, errno};
}

base::Error CannotListen(const char* call) {
  base::Error error = base::ErrnoError(call, errno);
  error.event = errno == EADDRINUSE ? base::Event::kPortTaken : base::Event::kCannotListen;
  return error;
}

std::string CannotListenOn(const HostPort& at) { return "cannot listen on " + at.ToString(); }

base::Result<Socket> ListenAt(const SocketAddress& address, Socket::BufferBytes buffers) {
  Socket socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return base::Unexpected(base::ErrnoError("socket", errno));
  SetInt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);
  SetBuffers(socket.fd(), buffers);
  if (bind(socket.fd(), address.get(), address.size()) != 0)
    return base::Unexpected(CannotListen("bind"));
  if (listen(socket.fd(), kBacklog) != 0) return base::Unexpected(CannotListen("listen"));
  return socket;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
    tls_ = std::move(other.tls_);
  }
  return *this;
}

base::Result<SocketAddress> Socket::AddressToListen(const HostPort& at) {
  auto addresses = ResolveBlocking({at.host.empty() ? "0.0.0.0" : at.host, at.port});
  if (!addresses) return base::Unexpected(std::move(addresses).error().Within(CannotListenOn(at)));
  return addresses->front();
}

base::Result<Socket> Socket::Listen(const HostPort& at, BufferBytes buffers) {
  HF_ASSIGN_OR_RETURN(const SocketAddress address, AddressToListen(at));
  auto socket = ListenAt(address, buffers);
  if (!socket) return base::Unexpected(std::move(socket).error().Within(CannotListenOn(at)));
  return socket;
}

base::Result<Socket> Socket::Connect(const SocketAddress& to, BufferBytes buffers) {
  Socket socket(::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.fd() < 0) return base::Unexpected(base::ErrnoError("socket", errno));
  SetBuffers(socket.fd(), buffers);
  socket.SetOptions(to);
  // Ends the connection, too, if all that time there is no room on the other side.
  SetInt(socket.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, kUnacknowledgedMs);
  if (connect(socket.fd(), to.get(), to.size()) != 0 && errno != EINPROGRESS)
    return base::Unexpected(base::ErrnoError("connect", errno));
  return socket;
}

void Socket::SecureAsClient(std::shared_ptr<const TlsContext> context,
                            const std::string& peer_name) {
  tls_ = TlsSession::Connect(std::move(context), fd_, peer_name);
}

void Socket::SecureAsServer(std::shared_ptr<const TlsContext> context) {
  tls_ = TlsSession::Accept(std::move(context), fd_);
}

Socket::Outcome Socket::Read(std::span<iovec> pieces) {
  if (tls_) return tls_->Read(pieces);
  ssize_t result;
  do {
    result = pieces.size() == 1 ? recv(fd_, pieces[0].iov_base, pieces[0].iov_len, 0)
                                : readv(fd_, pieces.data(), static_cast<int>(pieces.size()));
  } while (result < 0 && errno == EINTR);
  return ToOutcome(result);
}

Socket::Outcome Socket::Write(std::span<iovec> pieces) {
  if (tls_) return tls_->Write(pieces);
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  ssize_t result;
  do {
    result = pieces.size() == 1 ? send(fd_, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL)
                                : sendmsg(fd_, &message, MSG_NOSIGNAL);
  } while (result < 0 && errno == EINTR);
  return ToOutcome(result);
}

std::string Socket::Explain(std::string_view what, const Outcome& failed) const {
  return failed.error_number == 0 && tls_ ? tls_->error()
                                          : base::ErrnoError(what, failed.error_number).message;
}

void Socket::EndOutput() {
  if (tls_) tls_->End();
  shutdown(fd_, SHUT_WR);
}

void Socket::Close() {
  if (fd_ < 0) return;
  if (tls_) tls_->End();
  tls_.reset();
  close(std::exchange(fd_, -1));
}

void Socket::SetOptions(const SocketAddress& peer) {
  SetInt(fd_, IPPROTO_TCP, TCP_NODELAY, 1);
  SetInt(fd_, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetInt(fd_, IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterSeconds);
  SetInt(fd_, IPPROTO_TCP, TCP_KEEPINTVL, kProbeEverySeconds);
  SetInt(fd_, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  // Nothing is congested there, but where the host's default is BBR it paces by what little was
  // asked for before, and an answer of 16 KiB takes a millisecond instead of a tenth.
  constexpr std::string_view kUnpaced = "reno";
  if (peer.IsLoopback())
    setsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

Socket::Delivery Socket::DeliveryAfter(base::Duration limit) const {
  int waiting = 0;
  if (ioctl(fd_, SIOCOUTQ, &waiting) != 0 || waiting == 0) return Delivery::kDone;
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return Delivery::kUnderWay;
  if (info.tcpi_retransmits + info.tcpi_probes < kRepeats) return Delivery::kUnderWay;
  // What is sent again, or asks for room, goes out less and less often, to be answered then.
  const auto between = std::chrono::microseconds(info.tcpi_rto) * 5 / 4;
  const auto silent = std::chrono::milliseconds(info.tcpi_last_ack_recv);
  return silent > limit && silent > between ? Delivery::kGone : Delivery::kUnderWay;
}

int Socket::TakeError() {
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

SocketAddress Socket::LocalAddress() const {
  sockaddr_in6 address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return {reinterpret_cast<const sockaddr*>(&address), size};
}

}  // namespace holdfast::net
