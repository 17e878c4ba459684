// A power cut amid the newest commit leaves any of its sectors out: what was acknowledged before is
// there, the commit is there whole or not at all, nothing counts as damage, and the spool goes on.
// tests/power_cut cuts everywhere; this is every sector of one commit, and who reads what is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "base/random.h"
#include "metrics/registry.h"
#include "spool/compaction.h"
#include "spool/directory.h"
#include "spool/frame.h"
#include "spool/offline.h"
#include "spool/page_check.h"
#include "spool/segment_file.h"
#include "spool/verify.h"
#include "tests/spool/spool_fixture.h"
#include "tests/support/sanitizers.h"

namespace holdfast::spool {
namespace {

using testing::AnyOf;
using testing::Eq;
using testing::IsEmpty;
using testing::IsSupersetOf;

constexpr size_t kSectorBytes = 512;

std::string ReadFile(const std::string& path) {
  std::string bytes(std::filesystem::file_size(path), '\0');
  std::ifstream(path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
  return bytes;
}

bool Says(metrics::Registry& registry, const std::string& line) {
  return registry.Expose().find("\n" + line + "\n") != std::string::npos;
}

class TornTest : public testing::Test {
 protected:
  TornTest() { base::SetLogLevel(base::LogLevel::kError); }

  // The spool before its newest commit and after it.
  void Make(const std::vector<size_t>& acked, size_t newest) {
    ASSERT_TRUE(spool_.Open());
    for (const size_t bytes : acked) ASSERT_TRUE(spool_.AppendNow("a", Entry(bytes)));
    acked_ = spool_.ReadAll("a");
    before_ = ReadFile(segment_);
    ASSERT_TRUE(spool_.AppendNow("a", Entry(newest)));
    with_newest_ = spool_.ReadAll("a");
    after_ = ReadFile(segment_);
    for (size_t sector = 0; sector < after_.size() / kSectorBytes; ++sector)
      if (Sector(before_, sector) != Sector(after_, sector)) written_.push_back(sector);
    ASSERT_THAT(written_, testing::Contains(AnyOf(0u, 4096 / kSectorBytes))) << "its meta page";
  }

  static std::string Entry(size_t bytes) {
    return std::to_string(bytes) + ":" + std::string(bytes, static_cast<char>('a' + bytes % 23));
  }
  static std::string_view Sector(const std::string& bytes, size_t sector) {
    return std::string_view(bytes).substr(sector * kSectorBytes, kSectorBytes);
  }

  // The spool as the power cut leaves it that keeps these sectors from the disk.
  void Cut(const std::vector<size_t>& missing) {
    namespace fs = std::filesystem;
    fs::remove_all(image_);
    fs::copy(directory_.path(), image_, fs::copy_options::recursive);
    std::string bytes = after_;
    for (const size_t sector : missing)
      Sector(before_, sector).copy(bytes.data() + sector * kSectorBytes, kSectorBytes);
    std::ofstream(Directory::SegmentPath(image_, 1), std::ios::binary)
        .write(bytes.data(), std::ssize(bytes));
  }

  // What it wrote, but for its meta page.
  [[nodiscard]] std::vector<size_t> BehindTheMetaPages() const {
    std::vector<size_t> sectors = written_;
    std::erase_if(sectors, [](size_t sector) { return sector < 2 * 4096 / kSectorBytes; });
    return sectors;
  }

  // Says whether the newest commit is there.
  bool ExpectWhole() {
    metrics::Registry first;  // They outlive the spool.
    metrics::Registry second;
    TestSpool spool(image_);
    spool.options.metrics = &first;
    const auto opened = spool.Open();
    EXPECT_TRUE(opened) << opened.error().message;
    if (!opened) return false;
    std::vector<std::string> found = spool.ReadAll("a");
    EXPECT_THAT(found, AnyOf(Eq(acked_), Eq(with_newest_)));
    EXPECT_EQ(spool.Get("count/0"), std::to_string(found.size()));
    const bool newest = found.size() > acked_.size();
    EXPECT_TRUE(spool.AppendNow("a", "more"));
    found.emplace_back("more");
    spool.options.metrics = &second;
    spool.Reopen();
    EXPECT_EQ(spool.ReadAll("a"), found);
    for (metrics::Registry* registry : {&first, &second}) {
      EXPECT_TRUE(Says(*registry, "holdfast_spool_damaged_segments_total 0"));
      EXPECT_TRUE(Says(*registry, "holdfast_spool_damaged_frames_total 0"));
    }
    return newest;
  }

  TemporaryDirectory directory_;
  TemporaryDirectory scratch_;
  const std::string image_ = scratch_.path() + "/image";
  const std::string segment_ = Directory::SegmentPath(directory_.path(), 1);
  TestSpool spool_{directory_.path()};
  std::vector<std::string> acked_;
  std::vector<std::string> with_newest_;
  std::string before_;
  std::string after_;
  std::vector<size_t> written_;  // Sectors.
};

// Of the newest commit's entry: in a page among others, in some of its own, in many.
class TornCommitTest : public TornTest, public testing::WithParamInterface<size_t> {
 protected:
  TornCommitTest() { Make({100, 40'000, 300, 70, 3'000, 100, 200}, GetParam()); }
};

TEST_P(TornCommitTest, WhicheverSectorIsMissing) {
  size_t kept = 0;
  size_t left_out = 0;
  for (size_t i = 0; i < written_.size() && !HasFailure(); ++i) {
    Cut({written_[i]});
    ++(ExpectWhole() ? kept : left_out);
  }
  // Without a page of the tree all is there, without one of the frame nothing.
  EXPECT_GT(kept, 0u);
  EXPECT_GT(left_out, 0u);
}

TEST_P(TornCommitTest, WhicheverSectorsAreMissing) {
  base::Random random(GetParam());
  for (int i = 0; i < 100 && !HasFailure(); i += test::kEveryOf) {
    std::vector<size_t> missing;
    const uint64_t one_in = 1 + random.Below(4);
    for (const size_t sector : written_)
      if (random.Below(one_in) == 0) missing.push_back(sector);
    Cut(missing);
    ExpectWhole();
  }
}

TEST_P(TornCommitTest, WhoReadsWithoutOwningSeesTheSame) {
  for (size_t i = 0; i < written_.size() && !HasFailure(); i += 5) {
    Cut({written_[i]});
    std::vector<std::string> read;
    const auto view = OfflineView::Open(image_);
    ASSERT_TRUE(view) << view.error().message;
    const auto damaged = [](const base::Error& error) { ADD_FAILURE() << error.message; };
    ASSERT_TRUE((*view)->Read(
        *(*view)->state().FindStream("a"), 0,
        [&](const EntryInfo&, std::string_view bytes) {
          read.emplace_back(bytes);
          return true;
        },
        damaged));
    EXPECT_THAT(read, AnyOf(Eq(acked_), Eq(with_newest_)));
    const auto verified = Verify(image_, {});
    ASSERT_TRUE(verified) << verified.error().message;
    EXPECT_THAT(verified->damages, IsEmpty());
    EXPECT_EQ(verified->entries, read.size());
    EXPECT_EQ(ExpectWhole(), read.size() > acked_.size());
  }
}

TEST_P(TornCommitTest, WhatIsLeftCanBeDroppedWithoutTheAgent) {
  Cut(BehindTheMetaPages());
  const auto dropped = DropBacklogs(image_, {}, std::vector{StreamId(0)}, {}, 1);
  ASSERT_TRUE(dropped) << dropped.error().message;
  TestSpool spool(image_);
  ASSERT_TRUE(spool.Open());
  EXPECT_THAT(spool.ReadAll("a"), IsEmpty());
  EXPECT_GE(spool.spool->Range(StreamId(0)).start, static_cast<int64_t>(acked_.size()));
}

TEST_P(TornCommitTest, ItsFileIsUsedAgain) {
  Cut(BehindTheMetaPages());
  metrics::Registry registry;
  TestSpool spool(image_);
  spool.options.metrics = &registry;
  ASSERT_TRUE(spool.Open());
  EXPECT_TRUE(Says(registry, "holdfast_spool_free_segments 0"));
  ASSERT_TRUE(spool.TrimNow("a", spool.spool->Range(StreamId(0)).end));
  EXPECT_TRUE(Says(registry, "holdfast_spool_free_segments 1"));
}

// What was lost before, and said then, is not lost once more.
TEST_P(TornCommitTest, WhatARepairLeftOutIsNoNewDamage) {
  Cut({});
  std::string bytes = ReadFile(Directory::SegmentPath(image_, 1));
  const std::string lost = Entry(40'000);
  const size_t frame = bytes.rfind("HFF1", bytes.find(lost));
  bytes[frame + 36] ^= 1;  // Of the checksum before, which is under its own.
  std::ofstream(Directory::SegmentPath(image_, 1), std::ios::binary)
      .write(bytes.data(), std::ssize(bytes));
  const auto repaired = Repair(image_, {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  ASSERT_THAT(repaired->damages, testing::SizeIs(1));
  const std::string before = ReadFile(Directory::SegmentPath(image_, 1));
  std::string after;
  {
    TestSpool spool(image_);
    ASSERT_TRUE(spool.Open());
    ASSERT_TRUE(spool.AppendNow("a", Entry(GetParam())));
    after = ReadFile(Directory::SegmentPath(image_, 1));
  }
  for (size_t sector = 2 * 4096 / kSectorBytes; sector < after.size() / kSectorBytes; ++sector)
    Sector(before, sector).copy(after.data() + sector * kSectorBytes, kSectorBytes);
  std::ofstream(Directory::SegmentPath(image_, 1), std::ios::binary)
      .write(after.data(), std::ssize(after));
  const auto verified = Verify(image_, {});
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->torn_segment);
  EXPECT_THAT(verified->damages, IsEmpty());
  EXPECT_EQ(verified->entries, with_newest_.size() - 1);
}

TEST_P(TornCommitTest, AllThatACommitWroteIsWrittenAgain) {
  const std::vector<uint64_t> pages = PagesOfNewestCommit(after_);
  EXPECT_TRUE(std::is_sorted(pages.begin(), pages.end()));
  std::vector<uint64_t> changed;
  for (const size_t sector : written_) {
    const uint64_t page = sector * kSectorBytes / 4096;
    if (page >= 2 && (changed.empty() || changed.back() != page)) changed.push_back(page);
  }
  EXPECT_THAT(pages, IsSupersetOf(changed));
  EXPECT_LE(pages.size(), changed.size() + 8) << "and little else";
}

TEST_P(TornCommitTest, WhatFailedIsNotReadThroughTheTreeThatLeadsToIt) {
  Cut({});
  const Origin origin{Directory::Look(image_)->id, 1};
  const std::string path = Directory::SegmentPath(image_, 1);
  const auto open = [&](uint64_t commits) {
    auto file = SegmentFile::Open(path, origin, lmdb::Access::kRead, {}, nullptr,
                                  CommitNumber(1 + commits));
    EXPECT_TRUE(file) << file.error().message;
    return *std::move(file);
  };
  EXPECT_TRUE(open(acked_.size())->torn()) << "the next segment says that it does not count";
  EXPECT_FALSE(open(acked_.size() + 1)->salvaged());
}

TEST_P(TornCommitTest, OfOneThatCountsDamageCostsWhatItHits) {
  Cut({});
  {
    TestSpool spool(image_);  // It is acknowledged now, and the next segment says so.
    ASSERT_TRUE(spool.Open());
    spool.spool->SealSoon();
    spool.clock.RunUntilIdle();
  }
  std::string bytes = ReadFile(Directory::SegmentPath(image_, 1));
  const size_t at = bytes.find(with_newest_.back());
  bytes[at + 40] ^= 1;
  std::ofstream(Directory::SegmentPath(image_, 1), std::ios::binary)
      .write(bytes.data(), std::ssize(bytes));
  TestSpool spool(image_);
  ASSERT_TRUE(spool.Open());
  EXPECT_EQ(spool.spool->Range(StreamId(0)).end, static_cast<int64_t>(with_newest_.size()));
  const int64_t last = spool.spool->Range(StreamId(0)).end - 1;
  const auto lease = spool.spool->Read(StreamId(0), last, 1 << 20);
  // A small frame is all under one checksum; of a large one who reads the entry finds out.
  EXPECT_EQ(lease.has_value(), GetParam() > 16'384);
}

// A frame of that number which a killed process left and nothing led to, of a later time, since
// clocks go back: which of two counts is what the tree of the commit before says.
TEST_P(TornCommitTest, AFrameThatNobodyLedToIsNotTakenForOneThatCounts) {
  const SpoolId id = Directory::Look(directory_.path())->id;
  const auto places = FramesBeforeNewestCommit(after_);
  ASSERT_TRUE(places && !places->empty());
  const auto& [number, offset] = *places->rbegin();
  const auto last = FrameView::Parse(std::string_view(after_).substr(offset));
  ASSERT_TRUE(last);
  const DraftEntry entry{{.stream = StreamId(0), .bytes = "left behind", .record_count = 1},
                         last->info(0).base_offset};
  const FrameDraft draft{.seed = Origin{id, 1}.Seed(),
                         .previous = last->previous(),
                         .commit = CommitNumber(number),
                         .commit_time_ms = last->commit_time_ms() + 1000,
                         .entries = {&entry, 1},
                         .changes = {}};
  std::string twin(draft.FrameBytes(), '\0');
  EncodeFrame(draft, twin);
  const size_t unused = after_.size() - 8192 + 16;
  after_.replace(unused, twin.size(), twin);
  Cut(BehindTheMetaPages());
  EXPECT_FALSE(ExpectWhole());
}

INSTANTIATE_TEST_SUITE_P(Bytes, TornCommitTest, testing::Values(50, 20'000, 150'000));

// Where small frames share pages, of any number, a page that is split is copied, too.
class TornPageTest : public TornTest, public testing::WithParamInterface<int> {};

TEST_P(TornPageTest, CostsNoneOfTheFramesThatAreInIt) {
  base::Random random(GetParam());
  const auto bytes = [&] {
    return random.Below(4) == 0 ? 1'750 + random.Below(250) : random.Below(1'700);
  };
  std::vector<size_t> acked(3 + random.Below(9));
  for (size_t& each : acked) each = bytes();
  ASSERT_NO_FATAL_FAILURE(Make(acked, bytes()));
  for (size_t i = 0; i < written_.size() && !HasFailure(); i += test::kEveryOf) {
    Cut({written_[i]});
    ExpectWhole();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, TornPageTest, testing::Range(0, 60));

// As found once: the left half of a page that is split is copied, and what its first frame holds is
// nowhere near the newest.
TEST_F(TornTest, ASplitPage) {
  Make({1'350, 950, 950}, 1'750);
  for (const size_t sector : written_) {
    Cut({sector});
    ExpectWhole();
  }
}

}  // namespace
}  // namespace holdfast::spool
