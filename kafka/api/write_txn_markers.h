// WriteTxnMarkers (key 27): ends a transaction in single partitions. Coordinators send it, and
// tools that abort what a coordinator has forgotten.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct WriteTxnMarkersResponse;

struct WriteTxnMarkersRequest final {
  static constexpr Api kApi{
      .key = 27, .name = "WriteTxnMarkers", .oldest = 1, .newest = 2, .flexible = 1};
  using Response = WriteTxnMarkersResponse;

  struct WritableTxnMarkerTopic {
    std::string_view name;
    std::vector<int32_t> partition_indexes;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partition_indexes);
      wire.Tags(m.unknown_tags);
    }
  };

  struct WritableTxnMarker {
    int64_t producer_id = 0;
    int16_t producer_epoch = 0;
    bool transaction_result = false;
    std::vector<WritableTxnMarkerTopic> topics;
    int32_t coordinator_epoch = 0;
    int8_t transaction_version = 0;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.producer_id);
      wire(m.producer_epoch);
      wire(m.transaction_result);
      wire(m.topics);
      wire(m.coordinator_epoch);
      wire(m.transaction_version, {.since = 2, .ignorable = true});
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<WritableTxnMarker> markers;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.markers);
    wire.Tags(m.unknown_tags);
  }
};

struct WriteTxnMarkersResponse final {
  static constexpr Api kApi = WriteTxnMarkersRequest::kApi;

  struct WritableTxnMarkerPartitionResult {
    int32_t partition_index = 0;
    ErrorCode error_code = ErrorCode::kNone;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.error_code);
      wire.Tags(m.unknown_tags);
    }
  };

  struct WritableTxnMarkerTopicResult {
    std::string_view name;
    std::vector<WritableTxnMarkerPartitionResult> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  struct WritableTxnMarkerResult {
    int64_t producer_id = 0;
    std::vector<WritableTxnMarkerTopicResult> topics;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.producer_id);
      wire(m.topics);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<WritableTxnMarkerResult> markers;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.markers);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
