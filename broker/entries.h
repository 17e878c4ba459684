// Going over what is stored of a partition, entry by entry.
//
// Threads: any; reads the spool.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "spool/spool.h"

namespace holdfast::broker {

// How far one came.
struct Walked {
  int64_t offset = 0;   // At most the end.
  bool stopped = true;  // There: at the end, or at an entry that was declined or cannot be read.
};

// Calls visit(const spool::EntryInfo&) for some entries of `stream` from `offset` on, until it says
// false or `end` is reached. Opens nothing that is encrypted (Spool::ListEntries); only past a
// frame that is damaged it goes on with the next entry that can be read. For loops that others wait
// for.
template <class Visit>
Walked WalkSomeEntries(spool::Spool& spool, spool::StreamId stream, int64_t offset, int64_t end,
                       Visit visit) {
  // Each may have a frame of its own, whose table is read from the disk.
  constexpr size_t kEntriesAtOnce = 128;
  if (offset >= end) return {end};
  const auto entries = spool.ListEntries(stream, offset, kEntriesAtOnce);
  if (!entries) {
    if (entries.error().code != base::Code::kCorrupt) return {offset};
    const auto next = spool.NextReadable(stream, offset);
    if (!next || *next <= offset) return {offset};
    return {std::min(*next, end), *next >= end};
  }
  if (entries->empty()) return {end};
  for (const spool::EntryInfo& entry : *entries) {
    if (entry.base_offset >= end) return {end};
    if (!visit(entry)) return {std::max(offset, entry.base_offset)};
    offset = entry.end_offset();
  }
  return {std::min(offset, end), offset >= end};
}

// The same for all entries. Returns where it stopped.
template <class Visit>
int64_t WalkEntries(spool::Spool& spool, spool::StreamId stream, int64_t offset, int64_t end,
                    Visit visit) {
  for (;;) {
    const Walked walked = WalkSomeEntries(spool, stream, offset, end, visit);
    if (walked.stopped) return walked.offset;
    offset = walked.offset;
  }
}

}  // namespace holdfast::broker
