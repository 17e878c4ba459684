// One accepted connection: puts answers back into the order of requests, and decides when its
// socket is read. On its worker's loop only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/frame_stream.h"
#include "net/framed_server.h"
#include "net/server_worker.h"

namespace holdfast::net {

class ServerConnection final : public Connection, private FrameStream::Owner {
 public:
  ServerConnection(ServerWorker& worker, uint64_t id, Socket socket, const SocketAddress& peer);
  ~ServerConnection();

  // Makes the session, at once or after the TLS handshake. It may close the connection at once.
  void Start();
  void Answered(uint64_t request, Answer answer);
  void OnMemory(Reservation memory);
  void CloseIfIdle(base::TimePoint now);
  // Reads no more, and closes when the requests in flight are answered.
  void BeginDrain();
  // The worker forgets the connection, and its session ends at the end of the turn.
  void CloseFor(CloseCause cause, std::string_view reason);
  void EndSession();

  EventLoop& loop() override { return worker_.loop(); }
  uint64_t id() const override { return id_; }
  const SocketAddress& peer() const override { return peer_; }
  const SocketAddress& local() const override { return local_; }
  std::optional<std::string> peer_subject() const override {
    return stream_.socket().PeerSubject();
  }
  bool sends_piped() const override { return !stream_.socket().secure(); }
  size_t requests_in_flight() const override {
    return static_cast<size_t>(next_request_ - first_request_);
  }
  size_t bytes_queued() const override { return stream_.bytes_queued(); }
  void Close(std::string_view reason) override { CloseFor(session_cause_, reason); }
  void Pause() override { stream_.StopReading(FrameStream::kPaused); }
  void Resume() override { stream_.GoOnReading(FrameStream::kPaused); }
  void Throttle(base::Duration time) override;
  void AwaitLogin(std::optional<size_t> frame_bytes_max) override;

 private:
  struct Slot {
    Answer answer;
    std::vector<Answer> parts;  // Of a frame that `answer` ends.
    size_t held_bytes = 0;      // Of the parts, while others are first.
    size_t whole_bytes = 0;     // Of `answer`, likewise.
    bool done = false;
  };

  void OnSecured() override;
  bool MayReadAhead() override;
  bool AdmitFrame(size_t bytes) override;
  bool TakesFrame(std::string_view frame) override;
  void OnFrame(base::Buffer frame) override;
  void OnOutputHigh() override;
  void OnOutputLow() override;
  void OnOutputEmpty() override;
  void OnEnd(FrameStream::End end, std::string reason) override;

  Slot& SlotOf(uint64_t request) { return slots_[request & (slots_.size() - 1)]; }
  void AddSlot();
  void Release(Answer answer);
  void ReleaseParts(Slot& slot);
  void Hold(Slot& slot, size_t bytes);
  void NotePressure();
  void NoteWhole();
  void WaitForMemory(size_t bytes);
  [[nodiscard]] bool IsPeerGone(base::TimePoint now);
  // Lets what is queued leave, then closes.
  void Finish();

  ServerWorker& worker_;
  const uint64_t id_;
  const SocketAddress peer_;
  const SocketAddress local_;
  FrameStream stream_;
  std::unique_ptr<Session> session_;

  // Requests in flight are [first, next), in a ring whose size is a power of two.
  std::vector<Slot> slots_;
  uint64_t first_request_ = 0;
  uint64_t next_request_ = 0;

  size_t held_bytes_ = 0;   // Of answers in parts that wait for those before them.
  size_t whole_bytes_ = 0;  // Of whole answers that do.
  bool output_high_ = false;
  bool pressed_ = false;  // The session was told OnOutputHigh.

  std::optional<size_t> frame_limit_;  // While a login is awaited.
  Reservation frame_memory_;           // Of the frame that is being read.
  base::TimePoint frame_since_;        // Since when others wait for that.
  bool waits_for_memory_ = false;
  bool frame_waits_ = false;  // And it waits because a frame has begun.
  bool requests_full_ = false;
  bool whole_high_ = false;
  bool waits_for_answers_ = false;  // The frame that is there.
  bool draining_ = false;
  bool finishing_ = false;
  bool lingers_ = false;
  base::TimePoint delivered_;  // The last write that the peer is known to have.
  CloseCause session_cause_ = CloseCause::kSession;  // The peer's, if the session outlives it.
  bool closed_ = false;
  base::Timer linger_;
  base::Timer handshake_limit_;
  base::Timer login_limit_;
  base::TimePoint throttled_until_;
  base::Timer throttle_;
};

}  // namespace holdfast::net
