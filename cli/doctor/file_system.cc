#include "cli/doctor/file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <sstream>
#include <utility>

#include "cli/doctor/kernel_file.h"

namespace holdfast::cli::doctor {
namespace {

namespace fs = std::filesystem;

// Blanks and the like are written as \040.
std::string Unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr ==
            text.data() + i + 4) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

void AddOptions(std::string_view list, std::vector<std::string>& options) {
  std::istringstream in{std::string(list)};
  for (std::string option; std::getline(in, option, ',');) options.push_back(option);
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
std::optional<Mount> ParseMount(const std::string& line) {
  std::istringstream in(line);
  std::string word;
  std::string point;
  std::string options;
  Mount mount;
  char colon = 0;
  in >> word >> word >> mount.major >> colon >> mount.minor >> word >> point >> options;
  // Optional fields, until the hyphen.
  while (in >> word && word != "-") {
  }
  std::string super;
  std::string source;
  in >> mount.type >> source >> super;
  if (!in || colon != ':') return std::nullopt;
  mount.point = Unescaped(point);
  mount.source = Unescaped(source);
  AddOptions(options, mount.options);
  AddOptions(super, mount.options);
  return mount;
}

bool IsBelow(std::string_view path, std::string_view point) {
  if (point == "/") return true;
  return path.starts_with(point) && (path.size() == point.size() || path[point.size()] == '/');
}

// The first of the files that there are below `directory`: SCSI names a device there.
std::string CacheTypeOf(const fs::path& device) {
  if (std::string own = ReadLine(device / "cache_type"); !own.empty()) return own;
  std::error_code error;
  for (const auto& disk : fs::directory_iterator(device / "device" / "scsi_disk", error)) {
    if (std::string type = ReadLine(disk.path() / "cache_type"); !type.empty()) return type;
  }
  return {};
}

bool IsVirtual(const fs::path& device, std::string_view name) {
  for (const std::string_view prefix : {"vd", "xvd", "nbd", "loop", "dm-", "md", "rbd", "drbd"}) {
    if (name.starts_with(prefix)) return true;
  }
  // Disks that a hypervisor shows as SCSI or NVMe.
  std::string model = ReadLine(device / "device" / "vendor") + ReadLine(device / "device/model");
  for (const std::string_view maker :
       {"QEMU", "VMware", "VBOX", "Msft", "Google", "Amazon", "Xen", "Microsoft"}) {
    if (model.find(maker) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

bool Mount::Has(std::string_view option) const {
  return std::ranges::find(options, option) != options.end();
}

std::vector<Mount> ParseMounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  std::istringstream in{std::string(mountinfo)};
  for (std::string line; std::getline(in, line);) {
    if (auto mount = ParseMount(line)) mounts.push_back(*std::move(mount));
  }
  return mounts;
}

const Mount* FindMount(const std::vector<Mount>& mounts, std::string_view path) {
  const Mount* found = nullptr;
  for (const Mount& mount : mounts) {
    if (!IsBelow(path, mount.point)) continue;
    if (found == nullptr || mount.point.size() >= found->point.size()) found = &mount;
  }
  return found;
}

Keeping KeepingOf(std::string_view type) {
  constexpr std::array kDisks{"ext2",  "ext3",     "ext4",   "xfs",      "btrfs",
                              "zfs",   "f2fs",     "jfs",    "ntfs",     "vfat",
                              "exfat", "bcachefs", "nilfs2", "reiserfs", "ntfs3"};
  constexpr std::array kMemories{"tmpfs", "ramfs", "rootfs", "devtmpfs"};
  constexpr std::array kRemotes{"nfs",  "nfs4", "cifs",      "smb3", "smbfs",  "9p",
                                "ceph", "afs",  "glusterfs", "gfs2", "lustre", "virtiofs"};
  const auto is_one_of = [&](const auto& types) {
    return std::ranges::find(types, type) != types.end();
  };
  if (is_one_of(kDisks)) return Keeping::kDisk;
  if (is_one_of(kMemories)) return Keeping::kMemory;
  if (type == "overlay" || type == "aufs") return Keeping::kContainer;
  // Also on a disk of this host, some of them; but a flush goes by a process of its own.
  if (is_one_of(kRemotes) || type.starts_with("fuse")) return Keeping::kRemote;
  return Keeping::kUnknown;
}

std::optional<BlockDevice> ReadBlockDevice(const std::string& sys, uint32_t major, uint32_t minor) {
  std::error_code error;
  fs::path device = fs::canonical(fmt::format("{}/dev/block/{}:{}", sys, major, minor), error);
  if (error) return std::nullopt;
  if (!fs::exists(device / "queue", error)) device = device.parent_path();
  if (!fs::exists(device / "queue", error)) return std::nullopt;
  BlockDevice found{.name = device.filename().string()};
  found.rotational = ReadLine(device / "queue/rotational") == "1";
  found.virtual_ = IsVirtual(device, found.name);
  found.flushes_cache = ReadLine(device / "queue/write_cache") == "write back";
  found.cache_type = CacheTypeOf(device);
  return found;
}

}  // namespace holdfast::cli::doctor
