// What makes a spool smaller while nobody runs it: dropping what waits in streams, and compacting
// segments that hold little that anybody still needs.
//
// Both own the directory while they work (kUnavailable if a process has it) and refuse a spool that
// was handed over, and one of which nobody can say what is needed, since a part of its newest
// checkpoint is lost (kCorrupt; once it is opened by who runs it, that is there again). `keys` are
// those of the spool, if it is encrypted. Cut off at any point, they leave a sound spool, as it was
// before or after.
//
// Threads: any; both block.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "base/result.h"
#include "spool/cipher.h"
#include "spool/spool.h"
#include "spool/verify.h"

namespace holdfast::spool {

struct CompactionReport {
  uint64_t rewritten_segments = 0;
  uint64_t removed_segments = 0;
  uint64_t freed_bytes = 0;  // Of disk.
};

// Rewrites each sealed segment of which at most half is still needed, without the rest, and removes
// those of which nothing is. kCorrupt: something is damaged; Repair comes first.
base::Result<CompactionReport> Compact(const std::string& directory, const KeyRing& keys,
                                       const ProgressCallback& progress,
                                       const EntryCheck& check_entry = {});

// Trims the streams to their ends and puts `values` into the state, durably and in one frame, and
// removes segments that nobody needs any more. The streams stay, and go on with the next offset.
// `time_ms` is the wall clock.
base::Result<CompactionReport> DropBacklogs(const std::string& directory, const KeyRing& keys,
                                            std::span<const StreamId> streams,
                                            const std::map<std::string, std::string>& values,
                                            int64_t time_ms, const EntryCheck& check_entry = {});

}  // namespace holdfast::spool
