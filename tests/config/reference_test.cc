// docs/configuration.md is printed from config/holdfast.proto. After a change of the schema:
//
//   HOLDFAST_PRINT=1 build/dev/tests/config/config_test --gtest_filter='Reference*'
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "config/config.h"

namespace holdfast::config {
namespace {

TEST(ReferenceTest, DocsConfigurationIsWhatTheSchemaSays) {
  const std::string file = std::string(TEST_DATA_DIR) + "/../docs/configuration.md";
  const auto printed = PrintReference(DESCRIPTOR_SET);
  ASSERT_TRUE(printed) << printed.error().message;
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << *printed;
  std::stringstream checked_in;
  checked_in << std::ifstream(file).rdbuf();
  EXPECT_EQ(checked_in.str(), *printed)
      << "run HOLDFAST_PRINT=1 config_test --gtest_filter='Reference*' to print it anew";
}

}  // namespace
}  // namespace holdfast::config
