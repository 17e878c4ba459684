#include "broker/consumer_group.h"

#include <algorithm>

#include "base/event.h"
#include "base/log.h"
#include "broker/consumer_protocol.h"

namespace holdfast::broker {

using kafka::ErrorCode;

std::string_view ConsumerGroupStateName(ConsumerGroupState state) {
  switch (state) {
    case ConsumerGroupState::kEmpty:
      return "Empty";
    case ConsumerGroupState::kAssigning:
      return "Assigning";
    case ConsumerGroupState::kReconciling:
      return "Reconciling";
    case ConsumerGroupState::kStable:
      return "Stable";
  }
  return "Empty";
}

ConsumerGroup::ConsumerGroup(std::string id, ConsumerGroupHost& host)
    : id_(std::move(id)), host_(host) {}

ConsumerGroup::ConsumerGroup(std::string id, ConsumerGroupHost& host, ConsumerGroupRecord record,
                             std::vector<ConsumerMemberRecord> members)
    : id_(std::move(id)),
      host_(host),
      record_(std::move(record)),
      found_target_epoch_(record_.target_epoch) {
  for (ConsumerMemberRecord& found : members) {
    Member& member = members_[found.member_id];
    member.kept() = std::move(found);
    member.recovered = true;
    next_number_ = std::max(next_number_, member.number + 1);
    if (member.instance_id) static_members_[*member.instance_id] = member.member_id;
    for (const TopicPartition& partition : member.current.assigned) ++owners_[partition];
    for (const TopicPartition& partition : member.current.revoking) ++owners_[partition];
    Watch(member);
    WatchRevocation(member);
  }
  host_.CountMembers(static_cast<int>(members_.size()));
}

ConsumerGroup::~ConsumerGroup() { host_.CountMembers(-static_cast<int>(members_.size())); }

// --- Heartbeats ---------------------------------------------------------------------------------

void ConsumerGroup::Heartbeat(ConsumerHeartbeat request, ConsumerHeartbeatReply reply) {
  host_.loop().AssertInLoop();
  if (request.epoch < kJoinEpoch) return LeaveByHeartbeat(request, std::move(reply));
  Refusal refusal;
  Member* const found = FindOrAdd(request, &refusal);
  if (found == nullptr) {
    return reply({.error = refusal.error, .message = std::move(refusal.message)});
  }
  Member& member = *found;
  const Assignment assigned_before = member.current.assigned;
  const ConsumerMemberRecord before = member.kept();

  if (request.instance_id) SetInstance(member, *request.instance_id);
  if (request.rack_id) member.rack_id = request.rack_id;
  if (request.rebalance_timeout) member.rebalance_timeout = *request.rebalance_timeout;
  if (request.assignor) member.assignor = *request.assignor;
  if (request.topic_names) member.topic_names = *request.topic_names;
  if (request.topic_pattern) member.topic_pattern = *request.topic_pattern;
  member.may_know = std::move(request.may_know);
  member.client_id = request.client_id;
  member.client_host = request.client_host;
  member.classic.reset();
  member.join.Cancel();
  member.join_expected = false;
  member.sync.Cancel();
  bool subscription_changed =
      member.topic_names != before.topic_names || member.topic_pattern != before.topic_pattern;
  if (member.recovered && !subscription_changed) subscription_changed = TakeUp(member);
  member.recovered = false;
  if (member.kept() != before) NoteMember(member);
  Advance(member, subscription_changed, request.owned ? &*request.owned : nullptr);
  Watch(member);

  ConsumerHeartbeatResult result{.member_id = member.member_id, .epoch = member.current.epoch};
  const bool full = request.epoch == kJoinEpoch || (request.rebalance_timeout && request.owned &&
                                                    (request.topic_names || request.topic_pattern));
  if (full || member.current.assigned != assigned_before) result.assigned = member.current.assigned;
  Commit([result = std::move(result), reply = std::move(reply)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) return reply({.error = error});
    reply(std::move(result));
  });
}

ConsumerGroup::Member* ConsumerGroup::FindOrAdd(const ConsumerHeartbeat& request,
                                                Refusal* refusal) {
  const auto found = members_.find(request.member_id);
  const bool known = found != members_.end();
  if (!known && static_cast<int64_t>(members_.size()) >= host_.consumer_options(id_).size_max) {
    *refusal = {ErrorCode::kGroupMaxSizeReached,
                "The consumer group has reached its maximum capacity of " +
                    std::to_string(host_.consumer_options(id_).size_max) + " members."};
    return nullptr;
  }
  if (request.instance_id) return FindOrAddStatic(request, refusal);
  if (!known && request.epoch == kJoinEpoch) return &Add(request.member_id);
  if (!known) {
    *refusal = {ErrorCode::kUnknownMemberId,
                "Member " + request.member_id + " is not a member of group " + id_ + "."};
    return nullptr;
  }
  *refusal = CheckEpoch(found->second, request);
  return refusal->error == ErrorCode::kNone ? &found->second : nullptr;
}

ConsumerGroup::Member* ConsumerGroup::FindOrAddStatic(const ConsumerHeartbeat& request,
                                                      Refusal* refusal) {
  Member* const holder = FindStatic(*request.instance_id);
  if (request.epoch == kJoinEpoch) {
    if (holder == nullptr) {
      const auto known = members_.find(request.member_id);
      return known != members_.end() ? &known->second : &Add(request.member_id);
    }
    if (!holder->classic && holder->current.epoch != kLeaveForAWhileEpoch) {
      *refusal = {ErrorCode::kUnreleasedInstanceId,
                  "Static member " + request.member_id + " with instance id " +
                      *request.instance_id +
                      " cannot join the group because the instance id is owned by " +
                      holder->member_id + " member."};
      return nullptr;
    }
    const auto other = members_.find(request.member_id);
    if (other != members_.end() && &other->second != holder) {
      // Under that id it has been another member, which it is no more.
      Remove(other->second);
      RefreshTopics();
      BumpEpoch();
    }
    return &Replace(*holder, request.member_id);
  }
  if (holder == nullptr) {
    *refusal = {ErrorCode::kUnknownMemberId,
                "Instance id " + *request.instance_id + " is unknown."};
    return nullptr;
  }
  if (holder->member_id != request.member_id) {
    *refusal = {ErrorCode::kFencedInstanceId,
                "Static member " + request.member_id + " with instance id " + *request.instance_id +
                    " was fenced by member " + holder->member_id + "."};
    return nullptr;
  }
  *refusal = CheckEpoch(*holder, request);
  return refusal->error == ErrorCode::kNone ? holder : nullptr;
}

// The answer with its next epoch may have been lost: then the member still has the one before, and
// no partition that it was not given in it.
ConsumerGroup::Refusal ConsumerGroup::CheckEpoch(const Member& member,
                                                 const ConsumerHeartbeat& request) {
  if (request.epoch == kJoinEpoch || request.epoch == member.current.epoch) return {};
  if (request.epoch == member.current.previous_epoch && request.owned &&
      std::ranges::includes(member.current.assigned, *request.owned, std::less<>())) {
    return {};
  }
  const bool greater = request.epoch > member.current.epoch;
  return {ErrorCode::kFencedMemberEpoch,
          std::string("The consumer group member has a ") + (greater ? "greater" : "smaller") +
              " member epoch (" + std::to_string(request.epoch) +
              ") than the one known by the group coordinator (" +
              std::to_string(member.current.epoch) +
              "). The member must abandon all its partitions and rejoin."};
}

ConsumerGroup::Member* ConsumerGroup::FindStatic(std::string_view instance_id) {
  const auto found = static_members_.find(instance_id);
  return found == static_members_.end() ? nullptr : &members_.find(found->second)->second;
}

void ConsumerGroup::SetInstance(Member& member, const std::string& instance_id) {
  GiveUpInstance(member);
  member.instance_id = instance_id;
  static_members_[instance_id] = member.member_id;
}

void ConsumerGroup::GiveUpInstance(Member& member) {
  if (!member.instance_id) return;
  const auto found = static_members_.find(*member.instance_id);
  if (found != static_members_.end() && found->second == member.member_id) {
    static_members_.erase(found);
  }
  member.instance_id.reset();
}

ConsumerGroup::Member& ConsumerGroup::Add(const std::string& member_id) {
  Member& member = members_[member_id];
  member.member_id = member_id;
  member.number = next_number_++;
  host_.CountMembers(1);
  NoteMember(member);
  return member;
}

ConsumerGroup::Member& ConsumerGroup::Replace(Member& old, const std::string& member_id) {
  dirty_.erase(old.member_id);
  auto node = members_.extract(old.member_id);
  node.key() = member_id;
  const auto inserted = members_.insert(std::move(node));
  HF_CHECK(inserted.inserted);
  Member& member = inserted.position->second;
  member.member_id = member_id;
  member.current.epoch = kJoinEpoch;
  member.current.previous_epoch = kJoinEpoch;
  member.rebalance.Cancel();
  member.join.Cancel();
  member.join_expected = false;
  member.sync.Cancel();
  static_members_[*member.instance_id] = member_id;
  NoteMember(member);
  return member;
}

void ConsumerGroup::Remove(Member& member) {
  SetCurrent(member, {});
  removed_.push_back(member.number);
  GiveUpInstance(member);
  const std::string member_id = member.member_id;
  dirty_.erase(member_id);
  members_.erase(members_.find(member_id));
  host_.CountMembers(-1);
}

// --- From the group's epoch to the member's -----------------------------------------------------

void ConsumerGroup::Advance(Member& member, bool subscription_changed, const Assignment* owned) {
  if (subscription_changed) member.topics_version = 0;
  // A new group leaves epoch 0 even if its first member subscribes to nothing.
  bool bump = subscription_changed || record_.epoch == 0;
  if (bump || topics_seen_ != host_.topics_version()) bump = RefreshTopics() || bump;
  if (bump) BumpEpoch();
  if (record_.epoch > record_.target_epoch) UpdateTarget();
  if (member.current.ReconciledTo(record_.target_epoch)) return;
  CurrentAssignment next =
      Reconcile(member.current, {record_.target_epoch, member.target}, owned,
                [this](const TopicPartition& partition) { return IsFree(partition); });
  if (next == member.current) return;
  SetCurrent(member, std::move(next));
  NoteMember(member);
  WatchRevocation(member);
}

bool ConsumerGroup::RefreshTopics() {
  topics_seen_ = host_.topics_version();
  std::set<kafka::Uuid> ids;
  for (auto& [id, member] : members_) {
    const std::vector<kafka::Uuid>& topics = TopicsOf(member);
    ids.insert(topics.begin(), topics.end());
  }
  std::vector<SubscribedTopic> topics;
  for (const kafka::Uuid& id : ids) {
    topics.push_back({id, static_cast<int32_t>(host_.topics().Find(id)->partitions.size())});
  }
  if (topics == record_.topics) return false;
  record_.topics = std::move(topics);
  group_dirty_ = true;
  return true;
}

bool ConsumerGroup::TakeUp(Member& member) {
  const std::vector<kafka::Uuid> before = TopicsOf(member);
  member.recovered = false;
  member.topics_version = 0;
  const std::vector<kafka::Uuid>& topics = TopicsOf(member);
  if (topics == before) return false;
  topics_seen_ = 0;
  // It may know less than it has, or there was a target for which it seemed to know less.
  return !std::ranges::includes(topics, before, std::less<>()) ||
         record_.target_epoch != found_target_epoch_;
}

const std::vector<kafka::Uuid>& ConsumerGroup::TopicsOf(Member& member) {
  if (member.topics_version == host_.topics_version()) return member.topics;
  std::set<kafka::Uuid> ids;
  for (const std::string& name : member.topic_names) {
    if (const Topic* topic = host_.topics().Find(name)) ids.insert(topic->id);
  }
  if (!member.topic_pattern.empty() && member.recovered) {
    for (const TopicPartition& partition : member.target) {
      if (host_.topics().Find(partition.topic) != nullptr) ids.insert(partition.topic);
    }
  } else if (!member.topic_pattern.empty()) {
    for (const kafka::Uuid& id : Resolve(member.topic_pattern)) {
      if (!member.may_know || member.may_know(host_.topics().Find(id)->name)) ids.insert(id);
    }
  }
  member.topics.assign(ids.begin(), ids.end());
  member.topics_version = host_.topics_version();
  return member.topics;
}

const std::vector<kafka::Uuid>& ConsumerGroup::Resolve(const std::string& pattern) {
  auto found = patterns_.find(pattern);
  if (found == patterns_.end()) {
    std::erase_if(patterns_, [this](const auto& entry) {
      return std::ranges::none_of(
          members_, [&](const auto& member) { return member.second.topic_pattern == entry.first; });
    });
    auto parsed = NamePattern::Parse(pattern);
    if (!parsed) {
      // The coordinator refuses those; another version of the library may have taken it.
      base::Log(base::Event::kBadTopicPattern, {"groups", id_}, "a pattern of topics fits none: {}",
                parsed.error().message);
      parsed = NamePattern::Parse("[^\\x{0}-\\x{10FFFF}]");
      HF_CHECK(parsed.has_value());
    }
    found = patterns_.emplace(pattern, Pattern{*std::move(parsed)}).first;
  }
  Pattern& known = found->second;
  if (known.version == host_.topics_version()) return known.topics;
  known.version = host_.topics_version();
  known.topics.clear();
  for (const Topic* topic : host_.topics().All()) {
    if (known.pattern.Matches(topic->name)) known.topics.push_back(topic->id);
  }
  return known.topics;
}

void ConsumerGroup::BumpEpoch() {
  ++record_.epoch;
  group_dirty_ = true;
  host_.CountRebalance();
}

void ConsumerGroup::UpdateTarget() {
  PartitionCounts counts;
  for (const SubscribedTopic& topic : record_.topics) counts.emplace(topic.id, topic.partitions);
  std::vector<Subscriber> subscribers;
  for (auto& [id, member] : members_) {
    Subscriber& subscriber = subscribers.emplace_back();
    subscriber.member_id = id;
    if (member.instance_id) subscriber.instance_id = *member.instance_id;
    subscriber.topics = TopicsOf(member);
    subscriber.current = &member.target;
  }
  std::vector<Assignment> targets = FindAssignor(assignor())->assign(subscribers, counts);
  size_t at = 0;
  for (auto& [id, member] : members_) {
    Assignment& target = targets[at++];
    if (target == member.target) continue;
    member.target = std::move(target);
    NoteMember(member);
  }
  record_.target_epoch = record_.epoch;
  group_dirty_ = true;
}

std::string_view ConsumerGroup::assignor() const {
  std::map<std::string_view, size_t> votes;
  for (const auto& [id, member] : members_) {
    // Another version may know more.
    if (FindAssignor(member.assignor) != nullptr) ++votes[member.assignor];
  }
  const auto chosen =
      std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
  return chosen == votes.end() ? Assignors().front().name : chosen->first;
}

void ConsumerGroup::SetCurrent(Member& member, CurrentAssignment next) {
  for (const Assignment* had : {&member.current.assigned, &member.current.revoking}) {
    for (const TopicPartition& partition : *had) {
      const auto owner = owners_.find(partition);
      if (--owner->second == 0) owners_.erase(owner);
    }
  }
  member.current = std::move(next);
  for (const Assignment* has : {&member.current.assigned, &member.current.revoking}) {
    for (const TopicPartition& partition : *has) ++owners_[partition];
  }
}

bool ConsumerGroup::IsFree(const TopicPartition& partition) const {
  return !owners_.contains(partition);
}

// --- Leaving ------------------------------------------------------------------------------------

void ConsumerGroup::LeaveByHeartbeat(const ConsumerHeartbeat& request,
                                     ConsumerHeartbeatReply reply) {
  const auto refuse = [&](ErrorCode error, std::string message) {
    reply({.error = error, .message = std::move(message)});
  };
  Member* member = nullptr;
  if (request.instance_id) {
    member = FindStatic(*request.instance_id);
    if (member == nullptr) {
      return refuse(ErrorCode::kUnknownMemberId,
                    "Instance id " + *request.instance_id + " is unknown.");
    }
    if (member->member_id != request.member_id) {
      return refuse(ErrorCode::kFencedInstanceId,
                    "Static member " + request.member_id + " with instance id " +
                        *request.instance_id + " was fenced by member " + member->member_id + ".");
    }
  } else if (const auto found = members_.find(request.member_id); found != members_.end()) {
    member = &found->second;
  } else {
    return refuse(ErrorCode::kUnknownMemberId,
                  "Member " + request.member_id + " is not a member of group " + id_ + ".");
  }
  ConsumerHeartbeatResult result{.member_id = request.member_id, .epoch = request.epoch};
  auto answer = [result = std::move(result), reply = std::move(reply)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) return reply({.error = error});
    reply(std::move(result));
  };
  if (request.instance_id && request.epoch == kLeaveForAWhileEpoch) {
    // It keeps its place, and what it was to give up is given up.
    CurrentAssignment away = member->current;
    away.epoch = kLeaveForAWhileEpoch;
    away.revoking.clear();
    SetCurrent(*member, std::move(away));
    member->rebalance.Cancel();
    NoteMember(*member);
    return Commit(std::move(answer));
  }
  Fence({member}, std::move(answer));
}

void ConsumerGroup::Fence(const std::vector<Member*>& members, ConsumerGroupHost::Done done) {
  const bool downgrade = CanDowngradeWithout(members);
  for (Member* member : members) Remove(*member);
  if (downgrade) {
    return host_.Downgrade(id_, Erasure(), AsClassic(), /*rebalance=*/true, std::move(done));
  }
  RefreshTopics();
  BumpEpoch();
  Commit(std::move(done));
}

// --- Time ---------------------------------------------------------------------------------------

base::Duration ConsumerGroup::SessionTimeout(const Member& member) {
  return member.classic ? member.classic->session_timeout
                        : host_.consumer_options(id_).session_timeout;
}

// The timer is not moved by every heartbeat: when it fires it looks how long the silence was.
void ConsumerGroup::Watch(Member& member) {
  member.last_heard = host_.loop().Now();
  const base::Duration timeout = SessionTimeout(member);
  if (member.watched_for == timeout) return;
  member.watched_for = timeout;
  member.session =
      host_.loop().After(timeout, [this, number = member.number] { OnSessionTimer(number); });
}

void ConsumerGroup::OnSessionTimer(uint64_t number) {
  Member* const member = FindNumber(number);
  if (member == nullptr) return;
  const base::Duration left = SessionTimeout(*member) - (host_.loop().Now() - member->last_heard);
  if (left <= base::Duration::zero()) return FenceByTimer(number, "was silent for too long");
  member->session = host_.loop().After(left, [this, number] { OnSessionTimer(number); });
}

void ConsumerGroup::WatchRevocation(Member& member) {
  if (member.classic || member.current.state != MemberState::kUnrevokedPartitions) {
    return member.rebalance.Cancel();
  }
  member.rebalance = host_.loop().After(member.rebalance_timeout, [this, number = member.number] {
    FenceByTimer(number, "did not give up its partitions in time");
  });
}

ConsumerGroup::Member* ConsumerGroup::FindNumber(uint64_t number) {
  const auto found =
      std::ranges::find(members_, number, [](const auto& entry) { return entry.second.number; });
  return found == members_.end() ? nullptr : &found->second;
}

void ConsumerGroup::FenceByTimer(uint64_t number, std::string_view why) {
  Member* const member = FindNumber(number);
  if (member == nullptr) return;
  base::Log(base::Event::kMemberLost, {"groups", id_}, "member {} {}", member->member_id, why);
  // If it cannot be written, the next change writes all of the group.
  Fence({member}, [](ErrorCode) {});
}

void ConsumerGroup::Close() {
  host_.loop().AssertInLoop();
  for (auto& [id, member] : members_) {
    for (base::Timer* timer : {&member.session, &member.rebalance, &member.join, &member.sync}) {
      timer->Cancel();
    }
  }
}

// --- Keeping ------------------------------------------------------------------------------------

void ConsumerGroup::Commit(ConsumerGroupHost::Done done) {
  if (std::exchange(saving_->failed, false)) {
    // What is kept may lack any of what has changed since; removed members are still listed.
    group_dirty_ = true;
    for (const auto& [id, member] : members_) NoteMember(member);
    removed_.insert(removed_.end(), saving_->removed.begin(), saving_->removed.end());
    replaces_classic_ = replaces_classic_ || saving_->replaces_classic;
  }
  ConsumerGroupChange change;
  if (group_dirty_) change.group = record_;
  for (const std::string& id : dirty_) change.members.push_back(members_.find(id)->second.kept());
  change.removed_members = std::exchange(removed_, {});
  change.replaces_classic = std::exchange(replaces_classic_, false);
  group_dirty_ = false;
  dirty_.clear();
  // What is answered may rest on earlier changes that are not durable yet.
  if (change.empty() && saving_->outstanding == 0) return done(ErrorCode::kNone);
  ++saving_->outstanding;
  auto finish = [saving = saving_, removed = change.removed_members,
                 replaces_classic = change.replaces_classic,
                 done = std::move(done)](ErrorCode error) mutable {
    --saving->outstanding;
    if (error != ErrorCode::kNone) {
      saving->failed = true;
      saving->removed.insert(removed.begin(), removed.end());
      saving->replaces_classic = saving->replaces_classic || replaces_classic;
    } else {
      for (const uint64_t number : removed) saving->removed.erase(number);
    }
    done(error);
  };
  host_.Save(id_, std::move(change), std::move(finish));
}

ConsumerGroupChange ConsumerGroup::Erasure() const {
  ConsumerGroupChange change{.removed_members = removed_, .erases_group = true};
  change.removed_members.insert(change.removed_members.end(), saving_->removed.begin(),
                                saving_->removed.end());
  for (const auto& [id, member] : members_) change.removed_members.push_back(member.number);
  return change;
}

// --- Looking ------------------------------------------------------------------------------------

ErrorCode ConsumerGroup::MayCommit(std::string_view member_id, int32_t epoch,
                                   bool knows_epochs) const {
  if (epoch < 0 && members_.empty()) return ErrorCode::kNone;
  const auto found = members_.find(member_id);
  if (found == members_.end()) return ErrorCode::kUnknownMemberId;
  const Member& member = found->second;
  if (!member.classic && !knows_epochs) return ErrorCode::kUnsupportedVersion;
  if (epoch == member.current.epoch) return ErrorCode::kNone;
  return member.classic ? ErrorCode::kIllegalGeneration : ErrorCode::kStaleMemberEpoch;
}

ErrorCode ConsumerGroup::MayFetch(std::optional<std::string_view> member_id, int32_t epoch) const {
  if (!member_id && epoch < 0) return ErrorCode::kNone;
  const auto found = members_.find(member_id.value_or(""));
  if (found == members_.end()) return ErrorCode::kUnknownMemberId;
  if (epoch == found->second.current.epoch) return ErrorCode::kNone;
  return found->second.classic ? ErrorCode::kIllegalGeneration : ErrorCode::kStaleMemberEpoch;
}

ConsumerGroupState ConsumerGroup::state() const {
  if (members_.empty()) return ConsumerGroupState::kEmpty;
  if (record_.epoch > record_.target_epoch) return ConsumerGroupState::kAssigning;
  const bool reconciled = std::ranges::all_of(members_, [this](const auto& entry) {
    return entry.second.current.ReconciledTo(record_.target_epoch);
  });
  return reconciled ? ConsumerGroupState::kStable : ConsumerGroupState::kReconciling;
}

std::vector<const ConsumerMemberRecord*> ConsumerGroup::members() const {
  std::vector<const ConsumerMemberRecord*> all;
  for (const auto& [id, member] : members_) all.push_back(&member.kept());
  return all;
}

bool ConsumerGroup::SubscribesTo(const Topic& topic) {
  return std::ranges::any_of(members_, [&](auto& entry) {
    return std::ranges::binary_search(TopicsOf(entry.second), topic.id);
  });
}

}  // namespace holdfast::broker
