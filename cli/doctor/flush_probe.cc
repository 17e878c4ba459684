#include "cli/doctor/flush_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace holdfast::cli::doctor {
namespace {

using Clock = std::chrono::steady_clock;
using Duration = FlushSamples::Duration;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr size_t kPageBytes = 4096;
constexpr size_t kSmallMax = 400;
constexpr size_t kLargeMax = 5;
constexpr size_t kUnflushedMax = 100;

// Less than any device needs to be told of a write and to answer.
constexpr Duration kFastestDevice = microseconds(8);
// More than any one device takes in.
constexpr double kMostBytesPerSecond = 20e9;
// A platter has to come round: half a turn at 15,000 a minute.
constexpr Duration kFastestPlatter = milliseconds(2);
// Flash has to be programmed.
constexpr Duration kFastestFlash = microseconds(40);

// Open for writing, without a name by which anybody could find it.
class NamelessFile {
 public:
  static base::Result<NamelessFile> Make(const std::string& directory) {
    int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0) return NamelessFile(fd);
    // Not every file system has this. What ends in .new counts as unfinished in a spool.
    const std::string path = fmt::format("{}/doctor-{}.new", directory, getpid());
    fd = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
      return base::Unexpected(base::ErrnoError(directory + ": cannot make a file", errno));
    NamelessFile file(fd);
    if (unlink(path.c_str()) != 0)
      return base::Unexpected(base::ErrnoError(path + ": cannot remove", errno));
    return file;
  }
  NamelessFile(NamelessFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  NamelessFile& operator=(NamelessFile&&) = delete;
  ~NamelessFile() {
    if (fd_ >= 0) close(fd_);
  }

  base::Result<void> Write(const std::string& bytes, uint64_t at) const {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written =
          pwrite(fd_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(at + done));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return base::Unexpected(base::ErrnoError("cannot write", errno));
      done += static_cast<size_t>(written);
    }
    return {};
  }
  [[nodiscard]] base::Result<void> Flush() const {
    if (fdatasync(fd_) != 0) return base::Unexpected(base::ErrnoError("cannot flush", errno));
    return {};
  }

 private:
  explicit NamelessFile(int fd) : fd_(fd) {}

  int fd_;
};

class Measurement {
 public:
  explicit Measurement(const NamelessFile& file) : file_(file) {}

  base::Result<FlushSamples> Run() {
    const Clock::time_point begun = Clock::now();
    HF_RETURN_IF_ERROR(Large());
    // What a file system does for the first time it need not do again.
    samples_.large.clear();
    while (samples_.large.empty() ||
           (samples_.large.size() < kLargeMax && Clock::now() < begun + samples_.kMeasureFor / 3))
      HF_RETURN_IF_ERROR(Large());
    while (samples_.small.size() < 3 ||
           (samples_.small.size() < kSmallMax && Clock::now() < begun + samples_.kMeasureFor))
      HF_RETURN_IF_ERROR(Small());
    while (samples_.unflushed.size() < kUnflushedMax) HF_RETURN_IF_ERROR(Unflushed());
    for (auto* samples : {&samples_.small, &samples_.large, &samples_.unflushed})
      std::ranges::sort(*samples);
    return std::move(samples_);
  }

 private:
  // Never the same bytes twice, so that nobody can leave a write out.
  const std::string& Fresh(std::string& bytes) {
    ++round_;
    for (size_t at = 0; at < bytes.size(); at += kPageBytes)
      bytes.replace(at, sizeof round_, reinterpret_cast<const char*>(&round_), sizeof round_);
    return bytes;
  }

  base::Result<void> Large() {
    HF_RETURN_IF_ERROR(file_.Write(Fresh(large_bytes_), 0));
    return Flush(samples_.large);
  }
  // The pages of a commit go on, the meta page is one of two at the beginning.
  base::Result<void> WriteSmall() {
    HF_RETURN_IF_ERROR(file_.Write(Fresh(meta_bytes_), (round_ % 2) * kPageBytes));
    HF_RETURN_IF_ERROR(file_.Write(Fresh(small_bytes_), at_));
    at_ += small_bytes_.size();
    if (at_ + small_bytes_.size() > FlushSamples::kLargeBytes) at_ = 2 * kPageBytes;
    return {};
  }
  base::Result<void> Small() {
    HF_RETURN_IF_ERROR(WriteSmall());
    return Flush(samples_.small);
  }
  base::Result<void> Unflushed() {
    const Clock::time_point begun = Clock::now();
    HF_RETURN_IF_ERROR(WriteSmall());
    samples_.unflushed.push_back(Clock::now() - begun);
    return {};
  }
  base::Result<void> Flush(std::vector<Duration>& samples) const {
    const Clock::time_point begun = Clock::now();
    HF_RETURN_IF_ERROR(file_.Flush());
    samples.push_back(Clock::now() - begun);
    return {};
  }

  const NamelessFile& file_;
  FlushSamples samples_;
  std::string large_bytes_ = std::string(FlushSamples::kLargeBytes, '\0');
  std::string small_bytes_ = std::string(FlushSamples::kSmallBytes - kPageBytes, '\0');
  std::string meta_bytes_ = std::string(kPageBytes, '\0');
  uint64_t at_ = 2 * kPageBytes;
  uint64_t round_ = 0;
};

double BytesPerSecond(uint64_t bytes, Duration duration) {
  return static_cast<double>(bytes) /
         std::max(1e-9, std::chrono::duration<double>(duration).count());
}

}  // namespace

Duration FlushSamples::Percentile(const std::vector<Duration>& ascending, double share) {
  const auto index = static_cast<size_t>(share * static_cast<double>(ascending.size()));
  return ascending[std::min(index, ascending.size() - 1)];
}

base::Result<FlushSamples> MeasureFlushes(const std::string& directory) {
  HF_ASSIGN_OR_RETURN(const NamelessFile file, NamelessFile::Make(directory));
  auto samples = Measurement(file).Run();
  if (!samples) return base::Unexpected(std::move(samples).error().Within(directory));
  return samples;
}

FlushVerdict JudgeFlushes(const FlushSamples& samples, const std::optional<BlockDevice>& device) {
  using Kind = FlushVerdict::Kind;
  const Duration small = FlushSamples::Percentile(samples.small, 0.5);
  const Duration large = FlushSamples::Percentile(samples.large, 0.5);
  if (small < kFastestDevice) {
    return {Kind::kSeemsToLie,
            fmt::format("a flush of {} KiB takes {}, less than it takes to ask any device",
                        FlushSamples::kSmallBytes >> 10, DurationText(small))};
  }
  if (const double rate = BytesPerSecond(FlushSamples::kLargeBytes, large);
      rate > kMostBytesPerSecond) {
    return {Kind::kSeemsToLie,
            fmt::format("a flush of {} MiB takes {}: {:.0f} GB/s, more than a device takes in",
                        FlushSamples::kLargeBytes >> 20, DurationText(large), rate / 1e9)};
  }
  if (!device) return {Kind::kUnknowable, "the device beneath cannot be seen from here"};
  if (!device->flushes_cache && device->cache_type == "write back") {
    return {Kind::kSeemsToLie,
            fmt::format("{} has a volatile cache, and the kernel is told that it has none, so "
                        "that it does not flush it",
                        device->name)};
  }
  if (device->virtual_) {
    return {Kind::kUnknowable,
            fmt::format("{} is a virtual disk: whether the host beneath flushes cannot be seen "
                        "from here",
                        device->name)};
  }
  if (device->flushes_cache && device->rotational && small < kFastestPlatter) {
    return {Kind::kSeemsToLie,
            fmt::format("a flush takes {}, and the platters of {} have to turn for longer",
                        DurationText(small), device->name)};
  }
  if (device->flushes_cache && !device->rotational && small < kFastestFlash) {
    return {Kind::kSeemsToLie,
            fmt::format("a flush takes {}, and the flash of {}, which says that its cache is "
                        "volatile, needs longer",
                        DurationText(small), device->name)};
  }
  return {Kind::kPlausible,
          fmt::format("as {} should, {}", device->name,
                      device->flushes_cache ? "whose volatile cache is flushed"
                                            : "which says that its cache survives power cuts")};
}

std::string DurationText(Duration duration) {
  const double us = std::chrono::duration<double, std::micro>(duration).count();
  if (us < 100) return fmt::format("{:.1f} µs", us);
  if (us < 10'000) return fmt::format("{:.2f} ms", us / 1000);
  return fmt::format("{:.0f} ms", us / 1000);
}

}  // namespace holdfast::cli::doctor
