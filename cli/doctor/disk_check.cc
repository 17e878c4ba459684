#include "cli/doctor/disk_check.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>

#include "agent/spool_text.h"
#include "cli/doctor/file_system.h"
#include "cli/doctor/flush_probe.h"
#include "net/admin_server.h"
#include "net/pipe.h"
#include "spool/directory.h"

namespace holdfast::cli::doctor {
namespace {

using base::Event;
namespace fs = std::filesystem;
using agent::BytesText;
using agent::CountText;

constexpr FlushSamples::Duration kSlow = std::chrono::milliseconds(50);
// The one that is written, the next one that is prepared, and a little.
constexpr uint64_t kSegmentsAtOnce = 3;
// A spool keeps so many open, see spool/segment_store.cc.
constexpr uint64_t kOpenSegments = 66;
constexpr uint64_t kInodesMin = 1000;
// Both ends of each pipe, with eight loops.
constexpr uint64_t kPipeEnds = 2 * net::PipePool::kOpenMax * 8;
// Segments, pipes, the admin port, loops, listeners, links to the tier, logs.
constexpr uint64_t kOtherFiles = kOpenSegments + kPipeEnds + net::AdminServer::kConnectionsMax + 64;
// Of the binary, its libraries and its threads.
constexpr uint64_t kOtherMaps = 500;

std::string ReadAll(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

class DiskCheck {
 public:
  explicit DiskCheck(const DiskQuestion& question) : question_(question) {}

  Findings Run() {
    if (question_.directory.empty()) return findings_;
    CheckDirectory();
    FindPlace();
    if (place_.empty()) return findings_;
    CheckFileSystem();
    CheckRights();
    CheckRoom();
    if (may_write_) CheckFlushes();
    CheckLimits();
    return findings_;
  }

 private:
  [[nodiscard]] std::string Named() const {
    return fmt::format("{} ({})", question_.key, question_.directory);
  }

  void CheckDirectory() {
    std::error_code error;
    if (!fs::exists(question_.directory, error)) {
      // What may not be looked for is said by CheckRights.
      if (error && error != std::errc::no_such_file_or_directory) return;
      findings_.Good(fmt::format("{} is not there yet, and will be made", Named()));
      return;
    }
    const auto view = spool::Directory::Look(question_.directory);
    if (view && view->live) {
      findings_.Note(fmt::format("{} is in use by the process with pid {}, which is not disturbed",
                                 Named(), view->owner));
      owner_ = view->owner;
    }
    const auto usable = spool::Directory::Check(question_.directory);
    if (usable) {
      if (!view || !view->live)
        findings_.Good(
            fmt::format("{} {}", Named(), view ? "is a spool that nobody uses" : "is empty"));
      return;
    }
    struct stat marker {};
    const std::string path = question_.directory + "/HOLDFAST";
    if (view && !view->exported && geteuid() == 0 && stat(path.c_str(), &marker) == 0 &&
        marker.st_uid != 0) {
      findings_.Note(fmt::format("{} belongs to user {}: only as that one can rights be looked at",
                                 Named(), marker.st_uid));
      return;
    }
    foreign_ = !view && view.error().code == base::Code::kNotFound;
    if (usable.error().code == base::Code::kIo && fs::is_directory(question_.directory, error)) {
      denied_ = usable.error().message;
      return;
    }
    findings_.Trouble(foreign_ ? Event::kNotASpool : Event::kSpoolNotUsable,
                      usable.error().message);
  }

  // The directory, or that in which it will be made.
  void FindPlace() {
    std::error_code error;
    fs::path path = fs::absolute(question_.directory, error).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    while (!fs::is_directory(path, error) && path.has_relative_path()) path = path.parent_path();
    const fs::path real = fs::canonical(path, error);
    if (!error) place_ = real.string();
  }

  void CheckFileSystem() {
    const auto mounts = ParseMounts(ReadAll("/proc/self/mountinfo"));
    const Mount* const mount = FindMount(mounts, place_);
    if (mount == nullptr) return;
    struct stat source {};
    const bool block = stat(mount->source.c_str(), &source) == 0 && S_ISBLK(source.st_mode);
    device_ = ReadBlockDevice("/sys", block ? major(source.st_rdev) : mount->major,
                              block ? minor(source.st_rdev) : mount->minor);
    const std::string where =
        fmt::format("{} is on {} at {}", question_.key, mount->type, mount->point);
    switch (KeepingOf(mount->type)) {
      case Keeping::kMemory:
        findings_.Trouble(Event::kVolatileFileSystem, where);
        // Its flushes do nothing, which is said by this.
        keeps_ = false;
        break;
      case Keeping::kContainer:
        findings_.Trouble(Event::kContainerLayer, where);
        break;
      case Keeping::kRemote:
        findings_.Trouble(Event::kRemoteFileSystem, where);
        break;
      case Keeping::kUnknown:
        findings_.Note(where + ", which is not known here");
        break;
      case Keeping::kDisk:
        findings_.Good(where + (device_ ? fmt::format(", {}", device_->name) : std::string()));
        break;
    }
    if (mount->Has("ro")) findings_.Trouble(Event::kReadOnlyFileSystem, where + ", read-only");
    for (const std::string_view option : {"nobarrier", "barrier=0", "sync=disabled"}) {
      if (mount->Has(option))
        findings_.Trouble(Event::kUnsafeMountOptions,
                          fmt::format("{}, with the option {}", where, option));
    }
    if (mount->Has("sync"))
      findings_.Note(where +
                     ", with the option sync: each write is flushed by itself, which is "
                     "slow and not needed");
    if (mount->Has("data=writeback"))
      findings_.Note(where + ", with data=writeback: what is acknowledged is flushed all the same");
  }

  void CheckRights() {
    const bool may = eaccess(place_.c_str(), R_OK | W_OK | X_OK) == 0;
    may_write_ = may && !foreign_ && denied_.empty();
    if (may && !denied_.empty()) findings_.Trouble(Event::kNoRightsOnDirectory, denied_);
    // A read-only file system was named already.
    if (may || errno == EROFS) return;
    findings_.Trouble(Event::kNoRightsOnDirectory,
                      fmt::format("user {} may not read, write and enter {}", geteuid(), place_));
  }

  void CheckRoom() {
    struct statvfs info {};
    if (statvfs(place_.c_str(), &info) != 0) {
      findings_.Trouble(Event::kDiskNotMeasured,
                        base::ErrnoError(place_ + ": cannot ask the file system", errno).message);
      return;
    }
    const uint64_t free = uint64_t{info.f_bavail} * info.f_frsize;
    const uint64_t size = uint64_t{info.f_blocks} * info.f_frsize;
    const uint64_t some = kSegmentsAtOnce * question_.segment_bytes;
    const std::string room =
        fmt::format("{} has {} free of {}", question_.key, BytesText(free), BytesText(size));
    if (free <= question_.free_bytes_min) {
      findings_.Trouble(Event::kDiskFull, fmt::format("{}, and free_bytes_min is {}", room,
                                                      BytesText(question_.free_bytes_min)));
    } else if (free - question_.free_bytes_min < some) {
      findings_.Trouble(
          Event::kDiskNearlyFull,
          fmt::format("{}: less than {} segments and free_bytes_min", room, kSegmentsAtOnce));
    } else {
      findings_.Good(room);
    }
    if (info.f_files != 0 && info.f_favail < kInodesMin)
      findings_.Trouble(Event::kDiskNearlyFull,
                        fmt::format("{} is on a file system with {} free inodes", question_.key,
                                    CountText(info.f_favail)));
    if (question_.bytes_max > size)
      findings_.Trouble(Event::kSpoolLargerThanDisk,
                        fmt::format("{}.bytes_max is {}, and the file system has {}", question_.key,
                                    BytesText(question_.bytes_max), BytesText(size)));
  }

  void CheckFlushes() {
    const auto samples = MeasureFlushes(place_);
    if (!samples) {
      findings_.Trouble(Event::kDiskNotMeasured, samples.error().message);
      return;
    }
    const auto half = FlushSamples::Percentile(samples->small, 0.5);
    const auto most = FlushSamples::Percentile(samples->small, 0.99);
    const std::string speed = fmt::format(
        "{}: a flush takes {} (half of {}), {} (99 of 100); {} for {} MiB; writing without a "
        "flush {}",
        question_.key, DurationText(half), samples->small.size(), DurationText(most),
        DurationText(FlushSamples::Percentile(samples->large, 0.5)),
        FlushSamples::kLargeBytes >> 20,
        DurationText(FlushSamples::Percentile(samples->unflushed, 0.5)));
    if (most > kSlow) {
      findings_.Trouble(Event::kSlowFlushes, speed);
    } else {
      findings_.Good(speed);
    }
    if (!keeps_) return;
    const FlushVerdict verdict = JudgeFlushes(*samples, device_);
    switch (verdict.kind) {
      case FlushVerdict::Kind::kPlausible:
        findings_.Good(fmt::format("{}: flushes take as long {}", question_.key, verdict.reason));
        break;
      case FlushVerdict::Kind::kUnknowable:
        findings_.Note(fmt::format("{}: flushes take time; {}", question_.key, verdict.reason));
        break;
      case FlushVerdict::Kind::kSeemsToLie:
        findings_.Trouble(Event::kDiskSeemsToLie,
                          fmt::format("{}: {}", question_.key, verdict.reason));
        break;
    }
  }

  // Those of the process that runs count, where they can be read, and else those of this one.
  [[nodiscard]] uint64_t LimitOf(std::string_view name, int resource) const {
    std::istringstream in(limits_);
    for (std::string line; std::getline(in, line);) {
      if (!line.starts_with(name)) continue;
      uint64_t limit = std::numeric_limits<uint64_t>::max();
      const size_t at = line.find_first_not_of(' ', name.size());
      if (at != std::string::npos)
        std::from_chars(line.data() + at, line.data() + line.size(), limit);
      return limit;
    }
    struct rlimit limit {};
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY)
      return std::numeric_limits<uint64_t>::max();
    return limit.rlim_cur;
  }

  void CheckLimits() {
    if (!owner_.empty()) limits_ = ReadAll(fmt::format("/proc/{}/limits", owner_));
    const std::string whose =
        limits_.empty() ? "of this shell" : fmt::format("of the process with pid {}", owner_);
    const uint64_t files = LimitOf("Max open files", RLIMIT_NOFILE);
    if (const uint64_t needed = question_.connection_files_max + kOtherFiles; files < needed) {
      findings_.Trouble(
          Event::kOpenFilesLimit,
          fmt::format("{}: {} open files are the limit {}; connections may take {}, and "
                      "segments and the rest {}",
                      question_.key, CountText(files), whose,
                      CountText(question_.connection_files_max), kOtherFiles));
    }
    const uint64_t space = LimitOf("Max address space", RLIMIT_AS);
    if (const uint64_t needed = kOpenSegments * question_.segment_bytes; space < needed) {
      findings_.Trouble(
          Event::kMapLimit,
          fmt::format("{}: {} of address space are the limit {}, and {} segments "
                      "that are open at once take {}",
                      question_.key, BytesText(space), whose, kOpenSegments, BytesText(needed)));
    }
    uint64_t maps = 0;
    std::ifstream("/proc/sys/vm/max_map_count") >> maps;
    if (const uint64_t needed = kOpenSegments + kOtherMaps; maps != 0 && maps < needed) {
      findings_.Trouble(Event::kMapLimit,
                        fmt::format("{}: vm.max_map_count is {}, and {} may be needed",
                                    question_.key, CountText(maps), CountText(needed)));
    }
  }

  const DiskQuestion& question_;
  Findings findings_{Area::kDisk};
  std::string owner_;   // Its pid, if a process owns the directory,
  std::string limits_;  // and its limits.
  std::string place_;
  std::optional<BlockDevice> device_;
  std::string denied_;  // What could not be read in the directory, and why.
  bool foreign_ = false;
  bool keeps_ = true;
  bool may_write_ = false;
};

}  // namespace

Findings CheckDisk(const DiskQuestion& question) { return DiskCheck(question).Run(); }

}  // namespace holdfast::cli::doctor
