// Produce (key 0): appends record batches to partitions.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct ProduceResponse;

// Topics have ids instead of names since then.
inline constexpr int16_t kProduceByIdSince = 13;

struct ProduceRequest final {
  static constexpr Api kApi{.key = 0, .name = "Produce", .oldest = 3, .newest = 13, .flexible = 9};
  using Response = ProduceResponse;

  struct PartitionProduceData {
    int32_t index = 0;
    std::optional<std::string_view> records;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.index);
      wire.Bytes(m.records);
      wire.Tags(m.unknown_tags);
    }
  };

  struct TopicProduceData {
    std::string_view name;
    Uuid topic_id;
    std::vector<PartitionProduceData> partition_data;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 12, .ignorable = true});
      wire(m.topic_id, {.since = 13, .ignorable = true});
      wire(m.partition_data);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::string_view> transactional_id;
  int16_t acks = 0;
  int32_t timeout_ms = 0;
  std::vector<TopicProduceData> topic_data;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_id);
    wire(m.acks);
    wire(m.timeout_ms);
    wire(m.topic_data);
    wire.Tags(m.unknown_tags);
  }
};

struct ProduceResponse final {
  static constexpr Api kApi = ProduceRequest::kApi;

  struct BatchIndexAndErrorMessage {
    int32_t batch_index = 0;
    std::optional<std::string_view> batch_index_error_message;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.batch_index);
      wire(m.batch_index_error_message);
      wire.Tags(m.unknown_tags);
    }
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

  struct PartitionProduceResponse {
    int32_t index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    int64_t base_offset = 0;
    int64_t log_append_time_ms = -1;
    int64_t log_start_offset = -1;
    std::vector<BatchIndexAndErrorMessage> record_errors;
    std::optional<std::string_view> error_message;
    LeaderIdAndEpoch current_leader;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.index);
      wire(m.error_code);
      wire(m.base_offset);
      wire(m.log_append_time_ms);
      wire(m.log_start_offset, {.since = 5});
      wire(m.record_errors, {.since = 8});
      wire(m.error_message, {.since = 8});
      wire.Tags(m.unknown_tags, Tag(0, m.current_leader, {.since = 10}));
    }
  };

  struct TopicProduceResponse {
    std::string_view name;
    Uuid topic_id;
    std::vector<PartitionProduceResponse> partition_responses;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name, {.last = 12});
      wire(m.topic_id, {.since = 13});
      wire(m.partition_responses);
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

  std::vector<TopicProduceResponse> responses;
  int32_t throttle_time_ms = 0;
  std::vector<NodeEndpoint> node_endpoints;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.responses);
    wire(m.throttle_time_ms);
    wire.Tags(m.unknown_tags, Tag(0, m.node_endpoints, {.since = 10}));
  }
};

}  // namespace holdfast::kafka
