// The directory of a spool: who owns it, what it is, and the names of the files in it.
//
//   HOLDFAST                       what this is: format version and the spool's id, as text
//   LOCK                           held (flock) by the process that owns the spool; its pid as text
//   00000000000000000007.segment   one LMDB environment each, with its lock file while it is open
//   *.new                          not finished, or a spare: nobody needs it after a crash
//
// A directory that holds something else is left alone, as is one written by a newer format.
//
// Threads: any; constant after Open.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::spool {

inline constexpr uint32_t kFormatVersion = 1;

using SpoolId = std::array<char, 16>;

class Directory {
 public:
  // Makes the directory if there is none. kUnavailable if another process owns it, kInvalid if it
  // is not a spool or too new.
  static base::Result<Directory> Open(const std::string& path);
  Directory(Directory&& other) noexcept;
  Directory& operator=(Directory&&) = delete;
  ~Directory();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const SpoolId& id() const { return id_; }
  [[nodiscard]] std::string SegmentPath(uint64_t number) const;

  struct File {
    uint64_t number;
    uint64_t bytes;
  };
  // Segments in order of their numbers. Removes what was left unfinished.
  base::Result<std::vector<File>> Segments() const;
  // The segment and its lock file. They are gone for good when it returns.
  base::Result<void> RemoveSegment(uint64_t number) const;
  // Takes the segment out of the log, for good, but keeps its file for AdoptSegment. Returns its
  // path; on opening it counts as unfinished.
  base::Result<std::string> SetSegmentAside(uint64_t number) const;
  // `from` takes the name of segment `number`, for good.
  base::Result<void> AdoptSegment(const std::string& from, uint64_t number) const;
  // What the file system would still give us.
  [[nodiscard]] base::Result<uint64_t> FreeBytes() const;

 private:
  explicit Directory(std::string path) : path_(std::move(path)) {}
  base::Result<bool> ReadMarker();
  base::Result<void> CheckEmpty() const;
  base::Result<void> Lock();
  base::Result<void> WriteMarker();
  base::Result<void> Sync() const;

  std::string path_;
  SpoolId id_{};
  int lock_ = -1;
};

}  // namespace holdfast::spool
