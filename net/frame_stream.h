// A connected socket as a sequence of frames in both directions: what server connections and
// clients have in common.
//
// Ownership: the owner outlives the stream, and destroys it at the end of a turn
//   (EventLoop::AtTurnEnd), so that it may close it from inside a callback.
// Threads: the loop's own.
// Limits: a frame's length is checked, and its owner asked, before memory is taken for it. For one
//   of more than 16 KiB the owner is asked when the first 16 KiB are there: a length that nothing
//   follows, or noise that reads as one, takes nothing from others. Small frames are read many at
//   a time through 64 KiB that the loop's streams share; the body of a larger one goes from the
//   socket to its place. An owner that takes long frames in pieces never has more than a piece of
//   them. Stretches of more than 64 KiB that it need not see stay in the kernel if the socket is in
//   the clear and a pipe is to be had, one for each frame; what a pipe does not take is read. What
//   was read ahead when the stream had to stop is kept, up to those 64 KiB; a stream that answers
//   stops in the midst of them when it has more than output_bytes_high to send, and goes on in the
//   next turn if that has left by then. What is sent in one turn leaves at the turn's end, in one
//   call for what is in memory before, between and behind parts in pipes, and one for each of
//   those.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/executor.h"
#include "metrics/catalogue.h"
#include "net/event_loop.h"
#include "net/output_queue.h"
#include "net/pipe.h"
#include "net/socket.h"

namespace holdfast::net {

class FrameStream {
 public:
  // Why a stream ended by itself.
  enum class End : uint8_t { kPeerClosed, kReadError, kWriteError, kBadLength, kHandshake };

  class Owner {
   public:
    // The handshake of a secured socket is done: frames follow.
    virtual void OnSecured() {}
    // May more be read than the frame that is under way? If not, the stream was stopped.
    virtual bool MayReadAhead() { return true; }
    // A frame of so many bytes begins. False: the stream was stopped until BeginBody is called.
    virtual bool AdmitFrame(size_t bytes) = 0;
    // The frame is there. False: the stream was stopped, and asks again when it goes on.
    virtual bool TakesFrame(std::string_view /*frame*/) { return true; }
    virtual void OnFrame(base::Buffer frame) = 0;
    // A frame of more than piece_bytes begins with `opening`. True: OnPiece gets it bit by bit,
    // OnFrame does not, and nobody asks AdmitFrame.
    virtual bool TakesPieces(size_t /*bytes*/, std::string_view /*opening*/) { return false; }
    // `left` bytes of the frame come in further pieces.
    virtual void OnPiece(base::Buffer /*piece*/, size_t /*left*/) {}
    // How many bytes behind the last piece nobody needs to see: some may come with OnPiped.
    [[nodiscard]] virtual size_t OpaqueBytes() { return 0; }
    // The same for a piece that lies in a pipe, which is never the last one.
    virtual void OnPiped(Piped /*piped*/, size_t /*left*/) {}
    // After writing, more than output_bytes_high is left; less than half of it is left again.
    virtual void OnOutputHigh() = 0;
    virtual void OnOutputLow() = 0;
    virtual void OnOutputEmpty() {}
    // The stream is closed; nothing follows.
    virtual void OnEnd(End end, std::string reason) = 0;

   protected:
    ~Owner() = default;
  };
  struct Options {
    size_t frame_bytes_max;  // Of one that is not taken in pieces.
    size_t output_bytes_high;
    // What comes in makes what goes out: no further frame is taken in a turn in which more than
    // output_bytes_high was queued. OnOutputHigh is to stop the stream, should that be left.
    bool answers = false;
    size_t piece_bytes = std::numeric_limits<size_t>::max();
  };
  // Reasons to stop reading; it goes on when none is left.
  enum Stop : uint8_t {
    kAdmission = 1,
    kRequests = 2,
    kOutput = 4,
    kPaused = 8,
    kEnding = 16,
    kThrottled = 32,
    kAnswers = 64,
    kHeld = 128
  };

  FrameStream(EventLoop& loop, metrics::NetMetrics& metrics, Options options, Socket socket,
              Owner& owner);
  ~FrameStream();
  FrameStream(const FrameStream&) = delete;
  FrameStream& operator=(const FrameStream&) = delete;

  void Send(base::Buffer bytes);
  void SendBody(base::Buffer body);
  // Not through TLS.
  void Send(Piped piped);

  void StopReading(Stop why);
  void GoOnReading(Stop why);
  // After AdmitFrame said false: takes the memory and goes on.
  void BeginBody();

  // At once; what is queued is dropped. OnEnd is not called.
  void Close();
  // Reads frames no more, lets the queue leave, tells the peer that no more comes, and ends with
  // OnEnd when the peer closes too. Closing sooner could reset the connection under answers that
  // the peer has not read.
  void Finish();

  [[nodiscard]] bool closed() const { return closed_; }
  // Of a secured socket, at first: nothing is read or sent until the peers know each other.
  [[nodiscard]] bool handshaking() const { return handshaking_; }
  [[nodiscard]] bool stopped() const { return stops_ != 0; }
  [[nodiscard]] size_t bytes_queued() const { return output_.bytes(); }
  // Some of a frame has come, and the rest has not.
  [[nodiscard]] bool in_frame() const { return in_body_ && !frame_waits_; }
  [[nodiscard]] base::TimePoint last_read() const { return last_read_; }
  [[nodiscard]] base::TimePoint last_write() const { return last_write_; }
  [[nodiscard]] const Socket& socket() const { return socket_; }

 private:
  static void OnReadable(int fd, short what, void* stream) noexcept;
  static void OnWritable(int fd, short what, void* stream) noexcept;

  void Handshake();
  void Read();
  bool ReadOnce(std::span<char> ahead);
  size_t PipedNext();
  std::optional<bool> ReadPiped(bool first);
  void TakePiece();
  void NoteReadBlocked(const Socket::Outcome& outcome);
  void Discard(std::span<char> into);
  void Consume(std::string_view bytes);
  void BeginFrame();
  void RefuseLength(int32_t length);
  void OnFilled();
  void FinishFrame();
  void FinishPiece();
  void Flush();
  void NoteOutput();
  // Flushes, and starts or stops waiting for the socket, once in this turn.
  void Arrange();
  void OnTurnEnd();
  // Something was read that has not been taken.
  [[nodiscard]] bool IsBehind() const { return frame_waits_ || !ahead_.empty(); }
  // No more is to be taken in this turn.
  [[nodiscard]] bool HeldUp();
  void UpdateEvents();
  void Fail(End end, std::string reason);

  EventLoop& loop_;
  metrics::NetMetrics& metrics_;
  const Options options_;
  Socket socket_;
  Owner& owner_;
  event* read_event_;
  event* write_event_;
  bool reading_ = false;
  bool writing_ = false;
  bool arranged_ = false;
  bool closed_ = false;
  bool finishing_ = false;
  bool output_ended_ = false;
  bool output_high_ = false;
  bool write_blocked_ = false;
  bool write_awaits_bytes_ = false;  // It is blocked by what has to be read first, see IoOutcome.
  bool read_awaits_room_ = false;    // And the other way round.
  bool handshaking_;
  bool handshake_writes_ = false;  // It waits for room in the socket, not for bytes from it.
  bool heard_ = false;             // Something was read: the peer has taken the handshake.
  bool socket_empty_ = false;      // The last read has seen the socket's end for now.
  uint8_t stops_ = 0;

  // The frame under way.
  bool in_body_ = false;
  uint8_t header_bytes_ = 0;
  char header_[OutputQueue::kFrameHeaderBytes];
  size_t length_ = 0;
  size_t filled_ = 0;
  base::Buffer frame_;        // As much of it as memory was taken for.
  bool frame_waits_ = false;  // It is there, and was not taken.
  bool in_pieces_ = false;
  size_t left_ = 0;             // Of a frame in pieces: what is still to come, frame_ included.
  bool pipe_asked_ = false;     // Once for each of these frames.
  std::shared_ptr<Pipe> pipe_;  // Through which some of it goes.
  std::string ahead_;           // Read, and not yet taken apart.

  OutputQueue output_;
  base::TimePoint full_in_;  // The last turn that made more than output_bytes_high.
  base::TimePoint last_read_;
  base::TimePoint last_write_;
};

}  // namespace holdfast::net
