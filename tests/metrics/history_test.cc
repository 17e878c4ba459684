#include "metrics/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace holdfast::metrics {
namespace {

using ::testing::ElementsAre;

TEST(HistoryTest, RatesAreOfTheTimesBetweenSamples) {
  Counter in;
  Counter out;
  History history({{"in", &in}, {"out", &out}});
  history.Sample(1000);
  in.Add(100);
  history.Sample(3000);
  in.Add(10);
  out.Add(40);
  history.Sample(4000);
  const History::Rates rates = history.Get();
  EXPECT_EQ(rates.until_ms, 4000);
  ASSERT_EQ(rates.series.size(), 2U);
  EXPECT_EQ(rates.series[0].name, "in");
  EXPECT_THAT(rates.series[0].per_second, ElementsAre(50, 10));
  EXPECT_THAT(rates.series[1].per_second, ElementsAre(0, 40));
  EXPECT_DOUBLE_EQ(rates.series[0].lately, 110.0 / 3);
}

TEST(HistoryTest, TheLevelGrowsAndFalls) {
  Gauge level;
  History history({}, &level);
  history.Sample(1000);
  EXPECT_EQ(history.Get().growth_lately, 0);
  level.Set(600);
  history.Sample(3000);
  EXPECT_DOUBLE_EQ(history.Get().growth_lately, 300);
  for (size_t i = 1; i <= History::kLately; ++i) {
    level.Sub(10);
    history.Sample(static_cast<int64_t>(3000 + 1000 * i));
  }
  EXPECT_DOUBLE_EQ(history.Get().growth_lately, -10);
}

TEST(HistoryTest, NothingIsKnownBeforeTheSecondSample) {
  Counter in;
  History history({{"in", &in}});
  EXPECT_EQ(history.Get().until_ms, 0);
  history.Sample(1000);
  EXPECT_TRUE(history.Get().series[0].per_second.empty());
  EXPECT_EQ(history.Get().series[0].lately, 0);
}

TEST(HistoryTest, TheNewestSamplesAreKept) {
  Counter in;
  History history({{"in", &in}});
  for (size_t i = 0; i < History::kSamples + 10; ++i) {
    in.Add(i);
    history.Sample(static_cast<int64_t>(1000 * (i + 1)));
  }
  const History::Rates rates = history.Get();
  ASSERT_EQ(rates.series[0].per_second.size(), History::kSamples);
  EXPECT_EQ(rates.series[0].per_second.back(), static_cast<double>(History::kSamples + 9));
  EXPECT_EQ(rates.series[0].lately, static_cast<double>(History::kSamples + 9 - 7));
}

TEST(HistoryTest, AClockThatIsSetBackBeginsAnew) {
  Counter in;
  History history({{"in", &in}});
  history.Sample(5000);
  history.Sample(3000);
  in.Add(7);
  history.Sample(4000);
  EXPECT_THAT(history.Get().series[0].per_second, ElementsAre(7));
}

}  // namespace
}  // namespace holdfast::metrics
