// What is done to a spool in a test case: operations, and when they are submitted. Made in advance
// from a name and a seed, so that every process knows all of it, and what each entry must hold.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spool/spool.h"

namespace holdfast::power_cut {

struct Action {
  enum class Kind : uint8_t {
    kAppend,  // An entry of `amount` bytes to the stream.
    kTrim,    // Of the stream, but for its last `amount` records; the cursor says the same.
    kPut,     // `amount` bytes under key number `number`.
    kErase,   // Key `number`.
  };
  Kind kind = Kind::kAppend;
  uint32_t number = 0;  // Of the stream or key.
  uint32_t amount = 0;
  uint32_t records = 1;
};

struct Planned {
  std::vector<Action> actions;  // None: it finds nothing to do.

  [[nodiscard]] size_t Bytes() const;
};

struct Step {
  enum class Kind : uint8_t {
    kSubmit,  // The next operation.
    kRun,     // Until nothing is left to do.
    kRunOne,  // One task of the writer, so that the next operation comes amid its work.
    kReopen,  // Close and open.
    kHold,    // A lease on the oldest entry of stream `number`, until kRelease or the next kHold.
    kRelease,
    kSeal,    // The open segment.
    kRevise,  // Sealed segments: see FateOf.
    kSort,    // Sealed segments, until there is nothing to do.
    kCheck,   // Everything that can be read against what was answered.
  };
  Kind kind = Kind::kSubmit;
  uint32_t number = 0;
};

struct Workload {
  std::string name;
  uint64_t seed = 0;
  // Of Options.
  size_t commit_bytes_max = size_t{1} << 20;
  uint64_t bytes_max = 0;
  std::vector<Planned> operations;
  // Of each operation's actions, the bytes of the entry or value: the operation's number, then
  // noise that follows from it. Made once, since a workload is run hundreds of times.
  std::vector<std::vector<std::string>> contents;
  std::vector<Step> steps;
  // Behind those that the steps submit: at the end of each life a few are used to see that the
  // spool takes them.
  size_t spare_operations = 0;  // Index of the first.
};

inline constexpr size_t kSparePerLife = 3;
inline constexpr size_t kLivesMax = 4;

// Scripted ones, whose seed does not matter, and "random".
std::vector<std::string> ScriptedWorkloads();
Workload MakeWorkload(const std::string& name, uint64_t seed);

// Does it, on the spool's transaction or the model's. Every operation but an empty one also puts
// its number under "last", and counts under "count", so that state says what the log must hold.
void Perform(const Workload& workload, size_t operation, spool::Transaction& transaction);

inline constexpr std::string_view kLastKey = "last";
inline constexpr std::string_view kCountKey = "count";
std::string StreamName(uint32_t number);
// What every revision makes of the entries of an operation.
inline spool::Revision::Fate FateOf(size_t operation) {
  return operation % 4 == 1   ? spool::Revision::Fate::kEmpty
         : operation % 4 == 2 ? spool::Revision::Fate::kReplace
                              : spool::Revision::Fate::kKeep;
}
// The bytes that replace others.
inline std::string Revised(const std::string& bytes) {
  return {bytes.rbegin(), bytes.rbegin() + static_cast<ptrdiff_t>((bytes.size() + 1) / 2)};
}
// Entry timestamps rise with the operations.
inline int64_t TimestampOf(size_t operation) { return 1000 + 10 * static_cast<int64_t>(operation); }

}  // namespace holdfast::power_cut
