// What consumers put into the metadata and assignments of the classic protocol, whose bytes a
// broker hands through otherwise. It reads them where members of both protocols are in one group.
//
// Ownership: parsed values borrow from the bytes. Threads: plain functions on values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/message.h"

namespace holdfast::broker {

inline constexpr std::string_view kConsumerProtocolType = "consumer";

struct TopicPartitions {
  std::string_view topic;
  std::vector<int32_t> partitions;

  static void Fields(auto& wire, auto& m) {
    wire(m.topic);
    wire(m.partitions);
  }
};

struct ConsumerSubscription {
  int16_t version = 0;
  std::vector<std::string_view> topics;
  std::optional<std::string_view> user_data;
  std::vector<TopicPartitions> owned;
  int32_t generation = -1;
  std::optional<std::string_view> rack_id;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire.Bytes(m.user_data);
    wire(m.owned, {.since = 1});
    wire(m.generation, {.since = 2});
    wire(m.rack_id, {.since = 3});
  }
};

struct ConsumerAssignment {
  std::vector<TopicPartitions> topics;
  std::optional<std::string_view> user_data;  // What the assignor tells the member beside that.

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire.Bytes(m.user_data);
  }
};

// Nothing if they are damaged. Newer versions than known begin like the newest one known.
std::optional<ConsumerSubscription> ParseSubscription(std::string_view bytes);
std::optional<ConsumerAssignment> ParseConsumerAssignment(std::string_view bytes);
// In the version of the member's subscription.
std::string EncodeConsumerAssignment(int16_t version, const std::vector<TopicPartitions>& topics);

}  // namespace holdfast::broker
