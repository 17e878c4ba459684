// What a tier says of its topics, and the offsets in them.
//
// Threads: blocks its caller, as the cluster does.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "client/position.h"
#include "kafka/error_code.h"

namespace holdfast::client {

struct Partition {
  int32_t index = 0;
  int32_t leader = 0;  // -1: none.
  std::vector<int32_t> replicas;
  std::vector<int32_t> in_sync;
};

struct Topic {
  std::string name;
  std::string id;  // Empty: the tier gives topics none.
  bool internal = false;
  kafka::ErrorCode error = kafka::ErrorCode::kNone;  // Then nothing else is known.
  std::vector<Partition> partitions;                 // In order.
};

// By name, those that are named or all.
base::Result<std::vector<Topic>> LookUpTopics(Cluster& cluster,
                                              const std::optional<std::vector<std::string>>& names);

// Leaves these partitions of each topic; all if none is named. kNotFound: one that is there has not
// all of them.
base::Result<> KeepPartitions(std::span<Topic> topics, std::span<const int32_t> wanted);

using PartitionName = std::pair<std::string, int32_t>;  // Topic and index.

struct FoundOffset {
  kafka::ErrorCode error = kafka::ErrorCode::kNone;
  int64_t offset = 0;
  int64_t start = 0;  // Of Locate: where the partition begins.
};
using Offsets = std::map<PartitionName, FoundOffset>;

inline constexpr int64_t kStartTime = -2;
inline constexpr int64_t kEndTime = -1;

// Of all partitions of the topics: the first offset with this time or a later one, -1 if there is
// none; or the start or end. `committed`: the end is where open transactions begin.
base::Result<Offsets> FindOffsets(Cluster& cluster, std::span<const Topic> topics, int64_t time_ms,
                                  bool committed = false);

// The offsets where a position is, within what is there. A shift is from `from`, where that has the
// partition; else forwards from the start, or backwards from the end.
base::Result<Offsets> Locate(Cluster& cluster, std::span<const Topic> topics, Position position,
                             const std::map<PartitionName, int64_t>& from = {},
                             bool committed = false);

}  // namespace holdfast::client
