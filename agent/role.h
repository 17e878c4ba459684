// What a process of Holdfast runs: an agent or a broker, with its loops, its admin server and its
// metrics. `holdfast dev` runs one of each.
//
// Ownership: a role owns everything it needs; two in one process share nothing.
// Threads: all calls from the main thread, which blocks meanwhile.
// Shutdown: Drain answers what is in flight and stops; the destructor alone stops at once. Nothing
//   acknowledged depends on either.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::config {
class Agent;
class Broker;
}  // namespace holdfast::config

namespace holdfast::agent {

class Role {
 public:
  virtual ~Role() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;  // "agent", "broker"
  // As bound: "127.0.0.1:9092".
  [[nodiscard]] virtual std::vector<std::string> ListenAddresses() const = 0;
  [[nodiscard]] virtual std::string AdminAddress() const = 0;  // Empty: none.
  // Ends soon after the drain_timeout_ms of its configuration.
  virtual void Drain() = 0;
};

base::Result<std::unique_ptr<Role>> StartAgent(const config::Agent& config);
base::Result<std::unique_ptr<Role>> StartBroker(const config::Broker& config);

}  // namespace holdfast::agent
