// The calls that the linker puts wrapped_calls.cc before, as they are without it.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

extern "C" {
int __real_open(const char* path, int flags, ...);
ssize_t __real_write(int fd, const void* data, size_t size);
ssize_t __real_writev(int fd, const iovec* parts, int count);
ssize_t __real_pwrite(int fd, const void* data, size_t size, off_t offset);
int __real_close(int fd);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_msync(void* address, size_t size, int flags);
int __real_ftruncate(int fd, off_t size);
int __real_fallocate(int fd, int mode, off_t offset, off_t size);
int __real_unlink(const char* path);
int __real_remove(const char* path);
int __real_link(const char* from, const char* to);
int __real_rename(const char* from, const char* to);
}
