// TxnOffsetCommit (key 28): stores a group's positions if the transaction commits.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct TxnOffsetCommitResponse;

struct TxnOffsetCommitRequest final {
  static constexpr Api kApi{
      .key = 28, .name = "TxnOffsetCommit", .oldest = 0, .newest = 5, .flexible = 3};
  using Response = TxnOffsetCommitResponse;

  struct TxnOffsetCommitRequestPartition {
    int32_t partition_index = 0;
    int64_t committed_offset = 0;
    int32_t committed_leader_epoch = -1;
    std::optional<std::string_view> committed_metadata;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.committed_offset);
      wire(m.committed_leader_epoch, {.since = 2, .ignorable = true});
      wire(m.committed_metadata);
      wire.Tags(m.unknown_tags);
    }
  };

  struct TxnOffsetCommitRequestTopic {
    std::string_view name;
    std::vector<TxnOffsetCommitRequestPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::string_view transactional_id;
  std::string_view group_id;
  int64_t producer_id = 0;
  int16_t producer_epoch = 0;
  int32_t generation_id = -1;
  std::string_view member_id;
  std::optional<std::string_view> group_instance_id;
  std::vector<TxnOffsetCommitRequestTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.transactional_id);
    wire(m.group_id);
    wire(m.producer_id);
    wire(m.producer_epoch);
    wire(m.generation_id, {.since = 3});
    wire(m.member_id, {.since = 3});
    wire(m.group_instance_id, {.since = 3});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct TxnOffsetCommitResponse final {
  static constexpr Api kApi = TxnOffsetCommitRequest::kApi;

  struct TxnOffsetCommitResponsePartition {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct TxnOffsetCommitResponseTopic {
    std::string_view name;
    std::vector<TxnOffsetCommitResponsePartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<TxnOffsetCommitResponseTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
