// Fetch (key 1): reads record batches, waiting for new ones if asked to.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct FetchResponse;

struct FetchRequest final {
  static constexpr Api kApi{.key = 1, .name = "Fetch", .oldest = 4, .newest = 18, .flexible = 12};
  using Response = FetchResponse;

  struct ReplicaState {
    int32_t replica_id = -1;
    int64_t replica_epoch = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.replica_id);
      wire(m.replica_epoch);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const ReplicaState&) const = default;
  };

  struct FetchPartition {
    int32_t partition = 0;
    int32_t current_leader_epoch = -1;
    int64_t fetch_offset = 0;
    int32_t last_fetched_epoch = -1;
    int64_t log_start_offset = -1;
    int32_t partition_max_bytes = 0;
    Uuid replica_directory_id;
    int64_t high_watermark = std::numeric_limits<int64_t>::max();
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition);
      wire(m.current_leader_epoch, {.since = 9, .ignorable = true});
      wire(m.fetch_offset);
      wire(m.last_fetched_epoch, {.since = 12});
      wire(m.log_start_offset, {.since = 5, .ignorable = true});
      wire(m.partition_max_bytes);
      wire.Tags(m.unknown_tags, Tag(0, m.replica_directory_id, {.since = 17, .ignorable = true}),
                Tag(1, m.high_watermark, {.since = 18, .ignorable = true}));
    }
  };

  struct FetchTopic {
    std::string_view topic;
    Uuid topic_id;
    std::vector<FetchPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic, {.last = 12, .ignorable = true});
      wire(m.topic_id, {.since = 13, .ignorable = true});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct ForgottenTopic {
    std::string_view topic;
    Uuid topic_id;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic, {.last = 12, .ignorable = true});
      wire(m.topic_id, {.since = 13, .ignorable = true});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::string_view> cluster_id;
  int32_t replica_id = -1;
  ReplicaState replica_state;
  int32_t max_wait_ms = 0;
  int32_t min_bytes = 0;
  int32_t max_bytes = std::numeric_limits<int32_t>::max();
  int8_t isolation_level = 0;
  int32_t session_id = 0;
  int32_t session_epoch = -1;
  std::vector<FetchTopic> topics;
  std::vector<ForgottenTopic> forgotten_topics_data;
  std::string_view rack_id;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.replica_id, {.last = 14});
    wire(m.max_wait_ms);
    wire(m.min_bytes);
    wire(m.max_bytes);
    wire(m.isolation_level);
    wire(m.session_id, {.since = 7, .ignorable = true});
    wire(m.session_epoch, {.since = 7, .ignorable = true});
    wire(m.topics);
    wire(m.forgotten_topics_data, {.since = 7});
    wire(m.rack_id, {.since = 11, .ignorable = true});
    wire.Tags(m.unknown_tags, Tag(0, m.cluster_id), Tag(1, m.replica_state, {.since = 15}));
  }
};

struct FetchResponse final {
  static constexpr Api kApi = FetchRequest::kApi;

  struct EpochEndOffset {
    int32_t epoch = -1;
    int64_t end_offset = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.epoch);
      wire(m.end_offset);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const EpochEndOffset&) const = default;
  };

  struct LeaderIdAndEpoch {
    int32_t leader_id = -1;
    int32_t leader_epoch = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.leader_id);
      wire(m.leader_epoch);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const LeaderIdAndEpoch&) const = default;
  };

  struct SnapshotId {
    int64_t end_offset = -1;
    int32_t epoch = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.end_offset);
      wire(m.epoch);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const SnapshotId&) const = default;
  };

  struct AbortedTransaction {
    int64_t producer_id = 0;
    int64_t first_offset = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.producer_id);
      wire(m.first_offset);
      wire.Tags(m.unknown_tags);
    }
  };

  struct PartitionData {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    int64_t high_watermark = 0;
    int64_t last_stable_offset = -1;
    int64_t log_start_offset = -1;
    EpochEndOffset diverging_epoch;
    LeaderIdAndEpoch current_leader;
    SnapshotId snapshot_id;
    std::optional<std::vector<AbortedTransaction>> aborted_transactions;
    int32_t preferred_read_replica = -1;
    std::optional<std::string_view> records;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire(m.high_watermark);
      wire(m.last_stable_offset);
      wire(m.log_start_offset, {.since = 5});
      wire(m.aborted_transactions);
      wire(m.preferred_read_replica, {.since = 11});
      wire.Bytes(m.records);
      wire.Tags(m.unknown_tags, Tag(0, m.diverging_epoch), Tag(1, m.current_leader),
                Tag(2, m.snapshot_id));
    }
  };

  struct FetchableTopicResponse {
    std::string_view topic;
    Uuid topic_id;
    std::vector<PartitionData> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic, {.last = 12});
      wire(m.topic_id, {.since = 13});
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct NodeEndpoint {
    int32_t node_id = 0;
    std::string_view host;
    int32_t port = 0;
    std::optional<std::string_view> rack;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.node_id);
      wire(m.host);
      wire(m.port);
      wire(m.rack);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  int32_t session_id = 0;
  std::vector<FetchableTopicResponse> responses;
  std::vector<NodeEndpoint> node_endpoints;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code, {.since = 7});
    wire(m.session_id, {.since = 7});
    wire(m.responses);
    wire.Tags(m.unknown_tags, Tag(0, m.node_endpoints, {.since = 16}));
  }
};

}  // namespace holdfast::kafka
