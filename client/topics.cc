#include "client/topics.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "kafka/api/list_offsets.h"

namespace holdfast::client {

using kafka::ErrorCode;

base::Result<std::vector<Topic>> LookUpTopics(
    Cluster& cluster, const std::optional<std::vector<std::string>>& names) {
  HF_ASSIGN_OR_RETURN(const auto answer, cluster.AskMetadata(names));
  std::vector<Topic> topics;
  for (const auto& told : answer->topics) {
    Topic& topic = topics.emplace_back(Topic{.name = std::string(told.name.value_or("")),
                                             .internal = told.is_internal,
                                             .error = told.error_code});
    if (!told.topic_id.IsZero()) topic.id = told.topic_id.ToString();
    for (const auto& partition : told.partitions) {
      topic.partitions.push_back({.index = partition.partition_index,
                                  .leader = partition.leader_id,
                                  .replicas = partition.replica_nodes,
                                  .in_sync = partition.isr_nodes});
    }
    std::ranges::sort(topic.partitions, {}, &Partition::index);
  }
  std::ranges::sort(topics, {}, &Topic::name);
  return topics;
}

base::Result<> KeepPartitions(std::span<Topic> topics, std::span<const int32_t> wanted) {
  if (wanted.empty()) return {};
  for (Topic& topic : topics) {
    if (topic.error != ErrorCode::kNone) continue;
    const size_t had = topic.partitions.size();
    std::erase_if(topic.partitions, [wanted](const Partition& partition) {
      return std::ranges::find(wanted, partition.index) == wanted.end();
    });
    for (const int32_t one : wanted) {
      if (std::ranges::find(topic.partitions, one, &Partition::index) == topic.partitions.end())
        return base::Unexpected(base::Code::kNotFound, fmt::format("{} has no partition {}, but {}",
                                                                   topic.name, one, had));
    }
  }
  return {};
}

base::Result<Offsets> FindOffsets(Cluster& cluster, std::span<const Topic> topics, int64_t time_ms,
                                  bool committed) {
  Offsets found;
  std::map<int32_t, kafka::ListOffsetsRequest> requests;  // By leader.
  for (const Topic& topic : topics) {
    for (const Partition& partition : topic.partitions) {
      found[{topic.name, partition.index}] = {.error = ErrorCode::kLeaderNotAvailable,
                                              .offset = -1};
      if (partition.leader < 0) continue;
      kafka::ListOffsetsRequest& request = requests[partition.leader];
      request.isolation_level = committed ? 1 : 0;
      if (request.topics.empty() || request.topics.back().name != topic.name)
        request.topics.emplace_back().name = topic.name;
      request.topics.back().partitions.push_back(
          {.partition_index = partition.index, .timestamp = time_ms});
    }
  }
  for (const auto& [leader, request] : requests) {
    HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(leader, request));
    for (const auto& topic : answer->topics) {
      for (const auto& partition : topic.partitions)
        found[{std::string(topic.name), partition.partition_index}] = {
            .error = partition.error_code, .offset = partition.offset};
    }
  }
  return found;
}

base::Result<Offsets> Locate(Cluster& cluster, std::span<const Topic> topics, Position position,
                             const std::map<PartitionName, int64_t>& from, bool committed) {
  HF_ASSIGN_OR_RETURN(Offsets starts, FindOffsets(cluster, topics, kStartTime, committed));
  for (auto& [name, start] : starts) start.start = start.offset;
  if (position.kind == Position::Kind::kStart) return starts;
  HF_ASSIGN_OR_RETURN(const Offsets ends, FindOffsets(cluster, topics, kEndTime, committed));
  Offsets located;
  if (position.kind == Position::Kind::kTime) {
    HF_ASSIGN_OR_RETURN(located, FindOffsets(cluster, topics, position.value, committed));
  }
  for (const auto& [name, end] : ends) {
    const FoundOffset& start = starts[name];
    FoundOffset& at = located[name];
    at.start = start.offset;
    for (const FoundOffset& bound : {start, end}) {
      if (bound.error != ErrorCode::kNone) at.error = bound.error;
    }
    if (at.error != ErrorCode::kNone) continue;
    if (position.kind == Position::Kind::kOffset) {
      at.offset = position.value;
    } else if (position.kind == Position::Kind::kShift) {
      const auto base = from.find(name);
      const int64_t otherwise = position.value < 0 ? end.offset : start.offset;
      at.offset = Shifted(base == from.end() ? otherwise : base->second, position.value,
                          start.offset, end.offset);
    } else if (position.kind == Position::Kind::kEnd || at.offset < 0) {
      at.offset = end.offset;  // Nothing is so young.
    }
    at.offset = std::clamp(at.offset, start.offset, std::max(start.offset, end.offset));
  }
  return located;
}

}  // namespace holdfast::client
