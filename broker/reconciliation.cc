#include "broker/reconciliation.h"

#include <algorithm>
#include <iterator>

namespace holdfast::broker {
namespace {

Assignment Common(const Assignment& a, const Assignment& b) {
  Assignment both;
  std::ranges::set_intersection(a, b, std::back_inserter(both), std::less<>());
  return both;
}

Assignment Without(const Assignment& a, const Assignment& b) {
  Assignment rest;
  std::ranges::set_difference(a, b, std::back_inserter(rest), std::less<>());
  return rest;
}

// True also if the member does not say.
bool StillOwns(const Assignment& revoking, const Assignment* owned) {
  return owned == nullptr || !Common(revoking, *owned).empty();
}

CurrentAssignment Step(const CurrentAssignment& current, int32_t own_epoch, const Target& target,
                       const Assignment* owned, const IsFree& is_free) {
  CurrentAssignment next;
  const auto enter = [&](int32_t epoch) {
    next.epoch = epoch;
    next.previous_epoch = current.epoch;
  };
  next.assigned = Common(current.assigned, target.assignment);
  next.revoking = Without(current.assigned, next.assigned);
  if (!next.revoking.empty() && StillOwns(next.revoking, owned)) {
    next.state = MemberState::kUnrevokedPartitions;
    enter(own_epoch);
    return next;
  }
  next.revoking.clear();
  bool unreleased = false;
  Assignment gained;
  for (const TopicPartition& partition : Without(target.assignment, next.assigned)) {
    if (is_free(partition)) {
      gained.push_back(partition);
    } else {
      unreleased = true;
    }
  }
  Assignment all;
  std::ranges::merge(next.assigned, gained, std::back_inserter(all), std::less<>());
  next.assigned = std::move(all);
  next.state = unreleased ? MemberState::kUnreleasedPartitions : MemberState::kStable;
  enter(target.epoch);
  return next;
}

}  // namespace

CurrentAssignment Reconcile(const CurrentAssignment& current, const Target& target,
                            const Assignment* owned, const IsFree& is_free) {
  switch (current.state) {
    case MemberState::kStable:
      if (current.epoch == target.epoch) return current;
      return Step(current, current.epoch, target, owned, is_free);
    case MemberState::kUnrevokedPartitions:
      if (StillOwns(current.revoking, owned)) return current;
      // It has left the epoch in which it had them.
      return Step(current, current.epoch + 1, target, owned, is_free);
    case MemberState::kUnreleasedPartitions:
      return Step(current, current.epoch, target, owned, is_free);
  }
  return current;
}

bool WaitsForOthers(const CurrentAssignment& current, const Assignment& target,
                    const IsFree& is_free) {
  return current.state == MemberState::kUnreleasedPartitions &&
         std::ranges::any_of(Without(target, current.assigned),
                             [&](const TopicPartition& partition) { return !is_free(partition); });
}

}  // namespace holdfast::broker
