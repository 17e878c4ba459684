// Old segments written anew: entries that lose their bytes or get others, and segments that are
// joined, held against a simple model, through restarts and crashes.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "spool/verify.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

using base::Code;
using testing::ElementsAre;
using testing::IsEmpty;

// Judges by a list.
class Edits final : public Revision {
 public:
  using Fates = std::map<std::pair<uint32_t, int64_t>, std::string>;  // Empty: loses its bytes.

  void Set(StreamId stream, int64_t base_offset, std::string bytes) {
    if (streams_.empty() || streams_.back() != stream) streams_.push_back(stream);
    fates_[{stream.value(), base_offset}] = std::move(bytes);
  }
  [[nodiscard]] std::span<const StreamId> Streams() const override { return streams_; }
  [[nodiscard]] Fate Judge(const EntryInfo& entry) const override {
    const auto found = fates_.find({entry.stream.value(), entry.base_offset});
    if (found == fates_.end()) return Fate::kKeep;
    return found->second.empty() ? Fate::kEmpty : Fate::kReplace;
  }
  base::Result<Replacement> Replace(const EntryView& entry) override {
    if (entry.bytes == damaged) return base::Unexpected(base::Code::kCorrupt, "damaged");
    return Replacement{fates_.at({entry.info.stream.value(), entry.info.base_offset}), 7};
  }
  [[nodiscard]] bool Worth(uint64_t freed_bytes, uint64_t written_bytes) override {
    freed = freed_bytes;
    written = written_bytes;
    return worth;
  }
  [[nodiscard]] bool Pace(size_t) override { return steps == 0 || --steps > 0; }

  bool worth = true;
  std::string damaged;  // Bytes that turn out to be when they are to be replaced.
  int steps = 0;        // Until it stops; 0: never.
  uint64_t freed = 0;
  uint64_t written = 0;

 private:
  std::vector<StreamId> streams_;
  Fates fates_;
};

class RevisionTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(spool_.Open()); }
  StreamId Id(const std::string& name) { return *spool_.spool->FindStream(name); }
  void Seal() {
    spool_.spool->SealSoon();
    spool_.clock.RunUntilIdle();
  }
  RevisionReport Revise(Edits& edits) {
    const auto report = spool_.spool->Revise(edits);
    EXPECT_TRUE(report) << report.error().message;
    spool_.clock.RunUntilIdle();
    return report.value_or(RevisionReport{});
  }
  void VerifyAll() {
    const auto report = Verify(directory_.path(), {});
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_THAT(report->damages, IsEmpty());
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
};

TEST_F(RevisionTest, EntriesLoseTheirBytesAndKeepTheirOffsets) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(spool_.AppendNow("a", std::to_string(i), 10, i == 3 ? 9 : -1));
  }
  ASSERT_TRUE(spool_.AppendNow("b", "other"));
  EXPECT_EQ(spool_.spool->SealedEnd(Id("a")), 0);
  Seal();
  EXPECT_EQ(spool_.spool->SealedEnd(Id("a")), 50);
  Edits edits;
  edits.Set(Id("a"), 10, "");
  edits.Set(Id("a"), 20, "");
  edits.Set(Id("a"), 30, "three");
  const RevisionReport report = Revise(edits);
  EXPECT_TRUE(report.done);
  EXPECT_EQ(report.written_segments, 1u);
  EXPECT_EQ(edits.freed, 2u);
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("0", "three", "4"));
    EXPECT_THAT(spool_.ReadAll("b"), ElementsAre("other"));
    auto lease = spool_.spool->Read(Id("a"), 15, 1000);
    ASSERT_TRUE(lease);
    EXPECT_EQ(lease->entries().front().info.base_offset, 30);
    EXPECT_EQ(lease->entries().front().info.end_offset(), 40);
    EXPECT_EQ(*spool_.spool->NextReadable(Id("a"), 12), 30);
    const auto timely = spool_.spool->FindByTime(Id("a"), 0, 0);
    ASSERT_TRUE(timely && *timely);
    EXPECT_EQ((*timely)->base_offset, 30) << "its time is 7";
    if (round == 0) {
      EXPECT_EQ(spool_.spool->GetStatus().entry_bytes, 1u + 5 + 1 + 5);
    }
    VerifyAll();
    spool_.Reopen();
  }
}

TEST_F(RevisionTest, WhatHasLostItsBytesIsNotListed) {
  for (int segment = 0; segment < 3; ++segment) {
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(spool_.AppendNow("a", "bytes", 10));
    Seal();
  }
  const auto list = [&](int64_t from) {
    const auto entries = spool_.spool->ListEntries(Id("a"), from, 3);
    EXPECT_TRUE(entries) << entries.error().message;
    std::vector<std::pair<int64_t, uint32_t>> listed;  // Offset, bytes.
    for (const EntryInfo& entry : entries.value_or(std::vector<EntryInfo>()))
      listed.emplace_back(entry.base_offset, entry.bytes);
    return listed;
  };
  EXPECT_THAT(list(0), ElementsAre(std::pair(0, 5), std::pair(10, 5), std::pair(20, 5)));
  Edits edits;
  edits.Set(Id("a"), 20, "longer bytes");
  // All of the second segment, and what is beside it.
  for (int64_t offset = 900; offset < 2100; offset += 10) edits.Set(Id("a"), offset, "");
  EXPECT_TRUE(Revise(edits).done);
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(list(5), ElementsAre(std::pair(0, 5), std::pair(10, 5), std::pair(20, 12)));
    EXPECT_THAT(list(890), ElementsAre(std::pair(890, 5))) << "the last of its segment";
    EXPECT_THAT(list(1234),
                ElementsAre(std::pair(2100, 5), std::pair(2110, 5), std::pair(2120, 5)));
    spool_.Reopen();
  }
  edits.Set(Id("a"), 2980, "");
  edits.Set(Id("a"), 2990, "");
  EXPECT_TRUE(Revise(edits).done);
  EXPECT_THAT(list(2980), IsEmpty()) << "there are none up to the end";
}

TEST_F(RevisionTest, WhatLiesBeforeADamagedSegmentIsRevised) {
  for (const char* text : {"one", "two", "three", "four"}) {
    ASSERT_TRUE(spool_.AppendNow("a", text));
    ASSERT_TRUE(spool_.AppendNow("a", std::string("kept ") + text));
    Seal();
  }
  ASSERT_TRUE(spool_.AppendNow("a", "open"));
  spool_.Close();
  for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
    if (file.path().extension() != ".segment") continue;
    std::fstream stream(file.path(), std::ios::binary | std::ios::in | std::ios::out);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    for (size_t at = bytes.find("kept three"); at != std::string::npos;
         at = bytes.find("kept three", at + 1)) {
      stream.seekp(static_cast<std::streamoff>(at) - 1).put(static_cast<char>(bytes[at - 1] ^ 4));
    }
  }
  ASSERT_TRUE(spool_.Open());
  Edits edits;
  for (const int64_t offset : {0, 2, 4, 6}) edits.Set(Id("a"), offset, "");
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(spool_.spool->Revise(edits).error().code, Code::kCorrupt);
    spool_.clock.RunUntilIdle();
    EXPECT_EQ(edits.freed, round == 0 ? 6u : 0u);
    EXPECT_EQ(spool_.spool->Read(Id("a"), 0, 1000)->entries().front().info.base_offset, 1);
    EXPECT_EQ(spool_.spool->Read(Id("a"), 2, 1000)->entries().front().info.base_offset, 3);
    EXPECT_EQ(spool_.spool->Read(Id("a"), 6, 1000)->entries().front().bytes, "four");
  }
}

TEST_F(RevisionTest, TheFirstOfTwoIsRevisedIfTheSecondIsDamaged) {
  for (const char* text : {"one", "two", "three"}) {
    ASSERT_TRUE(spool_.AppendNow("a", text));
    ASSERT_TRUE(spool_.AppendNow("a", std::string("kept ") + text));
    Seal();
  }
  ASSERT_TRUE(spool_.AppendNow("a", "open"));
  Edits edits;
  edits.Set(Id("a"), 0, "");
  edits.Set(Id("a"), 2, "2");
  edits.Set(Id("a"), 4, "");
  edits.damaged = "two";
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(spool_.spool->Revise(edits).error().code, Code::kCorrupt);
    spool_.clock.RunUntilIdle();
    EXPECT_THAT(spool_.ReadAll("a"),
                ElementsAre("kept one", "two", "kept two", "three", "kept three", "open"));
    VerifyAll();
  }
}

TEST_F(RevisionTest, WhatTheOwnerRemembersIsUntouched) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(spool_.AppendNow("a", "x"));
  Seal();
  ASSERT_TRUE(spool_.AppendNow("a", "x"));
  Edits edits;
  for (int i = 0; i < 3; ++i) edits.Set(Id("a"), i, "");
  Revise(edits);
  spool_.Reopen();
  EXPECT_EQ(spool_.owner.seen[0], 4);
  EXPECT_EQ(spool_.Get("count/0"), "4");
  ASSERT_TRUE(spool_.AppendNow("a", "y"));
  EXPECT_EQ(spool_.spool->Range(Id("a")).end, 5);
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("x", "y"));
}

TEST_F(RevisionTest, AStreamMayEndWithoutBytes) {
  ASSERT_TRUE(spool_.AppendNow("a", "x"));
  ASSERT_TRUE(spool_.AppendNow("a", "y"));
  Seal();
  Edits edits;
  edits.Set(Id("a"), 0, "");
  edits.Set(Id("a"), 1, "");
  Revise(edits);
  EXPECT_TRUE(spool_.spool->Read(Id("a"), 0, 1000)->empty());
  EXPECT_TRUE(spool_.spool->Read(Id("a"), 1, 1000)->empty());
  EXPECT_EQ(*spool_.spool->NextReadable(Id("a"), 0), 2);
  EXPECT_FALSE(*spool_.spool->FindByTime(Id("a"), -1, 0));
  ASSERT_TRUE(spool_.AppendNow("a", "z"));
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("z"));
}

TEST_F(RevisionTest, NothingIsWrittenThatIsNotWorthIt) {
  ASSERT_TRUE(spool_.AppendNow("a", "x"));
  ASSERT_TRUE(spool_.AppendNow("a", "y"));
  Seal();
  Edits edits;
  edits.Set(Id("a"), 0, "");
  edits.worth = false;
  EXPECT_FALSE(Revise(edits).done);
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("x", "y"));
}

TEST_F(RevisionTest, ItStopsWhenItIsTold) {
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(spool_.AppendNow("a", std::to_string(i)));
  Seal();
  const std::vector<std::string> all = spool_.ReadAll("a");
  for (int steps = 1; steps < 25; ++steps) {
    Edits edits;
    edits.Set(Id("a"), 0, "zero");
    edits.steps = steps;
    const auto report = spool_.spool->Revise(edits);
    if (report) {
      EXPECT_GT(steps, 20);
      return;
    }
    EXPECT_EQ(report.error().code, Code::kClosed);
    // It may have been told so right after the segment was there.
    const std::vector<std::string> now = spool_.ReadAll("a");
    EXPECT_TRUE(now == all || now[0] == "zero");
    for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
      EXPECT_NE(file.path().filename(), "00000000000000000001.segment.new");
    }
  }
}

TEST_F(RevisionTest, SmallSegmentsAreJoinedAndRetired) {
  std::vector<std::string> expected;
  Edits edits;
  for (int i = 0; i < 12; ++i) {
    expected.push_back("entry " + std::to_string(i));
    ASSERT_TRUE(spool_.AppendNow("a", expected.back()));
    ASSERT_TRUE(spool_.AppendNow("b", expected.back()));
    Seal();
  }
  EXPECT_EQ(spool_.spool->GetStatus().segments, 13u);
  edits.Set(Id("a"), 0, "entry 0");
  Revise(edits);
  EXPECT_EQ(spool_.spool->GetStatus().segments, 7u);
  EXPECT_EQ(spool_.ReadAll("a"), expected);
  EXPECT_EQ(spool_.ReadAll("b"), expected);
  VerifyAll();
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("a"), expected);
  // And those that were joined are joined again, and trimmed.
  ASSERT_TRUE(spool_.TrimNow("b", 6));
  Revise(edits);
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("a"), expected);
  EXPECT_EQ(spool_.ReadAll("b"), std::vector<std::string>(expected.begin() + 6, expected.end()));
  VerifyAll();
}

// After the joined one has its name, and before the others are gone.
TEST_F(RevisionTest, ACrashAmidJoiningLeavesNothingTwice) {
  std::vector<std::string> expected;
  for (int i = 0; i < 4; ++i) {
    expected.push_back("entry " + std::to_string(i));
    ASSERT_TRUE(spool_.AppendNow("a", expected.back()));
    Seal();
  }
  namespace fs = std::filesystem;
  const TemporaryDirectory before;
  fs::copy(directory_.path(), before.path(), fs::copy_options::overwrite_existing);
  Edits edits;
  edits.Set(Id("a"), 1, "one");
  expected[1] = "one";
  Revise(edits);
  spool_.Close();
  for (const auto& file : fs::directory_iterator(before.path())) {
    const fs::path to = fs::path(directory_.path()) / file.path().filename();
    if (file.path().extension() != ".segment" || fs::exists(to)) continue;
    fs::copy(file.path(), to);
  }
  ASSERT_TRUE(spool_.Open());
  EXPECT_EQ(spool_.ReadAll("a"), expected);
  ASSERT_TRUE(spool_.AppendNow("a", "more"));
  expected.emplace_back("more");
  spool_.Reopen();
  EXPECT_EQ(spool_.ReadAll("a"), expected);
  VerifyAll();
}

// Readers that hold on to a segment see it as it was.
TEST_F(RevisionTest, LeasesStayAsTheyAre) {
  ASSERT_TRUE(spool_.AppendNow("a", "x"));
  Seal();
  const auto lease = spool_.spool->Read(Id("a"), 0, 1000);
  Edits edits;
  edits.Set(Id("a"), 0, "y");
  Revise(edits);
  EXPECT_EQ(lease->entries().front().bytes, "x");
  EXPECT_THAT(spool_.ReadAll("a"), ElementsAre("y"));
}

// Everything at random, against a model.
class RandomRevisionTest : public testing::TestWithParam<bool> {};

TEST_P(RandomRevisionTest, AgreesWithTheModel) {
  struct Entry {
    int64_t base_offset;
    std::string bytes;  // None: a revision took them.
  };
  for (uint32_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
    TemporaryDirectory directory;
    auto spool = std::make_unique<TestSpool>(directory.path());
    if (GetParam()) {
      const auto keys = KeyRing::Parse(std::vector{std::string(64, 'a')});
      ASSERT_TRUE(keys);
      spool->options.encryption_keys = *keys;
    }
    ASSERT_TRUE(spool->Open());
    std::map<std::string, std::vector<Entry>> model;
    std::map<std::string, int64_t> starts;
    std::map<std::string, int64_t> ends;
    const auto check = [&] {
      for (const auto& [name, entries] : model) {
        if (entries.empty()) continue;
        const StreamId id = *spool->spool->FindStream(name);
        int64_t from = starts[name];
        EXPECT_EQ(spool->spool->Range(id).end, ends[name]);
        std::vector<std::pair<int64_t, std::string>> expected;
        std::vector<std::pair<int64_t, std::string>> found;
        for (size_t i = 0; i < entries.size(); ++i) {
          const int64_t end = i + 1 < entries.size() ? entries[i + 1].base_offset : ends[name];
          if (end > from && !entries[i].bytes.empty())
            expected.emplace_back(entries[i].base_offset, entries[i].bytes);
        }
        for (;;) {
          const auto lease = spool->spool->Read(id, from, 1000);
          ASSERT_TRUE(lease) << lease.error().message;
          if (lease->empty()) break;
          for (const EntryView& entry : lease->entries()) {
            found.emplace_back(entry.info.base_offset, std::string(entry.bytes));
            from = entry.info.end_offset();
          }
        }
        ASSERT_TRUE(found == expected) << name;
      }
    };
    for (int step = 0; step < 150; ++step) {
      const std::string name(1, static_cast<char>('a' + below(5)));
      const size_t what = below(22);
      if (what < 12) {
        const auto count = static_cast<uint32_t>(1 + below(5));
        std::string bytes =
            std::to_string(step) + std::string(below(3) == 0 ? below(50'000) : 5, 'x');
        ASSERT_TRUE(spool->AppendNow(name, bytes, count));
        model[name].push_back({ends[name], std::move(bytes)});
        ends[name] += count;
      } else if (what < 14) {
        spool->spool->SealSoon();
        spool->clock.RunUntilIdle();
      } else if (what < 15 && !model[name].empty()) {
        starts[name] = std::max(starts[name], model[name][below(model[name].size())].base_offset);
        ASSERT_TRUE(spool->TrimNow(name, starts[name]));
      } else if (what < 18) {
        Edits edits;
        auto changed = model;
        for (auto& [stream_name, entries] : changed) {
          if (entries.empty()) continue;
          const StreamId id = *spool->spool->FindStream(stream_name);
          for (Entry& entry : entries) {
            if (entry.base_offset >= spool->spool->SealedEnd(id) || entry.bytes.empty()) continue;
            const size_t fate = below(4);
            if (fate > 1) continue;
            entry.bytes = fate == 0 ? "" : "other " + std::to_string(step);
            edits.Set(id, entry.base_offset, entry.bytes);
          }
        }
        // Cut off somewhere, some segments are as before, the others as after: it is made again.
        edits.steps = below(2) == 0 ? static_cast<int>(1 + below(200)) : 0;
        if (!spool->spool->Revise(edits)) {
          edits.steps = 0;
          if (below(2) == 0) spool->Reopen();
          ASSERT_TRUE(spool->spool->Revise(edits));
        }
        spool->clock.RunUntilIdle();
        model = std::move(changed);
        check();
      } else if (what < 20) {
        // Wherever it is told to stop, what there is stays as it is.
        size_t steps = below(2) == 0 ? 1 + below(200) : SIZE_MAX;
        const auto sorted =
            spool->spool->Sort(spool->writer.Now(), [&](size_t) { return --steps > 0; });
        ASSERT_TRUE(sorted || sorted.error().code == Code::kClosed) << sorted.error().message;
        spool->clock.RunUntilIdle();
        check();
      } else if (what < 21) {
        spool->Reopen();
        check();
      } else {  // kill -9.
        auto copy = std::make_unique<TemporaryDirectory>();
        std::filesystem::copy(directory.path(), copy->path() + "/data",
                              std::filesystem::copy_options::recursive);
        TestSpool other(copy->path() + "/data");
        other.options.encryption_keys = spool->options.encryption_keys;
        ASSERT_TRUE(other.Open());
        std::swap(spool->spool, other.spool);
        check();
        std::swap(spool->spool, other.spool);
      }
      if (HasFatalFailure()) return;
    }
    check();
    spool->Close();
    VerifyOptions options;
    options.keys = spool->options.encryption_keys;
    const auto report = Verify(directory.path(), options);
    ASSERT_TRUE(report) << report.error().message;
    for (const Damage& damage : report->damages) ADD_FAILURE() << damage.what;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RandomRevisionTest, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Encrypted" : "Plain"; });

}  // namespace
}  // namespace holdfast::spool
