#include "broker/server.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "broker/worker.h"
#include "kafka/codec.h"

namespace holdfast::broker {
namespace {

using std::chrono::milliseconds;

// As in Kafka.
constexpr base::Duration kBeginsAgainEvery = std::chrono::seconds(1);

// Carries an answer of the dispatcher to the connection. If the request was not understood, the
// dispatcher drops it, and the connection is closed in its turn.
class Answerer {
 public:
  Answerer(net::Reply reply, net::EventLoop& loop,
           std::shared_ptr<net::Connection* const> connection)
      : reply_(std::move(reply)), loop_(&loop), connection_(std::move(connection)) {}
  Answerer(Answerer&&) noexcept = default;
  Answerer& operator=(Answerer&&) = delete;
  ~Answerer() {
    if (reply_) reply_.Close("the request was not understood");
  }

  void operator()(kafka::Answer answer) {
    if (answer.throttle > base::Duration::zero()) {
      // Fetches of a session that began on another connection are answered on that one's loop.
      const auto throttle = [connection = connection_, time = answer.throttle] {
        if (*connection != nullptr) (*connection)->Throttle(time);
      };
      loop_->InLoop() ? throttle() : loop_->Post(throttle);
    }
    switch (answer.kind) {
      case kafka::Answer::Kind::kFrame:
        return reply_.Send(std::move(answer.frame), std::move(answer.rest));
      case kafka::Answer::Kind::kNothing:
        return reply_.SendNothing();
      case kafka::Answer::Kind::kClose:
        return reply_.Close(std::move(answer.reason));
    }
  }

 private:
  net::Reply reply_;
  net::EventLoop* loop_;
  // Null in it once that is closed. Of the loop.
  std::shared_ptr<net::Connection* const> connection_;
};

// What all connections of a listener share.
struct Listener {
  Broker& broker;
  ListenerOptions options;
};

class ClientSession final : public net::Session {
 public:
  ClientSession(std::shared_ptr<const Listener> listener, Worker& worker,
                net::Connection& connection)
      : listener_(std::move(listener)),
        worker_(worker),
        connection_(connection),
        self_(std::make_shared<net::Connection*>(&connection)) {
    const std::string& advertised = listener_->options.advertised;
    kafka::Peer peer{.address = connection.peer().host(),
                     .listener = advertised.empty() ? connection.local().ToString() : advertised,
                     .software_name = {},
                     .software_version = {}};
    if (const auto subject = connection.peer_subject()) {
      const auto& names = listener_->options.certificate_names;
      const auto name = names ? names->NameOf(*subject) : subject;
      if (name) peer.principal = "User:" + *name;
      nameless_ = !name && policy().mechanisms.empty();
    }
    peer_ = std::make_shared<const kafka::Peer>(std::move(peer));
    if (!policy().mechanisms.empty()) connection_.AwaitLogin(auth::kLoginBytesMax);
    if (const auto wait = worker_.RecordConnection(peer_->address); wait > base::Duration::zero()) {
      connection_.Pause();
      refusal_ = connection_.loop().After(
          wait, [this] { connection_.Close("too many new connections of its address"); });
    }
  }

  ~ClientSession() override { *self_ = nullptr; }

  // An answer to a Fetch may be long, and is made for a client that takes it.
  bool WaitsForAnswers(std::string_view frame) const override {
    constexpr int16_t kFetch = kafka::FetchRequest::kApi.key;
    return frame.size() >= sizeof(kFetch) && base::LoadBig<int16_t>(frame.data()) == kFetch;
  }

  void OnFrame(base::Buffer frame, net::Reply reply) override {
    if (nameless_) {
      base::Log(base::Event::kCertificateOfNobody, {"broker", connection_.peer().host()},
                "no rule names its certificate");
      return reply.Close("no rule names the client's certificate");
    }
    if (!policy().mechanisms.empty() && ServesLogin(frame, reply)) return;
    auto served = worker_.Serve(peer_, std::move(frame),
                                Answerer(std::move(reply), connection_.loop(), self_));
    if (served) return;
    base::Log(base::Event::kBadRequest, {"broker", connection_.peer().host()},
              "closing its connection: {}", served.error().message);
  }

 private:
  [[nodiscard]] const auth::SaslPolicy& policy() const { return listener_->options.sasl; }
  // Of a session that has begun.
  [[nodiscard]] bool expires() const { return expires_at_ != base::TimePoint::max(); }

  // True: the request was part of a login, or came without one, and was answered.
  bool ServesLogin(const base::Buffer& frame, net::Reply& reply) {
    if (refused_) {
      reply.Close("a request after a login that failed");
      return true;
    }
    if (bare_ && sasl_.under_way()) {
      AuthenticateBare(frame, reply);
      return true;
    }
    const auto header = kafka::ReadRequestHeader(frame.view());
    if (!header) {
      reply.Close(header.error().message);
      return true;
    }
    switch (header->api_key) {
      case kafka::ApiVersionsRequest::kApi.key:
        if (!sasl_.authenticated()) return false;
        break;
      case kafka::SaslHandshakeRequest::kApi.key:
        if (sasl_.authenticated() && !MayBeginAgain()) break;
        Handshake(frame, *header, reply);
        return true;
      case kafka::SaslAuthenticateRequest::kApi.key:
        if (sasl_.authenticated() && !sasl_.under_way()) break;
        Authenticate(frame, *header, reply);
        return true;
      default:
        if (sasl_.authenticated()) break;
        reply.Close("a request before SASL authentication");
        return true;
    }
    if (connection_.loop().Now() > expires_at_) {
      reply.Close("a request after the end of the session");
      return true;
    }
    return false;  // Of SASL, the worker refuses it.
  }

  // Where sessions end, and at most once in a while.
  bool MayBeginAgain() {
    const base::TimePoint now = connection_.loop().Now();
    if (!expires() || (began_again_ && now - *began_again_ < kBeginsAgainEvery)) return false;
    began_again_ = now;
    return true;
  }

  // False if the version is not served; then the connection is closed.
  template <class Request>
  static bool Serves(const kafka::RequestHeader& header, net::Reply& reply) {
    const kafka::Served* served = kafka::FindServed(ServedApis(), Request::kApi.key);
    if (served != nullptr && served->oldest <= header.api_version &&
        header.api_version <= served->newest) {
      return true;
    }
    reply.Close("a SASL request of a version that is not served");
    return false;
  }

  void Handshake(const base::Buffer& frame, const kafka::RequestHeader& header, net::Reply& reply) {
    if (!Serves<kafka::SaslHandshakeRequest>(header, reply)) return;
    const auto request = kafka::DecodeRequest<kafka::SaslHandshakeRequest>(frame.view(), header);
    if (!request) return reply.Close(request.error().message);
    const auto response = sasl_.Handshake(policy(), request->mechanism);
    bare_ = header.api_version == 0;
    base::Buffer answer =
        kafka::EncodeResponse(response, header.api_version, header.correlation_id);
    if (response.error_code == kafka::ErrorCode::kNone) return reply.Send(std::move(answer));
    Refuse("no such mechanism", [answer = std::move(answer), reply = std::move(reply)]() mutable {
      reply.SendLast(std::move(answer));
    });
  }

  void Authenticate(const base::Buffer& frame, const kafka::RequestHeader& header,
                    net::Reply& reply) {
    if (!Serves<kafka::SaslAuthenticateRequest>(header, reply)) return;
    const auto request = kafka::DecodeRequest<kafka::SaslAuthenticateRequest>(frame.view(), header);
    if (!request) return reply.Close(request.error().message);
    kafka::SaslAuthenticateResponse response;
    const auto outcome = sasl_.Authenticate(request->auth_bytes, &response);
    if (outcome == auth::SaslSession::Outcome::kAuthenticated)
      response.session_lifetime_ms = BeginSession().count();
    base::Buffer answer =
        kafka::EncodeResponse(response, header.api_version, header.correlation_id);
    if (outcome != auth::SaslSession::Outcome::kRefused) return reply.Send(std::move(answer));
    Refuse(response.error_message.value_or(""),
           [answer = std::move(answer), reply = std::move(reply)]() mutable {
             reply.SendLast(std::move(answer));
           });
  }

  // After a SaslHandshake of version 0 the mechanism's messages come and go as frames of their own.
  // There is no place in them for an error.
  void AuthenticateBare(const base::Buffer& frame, net::Reply& reply) {
    kafka::SaslAuthenticateResponse response;
    const auto outcome = sasl_.Authenticate(frame.view(), &response);
    if (outcome == auth::SaslSession::Outcome::kRefused) {
      return Refuse(response.error_message.value_or(""),
                    [reply = std::move(reply)]() mutable { reply.Close("a login that failed"); });
    }
    if (outcome == auth::SaslSession::Outcome::kAuthenticated) BeginSession();
    reply.SendBody(base::Buffer::Copy(response.auth_bytes));
  }

  // Gives how long it lasts; 0: for ever.
  milliseconds BeginSession() {
    const auto lifetime =
        sasl_.Lifetime(connection_.loop().WallClockMs(), listener_->options.session_lifetime);
    expires_at_ = lifetime ? connection_.loop().Now() + *lifetime : base::TimePoint::max();
    connection_.AwaitLogin(std::nullopt);
    kafka::Peer known = *peer_;
    known.principal = sasl_.principal();
    peer_ = std::make_shared<const kafka::Peer>(std::move(known));
    return lifetime.value_or(milliseconds::zero());
  }

  // Guessing is slowed down, as Kafka does it (connection.failed.authentication.delay.ms).
  void Refuse(std::string_view reason, base::Task tell) {
    listener_->broker.CountFailedLogin();
    base::Log(base::Event::kLoginRefused, {"broker", connection_.peer().host()},
              "SASL authentication failed: {}", reason);
    refused_ = true;
    connection_.Pause();
    refusal_ = connection_.loop().After(listener_->options.failed_login_delay, std::move(tell));
  }

  const std::shared_ptr<const Listener> listener_;
  Worker& worker_;
  net::Connection& connection_;
  std::shared_ptr<const kafka::Peer> peer_;
  bool nameless_ = false;
  auth::SaslSession sasl_;
  base::TimePoint expires_at_ = base::TimePoint::max();
  std::optional<base::TimePoint> began_again_;  // The last time.
  bool refused_ = false;
  bool bare_ = false;  // Since the last SaslHandshake.
  base::Timer refusal_;
  const std::shared_ptr<net::Connection*> self_;
};

}  // namespace

base::Result<std::unique_ptr<net::FramedServer>> Listen(Broker& broker, ListenerOptions options,
                                                        net::FramedServer::Loops loops,
                                                        net::MemoryBudget& budget,
                                                        metrics::NetMetrics& metrics) {
  const std::vector<net::EventLoop*> workers = loops.workers;
  net::FramedServer::Options server = options.server;
  const auto listener = std::make_shared<const Listener>(Listener{broker, std::move(options)});
  return net::FramedServer::Listen(
      std::move(server), std::move(loops), budget, metrics,
      [listener, workers](net::Connection& connection) -> std::unique_ptr<net::Session> {
        const auto found = std::ranges::find(workers, &connection.loop());
        HF_CHECK(found != workers.end());
        const auto index = static_cast<size_t>(found - workers.begin());
        return std::make_unique<ClientSession>(listener, listener->broker.worker(index),
                                               connection);
      });
}

}  // namespace holdfast::broker
