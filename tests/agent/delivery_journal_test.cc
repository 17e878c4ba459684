// What the journal of deliveries joins, when it writes, and what it lets go.
#include "agent/delivery_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "spool/state.h"

namespace holdfast::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr size_t kPlenty = size_t{1} << 20;

Delivery Make(int64_t begin, int64_t end, int64_t at_ms, uint32_t stream = 7) {
  return {.stream = spool::StreamId(stream),
          .begin = begin,
          .end = end,
          .tier_begin = begin + 100,
          .node = 2,
          .sent_ms = at_ms - 3,
          .confirmed_ms = at_ms,
          .last_ms = at_ms};
}

class DeliveryJournalTest : public testing::Test {
 protected:
  // As the forwarder's log would put them into the spool.
  void Write(DeliveryJournal& journal, int64_t now_ms, bool all = false) {
    for (const auto& [key, value] : journal.Take(now_ms, all)) {
      bytes_ += key.size() + (value ? value->size() : 0);
      if (value) {
        state_.Put(key, *value);
      } else {
        EXPECT_TRUE(state_.Erase(key));
      }
    }
  }
  DeliveryJournal::Blocks Blocks() {
    DeliveryJournal::Blocks blocks;
    state_.ForEach(kJournalPrefix, [&](std::string_view key, std::string_view value) {
      blocks.emplace(key, value.size());
    });
    return blocks;
  }

  spool::State state_;
  size_t bytes_ = 0;
};

TEST_F(DeliveryJournalTest, JoinsWhatFollowsWithoutTrouble) {
  DeliveryJournal journal({}, kPlenty);
  journal.Add(Make(0, 10, 1000));
  journal.Add(Make(10, 30, 1500));
  Write(journal, 1500);
  EXPECT_THAT(ReadJournal(state_), IsEmpty()) << "it may go on";
  Write(journal, 1000 + DeliveryJournal::kSpanMs);
  Delivery expected = Make(0, 30, 1000);
  expected.last_ms = 1500;
  EXPECT_THAT(ReadJournal(state_), ElementsAre(expected));
}

TEST_F(DeliveryJournalTest, TellsApartWhatDiffers) {
  DeliveryJournal journal({}, kPlenty);
  const Delivery first = Make(0, 10, 1000);
  Delivery elsewhere = Make(10, 20, 1001);
  elsewhere.node = 3;
  Delivery behind_others = Make(20, 30, 1002);
  behind_others.node = 3;
  behind_others.tier_begin += 5;
  Delivery late = Make(30, 40, 1002 + DeliveryJournal::kSpanMs);
  late.node = 3;
  late.tier_begin += 5;
  // Others were dropped in between; the tier's offsets go on.
  Delivery behind_dropped = Make(45, 50, 1003 + DeliveryJournal::kSpanMs);
  behind_dropped.node = 3;
  behind_dropped.tier_begin = late.tier_begin + 10;
  const Delivery other = Make(0, 1, 1003, /*stream=*/8);
  for (const Delivery& delivery : {first, elsewhere, behind_others, late, behind_dropped, other})
    journal.Add(delivery);
  Write(journal, 1003, /*all=*/true);
  EXPECT_THAT(ReadJournal(state_), testing::UnorderedElementsAre(first, elsewhere, behind_others,
                                                                 late, behind_dropped, other));
}

TEST_F(DeliveryJournalTest, WritesTroubleAtOnceAndAlone) {
  DeliveryJournal journal({}, kPlenty);
  Delivery trouble = Make(10, 20, 5000);
  trouble.attempts = 3;
  trouble.since_ms = 2000;
  trouble.first_error = kafka::ErrorCode::kNetworkException;
  trouble.last_error = kafka::ErrorCode::kNotLeaderOrFollower;
  Delivery recognised = Make(20, 30, 5001);
  recognised.tier_begin = -1;
  recognised.proof = DeliveryProof::kRecognised;
  journal.Add(Make(0, 10, 1000));
  journal.Add(trouble);
  journal.Add(recognised);
  journal.Add(Make(30, 40, 5002));
  Write(journal, 5002);
  EXPECT_THAT(ReadJournal(state_), ElementsAre(Make(0, 10, 1000), trouble, recognised));
}

TEST_F(DeliveryJournalTest, TellsWhatIsNotWrittenYet) {
  DeliveryJournal journal({}, kPlenty);
  EXPECT_THAT(ParseBlock(journal.Unwritten()), IsEmpty());
  journal.Add(Make(0, 10, 1000));
  EXPECT_THAT(ParseBlock(journal.Unwritten()), ElementsAre(Make(0, 10, 1000)));
  Delivery trouble = Make(10, 20, 2000);
  trouble.attempts = 1;
  trouble.since_ms = 1500;
  journal.Add(trouble);
  journal.Add(Make(20, 30, 3000));
  EXPECT_THAT(ParseBlock(journal.Unwritten()),
              ElementsAre(Make(0, 10, 1000), trouble, Make(20, 30, 3000)));
  // What was taken may not be on the disk yet.
  EXPECT_THAT(journal.Take(3000, /*all=*/false), SizeIs(1));
  EXPECT_THAT(ParseBlock(journal.Unwritten()),
              ElementsAre(Make(0, 10, 1000), trouble, Make(20, 30, 3000)));
}

TEST_F(DeliveryJournalTest, GoesOnAfterARestartAndLosesNoMoreThanWhatWasOpen) {
  {
    DeliveryJournal journal({}, kPlenty);
    journal.Add(Make(0, 10, 1000));
    Write(journal, 1000, /*all=*/true);
    journal.Add(Make(10, 20, 2000));  // And it dies.
  }
  DeliveryJournal journal(Blocks(), kPlenty);
  journal.Add(Make(20, 30, 3000));
  Write(journal, 3000, /*all=*/true);
  EXPECT_THAT(ReadJournal(state_), ElementsAre(Make(0, 10, 1000), Make(20, 30, 3000)));
}

TEST_F(DeliveryJournalTest, KeepsTheNewestWithinItsBytes) {
  constexpr size_t kBytesMax = 8 * DeliveryJournal::kBlockBytes;
  DeliveryJournal journal({}, kBytesMax);
  int64_t end = 0;
  for (int64_t minute = 0; minute < 3000; ++minute) {
    journal.Add(Make(end, end + 1000, minute * DeliveryJournal::kSpanMs));
    end += 1000;
    Write(journal, minute * DeliveryJournal::kSpanMs, /*all=*/true);
    size_t bytes = 0;
    for (const auto& [key, value] : Blocks()) bytes += key.size() + value;
    ASSERT_LE(bytes, kBytesMax + DeliveryJournal::kBlockBytes);
  }
  const std::vector<Delivery> kept = ReadJournal(state_);
  EXPECT_EQ(kept.back().end, end);
  EXPECT_GT(kept.size(), 300U) << "of less than 24 bytes each";
  for (size_t i = 1; i < kept.size(); ++i) EXPECT_EQ(kept[i].begin, kept[i - 1].end);
  // One that may have less lets go of what is too much at once.
  DeliveryJournal smaller(Blocks(), kBytesMax / 2);
  Write(smaller, 0);
  size_t bytes = 0;
  for (const auto& [key, value] : Blocks()) bytes += key.size() + value;
  EXPECT_LE(bytes, kBytesMax / 2);
  EXPECT_EQ(ReadJournal(state_).back().end, end);
}

TEST_F(DeliveryJournalTest, LeavesOutWhatItCannotRead) {
  DeliveryJournal journal({}, kPlenty);
  journal.Add(Make(0, 10, 1000));
  Write(journal, 1000, /*all=*/true);
  const std::string key = Blocks().begin()->first;
  state_.Put(key, std::string(*state_.Get(key)) + "\x80");
  EXPECT_THAT(ReadJournal(state_), SizeIs(1));
  state_.Put(key, "\x02 of a later version");
  EXPECT_THAT(ReadJournal(state_), IsEmpty());
  EXPECT_FALSE(Trouble::Parse("short"));
}

}  // namespace
}  // namespace holdfast::agent
