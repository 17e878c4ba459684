// The table of reviews in tests/inject/reviews, as an API server sends them, and what becomes of
// each in tests/inject/pods: the pod with the patch applied, or why it was refused. After a change
// that is meant, print them anew and read what differs:
//
//   HOLDFAST_PRINT=1 build/dev/tests/inject/inject_test --gtest_filter='Reviews/*'
#include "inject/review.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/base64.h"
#include "tests/inject/inject_fixture.h"
#include "tests/support/source_path.h"

namespace holdfast::inject {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kJson = "application/json";

std::string ReadFile(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string ReviewFile(const std::string& name) {
  return test::SourcePath("tests/inject/reviews/" + name + ".json");
}

json ReviewNamed(const std::string& name) { return json::parse(ReadFile(ReviewFile(name))); }

std::vector<std::string> ReviewNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(test::SourcePath("tests/inject/reviews")))
    names.push_back(entry.path().stem());
  std::ranges::sort(names);
  return names;
}

std::shared_ptr<const Policy> DefaultPolicy() {
  const TestFolder folder;
  const auto policy = PolicyOf(folder);
  EXPECT_TRUE(policy) << policy.error().message;
  return *policy;
}

Answer Ask(const Policy& policy, const json& review) {
  return AnswerReview(policy, kJson, review.dump());
}

json ResponseOf(const Answer& answer) {
  EXPECT_EQ(answer.status, 200) << answer.body;
  const json review = json::parse(answer.body);
  EXPECT_EQ(review["kind"], "AdmissionReview");
  return review["response"];
}

// With its patch, if there is one.
json Patched(const json& pod, const json& response) {
  if (!response.contains("patch")) return pod;
  EXPECT_EQ(response["patchType"], "JSONPatch");
  const auto patch = base::FromBase64(response["patch"].get<std::string>());
  EXPECT_TRUE(patch);
  return pod.patch(json::parse(*patch));
}

std::string RefusalOf(const json& review, const Policy& policy = *DefaultPolicy()) {
  const json response = ResponseOf(Ask(policy, review));
  return response["allowed"] == false ? response["status"]["message"].get<std::string>() : "";
}

class Reviews : public testing::TestWithParam<std::string> {};

TEST_P(Reviews, GiveThePodOfTheGoldenFile) {
  const json review = ReviewNamed(GetParam());
  const auto policy = DefaultPolicy();
  const Answer answer = Ask(*policy, review);
  const json response = ResponseOf(answer);
  EXPECT_EQ(json::parse(answer.body)["apiVersion"], review["apiVersion"]);
  EXPECT_EQ(response["uid"], review["request"]["uid"]);
  json got = {{"outcome", OutcomeName(answer.outcome)}};
  if (response.contains("warnings")) got["warnings"] = response["warnings"];
  if (response["allowed"] == false) {
    got["message"] = response["status"]["message"];
  } else {
    const json& pod = review["request"]["object"];
    const json patched = Patched(pod, response);
    if (patched != pod) got["pod"] = patched;
    // Asked about what it has made, it has nothing to add.
    json again = review;
    again["request"]["object"] = patched;
    const Answer second = Ask(*policy, again);
    EXPECT_FALSE(ResponseOf(second).contains("patch"));
    EXPECT_EQ(second.outcome,
              answer.outcome == Outcome::kInjected ? Outcome::kUnchanged : answer.outcome);
  }
  const std::string file = test::SourcePath("tests/inject/pods/" + GetParam() + ".json");
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << got.dump(1) << "\n";
  EXPECT_EQ(json::parse(ReadFile(file)).dump(1), got.dump(1)) << "differs from " << file;
}

INSTANTIATE_TEST_SUITE_P(Reviews, Reviews, testing::ValuesIn(ReviewNames()),
                         [](const auto& named) { return named.param; });

// The value behind an option or setting of the sidecar.
std::optional<std::string> ArgumentOf(const json& pod, const std::string& beginning) {
  for (const json& argument : pod["spec"]["initContainers"][0]["args"]) {
    const auto text = argument.get<std::string>();
    if (text.starts_with(beginning)) return text.substr(beginning.size());
  }
  return std::nullopt;
}

class ReviewTest : public testing::Test {
 protected:
  json Inject(const json& review, const Policy& policy) {
    const json response = ResponseOf(Ask(policy, review));
    EXPECT_EQ(response["allowed"], true) << response.dump();
    return Patched(review["request"]["object"], response);
  }
  json Inject(const json& review) { return Inject(review, *DefaultPolicy()); }

  json bare_ = ReviewNamed("bare");
  json& pod_ = bare_["request"]["object"];
};

TEST_F(ReviewTest, TheBacklogIsDrainedWithinTheGracePeriod) {
  EXPECT_EQ(ArgumentOf(Inject(bare_), "agent.drain_backlog_ms="), "27s");
  const std::pair<int64_t, const char*> periods[] = {{0, "0"},  {2, "0"},     {3, "0"},
                                                     {4, "1s"}, {3603, "1h"}, {-5, "0"}};
  for (const auto& [seconds, drain] : periods) {
    pod_["spec"]["terminationGracePeriodSeconds"] = seconds;
    EXPECT_EQ(ArgumentOf(Inject(bare_), "agent.drain_backlog_ms="), drain) << seconds;
  }
}

TEST_F(ReviewTest, TheSpoolStaysWithinItsVolume) {
  const std::pair<const char*, const char*> sizes[] = {
      {"2Gi", "1792MiB"}, {"10Gi", "9984MiB"}, {"100Mi", "80MiB"}, {"16Mi", "12MiB"}};
  for (const auto& [size, most] : sizes) {
    pod_["metadata"]["annotations"] = {{"inject.holdfast.io/spool-size", size}};
    const json pod = Inject(bare_);
    EXPECT_EQ(ArgumentOf(pod, "agent.spool.bytes_max="), most) << size;
    EXPECT_EQ(pod["spec"]["volumes"][1]["emptyDir"]["sizeLimit"], size);
  }
  pod_["metadata"].erase("annotations");
  // What the agents' configuration allows at most stays the most.
  const TestFolder folder;
  const auto less =
      PolicyOf(folder, {}, "agent: {upstream: {bootstrap: [a:1]}, spool: {bytes_max: 64MiB}}\n");
  ASSERT_TRUE(less) << less.error().message;
  EXPECT_EQ(ArgumentOf(Inject(bare_, **less), "agent.spool.bytes_max="), "64MiB");
}

TEST_F(ReviewTest, ASpoolOnTheNodesDiskHasALimitToo) {
  pod_["metadata"]["annotations"] = {{"inject.holdfast.io/durability", "node"}};
  EXPECT_EQ(ArgumentOf(Inject(bare_), "agent.spool.bytes_max="), "1792MiB");
  pod_["metadata"]["annotations"]["inject.holdfast.io/spool-size"] = "500Mi";
  EXPECT_EQ(ArgumentOf(Inject(bare_), "agent.spool.bytes_max="), "400MiB");
  pod_["metadata"]["annotations"]["config.holdfast.io/spool.bytes_max"] = "401MiB";
  EXPECT_THAT(RefusalOf(bare_), HasSubstr("raise inject.holdfast.io/spool-size"));
}

TEST_F(ReviewTest, AVariableThatMayComeFromElsewhereIsOverriddenWithAWarning) {
  const auto warnings = [&] {
    return ResponseOf(Ask(*DefaultPolicy(), bare_)).value("warnings", json::array());
  };
  json& container = pod_["spec"]["containers"][0];
  container["envFrom"] = {{{"configMapRef", {{"name", "kafka"}}}}};
  const std::string name = container["name"];
  EXPECT_EQ(warnings(), json({"holdfast: container " + name +
                              " gets the agent's address as KAFKA_BOOTSTRAP_SERVERS, also if one "
                              "comes by envFrom; it keeps only what it sets in env"}));
  container["envFrom"][0]["prefix"] = "KAFKA_";
  EXPECT_EQ(warnings().size(), 1U);
  container["envFrom"][0]["prefix"] = "SHOP_";
  EXPECT_EQ(warnings(), json::array());
}

// Until a probe has failed so often the kubelet lets an agent be whose spool is full.
TEST_F(ReviewTest, AFullSpoolKeepsAppsWaitingAndDoesNotEndTheAgent) {
  const json sidecar = Inject(bare_)["spec"]["initContainers"][0];
  EXPECT_EQ(sidecar["startupProbe"]["httpGet"]["path"], "/ready");
  EXPECT_GE(sidecar["startupProbe"]["failureThreshold"], 30 * 24 * 3600);
  EXPECT_EQ(sidecar["livenessProbe"]["httpGet"]["path"], "/live");
}

TEST_F(ReviewTest, WithoutAgentsOnTheNodesNoSpoolIsLeftThere) {
  const TestFolder folder;
  const auto policy = PolicyOf(folder, {{"inject.sidecar.node_directory", "", "--set"}});
  ASSERT_TRUE(policy) << policy.error().message;
  pod_["metadata"]["annotations"] = {{"inject.holdfast.io/durability", "node"}};
  EXPECT_THAT(RefusalOf(bare_, **policy), HasSubstr("there are none here"));
  pod_["metadata"]["annotations"] = {{"inject.holdfast.io/durability", "pod"}};
  EXPECT_EQ(RefusalOf(bare_, **policy), "");
}

// The kubelet adds up the limits of the containers that have one, and evicts a pod whose logs and
// emptyDirs are over that.
TEST_F(ReviewTest, TheSpoolHasRoomWithinTheLimitsOfThePodsDisk) {
  const auto sidecar = [&] { return Inject(bare_)["spec"]["initContainers"][0]["resources"]; };
  EXPECT_FALSE(sidecar()["limits"].contains("ephemeral-storage"));
  pod_["spec"]["initContainers"] = {
      {{"name", "migrate"}, {"resources", {{"limits", {{"ephemeral-storage", "1Gi"}}}}}}};
  EXPECT_EQ(sidecar()["limits"]["ephemeral-storage"], "2112Mi");
  EXPECT_EQ(sidecar()["requests"]["ephemeral-storage"], "0");
  json& annotations = pod_["metadata"]["annotations"];
  annotations["inject.holdfast.io/requests.ephemeral-storage"] = "1Gi";
  EXPECT_EQ(sidecar()["limits"]["ephemeral-storage"], "2112Mi");
  EXPECT_EQ(sidecar()["requests"]["ephemeral-storage"], "1Gi");
  annotations["inject.holdfast.io/requests.ephemeral-storage"] = "3Gi";
  EXPECT_EQ(sidecar()["limits"]["ephemeral-storage"], "3072Mi");
  annotations["inject.holdfast.io/limits.ephemeral-storage"] = "4Gi";
  EXPECT_EQ(sidecar()["limits"]["ephemeral-storage"], "4Gi");
  // What is on the node's disk or a volume of its own does not count.
  annotations = {{"inject.holdfast.io/durability", "node"}};
  EXPECT_FALSE(sidecar()["limits"].contains("ephemeral-storage"));
}

TEST_F(ReviewTest, AnAgentsLimitOfDiskBelowItsSpoolIsRefused) {
  json& annotations = pod_["metadata"]["annotations"];
  annotations["inject.holdfast.io/limits.ephemeral-storage"] = "1Gi";
  EXPECT_THAT(RefusalOf(bare_), HasSubstr("less than its spool in an emptyDir of 2Gi"));
  annotations["inject.holdfast.io/spool-size"] = "1Gi";
  EXPECT_EQ(RefusalOf(bare_), "");
  annotations["inject.holdfast.io/durability"] = "node";
  annotations["inject.holdfast.io/spool-size"] = "2Gi";
  EXPECT_EQ(RefusalOf(bare_), "");
}

TEST_F(ReviewTest, ThePodsOwnResourcesGrowByTheAgents) {
  json& resources = pod_["spec"]["resources"];
  resources = {{"requests", {{"cpu", "100m"}, {"memory", "128Mi"}}},
               {"limits", {{"cpu", "1"}, {"memory", "1G"}, {"hugepages-2Mi", "2Mi"}}}};
  EXPECT_EQ(Inject(bare_)["spec"]["resources"],
            (json{{"requests", {{"cpu", "150m"}, {"memory", "192Mi"}}},
                  {"limits", {{"cpu", "1050m"}, {"memory", "1210Mi"}, {"hugepages-2Mi", "2Mi"}}}}));
  // What the pod does not say is left to its containers.
  resources = {{"requests", {{"memory", "128Mi"}}}};
  EXPECT_EQ(Inject(bare_)["spec"]["resources"], (json{{"requests", {{"memory", "192Mi"}}}}));
}

TEST_F(ReviewTest, AnAgentWithoutATierIsRefusedUnlessThePodNamesOne) {
  const TestFolder folder;
  const auto policy = PolicyOf(folder, {}, "log: {level: warn}\n");
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_THAT(RefusalOf(bare_, **policy), HasSubstr("agent.upstream.bootstrap is not set"));
  pod_["metadata"]["annotations"] = {{"config.holdfast.io/upstream.bootstrap", "kafka:9092"}};
  EXPECT_EQ(RefusalOf(bare_, **policy), "");
}

TEST_F(ReviewTest, AnOldClusterIsRefusedWithTheReason) {
  const TestFolder folder;
  const auto policy = PolicyOf(folder, {{"inject.kubernetes_version", "1.28", "--set"}});
  ASSERT_TRUE(policy);
  EXPECT_THAT(RefusalOf(bare_, **policy), HasSubstr("Kubernetes 1.28"));
  // Who does not want an agent is let in everywhere.
  pod_["metadata"]["labels"] = {{"holdfast.io/inject", "false"}};
  EXPECT_EQ(RefusalOf(bare_, **policy), "");
}

TEST_F(ReviewTest, WhatAnAnnotationPointsToIsNeverShown) {
  const TestFolder folder;
  const std::string secret = folder.Write("tls.key", "PRIVATE");
  for (const char* key : {"advertised_host", "ledger.topic", "drain_timeout_ms", "topics",
                          "upstream.properties.security.protocol", "spool.encryption_keys"}) {
    pod_["metadata"]["annotations"] = {
        {std::string("config.holdfast.io/") + key, "{file: " + secret + "}"}};
    EXPECT_THAT(Ask(*DefaultPolicy(), bare_).body, testing::Not(HasSubstr("PRIVATE"))) << key;
  }
}

TEST_F(ReviewTest, AnAgentsSettingsMayNotBeHuge) {
  pod_["metadata"]["annotations"] = {
      {"config.holdfast.io/advertised_host", std::string(8192, 'a')}};
  EXPECT_THAT(RefusalOf(bare_), HasSubstr("larger than 8KiB"));
}

TEST_F(ReviewTest, WhatIsNoReviewIsToldSo) {
  const auto policy = DefaultPolicy();
  const std::pair<std::string, const char*> bodies[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"nonsense", "not JSON"},
      {"\xff\xfe", "not JSON"},
      {"[1e999]", "not JSON"},
      {std::string(200'000, '['), "nested too deep"},
      {R"({"a":)" + std::string(101, '[') + std::string(101, ']') + "}", "nested too deep"},
      {"[]", "must be an AdmissionReview"},
      {"null", "must be an AdmissionReview"},
      {R"({"kind":"Pod","apiVersion":"v1"})", "must be an AdmissionReview"},
      {R"({"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"})", "no request"},
      {R"({"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":7})",
       "no request"},
      {R"({"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":""}})",
       "no request"},
      {R"({"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1",)"
       R"("operation":"CREATE","resource":{"resource":"pods"}}})",
       "no object"},
  };
  for (const auto& [body, what] : bodies) {
    const Answer answer = AnswerReview(*policy, kJson, body);
    EXPECT_EQ(answer.outcome, Outcome::kMalformed) << body.substr(0, 100);
    EXPECT_EQ(answer.status, 400);
    EXPECT_THAT(answer.body, HasSubstr(what)) << body.substr(0, 100);
  }
  for (const char* type : {"", "text/plain", "application/yaml", "application/jsonp"})
    EXPECT_EQ(AnswerReview(*policy, type, bare_.dump()).status, 415) << type;
  for (const char* type : {"application/json; charset=utf-8", "Application/JSON"})
    EXPECT_EQ(AnswerReview(*policy, type, bare_.dump()).status, 200) << type;
}

TEST_F(ReviewTest, AnythingInThePlaceOfAnythingGetsAnAnswer) {
  const auto policy = DefaultPolicy();
  const json review = ReviewNamed("annotated").flatten();
  const json odd[] = {nullptr,
                      7,
                      -1,
                      1e300,
                      true,
                      "text",
                      json::array(),
                      json::object(),
                      json::array({json::object(), nullptr, "x"})};
  for (const auto& [path, value] : review.items()) {
    // Every place on the way to each value.
    for (json::json_pointer at(path); !at.empty(); at = at.parent_pointer()) {
      for (const json& other : odd) {
        json changed = review.unflatten();
        changed[at] = other;
        const Answer answer = Ask(*policy, changed);
        if (answer.outcome != Outcome::kInjected) continue;
        Patched(changed["request"]["object"], ResponseOf(answer));  // It applies.
      }
    }
  }
}

}  // namespace
}  // namespace holdfast::inject
