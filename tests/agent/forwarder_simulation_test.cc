// Delivery to a tier as Kafka is on bad days: whatever comes together, by a seed, each partition
// arrives whole, in order and once.
#include "tests/agent/delivery_simulation.h"

namespace holdfast::agent {
namespace {

// Late requests with every other seed.
class ForwarderSimulationTest : public DeliverySimulation,
                                public testing::WithParamInterface<uint64_t> {
 protected:
  ForwarderSimulationTest() : DeliverySimulation(GetParam(), GetParam() % 2 == 0) {
    Begin();
    tier_.Connect();
  }
};

TEST_P(ForwarderSimulationTest, AllArrivesOnceAndInOrder) {
  for (int step = 0; step < 400; ++step) {
    Step();
    if (HasFatalFailure()) return;
  }
  Stall(false);
  tier_.ServeStranded();
  for (int wait = 0; wait < 10; ++wait) {
    tier_.Connect();
    clock_.Advance(seconds(30));
  }
  for (const auto& [name, sent] : sent_) {
    EXPECT_EQ(tier_.Values(name.first, name.second), sent) << name.first << "/" << name.second;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ForwarderSimulationTest, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace holdfast::agent
