#include "broker/server.h"

#include <algorithm>

#include "base/log.h"
#include "broker/worker.h"

namespace holdfast::broker {
namespace {

// Carries an answer of the dispatcher to the connection. If the request was not understood, the
// dispatcher drops it, and the connection is closed in its turn.
class Answerer {
 public:
  explicit Answerer(net::Reply reply) : reply_(std::move(reply)) {}
  Answerer(Answerer&&) noexcept = default;
  Answerer& operator=(Answerer&&) = delete;
  ~Answerer() {
    if (reply_) reply_.Close("the request was not understood");
  }

  void operator()(kafka::Answer answer) {
    switch (answer.kind) {
      case kafka::Answer::Kind::kFrame:
        return reply_.Send(std::move(answer.frame));
      case kafka::Answer::Kind::kNothing:
        return reply_.SendNothing();
      case kafka::Answer::Kind::kClose:
        return reply_.Close(std::move(answer.reason));
    }
  }

 private:
  net::Reply reply_;
};

class ClientSession final : public net::Session {
 public:
  ClientSession(Worker& worker, net::Connection& connection)
      : worker_(worker),
        peer_(std::make_shared<const kafka::Peer>(
            kafka::Peer{.address = connection.peer().host(),
                        .listener = connection.local().ToString(),
                        .software_name = {},
                        .software_version = {}})) {}

  void OnFrame(base::Buffer frame, net::Reply reply) override {
    auto served = worker_.Serve(peer_, std::move(frame), Answerer(std::move(reply)));
    if (served) return;
    base::Log(base::LogLevel::kInfo, "broker", "closing the connection of {}: {}", peer_->address,
              served.error().message);
  }

 private:
  Worker& worker_;
  std::shared_ptr<const kafka::Peer> peer_;
};

}  // namespace

base::Result<std::unique_ptr<net::FramedServer>> Listen(Broker& broker,
                                                        net::FramedServer::Options options,
                                                        net::FramedServer::Loops loops,
                                                        net::MemoryBudget& budget,
                                                        metrics::NetMetrics& metrics) {
  const std::vector<net::EventLoop*> workers = loops.workers;
  return net::FramedServer::Listen(
      std::move(options), std::move(loops), budget, metrics,
      [&broker, workers](net::Connection& connection) -> std::unique_ptr<net::Session> {
        const auto found = std::ranges::find(workers, &connection.loop());
        HF_CHECK(found != workers.end());
        const auto index = static_cast<size_t>(found - workers.begin());
        return std::make_unique<ClientSession>(broker.worker(index), connection);
      });
}

}  // namespace holdfast::broker
