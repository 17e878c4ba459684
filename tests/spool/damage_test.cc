// Damaged bytes cost the frames they hit and nothing else: the spool opens, says what is lost,
// serves the rest and goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/event.h"
#include "base/log.h"
#include "metrics/registry.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using testing::ElementsAre;

class DamageTest : public testing::Test {
 protected:
  DamageTest() { base::SetLogLevel(base::LogLevel::kError); }

  // Flips a bit so far before the entry that begins with `text`, else in the table of contents of
  // its frame, in every copy: a small frame lies in a page that LMDB copies when it adds the next.
  void DamageFrameOf(const std::string& text, size_t before = 60) {
    int copies = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
      if (entry.path().extension() != ".segment") continue;
      std::string bytes(entry.file_size(), '\0');
      std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
      for (size_t at = bytes.find(text); at != std::string::npos; at = bytes.find(text, at + 1)) {
        bytes[at - before] ^= 4;
        ++copies;
      }
      std::ofstream(entry.path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
    }
    ASSERT_GT(copies, 0) << text;
  }

  metrics::Registry registry_;  // Outlives the spool.
  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(DamageTest, ADamagedFrameInTheNewestSegmentCostsOnlyItself) {
  ASSERT_TRUE(spool_.Open());
  for (const char* text : {"entry one", "entry two", "entry three"})
    ASSERT_TRUE(spool_.AppendNow("a", text));
  spool_.Close();
  DamageFrameOf("entry two");
  spool_.options.metrics = &registry_;
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(registry_.Expose(), testing::HasSubstr("holdfast_spool_damaged_frames_total 1"));
  const StreamId a = *spool_.spool->FindStream("a");
  EXPECT_EQ(spool_.spool->Read(a, 0, 1000)->entries().size(), 1u);
  EXPECT_EQ(spool_.spool->Read(a, 1, 1000).error().code, base::Code::kCorrupt);
  ASSERT_EQ(*spool_.spool->NextReadable(a, 1), 2);
  EXPECT_EQ(spool_.spool->Read(a, 2, 1000)->entries()[0].bytes, "entry three");
  ASSERT_TRUE(spool_.AppendNow("a", "entry four"));
  EXPECT_EQ(spool_.spool->Read(a, 3, 1000)->entries()[0].bytes, "entry four");
}

TEST_F(DamageTest, ADamagedFrameInAnOldSegmentIsFoundOnReading) {
  ASSERT_TRUE(spool_.Open());
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", "entry " + std::to_string(i) + std::string(50'000, '.')));
  spool_.Close();
  DamageFrameOf("entry 5.");
  DamageFrameOf("entry 6.");
  ASSERT_TRUE(spool_.Open());
  const StreamId a = *spool_.spool->FindStream("a");
  EXPECT_EQ(spool_.spool->Read(a, 3, 1 << 20)->entries().size(), 2u);  // Up to the damage.
  EXPECT_EQ(spool_.spool->Read(a, 5, 1000).error().code, base::Code::kCorrupt);
  EXPECT_EQ(*spool_.spool->NextReadable(a, 5), 7);
  EXPECT_EQ(*spool_.spool->NextReadable(a, 8), 8);
  EXPECT_EQ(spool_.spool->Read(a, 7, 1000)->entries()[0].info.base_offset, 7);
}

TEST_F(DamageTest, ADamagedEntryOfALargeFrameIsNotHandedOn) {
  int asked = 0;
  spool_.options.check_entry = [&](std::string_view bytes) -> base::Result<void> {
    ++asked;
    if (bytes.starts_with("entry ")) return {};
    return base::Unexpected(base::Code::kInvalid, "no entry");
  };
  ASSERT_TRUE(spool_.Open());
  const auto append = [&](const std::string& text) {
    ASSERT_TRUE(spool_.AppendNow("a", text + std::string(50'000, '.')));
  };
  for (int i = 0; i < 30; ++i) append("entry " + std::to_string(i));  // Two segments.
  ASSERT_TRUE(spool_.AppendNow("a", "small, and no entry"));
  const StreamId a = *spool_.spool->FindStream("a");
  const auto read = [&](int64_t from) { return spool_.spool->ReadSound(a, from, 10 << 20); };
  ASSERT_TRUE(read(29));
  EXPECT_EQ(asked, 0) << "what was written just now is known";
  spool_.Close();
  for (const int i : {5, 28}) DamageFrameOf("entry " + std::to_string(i) + ".", /*before=*/0);
  spool_.options.metrics = &registry_;
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(asked, 0);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(read(0)->entries().size(), 5u);
    EXPECT_EQ(read(5).error().code, base::Code::kCorrupt);
    EXPECT_EQ(*spool_.spool->NextReadable(a, 5), 6);
    EXPECT_EQ(read(6)->entries()[0].info.base_offset, 6);
    EXPECT_EQ(read(28).error().code, base::Code::kCorrupt);
    EXPECT_EQ(read(29)->entries().size(), 2u);
  }
  EXPECT_GE(asked, 5 + 1 + 1);
  asked = 0;
  EXPECT_EQ(read(0)->entries().size(), 5u);
  EXPECT_EQ(asked, 1) << "the damaged one; the others are known";
  append("entry 31");
  EXPECT_EQ(read(29)->entries().size(), 3u);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(spool_.spool->Read(a, 5, 1000)->entries()[0].info.base_offset, 5);
  EXPECT_THAT(registry_.Expose(), testing::HasSubstr("holdfast_spool_damaged_frames_total 2"));
}

TEST_F(DamageTest, AnEntryIsListedThoughItsBytesAreDamaged) {
  spool_.options.check_entry = [](std::string_view bytes) -> base::Result<void> {
    if (bytes.find_first_not_of('.') == std::string_view::npos) return {};
    return base::Unexpected(base::Code::kInvalid, "no entry");
  };
  ASSERT_TRUE(spool_.Open());
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, '.')));
  ASSERT_TRUE(spool_.AppendNow("b", "the newest frame is whole, or it is torn"));
  spool_.Close();
  ASSERT_EQ(DamageLargeEntries(directory_.path()), 30);
  spool_.options.metrics = &registry_;
  ASSERT_TRUE(spool_.Open());
  const StreamId a = *spool_.spool->FindStream("a");
  EXPECT_EQ(*spool_.spool->NextReadable(a, 0), 30);
  for (int64_t next = 0; next < 30;) {
    const auto entries = spool_.spool->ListEntries(a, next, 7);
    ASSERT_TRUE(entries) << entries.error().message;
    ASSERT_FALSE(entries->empty());
    for (const EntryInfo& entry : *entries) {
      EXPECT_EQ(entry.base_offset, next++);
      EXPECT_EQ(entry.bytes, 50'000u);
    }
  }
}

TEST_F(DamageTest, ListingEndsBeforeADamagedFrame) {
  ASSERT_TRUE(spool_.Open());
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", "entry " + std::to_string(i) + std::string(50'000, '.')));
  spool_.Close();
  DamageFrameOf("entry 5.");
  ASSERT_TRUE(spool_.Open());
  const StreamId a = *spool_.spool->FindStream("a");
  EXPECT_EQ(spool_.spool->ListEntries(a, 3, 100)->size(), 2u);
  EXPECT_EQ(spool_.spool->ListEntries(a, 5, 100).error().code, base::Code::kCorrupt);
  EXPECT_EQ(spool_.spool->ListEntries(a, *spool_.spool->NextReadable(a, 5), 1)->front().base_offset,
            6);
}

TEST_F(DamageTest, ADamagedFrameDoesNotTakeTheNameFromEntriesInOthers) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "in the frame that opens the stream"));
  ASSERT_TRUE(spool_.AppendNow("b", "entry of the other"));
  ASSERT_TRUE(spool_.AppendNow("a", "second entry", 1, 5));
  ASSERT_TRUE(spool_.AppendNow("a", "third entry"));
  const StreamId a = *spool_.spool->FindStream("a");
  spool_.Close();
  DamageFrameOf("in the frame that opens");
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(spool_.Open());
    ASSERT_EQ(spool_.spool->FindStream("a"), a);
    EXPECT_EQ(spool_.spool->Read(a, 0, 1000).error().code, base::Code::kCorrupt);
    ASSERT_EQ(*spool_.spool->NextReadable(a, 0), 1);
    EXPECT_EQ(spool_.spool->Read(a, 1, 1000)->entries().size(), 2u);
    EXPECT_THAT(spool_.ReadAll("b"), ElementsAre("entry of the other"));
    spool_.spool->SealSoon();  // And in the checkpoint.
    spool_.clock.RunUntilIdle();
    spool_.Close();
  }
}

TEST_F(DamageTest, AFrameThatTrimsAStreamHasItsName) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "in the frame that opens the stream"));
  ASSERT_TRUE(spool_.TrimNow("a", 1));
  spool_.Close();
  DamageFrameOf("in the frame that opens");
  ASSERT_TRUE(spool_.Open());
  ASSERT_NE(spool_.spool->FindStream("a"), std::nullopt);
  ASSERT_TRUE(spool_.AppendNow("a", "second entry"));
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("second entry"));
  EXPECT_EQ(spool_.spool->Range(*spool_.spool->FindStream("a")).start, 1);
}

TEST_F(DamageTest, ALostStreamNameDoesNotMixUpTheOthers) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("lost", "in the frame that opens the stream"));
  ASSERT_TRUE(spool_.AppendNow("kept", "entry of the other"));
  ASSERT_TRUE(spool_.AppendNow("lost", "in the frame that names it again"));
  ASSERT_TRUE(spool_.AppendNow("lost", "third entry"));
  const StreamId lost = *spool_.spool->FindStream("lost");
  spool_.Close();
  DamageFrameOf("in the frame that opens");
  DamageFrameOf("in the frame that names");
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(spool_.ReadAll("kept"), ElementsAre("entry of the other"));
  EXPECT_EQ(spool_.spool->FindStream("lost"), std::nullopt);
  EXPECT_EQ(spool_.spool->FindStream(LostStreamName(lost)), lost);
  EXPECT_EQ(spool_.spool->Read(lost, 2, 1000)->entries()[0].bytes, "third entry");
  EXPECT_EQ(base::RecentLines().back().event, base::Event::kStreamNameLost);
  EXPECT_THAT(base::RecentLines().back().message, testing::HasSubstr("3 of its records"));
  ASSERT_TRUE(spool_.AppendNow("lost", "begins anew"));
  EXPECT_THAT(spool_.ReadAll("lost"), ElementsAre("begins anew"));
}

TEST_F(DamageTest, ATruncatedSegmentLosesWhatIsCutOff) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "kept"));
  ASSERT_TRUE(spool_.AppendNow("a", std::string(200'000, 'x')));
  spool_.Close();
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
    if (entry.path().extension() == ".segment") std::filesystem::resize_file(entry, 64 << 10);
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("kept"));
  ASSERT_TRUE(spool_.AppendNow("a", "goes on"));
  spool_.Reopen();
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("kept", "goes on"));
}

}  // namespace
}  // namespace holdfast::spool
