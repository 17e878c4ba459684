// Bits flipped, sectors zeroed and files cut off anywhere in a spool: it opens, loses at most the
// frames that were hit, serves the rest, goes on, and opens again.
//
// Each case works on a copy of one small spool, whose contents are known, in a child process, so
// that a signal fails the case and not the test.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/random.h"
#include "spool/directory.h"
#include "spool/frame.h"
#include "spool/salvage.h"
#include "tests/spool/faulty_disk.h"
#include "tests/spool/spool_fixture.h"
#include "tests/support/sanitizers.h"

namespace holdfast::spool {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPageBytes = 4096;
constexpr size_t kSectorBytes = 512;
constexpr size_t kMetaBytes = 16 + 136;
constexpr uint16_t kTreePage = 0x03;  // Branch or leaf.

std::string ReadFile(const fs::path& path) {
  std::string bytes(fs::file_size(path), '\0');
  std::ifstream(path, std::ios::binary).read(bytes.data(), std::ssize(bytes));
  return bytes;
}

void WriteFile(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
}

// What is done to one file.
struct Damage {
  enum class Kind : uint8_t { kFlip, kZero, kCut, kRemove };
  Kind kind = Kind::kFlip;
  std::string file;
  size_t at = 0;
  size_t bytes = 1;
  unsigned bit = 0;

  [[nodiscard]] std::string Text() const {
    const char* const verbs[] = {"flip bit of", "zero", "cut", "remove"};
    return std::string(verbs[static_cast<int>(kind)]) + " " + file + " at " + std::to_string(at) +
           " (page " + std::to_string(at / kPageBytes) + "+" + std::to_string(at % kPageBytes) +
           "), " + std::to_string(bytes) + " bytes, bit " + std::to_string(bit);
  }
  void Apply(std::string* contents) const {
    switch (kind) {
      case Kind::kFlip:
        (*contents)[at] = static_cast<char>((*contents)[at] ^ (1 << bit));
        return;
      case Kind::kZero:
        std::fill_n(contents->begin() + static_cast<ptrdiff_t>(at),
                    std::min(bytes, contents->size() - at), '\0');
        return;
      case Kind::kCut:
        contents->resize(at);
        return;
      case Kind::kRemove:
        return;
    }
  }
  [[nodiscard]] bool Touches(size_t from, size_t to) const {
    if (kind == Kind::kRemove) return true;
    return kind == Kind::kCut ? to > at : from < at + bytes && at < to;
  }
};

class HealingTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { image_ = new Image; }
  static void TearDownTestSuite() {
    delete image_;
    image_ = nullptr;
  }

  struct Entry {
    uint32_t stream = 0;
    int64_t offset = 0;
    std::string bytes;
    CommitNumber commit;
  };
  struct Place {
    CommitNumber commit;
    size_t from = 0;
    size_t to = 0;
  };

  // A spool of a sealed segment, a second and a third that is open, and all that is in it.
  struct Image {
    Image() {
      TestSpool spool(directory.path());
      HF_CHECK(spool.Open());
      base::Random random(7);
      for (int i = 0; i < 210; ++i) {
        const std::string stream = "s" + std::to_string(random.Below(5));
        std::string bytes = stream + "/" + std::to_string(i) + "/";
        bytes.append(i % 9 == 0 ? 5000 + random.Below(60'000) : random.Below(1500), 'e');
        Add(spool, stream, bytes);
      }
      HF_CHECK(spool.TrimNow("s1", 3));
      for (int i = 0; i < 4; ++i) Add(spool, "s2", "behind the trim " + std::to_string(i));
      spool.Close();
      HF_CHECK(spool.Open());
      for (uint32_t id = 0; id < 5; ++id) {
        counts[id] = spool.Get("count/" + std::to_string(id));
        ranges[id] = spool.spool->Range(StreamId(id));
      }
      seen = spool.owner.seen;
      spool.Close();
      for (const auto& file : fs::directory_iterator(directory.path()))
        if (file.path().extension() == ".segment" || file.path().filename() == "HOLDFAST")
          files[file.path().filename()] = ReadFile(file.path());
      for (const auto& [name, bytes] : files) FindFrames(name, bytes);
    }
    void Add(TestSpool& spool, const std::string& stream, const std::string& bytes) {
      HF_CHECK(spool.AppendNow(stream, bytes));
      const StreamId id = *spool.spool->FindStream(stream);
      const int64_t offset = spool.spool->Range(id).end - 1;
      entries.push_back({id.value(), offset, bytes, spool.spool->GetStatus().durable});
    }
    void FindFrames(const std::string& name, const std::string& bytes) {
      for (size_t at = bytes.find("HFF1"); at != std::string::npos; at = bytes.find("HFF1", at + 1))
        if (const auto frame = FrameView::Parse(std::string_view(bytes).substr(at)))
          places[name].push_back({frame->commit(), at, at + frame->bytes().size()});
    }

    TemporaryDirectory directory;
    std::map<std::string, std::string> files;
    std::map<std::string, std::vector<Place>> places;  // Of all copies of frames.
    std::vector<Entry> entries;
    std::map<uint32_t, std::optional<std::string>> counts;
    std::map<uint32_t, OffsetRange> ranges;
    std::map<uint32_t, int64_t> seen;
  };

  // Empty if all is well. In the child.
  static std::string Run(const Damage& damage, const std::string& directory) {
    fs::remove_all(directory);
    fs::create_directory(directory);
    for (const auto& [name, bytes] : image_->files) {
      if (name != damage.file) {
        WriteFile(directory + "/" + name, bytes);
      } else if (damage.kind != Damage::Kind::kRemove) {
        std::string damaged = bytes;
        damage.Apply(&damaged);
        WriteFile(directory + "/" + name, damaged);
      }
    }
    std::set<CommitNumber> hit;
    for (const Place& place : image_->places.at(damage.file))
      if (damage.Touches(place.from, place.to)) hit.insert(place.commit);
    TestSpool spool(directory);
    if (const auto opened = spool.Open(); !opened)
      return "does not open: " + opened.error().message;
    if (std::string wrong = Check(spool, hit); !wrong.empty()) return wrong;
    for (const char* bytes : {"one", "two"})
      if (!spool.AppendNow("after", bytes)) return "takes nothing any more";
    if (Read(spool, *spool.spool->FindStream("after")).size() != 2) return "does not go on";
    spool.Close();
    if (const auto opened = spool.Open(); !opened)
      return "opens once only: " + opened.error().message;
    if (std::string wrong = Check(spool, hit); !wrong.empty()) return "the second time, " + wrong;
    const std::optional<StreamId> after = spool.spool->FindStream("after");
    if (!after || Read(spool, *after).size() != 2) return "loses what came after";
    return {};
  }

  static std::map<int64_t, std::string> Read(TestSpool& spool, StreamId stream) {
    std::map<int64_t, std::string> found;
    const OffsetRange range = spool.spool->Range(stream);
    for (int64_t from = range.start; from < range.end;) {
      const auto lease = spool.spool->Read(stream, from, 1 << 20);
      if (lease && !lease->empty()) {
        for (const EntryView& entry : lease->entries()) {
          found[entry.info.base_offset] = entry.bytes;
          from = entry.info.end_offset();
        }
        continue;
      }
      const auto next = spool.spool->NextReadable(stream, from);
      if (!next || *next <= from) {
        found[from] = "no way past " + std::to_string(from) + ": " +
                      (next ? std::string("stays") : next.error().message) + "; " +
                      (lease ? std::string("nothing") : lease.error().message);
        return found;
      }
      from = *next;
    }
    return found;
  }

  static std::string Check(TestSpool& spool, const std::set<CommitNumber>& hit) {
    std::map<uint32_t, std::map<int64_t, std::string>> found;
    for (uint32_t id = 0; id < 5; ++id) found[id] = Read(spool, StreamId(id));
    for (const Entry& entry : image_->entries) {
      auto& stream = found[entry.stream];
      const auto at = stream.find(entry.offset);
      const bool there = at != stream.end();
      const bool same = there && at->second == entry.bytes;
      if (there) stream.erase(at);
      const bool trimmed = entry.offset < image_->ranges[entry.stream].start;
      if (same || hit.contains(entry.commit) || (trimmed && !there)) continue;
      return "commit " + std::to_string(entry.commit.value()) + " was not hit, and " +
             (there ? "is another" : "is lost") + " (hit: " + Text(hit) + ")";
    }
    for (const auto& [id, rest] : found)
      if (!rest.empty())
        return "offset " + std::to_string(rest.begin()->first) + " of stream " +
               std::to_string(id) + " is new: " + rest.begin()->second.substr(0, 300);
    if (!hit.empty()) return {};
    for (uint32_t id = 0; id < 5; ++id) {
      const OffsetRange range = spool.spool->Range(StreamId(id));
      if (range.start != image_->ranges[id].start || range.end != image_->ranges[id].end)
        return "the range of stream " + std::to_string(id) + " is another";
      if (spool.Get("count/" + std::to_string(id)) != image_->counts[id])
        return "the state of stream " + std::to_string(id) + " is another";
      if (spool.owner.seen[id] != image_->seen[id])
        return "the owner's view of stream " + std::to_string(id) + " is another";
    }
    return {};
  }

  static std::string Text(const std::set<CommitNumber>& commits) {
    std::string text;
    for (const CommitNumber commit : commits) text += " " + std::to_string(commit.value());
    return text;
  }

  // Each in a child; after a signal the next child goes on behind it.
  static void RunAll(const std::vector<Damage>& all) {
    std::vector<Damage> damages;
    for (size_t i = 0; i < all.size(); i += test::kEveryOf) damages.push_back(all[i]);
    struct Shared {
      size_t next;
      char wrong[1000];
    };
    auto* const shared = static_cast<Shared*>(
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(shared, MAP_FAILED);
    TemporaryDirectory scratch;
    int failures = 0;
    while (shared->next < damages.size() && failures < 10) {
      shared->wrong[0] = '\0';
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(2);  // It says every loss.
        for (; shared->next < damages.size(); ++shared->next) {
          const std::string wrong = Run(damages[shared->next], scratch.path() + "/spool");
          std::strncpy(shared->wrong, wrong.c_str(), sizeof shared->wrong - 1);
          if (!wrong.empty()) _exit(1);
        }
        _exit(0);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
      ++failures;
      ADD_FAILURE() << damages[shared->next].Text() << ": "
                    << (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                            : std::string(shared->wrong));
      ++shared->next;
    }
    munmap(shared, sizeof(Shared));
  }

  static std::vector<std::string> Segments() {
    std::vector<std::string> names;
    for (const auto& [name, bytes] : image_->files)
      if (name.ends_with(".segment")) names.push_back(name);
    return names;
  }
  // Pages up to the last one that LMDB uses.
  static size_t UsedPages(const std::string& bytes) {
    constexpr size_t kLastPage = 16 + 120;
    return 1 + std::max(base::LoadLittle<uint64_t>(&bytes[kLastPage]),
                        base::LoadLittle<uint64_t>(&bytes[kPageBytes + kLastPage]));
  }

  static Image* image_;
  base::Random random_{11};
};

HealingTest::Image* HealingTest::image_ = nullptr;

TEST_F(HealingTest, AFlippedBitInAMetaPageCostsNothing) {
  std::vector<Damage> damages;
  for (const std::string& file : Segments()) {
    for (const size_t page : {size_t{0}, kPageBytes})
      for (size_t at = 0; at < kMetaBytes; ++at)
        damages.push_back(
            {.file = file, .at = page + at, .bit = static_cast<unsigned>(random_.Below(8))});
  }
  // Where LMDB looks for the newest: each bit of the transaction id.
  const std::string newest = Segments().back();
  for (const size_t page : {size_t{0}, kPageBytes})
    for (unsigned bit = 0; bit < 64; ++bit)
      damages.push_back({.file = newest, .at = page + kMetaBytes - 8 + bit / 8, .bit = bit % 8});
  RunAll(damages);
}

TEST_F(HealingTest, AFlippedBitInATreeCostsNothing) {
  std::vector<Damage> damages;
  for (const std::string& file : Segments()) {
    const std::string& bytes = image_->files[file];
    for (size_t page = 2; page < UsedPages(bytes); ++page) {
      const char* const header = &bytes[page * kPageBytes];
      const auto flags = base::LoadLittle<uint16_t>(header + 10);
      if ((flags & kTreePage) == 0 || flags > kTreePage) continue;
      const auto lower = base::LoadLittle<uint16_t>(header + 12);
      const auto upper = base::LoadLittle<uint16_t>(header + 14);
      const auto add = [&](size_t at) {
        damages.push_back({.file = file,
                           .at = page * kPageBytes + at,
                           .bit = static_cast<unsigned>(random_.Below(8))});
      };
      for (const size_t at : {0, 10, 12, 13, 14, 15}) add(at);
      if (lower > 16 && lower <= kPageBytes) add(16 + random_.Below(lower - 16));
      for (int i = 0; i < 6 && upper < kPageBytes; ++i)
        add(upper + random_.Below(kPageBytes - upper));
    }
  }
  RunAll(damages);
}

TEST_F(HealingTest, AFlippedBitAnywhereCostsAtMostItsFrame) {
  std::vector<Damage> damages;
  for (const std::string& file : Segments()) {
    const std::string& bytes = image_->files[file];
    for (int i = 0; i < 150; ++i)
      damages.push_back({.file = file,
                         .at = random_.Below(UsedPages(bytes) * kPageBytes),
                         .bit = static_cast<unsigned>(random_.Below(8))});
    // Beginnings of values: headers of frames and pieces of the checkpoint.
    for (size_t page = 2; page < UsedPages(bytes); ++page)
      damages.push_back({.file = file,
                         .at = page * kPageBytes + random_.Below(120),
                         .bit = static_cast<unsigned>(random_.Below(8))});
  }
  RunAll(damages);
}

TEST_F(HealingTest, AZeroedStretchCostsAtMostTheFramesInIt) {
  std::vector<Damage> damages;
  for (const std::string& file : Segments()) {
    const size_t used = UsedPages(image_->files[file]);
    for (size_t page = 0; page < used; ++page) {
      damages.push_back({.kind = Damage::Kind::kZero,
                         .file = file,
                         .at = page * kPageBytes + kSectorBytes * random_.Below(8),
                         .bytes = random_.Below(2) == 0 ? kSectorBytes : kPageBytes});
    }
  }
  RunAll(damages);
}

TEST_F(HealingTest, AFileCutOffOrGoneCostsWhatWasInIt) {
  std::vector<Damage> damages;
  for (const std::string& file : Segments()) {
    const std::string& bytes = image_->files[file];
    damages.push_back({.kind = Damage::Kind::kRemove, .file = file});
    for (const size_t at : {size_t{0}, size_t{100}, kPageBytes, 3 * kPageBytes})
      damages.push_back({.kind = Damage::Kind::kCut, .file = file, .at = at});
    for (int i = 0; i < 20; ++i)
      damages.push_back(
          {.kind = Damage::Kind::kCut, .file = file, .at = random_.Below(bytes.size())});
  }
  RunAll(damages);
}

// Both copies of the newest segment's checkpoint are damaged; all else is sound.
class LostCheckpointTest : public testing::Test {
 protected:
  LostCheckpointTest() {
    base::SetLogLevel(base::LogLevel::kError);
    HF_CHECK(spool_.Open());
    for (int i = 0; i < 60; ++i)
      HF_CHECK(spool_.AppendNow(i % 3 == 0 ? "a" : "b", std::string(30'000, 'e')));
    HF_CHECK(spool_.TrimNow("b", 7));
    HF_CHECK(spool_.Submit(0, [](Transaction& transaction) { transaction.Put("key", "value"); }));
    spool_.clock.RunUntilIdle();
    spool_.spool->SealSoon();
    spool_.clock.RunUntilIdle();
    HF_CHECK(spool_.AppendNow("a", "in the newest"));
    newest_ = spool_.spool->GetStatus().segments;
    spool_.Close();
    HF_CHECK(newest_ >= 3);
    HF_CHECK(DamagePiece(Directory::SegmentPath(directory_.path(), newest_), 0) == 2);
  }

  TemporaryDirectory directory_;
  TestSpool spool_{directory_.path()};
  uint32_t newest_ = 0;
};

TEST_F(LostCheckpointTest, IsMadeUpForBeforeOlderSegmentsGo) {
  ASSERT_TRUE(spool_.Open());
  ASSERT_TRUE(spool_.AppendNow("a", "later"));
  const StreamId a = *spool_.spool->FindStream("a");
  const StreamId b = *spool_.spool->FindStream("b");
  ASSERT_EQ(spool_.spool->Range(b).start, 7);
  const int64_t in_newest = spool_.spool->Range(a).end - 2;
  ASSERT_TRUE(spool_.TrimNow("a", in_newest));
  ASSERT_TRUE(spool_.TrimNow("b", spool_.spool->Range(b).end));
  ASSERT_FALSE(fs::exists(Directory::SegmentPath(directory_.path(), newest_ - 1)));
  const auto seen = spool_.owner.seen;
  const auto count = spool_.Get("count/0");
  spool_.Reopen();
  EXPECT_EQ(spool_.spool->FindStream("a"), a);
  EXPECT_EQ(spool_.spool->FindStream("b"), b);
  EXPECT_EQ(spool_.spool->Range(a).start, in_newest);
  EXPECT_EQ(spool_.spool->Range(b).start, spool_.spool->Range(b).end);
  EXPECT_EQ(spool_.ReadAll("a"), (std::vector<std::string>{"in the newest", "later"}));
  EXPECT_EQ(spool_.Get("key"), "value");
  EXPECT_EQ(spool_.Get("count/0"), count);
  EXPECT_EQ(spool_.owner.seen, seen);
}

// The new checkpoint does not know it, so the next start would take it for a retired one.
TEST_F(LostCheckpointTest, ASegmentOfWhichNothingCanBeReadIsKept) {
  const std::string path = Directory::SegmentPath(directory_.path(), 1);
  const auto size = fs::file_size(path);
  std::ofstream(path, std::ios::binary) << std::string(size, 'x');
  ASSERT_TRUE(spool_.Open());
  spool_.Reopen();
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(fs::file_size(path + ".damaged"), size);
  EXPECT_TRUE(spool_.AppendNow("a", "later"));
}

TEST_F(LostCheckpointTest, DoesNotKeepTheSpoolFromRecovering) {
  FaultyDisk disk;
  ASSERT_TRUE(spool_.Open());
  bool failed = false;
  disk.OnCall([&](FaultyDisk::Call call, int) {
    return call == FaultyDisk::Call::kSync && !std::exchange(failed, true) ? EIO : 0;
  });
  EXPECT_FALSE(spool_.AppendNow("a", "refused"));
  ASSERT_TRUE(failed);
  spool_.clock.Advance(std::chrono::minutes(1));
  EXPECT_TRUE(spool_.spool->GetStatus().accepting) << spool_.spool->GetStatus().refusing_because;
  EXPECT_TRUE(spool_.AppendNow("a", "taken"));
  EXPECT_EQ(spool_.ReadAll("a").back(), "taken");
}

// Nobody needs an entry of the older segment, but the state is nowhere else.
TEST(LostCheckpointOnAFullDiskTest, OlderSegmentsStayUntilItIsMadeUpFor) {
  base::SetLogLevel(base::LogLevel::kError);
  TemporaryDirectory directory;
  TemporaryDirectory scratch;
  const std::string image = scratch.path() + "/image";
  {
    TestSpool spool(directory.path());
    ASSERT_TRUE(spool.Open());
    ASSERT_TRUE(spool.AppendNow("a", "one"));
    spool.spool->SealSoon();
    spool.clock.RunUntilIdle();
    ASSERT_TRUE(spool.AppendNow("b", "two"));
    bool trimmed = false;
    ASSERT_TRUE(spool.Submit(
        0, [](Transaction& transaction) { transaction.Trim(transaction.OpenStream("a"), 1); },
        [&](const auto& result) { trimmed = result.has_value(); }));
    while (!trimmed) spool.writer.RunOne();
    fs::copy(directory.path(), image);  // As a crash leaves it.
  }
  const std::string older = Directory::SegmentPath(image, 1);
  ASSERT_TRUE(fs::exists(older));
  ASSERT_EQ(DamagePiece(Directory::SegmentPath(image, 2), 0), 2);
  FaultyDisk disk;
  disk.OnCall(
      [](FaultyDisk::Call call, int) { return call == FaultyDisk::Call::kAllocate ? ENOSPC : 0; });
  TestSpool spool(image);
  ASSERT_TRUE(spool.Open());
  EXPECT_FALSE(spool.spool->GetStatus().accepting);
  EXPECT_TRUE(fs::exists(older));
  disk.OnCall({});
  spool.clock.Advance(std::chrono::minutes(1));
  EXPECT_TRUE(spool.spool->GetStatus().accepting) << spool.spool->GetStatus().refusing_because;
  EXPECT_FALSE(fs::exists(older));
  EXPECT_EQ(spool.Get("count/0"), "1");
}

// Twins of one parent, as a crash between a frame and LMDB's meta page leaves them.
class TwinsTest : public testing::Test {
 protected:
  // A value with pages of its own. Returns its checksum.
  uint32_t Add(uint64_t commit, int64_t time_ms, uint32_t previous) {
    const FrameDraft draft{.seed = origin_.Seed(),
                           .previous = previous,
                           .commit = CommitNumber(commit),
                           .commit_time_ms = time_ms,
                           .changes = "changes"};
    file_.resize((file_.size() + kPageBytes - 1) / kPageBytes * kPageBytes + 16);
    const size_t at = file_.size();
    file_.resize(at + draft.FrameBytes());
    return EncodeFrame(draft, std::span(file_).subspan(at));
  }
  // When the commit that counts was made; -1 if none does.
  int64_t TimeOf(uint64_t commit) {
    const std::string path = directory_.path() + "/file";
    file_.resize((file_.size() + kPageBytes - 1) / kPageBytes * kPageBytes);
    WriteFile(path, file_);
    const auto salvage = Salvage::Scan(path, origin_, std::nullopt, /*whole=*/false);
    HF_CHECK(salvage);
    const auto frame = (*salvage)->frames().find(CommitNumber(commit));
    if (frame == (*salvage)->frames().end()) return -1;
    return FrameView::Parse(frame->second)->commit_time_ms();
  }

  TemporaryDirectory directory_;
  const Origin origin_{.spool = {}, .segment = 1};
  std::string file_;
};

TEST_F(TwinsTest, TheOneThatTheNextFrameNamesCounts) {
  const uint32_t first = Add(1, 100, 0);
  const uint32_t older = Add(2, 200, first);
  Add(2, 250, first);  // Says that it is later: the clock was set.
  Add(3, 300, older);
  EXPECT_EQ(TimeOf(2), 200);
  EXPECT_EQ(TimeOf(3), 300);
}

TEST_F(TwinsTest, OfTheLastTheLaterCounts) {
  const uint32_t first = Add(1, 100, 0);
  Add(2, 200, first);
  Add(2, 250, first);
  EXPECT_EQ(TimeOf(2), 250);
}

}  // namespace
}  // namespace holdfast::spool
