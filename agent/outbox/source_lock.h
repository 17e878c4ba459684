// One agent at a time takes events out of a file: a lock on a file of our own beside it, which the
// kernel lets go of when the process ends. The file stays; it is empty.
//
// Threads: one. Two locks of one process exclude each other, too.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace holdfast::outbox {

class SourceLock {
 public:
  // Takes the lock and lets go of another one, also of the same path if the file there is another
  // by now; if it is held already, that is all. `path` is the lock's file, `what` is for messages.
  // kUnavailable: another agent has it. kInvalid: no right to make the file.
  base::Result<void> Hold(const std::string& path, std::string_view what);
  // Whether an agent has it. No file is made. kInvalid: Hold would not get it either.
  static base::Result<bool> IsTaken(const std::string& path);

  SourceLock() = default;  // Nothing is held.
  SourceLock(SourceLock&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  SourceLock& operator=(SourceLock&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~SourceLock();

 private:
  SourceLock(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  static base::Result<SourceLock> Take(const std::string& path, std::string_view what);
  [[nodiscard]] bool held() const { return fd_ >= 0; }
  // Whether `path` names the file that is locked: it may have been replaced.
  [[nodiscard]] bool IsTheOneAt(const std::string& path) const;

  std::string path_;
  int fd_ = -1;
};

// Of a lock that cannot be opened, for `reason` as errno has it. A service of systemd, which sees
// most of the file system read-only, is told how that is changed.
base::Error CannotOpenLock(const std::string& path, int reason);

}  // namespace holdfast::outbox
