// Going over what is stored of a partition, entry by entry.
//
// Threads: any; reads the spool.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "spool/spool.h"

namespace holdfast::broker {

// Calls visit(const spool::EntryInfo&) for the entries of `stream` from `offset` on, until it says
// false or `end` is reached. What is damaged is passed over. Returns where it stopped: `end`, or
// before it at the entry that was declined or cannot be read.
template <class Visit>
int64_t WalkEntries(spool::Spool& spool, spool::StreamId stream, int64_t offset, int64_t end,
                    Visit visit) {
  constexpr size_t kReadBytes = size_t{1} << 20;
  while (offset < end) {
    const auto lease = spool.Read(stream, offset, kReadBytes);
    if (!lease) {
      if (lease.error().code != base::Code::kCorrupt) return offset;
      const auto next = spool.NextReadable(stream, offset);
      if (!next || *next <= offset) return offset;
      offset = *next;
      continue;
    }
    if (lease->empty()) return end;
    for (const spool::EntryView& entry : lease->entries()) {
      if (entry.info.base_offset >= end) return end;
      if (!visit(entry.info)) return std::max(offset, entry.info.base_offset);
      offset = entry.info.end_offset();
    }
  }
  return std::min(offset, end);
}

}  // namespace holdfast::broker
