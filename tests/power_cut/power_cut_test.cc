// Goal: whatever the disk does within its promises, and wherever the power is cut, nothing that was
// acknowledged is lost, torn, doubled or out of order, state agrees with the log, and the spool
// goes on. docs/testing.md says what is covered.
// Method: see simulated_disk.h for the disk, driver.h for what is expected, laboratory.h for cases.
//
// HOLDFAST_LONG=1 makes ten times as many. HOLDFAST_CUT=<case> runs the one that a failure names.
// HOLDFAST_CUTS_MIN (different disks) and HOLDFAST_FAILED_CALLS_MIN: what a run must have done.
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
constexpr uint64_t kFailuresShown = 5;

uint32_t Times() { return std::getenv("HOLDFAST_LONG") != nullptr ? 10 : 1; }

uint64_t NumberOf(const char* variable) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 0;
}

struct Account {
  uint64_t lives = 0;
  uint64_t kills = 0;
  uint64_t power_cuts = 0;
  uint64_t images = 0;
  uint64_t surveyed = 0;
  SimulatedDisk::FailedCalls failed_calls{};
  uint64_t failed_meta_writes = 0;
  uint64_t acked = 0;
  uint64_t refused = 0;
  std::array<uint64_t, kDamages> damages{};  // By Damage.

  void Add(const Case& test_case, const Outcome& outcome) {
    for (const auto& [fault, cut] : test_case.lives) {
      ++lives;
      if (cut.call != 0) ++(cut.pattern == Pattern::kKilled ? kills : power_cuts);
    }
    power_cuts += outcome.cuts;
    images += outcome.images;
    surveyed += outcome.surveyed + 1;
    for (size_t i = 0; i < kFaultKinds; ++i) failed_calls[i] += outcome.failed_calls[i];
    failed_meta_writes += outcome.failed_meta_writes;
    acked += outcome.acked;
    refused += outcome.refused;
    for (const Failure& failure : outcome.failures) ++damages[static_cast<size_t>(failure.damage)];
  }
  [[nodiscard]] uint64_t AllFailedCalls() const {
    uint64_t all = 0;
    for (const uint64_t count : failed_calls) all += count;
    return all;
  }
  void Print(const char* what) const {
    std::printf("%s: %" PRIu64 " lives, %" PRIu64 " power cuts that left %" PRIu64
                " different disks, %" PRIu64 " kills, %" PRIu64 " failed calls; %" PRIu64
                " surveys; %" PRIu64 " operations acknowledged, %" PRIu64 " refused\n",
                what, lives, power_cuts, images, kills, AllFailedCalls(), surveyed, acked, refused);
  }
  void PrintDetails() const {
    std::printf("failed calls:");
    for (size_t i = 0; i < kFaultKinds; ++i)
      std::printf(" %s %" PRIu64 ",", std::string(NameOf(static_cast<FaultKind>(i))).c_str(),
                  failed_calls[i]);
    std::printf(" of which %" PRIu64 " wrote a meta page\n", failed_meta_writes);
    const auto damaged = [&](Damage damage) { return damages[static_cast<size_t>(damage)]; };
    std::printf("lost: %" PRIu64 ", torn: %" PRIu64 ", unopenable: %" PRIu64 ", stuck: %" PRIu64
                "\n",
                damaged(Damage::kLost), damaged(Damage::kTorn), damaged(Damage::kUnopenable),
                damaged(Damage::kStuck));
  }
};

Account account;  // Of all, but for what the controls do.

class CloseAccount : public testing::Environment {
 public:
  void TearDown() override {
    account.Print("all");
    account.PrintDetails();
    EXPECT_GE(account.images, NumberOf("HOLDFAST_CUTS_MIN"));
    EXPECT_GE(account.AllFailedCalls(), NumberOf("HOLDFAST_FAILED_CALLS_MIN"));
  }
};
const testing::Environment* const close_account =
    testing::AddGlobalTestEnvironment(new CloseAccount);  // gtest deletes it.

// Runs cases, reports what fails with the command that repeats it, and counts.
class Campaign {
 public:
  ~Campaign() {
    if (account_.lives != 0) account_.Print("    here");
  }

  // Says whether to go on.
  bool Expect(const Case& test_case, const CutsAt& cuts_at = nullptr, uint32_t* calls = nullptr) {
    // One for all, so that no image counts twice.
    static Laboratory laboratory;
    const Outcome outcome = laboratory.Run(test_case, cuts_at);
    account_.Add(test_case, outcome);
    account.Add(test_case, outcome);
    for (const Failure& failure : outcome.failures) {
      const std::string name = Format(failure.test_case);
      ADD_FAILURE() << name << "\n"
                    << failure.what << "\nagain: HOLDFAST_CUT=" << name
                    << " power_cut_test --gtest_filter=PowerCutTest.OneCase";
    }
    failed_ += outcome.failed;
    if (calls != nullptr) *calls = outcome.calls;
    return failed_ < kFailuresShown;
  }

 private:
  Account account_;
  uint64_t failed_ = 0;
};

constexpr std::array kPowerCuts = {Pattern::kDropped, Pattern::kTorn, Pattern::kReordered,
                                   Pattern::kKept};
constexpr std::array kFaultKindsByTurns = {
    FaultKind::kError,      FaultKind::kFlushLost, FaultKind::kFlushForgotten, FaultKind::kNoSpace,
    FaultKind::kShortWrite, FaultKind::kQuota,     FaultKind::kErrorWritten,   FaultKind::kNoFiles};
constexpr std::array<uint32_t, 6> kFaultCounts = {1, 2, 1, 4, 1, 100'000};

class Chance {
 public:
  explicit Chance(uint64_t seed) : random_(seed) {}
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_.Below(limit)); }
  Fault MakeFault(uint32_t call) {
    return {call, kFaultCounts[Below(kFaultCounts.size())],
            kFaultKindsByTurns[Below(kFaultKindsByTurns.size())]};
  }
  Cut MakeCut(uint32_t call) { return MakeCut(call, kPowerCuts[Below(kPowerCuts.size())]); }
  Cut MakeCut(uint32_t call, Pattern pattern) { return {call, pattern, random_()}; }

 private:
  base::Random random_;
};

// In all ways, at every call. Of some, chance makes many different ones.
std::vector<Cut> AllCuts(uint32_t call) {
  if (call % kStride != 0) return {};
  Chance chance(call);
  std::vector<Cut> cuts = {chance.MakeCut(call, Pattern::kDropped),
                           chance.MakeCut(call, Pattern::kKept)};
  for (uint32_t i = 0; i < Times(); ++i) {
    cuts.push_back(chance.MakeCut(call, Pattern::kReordered));
    cuts.push_back(chance.MakeCut(call, Pattern::kTorn));
    cuts.push_back(chance.MakeCut(call, Pattern::kTorn));
  }
  return cuts;
}

// At one call in `step` of those from `first` to `last`.
CutsAt SomeCuts(uint64_t seed, uint32_t step, uint32_t first = 1, uint32_t last = UINT32_MAX) {
  return [=](uint32_t call) -> std::vector<Cut> {
    Chance chance((seed << 32) ^ call);
    if (call < first || call > last || chance.Below(step) != 0) return {};
    return {chance.MakeCut(call)};
  };
}

class ScriptTest : public testing::TestWithParam<std::string> {
 protected:
  // The calls of the script that nothing happens to.
  static uint32_t Calls(Campaign& campaign) {
    uint32_t calls = 0;
    EXPECT_TRUE(campaign.Expect({GetParam(), 0, {Life{}}}, nullptr, &calls));
    return calls;
  }
  // One call in `step`, but at most about `cases_max`; or, over ten times as many cases, all of
  // them.
  template <class Try>  // bool(call)
  void ForSomeCalls(Campaign& campaign, uint32_t step, uint32_t cases_max, const Try& try_call) {
    const uint32_t calls = Calls(campaign);
    step = std::max(step, calls / cases_max);
    for (uint32_t call = 1; call <= calls; call += step * kStride) {
      for (uint32_t i = 0; i < Times(); ++i) {
        if (!try_call(call + i % step)) return;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Scripts, ScriptTest, testing::ValuesIn(ScriptedWorkloads()),
                         [](const auto& each) { return each.param; });

TEST_P(ScriptTest, LosesNothingWhereverThePowerIsCut) {
  Campaign campaign;
  campaign.Expect({GetParam(), 0, {Life{}}}, AllCuts);
}

TEST(PowerCutTest, RandomWorkloadsLoseNothingWhereverThePowerIsCut) {
  Campaign campaign;
  for (uint64_t seed = 1000; seed < 1000 + 10 * Times(); ++seed) {
    if (!campaign.Expect({"random", seed, {Life{}}}, AllCuts)) return;
  }
}

// The log after a failure is the hardest to keep: a segment left alone, another one begun, neither
// of them flushed, perhaps. So the power is cut soon after, too.
TEST_P(ScriptTest, LosesNothingWhicheverCallFails) {
  Campaign campaign;
  Chance chance(1);
  ForSomeCalls(campaign, 3, 100, [&](uint32_t call) {
    const Fault fault = chance.MakeFault(call);
    return campaign.Expect({GetParam(), 0, {Life{.fault = fault}}},
                           SomeCuts(call, 10, call + 1, call + 40));
  });
}

// What a killed process leaves is seen by the next one, whether it is on the disk or not.
TEST_P(ScriptTest, LosesNothingAfterTheProcessWasKilled) {
  Campaign campaign;
  Chance chance(3);
  ForSomeCalls(campaign, 5, 60, [&](uint32_t call) {
    Life first{.cut = chance.MakeCut(call, Pattern::kKilled)};
    if (chance.Below(2) == 0)
      first.fault = chance.MakeFault(call - chance.Below(std::min(call, 10u)));
    return campaign.Expect({GetParam(), 0, {first, Life{}}}, SomeCuts(call, 8, 1, 40));
  });
}

// Lives that end by kill -9 or a power cut, calls failing in some of them.
Case RandomCase(uint64_t seed) {
  Chance chance(seed);
  Case made{"random", seed / 8, {}};
  const uint32_t lives = 1 + chance.Below(3);
  for (uint32_t i = 0; i < lives; ++i) {
    Life& life = made.lives.emplace_back();
    if (chance.Below(2) == 0) life.fault = chance.MakeFault(1 + chance.Below(250));
    if (i + 1 == lives) break;
    life.cut = chance.MakeCut(1 + chance.Below(300));
    if (chance.Below(2) == 0) life.cut.pattern = Pattern::kKilled;
  }
  return made;
}

TEST(PowerCutTest, RandomLivesLoseNothing) {
  Campaign campaign;
  for (uint64_t seed = 0; seed < 150 * Times() / kStride; ++seed) {
    if (!campaign.Expect(RandomCase(seed), SomeCuts(seed, 30))) return;
  }
}

// What follows shows that the tests above can fail, and that they judge what they say they do.

// Cuts the power all over a script while somebody lies. Says how many of 100 surveys saw it.
uint64_t PercentSeen(const std::string& script, Laboratory::Deceit deceit, Pattern pattern) {
  Laboratory laboratory;
  const CutsAt cuts_at = [&](uint32_t call) {
    return call % (5 * kStride) != 1 ? std::vector<Cut>() : std::vector{Cut{call, pattern, call}};
  };
  const Outcome outcome = laboratory.Run({script, 0, {Life{}}}, cuts_at, deceit);
  std::printf("    %s: seen in %" PRIu64 " surveys of %" PRIu64 "\n", script.c_str(),
              outcome.failed, outcome.surveyed + 1);
  return 100 * outcome.failed / (outcome.surveyed + 1);
}

TEST(ControlTest, ADiskWhoseFlushesDoNothingIsSeen) {
  const Laboratory::Deceit deceit{.lie = Lie::kFlushesDoNothing};
  EXPECT_GT(PercentSeen("pipeline", deceit, Pattern::kTorn), 50u);
  EXPECT_GT(PercentSeen("pipeline", deceit, Pattern::kReordered), 50u);
}

TEST(ControlTest, ADiskThatForgetsFlushedNamesIsSeen) {
  const Laboratory::Deceit deceit{.lie = Lie::kDirectoryFlushesDoNothing};
  EXPECT_GT(PercentSeen("single", deceit, Pattern::kDropped), 50u);
  EXPECT_GT(PercentSeen("roll", deceit, Pattern::kTorn), 50u);
}

TEST(ControlTest, AFileUsedAgainWithoutBeingFlushedFirstIsSeen) {
  const Laboratory::Deceit deceit{.lie = Lie::kFlushesOfSparesDoNothing};
  EXPECT_GT(PercentSeen("recycle", deceit, Pattern::kDropped), 0u);
}

TEST(ControlTest, AnAcknowledgementBeforeTheFlushIsSeen) {
  const Laboratory::Deceit deceit{.ack_early = true};
  EXPECT_GT(PercentSeen("single", deceit, Pattern::kDropped), 30u);
  EXPECT_GT(PercentSeen("pipeline", deceit, Pattern::kDropped), 30u);
}

TEST(ControlTest, ACutWhileTheLifeGoesOnLeavesWhatACutThatEndsItLeaves) {
  Laboratory laboratory;
  uint32_t compared = 0;
  for (const char* const script : {"recycle", "reopen"}) {
    for (uint32_t call = 3; call < 200; call += 23 * kStride) {
      for (const Pattern pattern : kPowerCuts) {
        const Cut cut{call, pattern, call};
        const Life life{.fault = {call / 2, 2, FaultKind::kFlushForgotten}};
        const Outcome going_on = laboratory.Run({script, 0, {life}}, [&](uint32_t now) {
          return now == call ? std::vector{cut} : std::vector<Cut>();
        });
        if (going_on.cuts == 0) continue;  // The life was shorter.
        ++compared;
        const Outcome ended = laboratory.Run({script, 0, {Life{life.fault, cut}}});
        EXPECT_EQ(going_on.last_cut_image, ended.image) << Format({script, 0, {{life.fault, cut}}});
      }
    }
  }
  EXPECT_GT(compared, 40 / kStride);
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
