// What a process of Holdfast runs: an agent, a broker or the admission webhook, with its loops, its
// admin server and its metrics. `holdfast dev` runs an agent and a broker.
//
// Ownership: a role owns everything it needs; two in one process share nothing.
// Threads: all calls but Reload from the main thread, which blocks meanwhile.
// Shutdown: Drain answers what is in flight and stops; the destructor alone stops at once. Nothing
//   acknowledged depends on either.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_function.h"

namespace holdfast::base {
class Executor;
}
namespace holdfast::config {
class Config;
class Agent;
class Broker;
class Inject;
}  // namespace holdfast::config

namespace holdfast::cli {

class Role {
 public:
  virtual ~Role() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;  // "agent", "broker", "inject"
  // As bound: "127.0.0.1:9092".
  [[nodiscard]] virtual std::vector<std::string> ListenAddresses() const = 0;
  [[nodiscard]] virtual std::string AdminAddress() const = 0;  // Empty: none.
  // Those whose single tasks are short, so that one that does not answer hangs.
  [[nodiscard]] virtual std::vector<base::Executor*> WatchedLoops() const = 0;
  // How it is, in a few words for a supervisor's status line. From any thread.
  [[nodiscard]] virtual std::string Summary() const = 0;
  // Takes what of a new configuration may change while it runs; or nothing, and says why. From any
  // thread until Drain.
  virtual base::Result<void> Reload(const config::Config& config) = 0;
  // How long Drain may take, soon after which it ends.
  [[nodiscard]] virtual std::chrono::milliseconds drain_limit() const = 0;
  virtual void Drain() = 0;
  // After Drain: the destructor would wait for somebody else, maybe for ever, and has nothing to do
  // that would be missed.
  [[nodiscard]] virtual bool Blocked() const { return false; }
};

// What the pages of the admin port ask of the process. From any thread.
struct Controls {
  std::function<base::Result<std::string>()> reload;
  std::function<std::string()> print_config;
  base::Task stop;
  std::vector<std::string> settings;  // Arguments with which a child has the same configuration.
};

base::Result<std::unique_ptr<Role>> StartAgent(const config::Agent& config, Controls controls);
base::Result<std::unique_ptr<Role>> StartBroker(const config::Broker& config, Controls controls);
// `config_file`: where the configuration is from, for it may change without a signal. Then `reload`
// is called, and says whether what the files say is in use.
base::Result<std::unique_ptr<Role>> StartInject(const config::Inject& config,
                                                const std::string& config_file,
                                                std::function<bool()> reload);

}  // namespace holdfast::cli
