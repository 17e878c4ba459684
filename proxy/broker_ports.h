// Which local port stands for which broker of the tier. A client must never learn the brokers' own
// addresses, or it would go there; and each broker needs a port of its own, since clients tell
// brokers apart by address as well as by id.
//
// The bootstrap listener stands for the first broker ever seen. Each further one gets a listener on
// a port that the kernel chooses once; the agent keeps the mapping over restarts, because clients
// keep addresses.
//
//   LocalAddresses local = ports.Snapshot();
//   if (!ports.KnowsAll(nodes)) ports.Request(nodes, [..] { ... });     // Opens listeners.
//
// Ownership: the callbacks are called as long as the object lives.
// Threads: the callbacks and Request's tasks run on the loop given; the rest from any thread.
// Limits: kBrokersMax brokers. One more takes the place of one that has left the tier, whose port
//   is closed: of several, that with the lowest id, since tiers that replace brokers count up. If
//   none has left it stays unknown, with an error in the log.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/result.h"

namespace holdfast::proxy {

class BrokerPorts {
 public:
  static constexpr size_t kBrokersMax = 64;
  using Ports = std::map<int32_t, uint16_t>;
  struct Callbacks {
    // Opens a listener for a broker, on `port` if that is not 0 and free; returns the port.
    base::UniqueFunction<base::Result<uint16_t>(int32_t node, uint16_t port)> open;
    // Closes it, and the connections of those who came by it.
    base::UniqueFunction<void(int32_t node)> close;
    // Whether the tier is known not to have this broker any more.
    base::UniqueFunction<bool(int32_t node)> has_left;
    // The mapping has changed and should be kept.
    base::UniqueFunction<void(const Ports&)> changed;
  };

  BrokerPorts(base::Executor& loop, Callbacks callbacks);

  // From the kept mapping, before anything else; port 0 stands for the bootstrap listener. Opens
  // listeners.
  void Restore(const Ports& kept);

  [[nodiscard]] std::shared_ptr<const Ports> Snapshot() const;
  // The broker of the bootstrap listener, or -1 if none was ever seen.
  [[nodiscard]] int32_t BootstrapNode() const;

  // Makes sure that the nodes are mapped, then runs `done` on the loop.
  void Request(std::vector<int32_t> nodes, base::Task done);

 private:
  void Add(int32_t node, uint16_t wanted);

  base::Executor& loop_;
  Callbacks callbacks_;  // Of the loop.

  mutable base::Mutex mutex_;
  std::shared_ptr<const Ports> ports_ HF_GUARDED_BY(mutex_);  // Port 0: the bootstrap listener.
};

}  // namespace holdfast::proxy
