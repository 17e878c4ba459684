// The broker's table in docs/protocol.md is printed from its routes. After a change of them:
//
//   HOLDFAST_PRINT=1 build/dev/tests/broker/broker_test --gtest_filter='ProtocolDoc*'
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "broker/worker.h"
#include "kafka/dispatch.h"
#include "tests/support/source_path.h"

namespace holdfast::broker {
namespace {

constexpr std::string_view kBegin = "<!-- printed from broker/worker.cc: begin -->\n";
constexpr std::string_view kEnd = "<!-- printed from broker/worker.cc: end -->\n";

TEST(ProtocolDocTest, TableIsWhatTheRoutesSay) {
  const std::string file = test::SourcePath("docs/protocol.md");
  std::stringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string checked_in = text.str();
  const size_t begin = checked_in.find(kBegin);
  const size_t end = checked_in.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << file << " has no mark for the table";
  ASSERT_NE(end, std::string::npos) << file << " has no mark for the table's end";

  const std::string printed = checked_in.substr(0, begin) + std::string(kBegin) +
                              kafka::RenderApiTable(ServedApis()) + checked_in.substr(end);
  if (std::getenv("HOLDFAST_PRINT") != nullptr) std::ofstream(file) << printed;
  EXPECT_EQ(checked_in, printed)
      << "run HOLDFAST_PRINT=1 broker_test --gtest_filter='ProtocolDoc*' to print it anew";
}

}  // namespace
}  // namespace holdfast::broker
