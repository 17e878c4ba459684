// How fast flushes are, and whether they seem to reach the disk's medium.
//
//   HF_ASSIGN_OR_RETURN(const FlushSamples samples, MeasureFlushes(directory));
//   const FlushVerdict verdict = JudgeFlushes(samples, device);
//
// Measured is what a commit of one small record does: some pages and a meta page, written into a
// file whose blocks were written before, then fdatasync. The file has no name, or loses it at once,
// so nothing of it is left however this ends.
//
// Judged is whether a flush takes as long as the device needs at least. docs/doctor.md has the
// bounds, and what they cannot see.
//
// Threads: any; it blocks for about kMeasureFor, on a slow disk for some flushes longer.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/doctor/file_system.h"

namespace holdfast::cli::doctor {

struct FlushSamples {
  using Duration = std::chrono::nanoseconds;
  static constexpr uint64_t kSmallBytes = 36 << 10;  // What one small commit writes.
  static constexpr uint64_t kLargeBytes = 4 << 20;
  static constexpr Duration kMeasureFor = std::chrono::milliseconds(1200);

  std::vector<Duration> small;      // fdatasync after kSmallBytes; ascending.
  std::vector<Duration> large;      // After kLargeBytes; ascending.
  std::vector<Duration> unflushed;  // To write kSmallBytes without fdatasync; ascending.

  // `share` of them take no longer. There is at least one.
  static Duration Percentile(const std::vector<Duration>& ascending, double share);
};

base::Result<FlushSamples> MeasureFlushes(const std::string& directory);

struct FlushVerdict {
  enum class Kind : uint8_t {
    kPlausible,   // Takes as long as it should.
    kUnknowable,  // The same, but what is beneath cannot be seen from here.
    kSeemsToLie,
  };
  Kind kind = Kind::kPlausible;
  std::string reason;  // For people.
};

FlushVerdict JudgeFlushes(const FlushSamples& samples, const std::optional<BlockDevice>& device);

// "0.21 ms", "8 µs"
std::string DurationText(FlushSamples::Duration duration);

}  // namespace holdfast::cli::doctor
