#include "base/file_stamp.h"

#include <sys/stat.h>

namespace holdfast::base {

FileStamp StampOf(const std::string& file) {
  struct stat found {};
  if (stat(file.c_str(), &found) != 0) return {};
  return {static_cast<int64_t>(found.st_dev), static_cast<int64_t>(found.st_ino),
          int64_t{found.st_size}, int64_t{found.st_mtim.tv_sec}, int64_t{found.st_mtim.tv_nsec}};
}

}  // namespace holdfast::base
