// What a power cut leaves of a simulated disk: changed in place, copied, or told by a number.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"
#include "tests/power_cut/simulated_disk.h"

namespace holdfast::power_cut {
namespace {

namespace fs = std::filesystem;

constexpr size_t kCopyBytes = size_t{256} << 10;

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags) : fd_(__real_open(path.c_str(), flags, 0600)) {
    HF_CHECK(fd_ >= 0);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { __real_close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] off_t size() const {
    struct stat info {};
    HF_CHECK(fstat(fd_, &info) == 0);
    return info.st_size;
  }

 private:
  const int fd_;
};

template <class Visit>  // (name, inode, is_directory)
void ForEachIn(const std::string& directory, const Visit& visit) {
  DIR* const open = opendir(directory.c_str());
  HF_CHECK(open != nullptr);
  while (const dirent* const entry = readdir(open)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..")
      visit(std::string(name), entry->d_ino, entry->d_type == DT_DIR);
  }
  closedir(open);
}

// Without its holes.
void CopyBytes(int from, int to) {
  static std::vector<char> buffer(kCopyBytes);
  off_t hole = 0;
  for (;;) {
    off_t data = lseek(from, hole, SEEK_DATA);
    if (data < 0) break;
    hole = lseek(from, data, SEEK_HOLE);
    while (data < hole) {
      const auto size = std::min(static_cast<size_t>(hole - data), kCopyBytes);
      const ssize_t moved = pread(from, buffer.data(), size, data);
      HF_CHECK(moved > 0 &&
               __real_pwrite(to, buffer.data(), static_cast<size_t>(moved), data) == moved);
      data += moved;
    }
  }
  HF_CHECK(errno == ENXIO);
}

// Also of one that may not have its name yet.
bool IsLmdbLock(std::string_view name) {
  return name.ends_with("-lock") || name.ends_with("-lock.new");
}
bool IsForTheLiving(std::string_view name) { return IsLmdbLock(name) || name == "LOCK"; }

// LMDB writes its lock files through a map, so nobody knows what was flushed.
void CutLmdbLock(int fd, off_t size, const std::string& name, const Dice& dice) {
  if (!IsLmdbLock(name) || dice.Survives(std::hash<std::string>()(name), 0)) return;
  HF_CHECK(__real_ftruncate(fd, 0) == 0 && __real_ftruncate(fd, size) == 0);
}

uint64_t Mixed(std::string_view name, uint64_t content, off_t size) {
  return base::Random(std::hash<std::string_view>()(name) ^
                      base::Random(content + 0x9e37 * static_cast<uint64_t>(size))())();
}

}  // namespace

void SimulatedDisk::CutPower(Pattern pattern, uint64_t seed) {
  NoticeUnseen(std::string(root_));
  const Dice dice = MakeDice(pattern, seed);
  CutFiles(dice);
  CutNames(dice);
  PowerUp();
}

Dice SimulatedDisk::MakeDice(Pattern pattern, uint64_t seed) const {
  uint64_t oldest = next_change_;
  for (const auto& [inode, file] : files_) oldest = file.OldestChange(oldest);
  for (const auto& [path, names] : directories_) oldest = names.OldestChange(oldest);
  return Dice(pattern, seed, oldest, next_change_);
}

std::string SimulatedDisk::InLimbo(ino_t inode) const {
  return std::string(limbo_) + "/" + std::to_string(inode);
}

void SimulatedDisk::PowerUp() {
  measured_ = false;
  files_.clear();
  directories_.clear();
  Scan(std::string(root_));
}

void SimulatedDisk::Measure() {
  if (measured_) return;
  measured_ = true;
  for (const auto& [inode, path] : Paths()) {
    if (const auto found = files_.find(inode); found != files_.end())
      found->second.Measure(OpenFile(path, O_RDONLY).fd());
  }
}

FileHistory& SimulatedDisk::AddFile(ino_t inode) {
  return files_.try_emplace(inode, memory_, measured_).first->second;
}

void SimulatedDisk::Scan(const std::string& directory) {
  NameHistory& names =
      directories_.try_emplace(std::pmr::string(directory, memory_), memory_).first->second;
  ForEachIn(directory, [&](const std::string& name, ino_t inode, bool is_directory) {
    names.Adopt(name, inode);
    const std::string path = directory + "/" + name;
    if (is_directory) return Scan(path);
    AddFile(inode);
  });
}

void SimulatedDisk::NoticeUnseen(const std::string& directory) {
  const auto [known, new_directory] =
      directories_.try_emplace(std::pmr::string(directory, memory_), memory_);
  NameHistory& names = known->second;
  ForEachIn(directory, [&](const std::string& name, ino_t inode, bool is_directory) {
    const std::string path = directory + "/" + name;
    if (is_directory) {
      if (!directories_.contains(std::pmr::string(path))) names.Make(next_change_++, name, inode);
      return NoticeUnseen(path);
    }
    if (files_.contains(inode)) return;
    const uint64_t change = next_change_++;
    names.Make(change, name, inode);
    AddFile(inode).RememberNothing(OpenFile(path, O_RDONLY).fd(), change);
  });
}

bool SimulatedDisk::IsUnseen(const std::string& path) const {
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0) return !files_.contains(info.st_ino);
  return !directories_.contains(std::pmr::string(path, 0, path.rfind('/')));
}

void SimulatedDisk::CopyShared(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0 || info.st_nlink == 1) return;
  const std::string copy = InLimbo(info.st_ino);
  struct stat copied {};
  {
    const OpenFile from(path, O_RDONLY);
    const OpenFile to(copy, O_RDWR | O_CREAT | O_EXCL);
    CopyBytes(from.fd(), to.fd());
    HF_CHECK(__real_ftruncate(to.fd(), info.st_size) == 0 && fstat(to.fd(), &copied) == 0);
  }
  HF_CHECK(__real_rename(copy.c_str(), path.c_str()) == 0);
  for (auto& [directory, names] : directories_) names.Replace(info.st_ino, copied.st_ino);
  files_.erase(info.st_ino);
  AddFile(copied.st_ino);
}

std::unordered_map<ino_t, std::string> SimulatedDisk::Paths() const {
  std::unordered_map<ino_t, std::string> paths;
  ForEachIn(std::string(limbo_), [&](const std::string& name, ino_t inode, bool) {
    paths.emplace(inode, std::string(limbo_) + "/" + name);
  });
  for (const auto& [directory, names] : directories_) {
    for (const auto& [name, inode] : names.Now())
      paths.emplace(inode, std::string(directory) + "/" + name);
  }
  return paths;
}

void SimulatedDisk::CutFiles(const Dice& dice) {
  for (const auto& [inode, path] : Paths()) {
    const auto found = files_.find(inode);
    if (found == files_.end()) continue;
    const OpenFile file(path, O_RDWR);
    found->second.Cut(file.fd(), dice);
    CutLmdbLock(file.fd(), file.size(), fs::path(path).filename(), dice);
  }
}

void SimulatedDisk::CutNames(const Dice& dice) {
  // Those above come first in the order of paths.
  for (const auto& [path, names] : directories_) {
    if (!fs::exists(std::string(path))) continue;  // Never made, like what is in it.
    const NameHistory::Names after = names.AfterCut(dice);
    const NameHistory::Names now = names.Now();
    if (after == now) continue;
    for (const auto& [name, inode] : now)
      fs::rename(std::string(path) + "/" + name, InLimbo(inode));
    for (const auto& [name, inode] : after)
      fs::rename(InLimbo(inode), std::string(path) + "/" + name);
  }
  EmptyLimbo();
}

// After a flush of a directory and after a cut nothing there can get a name again.
void SimulatedDisk::EmptyLimbo() {
  ForEachIn(std::string(limbo_), [&](const std::string&, ino_t inode, bool) {
    files_.erase(inode);
    fs::remove_all(InLimbo(inode));
  });
}

void SimulatedDisk::CopyAfterCut(const Cut& cut, const std::string& to) const {
  const Dice dice = MakeDice(cut.pattern, cut.seed);
  const std::unordered_map<ino_t, std::string> paths = Paths();
  for (const auto& [directory, names] : directories_) {
    const std::string copy = to + std::string(directory.substr(root_.size()));
    if (!fs::exists(copy)) continue;  // Never made, like what is in it.
    for (const auto& [name, inode] : names.AfterCut(dice)) {
      const std::string path = copy + "/" + name;
      const auto found = files_.find(inode);
      if (found == files_.end()) {
        fs::create_directory(path);
        continue;
      }
      const OpenFile from(paths.at(inode), O_RDONLY);
      if (!IsForTheLiving(name) && !found->second.CutChanges(from.size(), dice)) {
        HF_CHECK(__real_link(paths.at(inode).c_str(), path.c_str()) == 0);
        continue;
      }
      const OpenFile file(path, O_RDWR | O_CREAT | O_EXCL);
      CopyBytes(from.fd(), file.fd());
      HF_CHECK(__real_ftruncate(file.fd(), from.size()) == 0);
      found->second.Cut(file.fd(), dice);
      CutLmdbLock(file.fd(), file.size(), name, dice);
    }
  }
}

uint64_t SimulatedDisk::FingerprintAfterCut(const Cut& cut) {
  Measure();
  const Dice dice = MakeDice(cut.pattern, cut.seed);
  const std::unordered_map<ino_t, std::string> paths = Paths();
  uint64_t fingerprint = 0;
  std::vector<std::string> made = {std::string(root_)};
  for (const auto& [directory, names] : directories_) {
    if (std::find(made.begin(), made.end(), std::string_view(directory)) == made.end()) continue;
    for (const auto& [name, inode] : names.AfterCut(dice)) {
      const std::string path = std::string(directory) + "/" + name;
      const std::string_view below = std::string_view(path).substr(root_.size());
      const auto found = files_.find(inode);
      if (found == files_.end()) made.push_back(path);
      if (found == files_.end() || IsForTheLiving(name)) {
        fingerprint += Mixed(below, 0, 0);
        continue;
      }
      struct stat info {};
      HF_CHECK(stat(paths.at(inode).c_str(), &info) == 0);
      const auto [content, size] = found->second.FingerprintAfterCut(info.st_size, dice);
      fingerprint += Mixed(below, content, size);
    }
  }
  return fingerprint;
}

}  // namespace holdfast::power_cut
