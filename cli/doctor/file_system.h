// On what a directory lies: the file system, how it is mounted, and the block device beneath, as
// Linux tells it in /proc and /sys.
//
// Threads: any; plain functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::cli::doctor {

// A line of /proc/self/mountinfo.
struct Mount {
  std::string point;
  std::string type;    // "ext4", "fuse.sshfs"
  std::string source;  // "/dev/sda1", "tmpfs", "server:/export"
  uint32_t major = 0;
  uint32_t minor = 0;
  std::vector<std::string> options;  // Of the mount and of the file system.

  // `name` alone, or NAME=VALUE in full.
  [[nodiscard]] bool Has(std::string_view option) const;
};

std::vector<Mount> ParseMounts(std::string_view mountinfo);
// What a path without links and dots is on. Of several at one point the last one covers the others.
const Mount* FindMount(const std::vector<Mount>& mounts, std::string_view path);

// What a kind of file system means for who has to keep what it acknowledged.
enum class Keeping : uint8_t {
  kDisk,       // Of this host.
  kMemory,     // Gone with the host, or before.
  kContainer,  // Gone with the container.
  kRemote,     // Elsewhere.
  kUnknown,
};
Keeping KeepingOf(std::string_view type);

struct BlockDevice {
  std::string name;         // "nvme0n1"
  bool rotational = false;  // As the kernel takes it; of a virtual device that says nothing.
  bool virtual_ = false;    // What is beneath cannot be seen: of a virtual machine, or mapped.
  // What the kernel goes by: with a volatile cache it asks the device to flush.
  bool flushes_cache = false;
  // What the device itself says of its cache, where it says so; empty if not.
  std::string cache_type;
};

// `sys`: "/sys". A partition is its disk. None: not a block device, or not to be seen from here.
std::optional<BlockDevice> ReadBlockDevice(const std::string& sys, uint32_t major, uint32_t minor);

}  // namespace holdfast::cli::doctor
