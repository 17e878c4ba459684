// The way of a group from one generation to the next.
#include <algorithm>

#include "base/event.h"
#include "base/log.h"
#include "broker/group.h"

namespace holdfast::broker {

using kafka::ErrorCode;

namespace {

// Until the next look, at least, while all that are left are static members who are away.
constexpr base::Duration kNobodyJoinedDelay = std::chrono::seconds(1);

}  // namespace

void Group::Rebalance() {
  host_.loop().AssertInLoop();
  PrepareOrGoOn();
}

void Group::PrepareOrGoOn() {
  switch (state_) {
    case GroupState::kEmpty:
    case GroupState::kStable:
    case GroupState::kCompletingRebalance:
      return PrepareRebalance();
    case GroupState::kPreparingRebalance:
      return CompleteJoinIfAllJoined();
    case GroupState::kDead:
      return;
  }
}

void Group::PrepareRebalance() {
  AnswerAllSyncs(ErrorCode::kRebalanceInProgress);
  saving_ = false;
  const bool was_empty = state_ == GroupState::kEmpty;
  state_ = GroupState::kPreparingRebalance;
  host_.CountRebalance();
  const base::Duration delay = std::min(host_.initial_rebalance_delay(), RebalanceTimeout());
  initial_delay_ = was_empty && delay > base::Duration::zero();
  if (initial_delay_) {
    newcomer_ = false;
    rebalance_timer_ = host_.loop().After(
        delay, [this, remaining = RebalanceTimeout() - delay] { OnInitialDelay(remaining); });
  } else {
    rebalance_timer_ = host_.loop().After(RebalanceTimeout(), [this] { CompleteJoin(); });
    CompleteJoinIfAllJoined();
  }
}

// As long as members keep coming the delay begins again, up to the rebalance timeout.
void Group::OnInitialDelay(base::Duration remaining) {
  if (!newcomer_ || remaining <= base::Duration::zero()) return CompleteJoin();
  newcomer_ = false;
  const base::Duration delay = std::min(host_.initial_rebalance_delay(), remaining);
  rebalance_timer_ =
      host_.loop().After(delay, [this, rest = remaining - delay] { OnInitialDelay(rest); });
}

void Group::CompleteJoinIfAllJoined() {
  if (initial_delay_ || !pending_.empty()) return;
  const bool all_joined = std::ranges::all_of(
      members_, [](const auto& entry) { return bool(entry.second.join_reply); });
  if (all_joined) CompleteJoin();
}

void Group::CompleteJoin() {
  initial_delay_ = false;
  // Static members keep their place until their session ends.
  for (auto member = members_.begin(); member != members_.end();) {
    const auto here = member++;
    if (here->second.join_reply || here->second.instance_id) continue;
    base::Log(base::Event::kMemberLost, {"groups", id_}, "member {} did not rejoin in time",
              here->first);
    RemoveMember(here);
  }
  if (members_.empty()) {
    BecomeEmpty();
  } else if (ElectJoinedLeader()) {
    BeginGeneration();
  } else {
    // Its members may have asked for no time at all.
    rebalance_timer_ = host_.loop().After(std::max(RebalanceTimeout(), kNobodyJoinedDelay),
                                          [this] { CompleteJoin(); });
  }
}

bool Group::ElectJoinedLeader() {
  const auto leader = members_.find(leader_);
  if (leader != members_.end() && leader->second.join_reply) return true;
  const Member* first = nullptr;
  for (const auto& [id, member] : members_) {
    if (member.join_reply && (first == nullptr || member.order < first->order)) first = &member;
  }
  if (first == nullptr) return false;
  leader_ = first->id;
  return true;
}

void Group::BeginGeneration() {
  ++generation_;
  protocol_name_ = ChooseProtocol();
  state_ = GroupState::kCompletingRebalance;
  rebalance_timer_ = host_.loop().After(RebalanceTimeout(), [this] { OnSyncDeadline(); });
  for (auto& [id, member] : members_) {
    HeardFrom(member);
    if (!member.join_reply) continue;
    std::exchange(member.join_reply, JoinReply())(CurrentResult(member, id == leader_));
  }
}

void Group::BecomeEmpty() {
  ++generation_;
  protocol_name_.reset();
  leader_.clear();
  rebalance_timer_.Cancel();
  state_ = GroupState::kEmpty;
  Save();
}

// Of the protocols that all members support the one that most of them name first.
std::string Group::ChooseProtocol() const {
  std::map<std::string_view, size_t> votes;
  for (const auto& [id, member] : members_) {
    for (const GroupProtocol& protocol : member.protocols) {
      const bool common = std::ranges::all_of(members_, [&](const auto& other) {
        return other.second.MetadataFor(protocol.name) != nullptr;
      });
      if (!common) continue;
      ++votes[protocol.name];
      break;
    }
  }
  const auto chosen =
      std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
  return chosen == votes.end() ? "" : std::string(chosen->first);
}

JoinResult Group::CurrentResult(const Member& member, bool as_leader) const {
  JoinResult result{.member_id = member.id,
                    .generation = generation_,
                    .protocol_type = protocol_type_,
                    .protocol_name = protocol_name_,
                    .leader = leader_};
  if (!as_leader) return result;
  for (const auto& [id, other] : members_) {
    const std::string* metadata = other.MetadataFor(protocol_name_.value_or(""));
    result.members.push_back({id, other.instance_id, metadata == nullptr ? "" : *metadata});
  }
  return result;
}

base::Duration Group::RebalanceTimeout() const {
  base::Duration longest{};
  for (const auto& [id, member] : members_) longest = std::max(longest, member.rebalance_timeout);
  return longest;
}

void Group::Sync(SyncRequest request, SyncReply reply) {
  host_.loop().AssertInLoop();
  const auto fail = [&](ErrorCode error) { reply({.error = error}); };
  if (state_ == GroupState::kDead) return fail(ErrorCode::kCoordinatorNotAvailable);
  const ErrorCode unknown = CheckMember({request.member_id, request.instance_id});
  if (unknown != ErrorCode::kNone) return fail(unknown);
  if (request.generation != generation_) return fail(ErrorCode::kIllegalGeneration);
  if ((request.protocol_type && *request.protocol_type != protocol_type_) ||
      (request.protocol_name && request.protocol_name != protocol_name_)) {
    return fail(ErrorCode::kInconsistentGroupProtocol);
  }
  if (state_ == GroupState::kPreparingRebalance) return fail(ErrorCode::kRebalanceInProgress);

  Member& member = members_.find(request.member_id)->second;
  HeardFrom(member);
  AnswerSync(member, ErrorCode::kRebalanceInProgress);  // An older request of the same member.
  member.sync_reply = std::move(reply);
  if (state_ == GroupState::kStable) return AnswerSync(member, ErrorCode::kNone);
  if (member.id != leader_ || saving_) return;
  for (auto& [id, other] : members_) other.assignment.clear();
  for (MemberAssignment& assignment : request.assignments) {
    const auto found = members_.find(assignment.member_id);
    if (found != members_.end()) found->second.assignment = std::move(assignment.assignment);
  }
  saving_ = true;
  Save();
}

void Group::Saved(int32_t generation, ErrorCode error) {
  host_.loop().AssertInLoop();
  if (!saving_ || generation != generation_) return;
  saving_ = false;
  if (error != ErrorCode::kNone) {
    AnswerAllSyncs(error);
    return PrepareRebalance();
  }
  state_ = GroupState::kStable;
  rebalance_timer_.Cancel();
  AnswerAllSyncs(ErrorCode::kNone);
}

void Group::OnSyncDeadline() {
  bool removed = false;
  for (auto member = members_.begin(); member != members_.end();) {
    const auto here = member++;
    if (here->second.sync_reply) continue;
    base::Log(base::Event::kMemberLost, {"groups", id_}, "member {} did not sync in time",
              here->first);
    RemoveMember(here);
    removed = true;
  }
  if (removed) PrepareRebalance();
}

void Group::AnswerSync(Member& member, ErrorCode error) {
  if (!member.sync_reply) return;
  SyncReply reply = std::exchange(member.sync_reply, SyncReply());
  if (error != ErrorCode::kNone) return reply({.error = error});
  HeardFrom(member);
  reply({.error = error,
         .protocol_type = protocol_type_,
         .protocol_name = protocol_name_,
         .assignment = member.assignment});
}

void Group::AnswerAllSyncs(ErrorCode error) {
  for (auto& [id, member] : members_) AnswerSync(member, error);
}

}  // namespace holdfast::broker
