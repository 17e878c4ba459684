// The calls that LMDB and the spool change files with, each sent to the simulated disk if it is
// about one of its files. `nm -u` on liblmdb.a and the spool's library lists them: fallocate,
// fdatasync, fsync, ftruncate, link, msync, open, pwrite, remove, rename, unlink, write and writev;
// and close, since the disk keeps account of descriptors.
#include <fcntl.h>
#include <unistd.h>

#include <cstdarg>

#include "base/check.h"
#include "tests/power_cut/real_calls.h"
#include "tests/power_cut/simulated_disk.h"

using holdfast::power_cut::SimulatedDisk;

namespace {

// Where the descriptor's file position stands; -1 where that means nothing.
off_t PositionOf(int fd) { return lseek(fd, 0, SEEK_CUR); }

ssize_t WriteOn(SimulatedDisk& disk, int fd, const iovec* parts, int count) {
  const off_t position = PositionOf(fd);
  const ssize_t written = disk.Write(fd, parts, count, position);
  if (written > 0) HF_CHECK(lseek(fd, position + written, SEEK_SET) >= 0);
  return written;
}

}  // namespace

extern "C" {

int __wrap_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const auto mode = static_cast<mode_t>((flags & O_CREAT) != 0 ? va_arg(rest, int) : 0);
  va_end(rest);
  SimulatedDisk* const disk = SimulatedDisk::Of(path);
  return disk != nullptr ? disk->Open(path, flags, mode) : __real_open(path, flags, mode);
}

int __wrap_close(int fd) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  return disk != nullptr ? disk->Close(fd) : __real_close(fd);
}

ssize_t __wrap_write(int fd, const void* data, size_t size) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  if (disk == nullptr) return __real_write(fd, data, size);
  const iovec part{const_cast<void*>(data), size};
  return WriteOn(*disk, fd, &part, 1);
}

ssize_t __wrap_writev(int fd, const iovec* parts, int count) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  if (disk == nullptr) return __real_writev(fd, parts, count);
  return WriteOn(*disk, fd, parts, count);
}

ssize_t __wrap_pwrite(int fd, const void* data, size_t size, off_t offset) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  if (disk == nullptr) return __real_pwrite(fd, data, size, offset);
  const iovec part{const_cast<void*>(data), size};
  return disk->Write(fd, &part, 1, offset);
}

int __wrap_fdatasync(int fd) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  return disk != nullptr ? disk->Flush(fd) : __real_fdatasync(fd);
}

int __wrap_fsync(int fd) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  return disk != nullptr ? disk->Flush(fd) : __real_fsync(fd);
}

int __wrap_ftruncate(int fd, off_t size) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  return disk != nullptr ? disk->Truncate(fd, size) : __real_ftruncate(fd, size);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t size) {
  SimulatedDisk* const disk = SimulatedDisk::Of(fd);
  return disk != nullptr ? disk->Allocate(fd, mode, offset, size)
                         : __real_fallocate(fd, mode, offset, size);
}

int __wrap_rename(const char* from, const char* to) {
  SimulatedDisk* const disk = SimulatedDisk::Of(from);
  return disk != nullptr ? disk->Rename(from, to) : __real_rename(from, to);
}

int __wrap_link(const char* from, const char* to) {
  SimulatedDisk* const disk = SimulatedDisk::Of(from);
  return disk != nullptr ? disk->Link(from, to) : __real_link(from, to);
}

int __wrap_unlink(const char* path) {
  SimulatedDisk* const disk = SimulatedDisk::Of(path);
  return disk != nullptr ? disk->Unlink(path) : __real_unlink(path);
}

int __wrap_remove(const char* path) {
  SimulatedDisk* const disk = SimulatedDisk::Of(path);
  return disk != nullptr ? disk->Unlink(path) : __real_remove(path);
}

// The disk would not see what is written through a map, nor what these calls do. Whoever begins to
// use one of them teaches it to the disk first.
#define HF_UNKNOWN_TO_THE_DISK(call) \
  long __wrap_##call() { holdfast::base::CheckFailed(__FILE__, __LINE__, #call); }

HF_UNKNOWN_TO_THE_DISK(msync)
HF_UNKNOWN_TO_THE_DISK(open64)
HF_UNKNOWN_TO_THE_DISK(openat)
HF_UNKNOWN_TO_THE_DISK(creat)
HF_UNKNOWN_TO_THE_DISK(pwrite64)
HF_UNKNOWN_TO_THE_DISK(pwritev)
HF_UNKNOWN_TO_THE_DISK(pwritev64)
HF_UNKNOWN_TO_THE_DISK(pwritev2)
HF_UNKNOWN_TO_THE_DISK(truncate)
HF_UNKNOWN_TO_THE_DISK(ftruncate64)
HF_UNKNOWN_TO_THE_DISK(fallocate64)
HF_UNKNOWN_TO_THE_DISK(posix_fallocate)
HF_UNKNOWN_TO_THE_DISK(sync_file_range)
HF_UNKNOWN_TO_THE_DISK(copy_file_range)
HF_UNKNOWN_TO_THE_DISK(linkat)
HF_UNKNOWN_TO_THE_DISK(renameat)
HF_UNKNOWN_TO_THE_DISK(renameat2)
HF_UNKNOWN_TO_THE_DISK(unlinkat)

}  // extern "C"
