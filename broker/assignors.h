// The assignors that the broker offers to consumer groups of the newer protocol (KIP-848): who of
// the members is to consume which partitions.
//
//   uniform  Balance first: with equal subscriptions none has two partitions more than another.
//            Then stickiness: as few partitions as possible change hands.
//   range    Per topic, each subscriber gets a run of neighbouring partitions, the same in every
//            topic with as many partitions and subscribers. Nothing is sticky.
//
// Threads: plain functions on values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "broker/topic_partition.h"

namespace holdfast::broker {

// Partitions in order, each once.
using Assignment = std::vector<TopicPartition>;

struct Subscriber {
  std::string_view member_id;
  std::optional<std::string_view> instance_id;
  std::vector<kafka::Uuid> topics;  // In order, each once, each with a count.
  const Assignment* current = nullptr;
};
using PartitionCounts = std::map<kafka::Uuid, int32_t>;

// One assignment for each subscriber, in their order. Every partition of a topic that somebody
// subscribes to is in one of them.
using Assign = std::vector<Assignment> (*)(std::span<const Subscriber> subscribers,
                                           const PartitionCounts& counts);
std::vector<Assignment> AssignUniform(std::span<const Subscriber> subscribers,
                                      const PartitionCounts& counts);
std::vector<Assignment> AssignRange(std::span<const Subscriber> subscribers,
                                    const PartitionCounts& counts);

struct Assignor {
  std::string_view name;
  Assign assign;
};
// The first is the one for groups whose members do not choose.
std::span<const Assignor> Assignors();
// Null if there is none of the name.
const Assignor* FindAssignor(std::string_view name);

}  // namespace holdfast::broker
