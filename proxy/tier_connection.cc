#include "proxy/tier_connection.h"

#include <algorithm>

#include "base/check.h"
#include "base/event.h"
#include "kafka/codec.h"

namespace holdfast::proxy {
namespace {

// Of those that Kafka's own clients keep for SASL.
constexpr int32_t kLoginCorrelationId = 0x7ffffff8;
// Credentials are shown again after this part of a session's life, but not sooner than Kafka's
// brokers allow: a second after the last time.
constexpr double kRenewAfter = 0.85;
constexpr base::Duration kRenewMin = std::chrono::milliseconds(1100);

net::FramedClient::Options WithTls(net::FramedClient::Options options,
                                   const TierIdentity* identity) {
  if (identity != nullptr && identity->tls) options.tls = identity->tls->context();
  return options;
}

}  // namespace

TierConnection::TierConnection(Context context, std::shared_ptr<const TierIdentity> identity,
                               net::FramedClient::Options options,
                               net::FramedClient::Callbacks callbacks)
    : context_(context),
      identity_(std::move(identity)),
      login_timeout_(options.connect_timeout),
      output_bytes_high_(options.output_bytes_high),
      callbacks_(std::make_shared<net::FramedClient::Callbacks>(std::move(callbacks))) {
  net::FramedClient::Callbacks own;
  own.on_connected = [this] { OnConnected(); };
  own.on_frame = [this](base::Buffer frame) { OnFrame(std::move(frame)); };
  if (callbacks_->takes_pieces) {
    own.takes_pieces = [this](size_t bytes, std::string_view opening) {
      return unanswered_ > 0 && callbacks_->takes_pieces(bytes, opening);
    };
    own.on_piece = [this](base::Buffer piece, size_t left) { OnPiece(std::move(piece), left); };
    if (callbacks_->opaque_bytes) {
      own.opaque_bytes = [this] { return callbacks_->opaque_bytes(); };
      own.on_piped = [this](net::Piped piped, size_t left) {
        callbacks_->on_piped(std::move(piped), left);
      };
    }
  }
  own.on_closed = [this](base::Error error) { Fail(std::move(error)); };
  own.on_output_high = [this] {
    output_high_ = true;
    NotePressure();
  };
  own.on_output_low = [this] {
    output_high_ = false;
    NotePressure();
  };
  client_ = std::make_unique<net::FramedClient>(context_.loop, context_.resolver, context_.metrics,
                                                WithTls(std::move(options), identity_.get()),
                                                std::move(own));
}

TierConnection::~TierConnection() {
  context_.loop.RunAndWait([this] {
    login_limit_.Cancel();
    login_again_.Cancel();
    client_.reset();
    // One of them may be running.
    context_.loop.AtTurnEnd([callbacks = std::move(callbacks_)] {});
  });
}

void TierConnection::OnConnected() {
  if (identity_ && identity_->sasl) return BeginLogin();
  OnReady();
}

void TierConnection::Send(base::Buffer frame, bool answered) {
  Put({.bytes = std::move(frame), .body = false, .answered = answered});
}

void TierConnection::SendBody(base::Buffer body, bool answered) {
  Put({.bytes = std::move(body), .body = true, .answered = answered});
}

void TierConnection::Put(Waiting waiting) {
  if (!ready_) {
    waiting_bytes_ += waiting.bytes.size();
    waiting_.push_back(std::move(waiting));
    return NotePressure();
  }
  if (waiting.answered) ++unanswered_;
  if (waiting.body) {
    client_->SendBody(std::move(waiting.bytes));
  } else {
    client_->Send(std::move(waiting.bytes));
  }
}

void TierConnection::BeginLogin() {
  ready_ = false;
  logging_in_ = true;
  if (unanswered_ == 0) LimitLogin();
  auto frame = login_.Begin(*identity_->sasl, kLoginCorrelationId);
  if (!frame) return Distrust(frame.error());
  client_->Send(*std::move(frame));
}

void TierConnection::LimitLogin() {
  login_limit_ = context_.loop.After(login_timeout_, [this] {
    Fail({base::Code::kTimeout, client_->peer().ToString() + ": authenticating took too long"});
  });
}

void TierConnection::OnAnswered() {
  if (--unanswered_ == 0 && logging_in_) LimitLogin();
}

void TierConnection::OnFrame(base::Buffer frame) {
  if (unanswered_ == 0 && logging_in_) return OnLoginAnswer(frame.view());
  // One too many is for the owner to see, too.
  if (unanswered_ > 0) OnAnswered();
  if (callbacks_->on_frame) callbacks_->on_frame(std::move(frame));
}

void TierConnection::OnPiece(base::Buffer piece, size_t left) {
  if (left == 0) OnAnswered();
  callbacks_->on_piece(std::move(piece), left);
}

void TierConnection::OnLoginAnswer(std::string_view frame) {
  const auto correlation_id = kafka::ReadCorrelationId(frame);
  if (!correlation_id || *correlation_id != kLoginCorrelationId) {
    return Fail({base::Code::kUnavailable,
                 client_->peer().ToString() + ": an answer that belongs to no request"});
  }
  auto next = login_.OnAnswer(frame, kLoginCorrelationId);
  if (!next) return Distrust(next.error());
  if (next->has_value()) return client_->Send(std::move(**next));
  logging_in_ = false;
  login_limit_.Cancel();
  if (const base::Duration life = login_.session_lifetime(); life > base::Duration::zero()) {
    const auto renew = std::chrono::duration_cast<base::Duration>(life * kRenewAfter);
    login_again_ = context_.loop.After(std::max(renew, kRenewMin), [this] { BeginLogin(); });
  }
  OnReady();
}

void TierConnection::OnReady() {
  ready_ = true;
  waiting_bytes_ = 0;
  for (Waiting& waiting : std::exchange(waiting_, {})) Put(std::move(waiting));
  NotePressure();
  if (!std::exchange(announced_, true) && callbacks_->on_connected) callbacks_->on_connected();
}

void TierConnection::NotePressure() {
  const bool pressed = output_high_ || waiting_bytes_ > output_bytes_high_;
  if (pressed == std::exchange(pressed_, pressed)) return;
  auto& tell = pressed ? callbacks_->on_output_high : callbacks_->on_output_low;
  if (tell) tell();
}

void TierConnection::Distrust(const base::Error& why) {
  Fail({base::Code::kInvalid, client_->peer().ToString() + ": " + why.message,
        base::Event::kTierLogin});
}

// The owner usually destroys this from inside the callback, so nothing follows it.
void TierConnection::Fail(base::Error error) {
  ready_ = false;
  login_limit_.Cancel();
  login_again_.Cancel();
  client_->Close();
  waiting_.clear();
  waiting_bytes_ = 0;
  if (auto on_closed = std::exchange(callbacks_->on_closed, {})) on_closed(std::move(error));
}

}  // namespace holdfast::proxy
