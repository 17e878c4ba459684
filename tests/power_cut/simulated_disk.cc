#include "tests/power_cut/simulated_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"

namespace holdfast::power_cut {
namespace {

namespace fs = std::filesystem;

SimulatedDisk* current = nullptr;

struct stat StatOf(const std::string& path) {
  struct stat info {};
  HF_CHECK(lstat(path.c_str(), &info) == 0);
  return info;
}

std::string PathOf(int fd) {
  char path[PATH_MAX];
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : std::string();
}

bool IsUnder(std::string_view path, std::string_view root) {
  return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
}

int Failed(int error) {
  errno = error;
  return -1;
}

}  // namespace

SimulatedDisk::SimulatedDisk(SharedArena& arena, const std::string& root, const std::string& limbo,
                             Lie lie)
    : memory_(&arena),
      root_(root, &arena),
      limbo_(limbo, &arena),
      lie_(lie),
      files_(&arena),
      directories_(&arena) {
  current = this;
  device_ = StatOf(root).st_dev;
  PowerUp();
}

void SimulatedDisk::BeginLife(const Life& life) {
  calls_ = 0;
  fault_ = life.fault;
  cut_ = life.cut;
}

void SimulatedDisk::EndLife() {
  if (cut_.call == 0) return;
  if (cut_.pattern != Pattern::kKilled) CutPower(cut_.pattern, cut_.seed);
  _exit(0);
}

void SimulatedDisk::CutPower(Pattern pattern, uint64_t seed) {
  NoticeUnseen();
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

SimulatedDisk* SimulatedDisk::Of(int fd) {
  if (current == nullptr) return nullptr;
  struct stat info {};
  if (fstat(fd, &info) != 0 || info.st_dev != current->device_) return nullptr;
  if (current->files_.contains(info.st_ino)) return current;
  if (!IsUnder(PathOf(fd), current->root_)) return nullptr;
  // Somebody made it behind our back, or it has no name any more and nobody cares.
  current->NoticeUnseen();
  return S_ISDIR(info.st_mode) || current->files_.contains(info.st_ino) ? current : nullptr;
}

SimulatedDisk* SimulatedDisk::Of(const char* path) {
  return current != nullptr && IsUnder(path, current->root_) ? current : nullptr;
}

bool SimulatedDisk::Applies(Kind kind) const {
  switch (fault_.kind) {
    case FaultKind::kNoSpace:
    case FaultKind::kQuota:
      return kind == Kind::kWrite || kind == Kind::kResize || kind == Kind::kOpen ||
             kind == Kind::kRename;
    case FaultKind::kNoFiles:
      return kind == Kind::kOpen;
    case FaultKind::kError:
      return true;
    case FaultKind::kErrorWritten:
    case FaultKind::kShortWrite:
      return kind == Kind::kWrite;
    case FaultKind::kFlushLost:
    case FaultKind::kFlushForgotten:
      return kind == Kind::kFlush;
  }
  return false;
}

SimulatedDisk::Verdict SimulatedDisk::Before(Kind kind) {
  if (++calls_ == cut_.call) EndLife();
  if (fault_.call == 0 || calls_ < fault_.call || fault_.count == 0 || !Applies(kind)) return {};
  --fault_.count;
  ++failed_calls_;
  switch (fault_.kind) {
    case FaultKind::kNoSpace:
      return {.error = ENOSPC, .happens = false};
    case FaultKind::kQuota:
      return {.error = EDQUOT, .happens = false};
    case FaultKind::kNoFiles:
      return {.error = EMFILE, .happens = false};
    case FaultKind::kShortWrite:
      return {.half = true};
    case FaultKind::kErrorWritten:
      return {.error = EIO};
    default:
      return {.error = EIO, .happens = false};
  }
}

ssize_t SimulatedDisk::Write(int fd, const iovec* parts, int count, off_t offset) {
  const Verdict verdict = Before(Kind::kWrite);
  if (!verdict.happens) return Failed(verdict.error);
  size_t size = 0;
  for (int i = 0; i < count; ++i) size += parts[i].iov_len;
  if (verdict.half) size /= 2;

  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  FileHistory& file = files_.at(info.st_ino);
  const uint64_t change = next_change_++;
  const auto begin = static_cast<uint64_t>(offset);
  if (offset + static_cast<off_t>(size) > info.st_size) file.RememberSize(fd, change);
  file.Remember(fd, change, begin, begin + size);
  size_t left = size;
  for (int i = 0; i < count && left != 0; ++i) {
    const size_t piece = std::min(left, parts[i].iov_len);
    HF_CHECK(__real_pwrite(fd, parts[i].iov_base, piece, offset) == static_cast<ssize_t>(piece));
    offset += static_cast<off_t>(piece);
    left -= piece;
  }
  if (verdict.error != 0) return Failed(verdict.error);
  if ((fcntl(fd, F_GETFL) & O_DSYNC) != 0) file.Flushed(begin, begin + size);
  return static_cast<ssize_t>(size);
}

int SimulatedDisk::Flush(int fd) {
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  if (!S_ISDIR(info.st_mode)) return FlushFile(fd, Before(Kind::kFlush), files_.at(info.st_ino));

  const std::string path = PathOf(fd);
  NoticeUnseen(path);
  if (const Verdict verdict = Before(Kind::kFlushNames); !verdict.happens)
    return Failed(verdict.error);
  if (lie_ == Lie::kNone) {
    directories_.at(std::pmr::string(path)).Flushed();
    EmptyLimbo();
  }
  return 0;
}

int SimulatedDisk::FlushFile(int fd, const Verdict& verdict, FileHistory& file) {
  if (verdict.error == 0) {
    if (lie_ != Lie::kFlushesDoNothing) file.Flushed();
    return 0;
  }
  if (fault_.kind == FaultKind::kFlushLost || fault_.kind == FaultKind::kFlushForgotten)
    file.FlushFailed(fd, MakeDice(Pattern::kTorn, calls_),
                     fault_.kind == FaultKind::kFlushForgotten);
  return Failed(verdict.error);
}

int SimulatedDisk::Truncate(int fd, off_t size) {
  if (const Verdict verdict = Before(Kind::kResize); !verdict.happens) return Failed(verdict.error);
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  FileHistory& file = files_.at(info.st_ino);
  const uint64_t change = next_change_++;
  if (size < info.st_size)
    file.Remember(fd, change, static_cast<uint64_t>(size), static_cast<uint64_t>(info.st_size));
  file.RememberSize(fd, change);
  return __real_ftruncate(fd, size);
}

int SimulatedDisk::Allocate(int fd, int mode, off_t offset, off_t size) {
  HF_CHECK(mode == 0);
  if (const Verdict verdict = Before(Kind::kResize); !verdict.happens) return Failed(verdict.error);
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  files_.at(info.st_ino).RememberSize(fd, next_change_++);
  return __real_fallocate(fd, mode, offset, size);
}

int SimulatedDisk::Open(const char* path, int flags, mode_t mode) {
  HF_CHECK((flags & O_TRUNC) == 0);
  // Opening for reading changes nothing.
  if ((flags & O_ACCMODE) == O_RDONLY) return __real_open(path, flags, mode);
  if (const Verdict verdict = Before(Kind::kOpen); !verdict.happens) return Failed(verdict.error);
  const int fd = __real_open(path, flags, mode);
  if (fd < 0) return fd;
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  if (!files_.contains(info.st_ino)) {
    const auto [directory, name] = Find(path);
    if (files_.contains(info.st_ino)) return fd;  // Find noticed it.
    directory->Make(next_change_++, name, info.st_ino);
    files_.try_emplace(info.st_ino, memory_);
  }
  return fd;
}

int SimulatedDisk::Rename(const char* from, const char* to) {
  if (const Verdict verdict = Before(Kind::kRename); !verdict.happens) return Failed(verdict.error);
  NoticeUnseen();
  const auto [directory, name] = Find(from);
  const auto [to_directory, to_name] = Find(to);
  HF_CHECK(directory == to_directory);
  struct stat info {};
  if (lstat(from, &info) != 0) return -1;
  const ino_t inode = info.st_ino;
  if (lstat(to, &info) == 0)
    HF_CHECK(__real_rename(to, (std::string(limbo_) + "/" + std::to_string(info.st_ino)).c_str()) ==
             0);
  HF_CHECK(__real_rename(from, to) == 0);
  directory->Rename(next_change_++, name, to_name, inode);
  return 0;
}

int SimulatedDisk::Unlink(const char* path) {
  struct stat info {};
  if (lstat(path, &info) != 0) return -1;  // Nothing there, nothing that could happen.
  if (const Verdict verdict = Before(Kind::kUnlink); !verdict.happens) return Failed(verdict.error);
  const auto [directory, name] = Find(path);
  const std::string limbo = std::string(limbo_) + "/" + std::to_string(info.st_ino);
  HF_CHECK(__real_rename(path, limbo.c_str()) == 0);
  directory->Remove(next_change_++, name);
  return 0;
}

SimulatedDisk::Place SimulatedDisk::Find(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::pmr::string directory(path, 0, slash, memory_);
  if (!directories_.contains(directory)) NoticeUnseen();
  return {&directories_.at(directory), path.substr(slash + 1)};
}

void SimulatedDisk::PowerUp() {
  files_.clear();
  directories_.clear();
  Scan(std::string(root_));
}

void SimulatedDisk::Scan(const std::string& directory) {
  NameHistory& names =
      directories_.try_emplace(std::pmr::string(directory, memory_), memory_).first->second;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const struct stat info = StatOf(entry.path());
    names.Adopt(entry.path().filename(), info.st_ino);
    if (S_ISDIR(info.st_mode)) {
      Scan(entry.path());
    } else {
      files_.try_emplace(info.st_ino, memory_);
    }
  }
}

void SimulatedDisk::NoticeUnseen() { NoticeUnseen(std::string(root_)); }

void SimulatedDisk::NoticeUnseen(const std::string& directory) {
  NameHistory& names =
      directories_.try_emplace(std::pmr::string(directory, memory_), memory_).first->second;
  const NameHistory::Names known = names.Now();
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    const struct stat info = StatOf(entry.path());
    const uint64_t change = next_change_;
    if (!known.contains(name)) {
      names.Make(change, name, info.st_ino);
      ++next_change_;
    }
    if (S_ISDIR(info.st_mode)) {
      NoticeUnseen(entry.path());
    } else if (const auto [at, added] = files_.try_emplace(info.st_ino, memory_); added) {
      const int fd = __real_open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      HF_CHECK(fd >= 0);
      at->second.RememberNothing(fd, change);
      close(fd);
    }
  }
}

void SimulatedDisk::CutFiles(const Dice& dice) {
  std::vector<std::string> paths;
  for (const std::pmr::string* directory : {&root_, &limbo_}) {
    for (const fs::directory_entry& entry :
         fs::recursive_directory_iterator(std::string(*directory)))
      if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  for (const std::string& path : paths) {
    const struct stat info = StatOf(path);
    const auto found = files_.find(info.st_ino);
    if (found == files_.end()) continue;
    const int fd = __real_open(path.c_str(), O_RDWR | O_CLOEXEC);
    HF_CHECK(fd >= 0);
    found->second.Cut(fd, dice);
    // Written through a map, so nobody knows what was flushed.
    if (path.ends_with("-lock") && !dice.Survives(info.st_ino, 0)) {
      const off_t size = StatOf(path).st_size;
      HF_CHECK(__real_ftruncate(fd, 0) == 0 && __real_ftruncate(fd, size) == 0);
    }
    close(fd);
  }
}

void SimulatedDisk::CutNames(const Dice& dice) {
  const auto limbo = [&](ino_t inode) { return std::string(limbo_) + "/" + std::to_string(inode); };
  // Those above come first in the order of paths.
  for (const auto& [path, names] : directories_) {
    if (!fs::exists(std::string(path))) continue;  // Never made, like what is in it.
    const NameHistory::Names after = names.AfterCut(dice);
    const NameHistory::Names now = names.Now();
    if (after == now) continue;
    for (const auto& [name, inode] : now) fs::rename(std::string(path) + "/" + name, limbo(inode));
    for (const auto& [name, inode] : after)
      fs::rename(limbo(inode), std::string(path) + "/" + name);
  }
  EmptyLimbo();
}

// After a flush of a directory and after a cut nothing there can get a name again.
void SimulatedDisk::EmptyLimbo() {
  for (const fs::directory_entry& entry : fs::directory_iterator(std::string(limbo_))) {
    files_.erase(StatOf(entry.path()).st_ino);
    fs::remove_all(entry.path());
  }
}

}  // namespace holdfast::power_cut
