// An AdmissionReview's answer: what POST /mutate does.
//
// It needs nothing but the review and the policy, and asks nobody.
//
// Threads: any; pure. Limits: JSON that is nested at most kDepthMax deep (inject/json_access.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "inject/policy.h"

namespace holdfast::inject {

enum class Outcome : uint8_t {
  kInjected,
  kUnchanged,  // The pod has its agent.
  kSkipped,    // Nothing that gets one.
  kRefused,
  kMalformed,  // No review that can be answered.
};
std::string_view OutcomeName(Outcome outcome);

struct Answer {
  Outcome outcome;
  int status = 200;  // Of HTTP.
  std::string content_type = "application/json";
  std::string body = {};
  std::string pod = {};   // "NAMESPACE/NAME", for the log.
  std::string note = {};  // Why it was refused.
};

Answer AnswerReview(const Policy& policy, std::string_view content_type, std::string_view body);

}  // namespace holdfast::inject
