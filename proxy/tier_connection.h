// A connection to a broker of the tier that says it is connected when it may be used: after TLS and
// SASL. Where the broker wants to see credentials again after a while (KIP-368), it shows them in
// time, between two requests: what was asked before is answered, what comes meanwhile waits.
//
// Ownership: what the context names outlives it. It may be destroyed from inside its callbacks.
// Threads: everything on the loop's thread.
// Shutdown: as net::FramedClient.
// Limits: name, connection and TLS together take at most connect_timeout, and SASL as long again,
//   each time, from when what was asked before is answered: a broker does one thing after another.
#pragma once

#include <memory>
#include <vector>

#include "net/framed_client.h"
#include "proxy/login.h"
#include "proxy/tier_security.h"

namespace holdfast::proxy {

class TierConnection {
 public:
  struct Context {
    net::EventLoop& loop;
    net::Resolver& resolver;
    metrics::NetMetrics& metrics;
  };

  // `identity`: null for none, in the clear. The options' tls is set from it. Of the callbacks,
  // on_frame, on_piece and on_piped get only answers to what Send was given, and on_closed kInvalid
  // if the two sides did not come to trust each other. on_output_high and on_output_low count what
  // waits until the connection may be used, too, and may come from inside Send.
  TierConnection(Context context, std::shared_ptr<const TierIdentity> identity,
                 net::FramedClient::Options options, net::FramedClient::Callbacks callbacks);
  ~TierConnection();
  TierConnection(const TierConnection&) = delete;
  TierConnection& operator=(const TierConnection&) = delete;

  // A whole frame. Before the connection may be used it waits. `answered`: the broker will answer
  // it (all but Produce with acks=0).
  void Send(base::Buffer frame, bool answered = true);
  // A frame without its length.
  void SendBody(base::Buffer body, bool answered = true);

  void Pause() { client_->Pause(); }
  void Resume() { client_->Resume(); }
  [[nodiscard]] bool connected() const { return client_->connected(); }
  [[nodiscard]] base::TimePoint last_heard() const { return client_->last_heard(); }

 private:
  struct Waiting {
    base::Buffer bytes;
    bool body;
    bool answered;
  };

  void OnConnected();
  void OnFrame(base::Buffer frame);
  void OnPiece(base::Buffer piece, size_t left);
  void BeginLogin();
  void LimitLogin();
  void OnAnswered();
  void OnLoginAnswer(std::string_view frame);
  void OnReady();
  void Put(Waiting waiting);
  void NotePressure();
  void Distrust(const base::Error& why);
  void Fail(base::Error error);

  const Context context_;
  const std::shared_ptr<const TierIdentity> identity_;
  const base::Duration login_timeout_;
  const size_t output_bytes_high_;
  std::shared_ptr<net::FramedClient::Callbacks> callbacks_;
  Login login_;
  bool ready_ = false;
  bool announced_ = false;
  size_t unanswered_ = 0;  // Of what was sent.
  // The frame that is waited for after `unanswered_` others belongs to the login.
  bool logging_in_ = false;
  std::vector<Waiting> waiting_;
  size_t waiting_bytes_ = 0;
  bool output_high_ = false;  // Of what was sent.
  bool pressed_ = false;      // The owner was told on_output_high.
  base::Timer login_limit_;
  base::Timer login_again_;
  std::unique_ptr<net::FramedClient> client_;
};

}  // namespace holdfast::proxy
