// A spool's directory as tools see it, without owning it.
#include "spool/offline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/log.h"
#include "spool/change.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class OfflineTest : public testing::Test {
 protected:
  OfflineTest() { base::SetLogLevel(base::LogLevel::kError); }

  // Several segments of two streams.
  void Fill(int entries) {
    ASSERT_TRUE(spool_.Open());
    for (int i = 0; i < entries; ++i) {
      const std::string name = i % 2 == 0 ? "even" : "odd";
      ASSERT_TRUE(spool_.AppendNow(name, Text(i), /*record_count=*/3, /*max_timestamp_ms=*/i));
    }
  }
  static std::string Text(int i) {
    return "#" + std::to_string(i) + ":" + std::string(30'000, 'x');
  }

  std::unique_ptr<OfflineView> Look() {
    auto view = OfflineView::Open(directory_.path());
    EXPECT_TRUE(view) << view.error().message;
    return view ? *std::move(view) : nullptr;
  }
  std::vector<std::string> Read(const OfflineView& view, const std::string& name, int64_t from) {
    std::vector<std::string> entries;
    const auto read = view.Read(
        *view.state().FindStream(name), from,
        [&](const EntryInfo& info, std::string_view bytes) {
          EXPECT_EQ(info.bytes, bytes.size());
          entries.emplace_back(bytes);
          return entries.size() < most_;
        },
        [&](const base::Error& error) { damage_.push_back(error.message); });
    EXPECT_TRUE(read);
    return entries;
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
  std::vector<std::string> damage_;
  size_t most_ = SIZE_MAX;
};

TEST_F(OfflineTest, ReadsWhatIsTrimmedWhileItsSegmentIsThere) {
  Fill(120);
  ASSERT_TRUE(spool_.TrimNow("even", 180));
  spool_.Close();
  const auto view = Look();
  const StreamId even = *view->state().FindStream("even");
  ASSERT_EQ(view->state().stream(even).start, 180);
  std::vector<int64_t> offsets;
  ASSERT_TRUE(view->ReadAlsoTrimmed(
      even, 31,
      [&](const EntryInfo& info, std::string_view bytes) {
        EXPECT_EQ(bytes, Text(static_cast<int>(info.base_offset / 3 * 2)));
        offsets.push_back(info.base_offset);
        return offsets.size() < 3;
      },
      [&](const base::Error& error) { damage_.push_back(error.message); }));
  EXPECT_THAT(offsets, ElementsAre(30, 33, 36));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(OfflineTest, WalksCommitsWithWhatTheyChanged) {
  Fill(120);
  ASSERT_TRUE(spool_.TrimNow("even", 30));
  spool_.Close();
  const auto view = Look();
  ASSERT_GT(view->segments().size(), 2U);
  const CommitNumber from = view->segments()[1].first_commit.next();
  std::vector<uint64_t> commits;
  int64_t trimmed = 0;
  ASSERT_TRUE(view->WalkCommits(
      from,
      [&](const FrameView& frame, std::string_view changes) {
        commits.push_back(frame.commit().value());
        ChangeReader reader(changes);
        for (Change change; reader.Next(&change);)
          if (change.kind == ChangeKind::kTrim) trimmed = change.start;
        return true;
      },
      [&](const base::Error& error) { damage_.push_back(error.message); }, nullptr));
  EXPECT_THAT(damage_, IsEmpty());
  EXPECT_EQ(trimmed, 30);
  ASSERT_EQ(commits.size(), view->newest_commit().value() - from.value() + 1);
  for (size_t i = 0; i < commits.size(); ++i) EXPECT_EQ(commits[i], from.value() + i);
}

TEST_F(OfflineTest, ShowsWhatTheSpoolItselfShows) {
  Fill(120);
  ASSERT_TRUE(spool_.TrimNow("even", 30));
  const Status status = spool_.spool->GetStatus();
  const auto expected = spool_.ReadAll("even");
  const StreamId even = *spool_.spool->FindStream("even");
  const auto count = spool_.Get("count/0");
  spool_.Close();
  const auto before = Names();

  const auto view = Look();
  ASSERT_GT(view->segments().size(), 2u);
  EXPECT_EQ(view->segments().size(), status.segments);
  EXPECT_EQ(view->newest_commit(), status.durable);
  EXPECT_EQ(view->state().streams().size(), 2u);
  EXPECT_EQ(view->state().stream(even).start, 30);
  EXPECT_EQ(view->state().stream(even).end, 180);
  EXPECT_EQ(view->state().Get("count/0"), count);
  uint64_t entry_bytes = 0;
  for (const auto& segment : view->segments()) entry_bytes += segment.entry_bytes;
  EXPECT_EQ(entry_bytes, status.entry_bytes);
  EXPECT_EQ(Read(*view, "even", 30), expected);
  EXPECT_THAT(damage_, IsEmpty());
  EXPECT_FALSE(view->directory().live);
  EXPECT_EQ(view->directory().owner, std::to_string(getpid()));
  EXPECT_EQ(Names(), before);
}

TEST_F(OfflineTest, ReadsFromTheEntryThatHoldsAnOffsetUntilItIsToldToStop) {
  Fill(120);
  spool_.Close();
  most_ = 2;
  const auto view = Look();
  EXPECT_THAT(Read(*view, "odd", 91), ElementsAre(Text(61), Text(63)));
  EXPECT_THAT(Read(*view, "odd", 179), ElementsAre(Text(119)));
  EXPECT_THAT(Read(*view, "odd", 180), IsEmpty());
}

TEST_F(OfflineTest, WalksAllThatIsNotTrimmedInTheOrderOfCommits) {
  Fill(120);
  ASSERT_TRUE(spool_.TrimNow("even", 179));  // Inside the last entry, which is still needed.
  ASSERT_TRUE(spool_.TrimNow("odd", 174));
  spool_.Close();
  const auto view = Look();
  std::vector<int64_t> times;
  uint64_t last_done = 0;
  const auto walked = view->WalkEntries(
      [&](const EntryInfo& info) {
        times.push_back(info.max_timestamp_ms);
        return true;
      },
      [](const base::Error& error) { ADD_FAILURE() << error.message; },
      [&](uint64_t done, uint64_t total) {
        EXPECT_LE(last_done, done);
        EXPECT_LE(done, total);
        last_done = done;
      });
  ASSERT_TRUE(walked);
  EXPECT_THAT(times, ElementsAre(117, 118, 119));
  EXPECT_GT(last_done, 0u);
}

TEST_F(OfflineTest, ReadsWhatACrashLeft) {
  Fill(120);
  // With lock files, and a segment behind the newest that was only prepared.
  const TemporaryDirectory left;
  std::filesystem::copy(directory_.path(), left.path(), std::filesystem::copy_options::recursive);
  const auto view = OfflineView::Open(left.path());
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_EQ(Read(**view, "even", 0), spool_.ReadAll("even"));
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(OfflineTest, SaysWhichOffsetsAreLostAndGoesOn) {
  Fill(120);
  spool_.Close();
  // The checksum of the frame that begins with this entry: byte 36 of its header.
  int damaged = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
    if (entry.path().extension() != ".segment") continue;
    std::string bytes(entry.file_size(), '\0');
    std::ifstream(entry.path(), std::ios::binary).read(bytes.data(), std::ssize(bytes));
    for (const int i : {10, 116}) {
      const size_t at = bytes.find("#" + std::to_string(i) + ":xxxx");
      if (at == std::string::npos) continue;
      const size_t frame = bytes.rfind("HFF1", at);
      bytes[frame + 36] ^= 1;
      ++damaged;
    }
    std::ofstream(entry.path(), std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }
  ASSERT_GE(damaged, 2);
  const auto view = Look();
  EXPECT_EQ(Read(*view, "even", 0).size(), 58u);
  ASSERT_EQ(damage_.size(), 2u);
  EXPECT_THAT(damage_[0], HasSubstr("even: offsets [15, 18) are lost"));
  EXPECT_THAT(damage_[0], HasSubstr("wrong checksum"));
}

TEST_F(OfflineTest, WhatIsTrimmedAndRetiredMeanwhileIsNotLost) {
  Fill(120);
  const auto view = Look();
  const StreamId even = *view->state().FindStream("even");
  int visited = 0;
  ASSERT_TRUE(view->Read(
      even, 0,
      [&](const EntryInfo&, std::string_view) {
        if (++visited != 1) return true;
        for (const char* const name : {"even", "odd"}) EXPECT_TRUE(spool_.TrimNow(name, 180));
        return true;
      },
      [&](const base::Error& error) { damage_.push_back(error.message); }));
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
  EXPECT_LT(visited, 60);
  EXPECT_THAT(damage_, IsEmpty());
}

TEST_F(OfflineTest, WhatIsNoSpoolIsLeftAlone) {
  const auto refused = [&](const std::string& path) {
    auto view = OfflineView::Open(path);
    EXPECT_FALSE(view);
    return view ? std::string() : view.error().message;
  };
  EXPECT_THAT(refused(directory_.path() + "/none"), HasSubstr("no such directory"));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/none"));
  EXPECT_THAT(refused(directory_.path()), HasSubstr("is empty"));
  std::ofstream(directory_.path() + "/notes") << "mine\n";
  EXPECT_THAT(refused(directory_.path()), HasSubstr("is not a spool"));
  EXPECT_THAT(refused(directory_.path() + "/notes"), HasSubstr("not a directory"));
  EXPECT_THAT(Names(), ElementsAre("notes"));
  std::ofstream(directory_.path() + "/HOLDFAST")
      << "holdfast spool\nformat 99\nid 00000000000000000000000000000000\n";
  EXPECT_THAT(refused(directory_.path()), HasSubstr("format 99"));
}

TEST_F(OfflineTest, AnOwnerIsSeenWithoutGettingInItsWay) {
  ASSERT_TRUE(spool_.Open());
  const auto live = Directory::Look(directory_.path());
  ASSERT_TRUE(live);
  EXPECT_TRUE(live->live);
  EXPECT_EQ(live->owner, std::to_string(getpid()));
  EXPECT_EQ(Directory::OpenExisting(directory_.path()).error().code, base::Code::kUnavailable);
  spool_.Close();
  EXPECT_FALSE(Directory::Look(directory_.path())->live);
  EXPECT_TRUE(Directory::OpenExisting(directory_.path()));
}

TEST_F(OfflineTest, ASpoolThatWasHandedOverDoesNotOpenUntilItIsTakenBack) {
  Fill(3);
  spool_.Close();
  {
    auto directory = Directory::OpenExisting(directory_.path());
    ASSERT_TRUE(directory->MarkExported("this spool was handed over to nowhere"));
  }
  const auto opened = spool_.Open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, base::Code::kInvalid);
  EXPECT_THAT(opened.error().message, HasSubstr("handed over to nowhere"));
  EXPECT_THAT(opened.error().message, HasSubstr("--undo"));
  EXPECT_EQ(Look()->directory().exported, "this spool was handed over to nowhere");
  {
    auto directory = Directory::OpenExisting(directory_.path());
    ASSERT_TRUE(directory);
    ASSERT_TRUE(directory->ClearExported());
  }
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("even").size(), 2u);
}

TEST_F(OfflineTest, ADroppedSpoolLeavesAnEmptyDirectory) {
  Fill(50);
  spool_.Close();
  std::ofstream(Directory::SegmentPath(directory_.path(), 77) + "-lock") << "of one that is gone";
  {
    auto directory = Directory::OpenExisting(directory_.path());
    ASSERT_TRUE(directory->KeepDamaged(1));
    ASSERT_TRUE(directory->RemoveAll());
  }
  EXPECT_THAT(Names(), ElementsAre("LOCK"));
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.spool->GetStatus().streams, 0u);
}

}  // namespace
}  // namespace holdfast::spool
