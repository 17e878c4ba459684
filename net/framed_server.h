// Listens, accepts, and turns each connection into a sequence of frames, as the Kafka protocol has
// them: a 4-byte big-endian length, then that many bytes. Knows nothing of what is inside.
//
//   class EchoSession : public net::Session {
//     void OnFrame(base::Buffer frame, net::Reply reply) override {
//       reply.SendBody(std::move(frame));
//     }
//   };
//   auto server = net::FramedServer::Listen(options, loops, budget, metrics,
//       [](net::Connection&) { return std::make_unique<EchoSession>(); });
//
// Ownership: the server owns its connections and they their sessions. Loops, budget and metrics
//   outlive it.
// Threads: Listen, Accept, local_address, Drain and the destructor from any thread that no loop
//   waits for. A connection stays on one worker loop for life, and its session is made, called and
//   destroyed there; the factory is called on several loops at once. The destructor is not called
//   from inside a session.
// Shutdown: Drain, or the destructor, which closes everything at once and waits for the loops.
//   After it no session is left.
// Limits: see Options. A frame's length is checked before any memory is taken for it, and memory
//   is reserved from the budget before more than its first 16 KiB are read: a socket whose frame
//   finds no room is not read until there is some. A connection that has requests_in_flight_max
//   requests unanswered, or output_bytes_high bytes of answers waiting for its peer or, whole, for
//   the answers before them, is not read until half of them are gone. Nor is a frame taken in a
//   turn that has made so many bytes for it already: how many requests come at once does not
//   matter. Beside its frames a connection keeps at most 64 KiB of what it read ahead. A frame that
//   has begun must move within 30 s. While others wait for memory, one that has some has 30 s, and
//   a second for each MiB, to be there whole. With TLS, a session is made when the handshake is
//   done, for which a peer has handshake_timeout. Of whom a session awaits a login, that takes
//   login_timeout at most.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/executor.h"
#include "base/result.h"
#include "metrics/catalogue.h"
#include "net/address.h"
#include "net/event_loop.h"
#include "net/memory_budget.h"
#include "net/reply.h"
#include "net/tls.h"

namespace holdfast::net {

// One client's connection, as its session sees it. On its loop's thread only, and only while the
// session lives.
class Connection {
 public:
  [[nodiscard]] virtual EventLoop& loop() = 0;
  [[nodiscard]] virtual uint64_t id() const = 0;  // Unique in the server.
  [[nodiscard]] virtual const SocketAddress& peer() const = 0;
  [[nodiscard]] virtual const SocketAddress& local() const = 0;  // The side of the connection here.
  // The subject of the certificate that the peer showed and that was accepted, as in RFC 2253: none
  // if it showed none, and empty if all its names stand elsewhere.
  [[nodiscard]] virtual std::optional<std::string> peer_subject() const { return std::nullopt; }
  // Whether parts of answers may lie in pipes: not in TLS.
  [[nodiscard]] virtual bool sends_piped() const { return false; }
  [[nodiscard]] virtual size_t requests_in_flight() const = 0;
  [[nodiscard]] virtual size_t bytes_queued() const = 0;  // Answers not yet taken by the kernel.

  // Drops what is queued. The session is destroyed later in this turn, after OnClosed.
  virtual void Close(std::string_view reason) = 0;
  // No OnFrame comes between Pause and Resume.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
  // Nor for so long from now on; a longer time that was set before stays.
  virtual void Throttle(base::Duration time) = 0;
  // The peer has yet to log in: until it has, a frame of more bytes closes the connection before
  // memory is reserved for it, and so does the end of login_timeout. None: it has.
  virtual void AwaitLogin(std::optional<size_t> frame_bytes_max) = 0;

 protected:
  ~Connection() = default;
};

class Session {
 public:
  virtual ~Session() = default;
  // The frame without its length. `reply` must be answered once, see net/reply.h.
  virtual void OnFrame(base::Buffer frame, Reply reply) = 0;
  // Asked of a frame that comes while others are unanswered. True: it comes, and all that follows
  // it, when they are answered and no more than output_bytes_high of that waits for the peer. For
  // requests with long answers, so that of these there is never more than one.
  [[nodiscard]] virtual bool WaitsForAnswers(std::string_view /*frame*/) const { return false; }
  // More than output_bytes_high of answers wait for the peer or, of those that are given in parts,
  // for the answers before them; less than half of it waits again.
  virtual void OnOutputHigh() {}
  virtual void OnOutputLow() {}
  // The peer has closed the connection, or it broke. True: the session has yet to hand on what came
  // before. It stays until it calls Connection::Close, which it does soon, and later than in here;
  // nothing more is read, and answers are dropped.
  [[nodiscard]] virtual bool OutlivesPeer() { return false; }
  // The last call. Replies that are still out are answered in vain.
  virtual void OnClosed() {}
};

class FramedServer {
 public:
  struct Options {
    HostPort listen = {};  // Port 0: any free one. An empty host: all addresses.
    size_t frame_bytes_max = 104857600;
    size_t connections_max = 4096;
    size_t requests_in_flight_max = 64;
    size_t output_bytes_high = size_t{1} << 20;
    base::Duration idle_timeout = std::chrono::seconds(600);
    // For the peer's host, not for the peer: who does not read has idle_timeout.
    base::Duration acknowledge_timeout = std::chrono::seconds(30);
    int receive_buffer_bytes = 0;  // Of the kernel, per socket; 0 leaves its automatic choice.
    int send_buffer_bytes = 0;
    // In TLS, with what the credentials say when a connection comes. None: in the clear.
    std::shared_ptr<const TlsCredentials> tls = nullptr;
    base::Duration handshake_timeout = std::chrono::seconds(10);
    base::Duration login_timeout = std::chrono::seconds(30);
    bool accept = true;  // False: who connects waits in the kernel's backlog for Accept.
  };
  struct Loops {
    EventLoop& acceptor;
    std::vector<EventLoop*> workers;  // Connections are dealt to them in turn.
  };
  using SessionFactory = std::function<std::unique_ptr<Session>(Connection&)>;

  // Binds and listens before it returns; an error names the address.
  static base::Result<std::unique_ptr<FramedServer>> Listen(Options options, Loops loops,
                                                            MemoryBudget& budget,
                                                            metrics::NetMetrics& metrics,
                                                            SessionFactory factory);
  ~FramedServer();
  FramedServer(const FramedServer&) = delete;
  FramedServer& operator=(const FramedServer&) = delete;

  // Once, for a server whose options say that it does not accept at once.
  void Accept();

  [[nodiscard]] const SocketAddress& local_address() const;
  [[nodiscard]] size_t connections() const;

  // Stops accepting and reading, lets requests in flight be answered and answers leave, and
  // closes. What is not done by `limit` from now is cut off. Then `done` runs on the acceptor's
  // loop, unless the server was destroyed before.
  void Drain(base::Duration limit, base::Task done);

 private:
  class Acceptor;

  explicit FramedServer(std::shared_ptr<Acceptor> acceptor);

  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace holdfast::net
