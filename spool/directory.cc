#include "spool/directory.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>
#include <utility>

#include "base/endian.h"
#include "base/event.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/random.h"

namespace holdfast::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMarker = "HOLDFAST";
constexpr std::string_view kMarkerDraft = "HOLDFAST.new";
constexpr std::string_view kLock = "LOCK";
constexpr std::string_view kExported = "EXPORTED";
// Beside an empty kExported: what that would say is kBeingRemoved, for which the disk has no block.
constexpr std::string_view kRemoving = "REMOVING";
// There while a directory without a marker is being filled.
constexpr std::string_view kImporting = "IMPORTING";
constexpr std::string_view kImportingDraft = "IMPORTING.new";
constexpr std::string_view kSegmentSuffix = ".segment";
constexpr std::string_view kUnfinishedSuffix = ".new";
constexpr std::string_view kDamagedSuffix = ".damaged";
constexpr std::string_view kLockSuffix = "-lock";
constexpr size_t kNumberDigits = 20;
// What kExported says of a spool that is being removed.
constexpr std::string_view kBeingRemoved = "this spool is being dropped";
constexpr int kLookForLockMs = 20;

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

// Of a file that stands beside a segment.
std::optional<uint64_t> ParseNameBeside(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return ParseSegmentName(name.substr(0, name.size() - suffix.size()));
}

bool FromHex(std::string_view hex, SpoolId* id) {
  const std::optional<std::string> bytes = base::FromHex(hex);
  if (!bytes || bytes->size() != id->size()) return false;
  std::copy(bytes->begin(), bytes->end(), id->begin());
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
  auto synced = SyncPath(above.string(), O_RDONLY | O_DIRECTORY);
  // Removed meanwhile: see below.
  if (!synced && access(above.c_str(), F_OK) != 0) return {};
  return synced;
}

// Who drains an orphaned spool removes its empty directories, perhaps between two steps of ours
// (docs/adr/0018-orphaned-spools-are-drained-by-a-child.md): they are made again, so often at most.
constexpr int kMakeAttempts = 100;

base::Result<void> MakeDirectories(const fs::path& path) {
  std::error_code error;
  if (path.empty() || fs::is_directory(path, error)) return {};
  for (int attempt = 1;; ++attempt) {
    HF_RETURN_IF_ERROR(MakeDirectories(path.parent_path()));
    fs::create_directory(path, error);
    if (!error) return SyncParent(path);
    if (error != std::errc::no_such_file_or_directory || attempt == kMakeAttempts)
      return base::Unexpected(
          base::ErrnoError(path.string() + ": cannot make the directory", error.value()));
  }
}

std::string PathOf(const std::string& directory, std::string_view name) {
  return directory + "/" + std::string(name);
}

// What stands in the file of a lock.
std::string LastOwner(int lock) {
  char pid[32] = {};
  if (pread(lock, pid, sizeof pid - 1, 0) <= 0) return "unknown";
  pid[std::strcspn(pid, "\n")] = '\0';
  return pid;
}

struct Marker {
  uint32_t format = 0;
  SpoolId id{};
};

// Nothing if there is none.
base::Result<std::optional<Marker>> ReadMarkerOf(const std::string& directory) {
  const std::string path = PathOf(directory, kMarker);
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  }
  std::string what;
  std::string word;
  std::string id;
  Marker marker;
  std::getline(file, what);
  file >> word >> marker.format >> word >> id;
  if (what != "holdfast spool" || marker.format == 0)
    return base::Unexpected(base::Code::kInvalid,
                            path +
                                ": does not say \"holdfast spool\"; choose "
                                "another directory for the spool",
                            base::Event::kForeignDirectory);
  if (marker.format > kFormatVersion)
    return base::Unexpected(base::Code::kInvalid,
                            path + ": the spool has format " + std::to_string(marker.format) +
                                ", this program knows " + std::to_string(kFormatVersion) +
                                "; use the Holdfast that wrote it, or a newer one",
                            base::Event::kSpoolOfNewerVersion);
  if (!FromHex(id, &marker.id))
    return base::Unexpected(base::Code::kCorrupt,
                            path + ": has no valid id; restore the file from a backup");
  return marker;
}

// The first line, if there is such a file.
base::Result<std::optional<std::string>> ReadLine(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    return base::Unexpected(base::ErrnoError(path + ": cannot open", errno));
  }
  std::string line;
  std::getline(file, line);
  if (file.bad()) return base::Unexpected(base::ErrnoError(path + ": cannot read", errno));
  return line;
}

struct Mark {
  std::optional<std::string> exported;  // To where.
  bool being_removed = false;
};

// Only what RemoveAll wrote says that nobody wants the spool: a mark that says nothing, or cannot
// be read, keeps it as it is.
base::Result<Mark> ReadMark(const std::string& directory) {
  HF_ASSIGN_OR_RETURN(auto line, ReadLine(PathOf(directory, kExported)));
  if (!line) return Mark{};
  const bool full = line->empty() && access(PathOf(directory, kRemoving).c_str(), F_OK) == 0;
  if (full || *line == kBeingRemoved) return Mark{.exported = {}, .being_removed = true};
  if (line->empty()) line = "its file EXPORTED is there, and does not say to where";
  return Mark{.exported = std::move(line), .being_removed = false};
}

// The lock belongs to the open file, not to the process, so that two spools of one process exclude
// each other as well; and others can ask for it without taking it.
struct flock WholeFile() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// What one that yields holds, and what those hold who want it to.
struct flock FirstByte() {
  struct flock lock = WholeFile();
  lock.l_len = 1;
  return lock;
}

struct flock TheRest() {
  struct flock lock = WholeFile();
  lock.l_start = 1;
  return lock;
}

// What a crash while the spool was made leaves, and what a fresh file system has.
bool CountsAsEmpty(std::string_view name) {
  return name == kLock || name == kMarkerDraft || name == kImportingDraft || name == "lost+found";
}

// In a range-based for the iterator would throw what comes after the first entry.
std::error_code ForEachEntry(const std::string& path,
                             const std::function<void(const fs::directory_entry&)>& visit) {
  std::error_code error;
  for (fs::directory_iterator it(path, error); !error && it != fs::directory_iterator();
       it.increment(error))
    visit(*it);
  return error;
}

bool IsEmpty(const std::string& path) {
  bool empty = true;
  const std::error_code error = ForEachEntry(path, [&](const fs::directory_entry& entry) {
    empty = empty && CountsAsEmpty(entry.path().filename().string());
  });
  return !error && empty;
}

tl::unexpected<base::Error> NoSpool(const std::string& path) {
  std::error_code error;
  std::string message = path;
  base::Event event = base::Event::kNoSpool;
  if (!fs::exists(path, error)) {
    message += ": there is no such directory";
  } else if (!fs::is_directory(path, error)) {
    message += ": is not a directory";
  } else if (IsEmpty(path)) {
    message += ": is empty; there was never a spool here, or it was dropped";
  } else if (fs::exists(PathOf(path, kImporting), error)) {
    message += ": an import was cut off here; run it again";
    event = base::Event::kImportCutOff;
  } else {
    message += ": is not a spool: it has no file HOLDFAST";
  }
  return base::Unexpected(base::Code::kNotFound, std::move(message), event);
}

}  // namespace

std::string ToText(const SpoolId& id) { return base::ToHex({id.data(), id.size()}); }

base::Result<Directory> Directory::Open(const std::string& path) {
  Directory directory(path);
  HF_RETURN_IF_ERROR(MakeDirectories(path));
  // Look first, touch later: a foreign directory gets not even a lock file.
  HF_ASSIGN_OR_RETURN(const bool known, directory.ReadMarker());
  if (!known) HF_RETURN_IF_ERROR(directory.CheckEmpty());
  if (known) HF_RETURN_IF_ERROR(directory.CheckOwner());
  if (!directory.being_removed()) HF_RETURN_IF_ERROR(directory.CheckExported());
  HF_RETURN_IF_ERROR(directory.Lock(Tenure::kOwner));
  if (directory.being_removed()) {
    base::Log(base::LogLevel::kInfo, "spool",
              "{}: was being removed, and that was cut off; it is finished now", path);
    HF_RETURN_IF_ERROR(directory.RemoveAll());
  }
  // Another process may have made the spool, or handed it over, while we waited for nothing.
  HF_ASSIGN_OR_RETURN(const bool known_now, directory.ReadMarker());
  HF_RETURN_IF_ERROR(directory.CheckExported());
  // A removal that was cut off behind its mark.
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path, kRemoving)));
  if (known_now) return directory;
  base::Random random = base::Random::FromSystem();
  SpoolId id;
  base::StoreLittle(id.data(), random());
  base::StoreLittle(id.data() + sizeof(uint64_t), random());
  HF_RETURN_IF_ERROR(directory.Establish(id));
  return directory;
}

base::Result<Directory> Directory::OpenExisting(const std::string& path, Tenure tenure) {
  Directory directory(path);
  HF_ASSIGN_OR_RETURN(const bool known, directory.ReadMarker());
  if (!known) return NoSpool(path);
  HF_RETURN_IF_ERROR(directory.CheckOwner());
  HF_RETURN_IF_ERROR(directory.Lock(tenure));
  HF_ASSIGN_OR_RETURN(const bool known_now, directory.ReadMarker());
  if (!known_now) return NoSpool(path);
  return directory;
}

base::Result<Directory> Directory::OpenEmpty(const std::string& path) {
  Directory directory(path);
  HF_RETURN_IF_ERROR(MakeDirectories(path));
  const auto check = [&]() -> base::Result<void> {
    HF_ASSIGN_OR_RETURN(const bool known, directory.ReadMarker());
    if (known)
      return base::Unexpected(base::Code::kInvalid,
                              path +
                                  ": there is a spool already; choose a new directory, or drop "
                                  "what is there (holdfast spool drop --all)");
    std::error_code error;
    if (fs::exists(PathOf(path, kImporting), error)) return {};
    return directory.CheckEmpty();
  };
  HF_RETURN_IF_ERROR(check());
  HF_RETURN_IF_ERROR(directory.Lock(Tenure::kOwner));
  HF_RETURN_IF_ERROR(check());
  HF_RETURN_IF_ERROR(directory.WriteText(kImporting, ""));
  HF_ASSIGN_OR_RETURN(const std::vector<File> leavings, directory.Segments());
  for (const File& file : leavings) HF_RETURN_IF_ERROR(directory.RemoveSegment(file.number));
  return directory;
}

base::Result<void> Directory::Check(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  Directory directory(path);
  HF_ASSIGN_OR_RETURN(const bool known, directory.ReadMarker());
  if (!known) return directory.CheckEmpty();
  HF_RETURN_IF_ERROR(directory.CheckOwner());
  return directory.being_removed() ? base::Result<void>{} : directory.CheckExported();
}

base::Result<DirectoryView> Directory::Look(const std::string& path) {
  HF_ASSIGN_OR_RETURN(const auto marker, ReadMarkerOf(path));
  if (!marker) return NoSpool(path);
  DirectoryView view{.format = marker->format, .id = marker->id};
  HF_ASSIGN_OR_RETURN(Mark mark, ReadMark(path));
  view.exported = std::move(mark.exported);
  view.being_removed = mark.being_removed;
  const std::string lock_path = PathOf(path, kLock);
  HF_ASSIGN_OR_RETURN(const auto owner, ReadLine(lock_path));
  view.owner = owner.value_or("");
  const int fd = open(lock_path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return view;
  if (fd < 0) return base::Unexpected(base::ErrnoError(lock_path + ": cannot open", errno));
  struct flock lock = WholeFile();
  const int rc = fcntl(fd, F_OFD_GETLK, &lock);
  const int error = errno;
  close(fd);
  if (rc != 0)
    return base::Unexpected(base::ErrnoError(lock_path + ": cannot ask for its lock", error));
  view.live = lock.l_type != F_UNLCK;
  return view;
}

Directory::Directory(Directory&& other) noexcept
    : path_(std::move(other.path_)), id_(other.id_), lock_(std::exchange(other.lock_, -1)) {}

Directory::~Directory() {
  if (lock_ >= 0) close(lock_);  // Lets go of the lock.
}

base::Result<bool> Directory::ReadMarker() {
  HF_ASSIGN_OR_RETURN(const auto marker, ReadMarkerOf(path_));
  if (marker) id_ = marker->id;
  return marker.has_value();
}

base::Result<void> Directory::CheckEmpty() const {
  std::error_code error;
  if (fs::exists(PathOf(path_, kImporting), error))
    return base::Unexpected(base::Code::kInvalid,
                            path_ + ": an import was cut off here; run it again",
                            base::Event::kImportCutOff);
  std::string foreign;
  error = ForEachEntry(path_, [&](const fs::directory_entry& entry) {
    if (std::string name = entry.path().filename().string(); !CountsAsEmpty(name))
      foreign = std::move(name);
  });
  if (!foreign.empty())
    return base::Unexpected(base::Code::kInvalid,
                            path_ + ": is not a spool, and not empty (" + foreign +
                                "); choose an empty directory for a new spool",
                            base::Event::kForeignDirectory);
  if (error && error != std::errc::no_such_file_or_directory)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot list", error.value()));
  return {};
}

base::Result<void> Directory::Lock(Tenure tenure) {
  const std::string file = PathOf(path_, kLock);
  for (int attempt = 1;; ++attempt) {
    lock_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (lock_ < 0) {
      const int error = errno;
      if (error != ENOENT || tenure != Tenure::kOwner || attempt == kMakeAttempts)
        return base::Unexpected(base::ErrnoError(file + ": cannot open", error));
      HF_RETURN_IF_ERROR(MakeDirectories(path_));
      continue;
    }
    HF_ASSIGN_OR_RETURN(bool locked, TryLock(tenure));
    if (!locked && tenure == Tenure::kOwner) locked = AwaitYielding();
    if (!locked) {
      return base::Unexpected(base::Code::kUnavailable,
                              path_ + ": the process with pid " + LastOwner(lock_) +
                                  " uses this spool; stop it, or choose another directory",
                              base::Event::kSpoolInUse);
    }
    // Whoever had it may have removed the directory, and this file with it.
    struct stat ours {};
    struct stat there {};
    if (fstat(lock_, &ours) == 0 && stat(file.c_str(), &there) == 0 &&
        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
      break;
    close(std::exchange(lock_, -1));
    if (tenure == Tenure::kOwner) HF_RETURN_IF_ERROR(MakeDirectories(path_));
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // Only a courtesy for the message above, for which a full disk may have no block.
  if ((pwrite(lock_, pid.data(), pid.size(), 0) < 0 ||
       ftruncate(lock_, static_cast<off_t>(pid.size())) != 0) &&
      errno != ENOSPC && errno != EDQUOT)
    return base::Unexpected(base::ErrnoError(file + ": cannot write", errno));
  return {};
}

base::Result<bool> Directory::TryLock(Tenure tenure) {
  struct flock lock = tenure == Tenure::kYields ? FirstByte() : WholeFile();
  if (fcntl(lock_, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  return base::Unexpected(base::ErrnoError(PathOf(path_, kLock) + ": cannot lock", errno));
}

// An owner has the rest as well, and so has whoever waits already.
bool Directory::AwaitYielding() {
  struct flock rest = TheRest();
  if (fcntl(lock_, F_OFD_SETLK, &rest) != 0) return false;
  base::Log(base::LogLevel::kInfo, "spool", "{}: the process with pid {} drains it, and is to go",
            path_, LastOwner(lock_));
  const auto end = std::chrono::steady_clock::now() + kYieldsWithin;
  while (std::chrono::steady_clock::now() < end) {
    struct flock lock = FirstByte();
    if (fcntl(lock_, F_OFD_SETLK, &lock) == 0) return true;
    // Nobody tells when a lock comes free, but by waiting for it without end.
    poll(nullptr, 0, kLookForLockMs);
  }
  return false;
}

bool Directory::Wanted() const {
  struct flock rest = TheRest();
  return fcntl(lock_, F_OFD_GETLK, &rest) == 0 && rest.l_type != F_UNLCK;
}

// Files that we make would be ours, and lock out whom the spool belongs to.
base::Result<void> Directory::CheckOwner() const {
  const std::string marker = PathOf(path_, kMarker);
  struct stat info {};
  if (stat(marker.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(marker + ": cannot ask for its owner", errno));
  if (info.st_uid == geteuid()) return {};
  return base::Unexpected(base::Code::kInvalid,
                          path_ + ": the spool belongs to user " + std::to_string(info.st_uid) +
                              ", and this process runs as " + std::to_string(geteuid()) +
                              "; run it as that user, or give it the whole directory (chown -R)",
                          base::Event::kSpoolOfOtherUser);
}

base::Result<void> Directory::CheckExported() const {
  HF_ASSIGN_OR_RETURN(const Mark mark, ReadMark(path_));
  if (mark.being_removed)
    return base::Unexpected(
        base::Code::kInvalid,
        path_ +
            ": was being removed, and that was cut off; what is left of it is no spool. To "
            "finish: holdfast spool drop --all " +
            path_);
  if (!mark.exported) return {};
  return base::Unexpected(
      base::Code::kInvalid,
      path_ + ": " + *mark.exported +
          ". Whoever took it delivers it; from here it would be delivered twice. To take it back: "
          "holdfast spool export --undo " +
          path_ + "; to remove it: holdfast spool drop --all " + path_,
      base::Event::kSpoolHandedOver);
}

base::Result<std::optional<std::string>> Directory::exported() const {
  HF_ASSIGN_OR_RETURN(Mark mark, ReadMark(path_));
  return std::move(mark.exported);
}

base::Result<void> Directory::MarkExported(const std::string& to) {
  return WriteText(kExported, to + "\n");
}

base::Result<void> Directory::ClearExported() {
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path_, kExported)));
  return Sync();
}

base::Result<void> Directory::Establish(const SpoolId& id) {
  // Whoever made the directory, perhaps we in an earlier life, may not have got that far.
  HF_RETURN_IF_ERROR(SyncParent(path_));
  HF_RETURN_IF_ERROR(WriteMarker(kFormatVersionMin, id));
  id_ = id;
  return RemoveFile(PathOf(path_, kImporting));
}

base::Result<void> Directory::RaiseFormat() const {
  HF_ASSIGN_OR_RETURN(const auto marker, ReadMarkerOf(path_));
  if (marker && marker->format == kFormatVersion) return {};
  return WriteMarker(kFormatVersion, id_);
}

base::Result<void> Directory::WriteMarker(uint32_t format, const SpoolId& id) const {
  return WriteText(
      kMarker, "holdfast spool\nformat " + std::to_string(format) + "\nid " + ToText(id) + "\n");
}

base::Result<void> Directory::MarkBeingRemoved() {
  if (being_removed()) return {};
  base::Result<void> marked = WriteText(kExported, std::string(kBeingRemoved) + "\n");
  if (marked || marked.error().code != base::Code::kFull) return marked;
  // In this order, since an older version knows kExported alone.
  HF_RETURN_IF_ERROR(WriteText(kExported, ""));
  return WriteText(kRemoving, "");
}

base::Result<void> Directory::RemoveAll() {
  HF_RETURN_IF_ERROR(MarkBeingRemoved());
  HF_ASSIGN_OR_RETURN(const std::vector<File> files, Segments());
  for (const File& file : files) HF_RETURN_IF_ERROR(RemoveSegment(file.number));
  HF_RETURN_IF_ERROR(RemoveFiles(
      [](std::string_view name) { return ParseNameBeside(name, kDamagedSuffix).has_value(); }));
  // An empty spool is what a crash from here on leaves.
  HF_RETURN_IF_ERROR(ClearExported());
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path_, kRemoving)));
  HF_RETURN_IF_ERROR(Sync());
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path_, kImporting)));
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path_, kMarker)));
  return Sync();
}

bool Directory::being_removed() const {
  const auto mark = ReadMark(path_);
  return mark && mark->being_removed;
}

base::Result<void> Directory::RemoveDirectory() {
  HF_RETURN_IF_ERROR(RemoveFile(PathOf(path_, kLock)));
  if (rmdir(path_.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot remove", errno));
  return SyncParent(path_);
}

// All of it or nothing, for good.
base::Result<void> Directory::WriteText(std::string_view name, const std::string& text) const {
  const std::string path = PathOf(path_, name);
  const std::string draft = path + std::string(kUnfinishedSuffix);
  {
    std::ofstream file(draft, std::ios::trunc);
    file << text;
    file.flush();
    if (!file) return base::Unexpected(base::ErrnoError(draft + ": cannot write", errno));
  }
  HF_RETURN_IF_ERROR(SyncPath(draft, O_WRONLY));
  if (rename(draft.c_str(), path.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(path + ": cannot rename", errno));
  return Sync();
}

base::Result<void> Directory::Sync() const { return SyncPath(path_, O_RDONLY | O_DIRECTORY); }

std::string Directory::SegmentPath(const std::string& path, uint64_t number) {
  char name[kNumberDigits + 1];
  std::snprintf(name, sizeof name, "%020" PRIu64, number);
  return path + "/" + name + std::string(kSegmentSuffix);
}

base::Result<std::vector<Directory::File>> Directory::ListSegments(const std::string& path) {
  std::vector<File> files;
  std::error_code failed;
  std::error_code error = ForEachEntry(path, [&](const fs::directory_entry& entry) {
    const std::optional<uint64_t> number = ParseSegmentName(entry.path().filename().string());
    if (!number) return;
    std::error_code missing;
    const uint64_t bytes = entry.file_size(missing);
    if (!missing) files.push_back({*number, bytes});
    // Else it was retired just now.
    if (missing && missing != std::errc::no_such_file_or_directory) failed = missing;
  });
  if (!error) error = failed;
  if (error) return base::Unexpected(base::ErrnoError(path + ": cannot list", error.value()));
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.number < b.number; });
  return files;
}

base::Result<std::vector<Directory::File>> Directory::Segments() const {
  HF_RETURN_IF_ERROR(RemoveFiles([this](std::string_view name) {
    if (name.ends_with(kUnfinishedSuffix)) return true;
    const auto locked = ParseNameBeside(name, kLockSuffix);
    return locked && access(SegmentPath(*locked).c_str(), F_OK) != 0;
  }));
  return ListSegments(path_);
}

base::Result<void> Directory::RemoveFiles(
    const std::function<bool(std::string_view name)>& which) const {
  base::Result<void> removed;
  const std::error_code error = ForEachEntry(path_, [&](const fs::directory_entry& entry) {
    if (removed && which(entry.path().filename().string()))
      removed = RemoveFile(entry.path().string());
  });
  if (removed && error)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot list", error.value()));
  return removed;
}

base::Result<void> Directory::RemoveSegment(uint64_t number) const {
  const std::string file = SegmentPath(number);
  HF_RETURN_IF_ERROR(RemoveFile(file));
  HF_RETURN_IF_ERROR(RemoveFile(file + std::string(kLockSuffix)));
  return Sync();
}

base::Result<std::string> Directory::SetSegmentAside(uint64_t number) const {
  const std::string from = SegmentPath(number);
  std::string to = from + std::string(kUnfinishedSuffix);
  HF_RETURN_IF_ERROR(RemoveFile(from + std::string(kLockSuffix)));
  if (rename(from.c_str(), to.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(to + ": cannot rename", errno));
  HF_RETURN_IF_ERROR(Sync());
  return to;
}

std::string Directory::SparePath() const {
  return path_ + "/spare" + std::string(kUnfinishedSuffix);
}

base::Result<std::string> Directory::KeepDamaged(uint64_t number) const {
  const std::string from = SegmentPath(number);
  std::string to = from + std::string(kDamagedSuffix);
  HF_RETURN_IF_ERROR(RemoveFile(from + std::string(kLockSuffix)));
  if (rename(from.c_str(), to.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(to + ": cannot rename", errno));
  HF_RETURN_IF_ERROR(Sync());
  return to;
}

base::Result<void> Directory::AdoptSegment(const std::string& from, uint64_t number) const {
  const std::string to = SegmentPath(number);
  const std::string lock = to + std::string(kLockSuffix);
  HF_RETURN_IF_ERROR(RemoveFile(lock));
  if (rename(from.c_str(), to.c_str()) != 0)
    return base::Unexpected(base::ErrnoError(to + ": cannot rename", errno));
  HF_RETURN_IF_ERROR(RemoveFile(lock));  // Who just opened the old file may have made it anew.
  return Sync();
}

base::Result<uint64_t> Directory::FreeBytes() const {
  struct statvfs info {};
  if (statvfs(path_.c_str(), &info) != 0)
    return base::Unexpected(base::ErrnoError(path_ + ": cannot ask the file system", errno));
  return uint64_t{info.f_bavail} * info.f_frsize;
}

}  // namespace holdfast::spool
