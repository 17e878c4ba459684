// Names one partition of one topic, for ever: a topic of the same name made later has another id.
#pragma once

#include <cstdint>
#include <functional>
#include <tuple>

#include "kafka/message.h"

namespace holdfast::broker {

struct TopicPartition {
  kafka::Uuid topic;
  int32_t partition = 0;

  bool operator==(const TopicPartition&) const = default;
  bool operator<(const TopicPartition& other) const {
    return std::tie(topic, partition) < std::tie(other.topic, other.partition);
  }
};

}  // namespace holdfast::broker

template <>
struct std::hash<holdfast::broker::TopicPartition> {
  size_t operator()(const holdfast::broker::TopicPartition& id) const noexcept {
    constexpr size_t kSpread = 0x9e3779b97f4a7c15;
    return std::hash<holdfast::kafka::Uuid>()(id.topic) +
           static_cast<size_t>(id.partition) * kSpread;
  }
};
