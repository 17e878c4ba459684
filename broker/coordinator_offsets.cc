// The coordinator's committed offsets.
#include <algorithm>

#include "broker/coordinator.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"
#include "kafka/wire.h"

namespace holdfast::broker {
namespace {

using kafka::Call;
using kafka::ErrorCode;
using kafka::OffsetCommitRequest;
using kafka::OffsetCommitResponse;
using kafka::OffsetFetchRequest;
using kafka::OffsetFetchResponse;

constexpr int16_t kLeaderEpochSince = 5;
constexpr int16_t kTopicIdsSince = 10;
constexpr int16_t kManyGroupsSince = 8;
constexpr base::Duration kExpiryInterval = std::chrono::minutes(10);

// Whether a member of the group says that it consumes the topic. True also when that cannot be
// known: while the group has chosen no protocol yet, and if a subscription cannot be read.
bool IsSubscribed(const GroupRecord& group, std::string_view topic) {
  for (const MemberRecord& member : group.members) {
    const auto chosen =
        std::ranges::find(member.protocols, group.protocol_name, &GroupProtocol::name);
    if (chosen == member.protocols.end()) return true;
    kafka::Reader reader(chosen->metadata);
    int16_t version = 0;
    std::vector<std::string_view> topics;
    reader(version);
    reader(topics);
    if (!reader.ok() || std::ranges::find(topics, topic) != topics.end()) return true;
  }
  return false;
}

}  // namespace

// One OffsetCommit on its way to the disk.
struct Coordinator::Commit {
  explicit Commit(Call<OffsetCommitRequest> commit_call) : call(std::move(commit_call)) {}

  Call<OffsetCommitRequest> call;
  OffsetCommitResponse response;
  struct Accepted {
    TopicPartition partition;
    CommittedOffset committed;
    ErrorCode* error;  // In the response.
  };
  std::vector<Accepted> accepted;
};

void Coordinator::Handle(Call<OffsetCommitRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  auto commit = std::make_unique<Commit>(std::move(call));
  const OffsetCommitRequest& request = commit->call.request;
  ErrorCode error = ErrorCode::kNone;
  if (!ValidGroupId(request.group_id)) {
    error = ErrorCode::kInvalidGroupId;
  } else if (request.generation_id_or_member_epoch >= 0 && FindGroup(request.group_id) == nullptr) {
    error = ErrorCode::kIllegalGeneration;
  } else {
    error = FindOrMakeGroup(request.group_id)
                .group->MayCommit({request.member_id, request.group_instance_id},
                                  request.generation_id_or_member_epoch);
  }
  CheckCommit(*commit);
  if (error != ErrorCode::kNone || commit->accepted.empty()) return FinishCommit(*commit, error);
  SubmitCommit(std::move(commit));
}

void Coordinator::CheckCommit(Commit& commit) {
  const OffsetCommitRequest& request = commit.call.request;
  const bool by_id = commit.call.version() >= kTopicIdsSince;
  const int64_t now_ms = loop_.WallClockMs();
  commit.response.topics.reserve(request.topics.size());
  for (const auto& topic_request : request.topics) {
    auto& topic_out = commit.response.topics.emplace_back();
    topic_out.name = topic_request.name;
    topic_out.topic_id = topic_request.topic_id;
    topic_out.partitions.reserve(topic_request.partitions.size());
    const Topic* topic = by_id ? catalog_.topics().Find(topic_request.topic_id)
                               : catalog_.topics().Find(topic_request.name);
    for (const auto& partition : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = partition.partition_index;
      const std::string_view metadata = partition.committed_metadata.value_or("");
      if (topic == nullptr && by_id) {
        out.error_code = ErrorCode::kUnknownTopicId;
      } else if (topic == nullptr || topic->Find(partition.partition_index) == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
      } else if (metadata.size() > kMetadataBytesMax) {
        out.error_code = ErrorCode::kOffsetMetadataTooLarge;
      } else {
        commit.accepted.push_back({{topic->id, partition.partition_index},
                                   {partition.committed_offset, partition.committed_leader_epoch,
                                    std::string(metadata), now_ms},
                                   &out.error_code});
      }
    }
  }
}

void Coordinator::SubmitCommit(std::unique_ptr<Commit> commit) {
  Commit* const borrowed = commit.get();
  submitter_.Submit(std::make_unique<StateChange>(
      [borrowed](spool::Transaction& transaction) {
        for (const auto& [partition, committed, error] : borrowed->accepted) {
          transaction.Put(CommittedOffsetKey({borrowed->call.request.group_id, partition}),
                          Encode(OffsetRecord{committed.offset,
                                              committed.leader_epoch,
                                              committed.metadata,
                                              committed.commit_ms,
                                              {}}));
        }
      },
      [this, commit = std::move(commit)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, error, commit = std::move(commit)] { FinishCommit(*commit, error); });
      }));
}

void Coordinator::FinishCommit(Commit& commit, ErrorCode error) {
  const auto group = groups_.find(commit.call.request.group_id);
  for (auto& [partition, committed, partition_error] : commit.accepted) {
    *partition_error = error;
    if (error != ErrorCode::kNone) continue;
    context_.metrics.committed_offsets.Add();
    if (group != groups_.end()) group->second.offsets[partition] = std::move(committed);
  }
  if (error != ErrorCode::kNone) {
    for (auto& topic : commit.response.topics) {
      for (auto& partition : topic.partitions) partition.error_code = error;
    }
    context_.metrics.errors.With(kafka::ErrorName(error)).Add();
  }
  commit.call.Respond(commit.response);
}

void Coordinator::Handle(Call<OffsetFetchRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  const OffsetFetchRequest& request = call.request;
  OffsetFetchResponse response;
  if (call.version() >= kManyGroupsSince) {
    for (const auto& group : request.groups) {
      response.groups.push_back(
          FetchGroup(group, request.require_stable, call.version(), &response.strings));
    }
    return call.Respond(response);
  }
  // The older form is one group, with the same fields on the top level.
  OffsetFetchRequest::OffsetFetchRequestGroup one;
  one.group_id = request.group_id;
  if (request.topics) {
    one.topics.emplace();
    for (const auto& topic : *request.topics) {
      auto& copy = one.topics->emplace_back();
      copy.name = topic.name;
      copy.partition_indexes = topic.partition_indexes;
    }
  }
  const auto group = FetchGroup(one, request.require_stable, call.version(), &response.strings);
  response.error_code = group.error_code;
  for (const auto& topic : group.topics) {
    auto& out = response.topics.emplace_back();
    out.name = topic.name;
    for (const auto& partition : topic.partitions) {
      out.partitions.push_back({partition.partition_index,
                                partition.committed_offset,
                                partition.committed_leader_epoch,
                                partition.metadata,
                                partition.error_code,
                                {}});
    }
  }
  call.Respond(response);
}

OffsetFetchResponse::OffsetFetchResponseGroup Coordinator::FetchGroup(
    const OffsetFetchRequest::OffsetFetchRequestGroup& request, bool require_stable,
    int16_t version, kafka::Strings* strings) {
  OffsetFetchResponse::OffsetFetchResponseGroup out;
  out.group_id = request.group_id;
  static const Entry kNothing;
  const auto found = groups_.find(request.group_id);
  const Entry& entry = found == groups_.end() ? kNothing : found->second;
  const CommittedOffsets& offsets = entry.offsets;

  const auto put = [&](const TopicPartition& partition, auto& topic_out) {
    auto& partition_out = topic_out.partitions.emplace_back();
    partition_out.partition_index = partition.partition;
    partition_out.committed_offset = -1;
    partition_out.metadata = "";
    if (require_stable && entry.pending.contains(partition)) {
      partition_out.error_code = ErrorCode::kUnstableOffsetCommit;
      return;
    }
    const auto committed = offsets.find(partition);
    if (committed == offsets.end()) return;
    partition_out.committed_offset = committed->second.offset;
    if (version >= kLeaderEpochSince) {
      partition_out.committed_leader_epoch = committed->second.leader_epoch;
    }
    partition_out.metadata = committed->second.metadata;
  };

  const bool by_id = version >= kTopicIdsSince;
  if (!request.topics) {
    const Topic* last = nullptr;
    for (const auto& [partition, committed] : offsets) {  // Those of one topic follow each other.
      const Topic* topic = catalog_.topics().Find(partition.topic);
      if (topic == nullptr) continue;
      if (topic != last) {
        auto& topic_out = out.topics.emplace_back();
        if (by_id) {
          topic_out.topic_id = topic->id;
        } else {
          topic_out.name = strings->Keep(topic->name);
        }
        last = topic;
      }
      put(partition, out.topics.back());
    }
    return out;
  }
  for (const auto& topic_request : *request.topics) {
    auto& topic_out = out.topics.emplace_back();
    topic_out.name = topic_request.name;
    topic_out.topic_id = topic_request.topic_id;
    const Topic* topic = by_id ? catalog_.topics().Find(topic_request.topic_id)
                               : catalog_.topics().Find(topic_request.name);
    for (const int32_t index : topic_request.partition_indexes) {
      put({topic == nullptr ? kafka::Uuid() : topic->id, index}, topic_out);
      if (topic == nullptr && by_id) {
        topic_out.partitions.back().error_code = ErrorCode::kUnknownTopicId;
      }
    }
  }
  return out;
}

void Coordinator::Handle(Call<kafka::OffsetDeleteRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  const kafka::OffsetDeleteRequest& request = call.request;
  auto response = std::make_shared<kafka::OffsetDeleteResponse>();
  const auto found = groups_.find(request.group_id);
  GroupRecord group;
  if (!ValidGroupId(request.group_id)) {
    response->error_code = ErrorCode::kInvalidGroupId;
  } else if (found == groups_.end()) {
    response->error_code = ErrorCode::kGroupIdNotFound;
  } else {
    group = found->second.group->Describe();
    // Of other groups nobody knows what their members use.
    if (!found->second.group->unused() && group.protocol_type != "consumer") {
      response->error_code = ErrorCode::kNonEmptyGroup;
    }
  }
  if (response->error_code != ErrorCode::kNone) return call.Respond(*response);

  std::vector<std::string> keys;
  for (const auto& topic_request : request.topics) {
    auto& topic_out = response->topics.emplace_back();
    topic_out.name = topic_request.name;
    const Topic* topic = catalog_.topics().Find(topic_request.name);
    const bool subscribed = IsSubscribed(group, topic_request.name);
    for (const auto& asked : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = asked.partition_index;
      const Partition* partition = topic == nullptr ? nullptr : topic->Find(asked.partition_index);
      if (partition == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
      } else if (subscribed) {
        out.error_code = ErrorCode::kGroupSubscribedToTopic;
      } else if (found->second.offsets.erase(partition->id) != 0) {
        keys.push_back(CommittedOffsetKey({request.group_id, partition->id}));
      }
    }
  }
  submitter_.Submit(std::make_unique<StateChange>(
      [keys = std::move(keys)](spool::Transaction& transaction) {
        for (const std::string& key : keys) transaction.Erase(key);
      },
      [this, response, call = std::move(call)](const auto& result) mutable {
        if (!result) response->error_code = kafka::ToCoordinatorError(result.error().code);
        loop_.Post([response, call = std::move(call)]() mutable { call.Respond(*response); });
      }));
}

void Coordinator::EraseOffsets(const std::string& group_id,
                               std::vector<TopicPartition> partitions) {
  const auto group = groups_.find(group_id);
  if (group != groups_.end()) {
    for (const TopicPartition& partition : partitions) group->second.offsets.erase(partition);
  }
  submitter_.Submit(std::make_unique<StateChange>(
      [group_id, partitions = std::move(partitions)](spool::Transaction& transaction) {
        for (const TopicPartition& partition : partitions) {
          transaction.Erase(CommittedOffsetKey({group_id, partition}));
        }
      },
      // If it could not be written, the next start or expiry does it.
      [](const auto&) {}));
}

void Coordinator::OnTopicDeleted(const kafka::Uuid& topic) {
  loop_.AssertInLoop();
  for (auto& [id, entry] : groups_) {
    std::vector<TopicPartition> gone;
    for (auto at = entry.offsets.lower_bound({topic, 0});
         at != entry.offsets.end() && at->first.topic == topic; ++at) {
      gone.push_back(at->first);
    }
    if (!gone.empty()) EraseOffsets(id, std::move(gone));
  }
}

void Coordinator::ExpireOffsetsLater() {
  expiry_timer_ = loop_.After(kExpiryInterval, [this] {
    ExpireOffsets();
    ExpireOffsetsLater();
  });
}

void Coordinator::ExpireOffsets() {
  const int64_t before_ms =
      loop_.WallClockMs() - std::chrono::duration_cast<std::chrono::milliseconds>(
                                context_.options.groups.offsets_retention)
                                .count();
  for (auto at = groups_.begin(); at != groups_.end();) {
    auto& [id, entry] = *at++;
    if (!entry.group->unused() || entry.group->empty_since_ms() >= before_ms) continue;
    if (!entry.pending.empty()) continue;
    std::vector<TopicPartition> old;
    for (const auto& [partition, committed] : entry.offsets) {
      if (committed.commit_ms < before_ms) old.push_back(partition);
    }
    if (!old.empty()) EraseOffsets(id, std::move(old));
    if (entry.offsets.empty()) ForgetGroup(id);
  }
}

void Coordinator::ForgetGroup(const std::string& group_id) {
  submitter_.Submit(std::make_unique<StateChange>(
      [key = GroupKey(group_id)](spool::Transaction& transaction) { transaction.Erase(key); },
      [](const auto&) {}));
  groups_.erase(groups_.find(group_id));
  CountGroups();
}

}  // namespace holdfast::broker
