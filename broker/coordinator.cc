#include "broker/coordinator.h"

#include <algorithm>

#include "broker/consumer_protocol.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;
using std::chrono::milliseconds;

// Client ids are put into member ids; a name of any length would not fit into a message then.
constexpr size_t kMemberPrefixBytesMax = 255;

std::optional<std::string> Copy(const std::optional<std::string_view>& text) {
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

JoinRequest ReadJoin(const Call<kafka::JoinGroupRequest>& call) {
  constexpr int16_t kIdRequiredSince = 4;
  constexpr int16_t kSkipAssignmentSince = 9;
  const kafka::JoinGroupRequest& request = call.request;
  // Version 0 knows one timeout for both.
  const int32_t rebalance_ms =
      call.version() == 0 ? request.session_timeout_ms : request.rebalance_timeout_ms;
  JoinRequest join{.member_id = std::string(request.member_id),
                   .instance_id = Copy(request.group_instance_id),
                   .client_id = std::string(call.caller().client_id),
                   .client_host = "/" + call.caller().peer->address,
                   .protocol_type = std::string(request.protocol_type),
                   .protocols = {},
                   .session_timeout = milliseconds(request.session_timeout_ms),
                   .rebalance_timeout = milliseconds(std::max(rebalance_ms, 0)),
                   .id_required = call.version() >= kIdRequiredSince,
                   .can_skip_assignment = call.version() >= kSkipAssignmentSince};
  for (const auto& protocol : request.protocols) {
    join.protocols.push_back({std::string(protocol.name), std::string(protocol.metadata)});
  }
  return join;
}

void AnswerJoin(Call<kafka::JoinGroupRequest>& call, const JoinResult& result) {
  constexpr int16_t kInstanceIdSince = 5;
  constexpr int16_t kProtocolTypeSince = 7;
  kafka::JoinGroupResponse response;
  response.error_code = result.error;
  response.generation_id = result.generation;
  response.protocol_name = result.protocol_name;
  if (call.version() >= kProtocolTypeSince) {
    response.protocol_type = result.protocol_type;
  } else if (!response.protocol_name) {
    response.protocol_name = "";  // Not null, before.
  }
  response.leader = result.leader;
  response.skip_assignment = result.skip_assignment;
  response.member_id = result.member_id;
  for (const JoinedMember& member : result.members) {
    auto& out = response.members.emplace_back();
    out.member_id = member.member_id;
    if (call.version() >= kInstanceIdSince) out.group_instance_id = member.instance_id;
    out.metadata = member.metadata;
  }
  call.Respond(response);
}

// Offsets are sorted by topic, so that each is looked for once.
int64_t LagOf(const CommittedOffsets& offsets, const Topics& topics) {
  int64_t lag = 0;
  const Topic* topic = nullptr;
  kafka::Uuid looked_for;
  for (const auto& [id, committed] : offsets) {
    if (topic == nullptr || id.topic != looked_for) {
      topic = topics.Find(id.topic);
      looked_for = id.topic;
    }
    const Partition* const partition = topic == nullptr ? nullptr : topic->Find(id.partition);
    if (partition == nullptr) continue;
    const int64_t from = std::max(committed.offset, partition->log_start.load());
    lag += std::max<int64_t>(partition->high_watermark.load() - from, 0);
  }
  return lag;
}

}  // namespace

Coordinator::Coordinator(Context& context, Submitter& submitter, base::Executor& loop)
    : context_(context),
      submitter_(submitter),
      loop_(loop),
      catalog_(context.catalog),
      group_configs_(context.group_configs),
      authorizer_(context.acls, context.options.authorizer) {}

Coordinator::~Coordinator() = default;

void Coordinator::Recover(Log::Recovered recovered) {
  catalog_.Refresh();
  for (const auto& [id, record] : recovered.groups) {
    groups_[id].group = std::make_unique<Group>(id, *this, record);
  }
  for (auto& [id, found] : recovered.consumer_groups) {
    groups_[id].consumer = std::make_unique<ConsumerGroup>(id, *this, std::move(found.record),
                                                           std::move(found.members));
  }
  std::map<std::string, std::vector<TopicPartition>> stale;
  for (Log::Recovered::Offset& found : recovered.offsets) {
    if (catalog_.topics().Find(found.partition.topic) == nullptr) {
      stale[found.group].push_back(found.partition);
      continue;
    }
    FindOrMakeGroup(found.group).offsets[found.partition] = {
        found.offset, found.leader_epoch, std::move(found.metadata), found.commit_ms};
  }
  std::vector<Erasure> erasures;
  for (auto& [group, partitions] : stale) erasures.push_back({group, std::move(partitions), false});
  // If it cannot be written, the next start does it.
  if (!erasures.empty()) Erase(std::move(erasures), [](ErrorCode) {});
  for (const Log::Recovered::PendingOffset& found : recovered.pending_offsets) {
    FindOrMakeGroup(found.group).pending[found.partition].insert(found.producer_id);
  }
  CountGroups();
  ExpireOffsetsLater();
}

Group* Coordinator::FindGroup(std::string_view group_id) {
  const auto found = groups_.find(group_id);
  return found == groups_.end() ? nullptr : found->second.group.get();
}

ConsumerGroup* Coordinator::FindConsumerGroup(std::string_view group_id) {
  const auto found = groups_.find(group_id);
  return found == groups_.end() ? nullptr : found->second.consumer.get();
}

bool Coordinator::IsEmpty(const Entry& entry) {
  return entry.consumer ? entry.consumer->empty() : entry.group->empty();
}

Coordinator::Entry& Coordinator::FindOrMakeGroup(std::string_view group_id) {
  const auto found = groups_.find(group_id);
  if (found != groups_.end()) return found->second;
  Entry& entry = groups_[std::string(group_id)];
  entry.group = std::make_unique<Group>(std::string(group_id), *this);
  CountGroups();
  return entry;
}

void Coordinator::CountGroups() {
  context_.metrics.groups.Set(static_cast<double>(groups_.size()));
}

std::string Coordinator::MakeMemberId(std::string_view prefix) {
  return std::string(prefix.substr(0, kMemberPrefixBytesMax)) + "-" + MakeUuid().ToString();
}

void Coordinator::Save(const std::string& group_id, const GroupRecord& record, Done done) {
  submitter_.Submit(std::make_unique<StateChange>(
      [key = GroupKey(group_id), value = Encode(record)](spool::Transaction& transaction) {
        transaction.Put(key, value);
      },
      [this, group_id, generation = record.generation,
       done = std::move(done)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, group_id, generation, error, done = std::move(done)]() mutable {
          if (Group* group = FindGroup(group_id)) group->Saved(generation, error);
          done(error);
        });
      }));
}

base::Duration Coordinator::initial_rebalance_delay() const {
  return context_.options.groups.initial_rebalance_delay;
}
void Coordinator::CountMembers(int difference) { context_.metrics.members.Add(difference); }
void Coordinator::CountRebalance() { context_.metrics.rebalances.Add(); }

void Coordinator::Handle(Call<kafka::JoinGroupRequest> call) {
  loop_.AssertInLoop();
  const kafka::JoinGroupRequest& request = call.request;
  const GroupOptions& options = context_.options.groups;
  const milliseconds session(request.session_timeout_ms);
  ErrorCode error = ErrorCode::kNone;
  if (!ValidGroupId(request.group_id)) {
    error = ErrorCode::kInvalidGroupId;
  } else if (session < options.session_timeout_min || session > options.session_timeout_max) {
    error = ErrorCode::kInvalidSessionTimeout;
  } else if (const auto found = groups_.find(request.group_id);
             !request.member_id.empty() &&
             (found == groups_.end() ||
              (found->second.consumer && found->second.consumer->empty()))) {
    error = ErrorCode::kUnknownMemberId;
  }
  if (error != ErrorCode::kNone) {
    return AnswerJoin(call, {.error = error, .member_id = std::string(request.member_id)});
  }
  catalog_.Refresh();
  Entry& entry = FindOrMakeGroup(request.group_id);
  if (entry.consumer && entry.consumer->empty()) {
    MakeClassic(std::string(request.group_id), entry);
  }
  JoinRequest join = ReadJoin(call);
  auto answer = [call = std::move(call)](const JoinResult& result) mutable {
    AnswerJoin(call, result);
  };
  if (entry.consumer) return entry.consumer->Join(std::move(join), std::move(answer));
  entry.group->Join(std::move(join), std::move(answer));
}

void Coordinator::Handle(Call<kafka::SyncGroupRequest> call) {
  loop_.AssertInLoop();
  const kafka::SyncGroupRequest& request = call.request;
  const auto found = groups_.find(request.group_id);
  if (found == groups_.end()) {
    kafka::SyncGroupResponse response;
    response.error_code = ErrorCode::kUnknownMemberId;
    return call.Respond(response);
  }
  SyncRequest sync{.member_id = std::string(request.member_id),
                   .instance_id = Copy(request.group_instance_id),
                   .generation = request.generation_id,
                   .protocol_type = Copy(request.protocol_type),
                   .protocol_name = Copy(request.protocol_name),
                   .assignments = {}};
  for (const auto& assignment : request.assignments) {
    sync.assignments.push_back(
        {std::string(assignment.member_id), std::string(assignment.assignment)});
  }
  constexpr int16_t kProtocolSince = 5;
  auto answer = [call = std::move(call)](const SyncResult& result) mutable {
    kafka::SyncGroupResponse response;
    response.error_code = result.error;
    if (call.version() >= kProtocolSince) {
      response.protocol_type = result.protocol_type;
      response.protocol_name = result.protocol_name;
    }
    response.assignment = result.assignment;
    call.Respond(response);
  };
  catalog_.Refresh();
  if (found->second.consumer) return found->second.consumer->Sync(sync, std::move(answer));
  found->second.group->Sync(std::move(sync), std::move(answer));
}

void Coordinator::Handle(Call<kafka::HeartbeatRequest> call) {
  loop_.AssertInLoop();
  const kafka::HeartbeatRequest& request = call.request;
  const MemberRef who{request.member_id, request.group_instance_id};
  const auto found = groups_.find(request.group_id);
  kafka::HeartbeatResponse response;
  if (found == groups_.end()) {
    response.error_code = ErrorCode::kUnknownMemberId;
  } else if (found->second.consumer) {
    response.error_code = found->second.consumer->ClassicHeartbeat(who, request.generation_id);
  } else {
    response.error_code = found->second.group->Heartbeat(who, request.generation_id);
  }
  call.Respond(response);
}

void Coordinator::Handle(Call<kafka::LeaveGroupRequest> call) {
  loop_.AssertInLoop();
  constexpr int16_t kManySince = 3;
  const kafka::LeaveGroupRequest& request = call.request;
  if (ConsumerGroup* group = FindConsumerGroup(request.group_id)) {
    catalog_.Refresh();
    std::vector<MemberRef> members;
    if (call.version() < kManySince) members.push_back({request.member_id, std::nullopt});
    for (const auto& member : request.members) {
      members.push_back({member.member_id, member.group_instance_id});
    }
    return group->Leave(
        members, [call = std::move(call)](const std::vector<ConsumerGroup::Left>& left) mutable {
          kafka::LeaveGroupResponse response;
          if (call.version() < kManySince) response.error_code = left.front().error;
          size_t at = 0;
          for (const auto& member : call.request.members) {
            auto& out = response.members.emplace_back();
            out.member_id = left[at].member_id;
            out.group_instance_id = member.group_instance_id;
            out.error_code = left[at++].error;
          }
          call.Respond(response);
        });
  }
  Group* group = FindGroup(request.group_id);
  const auto leave = [group](const MemberRef& who) {
    return group == nullptr ? ErrorCode::kUnknownMemberId : group->Leave(who);
  };
  kafka::LeaveGroupResponse response;
  if (call.version() < kManySince) {
    response.error_code = leave({request.member_id, std::nullopt});
  }
  for (const auto& member : request.members) {
    auto& out = response.members.emplace_back();
    out.member_id = member.member_id;
    out.group_instance_id = member.group_instance_id;
    out.error_code = leave({member.member_id, member.group_instance_id});
  }
  call.Respond(response);
}

void Coordinator::Handle(Call<kafka::DescribeGroupsRequest> call) {
  loop_.AssertInLoop();
  kafka::DescribeGroupsResponse response;
  for (const std::string_view id : call.request.groups) {
    response.groups.push_back(DescribeOne(id, call.version(), &response.strings));
  }
  call.Respond(response);
}

kafka::DescribeGroupsResponse::DescribedGroup Coordinator::DescribeOne(std::string_view group_id,
                                                                       int16_t version,
                                                                       kafka::Strings* strings) {
  constexpr int16_t kInstanceIdSince = 4;
  constexpr int16_t kNotFoundSince = 6;
  kafka::DescribeGroupsResponse::DescribedGroup out;
  out.group_id = group_id;
  const Group* group = FindGroup(group_id);
  if (group == nullptr) {
    out.group_state = GroupStateName(GroupState::kDead);
    if (version >= kNotFoundSince) {
      out.error_code = ErrorCode::kGroupIdNotFound;
      out.error_message =
          strings->Keep("Group " + std::string(group_id) +
                        (groups_.contains(group_id) ? " is not a classic group." : " not found."));
    }
    return out;
  }
  const GroupRecord record = group->Describe();
  const bool stable = group->state() == GroupState::kStable;
  out.group_state = GroupStateName(group->state());
  out.protocol_type = strings->Keep(record.protocol_type);
  if (stable) out.protocol_data = strings->Keep(record.protocol_name.value_or(""));
  for (const MemberRecord& member : record.members) {
    auto& member_out = out.members.emplace_back();
    member_out.member_id = strings->Keep(member.member_id);
    if (member.instance_id && version >= kInstanceIdSince) {
      member_out.group_instance_id = strings->Keep(*member.instance_id);
    }
    member_out.client_id = strings->Keep(member.client_id);
    member_out.client_host = strings->Keep(member.client_host);
    if (!stable) continue;
    const auto chosen =
        std::ranges::find(member.protocols, record.protocol_name, &GroupProtocol::name);
    if (chosen != member.protocols.end()) {
      member_out.member_metadata = strings->Keep(chosen->metadata);
    }
    member_out.member_assignment = strings->Keep(member.assignment);
  }
  return out;
}

void Coordinator::Handle(Call<kafka::ListGroupsRequest> call) {
  loop_.AssertInLoop();
  constexpr int16_t kStateSince = 4;
  constexpr int16_t kTypeSince = 5;
  // Case does not matter to Kafka here.
  const auto wanted = [](const std::vector<std::string_view>& filter, std::string_view value) {
    const auto same = [value](std::string_view other) {
      return std::ranges::equal(
          value, other, {}, [](char c) { return std::tolower(c); },
          [](char c) { return std::tolower(c); });
    };
    return filter.empty() || std::ranges::any_of(filter, same);
  };
  kafka::ListGroupsResponse response;
  for (const auto& [id, entry] : groups_) {
    const std::string_view state = entry.consumer ? ConsumerGroupStateName(entry.consumer->state())
                                                  : GroupStateName(entry.group->state());
    const std::string_view type = entry.consumer ? "consumer" : "classic";
    if (!wanted(call.request.states_filter, state)) continue;
    if (!wanted(call.request.types_filter, type)) continue;
    auto& out = response.groups.emplace_back();
    out.group_id = id;
    out.protocol_type = entry.consumer
                            ? kConsumerProtocolType
                            : response.strings.Keep(entry.group->Describe().protocol_type);
    if (call.version() >= kStateSince) out.group_state = state;
    if (call.version() >= kTypeSince) out.group_type = type;
  }
  call.Respond(response);
}

void Coordinator::Handle(Call<kafka::DeleteGroupsRequest> call) {
  loop_.AssertInLoop();
  std::vector<Erasure> erasures;
  kafka::DeleteGroupsResponse response;
  for (const std::string_view id : call.request.groups_names) {
    auto& out = response.results.emplace_back();
    out.group_id = id;
    const auto found = groups_.find(id);
    if (found == groups_.end()) {
      out.error_code = ErrorCode::kGroupIdNotFound;
    } else if (!IsEmpty(found->second)) {
      out.error_code = ErrorCode::kNonEmptyGroup;
    } else {
      erasures.push_back(EraseWhole(found->first, found->second));
    }
  }
  Erase(std::move(erasures),
        [response = std::move(response), call = std::move(call)](ErrorCode failed) mutable {
          for (auto& out : response.results) {
            if (out.error_code == ErrorCode::kNone) out.error_code = failed;
          }
          call.Respond(response);
        });
}

std::vector<Coordinator::Summary> Coordinator::Summarize(const Topics& topics) const {
  std::vector<Summary> all;
  for (const auto& [id, entry] : groups_) {
    Summary& summary = all.emplace_back();
    summary.id = id;
    summary.offsets = entry.offsets.size();
    summary.lag = LagOf(entry.offsets, topics);
    if (entry.consumer) {
      summary.state = ConsumerGroupStateName(entry.consumer->state());
      summary.protocol_type = kConsumerProtocolType;
      summary.members = entry.consumer->size();
      continue;
    }
    GroupRecord record = entry.group->Describe();
    summary.state = GroupStateName(entry.group->state());
    summary.protocol_type = std::move(record.protocol_type);
    summary.members = record.members.size();
  }
  return all;
}

void Coordinator::Close() {
  loop_.AssertInLoop();
  expiry_timer_.Cancel();
  for (auto& [id, entry] : groups_) {
    if (entry.consumer) {
      entry.consumer->Close();
    } else {
      entry.group->Close(ErrorCode::kCoordinatorNotAvailable);
    }
  }
}

}  // namespace holdfast::broker
