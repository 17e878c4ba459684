// Whether a pod gets an agent, and the patch that gives it one.
//
// What is wrong with a pod is said all at once, each time with what to do about it: whoever applies
// a Deployment sees the refusal only in the events of its ReplicaSet.
//
// Threads: any; pure. The pod is JSON of which nothing is known.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "inject/policy.h"

namespace holdfast::inject {

enum class Verdict : uint8_t {
  kInject,
  kUnchanged,  // It has its agent.
  kSkip,       // It is not to have one.
  kRefuse,
};

struct PodPatch {
  Verdict verdict = Verdict::kSkip;
  nlohmann::json operations = nlohmann::json::array();  // JSON Patch, RFC 6902.
  std::vector<std::string> reasons = {};                // Of a refusal.
  std::vector<std::string> warnings = {};               // For who made the pod.
};

PodPatch PatchPod(const Policy& policy, const nlohmann::json& pod);

}  // namespace holdfast::inject
