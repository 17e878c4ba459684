// The calls; disk_image.cc has the rest.
#include "tests/power_cut/simulated_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"

namespace holdfast::power_cut {
namespace {

constexpr off_t kLmdbPageBytes = 4096;

SimulatedDisk* current = nullptr;

// What this process has open on the disk, by descriptor.
struct Handle {
  ino_t inode = 0;  // 0: nothing.
  bool directory = false;
  bool flushes = false;  // With each write.
  bool old = false;      // Was there before.
  std::string path;      // As of its opening.
};
std::vector<Handle> handles;

struct stat StatOf(int fd) {
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  return info;
}

bool IsUnder(std::string_view path, std::string_view root) {
  return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
}

// LMDB's, which say which commit counts.
bool IsMetaPage(int fd, off_t offset) {
  return offset < 2 * kLmdbPageBytes &&
         handles[static_cast<size_t>(fd)].path.find(".segment") != std::string::npos;
}

bool IsSpare(int fd) {
  const Handle& handle = handles[static_cast<size_t>(fd)];
  return handle.old && handle.path.ends_with(".segment.new");
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
  handles.clear();
  PowerUp();
}

void SimulatedDisk::BeginLife(const Life& life, Witness* witness) {
  calls_ = 0;
  fault_ = life.fault;
  cut_ = life.cut;
  witness_ = witness;
}

void SimulatedDisk::EndLife() {
  if (witness_ != nullptr) witness_->BeforeCall(calls_ + 1);
  if (cut_.call == 0) return;
  if (cut_.pattern != Pattern::kKilled) CutPower(cut_.pattern, cut_.seed);
  _exit(0);
}

SimulatedDisk* SimulatedDisk::Of(int fd) {
  if (current == nullptr || fd < 0 || static_cast<size_t>(fd) >= handles.size()) return nullptr;
  const ino_t inode = handles[static_cast<size_t>(fd)].inode;
  if (inode == 0) return nullptr;
  // One that has no name any more is nobody's concern.
  return handles[static_cast<size_t>(fd)].directory || current->files_.contains(inode) ? current
                                                                                       : nullptr;
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

SimulatedDisk::Verdict SimulatedDisk::Before(Kind kind, const char* path) {
  if (kind == Kind::kFlushNames || (path != nullptr && IsUnseen(path)))
    NoticeUnseen(std::string(root_));
  ++calls_;
  if (witness_ != nullptr) witness_->BeforeCall(calls_);
  if (calls_ == cut_.call) EndLife();
  if (fault_.call == 0 || calls_ < fault_.call || fault_.count == 0 || !Applies(kind)) return {};
  --fault_.count;
  ++failed_calls_[static_cast<size_t>(fault_.kind)];
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

FileHistory& SimulatedDisk::HistoryOf(int fd) {
  return files_.at(handles[static_cast<size_t>(fd)].inode);
}

ssize_t SimulatedDisk::Write(int fd, const iovec* parts, int count, off_t offset) {
  const Verdict verdict = Before(Kind::kWrite);
  const bool flushes = handles[static_cast<size_t>(fd)].flushes;
  if ((verdict.error != 0 || verdict.half) && IsMetaPage(fd, offset)) ++failed_meta_writes_;
  if (!verdict.happens) return Failed(verdict.error);
  std::vector<char> bytes;
  for (int i = 0; i < count; ++i) {
    const char* const part = static_cast<const char*>(parts[i].iov_base);
    bytes.insert(bytes.end(), part, part + parts[i].iov_len);
  }
  const size_t size = verdict.half ? bytes.size() / 2 : bytes.size();

  FileHistory& file = HistoryOf(fd);
  const uint64_t change = next_change_++;
  const auto begin = static_cast<uint64_t>(offset);
  if (offset + static_cast<off_t>(size) > StatOf(fd).st_size) file.RememberSize(fd, change);
  file.Remember(fd, change, begin, begin + size);
  HF_CHECK(__real_pwrite(fd, bytes.data(), size, offset) == static_cast<ssize_t>(size));
  file.Changed(fd, begin, begin + size, bytes.data());
  if (verdict.error != 0) return Failed(verdict.error);
  if (flushes) file.Flushed(begin, begin + size);
  return static_cast<ssize_t>(size);
}

int SimulatedDisk::Flush(int fd) {
  const Handle handle = handles[static_cast<size_t>(fd)];
  if (!handle.directory) {
    const Verdict verdict = Before(Kind::kFlush);
    return FlushFile(fd, verdict, HistoryOf(fd));
  }
  if (const Verdict verdict = Before(Kind::kFlushNames); !verdict.happens)
    return Failed(verdict.error);
  if (lie_ != Lie::kFlushesDoNothing && lie_ != Lie::kDirectoryFlushesDoNothing) {
    directories_.at(std::pmr::string(handle.path)).Flushed();
    EmptyLimbo();
  }
  return 0;
}

int SimulatedDisk::FlushFile(int fd, const Verdict& verdict, FileHistory& file) {
  if (verdict.error == 0) {
    if (lie_ != Lie::kFlushesDoNothing && !(lie_ == Lie::kFlushesOfSparesDoNothing && IsSpare(fd)))
      file.Flushed();
    return 0;
  }
  if (fault_.kind == FaultKind::kFlushLost || fault_.kind == FaultKind::kFlushForgotten)
    file.FlushFailed(fd, MakeDice(Pattern::kTorn, calls_),
                     fault_.kind == FaultKind::kFlushForgotten);
  return Failed(verdict.error);
}

int SimulatedDisk::Truncate(int fd, off_t size) {
  if (const Verdict verdict = Before(Kind::kResize); !verdict.happens) return Failed(verdict.error);
  const auto old_size = static_cast<uint64_t>(StatOf(fd).st_size);
  FileHistory& file = HistoryOf(fd);
  const uint64_t change = next_change_++;
  const uint64_t begin = std::min(static_cast<uint64_t>(size), old_size);
  file.Remember(fd, change, begin, old_size);
  file.RememberSize(fd, change);
  if (__real_ftruncate(fd, size) != 0) return -1;
  file.Changed(fd, begin, old_size);
  return 0;
}

// Blocks are of no interest here, and cost more than all else.
int SimulatedDisk::Allocate(int fd, int mode, off_t offset, off_t size) {
  HF_CHECK(mode == 0);
  if (const Verdict verdict = Before(Kind::kResize); !verdict.happens) return Failed(verdict.error);
  if (offset + size <= StatOf(fd).st_size) return 0;
  HistoryOf(fd).RememberSize(fd, next_change_++);
  return __real_ftruncate(fd, offset + size);
}

int SimulatedDisk::Open(const char* path, int flags, mode_t mode) {
  HF_CHECK((flags & O_TRUNC) == 0);
  // Opening for reading changes nothing.
  if ((flags & O_ACCMODE) != O_RDONLY) {
    if (const Verdict verdict = Before(Kind::kOpen, path); !verdict.happens)
      return Failed(verdict.error);
    CopyShared(path);
    flags = (flags & ~O_ACCMODE) | O_RDWR;  // What is written must be read first.
  }
  const int fd = __real_open(path, flags, mode);
  if (fd < 0) return fd;
  const struct stat info = StatOf(fd);
  const bool is_directory = S_ISDIR(info.st_mode);
  if (handles.size() <= static_cast<size_t>(fd)) handles.resize(static_cast<size_t>(fd) + 1);
  handles[static_cast<size_t>(fd)] = {info.st_ino, is_directory, (flags & O_DSYNC) != 0,
                                      files_.contains(info.st_ino), path};
  if (!is_directory && !files_.contains(info.st_ino) && (flags & O_ACCMODE) != O_RDONLY) {
    const auto [directory, name] = Find(path);
    directory->Make(next_change_++, name, info.st_ino);
    AddFile(info.st_ino);
  }
  return fd;
}

int SimulatedDisk::Close(int fd) {
  handles[static_cast<size_t>(fd)] = {};
  return __real_close(fd);
}

int SimulatedDisk::Rename(const char* from, const char* to) {
  if (const Verdict verdict = Before(Kind::kRename, from); !verdict.happens)
    return Failed(verdict.error);
  const auto [directory, name] = Find(from);
  const auto [to_directory, to_name] = Find(to);
  HF_CHECK(directory == to_directory);
  struct stat info {};
  if (lstat(from, &info) != 0) return -1;
  const ino_t inode = info.st_ino;
  if (lstat(to, &info) == 0) HF_CHECK(__real_rename(to, InLimbo(info.st_ino).c_str()) == 0);
  HF_CHECK(__real_rename(from, to) == 0);
  directory->Rename(next_change_++, name, to_name, inode);
  return 0;
}

int SimulatedDisk::Link(const char* from, const char* to) {
  struct stat info {};
  if (lstat(to, &info) == 0) return Failed(EEXIST);
  return Rename(from, to);
}

int SimulatedDisk::Unlink(const char* path) {
  struct stat info {};
  if (lstat(path, &info) != 0) return -1;  // Nothing there, nothing that could happen.
  if (const Verdict verdict = Before(Kind::kUnlink, path); !verdict.happens)
    return Failed(verdict.error);
  const auto [directory, name] = Find(path);
  HF_CHECK(__real_rename(path, InLimbo(info.st_ino).c_str()) == 0);
  directory->Remove(next_change_++, name);
  return 0;
}

SimulatedDisk::Place SimulatedDisk::Find(const std::string& path) {
  const size_t slash = path.rfind('/');
  return {&directories_.at(std::pmr::string(path, 0, slash, memory_)), path.substr(slash + 1)};
}

}  // namespace holdfast::power_cut
