// Goal: in a small spool an operation that takes more than a segment of the usual size is stored
// whenever there is room for it, and hinders nobody when there is none.
// Method: a limit of 16 MiB, so segments of 4 MiB, and entries of 4 MiB, which take one of about
// twice that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>

#include "base/event.h"
#include "spool/directory.h"
#include "tests/spool/faulty_disk.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

constexpr uint64_t kBytesMax = uint64_t{16} << 20;
constexpr size_t kLarge = size_t{4} << 20;
// Takes three quarters of the limit: even an empty segment of the usual size is in the way.
constexpr size_t kLargest = size_t{6} << 20;
constexpr size_t kSmall = 50'000;

class LargeOperationTest : public testing::Test {
 protected:
  void SetUp() override {
    spool_.options.segment_bytes = kBytesMax;
    spool_.options.bytes_max = kBytesMax;
    const auto opened = spool_.Open();
    ASSERT_TRUE(opened) << opened.error().message;
  }

  // How it was answered.
  base::Result<CommitNumber> Offer(size_t bytes, const std::string& stream = "a") {
    base::Result<CommitNumber> answer = base::Unexpected(base::Code::kTimeout, "no answer");
    EXPECT_TRUE(spool_.Append(stream, std::string(bytes, 'x'),
                              [&](const auto& result) { answer = result; }));
    spool_.clock.RunUntilIdle();
    return answer;
  }
  int64_t End(const std::string& stream) {
    return spool_.spool->Range(*spool_.spool->FindStream(stream)).end;
  }
  bool TrimAll(const std::string& stream) { return spool_.TrimNow(stream, End(stream)); }
  // While the background has no time: how one of so many bytes is answered.
  base::Result<CommitNumber> OfferToWriter(size_t bytes, const std::string& stream = "a") {
    base::Result<CommitNumber> answer = base::Unexpected(base::Code::kTimeout, "no answer");
    EXPECT_TRUE(spool_.Append(stream, std::string(bytes, 'x'),
                              [&](const auto& result) { answer = result; }));
    while (spool_.writer.RunOne()) {
    }
    return answer;
  }
  void TrimAllInWriter(const std::string& stream) {
    EXPECT_TRUE(spool_.Submit(0, [this, stream](Transaction& transaction) {
      transaction.Trim(transaction.OpenStream(stream), End(stream));
    }));
    while (spool_.writer.RunOne()) {
    }
  }
  uint64_t NewestNumber() {
    const auto files = Directory::ListSegments(directory_.path());
    return files ? files->back().number : 0;
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(LargeOperationTest, ThatFindsNoRoomIsRefusedAloneAndCostsNoFiles) {
  ASSERT_TRUE(Offer(kLarge));
  const uint64_t newest = NewestNumber();
  for (int second = 0; second < 5; ++second) {
    const auto refused = Offer(kLarge);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, base::Code::kFull);
    EXPECT_EQ(refused.error().event, base::Event::kNoRoomForLarge);
    EXPECT_TRUE(spool_.spool->GetStatus().accepting);
    EXPECT_TRUE(Offer(kSmall));
    spool_.clock.Advance(std::chrono::seconds(1));
  }
  EXPECT_EQ(NewestNumber(), newest);
}

TEST_F(LargeOperationTest, ThatFindsNoRoomIsAnsweredBeforeThoseBehindItWhichAreStored) {
  ASSERT_TRUE(Offer(kLarge));
  const std::string bytes_of_all(kLarge, 'x');
  std::vector<std::string> seen;
  const auto submit = [&](size_t bytes, const std::string& name) {
    std::unique_ptr<Operation> operation = std::make_unique<LambdaOperation>(
        bytes,
        [&, name, bytes](Transaction& transaction) {
          seen.push_back("apply " + name);
          transaction.Append({.stream = transaction.OpenStream(name),
                              .bytes = std::string_view(bytes_of_all).substr(0, bytes),
                              .record_count = 1});
        },
        [&seen, name](const auto& result) {
          seen.push_back(name + (result ? " stored" : " refused"));
        });
    EXPECT_TRUE(spool_.spool->Submit(operation));
  };
  submit(kLarge, "large");
  submit(100, "b");
  submit(100, "c");
  spool_.clock.RunUntilIdle();
  EXPECT_THAT(seen,
              testing::ElementsAre("large refused", "apply b", "apply c", "b stored", "c stored"));
}

TEST_F(LargeOperationTest, ThatNeverFitsDoesNotHaveThoseBehindItRefusedInAFullSpool) {
  while (Offer(kSmall)) {
  }
  ASSERT_FALSE(spool_.spool->GetStatus().accepting);
  bool large_stored = true;
  bool small_stored = false;
  // Which the open segment has room for.
  EXPECT_TRUE(spool_.Append("a", std::string(kBytesMax / 2, 'x'),
                            [&](const auto& result) { large_stored = result.has_value(); }));
  EXPECT_TRUE(spool_.Append("a", std::string(100, 'x'),
                            [&](const auto& result) { small_stored = result.has_value(); }));
  spool_.clock.RunUntilIdle();
  EXPECT_FALSE(large_stored);
  EXPECT_TRUE(small_stored);
}

TEST_F(LargeOperationTest, HasNobodyRefusedWhereItsSegmentIsLeft) {
  for (int attempt = 0; attempt < 2 && !Offer(kLargest); ++attempt) {
  }
  ASSERT_EQ(spool_.ReadAll("a").size(), 1u);
  TrimAllInWriter("a");
  const auto stored = OfferToWriter(kSmall);
  EXPECT_TRUE(stored) << stored.error().message;
  EXPECT_TRUE(spool_.spool->GetStatus().accepting);
}

// One that would find room where the open segment is, though others none meanwhile.
TEST_F(LargeOperationTest, IsNotMadeRoomForWhileOthersNeedThat) {
  constexpr size_t kBytes = size_t{3} << 20;
  ASSERT_TRUE(Offer(kBytes + (554 << 10), "stays"));
  while (spool_.spool->GetStatus().segments < 2) ASSERT_TRUE(Offer(kSmall));
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(Offer(kSmall));
  ASSERT_TRUE(TrimAll("a"));
  // The next is ready, and there is not room for a small one besides.
  ASSERT_GT(spool_.spool->GetStatus().disk_bytes, kBytesMax - (uint64_t{1} << 20));
  const auto refused = OfferToWriter(kBytes);
  ASSERT_FALSE(refused);
  ASSERT_EQ(refused.error().event, base::Event::kNoRoomForLarge);
  const auto stored = OfferToWriter(kSmall);
  EXPECT_TRUE(stored) << stored.error().message;
  ASSERT_TRUE(TrimAll("a"));
  // But when no others come.
  bool fits = false;
  for (int attempt = 0; attempt < 3 && !fits; ++attempt) fits = Offer(kBytes).has_value();
  EXPECT_TRUE(fits);
  EXPECT_EQ(spool_.ReadAll("stays").size(), 1u);
}

TEST_F(LargeOperationTest, IsRefusedForItsSizeWhateverHappensToTheRoomThatIsMadeForIt) {
  ASSERT_TRUE(Offer(kSmall));
  ASSERT_TRUE(TrimAll("a"));
  FaultyDisk disk;
  disk.OnCall([](FaultyDisk::Call call, int /*n*/) {
    return call == FaultyDisk::Call::kAllocate ? EIO : 0;
  });
  const auto refused = OfferToWriter(kLargest);
  disk.OnCall({});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kFull) << refused.error().message;
  EXPECT_EQ(refused.error().event, base::Event::kNoRoomForLarge);
  EXPECT_TRUE(spool_.spool->GetStatus().accepting);
  for (int attempt = 0; attempt < 2 && !Offer(kLargest); ++attempt) {
  }
  EXPECT_EQ(spool_.ReadAll("a").size(), 1u);
}

TEST_F(LargeOperationTest, TheStatusSaysThatRoomIsMadeUntilTheWriterKnowsOfIt) {
  ASSERT_TRUE(Offer(kLarge));
  EXPECT_FALSE(spool_.spool->GetStatus().making_room);
  ASSERT_FALSE(OfferToWriter(kLarge));
  while (spool_.background.RunOne()) {
  }
  EXPECT_TRUE(spool_.spool->GetStatus().making_room);
  spool_.clock.RunUntilIdle();
  EXPECT_FALSE(spool_.spool->GetStatus().making_room);
}

TEST_F(LargeOperationTest, TheStatusSaysWhatFits) {
  const uint64_t most = spool_.spool->GetStatus().operation_bytes_max;
  EXPECT_GT(most, kBytesMax / 4);
  EXPECT_EQ(Offer(most + (64 << 10)).error().event, base::Event::kTooLargeForSpool);
  const auto stored = Offer(most);
  EXPECT_TRUE(stored || stored.error().event != base::Event::kTooLargeForSpool);
}

TEST_F(LargeOperationTest, ThatNeverFitsSaysNothingOfOthersInAFullSpool) {
  while (Offer(kSmall)) {
  }
  ASSERT_FALSE(spool_.spool->GetStatus().accepting);
  EXPECT_EQ(Offer(kBytesMax / 2).error().event, base::Event::kTooLargeForSpool);
  EXPECT_EQ(Offer(kSmall).error().event, base::Event::kSpoolFull);
}

TEST_F(LargeOperationTest, TakesThePlaceOfSpares) {
  while (Offer(kSmall)) {
  }
  ASSERT_TRUE(TrimAll("a"));
  spool_.clock.Advance(std::chrono::seconds(5));
  // Retired segments are kept for the next ones.
  ASSERT_GE(spool_.spool->GetStatus().disk_bytes, 3 * kBytesMax / 4);
  const auto stored = Offer(kLarge);
  EXPECT_TRUE(stored) << stored.error().message;
  EXPECT_LE(spool_.spool->GetStatus().disk_bytes, kBytesMax);
}

TEST_F(LargeOperationTest, FindsTheRoomOfTheOneBeforeIt) {
  for (int i = 0; i < 10; ++i) {
    const auto stored = Offer(kLarge);
    ASSERT_TRUE(stored) << i << ": " << stored.error().message;
    ASSERT_TRUE(TrimAll("a"));
  }
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
}

TEST_F(LargeOperationTest, FindsTheRoomOfASegmentThatHoldsNothing) {
  for (int i = 0; i < 3; ++i) {
    for (int attempt = 0; attempt < 2 && !Offer(kLargest); ++attempt) {
    }
    EXPECT_TRUE(spool_.spool->GetStatus().accepting);
    EXPECT_EQ(spool_.ReadAll("a").size(), 1u) << i;
    ASSERT_TRUE(TrimAll("a"));
    ASSERT_TRUE(Offer(kSmall));
    ASSERT_TRUE(TrimAll("a"));
  }
}

TEST_F(LargeOperationTest, FindsTheRoomOfWhatIsHardlyNeeded) {
  ASSERT_TRUE(Offer(kSmall, "stays"));
  for (int i = 0; i < 150; ++i) ASSERT_TRUE(Offer(kSmall));
  ASSERT_TRUE(TrimAll("a"));
  ASSERT_EQ(spool_.spool->GetStatus().segments, 2u);
  spool_.clock.Advance(std::chrono::seconds(30));  // It is not looked at all the time.
  // The old one is written anew, and then the open one left.
  for (int attempt = 0; attempt < 3 && !Offer(kLargest); ++attempt) {
  }
  EXPECT_EQ(spool_.ReadAll("a").size(), 1u);
  EXPECT_EQ(spool_.ReadAll("stays").size(), 1u);
}

TEST_F(LargeOperationTest, AFullSpoolHasTheRoomOfAnOpenSegmentThatIsTrimmed) {
  int stays = 0;
  while (spool_.spool->GetStatus().segments < 3)
    ASSERT_TRUE(Offer(kSmall, "stays" + std::to_string(stays++)));
  ASSERT_TRUE(TrimAll("stays" + std::to_string(--stays)));  // The one in the third.
  while (Offer(kSmall)) {
  }
  ASSERT_FALSE(spool_.spool->GetStatus().accepting);
  ASSERT_TRUE(TrimAll("a"));
  spool_.clock.Advance(std::chrono::seconds(5));
  EXPECT_TRUE(spool_.spool->GetStatus().accepting);
  EXPECT_TRUE(Offer(kSmall));
  for (int i = 0; i < stays; ++i) EXPECT_EQ(spool_.ReadAll("stays" + std::to_string(i)).size(), 1u);
}

TEST_F(LargeOperationTest, ThatNeverFitsIsRefusedForGood) {
  const auto refused = Offer(kBytesMax / 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kFull);
  EXPECT_EQ(refused.error().event, base::Event::kTooLargeForSpool);
  EXPECT_TRUE(spool_.spool->GetStatus().accepting);
  EXPECT_TRUE(Offer(kSmall));
  ASSERT_TRUE(TrimAll("a"));
  // A little less does fit.
  for (int attempt = 0; attempt < 2 && !Offer(kBytesMax / 2 - (1 << 20)); ++attempt) {
  }
  EXPECT_EQ(spool_.ReadAll("a").size(), 1u);
}

}  // namespace
}  // namespace holdfast::spool
