// Goal: in a small spool an operation that takes more than a segment of the usual size is stored
// whenever there is room for it, and hinders nobody when there is none.
// Method: a limit of 16 MiB, so segments of 4 MiB, and entries of 4 MiB, which take one of about
// twice that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "spool/directory.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

constexpr uint64_t kBytesMax = uint64_t{16} << 20;
constexpr size_t kLarge = size_t{4} << 20;
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
    EXPECT_TRUE(spool_.spool->GetStatus().accepting);
    EXPECT_TRUE(Offer(kSmall));
    spool_.clock.Advance(std::chrono::seconds(1));
  }
  EXPECT_EQ(NewestNumber(), newest);
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

}  // namespace
}  // namespace holdfast::spool
