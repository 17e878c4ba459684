// Old segments written anew so that each stream's entries lie together.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "metrics/registry.h"
#include "spool/compaction.h"
#include "spool/run.h"
#include "spool/segment_file.h"
#include "spool/transfer.h"
#include "spool/verify.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using base::Code;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const Pace kAtOnce = [](size_t) { return true; };

class SortTest : public testing::Test {
 protected:
  void SetUp() override {
    spool_.options.segment_bytes = uint64_t{16} << 20;
    ASSERT_TRUE(spool_.Open());
  }
  StreamId Id(const std::string& name) { return *spool_.spool->FindStream(name); }
  // In turn, so that no stream's entries lie together.
  void Fill(const std::vector<std::string>& names, int rounds, size_t bytes = 100) {
    for (int i = 0; i < rounds; ++i)
      for (const std::string& name : names) {
        std::string entry = name + std::to_string(i) + std::string(bytes, '.');
        expected_[name].push_back(entry);
        ASSERT_TRUE(spool_.AppendNow(name, std::move(entry)));
      }
  }
  void Seal() {
    spool_.spool->SealSoon();
    spool_.clock.RunUntilIdle();
  }
  // Until there is nothing to do. Returns how many segments were written.
  uint64_t Sort() {
    for (uint64_t written = 0;; ++written) {
      const auto report = spool_.spool->Sort(spool_.writer.Now(), kAtOnce);
      EXPECT_TRUE(report) << report.error().message;
      spool_.clock.RunUntilIdle();
      if (!report || report->done) return written;
    }
  }
  void ExpectAll() {
    for (const auto& [name, entries] : expected_) EXPECT_EQ(spool_.ReadAll(name), entries);
  }
  std::vector<Damage> Damages() {
    const auto report = Verify(directory_.path(), {});
    EXPECT_TRUE(report) << report.error().message;
    return report ? report->damages : std::vector<Damage>{};
  }
  std::string FormatLine() {
    std::ifstream file(directory_.path() + "/HOLDFAST");
    std::string line;
    std::getline(file, line);
    std::getline(file, line);
    return line;
  }
  std::string SegmentPath(uint64_t number) {
    return Directory::SegmentPath(directory_.path(), number);
  }
  // Whether entries of the stream follow each other in memory, as far as one read goes.
  bool LieTogether(const std::string& name) {
    const auto lease = spool_.spool->Read(Id(name), 0, 1 << 20);
    EXPECT_TRUE(lease);
    if (!lease || lease->entries().size() < 2) return false;
    const char* end = nullptr;
    for (const EntryView& entry : lease->entries()) {
      if (end != nullptr && entry.bytes.data() != end) return false;
      end = entry.bytes.data() + entry.bytes.size();
    }
    return true;
  }
  // Overwrites bytes of the file at the first place where `what` stands.
  void Overwrite(const std::string& path, const std::string& what) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const size_t at = bytes.find(what);
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file << "xxxx";
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
  std::map<std::string, std::vector<std::string>> expected_;
};

TEST_F(SortTest, EntriesOfAStreamLieTogether) {
  Fill({"a", "b", "c"}, 50);
  Seal();
  EXPECT_FALSE(LieTogether("b"));
  EXPECT_EQ(FormatLine(), "format 1");
  EXPECT_EQ(Sort(), 1u);
  EXPECT_EQ(FormatLine(), "format 2") << "older programs cannot read it now, and have to know";
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(LieTogether("a"));
    EXPECT_TRUE(LieTogether("b"));
    EXPECT_TRUE(LieTogether("c"));
    ExpectAll();
    EXPECT_THAT(Damages(), IsEmpty());
    EXPECT_EQ(Sort(), 0u) << "once is enough";
    spool_.Reopen();
  }
  EXPECT_EQ(spool_.owner.seen[0], 50);
  const auto timely = spool_.spool->FindByTime(Id("a"), -1, 0);
  ASSERT_TRUE(timely && *timely);
  EXPECT_EQ((*timely)->base_offset, 0);
}

TEST_F(SortTest, WhatLiesTogetherAlreadyIsLeftAlone) {
  Fill({"a"}, 20);
  Seal();
  for (int i = 0; i < 3; ++i) Fill({"a", "b"}, 1, 300 << 10);
  Seal();
  // The files are cut to what they need, once.
  Sort();
  EXPECT_EQ(Sort(), 0u);
  ExpectAll();
}

TEST_F(SortTest, TheOpenSegmentStaysAsItIs) {
  Fill({"a", "b"}, 10);
  EXPECT_EQ(Sort(), 0u);
  Seal();
  Fill({"a", "b"}, 10);
  EXPECT_EQ(Sort(), 1u);
  ExpectAll();
  spool_.Reopen();
  Fill({"a", "b"}, 10);
  ExpectAll();
}

TEST_F(SortTest, SpaceOfWhatIsTrimmedComesBackThoughAStreamBesideItStays) {
  Fill({"a"}, 1);
  Fill({"gone"}, 20, 200 << 10);
  Seal();
  Fill({"a"}, 1);
  Sort();
  const uint64_t before = spool_.spool->GetStatus().disk_bytes;
  ASSERT_TRUE(spool_.TrimNow("gone", 10));
  EXPECT_EQ(Sort(), 0u) << "that is not looked at every time";
  spool_.clock.Advance(std::chrono::minutes(6));
  Sort();
  ASSERT_TRUE(spool_.TrimNow("gone", 20));
  spool_.clock.Advance(std::chrono::minutes(6));
  EXPECT_EQ(Sort(), 1u);
  EXPECT_LT(spool_.spool->GetStatus().disk_bytes + (3 << 20), before);
  expected_["gone"].clear();
  ExpectAll();
  spool_.clock.Advance(std::chrono::minutes(6));
  EXPECT_EQ(Sort(), 0u);
}

TEST_F(SortTest, SmallNeighboursAreJoined) {
  for (int i = 0; i < 8; ++i) {
    Fill({"a", "b"}, 3);
    Seal();
  }
  EXPECT_EQ(spool_.spool->GetStatus().segments, 9u);
  Sort();
  EXPECT_EQ(spool_.spool->GetStatus().segments, 2u);
  ExpectAll();
  EXPECT_THAT(Damages(), IsEmpty());
  spool_.Reopen();
  ExpectAll();
}

TEST_F(SortTest, EncryptedEntriesStayEncrypted) {
  spool_.options.encryption_keys = *KeyRing::Parse(std::vector{std::string(64, 'a')});
  spool_.Reopen();
  Fill({"a", "b"}, 30);
  Seal();
  EXPECT_GE(Sort(), 1u);
  spool_.Reopen();
  ExpectAll();
  spool_.Close();
  for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    EXPECT_THAT(bytes, Not(HasSubstr("a7...."))) << file.path();
  }
}

TEST_F(SortTest, EntriesOfALostRunAreListed) {
  spool_.options.encryption_keys = *KeyRing::Parse(std::vector{std::string(64, 'a')});
  spool_.Reopen();
  Fill({"a", "b"}, 20, 100 << 10);
  Seal();
  ASSERT_EQ(Sort(), 1u);
  spool_.Close();
  std::string path;  // Of the one that there is beside the open one.
  for (uint64_t number = 1; path.empty(); ++number)
    if (std::filesystem::exists(SegmentPath(number))) path = SegmentPath(number);
  Overwrite(path, "HFR1");
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 1000).error().code, Code::kCorrupt);
  const auto entries = spool_.spool->ListEntries(Id("a"), 0, 100);
  ASSERT_TRUE(entries) << entries.error().message;
  ASSERT_EQ(entries->size(), 20u);
  for (size_t i = 0; i < entries->size(); ++i)
    EXPECT_EQ(entries->at(i).bytes, expected_["a"][i].size());
}

TEST_F(SortTest, ALostRunCostsItsEntriesOnly) {
  Fill({"a", "b"}, 20, 100 << 10);  // Two runs of each, about.
  Seal();
  ASSERT_EQ(Sort(), 1u);
  spool_.Close();
  Overwrite(SegmentPath(1), "HFR1");
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("b"), expected_["b"]);
  EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 1000).error().code, Code::kCorrupt);
  const int64_t readable = *spool_.spool->NextReadable(Id("a"), 0);
  EXPECT_GT(readable, 5);
  EXPECT_LT(readable, 15);
  EXPECT_EQ(spool_.spool->Read(Id("a"), readable, 1000)->entries().front().bytes,
            expected_["a"][static_cast<size_t>(readable)]);
  EXPECT_EQ(Damages().size(), static_cast<size_t>(readable));
  spool_.Close();

  ASSERT_TRUE(Repair(directory_.path(), {}, {}));
  EXPECT_THAT(Damages(), IsEmpty());
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("b"), expected_["b"]);
  expected_["a"].erase(expected_["a"].begin(), expected_["a"].begin() + readable);
  EXPECT_EQ(spool_.ReadAll("a"), expected_["a"]);
  Sort();
  EXPECT_EQ(spool_.ReadAll("a"), expected_["a"]);
}

TEST_F(SortTest, ADamagedEntryOfARunIsNotHandedOn) {
  spool_.options.check_entry = [](std::string_view bytes) -> base::Result<void> {
    if (!bytes.starts_with("xxxx")) return {};
    return base::Unexpected(Code::kCorrupt, "damaged");
  };
  Fill({"a", "b"}, 10, 3000);
  Seal();
  EXPECT_EQ(Sort(), 1u);
  spool_.Close();
  Overwrite(SegmentPath(1), expected_["a"][4]);
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.spool->ReadSound(Id("a"), 0, 1 << 20)->entries().size(), 4u);
  EXPECT_EQ(spool_.spool->ReadSound(Id("a"), 4, 1 << 20).error().code, Code::kCorrupt);
  EXPECT_EQ(*spool_.spool->NextReadable(Id("a"), 4), 5);
  EXPECT_EQ(spool_.spool->ReadSound(Id("a"), 5, 1 << 20)->entries().size(), 5u);
  EXPECT_EQ(spool_.spool->ReadSound(Id("b"), 0, 1 << 20)->entries().size(), 10u);
}

// A checksum of the new segment's own would say that it is what it should be.
class EncryptingSortTest : public SortTest, public testing::WithParamInterface<bool> {};

TEST_P(EncryptingSortTest, VouchesForNoDamagedEntry) {
  metrics::Registry registry;
  spool_.options.check_entry = [](std::string_view bytes) -> base::Result<void> {
    if (!bytes.starts_with("xxxx")) return {};
    return base::Unexpected(Code::kCorrupt, "damaged");
  };
  spool_.Reopen();
  Fill({"a", "b"}, 10, 30'000);
  Fill({"b"}, 100, 30'000);
  Seal();
  if (GetParam()) {
    ASSERT_EQ(Sort(), 1u) << "so that its entries lie in runs";
  }
  spool_.Close();
  Overwrite(SegmentPath(1), expected_["a"][4]);
  spool_.options.metrics = &registry;
  spool_.options.encryption_keys = *KeyRing::Parse(std::vector{std::string(64, 'a')});
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.TrimNow("b", 110));  // So that sorting pays.
  spool_.clock.Advance(std::chrono::minutes(6));
  ASSERT_GE(Sort(), 1u);
  {
    const auto lease = spool_.spool->ReadSound(Id("a"), 0, 1 << 20);
    ASSERT_TRUE(lease) << lease.error().message;
    ASSERT_EQ(lease->entries().size(), 9u);
    for (const EntryView& entry : lease->entries())
      EXPECT_EQ(entry.bytes, expected_["a"][static_cast<size_t>(entry.info.base_offset)]);
  }
  EXPECT_THAT(registry.Expose(), HasSubstr("holdfast_spool_damaged_frames_total 1"));
  spool_.Close();  // Before the registry goes.
}

INSTANTIATE_TEST_SUITE_P(FromRuns, EncryptingSortTest, testing::Bool());

// Their index is large beside them.
TEST_F(SortTest, SegmentsOfManySmallEntriesHaveRoom) {
  spool_.options.segment_bytes = uint64_t{64} << 20;
  spool_.options.encryption_keys = *KeyRing::Parse(std::vector{std::string(64, 'a')});
  spool_.Reopen();
  const std::string entry(20, 'e');
  for (int commit = 0; commit < 60; ++commit) {
    const bool taken = spool_.Submit(5000 * entry.size(), [&](Transaction& transaction) {
      for (int i = 0; i < 5000; ++i)
        transaction.Append({.stream = transaction.OpenStream("s" + std::to_string(i % 4)),
                            .bytes = entry,
                            .record_count = 1});
    });
    ASSERT_TRUE(taken);
    spool_.clock.RunUntilIdle();
  }
  Seal();
  EXPECT_GE(Sort(), 1u);
  EXPECT_EQ(spool_.spool->Read(Id("s3"), 74'999, 100)->entries().size(), 1u);
}

TEST_F(SortTest, WithoutItsTreeAllIsFoundByLookingForIt) {
  Fill({"a", "b"}, 30, 10 << 10);
  Seal();
  ASSERT_EQ(Sort(), 1u);
  spool_.Close();
  {
    std::fstream file(SegmentPath(1), std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(8192, 'x');  // Both meta pages.
  }
  ASSERT_TRUE(spool_.Open());
  ExpectAll();
  EXPECT_EQ(Sort(), 0u) << "what is damaged is left to be repaired";
  spool_.Close();
  ASSERT_TRUE(Repair(directory_.path(), {}, {}));
  EXPECT_THAT(Damages(), IsEmpty());
  ASSERT_TRUE(spool_.Open());
  ExpectAll();
}

TEST_F(SortTest, ItIsExportedAndCompactedAsAnyOther) {
  Fill({"a", "b"}, 30, 10 << 10);
  Seal();
  ASSERT_EQ(Sort(), 1u);
  ASSERT_TRUE(spool_.TrimNow("b", 30));
  Fill({"a"}, 1);
  spool_.Close();
  expected_["b"].clear();
  const auto compacted = Compact(directory_.path(), {}, {});
  ASSERT_TRUE(compacted) << compacted.error().message;
  EXPECT_EQ(compacted->rewritten_segments, 1u);
  std::string exported;
  ExportOptions options;
  ASSERT_TRUE(Export(directory_.path(), options, [&](std::string_view bytes) -> base::Result<void> {
    exported += bytes;
    return {};
  }));
  TemporaryDirectory other;
  size_t at = 0;
  const auto imported =
      Import(other.path() + "/data", {}, [&](std::span<char> out) -> base::Result<size_t> {
        const size_t size = std::min(out.size(), exported.size() - at);
        exported.copy(out.data(), size, at);
        at += size;
        return size;
      });
  ASSERT_TRUE(imported) << imported.error().message;
  TestSpool copy(other.path() + "/data");
  ASSERT_TRUE(copy.Open());
  EXPECT_EQ(copy.ReadAll("a"), expected_["a"]);
  ASSERT_TRUE(spool_.Open());
  ExpectAll();
}

TEST_F(SortTest, WhatWasNotDoneIsTakenUpAgain) {
  Fill({"a", "b"}, 30);
  Seal();
  int steps = 90;  // Amid writing: by then the segment was looked at.
  const auto stopped = spool_.spool->Sort(spool_.writer.Now(), [&](size_t) { return --steps > 0; });
  ASSERT_FALSE(stopped);
  EXPECT_FALSE(LieTogether("a"));
  EXPECT_EQ(Sort(), 1u);
  EXPECT_TRUE(LieTogether("a"));
  ExpectAll();
}

TEST_F(SortTest, LeasesStayAsTheyAre) {
  Fill({"a", "b"}, 3);
  Seal();
  const auto lease = spool_.spool->Read(Id("a"), 0, 1000);
  ASSERT_TRUE(lease);
  Sort();
  EXPECT_EQ(lease->entries()[1].bytes, expected_["a"][1]);
  ExpectAll();
}

TEST_F(SortTest, WhatIsBeingWrittenCountsAsUsed) {
  Fill({"a", "b"}, 50, 10'000);
  Seal();
  const auto used = [&] { return spool_.spool->GetStatus().disk_bytes; };
  const uint64_t before = used();
  uint64_t most = 0;
  const auto look = [&](size_t bytes) {
    most = std::max(most, used());
    return bytes == 0 || most == before;  // Not to the end.
  };
  EXPECT_FALSE(spool_.spool->Sort(spool_.writer.Now(), look));
  EXPECT_GE(most, before + 1'000'000);
  EXPECT_EQ(used(), before);
  EXPECT_EQ(Sort(), 1u);
  uint64_t files = 0;
  const auto segments = Directory::ListSegments(directory_.path());
  for (const auto& file : *segments) files += file.bytes;
  EXPECT_EQ(used(), files);
}

TEST_F(SortTest, TheWritersNextSegmentHasItsRoomMeanwhile) {
  // Four, so that a segment of that size is not too large for the limit.
  for (int i = 0; i < 3; ++i) {
    Fill({"a", "b"}, 50, 10'000);
    Seal();
  }
  spool_.options.bytes_max = spool_.spool->GetStatus().disk_bytes + (uint64_t{8} << 20);
  spool_.Reopen();
  EXPECT_EQ(spool_.spool->Sort(spool_.writer.Now(), kAtOnce).error().code, Code::kFull);
  spool_.options.bytes_max += uint64_t{64} << 20;
  spool_.Reopen();
  EXPECT_GT(Sort(), 0u);
}

// Another process that looks into the file of a segment until this is destroyed.
class Onlooker {
 public:
  Onlooker(const std::string& path, const Origin& origin) {
    int ready[2];
    int end[2];
    HF_CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(end, O_CLOEXEC) == 0);
    child_ = fork();
    HF_CHECK(child_ >= 0);
    char byte = 0;
    if (child_ == 0) {
      close(end[1]);
      const auto file = SegmentFile::Observe(path, origin, {});
      byte = file && !(*file)->salvaged() ? 1 : 0;
      _exit(write(ready[1], &byte, 1) == 1 && read(end[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(ready[1]);
    close(end[0]);
    looks_ = read(ready[0], &byte, 1) == 1 && byte == 1;
    close(ready[0]);
    end_ = end[1];
  }
  Onlooker(const Onlooker&) = delete;
  Onlooker& operator=(const Onlooker&) = delete;
  ~Onlooker() {
    close(end_);
    waitpid(child_, nullptr, 0);
  }
  [[nodiscard]] bool looks() const { return looks_; }

 private:
  pid_t child_ = -1;
  int end_ = -1;
  bool looks_ = false;
};

TEST_F(SortTest, WhoStillReadsTheOldFileDoesNotDisturbTheNextReader) {
  Fill({"a", "b"}, 30, 50'000);  // Several runs, so that transactions count differently.
  Seal();
  const auto view = Directory::Look(directory_.path());
  ASSERT_TRUE(view);
  const Origin origin{view->id, 1};
  const Onlooker onlooker(SegmentPath(1), origin);
  ASSERT_TRUE(onlooker.looks());
  ASSERT_EQ(Sort(), 1u);
  const auto file = SegmentFile::Observe(SegmentPath(1), origin, {});
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_FALSE((*file)->salvaged());
  EXPECT_TRUE((*file)->sealed());
  EXPECT_EQ((*file)->header()->layout, Layout::kByStream);
  EXPECT_THAT(Damages(), IsEmpty());
}

TEST_F(SortTest, ItStopsWhenItIsTold) {
  Fill({"a", "b"}, 30);
  Seal();
  const auto stopped = spool_.spool->Sort(spool_.writer.Now(), [](size_t) { return false; });
  EXPECT_EQ(stopped.error().code, Code::kClosed);
  EXPECT_EQ(FormatLine(), "format 1");
  ExpectAll();
  EXPECT_EQ(Sort(), 1u);
}

// The bytes of docs/spool-format.md.
TEST(RunTest, IsAsTheFormatSays) {
  std::string bytes(kRunHeaderBytes + 5, '\0');
  EncodeRun(0, {.position = 7, .bytes = "hello"}, bytes);
  EXPECT_EQ(bytes.substr(0, 4), "HFR1");
  EXPECT_EQ(bytes.substr(8, 8), std::string("\7\0\0\0\5\0\0\0", 8));
  bytes += "behind it";
  const auto run = DecodeRun(0, bytes);
  ASSERT_TRUE(run);
  EXPECT_EQ(run->bytes, "hello");
  EXPECT_EQ(*run->At(8, 4), "ello");
  EXPECT_FALSE(run->At(8, 5));
  EXPECT_FALSE(run->At(6, 1));
  EXPECT_FALSE(DecodeRun(1, bytes)) << "of another origin";
  EXPECT_FALSE(DecodeRun(0, bytes.substr(0, 20))) << "cut off";
  bytes[9] = 1;
  EXPECT_FALSE(DecodeRun(0, bytes));
}

}  // namespace
}  // namespace holdfast::spool
