#include "cli/doctor/file_system.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace holdfast::cli::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMountInfo =
    R"(22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 27 0:44 / /var/lib/my\040spool rw,nosuid shared:1 master:2 - tmpfs tmpfs rw,size=64k
37 27 8:17 / /data rw,relatime - ext4 /dev/sdb1 rw,nobarrier,data=writeback
38 27 0:50 / /data rw,relatime - xfs /dev/sdc ro
not a line
39 27 0:51 / /database rw - fuse.sshfs host:/x rw
)";

TEST(MountTest, APathIsOnTheDeepestMountAndOfSeveralThereTheLast) {
  const auto mounts = ParseMounts(kMountInfo);
  ASSERT_EQ(mounts.size(), 6);
  EXPECT_EQ(FindMount(mounts, "/var/lib")->point, "/");
  EXPECT_EQ(FindMount(mounts, "/var/lib/my spool/a")->type, "tmpfs");
  EXPECT_EQ(FindMount(mounts, "/data")->type, "xfs");
  EXPECT_EQ(FindMount(mounts, "/database/a")->type, "fuse.sshfs") << "is not below /data";
  EXPECT_EQ(FindMount({}, "/"), nullptr);
}

TEST(MountTest, OptionsAreThoseOfTheMountAndOfTheFileSystem) {
  const auto mounts = ParseMounts(kMountInfo);
  const Mount& covered = mounts[3];
  EXPECT_EQ(covered.major, 8);
  EXPECT_EQ(covered.minor, 17);
  EXPECT_EQ(covered.source, "/dev/sdb1");
  EXPECT_TRUE(covered.Has("relatime"));
  EXPECT_TRUE(covered.Has("nobarrier"));
  EXPECT_TRUE(covered.Has("data=writeback"));
  EXPECT_FALSE(covered.Has("ro"));
  EXPECT_TRUE(FindMount(mounts, "/data")->Has("ro"));
}

TEST(MountTest, FileSystemsKeepWhatTheyAreGivenOrDoNot) {
  EXPECT_EQ(KeepingOf("ext4"), Keeping::kDisk);
  EXPECT_EQ(KeepingOf("tmpfs"), Keeping::kMemory);
  EXPECT_EQ(KeepingOf("overlay"), Keeping::kContainer);
  EXPECT_EQ(KeepingOf("nfs4"), Keeping::kRemote);
  EXPECT_EQ(KeepingOf("fuse.s3fs"), Keeping::kRemote);
  EXPECT_EQ(KeepingOf("newfs"), Keeping::kUnknown);
}

// /sys as the kernel lays it out: dev/block has links to devices, partitions are below their disks.
class BlockDeviceTest : public testing::Test {
 protected:
  BlockDeviceTest()
      : sys_(fs::path(testing::TempDir()) / ("holdfast-sys-" + std::to_string(getpid()))) {
    fs::remove_all(sys_);
    fs::create_directories(sys_ / "dev/block");
  }
  ~BlockDeviceTest() override { fs::remove_all(sys_); }

  void Write(const std::string& file, const std::string& text) {
    fs::create_directories((sys_ / file).parent_path());
    std::ofstream(sys_ / file) << text << "\n";
  }

  const fs::path sys_;
};

TEST_F(BlockDeviceTest, APartitionIsItsDisk) {
  Write("devices/pci/sda/queue/rotational", "1");
  Write("devices/pci/sda/queue/write_cache", "write back");
  Write("devices/pci/sda/device/model", "HGST HUS726");
  Write("devices/pci/sda/device/scsi_disk/0:0:0:0/cache_type", "write back");
  Write("devices/pci/sda/sda1/partition", "1");
  fs::create_directory_symlink("../../devices/pci/sda/sda1", sys_ / "dev/block/8:1");
  const auto device = ReadBlockDevice(sys_.string(), 8, 1);
  ASSERT_TRUE(device);
  EXPECT_EQ(device->name, "sda");
  EXPECT_TRUE(device->rotational);
  EXPECT_TRUE(device->flushes_cache);
  EXPECT_FALSE(device->virtual_);
  EXPECT_EQ(device->cache_type, "write back");
}

TEST_F(BlockDeviceTest, ADiskOfAVirtualMachineIsVirtualWhateverItIsCalled) {
  Write("devices/pci/nvme0n1/queue/write_cache", "write through");
  Write("devices/pci/nvme0n1/device/model", "Amazon Elastic Block Store");
  fs::create_directory_symlink("../../devices/pci/nvme0n1", sys_ / "dev/block/259:0");
  const auto device = ReadBlockDevice(sys_.string(), 259, 0);
  ASSERT_TRUE(device);
  EXPECT_TRUE(device->virtual_);
  EXPECT_FALSE(device->flushes_cache);
}

TEST_F(BlockDeviceTest, WhatIsNoBlockDeviceIsNone) {
  EXPECT_FALSE(ReadBlockDevice(sys_.string(), 0, 44));
}

}  // namespace
}  // namespace holdfast::cli::doctor
