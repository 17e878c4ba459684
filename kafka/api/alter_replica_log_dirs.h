// AlterReplicaLogDirs (key 34): moves replicas between the directories of a broker.
#pragma once

#include "kafka/message.h"

namespace holdfast::kafka {

struct AlterReplicaLogDirsResponse;

struct AlterReplicaLogDirsRequest final {
  static constexpr Api kApi{
      .key = 34, .name = "AlterReplicaLogDirs", .oldest = 1, .newest = 2, .flexible = 2};
  using Response = AlterReplicaLogDirsResponse;

  struct AlterReplicaLogDir {
    struct AlterReplicaLogDirTopic {
      std::string_view name;
      std::vector<int32_t> partitions;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.name);
        wire(m.partitions);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view path;
    std::vector<AlterReplicaLogDirTopic> topics;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.path);
      wire(m.topics);
      wire.Tags(m.unknown_tags);
    }
  };

  std::vector<AlterReplicaLogDir> dirs;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.dirs);
    wire.Tags(m.unknown_tags);
  }
};

struct AlterReplicaLogDirsResponse final {
  static constexpr Api kApi = AlterReplicaLogDirsRequest::kApi;

  struct AlterReplicaLogDirTopicResult {
    struct AlterReplicaLogDirPartitionResult {
      int32_t partition_index = 0;
      ErrorCode error_code = ErrorCode::kNone;
      UnknownTags unknown_tags;

      static void Fields(auto& wire, auto& m) {
        wire(m.partition_index);
        wire(m.error_code);
        wire.Tags(m.unknown_tags);
      }
    };

    std::string_view topic_name;
    std::vector<AlterReplicaLogDirPartitionResult> partitions;
    UnknownTags unknown_tags;

    static void Fields(auto& wire, auto& m) {
      wire(m.topic_name);
      wire(m.partitions);
      wire.Tags(m.unknown_tags);
    }
  };

  int32_t throttle_time_ms = 0;
  std::vector<AlterReplicaLogDirTopicResult> results;
  UnknownTags unknown_tags;
  Strings strings;

  static void Fields(auto& wire, auto& m) {
    wire(m.throttle_time_ms);
    wire(m.results);
    wire.Tags(m.unknown_tags);
  }
};

}  // namespace holdfast::kafka
