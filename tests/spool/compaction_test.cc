// What makes a spool smaller, and takes nothing that anybody needs.
#include "spool/compaction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/log.h"
#include "spool/directory.h"
#include "spool/segment_file.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using testing::IsEmpty;

class CompactionTest : public testing::Test {
 protected:
  CompactionTest() { base::SetLogLevel(base::LogLevel::kError); }

  // One entry in ten is of the stream that holds everything back.
  void Fill(int entries = 300) {
    ASSERT_TRUE(spool_.Open());
    for (int i = 0; i < entries; ++i)
      ASSERT_TRUE(spool_.AppendNow(i % 10 == 0 ? "stuck" : "moving",
                                   "#" + std::to_string(i) + std::string(20'000, 'x')));
  }
  uint64_t DiskBytes() {
    uint64_t bytes = 0;
    const auto files = Directory::ListSegments(directory_.path());
    for (const auto& file : *files) bytes += file.bytes;
    return bytes;
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

// As a lost newest one leaves it. Nobody writes to a sealed segment, so it is written anew.
TEST_F(CompactionTest, ABacklogIsDroppedIfTheNewestSegmentIsSealed) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "one"));
  spool_.spool->SealSoon();
  spool_.clock.RunUntilIdle();
  spool_.Close();
  std::filesystem::remove(Directory::SegmentPath(directory_.path(), 2));
  const auto sealed = [&] {
    const Origin origin{Directory::Look(directory_.path())->id, 1};
    return (*SegmentFile::Open(Directory::SegmentPath(directory_.path(), 1), origin,
                               lmdb::Access::kRead, {}, nullptr))
        ->sealed();
  };
  ASSERT_TRUE(sealed());
  ASSERT_TRUE(DropBacklogs(directory_.path(), {}, std::vector{StreamId(0)}, {}, 1));
  EXPECT_FALSE(sealed());
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.spool->Range(StreamId(0)).start, 1);
}

TEST_F(CompactionTest, ASegmentKeepsOnlyWhatIsStillNeeded) {
  Fill();
  const StreamId moving = *spool_.spool->FindStream("moving");
  ASSERT_TRUE(spool_.TrimNow("moving", spool_.spool->Range(moving).end));
  const auto stuck = spool_.ReadAll("stuck");
  const auto count = spool_.Get("count/1");
  const CommitNumber durable = spool_.spool->GetStatus().durable;
  const auto seen = spool_.owner.seen;
  spool_.Close();
  const uint64_t before = DiskBytes();

  const auto report = Compact(directory_.path(), {}, nullptr);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GE(report->rewritten_segments, 4u);
  EXPECT_EQ(DiskBytes(), before - report->freed_bytes);
  EXPECT_LT(DiskBytes(), before / 2);

  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("stuck"), stuck);
  EXPECT_THAT(spool_.ReadAll("moving"), IsEmpty());
  EXPECT_EQ(spool_.spool->GetStatus().durable, durable);
  EXPECT_EQ(spool_.owner.seen, seen);
  EXPECT_EQ(spool_.Get("count/1"), count);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(spool_.AppendNow("stuck", std::string(30'000, 'y')));
  ASSERT_TRUE(spool_.TrimNow("stuck", 30));
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("stuck").size(), 100u);
  EXPECT_EQ(spool_.spool->GetStatus().disk_bytes, DiskBytes());
}

TEST_F(CompactionTest, WhatIsNeededIsLeftAlone) {
  Fill();
  spool_.Close();
  const uint64_t before = DiskBytes();
  const auto report = Compact(directory_.path(), {}, nullptr);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->rewritten_segments + report->removed_segments, 0u);
  EXPECT_EQ(DiskBytes(), before);
}

TEST_F(CompactionTest, AnEncryptedSegmentStaysEncrypted) {
  const KeyRing keys = *KeyRing::Parse(std::vector<std::string>{std::string(64, 'a')});
  spool_.options.encryption_keys = keys;
  Fill();
  ASSERT_TRUE(spool_.TrimNow("moving", 200));
  const auto stuck = spool_.ReadAll("stuck");
  spool_.Close();
  EXPECT_FALSE(Compact(directory_.path(), {}, nullptr));
  const auto report = Compact(directory_.path(), keys, nullptr);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(report->rewritten_segments, 0u);
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("stuck"), stuck);
}

TEST_F(CompactionTest, ADroppedBacklogIsGoneAndItsStreamGoesOn) {
  Fill();
  const auto moving = spool_.ReadAll("moving");
  const StreamId stuck = *spool_.spool->FindStream("stuck");
  const auto seen = spool_.owner.seen;
  spool_.Close();
  const auto report = DropBacklogs(directory_.path(), {}, std::vector{stuck}, {{"key", "kept"}}, 1);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->removed_segments, 0u);
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.owner.seen, seen);
  EXPECT_EQ(spool_.Get("key"), "kept");
  EXPECT_EQ(spool_.spool->Range(stuck).start, 30);
  ASSERT_TRUE(spool_.AppendNow("stuck", "next"));
  EXPECT_EQ(spool_.spool->Range(stuck).end, 31);
  EXPECT_EQ(spool_.ReadAll("stuck"), std::vector<std::string>{"next"});
  EXPECT_EQ(spool_.ReadAll("moving"), moving);
}

TEST_F(CompactionTest, WhenAllIsDroppedOnlyTheNewestSegmentStays) {
  Fill();
  spool_.Close();
  const std::vector<StreamId> all = {StreamId(0), StreamId(1)};
  const auto report = DropBacklogs(directory_.path(), {}, all, {}, 1);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GE(report->removed_segments, 4u);
  EXPECT_EQ(Directory::ListSegments(directory_.path())->size(), 1u);
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(spool_.ReadAll("stuck"), IsEmpty());
}

// The trims of so many streams find no room behind the last frame before the next segment.
TEST_F(CompactionTest, DroppingWorksInAFullSegment) {
  constexpr uint32_t kStreams = 20'000;
  const auto fill = [&](TestSpool& spool, int entries_max) {
    EXPECT_TRUE(spool.Open());
    EXPECT_TRUE(spool.Submit(0, [](Transaction& transaction) {
      for (uint32_t i = 0; i < kStreams; ++i) transaction.OpenStream("stream " + std::to_string(i));
    }));
    spool.clock.RunUntilIdle();
    const uint32_t segments = spool.spool->GetStatus().segments;
    int entries = 0;
    for (; entries < entries_max && spool.spool->GetStatus().segments == segments; ++entries)
      EXPECT_TRUE(spool.AppendNow("stream 7", std::string(10'000, 'x')));
    spool.Close();
    return entries;
  };
  const TemporaryDirectory trial;
  TestSpool first(trial.path());
  const int entries = fill(first, 10'000);
  fill(spool_, entries - 1);
  const uint64_t before = DiskBytes();

  std::vector<StreamId> all;
  for (uint32_t i = 0; i < kStreams; ++i) all.emplace_back(i);
  const auto report = DropBacklogs(directory_.path(), {}, all, {}, 1);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_GT(DiskBytes(), before);  // The segment had to grow.
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(spool_.ReadAll("stream 7"), IsEmpty());
  EXPECT_EQ(spool_.spool->Range(StreamId(7)).start, entries - 1);
  EXPECT_EQ(spool_.owner.seen[7], entries - 1);
  EXPECT_TRUE(spool_.AppendNow("stream 7", "next"));
}

// So much state that its checkpoint has two pieces: in the first the streams, in the second the
// older segments.
class LostPieceTest : public CompactionTest, public testing::WithParamInterface<uint32_t> {};

TEST_P(LostPieceTest, NothingIsTakenForUnneeded) {
  ASSERT_TRUE(spool_.Open());
  for (int i = 0; i < 300; ++i) {
    const std::string key = "key " + std::to_string(i);
    ASSERT_TRUE(spool_.Submit(
        0, [key](Transaction& transaction) { transaction.Put(key, std::string(1024, 'v')); }));
  }
  const std::vector<std::string> names = {"a", "b", "c"};
  for (const std::string& name : names) ASSERT_TRUE(spool_.AppendNow(name, "entry of " + name));
  spool_.spool->SealSoon();
  spool_.clock.RunUntilIdle();
  ASSERT_EQ(spool_.Get("key 7"), std::string(1024, 'v'));
  spool_.Close();
  const auto segments = Directory::ListSegments(directory_.path());
  ASSERT_EQ(segments->size(), 2u);
  const std::string newest = Directory::SegmentPath(directory_.path(), segments->back().number);
  ASSERT_EQ(DamagePiece(newest, GetParam()), 2);

  EXPECT_EQ(Compact(directory_.path(), {}, nullptr).error().code, base::Code::kCorrupt);
  EXPECT_EQ(DropBacklogs(directory_.path(), {}, std::vector<StreamId>(), {}, 1).error().code,
            base::Code::kCorrupt);
  ASSERT_EQ(Directory::ListSegments(directory_.path())->size(), 2u);
  ASSERT_TRUE(spool_.Open());
  for (const std::string& name : names)
    EXPECT_EQ(spool_.ReadAll(name), std::vector<std::string>{"entry of " + name});
  spool_.Close();
  ASSERT_TRUE(Compact(directory_.path(), {}, nullptr));
  ASSERT_TRUE(spool_.Open());
  for (const std::string& name : names)
    EXPECT_EQ(spool_.ReadAll(name), std::vector<std::string>{"entry of " + name});
}

INSTANTIATE_TEST_SUITE_P(Pieces, LostPieceTest, testing::Values(0, 1));

TEST_F(CompactionTest, ALiveSpoolIsNotTouched) {
  Fill(10);
  EXPECT_EQ(Compact(directory_.path(), {}, nullptr).error().code, base::Code::kUnavailable);
  EXPECT_EQ(DropBacklogs(directory_.path(), {}, std::vector{StreamId(0)}, {}, 1).error().code,
            base::Code::kUnavailable);
}

}  // namespace
}  // namespace holdfast::spool
