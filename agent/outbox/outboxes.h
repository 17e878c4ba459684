// All outbox sources of an agent, each drained on a loop of its own, and their pages.
//
// Ownership: what the context names, the registry and the loops outlive it.
// Threads: Make, Start, Pause, Close and the destructor from a thread that is none of the loops.
//   The destructor blocks for as long as a source does. The routes' handlers wait for nobody.
// Shutdown: Pause, then Close. Best with AwaitDelivery in between. A source that blocks meanwhile
//   pauses and closes when it has come back.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/outbox/drain.h"
#include "agent/outbox/router.h"
#include "agent/outbox/source.h"
#include "base/result.h"
#include "metrics/registry.h"
#include "net/admin_server.h"
#include "net/event_loop.h"

namespace holdfast::outbox {

struct OutboxOptions {
  Drain::Options drain;
  Router::Options router;
  std::function<std::unique_ptr<Source>(Source::Taker taker)> make_source;
};

class Outboxes {
 public:
  struct Context {
    proxy::MetadataCache& cache;
    std::function<void(agent::NotedAppend, agent::RecordLog::NotedDone)> append;
    std::function<void(std::string topic)> want_topic;
    std::function<void(std::string topic)> want_settings;
    std::string spool;  // Its id.
    Drain::Undelivered undelivered;
    // What waited in the spool when it was opened.
    std::vector<agent::StreamEnd> waiting;
  };

  // A loop for each of the sources. `kept`: notes by their keys in the spool's state.
  static base::Result<std::unique_ptr<Outboxes>> Make(
      const Context& context, const std::vector<OutboxOptions>& options,
      std::vector<net::EventLoop*> loops, metrics::Registry& registry,
      const std::map<std::string, std::string, std::less<>>& kept);
  ~Outboxes();
  Outboxes(const Outboxes&) = delete;
  Outboxes& operator=(const Outboxes&) = delete;

  void Start();
  // Adds, for each of them, when it takes no more.
  void Pause(std::vector<std::future<void>>& paused);
  // Until all that they took is at the tier, or the time has come.
  void AwaitDelivery(std::chrono::steady_clock::time_point until);
  // Once; later calls do nothing. Sources that are busy until then are told to give up, and waited
  // for a second more.
  void Close(bool handed_over, std::chrono::steady_clock::time_point until);
  // After Close: whether a source has not come back yet, for which the destructor would wait.
  [[nodiscard]] bool Blocked() const;
  // See Drain; to be called every second or so.
  void TellIfBusy();

  struct Status {
    std::string name;
    Drain::Status drain;
  };
  // From any thread.
  [[nodiscard]] std::vector<Status> GetStatus() const;
  [[nodiscard]] std::vector<net::AdminRoute> Routes();

 private:
  struct One {
    net::EventLoop& loop;
    std::unique_ptr<Drain> drain;
  };

  explicit Outboxes(metrics::Registry& registry) : metrics_(registry) {}

  metrics::OutboxMetrics metrics_;
  std::vector<One> all_;
  std::vector<std::future<void>> closing_;  // Since Close.
};

}  // namespace holdfast::outbox
