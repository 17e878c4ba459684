#include "broker/group.h"

#include <algorithm>

#include "base/event.h"
#include "base/log.h"

namespace holdfast::broker {

using kafka::ErrorCode;

std::string_view GroupStateName(GroupState state) {
  switch (state) {
    case GroupState::kEmpty:
      return "Empty";
    case GroupState::kPreparingRebalance:
      return "PreparingRebalance";
    case GroupState::kCompletingRebalance:
      return "CompletingRebalance";
    case GroupState::kStable:
      return "Stable";
    case GroupState::kDead:
      return "Dead";
  }
  return "Dead";
}

const std::string* Group::Member::MetadataFor(std::string_view protocol) const {
  const auto found = std::ranges::find(protocols, protocol, &GroupProtocol::name);
  return found == protocols.end() ? nullptr : &found->metadata;
}

Group::Group(std::string id, GroupHost& host) : id_(std::move(id)), host_(host) {
  changed_ms_ = host_.loop().WallClockMs();
}

Group::Group(std::string id, GroupHost& host, const GroupRecord& record)
    : id_(std::move(id)),
      host_(host),
      generation_(record.generation),
      protocol_type_(record.protocol_type),
      protocol_name_(record.protocol_name),
      leader_(record.leader),
      changed_ms_(record.changed_ms) {
  for (const MemberRecord& stored : record.members) {
    Member& member = members_[stored.member_id];
    member.id = stored.member_id;
    member.instance_id = stored.instance_id;
    member.client_id = stored.client_id;
    member.client_host = stored.client_host;
    member.session_timeout = stored.session_timeout;
    member.rebalance_timeout = stored.rebalance_timeout;
    member.protocols = stored.protocols;
    member.assignment = stored.assignment;
    member.order = next_order_++;
    if (member.instance_id) static_members_[*member.instance_id] = member.id;
    WatchSession(member);
  }
  if (!members_.empty()) state_ = GroupState::kStable;
  host_.CountMembers(static_cast<int>(members_.size()));
}

Group::~Group() { host_.CountMembers(-static_cast<int>(members_.size())); }

void Group::Join(JoinRequest request, JoinReply reply) {
  host_.loop().AssertInLoop();
  const auto fail = [&](ErrorCode error) {
    reply({.error = error, .member_id = request.member_id});
  };
  if (state_ == GroupState::kDead) return fail(ErrorCode::kCoordinatorNotAvailable);
  if (!Supports(request)) return fail(ErrorCode::kInconsistentGroupProtocol);
  if (request.member_id.empty()) return JoinNew(std::move(request), std::move(reply));

  if (request.instance_id) {
    const auto found = static_members_.find(*request.instance_id);
    if (found == static_members_.end()) return fail(ErrorCode::kUnknownMemberId);
    if (found->second != request.member_id) return fail(ErrorCode::kFencedInstanceId);
  }
  if (const auto pending = pending_.find(request.member_id); pending != pending_.end()) {
    pending_.erase(pending);
    std::string member_id = request.member_id;
    return AddMember(std::move(member_id), std::move(request), std::move(reply));
  }
  const auto member = members_.find(request.member_id);
  if (member == members_.end()) return fail(ErrorCode::kUnknownMemberId);
  JoinKnown(member->second, std::move(request), std::move(reply));
}

void Group::JoinNew(JoinRequest request, JoinReply reply) {
  if (request.instance_id) {
    const auto found = static_members_.find(*request.instance_id);
    if (found != static_members_.end()) {
      const std::string old_id = found->second;
      return ReplaceStaticMember(old_id, std::move(request), std::move(reply));
    }
    std::string member_id = host_.MakeMemberId(*request.instance_id);
    return AddMember(std::move(member_id), std::move(request), std::move(reply));
  }
  std::string member_id = host_.MakeMemberId(request.client_id);
  if (!request.id_required) {
    return AddMember(std::move(member_id), std::move(request), std::move(reply));
  }
  pending_[member_id] = host_.loop().After(request.session_timeout, [this, member_id] {
    pending_.erase(member_id);
    if (state_ == GroupState::kPreparingRebalance) CompleteJoinIfAllJoined();
  });
  reply({.error = ErrorCode::kMemberIdRequired, .member_id = member_id});
}

void Group::JoinKnown(Member& member, JoinRequest request, JoinReply reply) {
  const bool leader = member.id == leader_;
  const bool unchanged = member.protocols == request.protocols;
  // A lost answer to Join is asked for again: the same generation still holds. In a stable group a
  // leader joins again only because something outside changed and it wants to assign anew.
  const bool repeats = (state_ == GroupState::kCompletingRebalance && unchanged) ||
                       (state_ == GroupState::kStable && unchanged && !leader);
  if (!repeats) return UpdateMember(member, std::move(request), std::move(reply));
  HeardFrom(member);
  reply(CurrentResult(member, leader));
}

bool Group::Supports(const JoinRequest& request) const {
  if (request.protocol_type.empty() || request.protocols.empty()) return false;
  if (members_.empty()) return true;
  if (request.protocol_type != protocol_type_) return false;
  // One protocol at least must be known to all others and to this member.
  return std::ranges::any_of(request.protocols, [&](const GroupProtocol& protocol) {
    return std::ranges::all_of(members_, [&](const auto& entry) {
      return entry.first == request.member_id || entry.second.MetadataFor(protocol.name) != nullptr;
    });
  });
}

void Group::AddMember(std::string member_id, JoinRequest request, JoinReply reply) {
  if (members_.empty()) protocol_type_ = request.protocol_type;
  Member& member = members_[member_id];
  host_.CountMembers(1);
  member.id = std::move(member_id);
  member.instance_id = request.instance_id;
  member.client_id = request.client_id;
  member.client_host = request.client_host;
  member.order = next_order_++;
  if (member.instance_id) static_members_[*member.instance_id] = member.id;
  if (leader_.empty() || !members_.contains(leader_)) leader_ = member.id;
  newcomer_ = true;
  UpdateMember(member, std::move(request), std::move(reply));
}

void Group::UpdateMember(Member& member, JoinRequest request, JoinReply reply) {
  member.protocols = std::move(request.protocols);
  member.session_timeout = request.session_timeout;
  member.rebalance_timeout = request.rebalance_timeout;
  member.can_skip_assignment = request.can_skip_assignment;
  if (member.join_reply) {  // An older request, whose sender gave up waiting.
    std::exchange(member.join_reply,
                  JoinReply())({.error = ErrorCode::kRebalanceInProgress, .member_id = member.id});
  }
  member.join_reply = std::move(reply);
  WatchSession(member);
  PrepareOrGoOn();
}

void Group::ReplaceStaticMember(const std::string& old_id, JoinRequest request, JoinReply reply) {
  auto node = members_.extract(old_id);
  Member& member = node.mapped();
  if (member.join_reply) {
    std::exchange(member.join_reply,
                  JoinReply())({.error = ErrorCode::kFencedInstanceId, .member_id = old_id});
  }
  AnswerSync(member, ErrorCode::kFencedInstanceId);
  member.id = host_.MakeMemberId(*request.instance_id);
  member.client_id = request.client_id;
  member.client_host = request.client_host;
  static_members_[*request.instance_id] = member.id;
  const bool was_leader = leader_ == old_id;
  if (was_leader) leader_ = member.id;
  node.key() = member.id;
  Member& moved = members_.insert(std::move(node)).position->second;

  const std::string chosen = state_ == GroupState::kStable ? protocol_name_.value_or("") : "";
  std::vector<GroupProtocol> before = std::exchange(moved.protocols, request.protocols);
  if (state_ != GroupState::kStable || ChooseProtocol() != chosen) {
    return UpdateMember(moved, std::move(request), std::move(reply));
  }
  // Same place, same protocol: nobody else needs to hear of it.
  moved.session_timeout = request.session_timeout;
  moved.rebalance_timeout = request.rebalance_timeout;
  WatchSession(moved);
  JoinResult result = CurrentResult(moved, was_leader && request.can_skip_assignment);
  result.skip_assignment = was_leader && request.can_skip_assignment;
  // An older client would assign anew if it were told that it leads, and nobody would listen.
  if (was_leader && !request.can_skip_assignment) result.leader = old_id;
  // An id that a crash of the broker made unknown would be fenced by the one before, for good.
  Save([result = std::move(result), reply = std::move(reply)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) return reply({.error = error});
    reply(std::move(result));
  });
}

ErrorCode Group::CheckMember(const MemberRef& who) const {
  if (who.instance_id) {
    const auto found = static_members_.find(*who.instance_id);
    if (found == static_members_.end()) return ErrorCode::kUnknownMemberId;
    if (found->second != who.member_id) return ErrorCode::kFencedInstanceId;
  }
  return members_.contains(who.member_id) ? ErrorCode::kNone : ErrorCode::kUnknownMemberId;
}

ErrorCode Group::Heartbeat(const MemberRef& who, int32_t generation) {
  host_.loop().AssertInLoop();
  if (state_ == GroupState::kDead) return ErrorCode::kCoordinatorNotAvailable;
  if (const ErrorCode error = CheckMember(who); error != ErrorCode::kNone) return error;
  if (generation != generation_) return ErrorCode::kIllegalGeneration;
  HeardFrom(members_.find(who.member_id)->second);
  return state_ == GroupState::kPreparingRebalance ? ErrorCode::kRebalanceInProgress
                                                   : ErrorCode::kNone;
}

ErrorCode Group::Leave(const MemberRef& who) {
  host_.loop().AssertInLoop();
  if (state_ == GroupState::kDead) return ErrorCode::kCoordinatorNotAvailable;
  std::string_view member_id = who.member_id;
  if (who.instance_id) {
    const auto found = static_members_.find(*who.instance_id);
    if (found == static_members_.end()) return ErrorCode::kUnknownMemberId;
    // An administrator removes an instance without knowing its member id.
    if (!member_id.empty() && found->second != member_id) return ErrorCode::kFencedInstanceId;
    member_id = found->second;
  }
  if (const auto pending = pending_.find(member_id); pending != pending_.end()) {
    pending_.erase(pending);
    if (state_ == GroupState::kPreparingRebalance) CompleteJoinIfAllJoined();
    return ErrorCode::kNone;
  }
  const auto member = members_.find(member_id);
  if (member == members_.end()) return ErrorCode::kUnknownMemberId;
  RemoveMember(member);
  PrepareOrGoOn();
  return ErrorCode::kNone;
}

ErrorCode Group::MayCommit(const MemberRef& who, int32_t generation) {
  host_.loop().AssertInLoop();
  if (state_ == GroupState::kDead) return ErrorCode::kCoordinatorNotAvailable;
  if (generation < 0 && state_ == GroupState::kEmpty) return ErrorCode::kNone;
  if (generation < 0 && who.member_id.empty() && !who.instance_id) {
    return ErrorCode::kUnknownMemberId;
  }
  if (const ErrorCode error = CheckMember(who); error != ErrorCode::kNone) return error;
  if (generation != generation_) return ErrorCode::kIllegalGeneration;
  if (state_ == GroupState::kCompletingRebalance) return ErrorCode::kRebalanceInProgress;
  HeardFrom(members_.find(who.member_id)->second);
  return ErrorCode::kNone;
}

ErrorCode Group::MayCommitInTransaction(const MemberRef& who, int32_t generation) {
  host_.loop().AssertInLoop();
  if (state_ == GroupState::kDead) return ErrorCode::kCoordinatorNotAvailable;
  if (generation < 0 && state_ == GroupState::kEmpty) return ErrorCode::kNone;
  if (generation < 0 && who.member_id.empty() && !who.instance_id) return ErrorCode::kNone;
  if (const ErrorCode error = CheckMember(who); error != ErrorCode::kNone) return error;
  return generation == generation_ ? ErrorCode::kNone : ErrorCode::kIllegalGeneration;
}

void Group::RemoveMember(Members::iterator position) {
  Member member = std::move(position->second);
  members_.erase(position);
  host_.CountMembers(-1);
  if (member.instance_id) {
    const auto found = static_members_.find(*member.instance_id);
    if (found != static_members_.end() && found->second == member.id) static_members_.erase(found);
  }
  if (leader_ == member.id) {
    const auto next = std::ranges::min_element(
        members_, {}, [](const auto& entry) { return entry.second.order; });
    leader_ = next == members_.end() ? "" : next->first;
  }
  if (member.join_reply) {
    member.join_reply({.error = ErrorCode::kUnknownMemberId, .member_id = member.id});
  }
  AnswerSync(member, ErrorCode::kUnknownMemberId);
}

void Group::HeardFrom(Member& member) { member.last_heard = host_.loop().Now(); }

// The timer is not moved by every heartbeat: when it fires it looks how long the silence was.
void Group::WatchSession(Member& member) {
  HeardFrom(member);
  member.session =
      host_.loop().After(member.session_timeout, [this, id = member.id] { OnSessionTimer(id); });
}

void Group::OnSessionTimer(const std::string& member_id) {
  const auto found = members_.find(member_id);
  if (found == members_.end()) return;
  Member& member = found->second;
  const base::Duration silence = host_.loop().Now() - member.last_heard;
  if (member.waits()) {
    // It has done its part, and waits for us.
    WatchSession(member);
  } else if (silence < member.session_timeout) {
    const std::string id = member.id;
    member.session =
        host_.loop().After(member.session_timeout - silence, [this, id] { OnSessionTimer(id); });
  } else {
    base::Log(base::Event::kMemberLost, {"groups", id_}, "member {} was silent for too long",
              member.id);
    RemoveMember(found);
    PrepareOrGoOn();
  }
}

GroupRecord Group::Describe() const {
  GroupRecord record{.protocol_type = protocol_type_,
                     .protocol_name = protocol_name_,
                     .leader = leader_,
                     .generation = generation_,
                     .changed_ms = changed_ms_,
                     .members = {}};
  for (const auto& [id, member] : members_) {
    record.members.push_back({.member_id = id,
                              .instance_id = member.instance_id,
                              .client_id = member.client_id,
                              .client_host = member.client_host,
                              .session_timeout = member.session_timeout,
                              .rebalance_timeout = member.rebalance_timeout,
                              .protocols = member.protocols,
                              .assignment = member.assignment});
  }
  return record;
}

void Group::Save(base::UniqueFunction<void(ErrorCode)> done) {
  changed_ms_ = host_.loop().WallClockMs();
  host_.Save(id_, Describe(), std::move(done));
}

void Group::Close(ErrorCode error) {
  host_.loop().AssertInLoop();
  rebalance_timer_.Cancel();
  pending_.clear();
  for (auto& [id, member] : members_) {
    member.session.Cancel();
    if (member.join_reply) {
      std::exchange(member.join_reply, JoinReply())({.error = error, .member_id = id});
    }
    AnswerSync(member, error);
  }
  state_ = GroupState::kDead;
}

}  // namespace holdfast::broker
