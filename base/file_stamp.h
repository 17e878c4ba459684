// Tells whether a file is still the one that was read.
//
//   const FileStamp before = StampOf(file);   // First, so that a change while reading is seen.
//   ... read the file ...
//   if (StampOf(file) != before) ...
//
// Symbolic links are followed, which is how Kubernetes exchanges the files of a volume.
//
// Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace holdfast::base {

using FileStamp = std::array<int64_t, 5>;

// All zero: there is no such file.
FileStamp StampOf(const std::string& file);

}  // namespace holdfast::base
