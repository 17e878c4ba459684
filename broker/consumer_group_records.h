// What of a consumer group of the newer protocol (broker/consumer_group.h) is durable, and what it
// begins from after a restart.
//
// Threads: values only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "broker/group.h"
#include "broker/reconciliation.h"

namespace holdfast::broker {

// One member as it is kept and described.
struct ConsumerMemberRecord {
  // Of a member that joined by the classic protocol.
  struct Classic {
    base::Duration session_timeout{};
    std::vector<GroupProtocol> protocols = {};

    bool operator==(const Classic&) const = default;
  };

  uint64_t number = 0;  // Of this group's members, ever.
  std::string member_id = {};
  std::optional<std::string> instance_id = {};
  std::optional<std::string> rack_id = {};
  std::string client_id = {};
  std::string client_host = {};
  base::Duration rebalance_timeout{};
  std::vector<std::string> topic_names = {};
  std::string topic_pattern = {};
  std::string assignor = {};
  std::optional<Classic> classic = {};
  CurrentAssignment current = {};
  Assignment target = {};

  bool operator==(const ConsumerMemberRecord&) const = default;
};

// What is known of one topic that members subscribe to.
struct SubscribedTopic {
  kafka::Uuid id;
  int32_t partitions = 0;

  bool operator==(const SubscribedTopic&) const = default;
};

// The group itself as it is kept.
struct ConsumerGroupRecord {
  int32_t epoch = 0;
  int32_t target_epoch = 0;
  std::vector<SubscribedTopic> topics = {};

  bool operator==(const ConsumerGroupRecord&) const = default;
};

// What one step changed.
struct ConsumerGroupChange {
  std::optional<ConsumerGroupRecord> group = {};
  std::vector<ConsumerMemberRecord> members = {};
  std::vector<uint64_t> removed_members = {};
  // It takes the place of a classic group of the same name.
  bool replaces_classic = false;
  // The group is gone.
  bool erases_group = false;

  [[nodiscard]] bool empty() const {
    return !group && members.empty() && removed_members.empty() && !replaces_classic &&
           !erases_group;
  }
};

}  // namespace holdfast::broker
