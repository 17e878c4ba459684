// OffsetForLeaderEpoch (key 23): where a leader epoch ended, to find a diverging log.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct OffsetForLeaderEpochResponse;

struct OffsetForLeaderEpochRequest final {
  static constexpr Api kApi{
      .key = 23, .name = "OffsetForLeaderEpoch", .oldest = 2, .newest = 4, .flexible = 4};
  using Response = OffsetForLeaderEpochResponse;

  struct OffsetForLeaderPartition {
    int32_t partition = 0;
    int32_t current_leader_epoch = -1;
    int32_t leader_epoch = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition);
      wire(m.current_leader_epoch);
      wire(m.leader_epoch);
      wire.Tags(m.unknown_tags);
    }
  };

  struct OffsetForLeaderTopic {
    std::string_view topic;
    std::vector<OffsetForLeaderPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t replica_id = -1;
  std::vector<OffsetForLeaderTopic> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.replica_id, {.since = 3, .ignorable = true});
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

struct OffsetForLeaderEpochResponse final {
  static constexpr Api kApi = OffsetForLeaderEpochRequest::kApi;

  struct EpochEndOffset {
    ErrorCode error_code = ErrorCode::kNone;
    int32_t partition = 0;
    int32_t leader_epoch = -1;
    int64_t end_offset = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.partition);
      wire(m.leader_epoch);
      wire(m.end_offset);
      wire.Tags(m.unknown_tags);
    }
    bool operator==(const EpochEndOffset&) const = default;
  };

  struct OffsetForLeaderTopicResult {
    std::string_view topic;
    std::vector<EpochEndOffset> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<OffsetForLeaderTopicResult> topics;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.topics);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
