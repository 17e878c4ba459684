#include "proxy/broker_ports.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tests/support/manual_executor.h"

namespace holdfast::proxy {
namespace {

class BrokerPortsTest : public testing::Test {
 protected:
  std::unique_ptr<BrokerPorts> Make() {
    return std::make_unique<BrokerPorts>(
        loop_, BrokerPorts::Callbacks{
                   .open = [this](int32_t node, uint16_t wanted) -> base::Result<uint16_t> {
                     opened_.emplace_back(node, wanted);
                     if (fails_)
                       return base::Unexpected(base::Code::kUnavailable, "no port is left");
                     return wanted != 0 ? wanted : static_cast<uint16_t>(7000 + node);
                   },
                   .close = [this](int32_t node) { closed_.push_back(node); },
                   .has_left = [this](int32_t node) { return left_.contains(node); },
                   .changed = [this](const BrokerPorts::Ports& ports) { kept_ = ports; }});
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
  std::vector<int32_t> closed_;
  std::set<int32_t> left_;  // The tier.
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

TEST_F(BrokerPortsTest, WhenAllAreTakenANewBrokerGetsThePlaceOfOneThatHasLeft) {
  auto ports = Make();
  std::vector<int32_t> all(BrokerPorts::kBrokersMax);
  std::iota(all.begin(), all.end(), 0);
  Request(*ports, all);
  Request(*ports, {100});
  EXPECT_FALSE(ports->Snapshot()->contains(100)) << "all others are there";
  // The bootstrap listener stays, whoever it stands for.
  left_ = {0, 8, 9};
  fails_ = true;
  Request(*ports, {100});
  EXPECT_TRUE(closed_.empty()) << "for a port that could not be opened";
  fails_ = false;
  Request(*ports, {100, 101});
  EXPECT_EQ(closed_, (std::vector<int32_t>{8, 9}));
  EXPECT_EQ(ports->Snapshot()->size(), BrokerPorts::kBrokersMax);
  EXPECT_EQ(ports->Snapshot()->at(101), 7101);
  EXPECT_EQ(kept_, *ports->Snapshot());
  Request(*ports, {102});
  EXPECT_FALSE(ports->Snapshot()->contains(102));
}

}  // namespace
}  // namespace holdfast::proxy
