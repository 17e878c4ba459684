#include "metrics/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

namespace holdfast::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::array kBounds{0.1, 1.0, 10.0};

TEST(RegistryTest, CounterSumsWhatAllThreadsAdded) {
  Registry registry;
  Counter& counter = registry.AddCounter({.name = "a_total", .help = "A."});
  std::vector<std::jthread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&counter] {
      for (int n = 0; n < 10000; ++n) counter.Add(2);
    });
  }
  threads.clear();
  EXPECT_EQ(counter.Value(), 240000U);
  EXPECT_THAT(registry.Expose(), HasSubstr("# HELP a_total A.\n# TYPE a_total counter\n"
                                           "a_total 240000\n"));
}

TEST(RegistryTest, GaugeGoesUpAndDown) {
  Registry registry;
  Gauge& gauge = registry.AddGauge({.name = "g", .help = "G."});
  gauge.Set(5);
  gauge.Add(2.5);
  gauge.Sub();
  EXPECT_EQ(gauge.Value(), 6.5);
  EXPECT_THAT(registry.Expose(), HasSubstr("# TYPE g gauge\ng 6.5\n"));
}

TEST(RegistryTest, HistogramCountsIntoTheBucketWhoseBoundIncludesTheValue) {
  Registry registry;
  Histogram& histogram = registry.AddHistogram({.name = "h_seconds", .help = "H."}, kBounds);
  histogram.Observe(0.1);
  histogram.Observe(0.5);
  histogram.Observe(100.0);
  histogram.Observe(base::Duration(std::chrono::seconds(2)));
  const std::string page = registry.Expose();
  EXPECT_THAT(page, HasSubstr("h_seconds_bucket{le=\"0.1\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("h_seconds_bucket{le=\"1\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("h_seconds_bucket{le=\"10\"} 3\n"));
  EXPECT_THAT(page, HasSubstr("h_seconds_bucket{le=\"+Inf\"} 4\n"));
  EXPECT_THAT(page, HasSubstr("h_seconds_count 4\n"));
  EXPECT_EQ(histogram.Read().sum, 102.6);
}

TEST(RegistryTest, FamilyGivesTheSameMetricForTheSameValue) {
  Registry registry;
  Family<Counter>& errors =
      registry.AddCounterFamily({.name = "e_total", .help = "E.", .label = "cause"});
  Counter& reset = errors.With("reset");
  reset.Add();
  errors.With("refused").Add(3);
  EXPECT_EQ(&errors.With("reset"), &reset);
  const std::string page = registry.Expose();
  EXPECT_THAT(page, HasSubstr("e_total{cause=\"reset\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("e_total{cause=\"refused\"} 3\n"));
}

TEST(RegistryTest, FamilyCountsValuesPastItsLimitAsOther) {
  Registry registry;
  Family<Counter>& errors = registry.AddCounterFamily(
      {.name = "e_total", .help = "E.", .label = "cause", .values_max = 2});
  errors.With("a").Add();
  errors.With("b").Add();
  errors.With("c").Add();
  errors.With("d").Add();
  errors.With("a").Add();
  EXPECT_EQ(errors.With("other").Value(), 2U);
  EXPECT_EQ(errors.With("a").Value(), 2U);
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("cause=\"c\"")));
}

TEST(RegistryTest, LabelValuesAreEscaped) {
  Registry registry;
  registry.AddCounterFamily({.name = "e_total", .help = "E.", .label = "cause"})
      .With("a\"b\nc\\")
      .Add();
  EXPECT_THAT(registry.Expose(), HasSubstr("e_total{cause=\"a\\\"b\\nc\\\\\"} 1\n"));
}

TEST(RegistryTest, CallbackGaugeCombinesItsBindingsUntilTheyGo) {
  Registry registry;
  CallbackGauge& sum =
      registry.AddCallbackGauge({.name = "s", .help = "S."}, CallbackGauge::Combine::kSum);
  CallbackGauge& max =
      registry.AddCallbackGauge({.name = "m", .help = "M."}, CallbackGauge::Combine::kMax);
  EXPECT_EQ(sum.Value(), 0);
  auto three = sum.Bind([] { return 3.0; });
  const auto other_three = max.Bind([] { return 3.0; });
  {
    const auto four = sum.Bind([] { return 4.0; });
    const auto other_four = max.Bind([] { return 4.0; });
    EXPECT_EQ(sum.Value(), 7);
    EXPECT_EQ(max.Value(), 4);
  }
  EXPECT_EQ(sum.Value(), 3);
  three = CallbackGauge::Binding();
  EXPECT_EQ(sum.Value(), 0);
  EXPECT_THAT(registry.Expose(), HasSubstr("m 3\n"));
}

TEST(RegistryDeathTest, ANameCanBeTakenOnce) {
  Registry registry;
  registry.AddCounter({.name = "a_total", .help = "A."});
  EXPECT_DEATH(registry.AddGauge({.name = "a_total", .help = "A."}), "name");
}

}  // namespace
}  // namespace holdfast::metrics
