// Bytes on their way from one socket to another that nobody here has to look at: they stay in the
// kernel, in a pipe, and are not copied.
//
//   std::shared_ptr<Pipe> pipe = loop.pipes().Take();  // Null: copy them.
//   IoOutcome got = pipe->Fill(from, bytes);
//   queue.Push(Piped{pipe, got.bytes});                 // Leaves with pipe->Drain(to, bytes).
//
// A pipe gives its bytes in the order in which it was filled: Piped parts of one pipe go into one
// queue, in the order in which they were made, and none is left out before another.
//
// Ownership: who fills a pipe and the Piped parts in it share it. When the last of them goes, an
//   empty one returns to its pool, and one with bytes left is closed. The pool outlives them.
// Threads: the loop's of the pool.
// Limits: a pipe holds at most kBytes, less if they came in many small segments. A pool has at most
//   kOpenMax of them, two descriptors each, and keeps those that are idle. None is to be had when
//   all are in use, where the process has no descriptors left, or its user no pages for pipes
//   (fs.pipe-user-pages-soft); that is no error.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "net/tls_session.h"

namespace holdfast::net {

class Pipe {
 public:
  static constexpr size_t kBytes = size_t{256} << 10;

  // Null if the system gives none of kBytes.
  static std::unique_ptr<Pipe> Make();
  ~Pipe();
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] size_t room() const { return kBytes - bytes_; }

  // At most so many bytes from a socket. Blocked: the socket has none now, or, unless the pipe is
  // empty, the pipe takes no more.
  IoOutcome Fill(int socket, size_t bytes);
  // At most so many bytes into a socket; they are there. Blocked: the socket takes none now.
  IoOutcome Drain(int socket, size_t bytes, bool more_follow);

 private:
  Pipe(int in, int out) : in_(in), out_(out) {}

  const int in_;
  const int out_;
  size_t bytes_ = 0;
};

// The next so many bytes of a pipe.
struct Piped {
  std::shared_ptr<Pipe> pipe = nullptr;
  size_t bytes = 0;
};

class PipePool {
 public:
  static constexpr size_t kOpenMax = 16;

  // Empty. Null if there is none.
  [[nodiscard]] std::shared_ptr<Pipe> Take();
  [[nodiscard]] size_t idle() const { return idle_.size(); }

 private:
  void Return(std::unique_ptr<Pipe> pipe);

  std::vector<std::unique_ptr<Pipe>> idle_;
  size_t in_use_ = 0;
};

}  // namespace holdfast::net
