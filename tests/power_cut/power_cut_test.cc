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
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

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

struct Tally {
  uint64_t cases = 0;
  uint64_t power_cuts = 0;
  uint64_t kills = 0;
  uint64_t failed_calls = 0;
  uint64_t acked = 0;
  uint64_t refused = 0;

  void Add(const Case& test_case, const Outcome& outcome) {
    ++cases;
    for (const auto& [fault, cut] : test_case.lives) {
      if (cut.call != 0) ++(cut.pattern == Pattern::kKilled ? kills : power_cuts);
    }
    failed_calls += outcome.failed_calls;
    acked += outcome.acked;
    refused += outcome.refused;
  }
  void Print(const char* what) const {
    std::printf("%s: %" PRIu64 " cases, %" PRIu64 " power cuts, %" PRIu64 " kills, %" PRIu64
                " failed calls, %" PRIu64 " operations acknowledged, %" PRIu64 " refused\n",
                what, cases, power_cuts, kills, failed_calls, acked, refused);
  }
};

Tally total;  // But for what the controls do.

class PrintTotal : public testing::Environment {
 public:
  void TearDown() override { total.Print("all"); }
};
const testing::Environment* const print_total =
    testing::AddGlobalTestEnvironment(new PrintTotal);  // gtest deletes it.

// Runs cases, reports what fails with the command that repeats it, and counts.
class Campaign {
 public:
  ~Campaign() {
    if (tally_.cases != 0) tally_.Print("    here");
  }

  // Says whether to go on.
  bool Expect(const Case& test_case) {
    const Outcome outcome = laboratory_.Run(test_case);
    tally_.Add(test_case, outcome);
    total.Add(test_case, outcome);
    if (!outcome.failure) return true;
    ADD_FAILURE() << Format(test_case) << "\n"
                  << *outcome.failure << "\nagain: HOLDFAST_CUT=" << Format(test_case)
                  << " power_cut_test --gtest_filter=PowerCutTest.OneCase";
    return ++failures_ < kFailuresShown;
  }
  // The calls of a script that nothing happens to.
  uint32_t CallsOf(const std::string& script) {
    const Case undisturbed{script, 0, {Life{}}};
    const Outcome outcome = laboratory_.Run(undisturbed);
    EXPECT_FALSE(outcome.failure) << Format(undisturbed) << "\n" << *outcome.failure;
    return outcome.calls;
  }
  // Cuts the power all over a script while somebody lies. Says how many of 100 cases saw it.
  uint32_t PercentSeen(const std::string& script, Laboratory::Deceit deceit, Pattern pattern) {
    const uint32_t calls = CallsOf(script);
    uint32_t cases = 0;
    uint32_t seen = 0;
    for (uint32_t call = 1; call <= calls; call += 5 * kStride, ++cases) {
      const Life life{.cut = {call, pattern, call}};
      if (laboratory_.Run({script, 0, {life}}, deceit).failure) ++seen;
    }
    std::printf("    %s: seen in %u cases of %u\n", script.c_str(), seen, cases);
    return 100 * seen / cases;
  }

 private:
  Laboratory laboratory_;
  Tally tally_;
  int failures_ = 0;
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
  Cut MakeCut(uint32_t call) { return MakeCut(call, kPowerCuts[Below(kPowerCuts.size())]); }
  Cut MakeCut(uint32_t call, Pattern pattern) { return {call, pattern, random_()}; }

 private:
  base::Random random_;
};

class ScriptTest : public testing::TestWithParam<std::string> {
 protected:
  // One call in `step`, or, over ten times as many cases, all of them.
  template <class MakeLives>
  void ForSomeCalls(Campaign& campaign, uint32_t step, const MakeLives& make_lives) {
    const uint32_t calls = campaign.CallsOf(GetParam());
    for (uint32_t call = 1; call <= calls; call += step * kStride) {
      for (uint32_t i = 0; i < Times(); ++i) {
        if (!campaign.Expect({GetParam(), 0, make_lives(call + i % step)})) return;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Scripts, ScriptTest, testing::ValuesIn(ScriptedWorkloads()),
                         [](const auto& each) { return each.param; });

TEST_P(ScriptTest, LosesNothingWhereverThePowerIsCut) {
  Campaign campaign;
  Chance chance(0);
  const uint32_t calls = campaign.CallsOf(GetParam());
  for (uint32_t call = 1; call <= calls + 1; call += kStride) {
    const auto cut = [&](Pattern pattern) {
      return campaign.Expect({GetParam(), 0, {Life{.cut = chance.MakeCut(call, pattern)}}});
    };
    if (!cut(Pattern::kDropped)) return;
    if (call % 4 == 1 && !cut(Pattern::kKept)) return;
    if (call % 4 == 3 && !cut(Pattern::kReordered)) return;
    // Of these, chance makes many different ones.
    for (uint64_t i = call % 2; i < 2 * Times() - 1; i += 2) {
      if (!cut(Pattern::kTorn)) return;
    }
  }
}

TEST_P(ScriptTest, LosesNothingWhicheverCallFails) {
  Campaign campaign;
  Chance chance(1);
  ForSomeCalls(campaign, 3, [&](uint32_t call) {
    return std::vector{Life{chance.MakeFault(call), {}}};
  });
}

// The log after a failure is the hardest to keep: a segment left alone, another one begun, neither
// of them flushed, perhaps.
TEST_P(ScriptTest, LosesNothingIfThePowerIsCutSoonAfterACallFailed) {
  Campaign campaign;
  Chance chance(2);
  ForSomeCalls(campaign, 3, [&](uint32_t call) {
    return std::vector{Life{chance.MakeFault(call), chance.MakeCut(call + 1 + chance.Below(30))}};
  });
}

// What a killed process leaves is seen by the next one, whether it is on the disk or not.
TEST_P(ScriptTest, LosesNothingIfThePowerIsCutSoonAfterTheProcessWasKilled) {
  Campaign campaign;
  Chance chance(3);
  ForSomeCalls(campaign, 3, [&](uint32_t call) {
    Life first{.cut = chance.MakeCut(call, Pattern::kKilled)};
    if (chance.Below(2) == 0)
      first.fault = chance.MakeFault(call - chance.Below(std::min(call, 10u)));
    return std::vector{first, Life{.cut = chance.MakeCut(1 + chance.Below(40))}};
  });
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
  for (uint64_t seed = 0; seed < 150 * Times() / kStride; ++seed) {
    if (!campaign.Expect(RandomCase(seed))) return;
  }
}

// What follows shows that the tests above can fail.

TEST(ControlTest, ADiskWhoseFlushesDoNothingIsSeen) {
  const Laboratory::Deceit deceit{.lie = Lie::kFlushesDoNothing};
  Campaign campaign;
  EXPECT_GT(campaign.PercentSeen("single", deceit, Pattern::kDropped), 50u);
  EXPECT_GT(campaign.PercentSeen("pipeline", deceit, Pattern::kTorn), 50u);
  EXPECT_GT(campaign.PercentSeen("pipeline", deceit, Pattern::kReordered), 50u);
}

TEST(ControlTest, ADiskThatForgetsFlushedNamesIsSeen) {
  const Laboratory::Deceit deceit{.lie = Lie::kDirectoryFlushesDoNothing};
  Campaign campaign;
  EXPECT_GT(campaign.PercentSeen("single", deceit, Pattern::kDropped), 50u);
  EXPECT_GT(campaign.PercentSeen("roll", deceit, Pattern::kTorn), 50u);
}

TEST(ControlTest, AnAcknowledgementBeforeTheFlushIsSeen) {
  const Laboratory::Deceit deceit{.ack_early = true};
  Campaign campaign;
  EXPECT_GT(campaign.PercentSeen("single", deceit, Pattern::kDropped), 30u);
  EXPECT_GT(campaign.PercentSeen("pipeline", deceit, Pattern::kDropped), 30u);
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
