// A connected or listening TCP socket. All bytes of framed connections pass through Socket::Read
// and Socket::Write: it is the place where TLS belongs.
//
// Ownership: move-only, closes its descriptor. Threads: one at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "net/address.h"

namespace holdfast::net {

class Socket {
 public:
  struct Outcome {
    enum class Kind : uint8_t { kDone, kBlocked, kEnd, kFailed };
    Kind kind;
    size_t bytes = 0;      // Of kDone, more than none.
    int error_number = 0;  // Of kFailed.
  };
  // Of the kernel; 0 leaves its automatic choice.
  struct BufferBytes {
    int receive = 0;
    int send = 0;
  };

  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { Close(); }

  // Bound and listening, not blocking. The buffer sizes go over to accepted sockets.
  static base::Result<Socket> Listen(const HostPort& at, BufferBytes buffers);
  // A connection that may still be under way: it stands once it can be written and Error is 0.
  static base::Result<Socket> Connect(const SocketAddress& to, BufferBytes buffers);

  // Into, or from, the pieces in turn. Never blocks.
  Outcome Read(std::span<iovec> pieces);
  Outcome Write(std::span<iovec> pieces);
  // The peer reads the end after what was written.
  void EndOutput();
  void Close();
  // Gives the descriptor away.
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }

  // Small frames leave at once, and a peer that vanished is found by the kernel.
  void SetOptions();
  // The pending error of the socket, which it forgets.
  [[nodiscard]] int TakeError();
  [[nodiscard]] SocketAddress LocalAddress() const;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

}  // namespace holdfast::net
