#include "net/server_connection.h"

#include <algorithm>

#include "base/check.h"
#include "base/event.h"
#include "base/log.h"

namespace holdfast::net {
namespace {

// Memory reserved for a frame whose sender went silent is wanted elsewhere.
constexpr base::Duration kFrameStall = std::chrono::seconds(30);
// And so is that of a frame that trickles in: it has the time of a stall, and for its bytes.
constexpr size_t kFrameBytesPerMs = 1024;
// How long a peer may take to close after it has been told that no more comes.
constexpr base::Duration kLinger = std::chrono::seconds(2);
constexpr size_t kSlotsAtFirst = 4;

size_t BytesOf(const Answer& answer) {
  size_t bytes = answer.first.size() + answer.piped.bytes;
  for (const base::Buffer& piece : answer.rest) bytes += piece.size();
  return bytes;
}

CloseCause CauseOf(FrameStream::End end) {
  switch (end) {
    case FrameStream::End::kPeerClosed:
      return CloseCause::kPeer;
    case FrameStream::End::kBadLength:
      return CloseCause::kBadLength;
    case FrameStream::End::kHandshake:
      return CloseCause::kHandshake;
    case FrameStream::End::kReadError:
    case FrameStream::End::kWriteError:
      break;
  }
  return CloseCause::kError;
}

}  // namespace

ServerConnection::ServerConnection(ServerWorker& worker, uint64_t id, Socket socket,
                                   const SocketAddress& peer)
    : worker_(worker),
      id_(id),
      peer_(peer),
      local_(socket.LocalAddress()),
      stream_(worker.loop(), worker.shared().metrics,
              {.frame_bytes_max = worker.shared().options.frame_bytes_max,
               .output_bytes_high = worker.shared().options.output_bytes_high,
               .answers = true},
              std::move(socket), *this),
      slots_(kSlotsAtFirst) {}

ServerConnection::~ServerConnection() = default;

void ServerConnection::Start() {
  if (!stream_.handshaking()) return OnSecured();
  handshake_limit_ = loop().After(worker_.shared().options.handshake_timeout, [this] {
    CloseFor(CloseCause::kHandshake, "no TLS handshake in time");
  });
}

void ServerConnection::OnSecured() {
  handshake_limit_.Cancel();
  if (!finishing_) session_ = worker_.shared().factory(*this);
}

bool ServerConnection::MayReadAhead() {
  if (!worker_.shared().budget.HasWaiters()) return true;
  if (!stream_.in_frame()) WaitForMemory(0);
  return false;
}

bool ServerConnection::AdmitFrame(size_t bytes) {
  if (frame_limit_ && bytes > *frame_limit_) {
    OnEnd(FrameStream::End::kBadLength, "a frame of " + std::to_string(bytes) + " bytes, where " +
                                            std::to_string(*frame_limit_) + " are allowed for now");
    return false;
  }
  frame_since_ = loop().Now();
  if (worker_.shared().budget.TryReserve(bytes, &frame_memory_)) return true;
  frame_waits_ = true;
  WaitForMemory(bytes);
  return false;
}

void ServerConnection::WaitForMemory(size_t bytes) {
  HF_CHECK(!waits_for_memory_);
  waits_for_memory_ = true;
  stream_.StopReading(FrameStream::kAdmission);
  worker_.shared().metrics.read_pauses.Add();
  worker_.shared().budget.Wait(bytes, [worker = &worker_, id = id_](Reservation memory) {
    worker->loop().Post([worker, id, memory = std::move(memory)]() mutable {
      worker->OnMemory(id, std::move(memory));
    });
  });
}

void ServerConnection::OnMemory(Reservation memory) {
  waits_for_memory_ = false;
  stream_.GoOnReading(FrameStream::kAdmission);
  if (!std::exchange(frame_waits_, false)) return;
  frame_memory_ = std::move(memory);
  frame_since_ = loop().Now();
  stream_.BeginBody();
}

void ServerConnection::AddSlot() {
  if (requests_in_flight() == slots_.size()) {
    std::vector<Slot> larger(slots_.size() * 2);
    for (uint64_t request = first_request_; request < next_request_; ++request)
      larger[request & (larger.size() - 1)] = std::move(SlotOf(request));
    slots_ = std::move(larger);
  }
  SlotOf(next_request_) = {};
  ++next_request_;
}

bool ServerConnection::TakesFrame(std::string_view frame) {
  waits_for_answers_ = requests_in_flight() > 0 && session_->WaitsForAnswers(frame);
  if (waits_for_answers_) stream_.StopReading(FrameStream::kAnswers);
  return !waits_for_answers_;
}

void ServerConnection::OnFrame(base::Buffer frame) {
  const uint64_t request = next_request_;
  AddSlot();
  if (requests_in_flight() >= worker_.shared().options.requests_in_flight_max) {
    requests_full_ = true;
    stream_.StopReading(FrameStream::kRequests);
    worker_.shared().metrics.read_pauses.Add();
  }
  session_->OnFrame(std::move(frame), Reply(&worker_, id_, request, std::move(frame_memory_)));
}

void ServerConnection::Answered(uint64_t request, Answer answer) {
  if (finishing_) return;
  HF_CHECK(request >= first_request_ && request < next_request_ && !SlotOf(request).done);
  if (answer.kind == Answer::Kind::kLost) {
    base::Log(base::Event::kReplyLost, {"net", peer_.ToString()},
              "a request was given up without an answer; this is a bug");
    return CloseFor(CloseCause::kLostReply, "a request was given up without an answer");
  }
  // Who asks after that gets no answer, so it is not to be done either.
  if (answer.kind == Answer::Kind::kClose || answer.kind == Answer::Kind::kLast)
    stream_.StopReading(FrameStream::kEnding);
  Slot& slot = SlotOf(request);
  if (request > first_request_) {
    // Whole answers are there already; and who gave them may have to go on for the first one.
    const size_t bytes = BytesOf(answer);
    if (answer.kind == Answer::Kind::kPart || !slot.parts.empty()) {
      Hold(slot, bytes);
    } else {
      slot.whole_bytes = bytes;
      whole_bytes_ += bytes;
    }
    answer.first.Own();
    for (base::Buffer& piece : answer.rest) piece.Own();
  }
  if (answer.kind == Answer::Kind::kPart) {
    slot.parts.push_back(std::move(answer));
  } else {
    slot.answer = std::move(answer);
    slot.done = true;
  }
  while (first_request_ < next_request_ && !finishing_) {
    Slot& first = SlotOf(first_request_);
    ReleaseParts(first);
    if (!first.done) break;
    whole_bytes_ -= first.whole_bytes;
    Release(std::move(first.answer));
    ++first_request_;
  }
  NotePressure();
  NoteWhole();
  if (requests_full_ &&
      requests_in_flight() <= worker_.shared().options.requests_in_flight_max / 2) {
    requests_full_ = false;
    stream_.GoOnReading(FrameStream::kRequests);
  }
  if (requests_in_flight() > 0) return;
  if (std::exchange(waits_for_answers_, false)) stream_.GoOnReading(FrameStream::kAnswers);
  if (draining_) Finish();
}

// The answer's turn has come.
void ServerConnection::Release(Answer answer) {
  switch (answer.kind) {
    case Answer::Kind::kSend:
      worker_.shared().metrics.sent_frames.Add();
      stream_.Send(std::move(answer.first));
      for (base::Buffer& piece : answer.rest) stream_.Send(std::move(piece));
      break;
    case Answer::Kind::kBody:
      worker_.shared().metrics.sent_frames.Add();
      stream_.SendBody(std::move(answer.first));
      break;
    case Answer::Kind::kLast:
      worker_.shared().metrics.sent_frames.Add();
      stream_.Send(std::move(answer.first));
      Finish();
      break;
    case Answer::Kind::kClose:
      base::Log(base::LogLevel::kDebug, "net", "{}: closing: {}", peer_.ToString(), answer.reason);
      Finish();
      break;
    case Answer::Kind::kPart:
    case Answer::Kind::kNothing:
    case Answer::Kind::kLost:
      break;
  }
}

void ServerConnection::ReleaseParts(Slot& slot) {
  held_bytes_ -= std::exchange(slot.held_bytes, 0);
  for (Answer& part : std::exchange(slot.parts, {})) {
    for (base::Buffer& piece : part.rest) stream_.Send(std::move(piece));
    if (part.piped.pipe != nullptr) stream_.Send(std::move(part.piped));
  }
}

void ServerConnection::Hold(Slot& slot, size_t bytes) {
  slot.held_bytes += bytes;
  held_bytes_ += bytes;
}

// Whoever gives answers in parts slows down while much of them waits.
void ServerConnection::NotePressure() {
  const size_t high = worker_.shared().options.output_bytes_high;
  const bool pressed = output_high_ || held_bytes_ > (pressed_ ? high / 2 : high);
  if (pressed == pressed_ || closed_ || session_ == nullptr) return;
  pressed_ = pressed;
  if (pressed) {
    session_->OnOutputHigh();
  } else {
    session_->OnOutputLow();
  }
}

// What waits whole keeps no memory of requests: more of them are not taken meanwhile.
void ServerConnection::NoteWhole() {
  const size_t high = worker_.shared().options.output_bytes_high;
  const bool too_much = whole_bytes_ > (whole_high_ ? high / 2 : high);
  if (too_much == whole_high_) return;
  whole_high_ = too_much;
  if (!too_much) return stream_.GoOnReading(FrameStream::kHeld);
  stream_.StopReading(FrameStream::kHeld);
  worker_.shared().metrics.read_pauses.Add();
}

void ServerConnection::OnOutputHigh() {
  output_high_ = true;
  stream_.StopReading(FrameStream::kOutput);
  worker_.shared().metrics.read_pauses.Add();
  NotePressure();
}

void ServerConnection::OnOutputLow() {
  output_high_ = false;
  stream_.GoOnReading(FrameStream::kOutput);
  NotePressure();
}

void ServerConnection::Throttle(base::Duration time) {
  const base::TimePoint until = loop().Now() + time;
  if (closed_ || until <= throttled_until_) return;
  throttled_until_ = until;
  stream_.StopReading(FrameStream::kThrottled);
  throttle_ = loop().After(time, [this] { stream_.GoOnReading(FrameStream::kThrottled); });
}

void ServerConnection::AwaitLogin(std::optional<size_t> frame_bytes_max) {
  if (!frame_bytes_max) {
    login_limit_.Cancel();
  } else if (!frame_limit_) {
    login_limit_ = loop().After(worker_.shared().options.login_timeout,
                                [this] { CloseFor(CloseCause::kLogin, "no login in time"); });
  }
  frame_limit_ = frame_bytes_max;
}

void ServerConnection::BeginDrain() {
  if (std::exchange(draining_, true)) return;
  stream_.StopReading(FrameStream::kEnding);
  if (requests_in_flight() == 0) Finish();
}

void ServerConnection::Finish() {
  finishing_ = true;
  frame_memory_.Release();
  stream_.Finish();
}

void ServerConnection::OnOutputEmpty() {
  if (!finishing_ || std::exchange(lingers_, true)) return;
  linger_ = loop().After(kLinger, [this] {
    CloseFor(draining_ ? CloseCause::kShutdown : CloseCause::kSession,
             "the peer did not close in time");
  });
}

void ServerConnection::OnEnd(FrameStream::End end, std::string reason) {
  if (end == FrameStream::End::kBadLength)
    base::Log(base::Event::kBadClient, {"net", peer_.host()}, "{}; closed", reason);
  if (end == FrameStream::End::kHandshake)
    base::Log(base::Event::kHandshakeFailed, {"net", peer_.host()}, "{}", reason);
  CloseCause cause = CauseOf(end);
  if (finishing_) cause = draining_ ? CloseCause::kShutdown : CloseCause::kSession;
  const bool peer_gone = cause == CloseCause::kPeer || cause == CloseCause::kError;
  if (!peer_gone || session_ == nullptr || !session_->OutlivesPeer())
    return CloseFor(cause, reason);
  session_cause_ = cause;
  finishing_ = true;
  frame_waits_ = false;
  frame_memory_.Release();
  // No answer is in anybody's way any more.
  if (std::exchange(pressed_, false)) session_->OnOutputLow();
}

// Asks the kernel once for each lull in which something was written.
bool ServerConnection::IsPeerGone(base::TimePoint now) {
  const base::Duration limit = worker_.shared().options.acknowledge_timeout;
  const base::TimePoint written = stream_.last_write();
  if (written == delivered_ || now - written < limit) return false;
  const Socket::Delivery delivery = stream_.socket().DeliveryAfter(limit);
  if (delivery == Socket::Delivery::kDone) delivered_ = written;
  return delivery == Socket::Delivery::kGone;
}

void ServerConnection::CloseIfIdle(base::TimePoint now) {
  if (IsPeerGone(now)) return CloseFor(CloseCause::kError, "the peer's host does not answer");
  const base::Duration idle_timeout = worker_.shared().options.idle_timeout;
  const base::Duration stall = std::min(idle_timeout, kFrameStall);
  if (stream_.in_frame() && !stream_.stopped() && now - stream_.last_read() > stall) {
    return CloseFor(CloseCause::kStalled, "a frame began and did not go on");
  }
  // Unless the peer does not take its answers, it is not its fault that it is not read.
  if (!worker_.shared().budget.HasWaiters() || (stream_.stopped() && !output_high_)) {
    frame_since_ = now;
  } else if (const size_t bytes = frame_memory_.bytes();
             bytes > 0 &&
             now - frame_since_ > stall + std::chrono::milliseconds(bytes / kFrameBytesPerMs)) {
    return CloseFor(CloseCause::kStalled, "a frame takes too long while others wait for memory");
  }
  const bool expected = requests_in_flight() == 0 && !waits_for_memory_;
  if ((expected || stream_.bytes_queued() > 0) &&
      now - std::max(stream_.last_read(), stream_.last_write()) > idle_timeout) {
    CloseFor(CloseCause::kIdle, "idle for too long");
  }
}

void ServerConnection::CloseFor(CloseCause cause, std::string_view reason) {
  if (closed_) return;
  closed_ = true;
  base::Log(base::LogLevel::kDebug, "net", "{}: closed: {}", peer_.ToString(), reason);
  stream_.Close();
  linger_.Cancel();
  handshake_limit_.Cancel();
  login_limit_.Cancel();
  throttle_.Cancel();
  frame_memory_.Release();
  worker_.shared().NoteClosed(cause);
  worker_.Retire(id_);
}

void ServerConnection::EndSession() {
  if (session_ == nullptr) return;
  session_->OnClosed();
  session_.reset();
}

}  // namespace holdfast::net
