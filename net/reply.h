// The duty to answer one request, as a value: whoever holds it answers, at once or later, from any
// thread.
//
//   void OnFrame(base::Buffer frame, net::Reply reply) override { reply.Send(Handle(frame)); }
//
// Answers leave in the order of the requests, whatever the order in which they are given. A long
// one may be given in parts, which leave as they come once the answers before it have left. An
// answer to a connection that has gone is dropped. A Reply that is destroyed without an answer is a
// bug: it is logged and its connection closed, since the client would wait for ever.
//
// Ownership: move-only; holds the request's memory reservation until it is answered, or lets go of
//   it. Must be gone before the loop of its connection is (the server may go earlier).
// Threads: any, one at a time.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "net/memory_budget.h"
#include "net/pipe.h"

namespace holdfast::net {

struct Answer {
  enum class Kind : uint8_t {
    kSend,     // `first` and `rest`, which begin with the length of the frame.
    kBody,     // `first`, with the length of the frame to be put before it.
    kPart,     // As kSend, but the frame goes on with the next answer to the same request.
    kNothing,  // The request wants no answer (acks=0).
    kLast,     // As kSend, and close the connection behind it.
    kClose,    // Close the connection once the answers before this one have left.
    kLost,     // The Reply was destroyed.
  };
  Kind kind = Kind::kNothing;
  base::Buffer first = {};
  std::vector<base::Buffer> rest = {};  // After `first`; usually empty.
  Piped piped = {};                     // After `rest`; of kPart only.
  std::string reason = {};              // Of kClose, for the log.
};

// Where answers go. The server's connections; a test may catch them in its own.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // From any thread; once for each Reply made.
  virtual void Complete(uint64_t connection, uint64_t request, Answer answer) = 0;
};

class Reply {
 public:
  Reply() = default;
  Reply(ReplySink* sink, uint64_t connection, uint64_t request, Reservation memory = {})
      : sink_(sink), connection_(connection), request_(request), memory_(std::move(memory)) {}
  Reply(Reply&& other) noexcept
      : sink_(std::exchange(other.sink_, nullptr)),
        connection_(other.connection_),
        request_(other.request_),
        memory_(std::move(other.memory_)) {}
  Reply& operator=(Reply&& other) noexcept;
  ~Reply();

  // A whole frame, the 4 bytes of its length included.
  void Send(base::Buffer frame);
  // The same in pieces, which leave one after the other without being copied. Those that are
  // borrowed are copied if they cannot leave at once: their owners are let go with the turn.
  void Send(std::vector<base::Buffer> pieces);
  void Send(base::Buffer first, std::vector<base::Buffer> rest);
  // A frame without its length, which is put before it.
  void SendBody(base::Buffer body);
  // The next pieces of a frame that Send ends, and behind them, on a connection that sends_piped
  // and from its loop's thread, what lies in a pipe. The holder watches how much of it waits: see
  // net::Session::OnOutputHigh.
  void SendPart(std::vector<base::Buffer> pieces, Piped piped = {});
  // Lets go of the request's memory before the answer: something else bounds it from now on.
  void ReleaseMemory() { memory_.Release(); }
  void SendNothing();
  // A whole frame, and the end of the connection once it has left. Nothing more is read.
  void SendLast(base::Buffer frame);
  // The end of the connection once the answers before this one have left. Nothing more is read.
  void Close(std::string reason);

  // False once it was answered or moved from.
  explicit operator bool() const { return sink_ != nullptr; }

 private:
  void Complete(Answer answer);

  ReplySink* sink_ = nullptr;
  uint64_t connection_ = 0;
  uint64_t request_ = 0;
  Reservation memory_;
};

}  // namespace holdfast::net
