#include "spool/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::spool {

base::Result<MappedFile> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    return base::Unexpected(base::Code::kNotFound, path + ": the file is gone");
  if (fd < 0) return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  struct stat info {};
  void* address = nullptr;
  size_t size = 0;
  int error = fstat(fd, &info) == 0 ? 0 : errno;
  if (error == 0 && info.st_size > 0) {
    size = static_cast<size_t>(info.st_size);
    address = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) error = errno;
  }
  close(fd);
  if (error != 0) return base::Unexpected(base::ErrnoError(path + ": cannot map", error));
  return MappedFile(std::string_view(static_cast<const char*>(address), size));
}

MappedFile::~MappedFile() {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): munmap asks for it.
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace holdfast::spool
