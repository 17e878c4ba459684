#include "base/executor.h"

#include <gtest/gtest.h>

#include <thread>

namespace holdfast::base {
namespace {

// Runs nothing, and counts how often it was woken.
class Sleeper final : public Executor {
 public:
  void Post(Task /*task*/) override {}
  bool TryPost(Task /*task*/) override { return true; }
  [[nodiscard]] bool InLoop() const override { return false; }
  [[nodiscard]] TimePoint Now() const override { return {}; }
  [[nodiscard]] int64_t WallClockMs() const override { return 0; }
  Timer After(Duration /*delay*/, Task /*task*/) override { return {}; }

  int woken = 0;

 private:
  void Wake() override { ++woken; }
};

TEST(WakeBatchTest, WakesEachOnceAtItsEnd) {
  Sleeper one;
  Sleeper other;
  {
    const WakeBatch batch;
    EXPECT_TRUE(WakeBatch::Take(&one));
    EXPECT_TRUE(WakeBatch::Take(&other));
    EXPECT_TRUE(WakeBatch::Take(&one));
    EXPECT_EQ(one.woken + other.woken, 0);
  }
  EXPECT_EQ(one.woken, 1);
  EXPECT_EQ(other.woken, 1);
}

TEST(WakeBatchTest, TheOuterOneCounts) {
  Sleeper executor;
  {
    const WakeBatch outer;
    {
      const WakeBatch inner;
      EXPECT_TRUE(WakeBatch::Take(&executor));
    }
    EXPECT_EQ(executor.woken, 0);
    EXPECT_TRUE(WakeBatch::Take(&executor));
  }
  EXPECT_EQ(executor.woken, 1);
}

TEST(WakeBatchTest, IsOfOneThread) {
  Sleeper executor;
  EXPECT_FALSE(WakeBatch::Lives());
  EXPECT_FALSE(WakeBatch::Take(&executor));
  const WakeBatch batch;
  EXPECT_TRUE(WakeBatch::Lives());
  std::thread([&] { EXPECT_FALSE(WakeBatch::Lives() || WakeBatch::Take(&executor)); }).join();
}

}  // namespace
}  // namespace holdfast::base
