// What became of every record: the commit point of each stream ("everything up to here is at the
// tier or listed as dropped"), and the list of what was dropped, and why.
//
// Drops are written down in the operation that moves the cursor past them, so the list and the
// cursor never disagree. In the spool's state, little-endian: agent/drops/<stream> =
//   u8 format, u64 records and u64 bytes dropped ever, u16 count, then per range
//   i64 begin, i64 end, u8 cause, i64 when (ms), u64 bytes
//
// Threads: any; plain values.
// Limits: kRangesMax ranges per stream, the newest; those that adjoin and have one cause are one.
//   Totals are kept for ever.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::agent {

inline constexpr std::string_view kDropsPrefix = "agent/drops/";  // + stream: Drops

enum class DropCause : uint8_t {
  kExpired = 1,     // Waited longer than its topic's ttl_ms.
  kMadeRoom = 2,    // when_full: drop_oldest.
  kDeadLetter = 3,  // Refused by the tier for good, and set aside.
  kByHand = 4,      // `holdfast spool drop`, or that of another stream of its transaction.
  kDamaged = 5,     // The spool has lost it, or a part of its transaction.
};

std::string_view DropCauseName(DropCause cause);

// Records [begin, end) of a stream.
struct DropRange {
  int64_t begin = 0;
  int64_t end = 0;
  DropCause cause = DropCause::kExpired;
  int64_t when_ms = 0;  // Of the newest drop in the range.
  uint64_t bytes = 0;

  bool operator==(const DropRange&) const = default;
};

// Of one stream.
class Drops {
 public:
  static constexpr size_t kRangesMax = 32;

  void Add(const DropRange& range);
  // The newest of them, by `begin`.
  [[nodiscard]] const std::vector<DropRange>& ranges() const { return ranges_; }
  [[nodiscard]] uint64_t records() const { return records_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  // Of all records dropped ever, those that are in none of the ranges any more.
  [[nodiscard]] uint64_t Unlisted() const;
  // They lie before this ordinal; whether a record from there on was dropped, the ranges say.
  [[nodiscard]] int64_t ListedFrom() const;
  // Whether the record before `ordinal`, or before dead letters that end there, was given up
  // without regard to sequence numbers. For dead letters they are set right, but not if these were
  // set aside before what lies in front of them was given up.
  [[nodiscard]] bool LeaveGapAt(int64_t ordinal) const;

  [[nodiscard]] std::string Serialize() const;
  static base::Result<Drops> Parse(std::string_view bytes);

 private:
  std::vector<DropRange> ranges_;
  uint64_t records_ = 0;
  uint64_t bytes_ = 0;
};

// How complete one stream is at the tier.
struct CommitPoint {
  std::string stream;
  int64_t confirmed = 0;     // Records below are at the tier or dropped.
  int64_t end = 0;           // Of what this host has.
  int64_t tier_offset = -1;  // The tier's offset behind the last of them that it has, if known.
  // What was acknowledged here before this time is at the tier or dropped. 0: not known.
  int64_t complete_until_ms = 0;
  Drops drops;
  // For people; not printed.
  int64_t oldest_ms = 0;  // When the first that waits was spooled, as far as that can be read.
  // Why it does not go on.
  std::string trouble;          // Empty if it is not known to be in any.
  bool parked = false;          // Tried again only now and then, or when somebody says so.
  double drain_per_second = 0;  // By how many records the backlog shrinks; it grows below 0.
};

// All of an agent's streams, as of one moment.
struct Ledger {
  int64_t measured_ms = 0;
  int64_t complete_until_ms = 0;  // The least of all streams'.
  uint64_t dropped_records = 0;
  std::vector<CommitPoint> streams;  // By name.

  // JSON.
  [[nodiscard]] std::string Print() const;
};

}  // namespace holdfast::agent
