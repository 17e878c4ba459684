#include "inject/review.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/base64.h"
#include "inject/json_access.h"
#include "inject/pod_patch.h"

namespace holdfast::inject {
namespace {

using nlohmann::json;

constexpr int kBadRequest = 400;
constexpr int kForbidden = 403;
constexpr int kUnsupportedMediaType = 415;
constexpr size_t kMessageBytesMax = 4096;

// A cluster must come up without its webhooks.
constexpr std::array<std::string_view, 3> kNamespacesOfTheCluster{"kube-system", "kube-public",
                                                                  "kube-node-lease"};

Answer Malformed(int status, std::string_view what) {
  return {.outcome = Outcome::kMalformed,
          .status = status,
          .content_type = "text/plain; charset=utf-8",
          .body = fmt::format("holdfast inject: {}\n", what),
          .note = std::string(what)};
}

std::string TextOfJson(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
}

bool IsJson(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  constexpr std::string_view kJson = "application/json";
  return std::ranges::equal(type.substr(0, type.find_last_not_of(' ') + 1), kJson,
                            [](char a, char b) { return (a | 0x20) == (b | 0x20); });
}

// A question of one review.
class Question {
 public:
  Question(std::string_view version, const json& request) : version_(version), request_(request) {}

  Answer Decide(const Policy& policy) const {
    if (version_ != "admission.k8s.io/v1") {
      return Refuse(
          {"the webhook is asked with " + version_ + "; set its admissionReviewVersions to [v1]"});
    }
    const json* const object = Find(request_, "object");
    if (!IsNewPod() || IsNamespaceOfTheCluster()) return Allow(Outcome::kSkipped);
    if (object == nullptr || !object->is_object())
      return Malformed(kBadRequest, "the review has no object");
    const PodPatch patch = PatchPod(policy, *object);
    switch (patch.verdict) {
      case Verdict::kInject:
        return Allow(Outcome::kInjected, &patch);
      case Verdict::kUnchanged:
        return Allow(Outcome::kUnchanged);
      case Verdict::kSkip:
        return Allow(Outcome::kSkipped);
      case Verdict::kRefuse:
        break;
    }
    return Refuse(patch.reasons);
  }

 private:
  // An agent is made with its pod; nothing else is changed.
  bool IsNewPod() const {
    const json* const resource = Find(request_, "resource");
    return resource != nullptr && TextOf(*resource, "group").empty() &&
           TextOf(*resource, "resource") == "pods" && TextOf(request_, "subResource").empty() &&
           TextOf(request_, "operation") == "CREATE";
  }

  bool IsNamespaceOfTheCluster() const {
    return std::ranges::find(kNamespacesOfTheCluster, TextOf(request_, "namespace")) !=
           kNamespacesOfTheCluster.end();
  }

  // Pods of a ReplicaSet get their names later.
  std::string PodName() const {
    std::string_view name = TextOf(request_, "name");
    const json* const metadata = Find(request_, {"object", "metadata"});
    if (name.empty() && metadata != nullptr) name = TextOf(*metadata, "name");
    const bool generated = name.empty() && metadata != nullptr;
    if (generated) name = TextOf(*metadata, "generateName");
    return fmt::format("{}/{}{}", TextOf(request_, "namespace").substr(0, 63), name.substr(0, 253),
                       generated ? "*" : "");
  }

  Answer Allow(Outcome outcome, const PodPatch* patch = nullptr) const {
    json response = {{"uid", TextOf(request_, "uid")}, {"allowed", true}};
    if (patch != nullptr) {
      response["patchType"] = "JSONPatch";
      response["patch"] = base::ToBase64(TextOfJson(patch->operations));
      if (!patch->warnings.empty()) response["warnings"] = patch->warnings;
    }
    return Finish(outcome, std::move(response));
  }

  Answer Refuse(const std::vector<std::string>& reasons) const {
    std::string note = fmt::format("{}", fmt::join(reasons, "; "));
    if (note.size() > kMessageBytesMax) note = note.substr(0, kMessageBytesMax) + "...";
    const std::string message = fmt::format(
        "holdfast: the pod cannot have an agent: {} (the label holdfast.io/inject: \"false\" lets "
        "it run without)",
        note);
    Answer answer =
        Finish(Outcome::kRefused,
               {{"uid", TextOf(request_, "uid")},
                {"allowed", false},
                {"status", {{"code", kForbidden}, {"reason", "Forbidden"}, {"message", message}}}});
    answer.note = std::move(note);
    return answer;
  }

  Answer Finish(Outcome outcome, json response) const {
    const json review = {
        {"apiVersion", version_}, {"kind", "AdmissionReview"}, {"response", std::move(response)}};
    return {.outcome = outcome, .body = TextOfJson(review), .pod = PodName()};
  }

  const std::string version_;
  const json& request_;
};

}  // namespace

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kInjected:
      return "injected";
    case Outcome::kUnchanged:
      return "unchanged";
    case Outcome::kSkipped:
      return "skipped";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kMalformed:
      break;
  }
  return "malformed";
}

Answer AnswerReview(const Policy& policy, std::string_view content_type, std::string_view body) {
  if (!IsJson(content_type))
    return Malformed(kUnsupportedMediaType, "the content type must be application/json");
  const auto review = ParseJson(body);
  if (!review) return Malformed(kBadRequest, "the body is not JSON, or nested too deep");
  const std::string_view version = TextOf(*review, "apiVersion");
  const json* const request = Find(*review, "request");
  if (TextOf(*review, "kind") != "AdmissionReview" || !version.starts_with("admission.k8s.io/"))
    return Malformed(kBadRequest, "the body must be an AdmissionReview of admission.k8s.io/v1");
  if (request == nullptr || TextOf(*request, "uid").empty())
    return Malformed(kBadRequest, "the review has no request with a uid");
  return Question(version.substr(0, 64), *request).Decide(policy);
}

}  // namespace holdfast::inject
