// The coordinator's consumer groups of the newer protocol, and how a group gets from one to
// the other.
#include <algorithm>

#include "base/event.h"
#include "base/log.h"
#include "broker/consumer_protocol.h"
#include "broker/coordinator.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;
using std::chrono::milliseconds;
using Request = kafka::ConsumerGroupHeartbeatRequest;
using Response = kafka::ConsumerGroupHeartbeatResponse;
using DescribedGroup = kafka::ConsumerGroupDescribeResponse::DescribedGroup;

constexpr int32_t kUnchanged = -1;

bool IsBlank(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0 && c <= ' '; });
}

struct Refusal {
  ErrorCode error = ErrorCode::kNone;
  std::string message = {};
};

Refusal CheckHeartbeat(const Request& request, int16_t version) {
  constexpr int16_t kClientMakesIdSince = 1;
  const auto invalid = [](std::string message) {
    return Refusal{ErrorCode::kInvalidRequest, std::move(message)};
  };
  const int32_t epoch = request.member_epoch;
  const bool id_required =
      version >= kClientMakesIdSince || epoch > kJoinEpoch || epoch == kLeaveEpoch;
  if (id_required && IsBlank(request.member_id)) return invalid("MemberId can't be empty.");
  if (IsBlank(request.group_id)) return invalid("GroupId can't be empty.");
  if (request.instance_id && IsBlank(*request.instance_id)) {
    return invalid("InstanceId can't be empty.");
  }
  if (request.rack_id && IsBlank(*request.rack_id)) return invalid("RackId can't be empty.");
  if (epoch == kJoinEpoch) {
    if (request.rebalance_timeout_ms == kUnchanged) {
      return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if (!request.topic_partitions || !request.topic_partitions->empty()) {
      return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    if (!request.subscribed_topic_names && !request.subscribed_topic_regex) {
      return invalid(
          "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when "
          "(re-)joining.");
    }
  } else if (epoch == kLeaveForAWhileEpoch && !request.instance_id) {
    return invalid("InstanceId can't be null.");
  } else if (epoch < kLeaveForAWhileEpoch) {
    return invalid("MemberEpoch is invalid.");
  }
  if (request.server_assignor && FindAssignor(*request.server_assignor) == nullptr) {
    std::string names;
    for (const Assignor& assignor : Assignors()) {
      if (!names.empty()) names += ", ";
      names += assignor.name;
    }
    return {ErrorCode::kUnsupportedAssignor,
            "ServerAssignor " + std::string(*request.server_assignor) +
                " is not supported. Supported assignors: " + names + "."};
  }
  if (request.subscribed_topic_regex && !request.subscribed_topic_regex->empty()) {
    const std::string pattern(*request.subscribed_topic_regex);
    const auto parsed = NamePattern::Parse(pattern);
    if (!parsed) {
      return {ErrorCode::kInvalidRegularExpression,
              "SubscribedTopicRegex `" + pattern +
                  "` is not a valid regular expression: " + parsed.error().message + "."};
    }
  }
  return {};
}

std::optional<std::string> Copy(const std::optional<std::string_view>& text) {
  return text ? std::optional<std::string>(*text) : std::nullopt;
}

void SortOnce(auto& values) {
  std::ranges::sort(values, std::less<>());
  const auto rest = std::ranges::unique(values);
  values.erase(rest.begin(), rest.end());
}

ConsumerHeartbeat ReadHeartbeat(const Call<Request>& call) {
  const Request& request = call.request;
  ConsumerHeartbeat heartbeat{.member_id = std::string(request.member_id),
                              .epoch = request.member_epoch,
                              .instance_id = Copy(request.instance_id),
                              .rack_id = Copy(request.rack_id),
                              .client_id = std::string(call.caller().client_id),
                              .client_host = "/" + call.caller().peer->address};
  if (request.rebalance_timeout_ms != kUnchanged) {
    heartbeat.rebalance_timeout = milliseconds(std::max(request.rebalance_timeout_ms, 0));
  }
  if (request.subscribed_topic_names) {
    heartbeat.topic_names.emplace(request.subscribed_topic_names->begin(),
                                  request.subscribed_topic_names->end());
    SortOnce(*heartbeat.topic_names);
  }
  heartbeat.topic_pattern = Copy(request.subscribed_topic_regex);
  heartbeat.assignor = Copy(request.server_assignor);
  if (request.topic_partitions) {
    heartbeat.owned.emplace();
    for (const auto& topic : *request.topic_partitions) {
      for (const int32_t partition : topic.partitions) {
        heartbeat.owned->push_back({topic.topic_id, partition});
      }
    }
    SortOnce(*heartbeat.owned);
  }
  return heartbeat;
}

void Answer(Call<Request>& call, const Refusal& refusal) {
  Response response;
  response.error_code = refusal.error;
  if (!refusal.message.empty()) response.error_message = refusal.message;
  call.Respond(response);
}

void Answer(Call<Request>& call, const ConsumerHeartbeatResult& result, base::Duration interval) {
  if (result.error != ErrorCode::kNone) return Answer(call, {result.error, result.message});
  Response response;
  response.member_id = result.member_id;
  response.member_epoch = result.epoch;
  if (result.epoch >= kJoinEpoch) {
    response.heartbeat_interval_ms =
        static_cast<int32_t>(std::chrono::duration_cast<milliseconds>(interval).count());
  }
  if (result.assigned) {
    auto& topics = response.assignment.emplace().topic_partitions;
    for (const TopicPartition& partition : *result.assigned) {
      if (topics.empty() || topics.back().topic_id != partition.topic) {
        topics.push_back({partition.topic, {}, {}});
      }
      topics.back().partitions.push_back(partition.partition);
    }
  }
  call.Respond(response);
}

kafka::ConsumerGroupDescribeResponse::Assignment Describe(const Assignment& assignment,
                                                          const Topics& topics,
                                                          kafka::Strings* strings) {
  kafka::ConsumerGroupDescribeResponse::Assignment out;
  const Topic* last = nullptr;
  for (const TopicPartition& partition : assignment) {  // Those of one topic follow each other.
    const Topic* topic = topics.Find(partition.topic);
    if (topic == nullptr) continue;
    if (topic != last) {
      out.topic_partitions.push_back({topic->id, strings->Keep(topic->name), {}, {}});
    }
    last = topic;
    out.topic_partitions.back().partitions.push_back(partition.partition);
  }
  return out;
}

}  // namespace

void Coordinator::Handle(Call<Request> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  if (Refusal refusal = CheckHeartbeat(call.request, call.version());
      refusal.error != ErrorCode::kNone) {
    return Answer(call, refusal);
  }
  const std::string group_id(call.request.group_id);
  if (!ValidGroupId(group_id)) {
    return Answer(call, {ErrorCode::kInvalidGroupId, "the group's id is too long"});
  }
  ConsumerHeartbeat heartbeat = ReadHeartbeat(call);
  if (authorizer_.enabled()) {
    authorizer_.Refresh();
    heartbeat.may_know = [judge = authorizer_.judge(),
                          peer = call.caller().peer](std::string_view topic) {
      return judge->Allows({peer->principal, peer->address}, AclOperation::kDescribe,
                           ResourceType::kTopic, topic);
    };
  }
  ConsumerGroup* group = nullptr;
  if (heartbeat.epoch == kJoinEpoch) {
    if (heartbeat.member_id.empty()) heartbeat.member_id = MakeUuid().ToString();
    group = MakeConsumerGroup(group_id);
  } else {
    group = FindConsumerGroup(group_id);
  }
  if (group == nullptr) {
    const std::string why =
        groups_.contains(group_id) ? " is not a consumer group." : " not found.";
    return Answer(call, {ErrorCode::kGroupIdNotFound, "Group " + group_id + why});
  }
  const base::Duration interval = consumer_options(group_id).heartbeat_interval;
  group->Heartbeat(std::move(heartbeat), [call = std::move(call),
                                          interval](const ConsumerHeartbeatResult& result) mutable {
    Answer(call, result, interval);
  });
}

ConsumerGroup* Coordinator::MakeConsumerGroup(const std::string& group_id) {
  const auto found = groups_.find(group_id);
  if (found != groups_.end() && found->second.consumer) return found->second.consumer.get();
  if (found == groups_.end()) {
    Entry& entry = groups_[group_id];
    entry.consumer = std::make_unique<ConsumerGroup>(group_id, *this);
    CountGroups();
    return entry.consumer.get();
  }
  Entry& entry = found->second;
  if (entry.group->empty()) {
    entry.group.reset();
    entry.consumer = std::make_unique<ConsumerGroup>(group_id, *this);
    entry.consumer->ReplaceClassic();
    return entry.consumer.get();
  }
  const GroupRecord record = entry.group->Describe();
  const ConsumerGroupOptions options = consumer_options(group_id);
  if (!options.upgrade || record.protocol_type != kConsumerProtocolType ||
      record.members.size() > static_cast<size_t>(options.size_max)) {
    return nullptr;
  }
  auto upgraded = ConsumerGroup::FromClassic(group_id, *this, record);
  if (!upgraded) return nullptr;
  entry.group->Close(ErrorCode::kRebalanceInProgress);
  entry.group.reset();
  entry.consumer = std::move(upgraded);
  return entry.consumer.get();
}

void Coordinator::MakeClassic(const std::string& group_id, Entry& entry) {
  submitter_.Submit(std::make_unique<StateChange>(
      [group_id, gone = entry.consumer->Erasure()](spool::Transaction& transaction) {
        Put(transaction, group_id, gone);
      },
      [](const auto& result) {
        if (result) return;
        base::Log(base::Event::kGroupNotRecorded, "groups",
                  "cannot record that a group has become a classic one: {}",
                  result.error().message);
      }));
  Retire(std::move(entry.consumer));
  entry.group = std::make_unique<Group>(group_id, *this);
}

// It may be what is calling.
void Coordinator::Retire(std::unique_ptr<ConsumerGroup> group) {
  group->Close();
  loop_.Post([group = std::move(group)] {});
}

ConsumerGroupOptions Coordinator::consumer_options(const std::string& group_id) {
  group_configs_.Refresh();
  return OptionsOf(*group_configs_, group_id, context_.options.groups.consumer);
}

void Coordinator::Put(spool::Transaction& transaction, std::string_view group_id,
                      const ConsumerGroupChange& change) {
  if (change.replaces_classic) transaction.Erase(GroupKey(group_id));
  if (change.erases_group) transaction.Erase(ConsumerGroupKey(group_id));
  if (change.group) transaction.Put(ConsumerGroupKey(group_id), Encode(*change.group));
  for (const uint64_t number : change.removed_members) {
    transaction.Erase(ConsumerMemberKey(group_id, number));
  }
  for (const ConsumerMemberRecord& member : change.members) {
    transaction.Put(ConsumerMemberKey(group_id, member.number), Encode(member));
  }
}

void Coordinator::Save(const std::string& group_id, ConsumerGroupChange change, Done done) {
  submitter_.Submit(std::make_unique<StateChange>(
      [group_id, change = std::move(change)](spool::Transaction& transaction) {
        Put(transaction, group_id, change);
      },
      [this, done = std::move(done)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([done = std::move(done), error]() mutable { done(error); });
      }));
}

void Coordinator::Downgrade(const std::string& group_id, ConsumerGroupChange gone,
                            GroupRecord record, bool rebalance, Done done) {
  submitter_.Submit(std::make_unique<StateChange>(
      [group_id, gone = std::move(gone), value = Encode(record)](spool::Transaction& transaction) {
        Put(transaction, group_id, gone);
        transaction.Put(GroupKey(group_id), value);
      },
      [this, done = std::move(done)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([done = std::move(done), error]() mutable { done(error); });
      }));
  Entry& entry = groups_.find(group_id)->second;
  Retire(std::move(entry.consumer));
  entry.group = std::make_unique<Group>(group_id, *this, record);
  if (rebalance) entry.group->Rebalance();
}

void Coordinator::Handle(Call<kafka::ConsumerGroupDescribeRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  kafka::ConsumerGroupDescribeResponse response;
  for (const std::string_view id : call.request.group_ids) {
    response.groups.push_back(DescribeConsumerGroup(id, &response.strings));
  }
  call.Respond(response);
}

DescribedGroup Coordinator::DescribeConsumerGroup(std::string_view group_id,
                                                  kafka::Strings* strings) {
  constexpr int8_t kClassicMember = 0;
  constexpr int8_t kConsumerMember = 1;
  DescribedGroup out;
  out.group_id = group_id;
  const ConsumerGroup* group = FindConsumerGroup(group_id);
  if (group_id.empty()) {
    out.error_code = ErrorCode::kInvalidGroupId;
    return out;
  }
  if (group == nullptr) {
    out.error_code = ErrorCode::kGroupIdNotFound;
    out.error_message =
        strings->Keep("Group " + std::string(group_id) +
                      (groups_.contains(group_id) ? " is not a consumer group." : " not found."));
    return out;
  }
  out.group_state = ConsumerGroupStateName(group->state());
  out.group_epoch = group->record().epoch;
  out.assignment_epoch = group->record().target_epoch;
  out.assignor_name = strings->Keep(std::string(group->assignor()));
  const Topics& topics = catalog_.topics();
  for (const ConsumerMemberRecord* member : group->members()) {
    auto& member_out = out.members.emplace_back();
    member_out.member_id = strings->Keep(member->member_id);
    if (member->instance_id) member_out.instance_id = strings->Keep(*member->instance_id);
    if (member->rack_id) member_out.rack_id = strings->Keep(*member->rack_id);
    member_out.member_epoch = member->current.epoch;
    member_out.client_id = strings->Keep(member->client_id);
    member_out.client_host = strings->Keep(member->client_host);
    for (const std::string& name : member->topic_names) {
      member_out.subscribed_topic_names.push_back(strings->Keep(name));
    }
    member_out.subscribed_topic_regex = strings->Keep(member->topic_pattern);
    member_out.assignment = Describe(member->current.assigned, topics, strings);
    member_out.target_assignment = Describe(member->target, topics, strings);
    member_out.member_type = member->classic ? kClassicMember : kConsumerMember;
  }
  return out;
}

}  // namespace holdfast::broker
