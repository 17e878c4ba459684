// Looking for damage in a spool's files, and repairing it: what `holdfast spool verify` and
// `repair` do, and nothing that a running spool needs, since that heals itself as it reads.
//
//   HF_ASSIGN_OR_RETURN(const VerifyReport report, Verify(directory, {.keys = keys}));
//   for (const Damage& damage : report.damages) ...;
//
// Verify changes nothing and owns nothing. A process may own the directory, or come meanwhile and
// take it; what it adds is left out, as is what it trims.
// Repair owns the directory. Each damaged segment is written anew from what is intact in it, and
// takes the place of the old file; what was lost is lost for good then, and no damage any more. One
// whose checkpoint is lost stays as it is, since the spool knows best what to put in its place; a
// file in which nothing can be read is set aside as *.damaged. A stream that has lost its name
// stays without.
//
// Errors are for what stopped the work (no such directory, another owner, no permission); damage is
// no error but in the report.
//
// Threads: any; both block for as long as reading the whole spool takes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "spool/cipher.h"
#include "spool/spool.h"

namespace holdfast::spool {

struct Damage {
  // Offsets of one stream that cannot be read any more.
  struct Loss {
    std::string stream;
    OffsetRange offsets;
  };
  uint64_t segment = 0;
  std::optional<CommitNumber> commit;  // Nothing: it is the segment as a whole.
  std::string what;                    // For a person.
  std::vector<Loss> losses;            // As far as they are known. None if nothing is lost.
};

struct VerifyReport {
  uint64_t segments = 0;
  uint64_t frames = 0;  // Intact ones, as are entries and their bytes.
  uint64_t entries = 0;
  uint64_t entry_bytes = 0;
  std::vector<Damage> damages;
  // What there is of streams that have lost their names. No repair gives those back.
  std::vector<Damage::Loss> nameless;
  // The newest, if its newest commit is torn (spool/segment_file.h). No damage: nothing that was
  // acknowledged was in it, unless the disk damaged it later.
  std::optional<uint64_t> torn_segment;

  [[nodiscard]] bool sound() const { return damages.empty() && nameless.empty(); }
};

// Bytes of files, done and in all.
using ProgressCallback = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Says whether an entry's bytes are what they should be. Asked where an entry that no checksum of
// the spool covers (large ones bring their own) comes to stand where one does, which would vouch
// for it: in an encrypted segment, or a small frame. One that is not leaves its line, and no bytes.
using EntryCheck = std::function<base::Result<void>(const EntryView& entry)>;

struct VerifyOptions {
  KeyRing keys;  // Of an encrypted spool.
  ProgressCallback progress;
  // Says whether the entry's bytes are what they should be. The spool knows at most that some of a
  // frame's are not.
  std::function<base::Result<void>(std::string_view stream, const EntryView& entry)> check_entry;
};

base::Result<VerifyReport> Verify(const std::string& directory, const VerifyOptions& options);

// The damages that were found, as they stood before the repair.
base::Result<VerifyReport> Repair(const std::string& directory, const KeyRing& keys,
                                  const ProgressCallback& progress,
                                  const EntryCheck& check_entry = {});

}  // namespace holdfast::spool
