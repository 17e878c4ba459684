// ElectLeaders (key 43): makes a replica the leader of its partition.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ElectLeadersResponse;

struct ElectLeadersRequest final {
  static constexpr Api kApi{
      .key = 43, .name = "ElectLeaders", .oldest = 0, .newest = 2, .flexible = 2};
  using Response = ElectLeadersResponse;

  struct TopicPartitions {
    std::string_view topic;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int8_t election_type = 0;
  std::optional<std::vector<TopicPartitions>> topic_partitions;
  int32_t timeout_ms = 60000;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.election_type, {.since = 1});
    wire(m.topic_partitions);
    wire(m.timeout_ms);
    wire.Tags(m.unknown_tags);
  }
};

struct ElectLeadersResponse final {
  static constexpr Api kApi = ElectLeadersRequest::kApi;

  struct ReplicaElectionResult {
    struct PartitionResult {
      int32_t partition_id = 0;
      ErrorCode error_code = ErrorCode::kNone;
      std::optional<std::string_view> error_message;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_id);
        wire(m.error_code);
        wire(m.error_message);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view topic;
    std::vector<PartitionResult> partition_result;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partition_result);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<ReplicaElectionResult> replica_election_results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code, {.since = 1});
    wire(m.replica_election_results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
