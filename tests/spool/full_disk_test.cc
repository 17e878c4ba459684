// On a file system that is really full: what the spool has taken ahead is all that it needs to go
// on, to start again and to be removed, and nothing ends the process.
//
// Each case has a small file system of its own, in a child process, so that a signal fails the case
// and not the test.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include "base/log.h"
#include "spool/directory.h"
#include "tests/spool/spool_fixture.h"

namespace holdfast::spool {
namespace {

namespace fs = std::filesystem;

constexpr int kNoMounts = 42;

// What is not as it should be; empty: all is.
using Case = std::function<std::string(const std::string& path)>;

class FullDiskTest : public testing::Test {
 protected:
  // Runs the case on a file system of `mebibytes`.
  void Run(int mebibytes, const Case& test) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      base::SetLogLevel(base::LogLevel::kError);
      const std::string& path = directory_.path();
      const std::string options = "size=" + std::to_string(mebibytes) + "m";
      if (unshare(CLONE_NEWNS) != 0 ||
          mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          mount("none", path.c_str(), "tmpfs", 0, options.c_str()) != 0)
        _exit(kNoMounts);
      const std::string wrong = test(path);
      _exit(write(ends[1], wrong.data(), wrong.size()) == std::ssize(wrong) ? 0 : 1);
    }
    close(ends[1]);
    std::string wrong(4096, '\0');
    wrong.resize(
        static_cast<size_t>(std::max<ssize_t>(read(ends[0], wrong.data(), wrong.size()), 0)));
    close(ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_FALSE(WIFSIGNALED(status)) << strsignal(WTERMSIG(status));
    if (WEXITSTATUS(status) == kNoMounts) GTEST_SKIP() << "no mounts of its own here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(wrong, "");
  }

  // Another one's file takes all that is left.
  static void Fill(const std::string& path) {
    const int fd = open((path + "/other").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    HF_CHECK(fd >= 0);
    const std::string bytes(4096, 'x');
    while (write(fd, bytes.data(), bytes.size()) == std::ssize(bytes)) continue;
    HF_CHECK(errno == ENOSPC);
    close(fd);
  }
  static void Free(const std::string& path) { HF_CHECK(unlink((path + "/other").c_str()) == 0); }

  // Until there is one file more than segments: the next one.
  static bool Prepare(TestSpool& spool) {
    const auto files = [&] { return Directory::ListSegments(spool.options.directory)->size(); };
    for (int i = 0; i < 100; ++i) {
      if (files() > spool.spool->GetStatus().segments) return true;
      if (!spool.AppendNow("a", std::string(50'000, 'a'))) return false;
    }
    return false;
  }

  TemporaryDirectory directory_;
};

TEST_F(FullDiskTest, TheNextSegmentIsFilledAndThenEntriesAreRefused) {
  Run(8, [](const std::string& path) -> std::string {
    TestSpool spool(path + "/spool");
    if (!spool.Open()) return "not opened";
    if (!Prepare(spool)) return "no segment was prepared";
    const uint64_t segments = spool.spool->GetStatus().segments;
    Fill(path);
    int64_t taken = 0;
    base::Error refused;
    const auto done = [&](const base::Result<CommitNumber>& result) {
      if (!result) refused = result.error();
    };
    while (refused.message.empty() && ++taken < 100) {
      if (!spool.Append("b", std::string(50'000, 'b'), done)) return "not taken";
      spool.clock.RunUntilIdle();
    }
    if (refused.code != base::Code::kFull) return "refused because: " + refused.message;
    if (spool.spool->GetStatus().segments != segments + 1) return "the next segment was not used";
    Free(path);
    spool.clock.Advance(std::chrono::seconds(10));
    if (!spool.AppendNow("b", "once there is space again")) return "does not go on";
    spool.Close();
    Fill(path);
    if (const auto opened = spool.Open(); !opened) return opened.error().message;
    if (spool.ReadAll("b").back() != "once there is space again") return "lost";
    return "";
  });
}

// As a process leaves it that is killed, be it one of before, whose lock files had holes.
TEST_F(FullDiskTest, ASpoolWithAPreparedSegmentStarts) {
  Run(16, [](const std::string& path) -> std::string {
    const std::string image = path + "/image";
    {
      TestSpool spool(path + "/spool");
      if (!spool.Open()) return "not opened";
      if (!Prepare(spool)) return "no segment was prepared";
      fs::copy(path + "/spool", image);
    }
    const std::string prepared =
        Directory::SegmentPath(image, Directory::ListSegments(image)->back().number);
    const std::string lock = prepared.substr(image.size()) + "-lock";
    unlink((image + lock).c_str());
    for (const bool hole : {false, true}) {
      const std::string copy = path + (hole ? "/hole" : "/none");
      fs::copy(image, copy);
      if (hole) {
        const int fd = open((copy + lock).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, 64 << 10) != 0) return "no lock file";
        close(fd);
      }
      Fill(path);
      TestSpool spool(copy);
      if (const auto opened = spool.Open(); !opened) return opened.error().message;
      if (spool.ReadAll("a").empty()) return "lost";
      spool.Close();
      Free(path);
    }
    return "";
  });
}

// Its lock file has a block where LMDB wrote, and holes behind that.
TEST_F(FullDiskTest, ASpoolOfBeforeStarts) {
  Run(8, [](const std::string& path) -> std::string {
    TestSpool spool(path + "/spool");
    if (!spool.Open() || !spool.AppendNow("a", "one")) return "not opened";
    spool.Close();
    const auto files = Directory::ListSegments(path + "/spool");
    if (files->size() != 1) return "not one segment";
    const std::string lock =
        Directory::SegmentPath(path + "/spool", files->back().number) + "-lock";
    unlink(lock.c_str());
    const int fd = open(lock.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    const std::string used(4096, '\0');
    if (fd < 0 || ftruncate(fd, 64 << 10) != 0 ||
        write(fd, used.data(), used.size()) != std::ssize(used))
      return "no lock file";
    close(fd);
    Fill(path);
    if (const auto opened = spool.Open(); !opened) return opened.error().message;
    if (spool.ReadAll("a").empty()) return "lost";
    if (!spool.TrimNow("a", 1) || !spool.ReadAll("a").empty()) return "not trimmed";
    return "";
  });
}

TEST_F(FullDiskTest, ASpoolIsRemoved) {
  Run(8, [](const std::string& path) -> std::string {
    TestSpool spool(path + "/spool");
    if (!spool.Open() || !spool.AppendNow("a", "one")) return "not opened";
    spool.Close();
    Fill(path);
    {
      auto directory = Directory::OpenExisting(path + "/spool");
      if (!directory) return directory.error().message;
      if (const auto removed = directory->RemoveAll(); !removed) return removed.error().message;
    }
    if (Directory::Look(path + "/spool")) return "it is still there";
    for (const auto& left : fs::directory_iterator(path + "/spool"))
      if (left.path().filename() != "LOCK") return left.path().string() + " is left";
    return "";
  });
}

}  // namespace
}  // namespace holdfast::spool
