#include "tests/spool/faulty_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/check.h"

namespace holdfast::spool {
namespace {

constexpr uint64_t kSectorBytes = 512;

FaultyDisk* current = nullptr;  // NOLINT(readability-identifier-naming)

uint64_t InodeOf(int fd) {
  struct stat info {};
  HF_CHECK(fstat(fd, &info) == 0);
  return info.st_ino;
}

void Overwrite(std::string& file, uint64_t offset, std::string_view bytes) {
  if (file.size() < offset + bytes.size()) file.resize(offset + bytes.size());
  std::memcpy(file.data() + offset, bytes.data(), bytes.size());
}

}  // namespace

FaultyDisk::FaultyDisk() {
  HF_CHECK(current == nullptr);
  current = this;
}

FaultyDisk::~FaultyDisk() { current = nullptr; }

FaultyDisk* FaultyDisk::Current() {
  return current != nullptr && !current->blind_ ? current : nullptr;
}

int FaultyDisk::Before(Call call) {
  if (call == Call::kSync) ++syncs_;
  const int n = calls_++;
  if (!hook_) return 0;
  blind_ = true;
  const int error = hook_(call, n);
  blind_ = false;
  return error;
}

void FaultyDisk::Wrote(int fd, std::string_view bytes, uint64_t offset) {
  files_[InodeOf(fd)].unflushed.emplace_back(offset, bytes);
}

void FaultyDisk::Synced(int fd, bool succeeded) {
  File& file = files_[InodeOf(fd)];
  if (succeeded) {
    for (const auto& [offset, bytes] : file.unflushed) Overwrite(file.durable, offset, bytes);
  }
  file.unflushed.clear();
}

void FaultyDisk::PowerCut(const std::string& from, const std::string& to, Unflushed unflushed,
                          base::Random& random) {
  namespace fs = std::filesystem;
  const bool was_blind = std::exchange(blind_, true);
  fs::remove_all(to);
  fs::create_directory(to);
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const fs::path copy = fs::path(to) / entry.path().filename();
    struct stat info {};
    HF_CHECK(stat(entry.path().c_str(), &info) == 0);
    const auto found = files_.find(info.st_ino);
    if (entry.path().extension() != ".segment" || found == files_.end()) {
      fs::copy_file(entry.path(), copy);
      continue;
    }
    std::string content = found->second.durable;
    for (const auto& [offset, bytes] : found->second.unflushed) {
      for (uint64_t at = 0; at < bytes.size(); at += kSectorBytes) {
        const bool kept = unflushed == Unflushed::kKept ||
                          (unflushed == Unflushed::kRandom && random.Below(2) == 0);
        if (kept) Overwrite(content, offset + at, std::string_view(bytes).substr(at, kSectorBytes));
      }
    }
    content.resize(static_cast<size_t>(info.st_size));
    std::ofstream(copy, std::ios::binary).write(content.data(), info.st_size);
  }
  blind_ = was_blind;
}

namespace {

using Call = FaultyDisk::Call;

// The error to fail with, or 0.
int ErrorOf(Call call) {
  FaultyDisk* const disk = FaultyDisk::Current();
  return disk != nullptr ? disk->Before(call) : 0;
}

template <class Real>
int SyncWith(int fd, Real real) {
  if (current == nullptr) return real();
  FaultyDisk* const disk = FaultyDisk::Current();
  if (disk == nullptr) return 0;  // It lives in memory; there is nothing to wait for.
  const int error = disk->Before(Call::kSync);
  disk->Synced(fd, error == 0);
  errno = error;
  return error == 0 ? 0 : -1;
}

}  // namespace
}  // namespace holdfast::spool

using holdfast::spool::ErrorOf;
using holdfast::spool::FaultyDisk;
using holdfast::spool::SyncWith;

extern "C" {

ssize_t __real_pwrite(int fd, const void* data, size_t size, off_t offset);
ssize_t __real_pwrite64(int fd, const void* data, size_t size, off_t offset);
ssize_t __real_writev(int fd, const iovec* parts, int count);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_fallocate(int fd, int mode, off_t offset, off_t size);

ssize_t __wrap_pwrite(int fd, const void* data, size_t size, off_t offset) {
  if (const int error = ErrorOf(FaultyDisk::Call::kWrite); error != 0) {
    errno = error;
    return -1;
  }
  const ssize_t written = __real_pwrite(fd, data, size, offset);
  if (FaultyDisk* const disk = FaultyDisk::Current(); disk != nullptr && written > 0)
    disk->Wrote(fd, {static_cast<const char*>(data), static_cast<size_t>(written)},
                static_cast<uint64_t>(offset));
  return written;
}

ssize_t __wrap_pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return __wrap_pwrite(fd, data, size, offset);
}

// LMDB seeks, then writes.
ssize_t __wrap_writev(int fd, const iovec* parts, int count) {
  FaultyDisk* const disk = FaultyDisk::Current();
  if (disk == nullptr) return __real_writev(fd, parts, count);
  if (const int error = ErrorOf(FaultyDisk::Call::kWrite); error != 0) {
    errno = error;
    return -1;
  }
  auto offset = static_cast<uint64_t>(lseek(fd, 0, SEEK_CUR));
  const ssize_t written = __real_writev(fd, parts, count);
  for (int i = 0; i < count && written > 0; ++i) {
    disk->Wrote(fd, {static_cast<const char*>(parts[i].iov_base), parts[i].iov_len}, offset);
    offset += parts[i].iov_len;
  }
  return written;
}

int __wrap_fdatasync(int fd) {
  return SyncWith(fd, [fd] { return __real_fdatasync(fd); });
}

int __wrap_fsync(int fd) {
  return SyncWith(fd, [fd] { return __real_fsync(fd); });
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t size) {
  if (const int error = ErrorOf(FaultyDisk::Call::kAllocate); error != 0) {
    errno = error;
    return -1;
  }
  return __real_fallocate(fd, mode, offset, size);
}

}  // extern "C"
