// The agent's container and its volumes, as a pod gets them. ADR 17 says why they look so.
//
// Threads: any; pure.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "inject/policy.h"

namespace holdfast::inject {

inline constexpr const char* kContainerName = "holdfast";
inline constexpr const char* kConfigVolume = "holdfast-config";
inline constexpr const char* kSpoolVolume = "holdfast-spool";
inline constexpr const char* kNoTokenVolume = "holdfast-no-token";
inline constexpr const char* kSecretVolume = "holdfast-secret";
inline constexpr const char* kStatusAnnotation = "inject.holdfast.io/status";
inline constexpr const char* kAgentConfigAnnotation = "inject.holdfast.io/agent-config";

struct Sidecar {
  config::Sidecar::Durability durability;
  std::string spool_size;                        // A quantity.
  std::string secret;                            // Of the pod's namespace; empty: none.
  std::vector<std::string> arguments;            // Behind those that every agent gets.
  std::map<std::string, std::string> resources;  // "limits.memory" to quantity.
};

nlohmann::json ContainerOf(const config::Sidecar& settings, const Sidecar& sidecar);
// Those that the pod does not have.
nlohmann::json VolumesOf(const config::Sidecar& settings, const Sidecar& sidecar);

}  // namespace holdfast::inject
