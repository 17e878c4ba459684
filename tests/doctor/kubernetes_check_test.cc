#include "cli/doctor/kubernetes_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/doctor/finding_matchers.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
using std::chrono::milliseconds;
using testing::HasSubstr;
using Problems = std::vector<Event>;

TEST(KubernetesCheckTest, OutsideOfItThereIsOneLine) {
  const auto findings = CheckKubernetes({.user = 0}, milliseconds(10));
  ASSERT_EQ(findings.all().size(), 1);
  EXPECT_EQ(findings.all()[0].what, "not in Kubernetes");
}

TEST(KubernetesCheckTest, APodAsTheInjectorMakesItIsGood) {
  const auto findings = CheckKubernetes(
      {.in_kubernetes = true, .user = 65532, .root_read_only = true}, milliseconds(10'500));
  EXPECT_EQ(ProblemsOf(findings), Problems{});
  EXPECT_THAT(findings.all().back().what, HasSubstr("terminationGracePeriodSeconds has to be 14"));
}

TEST(KubernetesCheckTest, RootTokensAndThrottlingAreNot) {
  const auto findings =
      CheckKubernetes({.in_kubernetes = true,
                       .user = 0,
                       .token_mounted = true,
                       .limits = {.cpus_max = 0.1, .periods = 1000, .throttled_periods = 200}},
                      milliseconds(0));
  EXPECT_EQ(ProblemsOf(findings),
            (Problems{Event::kRunsAsRoot, Event::kTokenMounted, Event::kCpuThrottled}));
}

}  // namespace
}  // namespace holdfast::cli::doctor
