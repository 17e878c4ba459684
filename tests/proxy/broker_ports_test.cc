#include "proxy/broker_ports.h"

#include <gtest/gtest.h>

#include "tests/support/manual_executor.h"

namespace holdfast::proxy {
namespace {

class BrokerPortsTest : public testing::Test {
 protected:
  std::unique_ptr<BrokerPorts> Make() {
    return std::make_unique<BrokerPorts>(
        loop_,
        [this](int32_t node, uint16_t wanted) -> base::Result<uint16_t> {
          opened_.emplace_back(node, wanted);
          if (fails_) return base::Unexpected(base::Code::kUnavailable, "no port is left");
          return wanted != 0 ? wanted : static_cast<uint16_t>(7000 + node);
        },
        [this](const BrokerPorts::Ports& ports) { kept_ = ports; });
  }
  void Request(BrokerPorts& ports, std::vector<int32_t> nodes) {
    bool done = false;
    ports.Request(std::move(nodes), [&done] { done = true; });
    clock_.RunUntilIdle();
    EXPECT_TRUE(done);
  }

  test::ManualClock clock_;
  test::ManualExecutor loop_{clock_};
  std::vector<std::pair<int32_t, uint16_t>> opened_;
  BrokerPorts::Ports kept_;
  bool fails_ = false;
};

TEST_F(BrokerPortsTest, TheFirstBrokerIsBehindTheBootstrapListener) {
  auto ports = Make();
  EXPECT_EQ(ports->BootstrapNode(), -1);
  Request(*ports, {3});
  EXPECT_EQ(ports->BootstrapNode(), 3);
  EXPECT_TRUE(opened_.empty());
  EXPECT_EQ(kept_, (BrokerPorts::Ports{{3, 0}}));
}

TEST_F(BrokerPortsTest, EachFurtherBrokerGetsAPortOfItsOwnOnce) {
  auto ports = Make();
  Request(*ports, {3, 5, -1});
  Request(*ports, {5, 4});
  EXPECT_EQ(*ports->Snapshot(), (BrokerPorts::Ports{{3, 0}, {4, 7004}, {5, 7005}}));
  EXPECT_EQ(opened_.size(), 2);
}

TEST_F(BrokerPortsTest, PortsStayTheSameOverARestart) {
  auto before = Make();
  Request(*before, {3, 5});
  opened_.clear();
  auto after = Make();
  after->Restore(kept_);
  EXPECT_EQ(*after->Snapshot(), *before->Snapshot());
  EXPECT_EQ(opened_, (std::vector<std::pair<int32_t, uint16_t>>{{5, 7005}}));
  Request(*after, {3, 5});
  EXPECT_EQ(opened_.size(), 1);
}

TEST_F(BrokerPortsTest, ABrokerWithoutAListenerStaysUnknownAndIsTriedAgain) {
  auto ports = Make();
  fails_ = true;
  Request(*ports, {3, 5});
  EXPECT_EQ(ports->Snapshot()->size(), 1);
  fails_ = false;
  Request(*ports, {5});
  EXPECT_EQ(ports->Snapshot()->at(5), 7005);
}

}  // namespace
}  // namespace holdfast::proxy
