// The way of one member of a consumer group from the partitions that it has to those that it is to
// have (KIP-848), one heartbeat at a time:
//
//   Stable ─a newer target takes some away─▶ UnrevokedPartitions ─the member has given them up─┐
//     ▲  └───────────────┐                                                                      │
//     │ all are its own  ▼                                                                      │
//     └──────── UnreleasedPartitions ◀─some that it is to have are still another member's ──────┘
//
// A member enters the target's epoch only when it has given up what is no longer its own, and gets
// a partition only when nobody has it. So no partition is ever used by two.
//
// Threads: plain functions on values.
#pragma once

#include <cstdint>
#include <functional>

#include "broker/assignors.h"

namespace holdfast::broker {

enum class MemberState : int8_t {  // Kafka's numbers.
  kStable = 1,
  kUnrevokedPartitions = 2,
  kUnreleasedPartitions = 3,
};

struct CurrentAssignment {
  int32_t epoch = 0;
  int32_t previous_epoch = -1;
  MemberState state = MemberState::kStable;
  Assignment assigned = {};  // What it may use.
  Assignment revoking = {};  // What it has been told to give up, and nobody else may use yet.

  bool operator==(const CurrentAssignment&) const = default;
  [[nodiscard]] bool ReconciledTo(int32_t target_epoch) const {
    return state == MemberState::kStable && epoch == target_epoch;
  }
};

struct Target {
  int32_t epoch = 0;
  const Assignment& assignment;
};

// Whether nobody has the partition.
using IsFree = std::function<bool(const TopicPartition&)>;

// The member's next state. `owned` is what it says that it has; null: it does not say.
CurrentAssignment Reconcile(const CurrentAssignment& current, const Target& target,
                            const Assignment* owned, const IsFree& is_free);

// All that the member lacks is still another's.
bool WaitsForOthers(const CurrentAssignment& current, const Assignment& target,
                    const IsFree& is_free);

}  // namespace holdfast::broker
