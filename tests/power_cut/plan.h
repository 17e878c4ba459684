// What happens to the disk in a test case, and the case as one line of text.
//
//   groups:0/cut:137:torn:3                    the 137th call of workload "groups" never happens
//   roll:7/fault:20:flush_lost:2/cut:90:kept:0 two flushes fail from call 20 on, then a power cut
//   single:0/cut:20:killed:0/next/cut:9:dropped:0   kill -9, and a power cut in the next life
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::power_cut {

// What becomes of the changes that nobody has flushed.
enum class Pattern : uint8_t {
  kKilled,   // No power cut: the process dies, the kernel keeps everything, nothing is flushed.
  kDropped,  // All are lost.
  kKept,     // All had been written already.
  kTorn,     // Each change is kept, lost, or torn into sectors that are kept or lost on their own.
  kReordered,  // The later ones are kept, the earlier ones are lost.
};

// `seed` decides what chance decides.
struct Cut {
  uint32_t call = 0;  // The first call that does not happen any more, counting from 1; 0 is never.
  Pattern pattern = Pattern::kDropped;
  uint64_t seed = 0;
};

enum class FaultKind : uint8_t {
  kNoSpace,       // ENOSPC of all that takes space.
  kQuota,         // EDQUOT, likewise.
  kNoFiles,       // EMFILE of opening for writing.
  kError,         // EIO of anything; nothing was done.
  kErrorWritten,  // EIO of a write that happened nevertheless.
  kShortWrite,    // Half of it.
  kFlushLost,     // EIO of a flush. The kernel drops what it could not write: reads see the old.
  // EIO of a flush. The kernel forgets that these pages are not on the disk: reads see the new, and
  // later flushes succeed without writing them.
  kFlushForgotten,
};
inline constexpr size_t kFaultKinds = 8;

struct Fault {
  uint32_t call = 0;   // From this call on, counting from 1; 0 is never.
  uint32_t count = 0;  // So many calls of the kind that can fail like that.
  FaultKind kind = FaultKind::kError;
};

// One life of the process.
struct Life {
  Fault fault;
  Cut cut;
};

struct Case {
  std::string workload;
  uint64_t seed = 0;
  std::vector<Life> lives;
};

std::string_view NameOf(FaultKind kind);
std::string Format(const Case& test_case);
base::Result<Case> ParseCase(std::string_view text);

}  // namespace holdfast::power_cut
