#include "net/memory_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace holdfast::net {
namespace {

class MemoryBudgetTest : public ::testing::Test {
 protected:
  Reservation Take(size_t bytes) {
    Reservation reservation;
    EXPECT_TRUE(budget_.TryReserve(bytes, &reservation));
    return reservation;
  }
  bool CanTake(size_t bytes) {
    Reservation reservation;
    return budget_.TryReserve(bytes, &reservation);
  }
  void Wait(size_t bytes) {
    budget_.Wait(bytes, [this](Reservation granted) { granted_.push_back(std::move(granted)); });
  }

  metrics::Registry registry_;
  metrics::NetMetrics metrics_{registry_};
  MemoryBudget budget_{100, metrics_};
  std::vector<Reservation> granted_;
};

TEST_F(MemoryBudgetTest, GivesUpToItsLimitAndTakesBack) {
  auto most = Take(90);
  EXPECT_TRUE(CanTake(10));
  EXPECT_FALSE(CanTake(11));
  EXPECT_EQ(metrics_.memory_in_flight_bytes.Value(), 90);
  most.Release();
  EXPECT_EQ(budget_.used(), 0U);
  EXPECT_TRUE(CanTake(100));
}

TEST_F(MemoryBudgetTest, TheLineMovesAgainWhenHalfIsFree) {
  auto first = Take(60);
  auto second = Take(40);
  Wait(10);
  second.Release();
  EXPECT_TRUE(granted_.empty()) << "60 of 100 are still taken";
  first.Release();
  ASSERT_EQ(granted_.size(), 1U);
  EXPECT_EQ(granted_[0].bytes(), 10U);
}

TEST_F(MemoryBudgetTest, NobodyOvertakesTheLine) {
  auto half = Take(50);
  Wait(80);
  EXPECT_FALSE(CanTake(1));
  Wait(1);
  half.Release();
  EXPECT_EQ(granted_.size(), 1U) << "80 leave less than half free for the next";
  granted_[0].Release();
  EXPECT_EQ(granted_.size(), 2U);
  EXPECT_TRUE(CanTake(1));
}

TEST_F(MemoryBudgetTest, MoreThanTheLimitIsGrantedWhenNothingElseIsReserved) {
  EXPECT_TRUE(CanTake(1000));
  auto little = Take(1);
  EXPECT_FALSE(CanTake(1000));
  Wait(1000);
  EXPECT_TRUE(granted_.empty());
  little.Release();
  ASSERT_EQ(granted_.size(), 1U);
  EXPECT_EQ(budget_.used(), 1000U);
}

TEST_F(MemoryBudgetTest, NobodyIsForgottenWhenManyThreadsReserveAndRelease) {
  std::atomic<int> granted = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int n = 0; n < 5000; ++n) {
          Reservation reservation;
          if (budget_.TryReserve(40, &reservation)) {
            ++granted;
          } else {
            budget_.Wait(40, [&](Reservation) { ++granted; });
          }
        }
      });
    }
  }
  EXPECT_EQ(granted, 20000);
  EXPECT_EQ(budget_.used(), 0U);
  EXPECT_FALSE(budget_.HasWaiters());
}

}  // namespace
}  // namespace holdfast::net
