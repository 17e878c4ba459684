// What a spool's directory tells from outside, as far as other checks ask for it: to which cluster
// it was delivered, and what waits for the tier.
//
// Threads: one at a time; nothing is changed. It works beside a process that owns the spool.
// Limits: looks at no more entries than it is told, the oldest, and for no longer than kLookFor.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "spool/cipher.h"

namespace holdfast::cli::doctor {

struct SpoolFacts {
  static constexpr uint64_t kEntriesMax = 1'000'000;
  static constexpr std::chrono::milliseconds kLookFor = std::chrono::seconds(3);

  struct Waiting {
    uint64_t records = 0;
    // Of what was looked at.
    uint64_t bytes = 0;
    uint32_t largest_entry = 0;
    int64_t oldest_timestamp_ms = -1;  // The least of the newest timestamps of its batches.
  };

  std::string cluster_id;                  // Empty if the tier was never seen.
  std::map<std::string, Waiting> waiting;  // By topic.
  std::optional<int64_t> newest_ms;        // Of what waits, and was looked at.
  bool cut_off = false;                    // Not all of it was.
};

// kNotFound: there is no spool.
base::Result<SpoolFacts> LookIntoSpool(const std::string& directory, const spool::KeyRing& keys,
                                       uint64_t entries_max = SpoolFacts::kEntriesMax);

}  // namespace holdfast::cli::doctor
