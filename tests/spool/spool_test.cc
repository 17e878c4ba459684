// The spool through its contract, on virtual time: what is appended is read back, also after
// reopening and over many segments; limits hold and let go; what is not ours is left alone.
#include "spool/spool.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/log.h"
#include "metrics/registry.h"
#include "spool/directory.h"
#include "spool/segment_file.h"
#include "spool/segment_store.h"
#include "spool/state.h"
#include "tests/spool/spool_fixture.h"

namespace {

// Of reading directories: fails with that error once so many entries were read. 0: it works.
int list_error = 0;           // NOLINT(readability-identifier-naming)
int entries_until_error = 0;  // NOLINT(readability-identifier-naming)

}  // namespace

// In place of the C library's, also for the C++ library.
extern "C" dirent* readdir(DIR* directory) {
  static const auto real = reinterpret_cast<dirent* (*)(DIR*)>(dlsym(RTLD_NEXT, "readdir"));
  if (list_error == 0 || entries_until_error-- > 0) return real(directory);
  errno = list_error;
  return nullptr;
}

namespace holdfast::spool {
namespace {

using base::Code;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class SpoolTest : public testing::Test {
 protected:
  void Open() {
    const auto opened = spool_.Open();
    ASSERT_TRUE(opened) << opened.error().message;
  }
  StreamId Id(const std::string& name) { return *spool_.spool->FindStream(name); }
  Status GetStatus() { return spool_.spool->GetStatus(); }

  metrics::Registry registry_;  // Outlives the spool.
  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(SpoolTest, EntriesAreReadBackInOrder) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  ASSERT_TRUE(spool_.AppendNow("b", "two", 5));
  ASSERT_TRUE(spool_.AppendNow("a", "three", 2));
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("one", "three"));
  EXPECT_THAT(spool_.ReadAll("b"), ElementsAre("two"));
  const StreamId a = Id("a");
  EXPECT_EQ(spool_.spool->Range(a).end, 3);
  spool_.Reopen();
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("one", "three"));
  EXPECT_EQ(Id("a"), a);
  EXPECT_EQ(spool_.Get("count/0"), "2");
}

TEST_F(SpoolTest, EntriesAreReadBackOverManySegments) {
  Open();
  std::vector<std::string> expected;
  for (int i = 0; i < 100; ++i) {
    expected.push_back(std::string(50'000, static_cast<char>('a' + i % 26)) + std::to_string(i));
    ASSERT_TRUE(spool_.AppendNow("stream", expected.back()));
  }
  EXPECT_GT(GetStatus().segments, 4u);
  EXPECT_EQ(spool_.ReadAll("stream"), expected);
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("stream"), expected);
  EXPECT_EQ(spool_.owner.seen[0], 100);
  EXPECT_LT(spool_.owner.replays, 50);  // Only the newest segment's.
  EXPECT_EQ(spool_.Get("count/0"), "100");
}

TEST_F(SpoolTest, AReadBeginsWithTheEntryThatContainsTheOffset) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "0-9", 10));
  ASSERT_TRUE(spool_.AppendNow("a", "10-14", 5));
  auto lease = spool_.spool->Read(Id("a"), 7, 1000);
  ASSERT_TRUE(lease);
  ASSERT_EQ(lease->entries().size(), 2u);
  EXPECT_EQ(lease->entries()[0].bytes, "0-9");
  lease = spool_.spool->Read(Id("a"), 12, 1000);
  ASSERT_EQ(lease->entries().size(), 1u);
  EXPECT_EQ(lease->entries()[0].info.base_offset, 10);
  EXPECT_TRUE(spool_.spool->Read(Id("a"), 15, 1000)->empty());
  EXPECT_EQ(spool_.spool->Read(Id("a"), 16, 1000).error().code, Code::kNotFound);
  EXPECT_TRUE(spool_.spool->Read(StreamId(99), 0, 1000)->empty());  // Perhaps not durable yet.
  EXPECT_EQ(spool_.spool->Read(StreamId(99), 1, 1000).error().code, Code::kNotFound);
}

TEST_F(SpoolTest, AReadStopsAtItsLimitButGivesAtLeastOneEntry) {
  Open();
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(100, 'x')));
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 350)->entries().size(), 3u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 0)->entries().size(), 1u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 6399)->entries().size(), 63u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 6400)->entries().size(), 64u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 6499)->entries().size(), 64u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 1 << 20)->entries().size(), 200u);
}

std::vector<int64_t> Offsets(const base::Result<std::vector<EntryInfo>>& entries) {
  EXPECT_TRUE(entries) << entries.error().message;
  std::vector<int64_t> offsets;
  for (const EntryInfo& entry : entries.value_or(std::vector<EntryInfo>()))
    offsets.push_back(entry.base_offset);
  return offsets;
}

TEST_F(SpoolTest, ListingTellsOfTheEntriesThatReadingGives) {
  Open();
  for (uint32_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(spool_.AppendNow("a", std::string(i, 'x'), i, 10 * i));
    ASSERT_TRUE(spool_.AppendNow("b", "other"));
  }
  const StreamId a = Id("a");
  const auto list = [&](int64_t from, size_t entries_max) {
    return spool_.spool->ListEntries(a, from, entries_max);
  };
  const auto read = spool_.spool->Read(a, 0, 1 << 20);
  ASSERT_TRUE(read);
  const auto listed = list(0, 100);
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), 5u);
  for (size_t i = 0; i < listed->size(); ++i) {
    const EntryInfo& info = read->entries()[i].info;
    EXPECT_EQ(listed->at(i).stream, a);
    EXPECT_EQ(listed->at(i).base_offset, info.base_offset);
    EXPECT_EQ(listed->at(i).record_count, i + 1);
    EXPECT_EQ(listed->at(i).bytes, i + 1);
    EXPECT_EQ(listed->at(i).max_timestamp_ms, static_cast<int64_t>(10 * (i + 1)));
    EXPECT_EQ(listed->at(i).commit, info.commit);
    EXPECT_EQ(listed->at(i).commit_time_ms, info.commit_time_ms);
  }
  for (int round = 0; round < 3; ++round) {  // Of the open segment, of a sealed one, of files.
    EXPECT_THAT(Offsets(list(0, 2)), ElementsAre(0, 1));
    EXPECT_THAT(Offsets(list(2, 2)), ElementsAre(1, 3)) << "within an entry";
    EXPECT_THAT(Offsets(list(3, 1)), ElementsAre(3));
    EXPECT_THAT(Offsets(list(14, 9)), ElementsAre(10));
    EXPECT_THAT(Offsets(list(15, 9)), ElementsAre());
    EXPECT_EQ(list(16, 9).error().code, Code::kNotFound);
    if (round == 1) spool_.Reopen();
    spool_.spool->SealSoon();
    spool_.clock.RunUntilIdle();
  }
}

TEST_F(SpoolTest, ListingGoesFromSegmentToSegmentAndBeginsWhereAStreamIsTrimmed) {
  Open();
  constexpr int kEntries = 500;
  const auto fill = [&](int count) {
    for (int i = 0; i < count; ++i)
      ASSERT_TRUE(spool_.AppendNow(i % 7 == 0 ? "b" : "a", std::string(10'000, 'x')));
  };
  fill(kEntries);
  const StreamId a = Id("a");
  const auto expect_all = [&] {
    const OffsetRange range = spool_.spool->Range(a);
    for (const size_t at_once : {1, 63, 64, 65, 1000}) {
      int64_t next = range.start;
      for (size_t lists = 0; next != range.end; ++lists) {
        const std::vector<int64_t> offsets = Offsets(spool_.spool->ListEntries(a, next, at_once));
        ASSERT_FALSE(offsets.empty());
        ASSERT_LE(offsets.size(), at_once);
        for (const int64_t offset : offsets) ASSERT_EQ(offset, next++);
      }
    }
    if (range.start > 0) {
      EXPECT_EQ(spool_.spool->ListEntries(a, range.start - 1, 1).error().code, Code::kNotFound);
    }
  };
  ASSERT_GT(GetStatus().segments, 4u);
  expect_all();
  ASSERT_TRUE(spool_.TrimNow("a", 211));
  expect_all();
  spool_.Reopen();
  expect_all();
  fill(50);
  expect_all();
  ASSERT_TRUE(spool_.TrimNow("a", 10'000));
  EXPECT_THAT(Offsets(spool_.spool->ListEntries(a, spool_.spool->Range(a).end, 9)), ElementsAre());
}

TEST_F(SpoolTest, OneCommitTakesWhatIsQueuedAndAnswersInOrder) {
  Open();
  std::vector<int> order;
  CommitNumber commit;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(spool_.Append("s" + std::to_string(i % 7), "x", [&, i](const auto& result) {
      order.push_back(i);
      EXPECT_TRUE(i == 0 || commit == *result);
      commit = *result;
    }));
  }
  EXPECT_TRUE(order.empty());
  spool_.clock.RunUntilIdle();
  ASSERT_EQ(order.size(), 50u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(GetStatus().durable, commit);
  EXPECT_EQ(spool_.owner.durable.size(), 7u);  // Each stream once.
}

TEST_F(SpoolTest, AnswersOfACommitWakeOthersTogether) {
  Open();
  base::Executor& other = spool_.background;
  int answers = 0;
  for (int i = 0; i < 2; ++i) {
    spool_.Append("a", "entry", [&](const auto&) {
      EXPECT_TRUE(base::WakeBatch::Take(&other));
      ++answers;
    });
  }
  spool_.clock.RunUntilIdle();
  EXPECT_EQ(answers, 2);
  EXPECT_FALSE(base::WakeBatch::Take(&other));
}

TEST_F(SpoolTest, LargeCommitsAreSplitAndAnsweredInOrder) {
  spool_.options.commit_bytes_max = 10'000;
  Open();
  std::vector<CommitNumber> commits;
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(spool_.Append("a", std::string(i == 7 ? 100'000 : 4000, 'x'),
                              [&](const auto& result) { commits.push_back(*result); }));
  }
  spool_.clock.RunUntilIdle();
  ASSERT_EQ(commits.size(), 30u);
  EXPECT_TRUE(std::is_sorted(commits.begin(), commits.end()));
  EXPECT_GT(commits.back().value(), 12u);
}

TEST_F(SpoolTest, AnOperationWithNothingToDoIsAnsweredAfterWhatItFound) {
  Open();
  std::vector<std::string> answered;
  ASSERT_TRUE(spool_.Append("a", "x", [&](const auto&) { answered.push_back("append"); }));
  ASSERT_TRUE(spool_.writer.RunOne());
  const size_t before = answered.size();
  ASSERT_TRUE(spool_.Submit(
      0, [](Transaction&) {},
      [&](const auto& result) {
        EXPECT_TRUE(result);
        answered.push_back("nothing");
      }));
  EXPECT_EQ(answered.size(), before);
  spool_.clock.RunUntilIdle();
  EXPECT_THAT(answered, ElementsAre("append", "nothing"));
  EXPECT_EQ(GetStatus().durable, CommitNumber(1));  // It cost no commit.
}

TEST_F(SpoolTest, StateIsPutErasedAndFoundAgain) {
  Open();
  spool_.Submit(0, [](Transaction& t) {
    t.Put("a/1", "one");
    t.Put("a/2", "two");
    t.Put("b", std::string(100'000, 'b'));
    t.Erase("a/1");
    EXPECT_FALSE(t.Get("a/1"));
    EXPECT_EQ(t.Get("a/2"), "two");
  });
  spool_.clock.RunUntilIdle();
  spool_.Reopen();
  EXPECT_EQ(spool_.Get("a/1"), std::nullopt);
  EXPECT_EQ(spool_.Get("a/2"), "two");
  EXPECT_EQ(spool_.Get("b")->size(), 100'000u);
}

TEST_F(SpoolTest, StateLargerThanASegmentIsCarriedAlong) {
  Open();
  for (int i = 0; i < 60; ++i) {
    bool stored = false;
    // More in one commit than fits behind what is there: the spool asks to come again.
    for (int attempt = 0; attempt < 3 && !stored; ++attempt) {
      spool_.Submit(
          0, [i](Transaction& t) { t.Put("k" + std::to_string(i), std::string(60'000, 'x')); },
          [&](const auto& result) { stored = result.has_value(); });
      spool_.clock.RunUntilIdle();
    }
    ASSERT_TRUE(stored);
  }
  ASSERT_TRUE(spool_.AppendNow("a", "entry"));
  spool_.Reopen();
  for (int i = 0; i < 60; ++i) EXPECT_EQ(spool_.Get("k" + std::to_string(i))->size(), 60'000u);
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("entry"));
}

TEST_F(SpoolTest, TrimmedSegmentsAreRetiredAndTheirSpaceIsFreed) {
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
  const Status full = GetStatus();
  ASSERT_TRUE(spool_.TrimNow("a", 50));
  const Status half = GetStatus();
  EXPECT_LT(half.segments, full.segments);
  EXPECT_LT(half.disk_bytes, full.disk_bytes);
  EXPECT_LT(half.entry_bytes, full.entry_bytes);
  EXPECT_EQ(spool_.spool->Range(Id("a")).start, 50);
  EXPECT_EQ(spool_.ReadAll("a").size(), 50u);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 49, 1000).error().code, Code::kNotFound);
  ASSERT_TRUE(spool_.TrimNow("a", 1000));
  EXPECT_EQ(GetStatus().segments, 1u);
  spool_.Reopen();
  EXPECT_EQ(spool_.spool->Range(Id("a")).start, 100);
  EXPECT_EQ(spool_.spool->Range(Id("a")).end, 100);
  ASSERT_TRUE(spool_.AppendNow("a", "next"));
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("next"));
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
    files += entry.path().extension() == ".segment" ? 1 : 0;
  EXPECT_EQ(files, 1u);
}

TEST_F(SpoolTest, AStreamThatStaysHoldsBackOnlyItsOwnSegments) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("slow", "kept"));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(spool_.AppendNow("fast", std::string(50'000, 'x')));
  ASSERT_TRUE(spool_.TrimNow("fast", 100));
  EXPECT_EQ(GetStatus().segments, 2u);
  EXPECT_THAT(spool_.ReadAll("slow"), ElementsAre("kept"));
  spool_.Reopen();
  EXPECT_THAT(spool_.ReadAll("slow"), ElementsAre("kept"));
  ASSERT_TRUE(spool_.TrimNow("slow", 1));
  EXPECT_EQ(GetStatus().segments, 1u);
}

TEST_F(SpoolTest, AStreamThatStaysCostsAboutWhatItHolds) {
  spool_.options.segment_bytes = 2 << 20;
  spool_.options.bytes_max = 16 << 20;
  Open();
  std::vector<std::string> kept;
  for (int i = 0; i < 600; ++i) {
    // More than the limit, many times; the slow stream holds an entry in every segment.
    if (i % 10 == 0) {
      kept.push_back("kept " + std::to_string(i));
      ASSERT_TRUE(spool_.AppendNow("slow", kept.back()));
    }
    ASSERT_TRUE(spool_.AppendNow("fast", std::string(100'000, 'x'))) << i;
    ASSERT_TRUE(spool_.TrimNow("fast", i - 5));
    EXPECT_LE(GetStatus().disk_bytes, uint64_t{16} << 20);
    spool_.clock.Advance(std::chrono::seconds(1));
  }
  EXPECT_EQ(spool_.ReadAll("slow"), kept);
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("slow"), kept);
  EXPECT_EQ(spool_.ReadAll("fast").size(), 6u);
  ASSERT_TRUE(spool_.TrimNow("slow", 60));
  EXPECT_LE(GetStatus().segments, 2u);
}

TEST_F(SpoolTest, ALeaseKeepsItsSegment) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "kept in place"));
  for (int i = 0; i < 150; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
  auto lease = spool_.spool->Read(Id("a"), 0, 1);
  ASSERT_TRUE(lease);
  EXPECT_TRUE(lease->lasting());
  const uint64_t before = GetStatus().disk_bytes;
  ASSERT_TRUE(spool_.TrimNow("a", 140));
  const uint64_t held = GetStatus().disk_bytes;
  EXPECT_LT(held, before);  // Others went.
  EXPECT_EQ(lease->entries()[0].bytes, "kept in place");
  *lease = Lease();
  spool_.clock.RunUntilIdle();
  EXPECT_LT(GetStatus().disk_bytes, held);
}

TEST_F(SpoolTest, ALeaseOfTheOpenSegmentDoesNotLast) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "x"));
  const auto open = spool_.spool->Read(Id("a"), 0, 1);
  ASSERT_TRUE(open);
  EXPECT_FALSE(open->lasting());
  EXPECT_FALSE(Lease().lasting());
}

// A slow reader's bytes: the file is not used again for another segment while they are held.
TEST_F(SpoolTest, ALastingLeaseKeepsItsBytesWhileSegmentsComeAndGo) {
  Open();
  const std::string first(50'000, 'f');
  ASSERT_TRUE(spool_.AppendNow("a", first));
  for (int i = 0; i < 150; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
  const auto lease = spool_.spool->Read(Id("a"), 0, 1);
  ASSERT_TRUE(lease);
  ASSERT_TRUE(lease->lasting());
  for (int i = 0; i < 600; ++i) {
    ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'y')));
    ASSERT_TRUE(spool_.TrimNow("a", 150 + i));
    spool_.clock.Advance(std::chrono::seconds(1));
  }
  EXPECT_EQ(lease->entries()[0].bytes, first);
}

TEST_F(SpoolTest, RetiredSegmentsAreUsedAgain) {
  spool_.options.metrics = &registry_;
  Open();
  std::set<ino_t> files;
  int64_t next = 0;
  const auto fill = [&](char what) {
    for (int i = 0; i < 60; ++i, ++next) {
      ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, what)));
      ASSERT_TRUE(spool_.TrimNow("a", next - 30));
      for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
        struct stat info {};
        if (entry.path().extension() == ".segment" && stat(entry.path().c_str(), &info) == 0)
          files.insert(info.st_ino);
      }
    }
  };
  fill('x');
  const size_t used = files.size();
  fill('y');
  fill('z');
  EXPECT_EQ(files.size(), used);
  EXPECT_THAT(registry_.Expose(), Not(HasSubstr("holdfast_spool_recycled_segments_total 0")));
  spool_.options.metrics = nullptr;
  spool_.Reopen();
  EXPECT_THAT(spool_.ReadAll("a"), AllOf(SizeIs(31), Each(std::string(50'000, 'z'))));
}

TEST_F(SpoolTest, ManyRetiredSegmentsAreRemovedBitByBit) {
  constexpr uint64_t kSegment = 32 << 20;
  constexpr int kEntries = 28;  // Two in a segment.
  const auto files = [&] {
    uint64_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      count += entry.path().extension() == ".segment" ? 1 : 0;
    return count;
  };
  spool_.options.segment_bytes = kSegment;
  Open();
  for (int i = 0; i < kEntries; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(8 << 20, 'x')));
  const uint64_t before = files();
  ASSERT_TRUE(spool_.TrimNow("a", kEntries));
  const uint64_t spares = (GetStatus().disk_bytes / kSegment) - files();
  EXPECT_EQ(before - files() - spares, kRemovedAtOnceBytes / kSegment);
  constexpr uint64_t kStay = 2;  // The open one, and the one that is prepared.
  EXPECT_GT(files(), kStay);
  spool_.clock.Advance(kRemovalPause);
  EXPECT_EQ(files(), kStay);
}

TEST_F(SpoolTest, WhatWasRetiredButNotRemovedGoesWhenTheSpoolIsOpened) {
  Open();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
  const std::string first = directory_.path() + "/00000000000000000001.segment";
  const std::string kept = directory_.path() + "/kept";
  std::filesystem::copy_file(first, kept);
  ASSERT_TRUE(spool_.TrimNow("a", 100));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(spool_.AppendNow("a", "the newest segment knows"));
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'y')));
  spool_.Close();
  std::filesystem::rename(kept, first);
  spool_.Reopen();
  EXPECT_FALSE(std::filesystem::exists(first));
  EXPECT_EQ(spool_.ReadAll("a").size(), 60);
}

TEST_F(SpoolTest, BlocksAreWrittenOnlyWhileNobodyStopsThat) {
  const std::string path = directory_.path() + "/file";
  ASSERT_TRUE(SegmentFile::Create(path, 2 << 20));
  int pieces = 0;
  EXPECT_EQ(SegmentFile::WriteBlocks(path, [&] { return pieces++ < 3; }), false);
  EXPECT_EQ(pieces, 4);
  EXPECT_EQ(SegmentFile::WriteBlocks(path, [] { return true; }), true);
  // It is the empty segment that it was.
  EXPECT_EQ(std::filesystem::file_size(path), 2 << 20);
  auto file = SegmentFile::Open(path, {SpoolId{}, 1}, lmdb::Access::kWrite, {}, nullptr);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_FALSE((*file)->salvaged());
  EXPECT_TRUE((*file)->Begin(CommitNumber(1), State(), {}, nullptr));
}

// A long outage, or a small segment_bytes: each segment says twice which older ones there are.
TEST_F(SpoolTest, ASegmentHasRoomForTheListOfManyOlderOnes) {
  constexpr int kSegments = 20'000;
  std::string older;
  for (int i = 1; i <= kSegments; ++i)
    AppendSegment({.segment = static_cast<uint64_t>(i),
                   .first_commit = CommitNumber(i),
                   .end_commit = CommitNumber(i + 1)},
                  &older);
  EXPECT_EQ(older.size(), kSegments * kSegmentChangeBytes);
  State state;
  for (int i = 0; i < 1000; ++i) state.OpenStream("stream" + std::to_string(i));
  const uint64_t bytes = SegmentFile::BytesToBegin(state, older.size());
  const std::string path = directory_.path() + "/file";
  ASSERT_TRUE(SegmentFile::Create(path, (bytes + 4095) / 4096 * 4096));
  auto file = SegmentFile::Open(path, {SpoolId{}, 1}, lmdb::Access::kWrite, {}, nullptr);
  ASSERT_TRUE(file) << file.error().message;
  const auto begun = (*file)->Begin(CommitNumber(kSegments + 1), state, older, nullptr);
  ASSERT_TRUE(begun) << begun.error().message;
  EXPECT_LE((*file)->used_bytes(), bytes);
}

TEST_F(SpoolTest, ASegmentThatAnotherProcessLooksIntoIsNotUsedAgain) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "looked at"));
  const std::string first =
      (std::filesystem::path(directory_.path()) / "00000000000000000001.segment").string();
  const int fd = open(first.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(flock(fd, LOCK_SH), 0);
  std::string before(1 << 20, '\0');
  for (int i = 0; i < 21; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
  ASSERT_EQ(pread(fd, before.data(), before.size(), 0), 1 << 20);
  ASSERT_TRUE(spool_.TrimNow("a", 20));
  EXPECT_FALSE(std::filesystem::exists(first));
  std::string after(1 << 20, '\0');
  ASSERT_EQ(pread(fd, after.data(), after.size(), 0), 1 << 20);
  EXPECT_EQ(before, after);
  close(fd);
}

TEST_F(SpoolTest, AFullSpoolRefusesEntriesRecordsProgressAndRecovers) {
  spool_.options.bytes_max = 8 << 20;
  Open();
  int stored = 0;
  while (stored < 1000 && spool_.AppendNow("a", std::string(50'000, 'x'))) ++stored;
  EXPECT_GT(stored, 80);
  EXPECT_LT(stored, 160);
  base::Error refusal{Code::kIo, ""};
  ASSERT_TRUE(spool_.Append("a", std::string(50'000, 'x'), [&](const auto& result) {
    ASSERT_FALSE(result);
    refusal = result.error();
  }));
  spool_.clock.RunUntilIdle();
  EXPECT_EQ(refusal.code, Code::kFull);
  EXPECT_THAT(refusal.message, HasSubstr(directory_.path()));
  EXPECT_FALSE(GetStatus().accepting);
  EXPECT_EQ(GetStatus().refusing_because, refusal.message);

  // Progress of any amount, and the limit holds.
  for (int i = 0; i < 2000; ++i)
    spool_.Submit(0, [i](Transaction& t) { t.Put("cursor", std::to_string(i)); });
  for (int i = 0; i < 300; ++i) {
    spool_.Submit(0, [](Transaction& t) { t.Put("large", std::string(20'000, 'x')); });
    spool_.clock.RunUntilIdle();
  }
  EXPECT_EQ(spool_.Get("cursor"), "1999");
  EXPECT_LE(GetStatus().disk_bytes, spool_.options.bytes_max + (2 << 20));
  EXPECT_FALSE(spool_.AppendNow("a", std::string(50'000, 'x')));

  ASSERT_TRUE(spool_.TrimNow("a", 60));
  EXPECT_TRUE(GetStatus().accepting) << GetStatus().refusing_because;
  EXPECT_TRUE(spool_.AppendNow("a", "again"));
  EXPECT_EQ(spool_.ReadAll("a").size(), static_cast<size_t>(stored - 60 + 1));
}

TEST_F(SpoolTest, WhatASpoolIsTooFullForIsNotOvertaken) {
  spool_.options.bytes_max = 8 << 20;
  Open();
  while (spool_.AppendNow("a", std::string(50'000, 'x'))) {
  }
  const auto offers = [&](size_t bytes) {
    bool taken = false;
    EXPECT_TRUE(spool_.Append("a", std::string(bytes, 'y'),
                              [&taken](const auto& result) { taken = result.has_value(); }));
    spool_.clock.RunUntilIdle();
    return taken;
  };
  EXPECT_TRUE(offers(10));  // There is a little room.
  int refused = 0;
  for (const size_t bytes : {50'000, 10}) {
    ASSERT_TRUE(spool_.Append("a", std::string(bytes, 'z'),
                              [&](const auto& result) { refused += result ? 0 : 1; }));
  }
  spool_.clock.RunUntilIdle();
  EXPECT_EQ(refused, 2);
  EXPECT_TRUE(offers(10));
}

TEST_F(SpoolTest, AFullSpoolTakesTheSegmentThatIsReady) {
  spool_.options.bytes_max = 8 << 20;
  Open();
  int stored = 0;
  while (stored < 1000 && spool_.AppendNow("a", std::string(50'000, 'x'))) ++stored;
  ASSERT_FALSE(GetStatus().accepting);
  // One segment's worth is trimmed, and so much state is written that the next segment is wished
  // for: the background makes it, of the file that came free, before the writer looks again.
  spool_.Submit(0, [](Transaction& t) { t.Trim(t.OpenStream("a"), 20); });
  for (int i = 0; i < 20; ++i)
    spool_.Submit(0, [](Transaction& t) { t.Put("large", std::string(20'000, 'x')); });
  while (spool_.writer.RunOne()) {
  }
  while (spool_.background.RunOne()) {
  }
  spool_.clock.Advance(std::chrono::seconds(5));
  EXPECT_TRUE(GetStatus().accepting) << GetStatus().refusing_because;
  EXPECT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x')));
}

TEST_F(SpoolTest, RoomEndsWhenTheSpoolIsFullAndComesBackWithSegments) {
  spool_.options.metrics = &registry_;
  spool_.options.bytes_max = 8 << 20;
  Open();
  const auto room = [this] {
    const std::string page = registry_.Expose();
    constexpr std::string_view kName = "\nholdfast_spool_room_bytes ";
    const size_t at = page.find(kName);
    return at == std::string::npos ? -1 : std::stod(page.substr(at + kName.size()));
  };
  EXPECT_GT(room(), 4 << 20);
  EXPECT_LT(room(), 8 << 20);
  int stored = 0;
  double before = room();
  while (stored < 1000 && spool_.AppendNow("a", std::string(50'000, 'x'))) {
    ++stored;
    EXPECT_LE(room(), before);
    before = room();
  }
  EXPECT_EQ(room(), 0);  // What is left is less than a segment.
  ASSERT_TRUE(spool_.TrimNow("a", stored));
  EXPECT_GT(room(), 4 << 20);
}

TEST_F(SpoolTest, RoomIsWhatTheFileSystemLeaves) {
  spool_.options.metrics = &registry_;
  spool_.options.free_bytes_min = uint64_t{1} << 50;
  Open();
  EXPECT_THAT(registry_.Expose(), HasSubstr("\nholdfast_spool_room_bytes 0\n"));
}

TEST_F(SpoolTest, AFullSpoolOpensAndDrains) {
  spool_.options.bytes_max = 8 << 20;
  Open();
  int stored = 0;
  while (stored < 1000 && spool_.AppendNow("a", std::string(50'000, 'x'))) ++stored;
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("a").size(), static_cast<size_t>(stored));
  ASSERT_TRUE(spool_.TrimNow("a", stored));
  EXPECT_TRUE(spool_.AppendNow("a", "again"));
}

// The segment that was begun under the old limit would take more than the new one allows.
TEST_F(SpoolTest, ASmallerLimitHoldsAfterTheNextStart) {
  spool_.options.segment_bytes = 16 << 20;
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "before"));
  spool_.options.bytes_max = 8 << 20;
  spool_.Reopen();
  EXPECT_FALSE(spool_.AppendNow("a", "x"));
  EXPECT_THAT(GetStatus().refusing_because, HasSubstr("the spool is full (16 MiB"));
  // When that is delivered its file goes, and then the new limit holds.
  ASSERT_TRUE(spool_.TrimNow("a", 1));
  spool_.clock.Advance(std::chrono::seconds(5));
  int stored = 0;
  while (stored < 1000 && spool_.AppendNow("a", std::string(50'000, 'x'))) ++stored;
  EXPECT_GT(stored, 80);
  EXPECT_LT(stored, 160);
}

TEST_F(SpoolTest, TheGaugesOfDiskSpaceAreThereFromTheStart) {
  spool_.options.metrics = &registry_;
  Open();
  const std::string disk =
      "\nholdfast_spool_disk_bytes " + std::to_string(GetStatus().disk_bytes) + "\n";
  EXPECT_THAT(registry_.Expose(), HasSubstr("\nholdfast_spool_segments 1\n"));
  EXPECT_THAT(registry_.Expose(), HasSubstr(disk));
}

TEST_F(SpoolTest, ANearlyFullFileSystemIsBackPressure) {
  spool_.options.free_bytes_min = uint64_t{1} << 50;
  Open();  // With a small segment, for progress.
  EXPECT_FALSE(spool_.AppendNow("a", "x"));
  EXPECT_THAT(GetStatus().refusing_because, HasSubstr("file system"));
  spool_.Submit(0, [](Transaction& t) { t.Put("key", "value"); });
  EXPECT_EQ(spool_.Get("key"), "value");
  spool_.options.free_bytes_min = 0;
  spool_.Reopen();
  EXPECT_TRUE(spool_.AppendNow("a", "x"));
}

TEST_F(SpoolTest, AFullQueueLeavesTheOperationWithItsOwner) {
  spool_.options.queue_bytes_max = 1000;
  Open();
  ASSERT_TRUE(spool_.Append("a", std::string(5000, 'x')));  // Alone it always gets in.
  EXPECT_EQ(GetStatus().queued_bytes, 5000u);
  std::unique_ptr<Operation> operation = std::make_unique<LambdaOperation>(
      1, [](Transaction&) {}, [](const auto&) { ADD_FAILURE() << "was not taken"; });
  EXPECT_FALSE(spool_.spool->Submit(operation));
  EXPECT_NE(operation, nullptr);
  EXPECT_TRUE(spool_.Submit(0, [](Transaction& t) { t.Put("key", "value"); }));
  spool_.clock.RunUntilIdle();
  EXPECT_EQ(GetStatus().queued_bytes, 0u);
  EXPECT_TRUE(spool_.Append("a", "x"));
}

TEST_F(SpoolTest, CloseCompletesWhatWasTakenAndTakesNoMore) {
  Open();
  int done = 0;
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(spool_.Append("a", std::string(10'000, 'x'), [&](const auto& result) {
      EXPECT_TRUE(result);
      ++done;
    }));
  spool_.spool->Close();
  EXPECT_EQ(done, 40);
  EXPECT_FALSE(spool_.Append("a", "x"));
  EXPECT_FALSE(GetStatus().accepting);
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("a").size(), 40u);
}

TEST_F(SpoolTest, TenThousandStreamsShareOneLog) {
  spool_.options.segment_bytes = 4 << 20;
  Open();
  constexpr int kStreams = 10'000;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kStreams; ++i)
      ASSERT_TRUE(spool_.Append("topic-" + std::to_string(i),
                                "entry " + std::to_string(round) + " of " + std::to_string(i)));
    spool_.clock.RunUntilIdle();
  }
  const auto expect = [&](int i) {
    EXPECT_THAT(spool_.ReadAll("topic-" + std::to_string(i)),
                ElementsAre("entry 0 of " + std::to_string(i), "entry 1 of " + std::to_string(i),
                            "entry 2 of " + std::to_string(i)));
  };
  EXPECT_EQ(GetStatus().streams, static_cast<uint32_t>(kStreams));
  for (int i = 0; i < kStreams; i += 97) expect(i);
  spool_.Reopen();
  EXPECT_EQ(spool_.spool->Streams().size(), static_cast<size_t>(kStreams));
  for (int i = 0; i < kStreams; i += 97) expect(i);
}

TEST_F(SpoolTest, EntriesAreFoundByTime) {
  Open();
  const auto at = [&](int64_t timestamp_ms, int64_t from = 0) -> int64_t {
    const auto found = spool_.spool->FindByTime(Id("a"), timestamp_ms, from);
    EXPECT_TRUE(found);
    return *found ? (*found)->base_offset : -1;
  };
  ASSERT_TRUE(spool_.AppendNow("other", std::string(100, 'x'), 1, 1'000'000));
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(spool_.AppendNow("a", std::string(50'000, 'x'), 2, i == 30 ? 5000 : 1000 + i));
  for (int reopened = 0; reopened < 2; ++reopened) {
    EXPECT_EQ(at(0), 0);
    EXPECT_EQ(at(1010), 20);
    EXPECT_EQ(at(1029), 58);
    EXPECT_EQ(at(1031), 60);  // The one out of order comes first.
    EXPECT_EQ(at(1099), 60);
    EXPECT_EQ(at(5000), 60);
    EXPECT_EQ(at(5001), -1);
    EXPECT_EQ(at(1010, 61), 60) << "it contains that";
    EXPECT_EQ(at(1010, 62), 62);
    EXPECT_EQ(at(5000, 62), -1);
    EXPECT_EQ(at(0, 200), -1);
    spool_.Reopen();
  }
  ASSERT_TRUE(spool_.TrimNow("a", 63));
  EXPECT_EQ(at(0), 62);  // The entry that contains the start.
  EXPECT_EQ(at(1099), 198);
  EXPECT_EQ(at(5000), -1);
}

TEST_F(SpoolTest, ASecondSpoolOnTheDirectoryIsRefused) {
  Open();
  TestSpool second(directory_.path());
  const auto opened = second.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kUnavailable);
  EXPECT_THAT(opened.error().message, HasSubstr("pid " + std::to_string(getpid())));
  EXPECT_TRUE(spool_.AppendNow("a", "undisturbed"));
  spool_.Close();
  EXPECT_TRUE(second.Open());
}

TEST_F(SpoolTest, AForeignDirectoryIsLeftAlone) {
  std::ofstream(directory_.path() + "/precious.txt") << "data";
  const auto opened = spool_.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_THAT(opened.error().message, HasSubstr("precious.txt"));
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_.path()))
    ++files;
  EXPECT_EQ(files, 1u);
}

// What is in a directory, and what it says.
std::map<std::string, std::string> Contents(const std::string& directory) {
  std::map<std::string, std::string> contents;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    std::ifstream in(file.path(), std::ios::binary);
    contents[file.path().filename()] = std::string(std::istreambuf_iterator<char>(in), {});
  }
  return contents;
}

// Opens the spool in a child, after `prepare` there. Returns the error's text, or "" if it opened;
// nothing if the child could not be prepared.
std::optional<std::string> ErrorInChild(const std::string& directory,
                                        const std::function<bool()>& prepare) {
  int ends[2];
  if (pipe(ends) != 0) return std::nullopt;
  const pid_t child = fork();
  if (child == 0) {
    if (!prepare()) _exit(2);
    TestSpool spool(directory);
    const auto opened = spool.Open();
    const std::string text = opened ? "" : opened.error().message;
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 3);
  }
  close(ends[1]);
  std::string text(4096, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(read(ends[0], text.data(), text.size()), 0)));
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;
  return text;
}

constexpr uid_t kNobody = 65534;

TEST_F(SpoolTest, AnotherUsersSpoolIsLeftAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  const auto before = Contents(directory_.path());
  // May read and write all of it, but is not its owner.
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory_.path()))
    std::filesystem::permissions(file.path(), std::filesystem::perms::all);
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::all);
  auto error = ErrorInChild(directory_.path(), [] { return seteuid(kNobody) == 0; });
  ASSERT_TRUE(error);
  EXPECT_THAT(*error, HasSubstr("belongs to user 0, and this process runs as 65534"));
  // May not even look.
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::owner_all);
  error = ErrorInChild(directory_.path(), [] { return seteuid(kNobody) == 0; });
  ASSERT_TRUE(error);
  EXPECT_THAT(*error, HasSubstr("Permission denied"));
  EXPECT_EQ(Contents(directory_.path()), before);
}

TEST_F(SpoolTest, AReadOnlyFileSystemIsAClearError) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  const auto before = Contents(directory_.path());
  const std::string& path = directory_.path();
  const auto error = ErrorInChild(path, [&] {
    return unshare(CLONE_NEWNS) == 0 &&
           mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount(path.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) == 0 &&
           mount(nullptr, path.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  });
  if (!error) GTEST_SKIP() << "no mounts of its own here";
  EXPECT_THAT(*error, HasSubstr("Read-only file system"));
  EXPECT_EQ(Contents(path), before);
}

// Half of it is no spool that anybody wants back.
TEST_F(SpoolTest, ARemovalThatWasCutOffIsFinishedByWhoOpensTheSpool) {
  for (const bool full : {false, true}) {  // Whether the disk was, which had no block for a word.
    Open();
    ASSERT_TRUE(spool_.AppendNow("a", "one"));
    const SpoolId id = spool_.spool->GetStatus().id;
    spool_.Close();
    std::ofstream(directory_.path() + "/EXPORTED") << (full ? "" : "this spool is being dropped\n");
    if (full) std::ofstream(directory_.path() + "/REMOVING");
    const auto view = Directory::Look(directory_.path());
    ASSERT_TRUE(view);
    EXPECT_TRUE(view->being_removed);
    EXPECT_EQ(view->exported, std::nullopt);
    EXPECT_THAT(Directory::OpenExisting(directory_.path())->CheckExported().error().message,
                HasSubstr("being removed"));
    EXPECT_TRUE(Directory::Check(directory_.path()));
    Open();
    EXPECT_EQ(spool_.spool->FindStream("a"), std::nullopt);
    EXPECT_NE(spool_.spool->GetStatus().id, id);
    EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/REMOVING"));
    spool_.Close();
  }
}

// Only what RemoveAll writes says that nobody wants the spool.
TEST_F(SpoolTest, ASpoolWhoseMarkSaysNothingStaysAsItIs) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  const std::string mark = directory_.path() + "/EXPORTED";
  const size_t segments = Directory::ListSegments(directory_.path())->size();
  const auto expect_refused = [&] {
    const auto view = Directory::Look(directory_.path());
    EXPECT_FALSE(view && view->being_removed);
    EXPECT_FALSE(Directory::Check(directory_.path()));
    EXPECT_FALSE(spool_.Open());
    EXPECT_EQ(Directory::ListSegments(directory_.path())->size(), segments);
  };
  std::filesystem::create_directory(mark);
  expect_refused();
  std::filesystem::remove(mark);
  std::ofstream(mark).flush();
  expect_refused();
  std::filesystem::remove(mark);
  Open();
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("one"));
}

// Of a removal that got to its end but for that file.
TEST_F(SpoolTest, AMarkOfARemovalThatIsOverGoes) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  std::ofstream(directory_.path() + "/REMOVING").flush();
  Open();
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("one"));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/REMOVING"));
}

TEST_F(SpoolTest, ADirectoryThatCannotBeListedToItsEndIsAnError) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  const auto directory = Directory::OpenExisting(directory_.path());
  ASSERT_TRUE(directory);
  list_error = ESTALE;
  for (const int entries : {0, 1, 3}) {
    entries_until_error = entries;
    EXPECT_THAT(Directory::ListSegments(directory_.path()).error().message, HasSubstr("Stale"));
    entries_until_error = entries;
    EXPECT_THAT(directory->Segments().error().message, HasSubstr("Stale"));
  }
  list_error = 0;
  EXPECT_TRUE(directory->Segments());
}

TEST_F(SpoolTest, ASegmentOfAnotherSpoolIsLeftAlone) {
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.Close();
  TemporaryDirectory other;
  TestSpool theirs(other.path());
  ASSERT_TRUE(theirs.Open());
  ASSERT_TRUE(theirs.AppendNow("b", "two"));
  theirs.Close();
  std::string segment;
  for (const auto& [name, bytes] : Contents(other.path()))
    if (name.ends_with(".segment")) segment = name;
  std::filesystem::copy_file(other.path() + "/" + segment,
                             directory_.path() + "/00000000000000000077.segment");
  const auto before = Contents(directory_.path());
  const auto opened = spool_.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_THAT(opened.error().message, HasSubstr("belongs to another spool"));
  auto after = Contents(directory_.path());
  after.erase("00000000000000000077.segment-lock");
  after["LOCK"] = before.at("LOCK");  // The pid.
  EXPECT_EQ(after, before);
}

TEST_F(SpoolTest, ANewerFormatIsLeftAlone) {
  std::ofstream(directory_.path() + "/HOLDFAST") << "holdfast spool\nformat 3\nid 00\n";
  const auto opened = spool_.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
  EXPECT_THAT(opened.error().message, HasSubstr("format 3"));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/LOCK"));
}

TEST_F(SpoolTest, ALimitTooSmallForASpoolIsRefused) {
  spool_.options.bytes_max = 1000;
  const auto opened = spool_.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Code::kInvalid);
}

TEST_F(SpoolTest, MetricsCountWhatHappened) {
  spool_.options.metrics = &registry_;
  Open();
  ASSERT_TRUE(spool_.AppendNow("a", std::string(500, 'x'), 7));
  const std::string page = registry_.Expose();
  EXPECT_THAT(page, HasSubstr("holdfast_spool_appended_records_total 7"));
  EXPECT_THAT(page, HasSubstr("holdfast_spool_appended_bytes_total 500"));
  EXPECT_THAT(page, HasSubstr("holdfast_spool_commits_total 1"));
}

}  // namespace
}  // namespace holdfast::spool
