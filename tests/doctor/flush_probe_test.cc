#include "cli/doctor/flush_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace holdfast::cli::doctor {
namespace {

using std::chrono::microseconds;
using testing::HasSubstr;
using Kind = FlushVerdict::Kind;

FlushSamples SamplesOf(microseconds small, microseconds large) {
  return {.small = std::vector<FlushSamples::Duration>(9, small),
          .large = std::vector<FlushSamples::Duration>(3, large),
          .unflushed = std::vector<FlushSamples::Duration>(3, microseconds(2))};
}

const BlockDevice kHardDisk{.name = "sda", .rotational = true, .flushes_cache = true};
const BlockDevice kConsumerSsd{.name = "sdb", .flushes_cache = true};
const BlockDevice kServerSsd{.name = "nvme0n1"};
const BlockDevice kVirtual{
    .name = "vda", .rotational = true, .virtual_ = true, .flushes_cache = true};

TEST(FlushVerdictTest, WhatTakesNoTimeAtAllDoesNothing) {
  for (const auto& device : {kHardDisk, kServerSsd, kVirtual}) {
    const auto verdict = JudgeFlushes(SamplesOf(microseconds(3), microseconds(900)), device);
    EXPECT_EQ(verdict.kind, Kind::kSeemsToLie) << device.name;
    EXPECT_THAT(verdict.reason, HasSubstr("less than it takes to ask any device"));
  }
}

TEST(FlushVerdictTest, WhatDoesNotTakeLongerForMoreBytesDoesNothing) {
  const auto verdict = JudgeFlushes(SamplesOf(microseconds(50), microseconds(60)), kServerSsd);
  EXPECT_EQ(verdict.kind, Kind::kSeemsToLie);
  EXPECT_THAT(verdict.reason, HasSubstr("more than a device takes in"));
}

TEST(FlushVerdictTest, PlattersHaveToTurn) {
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(300), microseconds(9000)), kHardDisk).kind,
            Kind::kSeemsToLie);
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(8000), microseconds(40000)), kHardDisk).kind,
            Kind::kPlausible);
}

TEST(FlushVerdictTest, FlashWithAVolatileCacheHasToBeProgrammed) {
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(20), microseconds(2000)), kConsumerSsd).kind,
            Kind::kSeemsToLie);
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(900), microseconds(9000)), kConsumerSsd).kind,
            Kind::kPlausible);
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(20), microseconds(2000)), kServerSsd).kind,
            Kind::kPlausible)
      << "its cache survives power cuts";
}

TEST(FlushVerdictTest, AKernelThatWasToldOfNoCacheDoesNotFlushIt) {
  BlockDevice told = kConsumerSsd;
  told.flushes_cache = false;
  told.cache_type = "write back";
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(900), microseconds(9000)), told).kind,
            Kind::kSeemsToLie);
}

TEST(FlushVerdictTest, BeneathAVirtualDiskNothingCanBeSeen) {
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(100), microseconds(2000)), kVirtual).kind,
            Kind::kUnknowable);
  EXPECT_EQ(JudgeFlushes(SamplesOf(microseconds(100), microseconds(2000)), std::nullopt).kind,
            Kind::kUnknowable);
}

TEST(FlushProbeTest, MeasuresAndLeavesNothingBehind) {
  const std::filesystem::path directory = std::filesystem::path(testing::TempDir()) /
                                          ("holdfast-flush-probe-" + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  const auto samples = MeasureFlushes(directory.string());
  ASSERT_TRUE(samples) << samples.error().message;
  EXPECT_FALSE(samples->small.empty());
  EXPECT_FALSE(samples->large.empty());
  EXPECT_TRUE(std::ranges::is_sorted(samples->small));
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  std::filesystem::remove(directory);
}

TEST(FlushProbeTest, SaysWhereItCannotWrite) {
  const auto samples = MeasureFlushes("/nonexistent");
  ASSERT_FALSE(samples);
  EXPECT_THAT(samples.error().message, HasSubstr("/nonexistent"));
}

TEST(FlushProbeTest, DurationsAreShort) {
  EXPECT_EQ(DurationText(microseconds(8)), "8.0 µs");
  EXPECT_EQ(DurationText(microseconds(210)), "0.21 ms");
  EXPECT_EQ(DurationText(microseconds(120'000)), "120 ms");
}

}  // namespace
}  // namespace holdfast::cli::doctor
