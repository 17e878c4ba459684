#include "config/value.h"

#include <gtest/gtest.h>

#include <limits>

namespace holdfast::config {
namespace {

TEST(ValueTest, TheNameOfAFieldSaysItsUnit) {
  EXPECT_EQ(UnitOf("segment_bytes"), Unit::kBytes);
  EXPECT_EQ(UnitOf("bytes_max"), Unit::kBytes);
  EXPECT_EQ(UnitOf("memory_in_flight_bytes_max"), Unit::kBytes);
  EXPECT_EQ(UnitOf("timeout_ms"), Unit::kMilliseconds);
  EXPECT_EQ(UnitOf("partitions"), Unit::kNone);
}

TEST(ValueTest, ReadsSizesAndDurations) {
  EXPECT_EQ(ParseNumber("4096", Unit::kBytes), 4096);
  EXPECT_EQ(ParseNumber("256MiB", Unit::kBytes), 268435456);
  EXPECT_EQ(ParseNumber("10MB", Unit::kBytes), 10000000);
  EXPECT_EQ(ParseNumber("50kB", Unit::kBytes), 50000);
  EXPECT_EQ(ParseNumber("50KB", Unit::kBytes), 50000);
  EXPECT_EQ(PrintNumber(50000, Unit::kBytes), "50kB");
  EXPECT_EQ(ParseNumber("2TiB", Unit::kBytes), int64_t{2} << 40);
  EXPECT_EQ(ParseNumber("250", Unit::kMilliseconds), 250);
  EXPECT_EQ(ParseNumber("250ms", Unit::kMilliseconds), 250);
  EXPECT_EQ(ParseNumber("30s", Unit::kMilliseconds), 30000);
  EXPECT_EQ(ParseNumber("7d", Unit::kMilliseconds), 604800000);
  EXPECT_EQ(ParseNumber("-5", Unit::kNone), -5);
}

TEST(ValueTest, RefusesWhatIsNoNumberOfThatUnit) {
  for (const char* text : {"", "x", "12x", "1.5GiB", " 1", "1 MiB", "MiB", "30s", "1mib"})
    EXPECT_EQ(ParseNumber(text, Unit::kBytes), std::nullopt) << text;
  EXPECT_EQ(ParseNumber("1MiB", Unit::kMilliseconds), std::nullopt);
  EXPECT_EQ(ParseNumber("1s", Unit::kNone), std::nullopt);
  EXPECT_EQ(ParseNumber("9223372036854775808", Unit::kNone), std::nullopt);
  EXPECT_EQ(ParseNumber("9223372036854775807KiB", Unit::kBytes), std::nullopt);
}

TEST(ValueTest, WhatIsPrintedReadsBackAsTheSame) {
  for (const int64_t number :
       {int64_t{0}, int64_t{1}, int64_t{999}, int64_t{1000}, int64_t{1024}, int64_t{1048588},
        int64_t{60000}, int64_t{268435456}, std::numeric_limits<int64_t>::max()}) {
    for (const Unit unit : {Unit::kNone, Unit::kBytes, Unit::kMilliseconds})
      EXPECT_EQ(ParseNumber(PrintNumber(number, unit), unit), number);
  }
  EXPECT_EQ(PrintNumber(268435456, Unit::kBytes), "256MiB");
  EXPECT_EQ(PrintNumber(60000, Unit::kMilliseconds), "1m");
  EXPECT_EQ(PrintNumber(1500, Unit::kMilliseconds), "1500ms");
}

TEST(ValueTest, EditDistanceCountsInsertDeleteReplaceAndSwap) {
  EXPECT_EQ(EditDistance("listen", "listen"), 0u);
  EXPECT_EQ(EditDistance("lisetn", "listen"), 1u);
  EXPECT_EQ(EditDistance("listn", "listen"), 1u);
  EXPECT_EQ(EditDistance("listens", "listen"), 1u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

}  // namespace
}  // namespace holdfast::config
