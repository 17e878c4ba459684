// The configuration of topics under Kafka's names: what may be set, to what, and what the broker
// makes of it.
//
// Every name that Kafka 4.2 knows is accepted and given back, so that tools and scripts work; the
// fields of TopicConfig are those that have an effect so far.
//
// Threads: values; a topic's config is immutable once the topic is published.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kafka/compression.h"

namespace holdfast::broker {

// As DescribeConfigs numbers them.
enum class ConfigType : int8_t {
  kBoolean = 1,
  kString = 2,
  kInt = 3,
  kLong = 5,
  kDouble = 6,
  kList = 7,
};

struct ConfigDefinition {
  std::string_view name;
  ConfigType type;
  std::string_view default_value;
  // kInt, kLong and kDouble: the range. kString and kList: `allowed`, separated by commas, if any.
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
  std::string_view allowed = {};
};

// By name.
std::span<const ConfigDefinition> TopicConfigDefinitions();

// As IncrementalAlterConfigs numbers them.
enum class ConfigOperation : int8_t { kSet = 0, kDelete = 1, kAppend = 2, kSubtract = 3 };

struct ConfigChange {
  std::string name;
  ConfigOperation operation = ConfigOperation::kSet;
  std::string value;  // kAppend and kSubtract: items, separated by commas. kDelete: nothing.
};

using ConfigValues = std::map<std::string, std::string, std::less<>>;

class TopicConfig {
 public:
  // kInvalid: no such name, or no value for it; the message is for the client.
  base::Result<> Set(std::string_view name, std::string_view value);
  // kInvalid: settings that contradict each other.
  [[nodiscard]] base::Result<> Check() const;

  // What it is after the changes. kInvalid as for Set and Check; also for kAppend and kSubtract to
  // what is not a list.
  [[nodiscard]] base::Result<TopicConfig> Altered(std::span<const ConfigChange> changes) const;

  // The same settings where topics without them have those of `defaults` (valid ones, by topics'
  // names; null: Kafka's) instead.
  [[nodiscard]] TopicConfig Over(std::shared_ptr<const ConfigValues> defaults) const;
  // With the same defaults, and nothing set.
  [[nodiscard]] TopicConfig Cleared() const { return TopicConfig().Over(defaults_); }

  // What was set, by name.
  [[nodiscard]] const ConfigValues& overrides() const { return overrides_; }

  // -1: the broker's.
  [[nodiscard]] int32_t max_message_bytes() const { return max_message_bytes_; }
  [[nodiscard]] bool log_append_time() const { return log_append_time_; }
  [[nodiscard]] int64_t timestamp_before_max_ms() const { return timestamp_before_max_ms_; }
  [[nodiscard]] int64_t timestamp_after_max_ms() const { return timestamp_after_max_ms_; }
  // What all batches are compressed with; none: as their producers did it.
  [[nodiscard]] std::optional<kafka::Codec> codec() const { return codec_; }
  // For kafka::Compress.
  [[nodiscard]] std::optional<int> compression_level() const;
  [[nodiscard]] bool compacted() const { return compacted_; }
  [[nodiscard]] int64_t min_compaction_lag_ms() const { return min_compaction_lag_ms_; }
  [[nodiscard]] int64_t max_compaction_lag_ms() const { return max_compaction_lag_ms_; }
  [[nodiscard]] double min_cleanable_dirty_ratio() const { return min_cleanable_dirty_ratio_; }
  [[nodiscard]] int64_t delete_retention_ms() const { return delete_retention_ms_; }
  // What is older, or more, leaves the active segment.
  [[nodiscard]] int64_t segment_ms() const { return segment_ms_; }
  [[nodiscard]] int64_t segment_bytes() const { return segment_bytes_; }
  // Whether old entries are deleted at all, and then beyond which age and size; -1: none.
  [[nodiscard]] bool deletes() const { return deletes_; }
  [[nodiscard]] int64_t retention_ms() const { return retention_ms_; }
  [[nodiscard]] int64_t retention_bytes() const { return retention_bytes_; }

 private:
  void Apply(std::string_view name, std::string_view value);

  ConfigValues overrides_;
  std::shared_ptr<const ConfigValues> defaults_;
  int32_t max_message_bytes_ = -1;
  bool log_append_time_ = false;
  int64_t timestamp_before_max_ms_ = std::numeric_limits<int64_t>::max();
  int64_t timestamp_after_max_ms_ = 3600000;
  std::optional<kafka::Codec> codec_;
  int gzip_level_ = -1;
  int lz4_level_ = 9;
  int zstd_level_ = 3;
  bool compacted_ = false;
  int64_t min_compaction_lag_ms_ = 0;
  int64_t max_compaction_lag_ms_ = std::numeric_limits<int64_t>::max();
  double min_cleanable_dirty_ratio_ = 0.5;
  int64_t delete_retention_ms_ = 86400000;
  int64_t segment_ms_ = 604800000;
  int64_t segment_bytes_ = 1073741824;
  bool deletes_ = true;
  int64_t retention_ms_ = 604800000;
  int64_t retention_bytes_ = -1;
};

}  // namespace holdfast::broker
