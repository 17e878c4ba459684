// What the tier demands of the records of one topic: those of its settings by which a broker
// refuses records, as DescribeConfigs tells them. Since the agent acknowledges records before the
// tier sees them, it has to refuse by the same ones.
//
// Ownership: values. Threads: any; pure.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "kafka/api/describe_configs.h"
#include "kafka/compression.h"

namespace holdfast::proxy {

// Each member is called as Kafka calls the setting, and begins with Kafka's default.
struct TopicSettings {
  // False: the tier was asked and does not tell. Then the agent's own limits hold.
  bool from_tier = false;

  int64_t max_message_bytes = 1048588;
  int64_t segment_bytes = 1073741824;
  int64_t timestamp_before_max_ms = std::numeric_limits<int64_t>::max();
  int64_t timestamp_after_max_ms = 3600000;
  bool log_append_time = false;             // message.timestamp.type
  bool compacted = false;                   // cleanup.policy holds `compact`.
  std::optional<kafka::Codec> compression;  // compression.type; none: `producer`.

  bool operator==(const TopicSettings&) const = default;
};

// The settings' names in Kafka.
std::span<const std::string_view> TopicSettingNames();

// One topic's part of an answer; what is missing there, or not readable, keeps its default.
TopicSettings ReadTopicSettings(const kafka::DescribeConfigsResponse::DescribeConfigsResult& told);

// The reverse, to be kept: ReadTopicSettings gives the same again.
void AddTopicSettings(kafka::DescribeConfigsResponse& response, std::string_view topic,
                      const TopicSettings& settings);

}  // namespace holdfast::proxy
