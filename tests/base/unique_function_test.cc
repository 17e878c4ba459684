#include "base/unique_function.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

namespace holdfast::base {
namespace {

TEST(UniqueFunctionTest, OwnsWhatItCaptures) {
  auto alive = std::make_shared<int>(7);
  UniqueFunction<int(int)> add = [alive, owned = std::make_unique<int>(1)](int n) {
    return *alive + *owned + n;
  };
  UniqueFunction<int(int)> moved = std::move(add);
  EXPECT_FALSE(add);  // NOLINT(bugprone-use-after-move): a moved-from function is empty.
  EXPECT_EQ(moved(2), 10);
  moved = {};
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(UniqueFunctionTest, KeepsLargeCallablesOnTheHeap) {
  auto alive = std::make_shared<int>(1);
  std::array<char, 200> large{};
  large[199] = 'x';
  {
    UniqueFunction<char()> last = [large, alive] { return large[199]; };
    UniqueFunction<char()> moved;
    moved = std::move(last);
    EXPECT_EQ(moved(), 'x');
    EXPECT_EQ(alive.use_count(), 2);
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(UniqueFunctionDeathTest, AbortsWhenEmpty) {
  Task task;
  EXPECT_DEATH(task(), "check failed");
}

}  // namespace
}  // namespace holdfast::base
