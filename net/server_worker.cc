#include "net/server_worker.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "net/server_connection.h"

namespace holdfast::net {
namespace {

std::string_view CauseName(CloseCause cause) {
  switch (cause) {
    case CloseCause::kPeer:
      return "peer";
    case CloseCause::kError:
      return "error";
    case CloseCause::kBadLength:
      return "bad_length";
    case CloseCause::kIdle:
      return "idle";
    case CloseCause::kStalled:
      return "stalled";
    case CloseCause::kSession:
      return "session";
    case CloseCause::kLostReply:
      return "lost_reply";
    case CloseCause::kTooMany:
      return "too_many";
    case CloseCause::kHandshake:
      return "tls";
    case CloseCause::kLogin:
      return "no_login";
    case CloseCause::kShutdown:
      break;
  }
  return "shutdown";
}

base::Duration SweepInterval(const FramedServer::Options& options) {
  return std::clamp<base::Duration>(
      std::min(options.idle_timeout / 8, options.acknowledge_timeout / 6),
      std::chrono::milliseconds(5), std::chrono::seconds(5));
}

}  // namespace

ServerShared::ServerShared(FramedServer::Options with, MemoryBudget& memory,
                           metrics::NetMetrics& net, FramedServer::SessionFactory make_session)
    : options(std::move(with)), budget(memory), metrics(net), factory(std::move(make_session)) {
  for (size_t i = 0; i < kCloseCauses; ++i)
    closed[i] = &metrics.closed.With(CauseName(static_cast<CloseCause>(i)));
}

void ServerShared::NoteClosed(CloseCause cause) {
  open.fetch_sub(1);
  metrics.connections.Sub();
  closed[static_cast<size_t>(cause)]->Add();
}

ServerWorker::ServerWorker(EventLoop& loop, std::shared_ptr<ServerShared> shared)
    : loop_(loop), shared_(std::move(shared)) {}

ServerWorker::~ServerWorker() = default;

void ServerWorker::Start() {
  if (shut_down_) return;
  sweep_ = loop_.After(SweepInterval(shared_->options), [this] { Sweep(); });
}

void ServerWorker::Adopt(Socket socket, const SocketAddress& peer) {
  if (draining_ || shut_down_) return shared_->NoteClosed(CloseCause::kShutdown);
  if (shared_->options.tls) socket.SecureAsServer(shared_->options.tls->context());
  const uint64_t id = shared_->next_id.fetch_add(1, std::memory_order_relaxed);
  auto made = std::make_unique<ServerConnection>(*this, id, std::move(socket), peer);
  ServerConnection& connection = *made;
  connections_.emplace(id, std::move(made));
  connection.Start();
}

void ServerWorker::Drain(base::Task empty) {
  draining_ = true;
  if (connections_.empty()) return empty();
  drained_ = std::move(empty);
  for (ServerConnection* connection : All()) connection->BeginDrain();
}

void ServerWorker::CloseAll() {
  for (ServerConnection* connection : All())
    connection->CloseFor(CloseCause::kShutdown, "the server shuts down");
}

void ServerWorker::Shutdown() {
  shut_down_ = true;
  sweep_.Cancel();
  drained_ = base::Task();
  for (ServerConnection* connection : All()) {
    connection->CloseFor(CloseCause::kShutdown, "the server shuts down");
    connection->EndSession();
  }
}

void ServerWorker::Complete(uint64_t connection, uint64_t request, Answer answer) {
  if (loop_.InLoop()) return Deliver(connection, request, std::move(answer));
  bool first;
  {
    const base::MutexLock lock(mutex_);
    first = completions_.empty();
    completions_.push_back({connection, request, std::move(answer)});
  }
  if (first) loop_.Post([this] { DeliverAll(); });
}

void ServerWorker::DeliverAll() {
  {
    const base::MutexLock lock(mutex_);
    delivering_.swap(completions_);
  }
  for (Completion& completion : delivering_)
    Deliver(completion.connection, completion.request, std::move(completion.answer));
  delivering_.clear();
}

void ServerWorker::Deliver(uint64_t connection, uint64_t request, Answer answer) {
  if (ServerConnection* found = Find(connection)) found->Answered(request, std::move(answer));
}

void ServerWorker::OnMemory(uint64_t connection, Reservation memory) {
  if (ServerConnection* found = Find(connection)) found->OnMemory(std::move(memory));
}

void ServerWorker::Retire(uint64_t connection) {
  const auto found = connections_.find(connection);
  HF_CHECK(found != connections_.end());
  loop_.AtTurnEnd([retired = std::move(found->second)] { retired->EndSession(); });
  connections_.erase(found);
  if (connections_.empty() && drained_) std::exchange(drained_, base::Task())();
}

void ServerWorker::Sweep() {
  for (ServerConnection* connection : All()) connection->CloseIfIdle(loop_.Now());
  Start();
}

ServerConnection* ServerWorker::Find(uint64_t connection) {
  const auto found = connections_.find(connection);
  return found == connections_.end() ? nullptr : found->second.get();
}

// For walks during which connections may close.
std::vector<ServerConnection*> ServerWorker::All() {
  std::vector<ServerConnection*> all;
  all.reserve(connections_.size());
  for (const auto& [id, connection] : connections_) all.push_back(connection.get());
  return all;
}

}  // namespace holdfast::net
