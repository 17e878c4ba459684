// The coordinator's committed offsets.
#include <algorithm>

#include "broker/consumer_protocol.h"
#include "broker/coordinator.h"
#include "broker/offset_check.h"
#include "broker/topic_changes.h"
#include "kafka/error_map.h"

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
    const auto subscription = ParseSubscription(chosen->metadata);
    if (!subscription ||
        std::ranges::find(subscription->topics, topic) != subscription->topics.end()) {
      return true;
    }
  }
  return false;
}

}  // namespace

// One OffsetCommit on its way to the disk.
struct Coordinator::Commit {
  explicit Commit(Call<OffsetCommitRequest> commit_call) : call(std::move(commit_call)) {}

  Call<OffsetCommitRequest> call;
  OffsetCommitResponse response;
  std::vector<AcceptedOffset> accepted;
};

void Coordinator::Handle(Call<OffsetCommitRequest> call) {
  loop_.AssertInLoop();
  catalog_.Refresh();
  auto commit = std::make_unique<Commit>(std::move(call));
  const OffsetCommitRequest& request = commit->call.request;
  const int16_t version = commit->call.version();
  const ErrorCode error =
      ValidGroupId(request.group_id)
          ? MayCommit(request.group_id, {request.member_id, request.group_instance_id},
                      request.generation_id_or_member_epoch, version)
          : ErrorCode::kInvalidGroupId;
  commit->accepted = CheckOffsets(catalog_.topics(), request, version >= kTopicIdsSince,
                                  loop_.WallClockMs(), &commit->response);
  if (error != ErrorCode::kNone || commit->accepted.empty()) return FinishCommit(*commit, error);
  SubmitCommit(std::move(commit));
}

ErrorCode Coordinator::MayCommit(std::string_view group_id, const MemberRef& who, int32_t epoch,
                                 int16_t version) {
  constexpr int16_t kMemberEpochSince = 9;
  if (epoch >= 0 && !groups_.contains(group_id)) {
    return version >= kMemberEpochSince ? ErrorCode::kGroupIdNotFound
                                        : ErrorCode::kIllegalGeneration;
  }
  Entry& entry = FindOrMakeGroup(group_id);
  return entry.consumer
             ? entry.consumer->MayCommit(who.member_id, epoch, version >= kMemberEpochSince)
             : entry.group->MayCommit(who, epoch);
}

void Coordinator::SubmitCommit(std::unique_ptr<Commit> commit) {
  Commit* const borrowed = commit.get();
  const auto arriving = arriving_.emplace(commit->call.request.group_id, Arriving::mapped_type());
  for (const AcceptedOffset& accepted : commit->accepted) {
    arriving->second.push_back(accepted.partition);
  }
  submitter_.Submit(std::make_unique<StateChange>(
      [this, borrowed](spool::Transaction& transaction) {
        const std::string_view group = borrowed->call.request.group_id;
        for (const auto& [partition, committed, error] : borrowed->accepted) {
          // The newest counts: what a transaction holds for the partition by now does not any more.
          context_.log->transactions().ForgetOffset(transaction, group, partition);
          transaction.Put(CommittedOffsetKey({group, partition}),
                          Encode(OffsetRecord{committed.offset,
                                              committed.leader_epoch,
                                              committed.metadata,
                                              committed.commit_ms,
                                              {}}));
        }
      },
      [this, arriving, commit = std::move(commit)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, error, arriving, commit = std::move(commit)] {
          arriving_.erase(arriving);
          FinishCommit(*commit, error);
        });
      }));
}

void Coordinator::FinishCommit(Commit& commit, ErrorCode error) {
  for (auto& [partition, committed, partition_error] : commit.accepted) {
    *partition_error = error;
    if (error != ErrorCode::kNone) continue;
    context_.metrics.committed_offsets.Add();
    // The group may have been deleted meanwhile.
    FindOrMakeGroup(commit.call.request.group_id).offsets[partition] = std::move(committed);
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
  if (entry.consumer) {
    out.error_code = entry.consumer->MayFetch(request.member_id, request.member_epoch);
    if (out.error_code != ErrorCode::kNone) return out;
  }

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
  kafka::OffsetDeleteResponse response;
  const auto found = groups_.find(request.group_id);
  GroupRecord classic;
  if (!ValidGroupId(request.group_id)) {
    response.error_code = ErrorCode::kInvalidGroupId;
  } else if (found == groups_.end()) {
    response.error_code = ErrorCode::kGroupIdNotFound;
  } else if (found->second.group) {
    classic = found->second.group->Describe();
    // Of other groups nobody knows what their members use.
    if (!found->second.group->empty() && classic.protocol_type != kConsumerProtocolType) {
      response.error_code = ErrorCode::kNonEmptyGroup;
    }
  }
  if (response.error_code != ErrorCode::kNone) return call.Respond(response);

  Erasure erasure{found->first, {}, /*whole=*/false};
  for (const auto& topic_request : request.topics) {
    auto& topic_out = response.topics.emplace_back();
    topic_out.name = topic_request.name;
    const Topic* topic = catalog_.topics().Find(topic_request.name);
    const bool subscribed = found->second.consumer
                                ? topic != nullptr && found->second.consumer->SubscribesTo(*topic)
                                : IsSubscribed(classic, topic_request.name);
    for (const auto& asked : topic_request.partitions) {
      auto& out = topic_out.partitions.emplace_back();
      out.partition_index = asked.partition_index;
      const Partition* partition = topic == nullptr ? nullptr : topic->Find(asked.partition_index);
      if (partition == nullptr) {
        out.error_code = ErrorCode::kUnknownTopicOrPartition;
      } else if (subscribed) {
        out.error_code = ErrorCode::kGroupSubscribedToTopic;
      } else if (found->second.offsets.contains(partition->id)) {
        erasure.offsets.push_back(partition->id);
      }
    }
  }
  std::vector<Erasure> erasures;
  erasures.push_back(std::move(erasure));
  Erase(std::move(erasures),
        [response = std::move(response), call = std::move(call)](ErrorCode error) mutable {
          response.error_code = error;
          if (error != ErrorCode::kNone) response.topics.clear();
          call.Respond(response);
        });
}

Coordinator::Erasure Coordinator::EraseWhole(const std::string& group_id,
                                             const Entry& entry) const {
  Erasure erasure{group_id, {}, /*whole=*/true};
  for (const auto& [partition, committed] : entry.offsets) erasure.offsets.push_back(partition);
  // Transactions whose end is on its way are among those that are open.
  for (const auto& [partition, producers] : entry.pending) erasure.offsets.push_back(partition);
  for (auto [at, end] = arriving_.equal_range(group_id); at != end; ++at) {
    erasure.offsets.insert(erasure.offsets.end(), at->second.begin(), at->second.end());
  }
  return erasure;
}

void Coordinator::Erase(std::vector<Erasure> erasures, Done done) {
  std::vector<std::pair<std::string, ConsumerGroupChange>> consumers;
  for (const Erasure& erasure : erasures) {
    const ConsumerGroup* consumer = FindConsumerGroup(erasure.group);
    if (erasure.whole && consumer != nullptr) {
      consumers.emplace_back(erasure.group, consumer->Erasure());
    }
  }
  const auto shared = std::make_shared<const std::vector<Erasure>>(std::move(erasures));
  submitter_.Submit(std::make_unique<StateChange>(
      [this, shared, consumers = std::move(consumers)](spool::Transaction& transaction) {
        for (const Erasure& erasure : *shared) {
          for (const TopicPartition& partition : erasure.offsets) {
            transaction.Erase(CommittedOffsetKey({erasure.group, partition}));
          }
          if (!erasure.whole) continue;
          transaction.Erase(GroupKey(erasure.group));
          context_.log->transactions().ForgetGroup(transaction, erasure.group);
        }
        for (const auto& [id, change] : consumers) Put(transaction, id, change);
      },
      [this, shared, done = std::move(done)](const auto& result) mutable {
        const ErrorCode error =
            result ? ErrorCode::kNone : kafka::ToCoordinatorError(result.error().code);
        loop_.Post([this, shared, error, done = std::move(done)]() mutable {
          if (error == ErrorCode::kNone) {
            for (const Erasure& erasure : *shared) Forget(erasure);
            CountGroups();
          }
          done(error);
        });
      }));
}

void Coordinator::Forget(const Erasure& erasure) {
  const auto found = groups_.find(erasure.group);
  if (found == groups_.end()) return;
  for (const TopicPartition& partition : erasure.offsets) found->second.offsets.erase(partition);
  // Somebody may have joined meanwhile.
  if (erasure.whole && IsEmpty(found->second)) groups_.erase(found);
}

void Coordinator::OnTopicDeleted(const kafka::Uuid& topic) {
  loop_.AssertInLoop();
  std::vector<Erasure> erasures;
  for (auto& [id, entry] : groups_) {
    Erasure erasure{id, {}, /*whole=*/false};
    for (auto at = entry.offsets.lower_bound({topic, 0});
         at != entry.offsets.end() && at->first.topic == topic; ++at) {
      erasure.offsets.push_back(at->first);
    }
    if (!erasure.offsets.empty()) erasures.push_back(std::move(erasure));
  }
  // If it cannot be written, the next start does it.
  if (!erasures.empty()) Erase(std::move(erasures), [](ErrorCode) {});
}

void Coordinator::ExpireOffsetsLater() {
  expiry_timer_ = loop_.After(kExpiryInterval, [this] {
    ExpireOffsets();
    ExpireOffsetsLater();
  });
}

void Coordinator::ExpireOffsets() {
  catalog_.Refresh();
  const int64_t before_ms =
      loop_.WallClockMs() - std::chrono::duration_cast<std::chrono::milliseconds>(
                                context_.options.groups.offsets_retention)
                                .count();
  std::vector<Erasure> erasures;
  for (auto& [id, entry] : groups_) {
    if (entry.group && !entry.group->unused()) continue;
    // Offsets that had members stay for that long after the last one left. Those of a consumer that
    // only keeps them here go by their own age, and a group without any is of no use to anybody.
    if (entry.group && !entry.offsets.empty() && entry.group->empty_since_ms() >= before_ms) {
      continue;
    }
    // What arrives may be newer than an offset that is old as yet.
    if (!entry.pending.empty() || arriving_.contains(id)) continue;
    Erasure erasure{id, {}, /*whole=*/false};
    for (const auto& [partition, committed] : entry.offsets) {
      if (committed.commit_ms >= before_ms) continue;
      const Topic* topic = catalog_.topics().Find(partition.topic);
      if (entry.consumer && topic != nullptr && entry.consumer->SubscribesTo(*topic)) continue;
      erasure.offsets.push_back(partition);
    }
    erasure.whole = erasure.offsets.size() == entry.offsets.size() && IsEmpty(entry);
    if (erasure.whole || !erasure.offsets.empty()) erasures.push_back(std::move(erasure));
  }
  // If it cannot be written, the next round does it.
  if (!erasures.empty()) Erase(std::move(erasures), [](ErrorCode) {});
}

}  // namespace holdfast::broker
