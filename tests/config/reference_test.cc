// docs/configuration.md is printed from config/holdfast.proto. After a change of the schema:
//
//   HOLDFAST_PRINT=1 build/dev/tests/config/config_test --gtest_filter='Reference*'
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "config/config.h"
#include "tests/support/source_path.h"

namespace holdfast::config {
namespace {

TEST(ReferenceTest, DocsConfigurationIsWhatTheSchemaSays) {
  const std::string file = test::SourcePath("docs/configuration.md");
  const auto printed = PrintReference(DESCRIPTOR_SET);
  ASSERT_TRUE(printed) << printed.error().message;
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << *printed;
  std::stringstream checked_in;
  checked_in << std::ifstream(file).rdbuf();
  const std::string text = checked_in.str();
  const auto [there, here] =
      std::mismatch(text.begin(), text.end(), printed->begin(), printed->end());
  EXPECT_TRUE(text == *printed)
      << "line " << std::count(text.begin(), there, '\n') + 1
      << " of docs/configuration.md differs; "
      << "HOLDFAST_PRINT=1 config_test --gtest_filter='Reference*' prints it anew";
}

}  // namespace
}  // namespace holdfast::config
