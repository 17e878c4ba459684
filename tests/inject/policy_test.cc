#include "inject/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/inject/inject_fixture.h"

namespace holdfast::inject {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class PolicyTest : public testing::Test {
 protected:
  std::string ErrorOf(const std::string& key, const std::string& value) {
    const auto policy = PolicyOf(folder_, {{key, value, "--set"}});
    return policy ? "(no error)" : policy.error().message;
  }

  TestFolder folder_;
};

TEST_F(PolicyTest, KeepsTheAgentsFileAsItIs) {
  const auto policy = PolicyOf(folder_);
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_EQ((*policy)->agent_yaml(), kAgentYaml);
  // What a pod's Secret will say is not looked up here.
  EXPECT_EQ((*policy)->agent()->agent().upstream().properties().at("sasl.password"),
            "{file: /etc/holdfast/secret/password}");
}

TEST_F(PolicyTest, SaysWhatIsWrongInTheAgentsFile) {
  const auto policy = PolicyOf(folder_, {}, "agent:\n  upstrem: {}\n");
  ASSERT_FALSE(policy);
  EXPECT_THAT(policy.error().message,
              EndsWith("agent.yaml:2:3: unknown key \"agent.upstrem\"; did you mean "
                       "\"agent.upstream\"?"));
  const auto large = PolicyOf(folder_, {}, "# " + std::string(128 << 10, 'x'));
  ASSERT_FALSE(large);
  EXPECT_THAT(large.error().message, HasSubstr("larger than 128KiB"));
  EXPECT_THAT(ErrorOf("inject.sidecar.agent_config_file", "/nowhere/agent.yaml"),
              HasSubstr("cannot read /nowhere/agent.yaml"));
}

TEST_F(PolicyTest, RefusesSettingsThatNoPodCouldHave) {
  EXPECT_THAT(ErrorOf("inject.sidecar.spool_size", "2GiB"), HasSubstr("at least 16Mi"));
  EXPECT_THAT(ErrorOf("inject.sidecar.spool_size", "8Mi"), HasSubstr("at least 16Mi"));
  EXPECT_THAT(ErrorOf("inject.sidecar.resources.limits.memory", "much"),
              HasSubstr("inject.sidecar.resources.limits.memory is \"much\""));
  EXPECT_THAT(ErrorOf("inject.sidecar.resources.limit.memory", "1Gi"),
              HasSubstr("did you mean \"inject.sidecar.resources.limits.memory\"?"));
  EXPECT_THAT(ErrorOf("inject.sidecar.admin_port", "9092"), HasSubstr("must not be the same"));
  EXPECT_THAT(ErrorOf("inject.sidecar.node_directory", "spool"), HasSubstr("begin with /"));
  EXPECT_EQ(ErrorOf("inject.sidecar.node_directory", ""), "(no error)");
  const auto nodes = PolicyOf(folder_, {{"inject.sidecar.node_directory", "", "--set"},
                                        {"inject.sidecar.durability", "node", "--set"}});
  ASSERT_FALSE(nodes);
  EXPECT_THAT(nodes.error().message, HasSubstr("durability is node, which needs agents"));
  EXPECT_THAT(ErrorOf("inject.kubernetes_version", "new"), HasSubstr("such as 1.36"));
}

TEST_F(PolicyTest, KnowsWhichClustersHaveNativeSidecars) {
  for (const char* version : {"1.29", "v1.29.3", "1.30+", "v1.36.3-eks-1", "2.0"}) {
    const auto policy = PolicyOf(folder_, {{"inject.kubernetes_version", version, "--set"}});
    ASSERT_TRUE(policy) << version;
    EXPECT_EQ((*policy)->unfit_cluster(), "") << version;
  }
  for (const char* version : {"1.28", "v1.28.15", "1.9"}) {
    const auto policy = PolicyOf(folder_, {{"inject.kubernetes_version", version, "--set"}});
    ASSERT_TRUE(policy) << version;
    EXPECT_THAT((*policy)->unfit_cluster(), HasSubstr("native sidecars need 1.29")) << version;
  }
}

}  // namespace
}  // namespace holdfast::inject
