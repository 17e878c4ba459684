#include "net/frame_stream.h"

#include <event2/event.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/endian.h"

namespace holdfast::net {
namespace {

constexpr size_t kReadAheadBytes = 65536;
// What must have come of a frame before memory for all of it is asked for.
constexpr size_t kOpeningBytes = 16384;
// Turns are shared: a stream with more to read or write waits for the next one.
constexpr int kReadsPerTurn = 4;
constexpr size_t kWriteBytesPerTurn = size_t{4} << 20;
constexpr size_t kPiecesPerWrite = 64;
// Less than that is read faster than it is moved: a pipe takes calls of its own.
constexpr size_t kPipedMin = 65536;

// Of the loop's thread: only one stream at a time reads.
std::span<char> ReadAheadSpace() {
  thread_local const auto space = std::make_unique_for_overwrite<char[]>(kReadAheadBytes);
  return {space.get(), kReadAheadBytes};
}

}  // namespace

FrameStream::FrameStream(EventLoop& loop, metrics::NetMetrics& metrics, Options options,
                         Socket socket, Owner& owner)
    : loop_(loop),
      metrics_(metrics),
      options_(options),
      socket_(std::move(socket)),
      owner_(owner),
      read_event_(event_new(loop.base(), socket_.fd(), EV_READ | EV_PERSIST,
                            &FrameStream::OnReadable, this)),
      write_event_(event_new(loop.base(), socket_.fd(), EV_WRITE | EV_PERSIST,
                             &FrameStream::OnWritable, this)),
      handshaking_(socket_.secure()),
      last_read_(loop.Now()),
      last_write_(last_read_) {
  HF_CHECK(read_event_ != nullptr && write_event_ != nullptr);
  if (handshaking_) {
    Arrange();
  } else {
    UpdateEvents();
  }
}

FrameStream::~FrameStream() {
  HF_CHECK(closed_ && !arranged_);
  event_free(read_event_);
  event_free(write_event_);
}

void FrameStream::Send(base::Buffer bytes) {
  if (closed_ || output_ended_) return;
  output_.Push(std::move(bytes));
  Arrange();
}

void FrameStream::SendBody(base::Buffer body) {
  if (closed_ || output_ended_) return;
  output_.PushBody(std::move(body));
  Arrange();
}

void FrameStream::Send(Piped piped) {
  if (closed_ || output_ended_) return;
  output_.Push(std::move(piped));
  Arrange();
}

void FrameStream::StopReading(Stop why) {
  stops_ = static_cast<uint8_t>(stops_ | why);
  Arrange();
}

void FrameStream::GoOnReading(Stop why) {
  stops_ = static_cast<uint8_t>(stops_ & ~why);
  Arrange();
}

void FrameStream::BeginBody() {
  if (closed_ || finishing_) return;
  HF_CHECK(!in_body_);
  const base::Buffer opening = std::exchange(frame_, base::Buffer(length_));
  in_body_ = true;
  filled_ = opening.size();
  if (filled_ > 0) std::memcpy(frame_.data(), opening.data(), filled_);
  if (filled_ == length_) FinishFrame();
}

void FrameStream::Close() {
  if (std::exchange(closed_, true)) return;
  if (reading_) event_del(read_event_);
  if (writing_) event_del(write_event_);
  reading_ = writing_ = false;
  socket_.Close();
  output_.Clear();
  pipe_.reset();
  frame_ = base::Buffer();
  frame_waits_ = false;
  ahead_ = std::string();
}

void FrameStream::Finish() {
  if (closed_ || std::exchange(finishing_, true)) return;
  frame_ = base::Buffer();
  pipe_.reset();
  ahead_ = std::string();
  in_body_ = in_pieces_ = frame_waits_ = false;
  stops_ = 0;
  Arrange();
}

void FrameStream::OnReadable(int /*fd*/, short /*what*/, void* stream) noexcept {
  auto* self = static_cast<FrameStream*>(stream);
  self->loop_.BeginTurn();
  if (self->handshaking_) return self->Arrange();
  if (std::exchange(self->write_awaits_bytes_, false)) {
    self->write_blocked_ = false;
    self->Arrange();
    if (self->stops_ != 0) return;
  }
  self->Read();
}

void FrameStream::OnWritable(int /*fd*/, short /*what*/, void* stream) noexcept {
  auto* self = static_cast<FrameStream*>(stream);
  self->loop_.BeginTurn();
  self->write_blocked_ = false;
  if (std::exchange(self->read_awaits_room_, false)) self->socket_empty_ = false;
  self->Arrange();
}

void FrameStream::Handshake() {
  switch (socket_.Handshake()) {
    case TlsSession::Progress::kDone:
      handshaking_ = false;
      last_read_ = loop_.Now();
      return owner_.OnSecured();
    case TlsSession::Progress::kWantsRead:
      handshake_writes_ = false;
      return;
    case TlsSession::Progress::kWantsWrite:
      handshake_writes_ = true;
      return;
    case TlsSession::Progress::kFailed:
      return Fail(End::kHandshake, socket_.tls_error());
  }
}

void FrameStream::Read() {
  const std::span<char> space = ReadAheadSpace();
  socket_empty_ = false;
  if (finishing_) return Discard(space);
  // What was read before comes first, at the turn's end.
  for (int i = 0; i < kReadsPerTurn && !closed_ && !HeldUp() && !IsBehind(); ++i) {
    const bool may_read_ahead = owner_.MayReadAhead();
    if (closed_ || (!may_read_ahead && !in_body_)) return;
    if (const std::optional<bool> more = ReadPiped(i == 0)) {
      if (*more) continue;
      break;
    }
    TakePiece();
    // What belongs to the frame goes to its place, a piece with each read.
    const bool ends_in_piece = !in_pieces_ || left_ == frame_.size();
    if (!ReadOnce(may_read_ahead && ends_in_piece ? space : std::span<char>())) return;
  }
  if (!closed_ && (IsBehind() || socket_.HoldsBytes())) Arrange();
}

// How many of the bytes behind those in frame_ are to go through pipe_.
size_t FrameStream::PipedNext() {
  if (!in_pieces_ || socket_.secure()) return 0;
  const size_t opaque = std::min(owner_.OpaqueBytes(), left_ - 1);
  if (opaque < filled_ + kPipedMin) return 0;
  if (!std::exchange(pipe_asked_, true)) pipe_ = loop_.pipes().Take();
  return pipe_ == nullptr ? 0 : opaque - filled_;
}

// Moves what nobody looks at into the pipe. None: it is to be read, if the stream goes on. False:
// there is no more for now, or the pipe is to be emptied first.
std::optional<bool> FrameStream::ReadPiped(bool first) {
  size_t bytes = PipedNext();
  if (bytes == 0) return std::nullopt;
  if (filled_ > 0) {
    // Behind a pipe that waits for the other side the piece is filled first, or what trickles in
    // would take a piece of memory each.
    if (pipe_->bytes() > 0) return std::nullopt;
    FinishPiece();
    if (closed_ || stops_ != 0 || pipe_ == nullptr) return false;
  }
  frame_ = base::Buffer();  // An empty one may be longer than what is left behind the pipe.
  bytes = std::min(bytes, pipe_->room());
  Socket::Outcome outcome{Socket::Outcome::Kind::kBlocked};
  if (bytes > 0) outcome = socket_.ReadInto(*pipe_, bytes);
  if (outcome.kind != Socket::Outcome::Kind::kDone) {
    // What cannot be moved can be read, for all of this frame.
    if (outcome.kind == Socket::Outcome::Kind::kFailed) pipe_.reset();
    // In the turn's first read nothing has come, or it is the peer at the other end who is slow to
    // take what is in the pipe: reading tells, as it does of an end or an error.
    if (first || outcome.kind != Socket::Outcome::Kind::kBlocked) return std::nullopt;
    return false;
  }
  metrics_.received_bytes.Add(outcome.bytes);
  last_read_ = loop_.Now();
  left_ -= outcome.bytes;
  owner_.OnPiped({.pipe = pipe_, .bytes = outcome.bytes}, left_);
  return outcome.bytes == bytes;
}

// Memory for the next piece, if it has none. Between pipes it is short.
void FrameStream::TakePiece() {
  if (!in_pieces_ || !frame_.empty()) return;
  PipedNext();
  const size_t bytes =
      pipe_ == nullptr ? options_.piece_bytes : std::min(options_.piece_bytes, kReadAheadBytes);
  frame_ = base::Buffer(std::min(left_, bytes));
}

// False if the socket has no more for now.
bool FrameStream::ReadOnce(std::span<char> ahead) {
  std::array<iovec, 2> pieces;
  size_t count = 0;
  HF_CHECK(!in_pieces_ || frame_.size() <= left_);
  const size_t missing = in_body_ ? frame_.size() - filled_ : 0;
  if (missing > 0) pieces[count++] = {.iov_base = frame_.data() + filled_, .iov_len = missing};
  if (!ahead.empty()) pieces[count++] = {.iov_base = ahead.data(), .iov_len = ahead.size()};
  const Socket::Outcome outcome = socket_.Read({pieces.data(), count});
  switch (outcome.kind) {
    case Socket::Outcome::Kind::kBlocked:
      NoteReadBlocked(outcome);
      return false;
    case Socket::Outcome::Kind::kEnd:
      Fail(End::kPeerClosed, "closed by the peer");
      return false;
    case Socket::Outcome::Kind::kFailed:
      // TLS 1.3 has a server judge the client's certificate when the client is done.
      Fail(heard_ || outcome.error_number != 0 ? End::kReadError : End::kHandshake,
           socket_.Explain("read", outcome));
      return false;
    case Socket::Outcome::Kind::kDone:
      break;
  }
  heard_ = true;
  metrics_.received_bytes.Add(outcome.bytes);
  last_read_ = loop_.Now();
  const bool partial = outcome.bytes < missing + ahead.size();
  socket_empty_ = partial && !outcome.ends;
  if (outcome.ends) Arrange();  // In the next turn: what came before it is answered first.
  const size_t direct = std::min(missing, outcome.bytes);
  if (direct > 0) {
    filled_ += direct;
    if (filled_ == frame_.size()) OnFilled();
  }
  Consume({ahead.data(), outcome.bytes - direct});
  return !partial;
}

void FrameStream::NoteReadBlocked(const Socket::Outcome& outcome) {
  socket_empty_ = true;
  if (!outcome.crossed) return;
  read_awaits_room_ = true;
  Arrange();
}

void FrameStream::Discard(std::span<char> into) {
  iovec piece{.iov_base = into.data(), .iov_len = into.size()};
  const Socket::Outcome outcome = socket_.Read({&piece, 1});
  if (outcome.kind == Socket::Outcome::Kind::kEnd)
    return Fail(End::kPeerClosed, "closed by the peer");
  if (outcome.kind == Socket::Outcome::Kind::kFailed)
    return Fail(End::kReadError, socket_.Explain("read", outcome));
  if (outcome.kind == Socket::Outcome::Kind::kBlocked) {
    NoteReadBlocked(outcome);
  } else {
    socket_empty_ = outcome.bytes < into.size() && !outcome.ends;
  }
  if (socket_.HoldsBytes()) Arrange();
}

bool FrameStream::HeldUp() {
  if (stops_ != 0 || !options_.answers) return stops_ != 0;
  if (output_.bytes() > options_.output_bytes_high) full_in_ = loop_.Now();
  return full_in_ == loop_.Now();
}

// Takes the bytes apart into frames; keeps them if the stream has to stop.
void FrameStream::Consume(std::string_view bytes) {
  while (!bytes.empty()) {
    if (closed_ || finishing_) return;
    if (HeldUp()) {
      ahead_.assign(bytes);
      return;
    }
    if (in_body_) {
      TakePiece();
      const size_t taken = std::min(frame_.size() - filled_, bytes.size());
      std::memcpy(frame_.data() + filled_, bytes.data(), taken);
      bytes.remove_prefix(taken);
      filled_ += taken;
      if (filled_ == frame_.size()) OnFilled();
    } else {
      header_[header_bytes_++] = bytes.front();
      bytes.remove_prefix(1);
      if (header_bytes_ == sizeof(header_)) BeginFrame();
    }
  }
}

void FrameStream::BeginFrame() {
  header_bytes_ = 0;
  const auto length = base::LoadBig<int32_t>(header_);
  if (length < 0) return RefuseLength(length);
  length_ = static_cast<size_t>(length);
  if (length_ > options_.frame_bytes_max && length_ <= options_.piece_bytes)
    return RefuseLength(length);
  filled_ = 0;
  if (length_ <= kOpeningBytes) {
    frame_ = base::Buffer();
    if (owner_.AdmitFrame(length_)) BeginBody();
  } else {
    frame_ = base::Buffer(kOpeningBytes);
    in_body_ = true;
  }
}

// A piece, the frame, or its opening, after which the rest is worth asking for.
void FrameStream::OnFilled() {
  if (in_pieces_) return FinishPiece();
  if (filled_ == length_) return FinishFrame();
  if (length_ > options_.piece_bytes && owner_.TakesPieces(length_, frame_.view())) {
    in_pieces_ = true;
    pipe_asked_ = false;
    left_ = length_;
    return FinishPiece();
  }
  in_body_ = false;
  if (length_ > options_.frame_bytes_max) return RefuseLength(static_cast<int32_t>(length_));
  if (owner_.AdmitFrame(length_)) BeginBody();
}

void FrameStream::RefuseLength(int32_t length) {
  Fail(End::kBadLength, "a frame of " + std::to_string(length) + " bytes, where 0 to " +
                            std::to_string(options_.frame_bytes_max) + " are allowed");
}

void FrameStream::FinishFrame() {
  frame_waits_ = !owner_.TakesFrame(frame_.view());
  if (frame_waits_) return;
  in_body_ = false;
  metrics_.received_frames.Add();
  owner_.OnFrame(std::move(frame_));
}

// Hands on as much of the piece as there is.
void FrameStream::FinishPiece() {
  frame_.Truncate(filled_);
  left_ -= std::exchange(filled_, 0);
  base::Buffer piece = std::exchange(frame_, base::Buffer());
  if (left_ == 0) {
    in_body_ = in_pieces_ = false;
    pipe_.reset();
    metrics_.received_frames.Add();
  }
  owner_.OnPiece(std::move(piece), left_);
}

void FrameStream::Flush() {
  size_t budget = kWriteBytesPerTurn;
  std::array<iovec, kPiecesPerWrite> pieces;
  while (!closed_ && !handshaking_ && !output_.empty() && !write_blocked_ && budget > 0) {
    if (socket_.WritingReads()) socket_empty_ = false;
    Socket::Outcome outcome{};
    if (const Piped piped = output_.PeekPiped(); piped.pipe != nullptr) {
      outcome = socket_.WriteFrom(*piped.pipe, piped.bytes, output_.bytes() > piped.bytes);
    } else {
      outcome = socket_.Write({pieces.data(), output_.Peek(pieces)});
    }
    if (outcome.kind == Socket::Outcome::Kind::kBlocked) {
      write_blocked_ = true;
      write_awaits_bytes_ = outcome.crossed;
    } else if (outcome.kind == Socket::Outcome::Kind::kDone) {
      metrics_.sent_bytes.Add(outcome.bytes);
      last_write_ = loop_.Now();
      output_.Pop(outcome.bytes);
      budget -= std::min(budget, outcome.bytes);
    } else {
      return Fail(End::kWriteError, socket_.Explain("write", outcome));
    }
  }
}

// Tells the owner what the flush left in the queue.
void FrameStream::NoteOutput() {
  if (!output_high_ && output_.bytes() > options_.output_bytes_high) {
    output_high_ = true;
    owner_.OnOutputHigh();
  } else if (output_high_ && output_.bytes() <= options_.output_bytes_high / 2) {
    output_high_ = false;
    owner_.OnOutputLow();
  }
  if (closed_ || !output_.empty()) return;
  owner_.OnOutputEmpty();
  if (!closed_ && finishing_ && !std::exchange(output_ended_, true)) socket_.EndOutput();
}

void FrameStream::Arrange() {
  if (closed_ || std::exchange(arranged_, true)) return;
  loop_.AtTurnEnd([this] { OnTurnEnd(); });
}

void FrameStream::OnTurnEnd() {
  if (!closed_ && handshaking_) Handshake();
  while (!closed_ && !HeldUp() && IsBehind()) {
    if (frame_waits_) {
      FinishFrame();
    } else {
      const std::string bytes = std::exchange(ahead_, std::string());
      Consume(bytes);
    }
  }
  arranged_ = false;
  if (closed_) return;
  Flush();
  output_.Own();
  if (!closed_) NoteOutput();
  if (!closed_) UpdateEvents();
}

void FrameStream::UpdateEvents() {
  const bool read = handshaking_ ? !handshake_writes_
                                 : write_awaits_bytes_ || (stops_ == 0 && !read_awaits_room_);
  if (read != reading_) {
    HF_CHECK((read ? event_add(read_event_, nullptr) : event_del(read_event_)) == 0);
    reading_ = read;
  }
  const bool write = handshaking_ ? handshake_writes_
                                  : read_awaits_room_ || (!output_.empty() && !write_awaits_bytes_);
  if (write != writing_) {
    HF_CHECK((write ? event_add(write_event_, nullptr) : event_del(write_event_)) == 0);
    writing_ = write;
  }
  if (!reading_ || stops_ != 0 || handshaking_) return;
  // The socket does not tell of what was read ahead, nor of what TLS has taken from it already.
  const bool tls_holds = !socket_empty_ && !write_awaits_bytes_ && socket_.HoldsBytes();
  if (IsBehind() || tls_holds) event_active(read_event_, EV_READ, 1);
}

void FrameStream::Fail(End end, std::string reason) {
  Close();
  owner_.OnEnd(end, std::move(reason));
}

}  // namespace holdfast::net
