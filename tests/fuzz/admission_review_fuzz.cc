// What is posted to the admission webhook. A pod that gets an agent must be one that the patch
// fits, and that gets no second one.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/base64.h"
#include "base/check.h"
#include "inject/review.h"
#include "tests/inject/inject_fixture.h"

namespace {

using namespace holdfast;
using nlohmann::json;

constexpr const char* kType = "application/json";

const inject::Policy& Policy() {
  static const auto policy = [] {
    const inject::TestFolder folder;
    auto loaded = inject::PolicyOf(folder);
    HF_CHECK(loaded.has_value());
    return *loaded;
  }();
  return *policy;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const inject::Answer answer = inject::AnswerReview(Policy(), kType, body);
  if (answer.outcome == inject::Outcome::kMalformed) {
    HF_CHECK(answer.status == 400);
    return 0;
  }
  const json response = json::parse(answer.body)["response"];
  HF_CHECK(response["allowed"] == (answer.outcome != inject::Outcome::kRefused));
  if (answer.outcome != inject::Outcome::kInjected) return 0;
  const auto patch = base::FromBase64(response["patch"].get<std::string>());
  HF_CHECK(patch.has_value());
  json review = json::parse(body);
  json& pod = review["request"]["object"];
  pod = pod.patch(json::parse(*patch));
  HF_CHECK(inject::AnswerReview(Policy(), kType, review.dump()).outcome ==
           inject::Outcome::kUnchanged);
  return 0;
}
