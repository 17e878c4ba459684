#include "client/groups.h"

#include <fmt/format.h>

#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"

namespace holdfast::client {
namespace {

using kafka::ErrorCode;

// Above these topics are named by ids, or groups come in lists.
constexpr int16_t kOffsetFetchCap = 7;
constexpr int16_t kOffsetCommitCap = 9;

bool IsUnknown(const kafka::DescribeGroupsResponse::DescribedGroup& group) {
  return group.error_code == ErrorCode::kGroupIdNotFound ||
         (group.error_code == ErrorCode::kNone && group.group_state == "Dead");
}

}  // namespace

base::Result<Group> DescribeGroup(
    Cluster& cluster, const std::string& name,
    const std::function<std::vector<PartitionName>(std::string_view)>& parse_assignment) {
  Group group{.name = name};
  HF_ASSIGN_OR_RETURN(group.coordinator, cluster.FindCoordinator(name));
  kafka::DescribeGroupsRequest request;
  request.groups.emplace_back(name);
  HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(group.coordinator, request));
  for (const auto& told : answer->groups) {
    if (IsUnknown(told)) {
      group.error = ErrorCode::kGroupIdNotFound;
      continue;
    }
    group.error = told.error_code;
    group.why = told.error_message.value_or("");
    group.protocol = "classic";
    group.state = told.group_state;
    group.assignor = told.protocol_data;
    for (const auto& member : told.members) {
      group.members.push_back({.id = std::string(member.member_id),
                               .instance = std::string(member.group_instance_id.value_or("")),
                               .client = std::string(member.client_id),
                               .host = std::string(member.client_host),
                               .partitions = parse_assignment(member.member_assignment)});
    }
  }
  if (group.error != ErrorCode::kGroupIdNotFound) return group;

  kafka::ConsumerGroupDescribeRequest newer;
  newer.group_ids.emplace_back(name);
  const auto described = cluster.Ask(group.coordinator, newer);
  if (!described) return group;  // The tier knows of no such groups.
  for (const auto& told : (*described)->groups) {
    group.error = told.error_code;
    group.protocol = "consumer";
    group.state = told.group_state;
    group.assignor = told.assignor_name;
    for (const auto& member : told.members) {
      GroupMember& made = group.members.emplace_back(
          GroupMember{.id = std::string(member.member_id),
                      .instance = std::string(member.instance_id.value_or("")),
                      .client = std::string(member.client_id),
                      .host = std::string(member.client_host)});
      for (const auto& topic : member.assignment.topic_partitions) {
        for (const int32_t partition : topic.partitions)
          made.partitions.emplace_back(topic.topic_name, partition);
      }
    }
  }
  return group;
}

base::Result<std::map<PartitionName, int64_t>> CommittedOffsets(Cluster& cluster,
                                                                int32_t coordinator,
                                                                const std::string& group) {
  kafka::OffsetFetchRequest request;
  request.group_id = group;
  HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(coordinator, request, kOffsetFetchCap));
  if (answer->error_code != ErrorCode::kNone)
    return base::Unexpected(
        base::Code::kUnavailable,
        fmt::format("offsets of group {}: {}", group, kafka::ErrorName(answer->error_code)));
  std::map<PartitionName, int64_t> offsets;
  for (const auto& topic : answer->topics) {
    for (const auto& partition : topic.partitions) {
      if (partition.error_code == ErrorCode::kNone && partition.committed_offset >= 0)
        offsets[{std::string(topic.name), partition.partition_index}] = partition.committed_offset;
    }
  }
  return offsets;
}

base::Result<std::map<PartitionName, ErrorCode>> SetOffsets(
    Cluster& cluster, int32_t coordinator, const std::string& group,
    const std::map<PartitionName, int64_t>& offsets) {
  kafka::OffsetCommitRequest request;
  request.group_id = group;
  for (const auto& [name, offset] : offsets) {
    if (request.topics.empty() || request.topics.back().name != name.first)
      request.topics.emplace_back().name = name.first;
    request.topics.back().partitions.push_back(
        {.partition_index = name.second, .committed_offset = offset, .committed_metadata = ""});
  }
  HF_ASSIGN_OR_RETURN(const auto answer, cluster.Ask(coordinator, request, kOffsetCommitCap));
  std::map<PartitionName, ErrorCode> done;
  for (const auto& topic : answer->topics) {
    for (const auto& partition : topic.partitions)
      done[{std::string(topic.name), partition.partition_index}] = partition.error_code;
  }
  return done;
}

}  // namespace holdfast::client
