// The broker's table in docs/protocol.md is printed from its routes. After a change of them:
//
//   HOLDFAST_PRINT=1 build/dev/tests/broker/broker_test --gtest_filter='ProtocolDoc*'
#include <gtest/gtest.h>

#include "broker/worker.h"
#include "kafka/dispatch.h"
#include "tests/support/printed_table.h"

namespace holdfast::broker {
namespace {

TEST(ProtocolDocTest, TableIsWhatTheRoutesSay) {
  test::ExpectPrinted("docs/protocol.md", "broker/worker.cc", kafka::RenderApiTable(ServedApis()));
}

}  // namespace
}  // namespace holdfast::broker
