// One loop's share of a FramedServer: its connections, and the place where their answers arrive.
//
// Ownership: kept by its loop, so that a Reply may point to it for as long as the loop lives, even
//   after the server has gone.
// Threads: Complete from any thread; the rest on the loop.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "net/framed_server.h"
#include "net/socket.h"

namespace holdfast::net {

enum class CloseCause : uint8_t {
  kPeer,       // It closed.
  kError,      // Reading or writing failed.
  kBadLength,  // A frame with an impossible length.
  kIdle,       // Nothing came for too long, or the peer reads nothing.
  kStalled,    // A frame began and does not go on.
  kSession,    // The session or a Reply wanted it.
  kLostReply,  // A Reply was destroyed unanswered.
  kTooMany,    // connections_max are open.
  kHandshake,  // No agreement in TLS, or not in time.
  kLogin,      // None in time.
  kShutdown,
};
inline constexpr size_t kCloseCauses = static_cast<size_t>(CloseCause::kShutdown) + 1;

// What all parts of one server share.
struct ServerShared {
  ServerShared(FramedServer::Options with, MemoryBudget& memory, metrics::NetMetrics& net,
               FramedServer::SessionFactory make_session);

  // One connection less.
  void NoteClosed(CloseCause cause);

  const FramedServer::Options options;
  MemoryBudget& budget;
  metrics::NetMetrics& metrics;
  const FramedServer::SessionFactory factory;
  std::array<metrics::Counter*, kCloseCauses> closed{};
  std::atomic<size_t> open{0};
  std::atomic<uint64_t> next_id{1};
};

class ServerConnection;

class ServerWorker final : public ReplySink {
 public:
  ServerWorker(EventLoop& loop, std::shared_ptr<ServerShared> shared);
  ~ServerWorker() override;

  void Start();
  void Adopt(Socket socket, const SocketAddress& peer);
  // Lets every connection finish; `empty` runs when none is left.
  void Drain(base::Task empty);
  void CloseAll();
  // Closes all connections and destroys their sessions now.
  void Shutdown();

  void Complete(uint64_t connection, uint64_t request, Answer answer) override;

  // For its connections.
  void OnMemory(uint64_t connection, Reservation memory);
  void Retire(uint64_t connection);
  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] ServerShared& shared() { return *shared_; }

 private:
  struct Completion {
    uint64_t connection;
    uint64_t request;
    Answer answer;
  };

  void Deliver(uint64_t connection, uint64_t request, Answer answer);
  void DeliverAll();
  void Sweep();
  [[nodiscard]] ServerConnection* Find(uint64_t connection);
  [[nodiscard]] std::vector<ServerConnection*> All();

  EventLoop& loop_;
  const std::shared_ptr<ServerShared> shared_;
  std::unordered_map<uint64_t, std::unique_ptr<ServerConnection>> connections_;
  base::Timer sweep_;
  base::Task drained_;
  bool draining_ = false;
  bool shut_down_ = false;
  std::vector<Completion> delivering_;

  base::Mutex mutex_;
  std::vector<Completion> completions_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::net
