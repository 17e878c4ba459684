#include "net/framed_client.h"

#include <event2/event.h>

#include <cstring>

#include "base/check.h"
#include "net/frame_stream.h"
#include "net/socket.h"

namespace holdfast::net {
namespace {

base::Code CodeOf(FrameStream::End end) {
  switch (end) {
    case FrameStream::End::kBadLength:
      return base::Code::kCorrupt;
    case FrameStream::End::kHandshake:
      return base::Code::kInvalid;
    case FrameStream::End::kPeerClosed:
    case FrameStream::End::kReadError:
    case FrameStream::End::kWriteError:
      break;
  }
  return base::Code::kUnavailable;
}

}  // namespace

class FramedClient::Core final : public FrameStream::Owner,
                                 public std::enable_shared_from_this<Core> {
 public:
  Core(EventLoop& loop, metrics::NetMetrics& metrics, Options options, Callbacks callbacks)
      : loop_(loop),
        metrics_(metrics),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        connect_until_(loop.Now() + options_.connect_timeout),
        last_heard_(loop.Now()) {}

  ~Core() { HF_CHECK(connect_event_ == nullptr); }

  void Start(Resolver& resolver) {
    timeout_ = loop_.After(options_.connect_timeout, [this] {
      Fail({base::Code::kTimeout,
            stream_ == nullptr ? "no connection in time" : "TLS: no handshake in time"});
    });
    question_ = resolver.Resolve(options_.peer, loop_,
                                 [this](auto found) { OnResolved(std::move(found)); });
  }

  void Send(base::Buffer bytes, bool body) {
    if (closed_) return;
    if (stream_ == nullptr) {
      waiting_.push_back({std::move(bytes), body});
    } else if (body) {
      stream_->SendBody(std::move(bytes));
    } else {
      stream_->Send(std::move(bytes));
    }
  }
  void NoteFrameSent() { metrics_.sent_frames.Add(); }

  void Pause() {
    paused_ = true;
    if (stream_ != nullptr) stream_->StopReading(FrameStream::kPaused);
  }
  void Resume() {
    paused_ = false;
    if (stream_ != nullptr) stream_->GoOnReading(FrameStream::kPaused);
  }

  void Close() {
    if (std::exchange(closed_, true)) return;
    timeout_.Cancel();
    question_.Cancel();
    EndAttempt();
    waiting_.clear();
    if (stream_ != nullptr) stream_->Close();
    // A callback of this object may be running.
    loop_.AtTurnEnd([self = shared_from_this()] {});
  }

  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] bool connected() const {
    return stream_ != nullptr && !closed_ && !stream_->handshaking();
  }
  [[nodiscard]] base::TimePoint last_heard() const {
    return stream_ == nullptr ? last_heard_ : stream_->last_read();
  }
  [[nodiscard]] SocketAddress local() const {
    return connected() ? stream_->socket().LocalAddress() : SocketAddress();
  }

 private:
  struct Waiting {
    base::Buffer bytes;
    bool body;
  };

  void OnResolved(base::Result<std::vector<SocketAddress>> found) {
    if (!found) return Fail(std::move(found).error());
    addresses_ = *std::move(found);
    TryNextAddress();
  }

  // However many addresses there are: over a slow way the first of them has to have its time.
  static constexpr int64_t kShares = 4;

  void TryNextAddress() {
    while (next_address_ < addresses_.size()) {
      const auto left = static_cast<int64_t>(addresses_.size() - next_address_);
      auto socket = Socket::Connect(
          addresses_[next_address_++],
          {.receive = options_.receive_buffer_bytes, .send = options_.send_buffer_bytes});
      if (socket) {
        connecting_ = *std::move(socket);
        connect_event_ =
            event_new(loop_.base(), connecting_.fd(), EV_WRITE, &Core::OnConnectable, this);
        HF_CHECK(connect_event_ != nullptr && event_add(connect_event_, nullptr) == 0);
        if (left > 1) LimitAttempt((connect_until_ - loop_.Now()) / std::min(left, kShares));
        return;
      }
      last_failure_ = socket.error().message;
    }
    Fail({base::Code::kUnavailable, last_failure_});
  }

  // The last address has none: timeout_ is for it, and says so.
  void LimitAttempt(base::Duration limit) {
    attempt_timeout_ = loop_.After(limit, [this] {
      EndAttempt();
      TryNextAddress();
    });
  }

  static void OnConnectable(int /*fd*/, short /*what*/, void* core) noexcept {
    auto* self = static_cast<Core*>(core);
    self->loop_.BeginTurn();
    self->OnAttemptDone();
  }

  void OnAttemptDone() {
    attempt_timeout_.Cancel();
    event_free(std::exchange(connect_event_, nullptr));
    const int error = connecting_.TakeError();
    if (error != 0) {
      connecting_.Close();
      last_failure_ = base::ErrnoError("connect", error).message;
      return TryNextAddress();
    }
    if (options_.tls) connecting_.SecureAsClient(options_.tls, options_.peer.host);
    stream_ = std::make_unique<FrameStream>(
        loop_, metrics_,
        FrameStream::Options{.frame_bytes_max = options_.frame_bytes_max,
                             .output_bytes_high = options_.output_bytes_high,
                             .piece_bytes = options_.piece_bytes},
        std::move(connecting_), *this);
    if (paused_) stream_->StopReading(FrameStream::kPaused);
    for (Waiting& waiting : std::exchange(waiting_, {}))
      Send(std::move(waiting.bytes), waiting.body);
    if (!stream_->handshaking()) OnSecured();
  }

  void OnSecured() override {
    timeout_.Cancel();
    if (callbacks_.on_connected) callbacks_.on_connected();
  }

  void EndAttempt() {
    attempt_timeout_.Cancel();
    if (connect_event_ != nullptr) event_free(std::exchange(connect_event_, nullptr));
    connecting_.Close();
  }

  void Fail(base::Error error) {
    Close();
    if (callbacks_.on_closed)
      callbacks_.on_closed(std::move(error).Within(options_.peer.ToString()));
  }

  bool AdmitFrame(size_t /*bytes*/) override { return true; }
  void OnFrame(base::Buffer frame) override {
    if (callbacks_.on_frame) callbacks_.on_frame(std::move(frame));
  }
  bool TakesPieces(size_t bytes, std::string_view opening) override {
    return callbacks_.takes_pieces && callbacks_.takes_pieces(bytes, opening);
  }
  void OnPiece(base::Buffer piece, size_t left) override {
    callbacks_.on_piece(std::move(piece), left);
  }
  size_t OpaqueBytes() override { return callbacks_.opaque_bytes ? callbacks_.opaque_bytes() : 0; }
  void OnPiped(Piped piped, size_t left) override { callbacks_.on_piped(std::move(piped), left); }
  void OnOutputHigh() override {
    if (callbacks_.on_output_high) callbacks_.on_output_high();
  }
  void OnOutputLow() override {
    if (callbacks_.on_output_low) callbacks_.on_output_low();
  }
  void OnEnd(FrameStream::End end, std::string reason) override {
    Fail({CodeOf(end), std::move(reason)});
  }

  EventLoop& loop_;
  metrics::NetMetrics& metrics_;
  const Options options_;
  Callbacks callbacks_;

  // Until the connection stands.
  const base::TimePoint connect_until_;
  base::Timer timeout_;  // Then.
  base::Timer attempt_timeout_;
  base::Timer question_;
  std::vector<SocketAddress> addresses_;
  size_t next_address_ = 0;
  Socket connecting_;
  event* connect_event_ = nullptr;
  std::string last_failure_;
  std::vector<Waiting> waiting_;
  base::TimePoint last_heard_;

  std::unique_ptr<FrameStream> stream_;
  bool paused_ = false;
  bool closed_ = false;
};

FramedClient::FramedClient(EventLoop& loop, Resolver& resolver, metrics::NetMetrics& metrics,
                           Options options, Callbacks callbacks)
    : core_(std::make_shared<Core>(loop, metrics, std::move(options), std::move(callbacks))) {
  core_->Start(resolver);
}

FramedClient::~FramedClient() {
  core_->loop().RunAndWait([this] {
    core_->Close();
    core_.reset();
  });
}

void FramedClient::Send(base::Buffer frame) {
  core_->NoteFrameSent();
  core_->Send(std::move(frame), false);
}

void FramedClient::Send(std::vector<base::Buffer> pieces) {
  core_->NoteFrameSent();
  for (base::Buffer& piece : pieces) core_->Send(std::move(piece), false);
}

void FramedClient::SendBody(base::Buffer body) {
  core_->NoteFrameSent();
  core_->Send(std::move(body), true);
}

void FramedClient::Pause() { core_->Pause(); }
void FramedClient::Resume() { core_->Resume(); }
void FramedClient::Close() { core_->Close(); }
bool FramedClient::connected() const { return core_->connected(); }
base::TimePoint FramedClient::last_heard() const { return core_->last_heard(); }
const HostPort& FramedClient::peer() const { return core_->options().peer; }
SocketAddress FramedClient::local() const { return core_->local(); }

}  // namespace holdfast::net
