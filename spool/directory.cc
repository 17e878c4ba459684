#include "spool/directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "base/endian.h"
#include "base/random.h"

namespace holdfast::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMarker = "HOLDFAST";
constexpr std::string_view kMarkerDraft = "HOLDFAST.new";
constexpr std::string_view kLock = "LOCK";
constexpr std::string_view kSegmentSuffix = ".segment";
constexpr std::string_view kUnfinishedSuffix = ".new";
constexpr size_t kNumberDigits = 20;

std::optional<uint64_t> ParseSegmentName(std::string_view name) {
  if (name.size() != kNumberDigits + kSegmentSuffix.size() || !name.ends_with(kSegmentSuffix))
    return std::nullopt;
  uint64_t number = 0;
  for (const char digit : name.substr(0, kNumberDigits)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(digit - '0');
  }
  return number;
}

std::string ToHex(const SpoolId& id) {
  std::string hex;
  char digits[3];
  for (const char byte : id) {
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
    hex.append(digits);
  }
  return hex;
}

bool FromHex(std::string_view hex, SpoolId* id) {
  if (hex.size() != id->size() * 2) return false;
  for (size_t i = 0; i < id->size(); ++i) {
    unsigned byte = 0;
    if (std::sscanf(std::string(hex.substr(i * 2, 2)).c_str(), "%2x", &byte) != 1) return false;
    (*id)[i] = static_cast<char>(byte);
  }
  return true;
}

base::Result<void> SyncPath(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  const int rc = fsync(fd);
  const int error = errno;
  close(fd);
  if (rc != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot flush to the disk", error));
  return {};
}

base::Result<void> RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return base::Unexpected(base::ErrnoError(path + ": cannot remove", errno));
  return {};
}

// After a power cut a new directory is found only if the one above it was flushed. One that we may
// not read cannot be flushed by us, and is no reason not to start.
base::Result<void> SyncParent(const fs::path& path) {
  fs::path above = fs::absolute(path).lexically_normal();
  if (!above.has_filename()) above = above.parent_path();
  above = above.parent_path();
  if (access(above.c_str(), R_OK) != 0) return {};
  return SyncPath(above.string(), O_RDONLY | O_DIRECTORY);
}

base::Result<void> MakeDirectories(const fs::path& path) {
  std::error_code error;
  if (path.empty() || fs::is_directory(path, error)) return {};
  HF_RETURN_IF_ERROR(MakeDirectories(path.parent_path()));
  fs::create_directory(path, error);
  if (error)
    return base::Unexpected(
        base::ErrnoError(path.string() + ": cannot make the directory", error.value()));
  return SyncParent(path);
}

}  // namespace

base::Result<Directory> Directory::Open(const std::string& path) {
  Directory directory(path);
  HF_RETURN_IF_ERROR(MakeDirectories(path));
  // Look first, touch later: a foreign directory gets not even a lock file.
  HF_ASSIGN_OR_RETURN(const bool known, directory.ReadMarker());
  if (!known) HF_RETURN_IF_ERROR(directory.CheckEmpty());
  HF_RETURN_IF_ERROR(directory.Lock());
  // Another process may have made the spool while we waited for nothing.
  HF_ASSIGN_OR_RETURN(const bool known_now, directory.ReadMarker());
  if (!known_now) HF_RETURN_IF_ERROR(directory.WriteMarker());
  return directory;
}

Directory::Directory(Directory&& other) noexcept
    : path_(std::move(other.path_)), id_(other.id_), lock_(std::exchange(other.lock_, -1)) {}

Directory::~Directory() {
  if (lock_ >= 0) close(lock_);  // Lets go of the flock.
}

base::Result<bool> Directory::ReadMarker() {
  const std::string marker = path_ + "/" + std::string(kMarker);
  std::ifstream file(marker);
  if (!file) {
    if (errno == ENOENT) return false;
    return base::Unexpected(base::ErrnoError(marker + ": cannot open", errno));
  }
  std::string what;
  std::string word;
  std::string id;
  uint32_t version = 0;
  std::getline(file, what);
  file >> word >> version >> word >> id;
  if (what != "holdfast spool" || version == 0)
    return base::Unexpected(base::Code::kInvalid, marker +
                                                      ": does not say \"holdfast spool\"; choose "
                                                      "another directory for the spool");
  if (version > kFormatVersion)
    return base::Unexpected(base::Code::kInvalid,
                            marker + ": the spool has format " + std::to_string(version) +
                                ", this program knows " + std::to_string(kFormatVersion) +
                                "; use the Holdfast that wrote it, or a newer one");
  if (!FromHex(id, &id_))
    return base::Unexpected(base::Code::kCorrupt,
                            marker + ": has no valid id; restore the file from a backup");
  return true;
}

base::Result<void> Directory::CheckEmpty() const {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    // What a crash while the spool was made leaves, and what a fresh file system has.
    if (name == kLock || name == kMarkerDraft || name == "lost+found") continue;
    return base::Unexpected(base::Code::kInvalid,
                            path_ + ": is not a spool, and not empty (" + name +
                                "); choose an empty directory for a new spool");
  }
  if (error) return base::Unexpected(base::ErrnoError(path_ + ": cannot list", error.value()));
  return {};
}

base::Result<void> Directory::Lock() {
  const std::string file = path_ + "/" + std::string(kLock);
  lock_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  if (lock_ < 0) return base::Unexpected(base::ErrnoError(file + ": cannot open", errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    char pid[32] = {};
    if (error != EWOULDBLOCK)
      return base::Unexpected(base::ErrnoError(file + ": cannot lock", error));
    if (pread(lock_, pid, sizeof pid - 1, 0) <= 0) std::strcpy(pid, "unknown");
    pid[std::strcspn(pid, "\n")] = '\0';
    return base::Unexpected(base::Code::kUnavailable,
                            path_ + ": the process with pid " + pid +
                                " uses this spool; stop it, or choose another directory");
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // Only a courtesy for the message above.
  if (ftruncate(lock_, 0) != 0 ||
      pwrite(lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size()))
    return base::Unexpected(base::ErrnoError(file + ": cannot write", errno));
  return {};
}

base::Result<void> Directory::WriteMarker() {
  base::Random random = base::Random::FromSystem();
  base::StoreLittle(id_.data(), random());
  base::StoreLittle(id_.data() + sizeof(uint64_t), random());
  const std::string draft = path_ + "/" + std::string(kMarkerDraft);
  const std::string marker = path_ + "/" + std::string(kMarker);
  {
    std::ofstream file(draft, std::ios::trunc);
    file << "holdfast spool\nformat " << kFormatVersion << "\nid " << ToHex(id_) << "\n";
    file.flush();
    if (!file) return base::Unexpected(base::ErrnoError(draft + ": cannot write", errno));
  }
  HF_RETURN_IF_ERROR(SyncPath(draft, O_WRONLY));
  // Whoever made the directory, perhaps we in an earlier life, may not have got that far.
  HF_RETURN_IF_ERROR(SyncParent(path_));
  if (rename(draft.c_str(), marker.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(marker + ": cannot rename", errno));
  return Sync();
}

base::Result<void> Directory::Sync() const { return SyncPath(path_, O_RDONLY | O_DIRECTORY); }

std::string Directory::SegmentPath(uint64_t number) const {
  char name[kNumberDigits + 1];
  std::snprintf(name, sizeof name, "%020" PRIu64, number);
  return path_ + "/" + name + std::string(kSegmentSuffix);
}

base::Result<std::vector<Directory::File>> Directory::Segments() const {
  std::vector<File> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    if (const std::optional<uint64_t> number = ParseSegmentName(name)) {
      files.push_back({*number, entry.file_size(error)});
      if (error) break;
    } else if (name.ends_with(kUnfinishedSuffix)) {
      HF_RETURN_IF_ERROR(RemoveFile(entry.path().string()));
    }
  }
  if (error) return base::Unexpected(base::ErrnoError(path_ + ": cannot list", error.value()));
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.number < b.number; });
  return files;
}

base::Result<void> Directory::RemoveSegment(uint64_t number) const {
  const std::string file = SegmentPath(number);
  HF_RETURN_IF_ERROR(RemoveFile(file));
  HF_RETURN_IF_ERROR(RemoveFile(file + "-lock"));
  return Sync();
}

base::Result<std::string> Directory::SetSegmentAside(uint64_t number) const {
  const std::string from = SegmentPath(number);
  std::string to = from + std::string(kUnfinishedSuffix);
  HF_RETURN_IF_ERROR(RemoveFile(from + "-lock"));
  if (rename(from.c_str(), to.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(to + ": cannot rename", errno));
  HF_RETURN_IF_ERROR(Sync());
  return to;
}

base::Result<void> Directory::AdoptSegment(const std::string& from, uint64_t number) const {
  const std::string to = SegmentPath(number);
  if (rename(from.c_str(), to.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(to + ": cannot rename", errno));
  return Sync();
}

base::Result<uint64_t> Directory::FreeBytes() const {
  struct statvfs info {};
  if (statvfs(path_.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot ask the file system", errno));
  return uint64_t{info.f_bavail} * info.f_frsize;
}

}  // namespace holdfast::spool
