// What pods get: the settings of `inject` (config/holdfast.proto), and the agents' configuration
// that they name, read and checked once.
//
// Ownership: immutable and shared; a review keeps the one it began with.
// Threads: any. Limits: an agents' configuration of 128 KiB, since each pod carries it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "config/holdfast.pb.h"

namespace holdfast::inject {

class Policy {
 public:
  // An error says which setting is wrong, or what is wrong in the agents' file.
  static base::Result<std::shared_ptr<const Policy>> Load(const config::Inject& config);

  [[nodiscard]] const config::Inject& config() const { return config_; }
  [[nodiscard]] const config::Sidecar& sidecar() const { return config_.sidecar(); }
  [[nodiscard]] const std::string& agent_yaml() const { return agent_yaml_; }
  // Without what the injector sets itself.
  [[nodiscard]] const std::shared_ptr<const config::Config>& agent() const { return agent_; }
  // Why this cluster's pods cannot have a native sidecar; empty: they can.
  [[nodiscard]] const std::string& unfit_cluster() const { return unfit_cluster_; }

 private:
  Policy(config::Inject config, std::string agent_yaml, std::shared_ptr<const config::Config> agent,
         std::string unfit_cluster)
      : config_(std::move(config)),
        agent_yaml_(std::move(agent_yaml)),
        agent_(std::move(agent)),
        unfit_cluster_(std::move(unfit_cluster)) {}

  const config::Inject config_;
  const std::string agent_yaml_;
  const std::shared_ptr<const config::Config> agent_;
  const std::string unfit_cluster_;
};

// The least spool of which a spool and its segments can be made.
inline constexpr double kSpoolBytesMin = 16 << 20;

}  // namespace holdfast::inject
