#include "agent/outbox/source_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

namespace holdfast::outbox {
namespace {

// The service's group may take it over with another agent.
constexpr mode_t kMode = 0660;
// IsTaken has the lock for a moment.
constexpr int kTries = 3;
constexpr int kPauseMs = 10;

bool TryLock(int fd) {
  for (int tries = 1; flock(fd, LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno != EWOULDBLOCK || tries == kTries) return false;
    poll(nullptr, 0, kPauseMs);
  }
  return true;
}

}  // namespace

bool SourceLock::IsTheOneAt(const std::string& path) const {
  struct stat held {};
  struct stat named {};
  return fstat(fd_, &held) == 0 && stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

base::Result<void> SourceLock::Hold(const std::string& path, std::string_view what) {
  // Of a directory that was replaced meanwhile, others have the new one's.
  if (held() && path == path_ && IsTheOneAt(path)) return {};
  *this = SourceLock();
  HF_ASSIGN_OR_RETURN(*this, Take(path, what));
  return {};
}

base::Result<SourceLock> SourceLock::Take(const std::string& path, std::string_view what) {
  while (true) {
    SourceLock lock(path, open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kMode));
    if (!lock.held()) {
      return base::Unexpected(CannotOpenLock(path, errno));
    }
    if (!TryLock(lock.fd_)) {
      if (errno != EWOULDBLOCK) {
        return base::Unexpected(base::ErrnoError(fmt::format("cannot lock {}", path), errno));
      }
      return base::Unexpected(
          base::Code::kUnavailable,
          fmt::format("another agent takes events out of {} (it holds the lock {}); "
                      "one at a time can",
                      what, path));
    }
    // Somebody may have removed the file meanwhile, and a third made it anew.
    if (!lock.IsTheOneAt(path)) continue;
    // The umask may have taken the group's right. Who does not own the file leaves it.
    struct stat held {};
    if (fstat(lock.fd_, &held) == 0 && held.st_uid == geteuid() && (held.st_mode & kMode) != kMode)
      fchmod(lock.fd_, kMode);
    return lock;
  }
}

base::Result<bool> SourceLock::IsTaken(const std::string& path) {
  const SourceLock lock(path, open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!lock.held()) {
    const std::string directory = std::filesystem::path(path).parent_path().string();
    if (errno == ENOENT && eaccess(directory.c_str(), W_OK | X_OK) == 0) return false;
    return base::Unexpected(CannotOpenLock(path, errno));
  }
  // Shared: two that look do not meet.
  if (flock(lock.fd_, LOCK_SH | LOCK_NB) == 0) return false;
  if (errno == EWOULDBLOCK) return true;
  return base::Unexpected(base::ErrnoError(fmt::format("cannot lock {}", path), errno));
}

base::Error CannotOpenLock(const std::string& path, int reason) {
  base::Error error = base::ErrnoError(fmt::format("cannot open the lock {}", path), reason);
  if (reason == EACCES || reason == EPERM || reason == EROFS) error.code = base::Code::kInvalid;
  const bool by_systemd = std::getenv("INVOCATION_ID") != nullptr;
  if (reason == EROFS && by_systemd) {
    error.message += fmt::format(
        " (if the unit of this service protects it, set ReadWritePaths=-{} there by `systemctl "
        "edit`, and restart it)",
        std::filesystem::path(path).parent_path().string());
  }
  return error;
}

SourceLock::~SourceLock() {
  if (held()) close(fd_);
}

}  // namespace holdfast::outbox
