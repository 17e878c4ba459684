#include "cli/doctor/cgroup.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace holdfast::cli::doctor {
namespace {

namespace fs = std::filesystem;

class CgroupTest : public testing::Test {
 protected:
  CgroupTest()
      : root_(fs::path(testing::TempDir()) / ("holdfast-cgroup-" + std::to_string(getpid()))) {
    fs::remove_all(root_);
  }
  ~CgroupTest() override { fs::remove_all(root_); }

  void Write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  CgroupLimits Read() { return ReadCgroup(root_.string()); }

  const fs::path root_;
};

TEST_F(CgroupTest, TheLeastLimitOnTheWayUpCounts) {
  Write("proc/self/cgroup", "0::/a/b");
  Write("sys/fs/cgroup/a/memory.max", "1000");
  Write("sys/fs/cgroup/a/b/memory.max", "max");
  Write("sys/fs/cgroup/a/b/cpu.max", "50000 100000");
  Write("sys/fs/cgroup/a/b/cpu.stat", "usage_usec 5\nnr_periods 200\nnr_throttled 50");
  const CgroupLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes_max, 1000);
  ASSERT_TRUE(limits.cpus_max);
  EXPECT_DOUBLE_EQ(*limits.cpus_max, 0.5);
  EXPECT_EQ(limits.periods, 200);
  EXPECT_EQ(limits.throttled_periods, 50);
}

TEST_F(CgroupTest, InsideOfAContainerTheRootIsItsOwn) {
  Write("proc/self/cgroup", "0::/kubepods/burstable/pod1/c1");
  Write("sys/fs/cgroup/memory.max", "268435456");
  Write("sys/fs/cgroup/cpu.max", "max 100000");
  const CgroupLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes_max, 268435456);
  EXPECT_FALSE(limits.cpus_max);
}

TEST_F(CgroupTest, TheFirstVersionHasAHierarchyForEachController) {
  Write("proc/self/cgroup", "4:memory:/x\n1:cpu,cpuacct:/y\n0::/");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  Write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096");
  Write("sys/fs/cgroup/cpu/y/cpu.cfs_quota_us", "-1");
  Write("sys/fs/cgroup/cpu/y/cpu.cfs_period_us", "100000");
  const CgroupLimits limits = Read();
  EXPECT_EQ(limits.memory_bytes_max, 4096);
  EXPECT_FALSE(limits.cpus_max);
}

TEST_F(CgroupTest, NothingIsNoLimit) {
  EXPECT_FALSE(Read().memory_bytes_max);
  Write("proc/self/cgroup", "4:memory:/\n0::/");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_FALSE(Read().memory_bytes_max);
}

}  // namespace
}  // namespace holdfast::cli::doctor
