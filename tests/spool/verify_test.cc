// Verify says what is damaged and what is lost with it, and changes nothing; after Repair it finds
// nothing any more, and what was intact is there.
#include "spool/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "base/log.h"
#include "spool/directory.h"
#include "spool/transfer.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::SizeIs;

class VerifyTest : public testing::Test {
 protected:
  // Several segments, the last one open.
  VerifyTest() {
    base::SetLogLevel(base::LogLevel::kError);
    EXPECT_TRUE(spool_.Open());
    for (int i = 0; i < 50; ++i)
      EXPECT_TRUE(spool_.AppendNow(i % 2 == 0 ? "even" : "odd", Text(i)));
    segments_ = spool_.spool->GetStatus().segments;
    spool_.Close();
  }
  static std::string Text(int i) {
    return "entry " + std::to_string(i) + "." + std::string(50'000, 'x');
  }
  static std::string PathOf(const std::string& directory, uint64_t segment) {
    std::string name = std::to_string(segment);
    return directory + "/" + std::string(20 - name.size(), '0') + name + ".segment";
  }
  // Changes a byte before the text, in the first segment that has it.
  void Damage(const std::string& text, size_t before) {
    for (uint64_t segment = 1; segment <= segments_; ++segment) {
      const std::string path = PathOf(directory_.path(), segment);
      const std::string bytes = Read(path);
      const size_t at = bytes.find(text);
      if (at != std::string::npos) return Overwrite(path, at - before, "\x5a");
    }
    FAIL() << text;
  }
  static std::string Read(const std::string& path) {
    std::string bytes(fs::file_size(path), '\0');
    std::ifstream(path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
    return bytes;
  }
  static void Overwrite(const std::string& path, size_t at, std::string_view bytes) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at));
    file.write(bytes.data(), std::ssize(bytes));
  }
  [[nodiscard]] VerifyReport Check(const VerifyOptions& options = {}) const {
    auto report = Verify(directory_.path(), options);
    EXPECT_TRUE(report) << report.error().message;
    return report ? *std::move(report) : VerifyReport();
  }
  // `meanwhile` runs whenever there is progress: the how manieth time, from 0.
  [[nodiscard]] VerifyReport CheckLive(const std::function<void(int call)>& meanwhile) const {
    VerifyOptions options;
    options.progress = [&meanwhile, call = 0](uint64_t, uint64_t) mutable { meanwhile(call++); };
    return Check(options);
  }
  void TrimAll() {
    for (const char* const name : {"even", "odd"}) EXPECT_TRUE(spool_.TrimNow(name, 25));
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
  uint64_t segments_ = 0;
};

TEST_F(VerifyTest, ASoundSpoolIsSound) {
  uint64_t checked = 0;
  uint64_t last_done = 0;
  uint64_t total = 0;
  const VerifyReport report = Check({.progress =
                                         [&](uint64_t done, uint64_t all) {
                                           EXPECT_GE(done, last_done);
                                           last_done = done;
                                           total = all;
                                         },
                                     .check_entry =
                                         [&](std::string_view, const EntryView& entry) {
                                           ++checked;
                                           EXPECT_EQ(entry.bytes.substr(0, 6), "entry ");
                                           return base::Result<void>();
                                         }});
  EXPECT_THAT(report.damages, SizeIs(0));
  EXPECT_EQ(report.segments, segments_);
  EXPECT_EQ(report.frames, 50u);
  EXPECT_EQ(report.entries, 50u);
  EXPECT_EQ(checked, 50u);
  EXPECT_EQ(last_done, total);
  EXPECT_GT(total, uint64_t{3} << 20);
}

TEST_F(VerifyTest, ADamagedFrameIsNamedWithWhatItHeld) {
  Damage("entry 7.", 50);  // In the table of contents.
  const VerifyReport report = Check();
  ASSERT_THAT(report.damages, SizeIs(1));
  EXPECT_EQ(report.damages[0].segment, 1u);
  EXPECT_EQ(report.damages[0].commit, CommitNumber(8));
  ASSERT_THAT(report.damages[0].losses, SizeIs(1));
  EXPECT_EQ(report.damages[0].losses[0].stream, "odd");
  EXPECT_EQ(report.damages[0].losses[0].offsets.start, 3);
  EXPECT_EQ(report.damages[0].losses[0].offsets.end, 4);
  EXPECT_EQ(report.entries, 49u);
}

TEST_F(VerifyTest, ADamagedEntryIsForItsCheckerToFind) {
  Damage("entry 7.", 0);
  const VerifyReport unchecked = Check();
  ASSERT_THAT(unchecked.damages, SizeIs(1));
  EXPECT_EQ(unchecked.damages[0].commit, CommitNumber(8));
  EXPECT_THAT(unchecked.damages[0].what, HasSubstr("wrong checksum of the entries"));
  EXPECT_THAT(unchecked.damages[0].losses, SizeIs(0));
  const auto check = [](std::string_view stream, const EntryView& entry) -> base::Result<void> {
    if (entry.bytes.starts_with("entry ")) return {};
    return base::Unexpected(base::Code::kCorrupt, std::string(stream) + ": bad entry");
  };
  const VerifyReport report = Check({.check_entry = check});
  ASSERT_THAT(report.damages, SizeIs(1));
  EXPECT_EQ(report.damages[0].what, "odd: bad entry");
  EXPECT_EQ(report.damages[0].losses[0].offsets.start, 3);
}

TEST_F(VerifyTest, ADamagedEntryThatIsTrimmedIsADamageWithoutALoss) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.TrimNow("odd", 5));
  spool_.Close();
  Damage("entry 7.", 0);
  int checked = 0;
  const auto check = [&](std::string_view, const EntryView& entry) -> base::Result<void> {
    ++checked;
    EXPECT_TRUE(entry.bytes.starts_with("entry "));
    return {};
  };
  const VerifyReport report = Check({.check_entry = check});
  EXPECT_EQ(checked, 45);
  ASSERT_THAT(report.damages, SizeIs(1));
  EXPECT_EQ(report.damages[0].segment, 1u);
  EXPECT_EQ(report.damages[0].commit, CommitNumber(8));
  EXPECT_THAT(report.damages[0].losses, SizeIs(0));
  ASSERT_TRUE(Repair(directory_.path(), {}, {}));
  EXPECT_THAT(Check({.check_entry = check}).damages, SizeIs(0));
}

TEST_F(VerifyTest, RepairLeavesASoundSpool) {
  Damage("entry 7.", 50);
  Overwrite(PathOf(directory_.path(), 2), 0, std::string(100, '\0'));  // A meta page.
  const VerifyReport before = Check();
  ASSERT_THAT(before.damages, SizeIs(2));
  EXPECT_THAT(before.damages[1].what, HasSubstr("meta page"));
  const auto repaired = Repair(directory_.path(), {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  EXPECT_THAT(repaired->damages, SizeIs(2));
  const VerifyReport after = Check();
  EXPECT_EQ(after.entries, 49u);
  EXPECT_THAT(after.damages, SizeIs(0));
  ASSERT_TRUE(spool_.Open());
  EXPECT_THAT(spool_.ReadAll("even"), SizeIs(25));
  const StreamId odd = *spool_.spool->FindStream("odd");
  EXPECT_EQ(spool_.spool->Read(odd, 3, 1000).error().code, base::Code::kCorrupt);
  EXPECT_EQ(*spool_.spool->NextReadable(odd, 3), 4);
}

TEST_F(VerifyTest, AStreamThatHasLostItsNameIsNotSoundAfterARepair) {
  ASSERT_TRUE(spool_.Open());
  spool_.spool->SealSoon();
  spool_.clock.RunUntilIdle();
  for (const int i : {100, 101, 102}) ASSERT_TRUE(spool_.AppendNow("new", Text(i)));
  segments_ = spool_.spool->GetStatus().segments;
  const StreamId id = *spool_.spool->FindStream("new");
  spool_.Close();
  for (const int i : {100, 101}) Damage("entry " + std::to_string(i) + ".", 50);
  ASSERT_FALSE(Check().sound());
  const auto repaired = Repair(directory_.path(), {}, {});
  ASSERT_TRUE(repaired) << repaired.error().message;
  const VerifyReport after = Check();
  EXPECT_THAT(after.damages, SizeIs(0));
  ASSERT_THAT(after.nameless, SizeIs(1));
  EXPECT_EQ(after.nameless[0].stream, LostStreamName(id));
  EXPECT_EQ(after.nameless[0].offsets.end, 3);
  EXPECT_FALSE(after.sound());
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.TrimNow(LostStreamName(id), 3));
  spool_.Close();
  EXPECT_TRUE(Check().sound());
}

TEST_F(VerifyTest, TheOpenSegmentIsRepairedToo) {
  const std::string path = PathOf(directory_.path(), segments_);
  Overwrite(path, 0, std::string(100, '\0'));
  ASSERT_THAT(Check().damages, SizeIs(1));
  ASSERT_TRUE(Repair(directory_.path(), {}, {}));
  EXPECT_THAT(Check().damages, SizeIs(0));
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.spool->GetStatus().segments, segments_);  // It goes on in that one.
  ASSERT_TRUE(spool_.AppendNow("even", "one more"));
  EXPECT_EQ(spool_.ReadAll("even").back(), "one more");
  EXPECT_THAT(spool_.ReadAll("odd"), SizeIs(25));
}

TEST_F(VerifyTest, ALiveSpoolIsVerifiedWithoutOwningIt) {
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(Repair(directory_.path(), {}, {}).error().code, base::Code::kUnavailable);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(spool_.AppendNow("even", "later"));
  const VerifyReport report = Check();
  EXPECT_THAT(report.damages, SizeIs(0));
  EXPECT_EQ(report.entries, 55u);
  ASSERT_TRUE(spool_.AppendNow("even", "and on"));
}

TEST_F(VerifyTest, AnOwnerMayComeMeanwhile) {
  const VerifyReport report = CheckLive([&](int call) {
    if (call != 1) return;
    ASSERT_TRUE(spool_.Open());
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(spool_.AppendNow("even", Text(i)));
  });
  EXPECT_THAT(report.damages, SizeIs(0));
  EXPECT_GE(report.entries, 50u);
  EXPECT_THAT(spool_.ReadAll("even"), SizeIs(75));
}

TEST_F(VerifyTest, AnOwnerThatComesWhileTheNewestSegmentIsReadMakesNoDamage) {
  const uint64_t before = segments_;
  const VerifyReport report = CheckLive([&](int call) {
    if (call != static_cast<int>(before)) return;
    ASSERT_TRUE(spool_.Open());
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(spool_.AppendNow("even", "short"));
  });
  EXPECT_THAT(report.damages, SizeIs(0));
}

TEST_F(VerifyTest, ASegmentThatIsBegunMeanwhileIsNoDamage) {
  ASSERT_TRUE(spool_.Open());
  // One more file: the next segment is prepared.
  while (Directory::ListSegments(directory_.path())->size() == segments_)
    ASSERT_TRUE(spool_.AppendNow("even", Text(0)));
  ASSERT_EQ(spool_.spool->GetStatus().segments, segments_);
  const VerifyReport report = CheckLive([&](int) {
    while (spool_.spool->GetStatus().segments == segments_)
      ASSERT_TRUE(spool_.AppendNow("even", Text(1)));
  });
  EXPECT_EQ(spool_.spool->GetStatus().segments, segments_ + 1);
  EXPECT_THAT(report.damages, SizeIs(0));
  EXPECT_EQ(report.segments, segments_);
}

TEST_F(VerifyTest, WhatIsRetiredMeanwhileIsNoDamage) {
  ASSERT_TRUE(spool_.Open());
  const VerifyReport report = CheckLive([&](int call) {
    if (call == 0) TrimAll();
  });
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
  EXPECT_THAT(report.damages, SizeIs(0));
}

TEST_F(VerifyTest, WhatIsTrimmedMeanwhileIsNotLostByADamage) {
  Damage("entry 7.", 50);
  ASSERT_TRUE(spool_.Open());
  const VerifyReport report = CheckLive([&](int call) {
    if (call == 1) TrimAll();  // The first segment is being read.
  });
  EXPECT_EQ(spool_.spool->GetStatus().segments, 1u);
  ASSERT_THAT(report.damages, SizeIs(1));
  EXPECT_EQ(report.damages[0].commit, CommitNumber(8));
  EXPECT_THAT(report.damages[0].losses, SizeIs(0));
}

// Two segments: an older one of `commits`, each with `entries` of `bytes` in turns of four streams.
void MakeOlder(TestSpool& spool, int commits, int entries, size_t bytes) {
  spool.options.segment_bytes = uint64_t{64} << 20;
  ASSERT_TRUE(spool.Open());
  const std::string entry(bytes, 'e');
  for (int commit = 0; commit < commits; ++commit) {
    const bool taken =
        spool.Submit(entry.size() * static_cast<size_t>(entries), [&](Transaction& transaction) {
          for (int i = 0; i < entries; ++i)
            transaction.Append({.stream = transaction.OpenStream("s" + std::to_string(i % 4)),
                                .bytes = entry,
                                .record_count = 1});
        });
    ASSERT_TRUE(taken);
    spool.clock.RunUntilIdle();
  }
  spool.spool->SealSoon();
  spool.clock.RunUntilIdle();
  ASSERT_TRUE(spool.AppendNow("newest", "entry"));
  ASSERT_EQ(spool.spool->GetStatus().segments, 2u);
}

class RepairTest : public testing::Test {
 protected:
  RepairTest() { base::SetLogLevel(base::LogLevel::kError); }

  // Flips a byte of the table of the segment's n-th frame.
  void DamageFrame(uint64_t segment, int n) {
    const std::string path = Directory::SegmentPath(directory_.path(), segment);
    std::string bytes(fs::file_size(path), '\0');
    std::ifstream(path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
    size_t at = bytes.find("HFF1");
    for (; n > 0; --n) at = bytes.find("HFF1", at + 1);
    ASSERT_NE(at, std::string::npos);
    bytes[at + kFrameHeaderBytes + 20] ^= 1;
    std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }
  void ExpectRepaired(const KeyRing& keys) {
    ASSERT_FALSE(Verify(directory_.path(), {.keys = keys})->sound());
    const auto repaired = Repair(directory_.path(), keys, {});
    ASSERT_TRUE(repaired) << repaired.error().message;
    const auto after = Verify(directory_.path(), {.keys = keys});
    ASSERT_TRUE(after) << after.error().message;
    EXPECT_THAT(after->damages, SizeIs(0));
  }

  const KeyRing keys_ = *KeyRing::Parse(std::vector{std::string(64, 'a')});
  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(RepairTest, ADamagedEntryOfAnEncryptedCommitCostsOnlyItself) {
  spool_.options.encryption_keys = keys_;
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "before"));
  std::vector<std::string> entries;
  for (const char fill : {'a', 'b', 'c'}) entries.emplace_back(10'000, fill);
  const bool taken = spool_.Submit(30'000, [&](Transaction& transaction) {
    for (const std::string& entry : entries)
      transaction.Append({.stream = transaction.OpenStream(entry.substr(0, 1)),
                          .bytes = entry,
                          .record_count = 1});
    transaction.Put("key", "value");
  });
  ASSERT_TRUE(taken);
  spool_.clock.RunUntilIdle();
  ASSERT_TRUE(spool_.AppendNow("b", "behind"));
  spool_.Close();
  const std::string path = Directory::SegmentPath(directory_.path(), 1);
  std::string bytes(fs::file_size(path), '\0');
  std::ifstream(path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
  int damaged = 0;
  for (size_t at = bytes.find("HFF1"); at != std::string::npos; at = bytes.find("HFF1", at + 1)) {
    const auto frame = FrameView::Parse(std::string_view(bytes).substr(at));
    if (!frame || frame->entry_count() != 3) continue;
    bytes[at + frame->bytes().size() - 15'000] ^= 1;
    ++damaged;
  }
  ASSERT_EQ(damaged, 1);
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  ExpectRepaired(keys_);
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("a"), (std::vector<std::string>{"before", std::string(10'000, 'a')}));
  EXPECT_EQ(spool_.ReadAll("b"), std::vector<std::string>{"behind"});
  EXPECT_EQ(spool_.ReadAll("c"), std::vector<std::string>{std::string(10'000, 'c')});
  EXPECT_EQ(spool_.spool->Range(*spool_.spool->FindStream("b")).end, 2);
  EXPECT_EQ(spool_.Get("key"), "value");
}

// Each has an index that is large beside it; and what is encrypted takes more than what was not.
TEST_F(RepairTest, SegmentsOfManySmallEntriesHaveRoom) {
  MakeOlder(spool_, 60, 5000, 20);
  spool_.Close();
  DamageFrame(1, 3);
  ExpectRepaired(keys_);
}

TEST_F(RepairTest, AnImportOfManySmallEntriesHasRoom) {
  MakeOlder(spool_, 60, 5000, 20);
  spool_.Close();
  std::string exported;
  ASSERT_TRUE(Export(directory_.path(), {}, [&](std::string_view bytes) -> base::Result<void> {
    exported += bytes;
    return {};
  }));
  TemporaryDirectory other;
  size_t at = 0;
  const auto imported =
      Import(other.path(), {.keys = keys_}, [&](std::span<char> out) -> base::Result<size_t> {
        const size_t size = exported.copy(out.data(), out.size(), at);
        at += size;
        return size;
      });
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(imported->entries, 300'001u);
}

TEST_F(RepairTest, CommitsThatAreMissingAtTheEndOfAnOlderSegmentAreFound) {
  ASSERT_TRUE(spool_.Open());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(spool_.AppendNow("a", "kept"));
  const std::string path = Directory::SegmentPath(directory_.path(), 1);
  const std::string copy = directory_.path() + "/copy.new";
  fs::copy_file(path, copy);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(spool_.AppendNow("a", "lost"));
  spool_.spool->SealSoon();
  spool_.clock.RunUntilIdle();
  ASSERT_TRUE(spool_.AppendNow("b", "newest"));
  spool_.Close();
  ASSERT_TRUE(Verify(directory_.path(), {})->sound());
  fs::rename(copy, path);
  const auto found = Verify(directory_.path(), {});
  ASSERT_TRUE(found);
  ASSERT_THAT(found->damages, SizeIs(1));
  EXPECT_EQ(found->damages[0].segment, 1u);
  EXPECT_EQ(found->damages[0].commit, CommitNumber(4));
  EXPECT_THAT(found->damages[0].what, HasSubstr("commits 4 to 7 are missing"));
  ASSERT_THAT(found->damages[0].losses, SizeIs(1));
  EXPECT_EQ(found->damages[0].losses[0].stream, "a");
  EXPECT_EQ(found->damages[0].losses[0].offsets.start, 3);
  EXPECT_EQ(found->damages[0].losses[0].offsets.end, 7);
  ExpectRepaired({});
}

}  // namespace
}  // namespace holdfast::spool
