#include "inject/quantity.h"

#include <gtest/gtest.h>

namespace holdfast::inject {
namespace {

TEST(QuantityTest, ReadsWhatKubernetesWrites) {
  const std::pair<const char*, double> samples[] = {
      {"0", 0},
      {"1", 1},
      {"250m", 0.25},
      {"1.5Gi", 1.5 * (1 << 30)},
      {"64Mi", 64e0 * (1 << 20)},
      {"500M", 5e8},
      {"1e3", 1000},
      {"1E3", 1000},
      {"12e-1", 1.2},
      {".5", 0.5},
      {"1e+2", 100},
      {"2E", 2e18},
      {"3k", 3000},
      {"7u", 7e-6},
      {"1.", 1},
  };
  for (const auto& [text, number] : samples) {
    const auto parsed = ParseQuantity(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_DOUBLE_EQ(*parsed, number) << text;
  }
}

TEST(QuantityTest, TakesNothingElse) {
  for (const char* text : {"", "-1", "+1", "Gi", "1GB", "1 Gi", "1gi", "1e", "1e99", "1ee3", "nan",
                           "inf", "0x10", ".", "1e+-3"})
    EXPECT_FALSE(ParseQuantity(text)) << text;
}

TEST(QuantityTest, PrintsMebibytesRoundedUp) {
  EXPECT_EQ(PrintMebibytes(0), "0Mi");
  EXPECT_EQ(PrintMebibytes(1), "1Mi");
  EXPECT_EQ(PrintMebibytes(1 << 20), "1Mi");
  EXPECT_EQ(PrintMebibytes((1 << 20) + 1), "2Mi");
  EXPECT_EQ(PrintMebibytes(1e300), "4398046511104Mi");
}

TEST(QuantityTest, PrintsThousandthsRoundedUp) {
  EXPECT_EQ(PrintMilli(0), "0m");
  EXPECT_EQ(PrintMilli(0.1 + 0.05), "150m");
  EXPECT_EQ(PrintMilli(2.05), "2050m");
  EXPECT_EQ(PrintMilli(0.0101), "11m");
  EXPECT_EQ(PrintMilli(1e300), "4611686018427387904m");
}

}  // namespace
}  // namespace holdfast::inject
