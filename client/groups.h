// What a tier says of its consumer groups, of the classic and of the newer protocol.
//
// Threads: blocks its caller, as the cluster does.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "client/topics.h"
#include "kafka/error_code.h"

namespace holdfast::client {

struct GroupMember {
  std::string id;
  std::string instance;  // Empty: none.
  std::string client;
  std::string host;
  std::vector<PartitionName> partitions;
};

struct Group {
  std::string name;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;  // Then nothing else is known.
  std::string why;                                   // The tier's own words, if it has any.
  int32_t coordinator = 0;
  std::string protocol;  // "classic", "consumer"
  std::string state;     // "Stable", "Empty", ...
  std::string assignor;
  std::vector<GroupMember> members;
};

// `parse_assignment`: what a member of the classic protocol was given; the tier does not know.
base::Result<Group> DescribeGroup(
    Cluster& cluster, const std::string& name,
    const std::function<std::vector<PartitionName>(std::string_view)>& parse_assignment);

// Of all partitions for which the group has an offset. kUnavailable with the tier's reason.
base::Result<std::map<PartitionName, int64_t>> CommittedOffsets(Cluster& cluster,
                                                                int32_t coordinator,
                                                                const std::string& group);

// Sets offsets of a group without members. What became of each.
base::Result<std::map<PartitionName, kafka::ErrorCode>> SetOffsets(
    Cluster& cluster, int32_t coordinator, const std::string& group,
    const std::map<PartitionName, int64_t>& offsets);

}  // namespace holdfast::client
