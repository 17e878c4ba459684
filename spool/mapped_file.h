// A file mapped for reading, as long as it was when it was mapped.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace holdfast::spool {

class MappedFile {
 public:
  // kNotFound if there is no such file.
  static base::Result<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  [[nodiscard]] std::string_view bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::string_view bytes) : bytes_(bytes) {}

  std::string_view bytes_;
};

}  // namespace holdfast::spool
