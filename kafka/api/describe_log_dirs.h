// DescribeLogDirs (key 35): the directories in which a broker keeps its logs, and how large the
// partitions in them are.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct DescribeLogDirsResponse;

struct DescribeLogDirsRequest final {
  static constexpr Api kApi{
      .key = 35, .name = "DescribeLogDirs", .oldest = 1, .newest = 4, .flexible = 2};
  using Response = DescribeLogDirsResponse;

  struct DescribableLogDirTopic {
    std::string_view topic;
    std::vector<int32_t> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  std::optional<std::vector<DescribableLogDirTopic>> topics;  // None: all.
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.topics, {.nullable_since = 0});
    wire.Tags(m.unknown_tags);
  }
};

struct DescribeLogDirsResponse final {
  static constexpr Api kApi = DescribeLogDirsRequest::kApi;

  struct DescribeLogDirsPartition {
    int32_t partition_index = 0;
    int64_t partition_size = 0;
    int64_t offset_lag = 0;
    bool is_future_key = false;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.partition_index);
      wire(m.partition_size);
      wire(m.offset_lag);
      wire(m.is_future_key);
      wire.Tags(m.unknown_tags);
    }
  };
  struct DescribeLogDirsTopic {
    std::string_view name;
    std::vector<DescribeLogDirsPartition> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };
  struct DescribeLogDirsResult {
    ErrorCode error_code = ErrorCode::kNone;
    std::string_view log_dir;
    std::vector<DescribeLogDirsTopic> topics;
    int64_t total_bytes = -1;
    int64_t usable_bytes = -1;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.error_code);
      wire(m.log_dir);
      wire(m.topics);
      wire(m.total_bytes, {.since = 4});
      wire(m.usable_bytes, {.since = 4});
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  ErrorCode error_code = ErrorCode::kNone;
  std::vector<DescribeLogDirsResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.error_code, {.since = 3});
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
