// The simulated disk itself: what it keeps, what it may lose, and that it takes things apart.
#include "tests/power_cut/simulated_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace holdfast::power_cut {
namespace {

namespace fs = std::filesystem;

class SimulatedDiskTest : public testing::Test {
 protected:
  SimulatedDiskTest() {
    std::string name = (fs::temp_directory_path() / "holdfast-disk-XXXXXX").string();
    HF_CHECK(mkdtemp(name.data()) != nullptr);
    base_ = name;
    root_ = base_ + "/disk";
    fs::create_directory(root_);
    fs::create_directory(base_ + "/limbo");
    // One file that was there before.
    std::ofstream(root_ + "/old") << std::string(4 * kSectorBytes, 'o');
    disk_ = arena_.New<SimulatedDisk>(arena_, root_, base_ + "/limbo", Lie::kNone);
  }
  ~SimulatedDiskTest() override { fs::remove_all(base_); }

  void Write(const std::string& name, char fill, size_t sectors, off_t sector,
             int flags = 0) const {
    const int fd = open((root_ + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
    const std::string bytes(sectors * kSectorBytes, fill);
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), sector * static_cast<off_t>(kSectorBytes)),
              static_cast<ssize_t>(bytes.size()));
    close(fd);
  }
  int Flush(const std::string& name) const {
    const int fd = open((root_ + "/" + name).c_str(), O_RDWR | O_CLOEXEC);
    const int result = fdatasync(fd);
    close(fd);
    return result;
  }
  void FlushNames() const {
    const int fd = open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_EQ(fsync(fd), 0);
    close(fd);
  }
  // The first byte of each sector.
  [[nodiscard]] std::string Sectors(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(root_ + "/" + name).rdbuf();
    const std::string bytes = text.str();
    std::string sectors;
    for (size_t at = 0; at < bytes.size(); at += kSectorBytes) {
      EXPECT_EQ(bytes.substr(at, kSectorBytes),
                std::string(std::min<size_t>(kSectorBytes, bytes.size() - at), bytes[at]));
      sectors.push_back(bytes[at] == '\0' ? '0' : bytes[at]);
    }
    return sectors;
  }
  [[nodiscard]] bool Exists(const std::string& name) const {
    return fs::exists(root_ + "/" + name);
  }

  SharedArena& arena_ = SharedArena::Map(size_t{16} << 20);
  std::string base_;
  std::string root_;
  SimulatedDisk* disk_;
};

TEST_F(SimulatedDiskTest, WhatIsNotFlushedMayBeLost) {
  Write("old", 'n', 2, 1);
  EXPECT_EQ(Sectors("old"), "onno");
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_EQ(Sectors("old"), "oooo");
}

TEST_F(SimulatedDiskTest, WhatIsFlushedStays) {
  Write("old", 'n', 2, 1);
  EXPECT_EQ(Flush("old"), 0);
  Write("old", 'd', 1, 5, O_DSYNC);
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_EQ(Sectors("old"), "onno0d");
}

TEST_F(SimulatedDiskTest, WritesAreTornAndReordered) {
  std::set<std::string> torn;
  std::set<std::string> reordered;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    for (auto [pattern, seen] :
         {std::pair(Pattern::kTorn, &torn), std::pair(Pattern::kReordered, &reordered)}) {
      Write("old", 'a', 2, 0);
      Write("old", 'b', 2, 2);
      disk_->CutPower(pattern, seed);
      seen->insert(Sectors("old"));
      Write("old", 'o', 4, 0);
      Flush("old");
    }
  }
  EXPECT_EQ(torn.size(), 16u);  // Each sector on its own.
  EXPECT_EQ(reordered, (std::set<std::string>{"aabb", "oobb", "oooo"}));
}

TEST_F(SimulatedDiskTest, ASectorMayHoldWhatItHeldAtAnyTimeSinceTheFlush) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Write("old", 'a', 1, 0);
    Write("old", 'b', 1, 0);
    disk_->CutPower(Pattern::kTorn, seed);
    seen.insert(Sectors("old").substr(0, 1));
    Write("old", 'o', 1, 0);
    Flush("old");
  }
  EXPECT_EQ(seen, (std::set<std::string>{"o", "a", "b"}));
}

TEST_F(SimulatedDiskTest, NamesThatAreNotFlushedMayBeUndone) {
  Write("new", 'n', 1, 0);
  Flush("new");
  ASSERT_EQ(unlink((root_ + "/old").c_str()), 0);
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_FALSE(Exists("new"));
  EXPECT_EQ(Sectors("old"), "oooo");
}

TEST_F(SimulatedDiskTest, FlushedNamesStay) {
  Write("new", 'n', 1, 0);
  Flush("new");
  ASSERT_EQ(rename((root_ + "/new").c_str(), (root_ + "/newer").c_str()), 0);
  ASSERT_EQ(unlink((root_ + "/old").c_str()), 0);
  FlushNames();
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_EQ(Sectors("newer"), "n");
  EXPECT_FALSE(Exists("old"));
  EXPECT_FALSE(Exists("new"));
}

TEST_F(SimulatedDiskTest, ANameMayStayWithoutItsContent) {
  Write("new", 'n', 1, 0);
  FlushNames();
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_EQ(Sectors("new"), "");
}

TEST_F(SimulatedDiskTest, FilesThatNobodySawBeingMadeAreNotFlushed) {
  std::ofstream(root_ + "/unseen") << "bytes";
  FlushNames();
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_EQ(Sectors("unseen"), "");
  std::ofstream(root_ + "/nameless") << "bytes";
  disk_->CutPower(Pattern::kDropped, 0);
  EXPECT_FALSE(Exists("nameless"));
}

TEST_F(SimulatedDiskTest, AForgottenFlushIsNeverMadeUpFor) {
  disk_->BeginLife({.fault = {.call = 1, .count = 1, .kind = FaultKind::kFlushForgotten}});
  for (int sector = 0; sector < 4; ++sector) Write("old", 'n', 1, sector);
  EXPECT_EQ(Flush("old"), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(Flush("old"), 0);
  EXPECT_EQ(Sectors("old"), "nnnn");
  disk_->CutPower(Pattern::kKept, 0);
  EXPECT_NE(Sectors("old"), "nnnn");
}

TEST_F(SimulatedDiskTest, ALostFlushIsSeen) {
  disk_->BeginLife({.fault = {.call = 1, .count = 1, .kind = FaultKind::kFlushLost}});
  for (int sector = 0; sector < 4; ++sector) Write("old", 'n', 1, sector);
  EXPECT_EQ(Flush("old"), -1);
  EXPECT_NE(Sectors("old"), "nnnn");
}

TEST_F(SimulatedDiskTest, CallsFailAsOrdered) {
  disk_->BeginLife({.fault = {.call = 2, .count = 2, .kind = FaultKind::kNoSpace}});
  const int fd = open((root_ + "/old").c_str(), O_RDWR | O_CLOEXEC);  // The first call.
  EXPECT_EQ(pwrite(fd, "x", 1, 0), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(fdatasync(fd), 0);  // Takes no space.
  EXPECT_EQ(ftruncate(fd, 9000), -1);
  EXPECT_EQ(pwrite(fd, "x", 1, 0), 1);
  disk_->BeginLife({.fault = {.call = 1, .count = 1, .kind = FaultKind::kShortWrite}});
  EXPECT_EQ(pwrite(fd, "1234", 4, 0), 2);
  close(fd);
  EXPECT_EQ(disk_->failed_calls()[static_cast<size_t>(FaultKind::kNoSpace)], 2u);
  EXPECT_EQ(disk_->failed_calls()[static_cast<size_t>(FaultKind::kShortWrite)], 1u);
}

TEST(PlanTest, CasesAreReadAsTheyAreWritten) {
  for (const std::string text :
       {"groups:0/cut:137:torn:3", "roll:7/fault:20:flush_lost:2/cut:90:kept:0",
        "single:0/cut:20:killed:0/next/fault:3:no_space:1/next/cut:9:dropped:0"}) {
    const auto parsed = ParseCase(text);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(Format(*parsed), text);
  }
  EXPECT_FALSE(ParseCase("groups:0/cut:137:molten:3"));
  EXPECT_FALSE(ParseCase("groups"));
}

}  // namespace
}  // namespace holdfast::power_cut
