// DescribeProducers (key 61): what a partition knows of the producers that wrote to it.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeProducersResponse;

struct DescribeProducersRequest final {
  static constexpr Api kApi{
      .key = 61, .name = "DescribeProducers", .oldest = 0, .newest = 0, .flexible = 0};
  using Response = DescribeProducersResponse;

  struct TopicRequest {
    std::string_view name;
    std::vector<int32_t> partition_indexes;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partition_indexes);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<TopicRequest> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeProducersResponse final {
  static constexpr Api kApi = DescribeProducersRequest::kApi;

  struct ProducerState {
    int64_t producer_id = 0;
    int32_t producer_epoch = 0;
    int32_t last_sequence = -1;
    int64_t last_timestamp = -1;
    int32_t coordinator_epoch = 0;
    int64_t current_txn_start_offset = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.producer_id);
      wire(m.producer_epoch);
      wire(m.last_sequence);
      wire(m.last_timestamp);
      wire(m.coordinator_epoch);
      wire(m.current_txn_start_offset);
      wire.Tags(m.unknown_tags);
    }
  };

  struct PartitionResponse {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    std::optional<std::string_view> error_message;
    std::vector<ProducerState> active_producers;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire(m.error_message);
      wire(m.active_producers);
      wire.Tags(m.unknown_tags);
    }
  };

  struct TopicResponse {
    std::string_view name;
    std::vector<PartitionResponse> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<TopicResponse> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
