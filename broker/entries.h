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

// Calls visit(const spool::EntryInfo&) for some entries of `stream` from `offset` on, a mebibyte at
// most or one entry, until it says false or `end` is reached. What is damaged is passed over. For
// loops that others wait for.
template <class Visit>
Walked WalkSomeEntries(spool::Spool& spool, spool::StreamId stream, int64_t offset, int64_t end,
                       Visit visit) {
  constexpr size_t kReadBytes = size_t{1} << 20;
  if (offset >= end) return {end};
  const auto lease = spool.Read(stream, offset, kReadBytes);
  if (!lease) {
    if (lease.error().code != base::Code::kCorrupt) return {offset};
    const auto next = spool.NextReadable(stream, offset);
    if (!next || *next <= offset) return {offset};
    return {std::min(*next, end), *next >= end};
  }
  if (lease->empty()) return {end};
  for (const spool::EntryView& entry : lease->entries()) {
    if (entry.info.base_offset >= end) return {end};
    if (!visit(entry.info)) return {std::max(offset, entry.info.base_offset)};
    offset = entry.info.end_offset();
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
