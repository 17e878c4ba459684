#include "net/framed_server.h"

#include <event2/event.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/event.h"
#include "base/log.h"
#include "net/server_worker.h"
#include "net/socket.h"

namespace holdfast::net {
namespace {

constexpr int kAcceptsPerTurn = 64;
// After a failed accept: descriptors or memory may be there again.
constexpr base::Duration kAcceptRetry = std::chrono::milliseconds(100);

}  // namespace

// Listens, and deals connections to the workers. Shared with the tasks that are on their way to it.
class FramedServer::Acceptor : public std::enable_shared_from_this<Acceptor> {
 public:
  Acceptor(Socket listener, EventLoop& loop, std::shared_ptr<ServerShared> shared,
           std::vector<std::shared_ptr<ServerWorker>> workers)
      : loop_(loop),
        shared_(std::move(shared)),
        workers_(std::move(workers)),
        listener_(std::move(listener)),
        address_(listener_.LocalAddress()) {}

  ~Acceptor() { HF_CHECK(event_ == nullptr); }

  void Start() {
    if (closed_) return;
    event_ = event_new(loop_.base(), listener_.fd(), EV_READ | EV_PERSIST, &Acceptor::OnAcceptable,
                       this);
    HF_CHECK(event_ != nullptr && event_add(event_, nullptr) == 0);
  }

  // Stops listening; the destructor may follow on any thread.
  void Close() {
    closed_ = true;
    retry_.Cancel();
    drain_limit_.Cancel();
    if (event_ != nullptr) event_free(std::exchange(event_, nullptr));
    listener_.Close();
  }

  void Drain(base::Duration limit, base::Task done) {
    Close();
    drained_ = std::move(done);
    undrained_workers_ = workers_.size();
    drain_limit_ = loop_.After(limit, [this] {
      for (const auto& worker : workers_) worker->loop().Post([worker] { worker->CloseAll(); });
    });
    for (const auto& worker : workers_) {
      worker->loop().Post([worker, self = shared_from_this()]() mutable {
        worker->Drain(
            [self = std::move(self)] { self->loop_.Post([self] { self->OnWorkerDrained(); }); });
      });
    }
  }

  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] const SocketAddress& address() const { return address_; }
  [[nodiscard]] ServerShared& shared() const { return *shared_; }
  [[nodiscard]] const std::vector<std::shared_ptr<ServerWorker>>& workers() const {
    return workers_;
  }
  // Called by the server's destructor, on the loop: nothing more happens.
  void Abandon() {
    Close();
    drained_ = base::Task();
  }

 private:
  static void OnAcceptable(int /*fd*/, short /*what*/, void* acceptor) noexcept {
    auto* self = static_cast<Acceptor*>(acceptor);
    self->loop_.BeginTurn();
    for (int i = 0; i < kAcceptsPerTurn && self->Accept(); ++i) {
    }
  }

  // False if there is nothing to accept for now.
  bool Accept() {
    sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    Socket socket(accept4(listener_.fd(), reinterpret_cast<sockaddr*>(&peer), &size,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.fd() < 0) return OnAcceptError(errno);
    shared_->metrics.accepted.Add();
    shared_->metrics.connections.Add();
    const SocketAddress address(reinterpret_cast<const sockaddr*>(&peer), size);
    if (shared_->open.fetch_add(1) >= shared_->options.connections_max) {
      shared_->NoteClosed(CloseCause::kTooMany);
      base::Log(base::Event::kConnectionsTooMany, {"net", address.host()},
                "closed a new connection to {}: {} are open, which is the limit",
                address_.ToString(), shared_->options.connections_max);
      return true;
    }
    socket.SetOptions(address);
    ServerWorker* const worker = workers_[next_worker_++ % workers_.size()].get();
    worker->loop().Post([worker, address, moved = std::move(socket)]() mutable {
      worker->Adopt(std::move(moved), address);
    });
    return true;
  }

  bool OnAcceptError(int error) {
    if (error == EAGAIN || error == EWOULDBLOCK) return false;
    // The client gave up before its turn came.
    if (error == ECONNABORTED || error == EINTR || error == EPROTO) return true;
    shared_->metrics.accept_errors.Add();
    base::Log(base::Event::kAcceptFailed, {"net", address_.ToString()}, "cannot accept: {}",
              std::strerror(error));
    event_del(event_);
    retry_ = loop_.After(kAcceptRetry, [this] { event_add(event_, nullptr); });
    return false;
  }

  void OnWorkerDrained() {
    if (--undrained_workers_ > 0) return;
    drain_limit_.Cancel();
    if (drained_) std::exchange(drained_, base::Task())();
  }

  EventLoop& loop_;
  const std::shared_ptr<ServerShared> shared_;
  const std::vector<std::shared_ptr<ServerWorker>> workers_;
  Socket listener_;
  const SocketAddress address_;
  event* event_ = nullptr;
  size_t next_worker_ = 0;
  bool closed_ = false;
  base::Timer retry_;
  base::Timer drain_limit_;
  base::Task drained_;
  size_t undrained_workers_ = 0;
};

base::Result<std::unique_ptr<FramedServer>> FramedServer::Listen(Options options, Loops loops,
                                                                 MemoryBudget& budget,
                                                                 metrics::NetMetrics& metrics,
                                                                 SessionFactory factory) {
  HF_CHECK(!loops.workers.empty());
  HF_ASSIGN_OR_RETURN(Socket listener,
                      Socket::Listen(options.listen, {.receive = options.receive_buffer_bytes,
                                                      .send = options.send_buffer_bytes}));
  auto shared =
      std::make_shared<ServerShared>(std::move(options), budget, metrics, std::move(factory));
  std::vector<std::shared_ptr<ServerWorker>> workers;
  for (EventLoop* loop : loops.workers) {
    auto worker = workers.emplace_back(std::make_shared<ServerWorker>(*loop, shared));
    loop->Post([worker] {
      worker->loop().Keep(worker);
      worker->Start();
    });
  }
  auto acceptor = std::make_shared<Acceptor>(std::move(listener), loops.acceptor, std::move(shared),
                                             std::move(workers));
  std::unique_ptr<FramedServer> server(new FramedServer(std::move(acceptor)));
  if (server->acceptor_->shared().options.accept) server->Accept();
  return server;
}

FramedServer::FramedServer(std::shared_ptr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}

FramedServer::~FramedServer() {
  acceptor_->loop().RunAndWait([this] { acceptor_->Abandon(); });
  for (const std::shared_ptr<ServerWorker>& worker : acceptor_->workers())
    worker->loop().RunAndWait([&worker] { worker->Shutdown(); });
}

void FramedServer::Accept() {
  acceptor_->loop().Post([acceptor = acceptor_] { acceptor->Start(); });
}

const SocketAddress& FramedServer::local_address() const { return acceptor_->address(); }

size_t FramedServer::connections() const { return acceptor_->shared().open.load(); }

void FramedServer::Drain(base::Duration limit, base::Task done) {
  acceptor_->loop().Post([acceptor = acceptor_, limit, done = std::move(done)]() mutable {
    acceptor->Drain(limit, std::move(done));
  });
}

}  // namespace holdfast::net
