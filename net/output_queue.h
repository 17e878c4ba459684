// Bytes on their way into a socket, in pieces, of which some may lie in pipes; copied only if they
// are lent and have to wait.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "net/pipe.h"

namespace holdfast::net {

class OutputQueue {
 public:
  static constexpr size_t kFrameHeaderBytes = 4;

  void Push(base::Buffer bytes);
  // With the 4 bytes of its length before it.
  void PushBody(base::Buffer body);
  void Push(Piped piped);
  // What lies in a pipe at the front of the queue, if the next bytes do.
  [[nodiscard]] Piped PeekPiped() const;
  // Points `into` at the first bytes of the queue that lie in memory; returns how many of its
  // elements it used.
  [[nodiscard]] size_t Peek(std::span<iovec> into);
  // The first bytes have left.
  void Pop(size_t bytes);
  void Clear();
  // Copies what is borrowed, so that its owners need not wait for the peer.
  void Own();

  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] bool empty() const { return bytes_ == 0; }

 private:
  struct Piece {
    base::Buffer bytes;
    Piped piped;
    char header[kFrameHeaderBytes];
    bool has_header = false;

    [[nodiscard]] size_t size() const {
      return bytes.size() + piped.bytes + (has_header ? kFrameHeaderBytes : 0);
    }
  };
  std::vector<Piece> pieces_;
  size_t first_ = 0;       // Piece at the front; those before it have left.
  size_t first_sent_ = 0;  // Bytes of it that have left.
  size_t bytes_ = 0;
  bool borrows_ = false;
};

}  // namespace holdfast::net
