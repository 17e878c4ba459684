// Members of the classic protocol in a consumer group of the newer one, and the way of a group
// from one protocol to the other.
#include <algorithm>
#include <map>

#include "broker/consumer_group.h"
#include "broker/consumer_protocol.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;

// By topic, as the classic protocol has it. Topics that are gone, and partitions that a topic does
// not have, are left out.
Assignment FromNames(const std::vector<TopicPartitions>& named, const Topics& topics) {
  Assignment assignment;
  for (const TopicPartitions& one : named) {
    const Topic* topic = topics.Find(one.topic);
    if (topic == nullptr) continue;
    for (const int32_t partition : one.partitions) {
      if (topic->Find(partition) != nullptr) assignment.push_back({topic->id, partition});
    }
  }
  std::ranges::sort(assignment, std::less<>());
  const auto rest = std::ranges::unique(assignment);
  assignment.erase(rest.begin(), rest.end());
  return assignment;
}

std::string ToNames(const Assignment& assignment, std::string_view subscription,
                    const Topics& topics) {
  std::map<std::string_view, std::vector<int32_t>> by_name;
  for (const TopicPartition& partition : assignment) {
    if (const Topic* topic = topics.Find(partition.topic)) {
      by_name[topic->name].push_back(partition.partition);
    }
  }
  std::vector<TopicPartitions> named;
  for (auto& [name, partitions] : by_name) named.push_back({name, std::move(partitions)});
  const auto parsed = ParseSubscription(subscription);
  return EncodeConsumerAssignment(parsed ? parsed->version : int16_t{0}, named);
}

std::vector<std::string> SortedNames(const std::vector<std::string_view>& names) {
  std::vector<std::string> sorted(names.begin(), names.end());
  std::ranges::sort(sorted);
  const auto rest = std::ranges::unique(sorted);
  sorted.erase(rest.begin(), rest.end());
  return sorted;
}

// Whether members of that assignor have there, if anything, what they said of themselves:
// librdkafka gives it back to them.
bool DoWithoutUserData(std::string_view assignor) {
  return assignor == "range" || assignor == "roundrobin" || assignor == "cooperative-sticky";
}

bool Knows(const std::vector<GroupProtocol>& protocols, std::string_view name) {
  return std::ranges::find(protocols, name, &GroupProtocol::name) != protocols.end();
}

}  // namespace

std::unique_ptr<ConsumerGroup> ConsumerGroup::FromClassic(std::string id, ConsumerGroupHost& host,
                                                          const GroupRecord& record) {
  std::vector<ConsumerMemberRecord> members;
  for (const MemberRecord& old : record.members) {
    const auto chosen =
        std::ranges::find(old.protocols, record.protocol_name.value_or(old.protocols.front().name),
                          &GroupProtocol::name);
    if (chosen == old.protocols.end()) return nullptr;
    const auto subscription = ParseSubscription(chosen->metadata);
    const auto assigned = ParseConsumerAssignment(old.assignment);
    if (!subscription || !assigned) return nullptr;
    // It would be lost, and the members cannot do without: Kafka Streams has its tasks there.
    if (!DoWithoutUserData(chosen->name) && !assigned->user_data.value_or("").empty()) {
      return nullptr;
    }
    ConsumerMemberRecord& member = members.emplace_back();
    member.number = members.size() - 1;
    member.member_id = old.member_id;
    member.instance_id = old.instance_id;
    if (subscription->rack_id) member.rack_id = std::string(*subscription->rack_id);
    member.client_id = old.client_id;
    member.client_host = old.client_host;
    member.rebalance_timeout = old.rebalance_timeout;
    member.topic_names = SortedNames(subscription->topics);
    member.classic = {old.session_timeout, old.protocols};
    member.current.epoch = record.generation;
    member.current.previous_epoch = record.generation;
    member.current.assigned = FromNames(assigned->topics, host.topics());
    member.target = member.current.assigned;
  }
  auto group = std::make_unique<ConsumerGroup>(
      std::move(id), host,
      ConsumerGroupRecord{.epoch = record.generation, .target_epoch = record.generation},
      std::move(members));
  group->replaces_classic_ = true;
  group->group_dirty_ = true;
  for (const auto& [member_id, member] : group->members_) group->NoteMember(member);
  return group;
}

// A group goes back when nobody is left who speaks the newer protocol.
bool ConsumerGroup::CanDowngradeWithout(const std::vector<Member*>& members) {
  const auto goes = [&](const Member& member) {
    return std::ranges::find(members, &member) != members.end();
  };
  if (members_.size() <= members.size() || !host_.consumer_options(id_).downgrade) return false;
  if (std::ranges::all_of(members, [](const Member* member) { return bool(member->classic); })) {
    return false;
  }
  return std::ranges::all_of(
      members_, [&](const auto& entry) { return entry.second.classic || goes(entry.second); });
}

GroupRecord ConsumerGroup::AsClassic() {
  GroupRecord record;
  record.protocol_type = kConsumerProtocolType;
  record.generation = record_.epoch;
  record.changed_ms = host_.loop().WallClockMs();
  for (const auto& [id, member] : members_) {
    if (record.leader.empty()) record.leader = id;
    record.members.push_back({.member_id = id,
                              .instance_id = member.instance_id,
                              .client_id = member.client_id,
                              .client_host = member.client_host,
                              .session_timeout = member.classic->session_timeout,
                              .rebalance_timeout = member.rebalance_timeout,
                              .protocols = member.classic->protocols,
                              .assignment = {}});
  }
  for (const GroupProtocol& protocol : record.members.front().protocols) {
    const bool common = std::ranges::all_of(record.members, [&](const MemberRecord& member) {
      return Knows(member.protocols, protocol.name);
    });
    if (!common) continue;
    record.protocol_name = protocol.name;
    break;
  }
  for (MemberRecord& member : record.members) {
    member.assignment = ToNames(members_.find(member.member_id)->second.target,
                                member.protocols.front().metadata, host_.topics());
  }
  return record;
}

bool ConsumerGroup::Supports(const JoinRequest& request) const {
  if (request.protocol_type != kConsumerProtocolType || request.protocols.empty()) return false;
  return members_.empty() ||
         std::ranges::any_of(request.protocols, [this](const GroupProtocol& protocol) {
           return std::ranges::all_of(members_, [&](const auto& entry) {
             const Member& member = entry.second;
             return !member.classic || Knows(member.classic->protocols, protocol.name);
           });
         });
}

void ConsumerGroup::Join(JoinRequest request, JoinReply reply) {
  host_.loop().AssertInLoop();
  const auto refuse = [&](ErrorCode error, std::string member_id) {
    reply({.error = error, .member_id = std::move(member_id)});
  };
  const bool is_new = request.member_id.empty();
  const std::string member_id =
      is_new ? host_.MakeMemberId(request.instance_id.value_or(request.client_id))
             : request.member_id;
  const auto known = members_.find(member_id);
  if (known == members_.end() &&
      static_cast<int64_t>(members_.size()) >= host_.consumer_options(id_).size_max) {
    return refuse(ErrorCode::kGroupMaxSizeReached, request.member_id);
  }
  const auto subscription = request.protocols.empty()
                                ? std::optional<ConsumerSubscription>()
                                : ParseSubscription(request.protocols.front().metadata);
  if (!Supports(request) || !subscription) {
    return refuse(ErrorCode::kInconsistentGroupProtocol, request.member_id);
  }
  if (is_new && request.id_required && !request.instance_id) {
    return refuse(ErrorCode::kMemberIdRequired, member_id);
  }

  bool downgrade = false;
  Member* member = nullptr;
  if (request.instance_id) {
    Member* const holder = FindStatic(*request.instance_id);
    if (!is_new && holder == nullptr) return refuse(ErrorCode::kUnknownMemberId, member_id);
    if (!is_new && holder->member_id != member_id) {
      return refuse(ErrorCode::kFencedInstanceId, member_id);
    }
    if (is_new && holder != nullptr) {
      // With a restart of the last member of the newer protocol its group goes back.
      downgrade = !holder->classic && host_.consumer_options(id_).downgrade &&
                  std::ranges::all_of(members_, [&](const auto& entry) {
                    return entry.second.classic || &entry.second == holder;
                  });
      member = &Replace(*holder, member_id);
    } else if (holder != nullptr) {
      member = holder;
    }
  } else if (known != members_.end()) {
    member = &known->second;
  }
  if (member == nullptr) member = &Add(member_id);

  const ConsumerMemberRecord before = member->kept();
  if (request.instance_id) SetInstance(*member, *request.instance_id);
  if (subscription->rack_id) member->rack_id = std::string(*subscription->rack_id);
  member->rebalance_timeout = request.rebalance_timeout;
  member->topic_names = SortedNames(subscription->topics);
  member->topic_pattern.clear();
  member->client_id = request.client_id;
  member->client_host = request.client_host;
  member->classic = {request.session_timeout, request.protocols};
  if (member->kept() != before) NoteMember(*member);
  const Assignment owned = FromNames(subscription->owned, host_.topics());
  Advance(
      *member,
      member->topic_names != before.topic_names || member->topic_pattern != before.topic_pattern,
      &owned);

  JoinResult result{.member_id = member_id,
                    .generation = member->current.epoch,
                    .protocol_type = std::string(kConsumerProtocolType),
                    .protocol_name = request.protocols.front().name};
  auto answer = [result = std::move(result), reply = std::move(reply)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) return reply({.error = error, .member_id = result.member_id});
    reply(std::move(result));
  };
  if (downgrade) {
    return host_.Downgrade(id_, Erasure(), AsClassic(), /*rebalance=*/false, std::move(answer));
  }
  member->join.Cancel();
  member->join_expected = false;
  Watch(*member);
  member->sync = host_.loop().After(member->rebalance_timeout, [this, number = member->number] {
    FenceByTimer(number, "did not sync in time");
  });
  Commit(std::move(answer));
}

ConsumerGroup::Member* ConsumerGroup::Find(const MemberRef& who, ErrorCode* error) {
  Member* member = nullptr;
  *error = ErrorCode::kNone;
  if (who.instance_id) {
    member = FindStatic(*who.instance_id);
    if (member != nullptr && member->member_id != who.member_id) {
      *error = ErrorCode::kFencedInstanceId;
      return nullptr;
    }
  } else if (const auto found = members_.find(who.member_id); found != members_.end()) {
    member = &found->second;
  }
  if (member == nullptr) *error = ErrorCode::kUnknownMemberId;
  return member;
}

ConsumerGroup::Member* ConsumerGroup::FindClassic(const MemberRef& who, ErrorCode* error) {
  Member* const member = Find(who, error);
  if (member == nullptr || member->classic) return member;
  *error = ErrorCode::kUnknownMemberId;
  return nullptr;
}

// It is to join within its rebalance timeout, counted from when it was first told to.
void ConsumerGroup::ExpectJoin(Member& member) {
  if (std::exchange(member.join_expected, true)) return;
  member.join = host_.loop().After(member.rebalance_timeout, [this, number = member.number] {
    FenceByTimer(number, "did not rejoin in time");
  });
}

void ConsumerGroup::Sync(const SyncRequest& request, SyncReply reply) {
  host_.loop().AssertInLoop();
  ErrorCode error = ErrorCode::kNone;
  Member* const member = FindClassic({request.member_id, request.instance_id}, &error);
  if (member == nullptr) return reply({.error = error});
  if (request.generation != member->current.epoch) {
    return reply({.error = ErrorCode::kIllegalGeneration});
  }
  if ((request.protocol_type && *request.protocol_type != kConsumerProtocolType) ||
      (request.protocol_name &&
       *request.protocol_name != member->classic->protocols.front().name)) {
    return reply({.error = ErrorCode::kInconsistentGroupProtocol});
  }
  if (record_.epoch > member->current.epoch &&
      member->current.state != MemberState::kUnrevokedPartitions) {
    ExpectJoin(*member);
    return reply({.error = ErrorCode::kRebalanceInProgress});
  }
  member->sync.Cancel();
  Watch(*member);
  SyncResult result{
      .protocol_type = request.protocol_type,
      .protocol_name = request.protocol_name,
      .assignment = ToNames(member->current.assigned, member->classic->protocols.front().metadata,
                            host_.topics())};
  Commit([result = std::move(result), reply = std::move(reply)](ErrorCode failed) mutable {
    if (failed != ErrorCode::kNone) return reply({.error = failed});
    reply(std::move(result));
  });
}

ErrorCode ConsumerGroup::ClassicHeartbeat(const MemberRef& who, int32_t generation) {
  host_.loop().AssertInLoop();
  ErrorCode error = ErrorCode::kNone;
  Member* const member = FindClassic(who, &error);
  if (member == nullptr) return error;
  if (generation != member->current.epoch) return ErrorCode::kIllegalGeneration;
  Watch(*member);
  const auto is_free = [this](const TopicPartition& partition) { return IsFree(partition); };
  const bool lags = member->current.epoch < record_.epoch;
  const bool revokes = member->current.state == MemberState::kUnrevokedPartitions;
  const bool gains = member->current.state == MemberState::kUnreleasedPartitions &&
                     !WaitsForOthers(member->current, member->target, is_free);
  if (!lags && !revokes && !gains) return ErrorCode::kNone;
  ExpectJoin(*member);
  return ErrorCode::kRebalanceInProgress;
}

void ConsumerGroup::Leave(const std::vector<MemberRef>& members, LeaveReply reply) {
  host_.loop().AssertInLoop();
  std::vector<Left> results;
  std::vector<Member*> leaving;
  for (MemberRef who : members) {
    Left& result = results.emplace_back();
    result.member_id = who.member_id;
    if (who.instance_id && who.member_id.empty()) {
      // An administrator removes an instance without knowing its member id.
      if (const Member* holder = FindStatic(*who.instance_id)) who.member_id = holder->member_id;
    }
    Member* const member = Find(who, &result.error);
    if (member == nullptr) continue;
    result.member_id = member->member_id;
    if (std::ranges::find(leaving, member) == leaving.end()) leaving.push_back(member);
  }
  if (leaving.empty()) return reply(std::move(results));
  Fence(leaving, [results = std::move(results), reply = std::move(reply)](ErrorCode error) mutable {
    if (error != ErrorCode::kNone) {
      for (Left& result : results) {
        if (result.error == ErrorCode::kNone) result.error = error;
      }
    }
    reply(std::move(results));
  });
}

}  // namespace holdfast::broker
