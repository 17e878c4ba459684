// Goal: whatever the disk does within its promises, and wherever the power is cut, nothing that was
//   acknowledged is lost, torn, doubled or out of order, state agrees with the log, and the spool
//   goes on. docs/testing.md says what is covered.
// Method: see simulated_disk.h for the disk, driver.h for what is expected, laboratory.h for a
// case.
//
// HOLDFAST_LONG=1 makes ten times as many. HOLDFAST_CUT=<case> runs the one that a failure names.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/random.h"
#include "tests/power_cut/laboratory.h"

namespace holdfast::power_cut {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr uint32_t kStride = 11;  // Every so many calls; and so many times fewer random cases.
#else
constexpr uint32_t kStride = 1;
#endif
constexpr int kFailuresShown = 5;

uint64_t Times() { return std::getenv("HOLDFAST_LONG") != nullptr ? 10 : 1; }

// Runs cases, reports what fails with the command that repeats it, and counts.
class Campaign {
 public:
  explicit Campaign(Laboratory::Deceit deceit = {Lie::kNone, false}) : deceit_(deceit) {}
  ~Campaign() {
    std::printf(
        "    %u cases: %u cuts, %u failed calls, %llu operations acknowledged, %llu refused\n",
        cases_, cuts_, failed_calls_, static_cast<unsigned long long>(acked_),
        static_cast<unsigned long long>(refused_));
  }

  Outcome Run(const Case& test_case) {
    Outcome outcome = laboratory_.Run(test_case, deceit_);
    ++cases_;
    for (const Life& life : test_case.lives) cuts_ += life.cut.call != 0 ? 1 : 0;
    failed_calls_ += outcome.failed_calls;
    acked_ += outcome.acked;
    refused_ += outcome.refused;
    if (outcome.failure) ++failures_;
    return outcome;
  }
  // Says whether to go on.
  bool Expect(const Case& test_case) {
    const Outcome outcome = Run(test_case);
    if (!outcome.failure) return true;
    ADD_FAILURE() << Format(test_case) << "\n"
                  << *outcome.failure << "\nagain: HOLDFAST_CUT=" << Format(test_case)
                  << " power_cut_test --gtest_filter=PowerCutTest.OneCase";
    return failures_ < kFailuresShown;
  }
  // The calls of a workload that nothing happens to.
  uint32_t CallsOf(const std::string& workload, uint64_t seed) {
    const Case undisturbed{workload, seed, {Life{}}};
    const Outcome outcome = laboratory_.Run(undisturbed);
    EXPECT_FALSE(outcome.failure) << Format(undisturbed) << "\n" << *outcome.failure;
    return outcome.calls;
  }

  [[nodiscard]] uint32_t cases() const { return cases_; }
  [[nodiscard]] uint32_t failures() const { return failures_; }
  [[nodiscard]] uint32_t failed_calls() const { return failed_calls_; }

 private:
  const Laboratory::Deceit deceit_;
  Laboratory laboratory_;
  uint32_t cases_ = 0;
  uint32_t cuts_ = 0;
  uint32_t failed_calls_ = 0;
  uint32_t failures_ = 0;
  uint64_t acked_ = 0;
  uint64_t refused_ = 0;
};

constexpr std::array kPowerCuts = {Pattern::kDropped, Pattern::kTorn, Pattern::kReordered,
                                   Pattern::kKept};
constexpr std::array kFaultKinds = {
    FaultKind::kError,      FaultKind::kFlushLost, FaultKind::kFlushForgotten, FaultKind::kNoSpace,
    FaultKind::kShortWrite, FaultKind::kQuota,     FaultKind::kErrorWritten,   FaultKind::kNoFiles};
constexpr std::array<uint32_t, 6> kFaultCounts = {1, 2, 1, 4, 1, 100'000};

class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_.Below(limit)); }
  Fault MakeFault(uint32_t call) {
    return {call, kFaultCounts[Below(kFaultCounts.size())], kFaultKinds[Below(kFaultKinds.size())]};
  }
  Cut MakeCut(uint32_t call) { return {call, kPowerCuts[Below(kPowerCuts.size())], random_()}; }

 private:
  base::Random random_;
};

class ScriptTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Scripts, ScriptTest, testing::ValuesIn(ScriptedWorkloads()),
                         [](const auto& each) { return each.param; });

TEST_P(ScriptTest, LosesNothingWhereverThePowerIsCut) {
  Campaign campaign;
  const uint32_t calls = campaign.CallsOf(GetParam(), 0);
  for (uint32_t call = 1; call <= calls + 1; call += kStride) {
    for (uint64_t seed = 0; seed < 3 * Times(); ++seed) {
      // Of the patterns that chance has no part in one case is enough.
      const Pattern pattern = seed == 0   ? Pattern::kDropped
                              : seed == 1 ? kPowerCuts[2 + call % 2]
                                          : Pattern::kTorn;
      if (!campaign.Expect({GetParam(), 0, {Life{.cut = {call, pattern, seed}}}})) return;
    }
  }
}

TEST_P(ScriptTest, LosesNothingWhicheverCallFails) {
  Campaign campaign;
  const uint32_t calls = campaign.CallsOf(GetParam(), 0);
  for (uint32_t call = 1; call <= calls; call += kStride) {
    for (uint64_t seed = 0; seed < Times(); ++seed) {
      const uint64_t mixed = call + seed;
      const Fault fault{call, kFaultCounts[mixed % kFaultCounts.size()],
                        kFaultKinds[mixed / kFaultCounts.size() % kFaultKinds.size()]};
      if (!campaign.Expect({GetParam(), 0, {Life{.fault = fault}}})) return;
    }
  }
}

// The log after a failure is the hardest to keep: a segment left alone, another one begun, neither
// of them flushed, perhaps.
TEST_P(ScriptTest, LosesNothingIfThePowerIsCutSoonAfterACallFailed) {
  Campaign campaign;
  const uint32_t calls = campaign.CallsOf(GetParam(), 0);
  Chance chance(calls);
  for (uint32_t call = 1; call <= calls; call += kStride) {
    for (uint64_t seed = 0; seed < Times(); ++seed) {
      const Life life{chance.MakeFault(call), chance.MakeCut(call + 1 + chance.Below(30))};
      if (!campaign.Expect({GetParam(), 0, {life}})) return;
    }
  }
}

// What a killed process leaves is seen by the next one, whether it is on the disk or not.
TEST_P(ScriptTest, LosesNothingIfThePowerIsCutSoonAfterTheProcessWasKilled) {
  Campaign campaign;
  const uint32_t calls = campaign.CallsOf(GetParam(), 0);
  Chance chance(calls);
  for (uint32_t call = 1; call <= calls; call += kStride) {
    for (uint64_t seed = 0; seed < Times(); ++seed) {
      Life first{.cut = {call, Pattern::kKilled, 0}};
      if (chance.Below(2) == 0)
        first.fault = chance.MakeFault(call - chance.Below(std::min(call, 10u)));
      const Life second{.cut = chance.MakeCut(1 + chance.Below(40))};
      if (!campaign.Expect({GetParam(), 0, {first, second}})) return;
    }
  }
}

// A life or two that end by kill -9 or a power cut, calls failing in some of them.
Case RandomCase(uint64_t seed) {
  Chance chance(seed);
  Case made{"random", seed / 8, {}};
  const uint32_t lives = 1 + chance.Below(3);
  for (uint32_t i = 0; i < lives; ++i) {
    Life& life = made.lives.emplace_back();
    if (chance.Below(2) == 0) life.fault = chance.MakeFault(1 + chance.Below(250));
    life.cut = chance.MakeCut(1 + chance.Below(300));
    if (i + 1 != lives && chance.Below(2) == 0) life.cut.pattern = Pattern::kKilled;
  }
  return made;
}

TEST(PowerCutTest, RandomLivesLoseNothing) {
  Campaign campaign;
  const char* const from = std::getenv("HOLDFAST_SEED");
  const uint64_t begin = from != nullptr ? std::stoull(from) : 0;
  for (uint64_t seed = begin; seed < begin + 1000 * Times() / kStride; ++seed) {
    if (!campaign.Expect(RandomCase(seed))) return;
  }
}

// What follows shows that the tests above can fail.

// Runs a script with cuts everywhere under a deceit; says how many of 100 cases found it out.
uint32_t PercentFoundOut(const std::string& script, Laboratory::Deceit deceit, Pattern pattern) {
  Campaign campaign(deceit);
  Campaign honest;
  const uint32_t calls = honest.CallsOf(script, 0);
  for (uint32_t call = 1; call <= calls; call += 3 * kStride)
    campaign.Run({script, 0, {Life{.cut = {call, pattern, call}}}});
  const uint32_t percent = 100 * campaign.failures() / campaign.cases();
  std::printf("    %s: found out by %u %%\n", script.c_str(), percent);
  return percent;
}

TEST(ControlTest, ADiskWhoseFlushesDoNothingIsFoundOut) {
  const Laboratory::Deceit deceit{.lie = Lie::kFlushesDoNothing};
  EXPECT_GT(PercentFoundOut("single", deceit, Pattern::kDropped), 50u);
  EXPECT_GT(PercentFoundOut("pipeline", deceit, Pattern::kTorn), 50u);
  EXPECT_GT(PercentFoundOut("pipeline", deceit, Pattern::kReordered), 50u);
}

TEST(ControlTest, ADiskThatForgetsFlushedNamesIsFoundOut) {
  const Laboratory::Deceit deceit{.lie = Lie::kDirectoryFlushesDoNothing};
  EXPECT_GT(PercentFoundOut("single", deceit, Pattern::kDropped), 50u);
  EXPECT_GT(PercentFoundOut("roll", deceit, Pattern::kTorn), 50u);
}

TEST(ControlTest, AcknowledgingBeforeTheFlushIsFoundOut) {
  const Laboratory::Deceit deceit{.ack_early = true};
  EXPECT_GT(PercentFoundOut("single", deceit, Pattern::kDropped), 20u);
  EXPECT_GT(PercentFoundOut("pipeline", deceit, Pattern::kDropped), 20u);
}

TEST(PowerCutTest, OneCase) {
  const char* const text = std::getenv("HOLDFAST_CUT");
  if (text == nullptr) GTEST_SKIP() << "HOLDFAST_CUT names no case";
  const auto parsed = ParseCase(text);
  ASSERT_TRUE(parsed) << parsed.error().message;
  Campaign campaign;
  campaign.Expect(*parsed);
}

}  // namespace
}  // namespace holdfast::power_cut
