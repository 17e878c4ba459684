#include "proxy/topic_settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace holdfast::proxy {
namespace {

using Response = kafka::DescribeConfigsResponse;

constexpr std::string_view kMaxMessageBytes = "max.message.bytes";
constexpr std::string_view kSegmentBytes = "segment.bytes";
constexpr std::string_view kBeforeMax = "message.timestamp.before.max.ms";
constexpr std::string_view kAfterMax = "message.timestamp.after.max.ms";
constexpr std::string_view kTimestampType = "message.timestamp.type";
constexpr std::string_view kCleanupPolicy = "cleanup.policy";
constexpr std::string_view kCompressionType = "compression.type";
constexpr std::array kNames{kMaxMessageBytes, kSegmentBytes,  kBeforeMax,      kAfterMax,
                            kTimestampType,   kCleanupPolicy, kCompressionType};

constexpr std::string_view kLogAppendTime = "LogAppendTime";
constexpr std::string_view kCompact = "compact";
constexpr std::string_view kProducer = "producer";
// What Kafka calls no compression here.
constexpr std::string_view kUncompressed = "uncompressed";

void ReadNumber(std::string_view text, int64_t& into) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) into = number;
}

bool Lists(std::string_view list, std::string_view wanted) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string_view item = list.substr(0, comma);
    item.remove_prefix(std::min(item.find_first_not_of(' '), item.size()));
    item = item.substr(0, item.find_last_not_of(' ') + 1);
    if (item == wanted) return true;
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return false;
}

std::optional<kafka::Codec> ReadCompression(std::string_view text) {
  if (text == kUncompressed) return kafka::Codec::kNone;
  for (const kafka::Codec codec :
       {kafka::Codec::kGzip, kafka::Codec::kSnappy, kafka::Codec::kLz4, kafka::Codec::kZstd}) {
    if (text == kafka::CodecName(codec)) return codec;
  }
  return std::nullopt;
}

std::string_view CompressionText(std::optional<kafka::Codec> codec) {
  if (!codec) return kProducer;
  return *codec == kafka::Codec::kNone ? kUncompressed : kafka::CodecName(*codec);
}

void ReadOne(std::string_view name, std::string_view value, TopicSettings& settings) {
  if (name == kMaxMessageBytes) return ReadNumber(value, settings.max_message_bytes);
  if (name == kSegmentBytes) return ReadNumber(value, settings.segment_bytes);
  if (name == kBeforeMax) return ReadNumber(value, settings.timestamp_before_max_ms);
  if (name == kAfterMax) return ReadNumber(value, settings.timestamp_after_max_ms);
  if (name == kTimestampType) settings.log_append_time = value == kLogAppendTime;
  if (name == kCleanupPolicy) settings.compacted = Lists(value, kCompact);
  if (name == kCompressionType) settings.compression = ReadCompression(value);
}

}  // namespace

std::span<const std::string_view> TopicSettingNames() { return kNames; }

TopicSettings ReadTopicSettings(const Response::DescribeConfigsResult& told) {
  TopicSettings settings{.from_tier = true};
  for (const auto& config : told.configs) {
    if (config.value) ReadOne(config.name, *config.value, settings);
  }
  return settings;
}

void AddTopicSettings(Response& response, std::string_view topic, const TopicSettings& settings) {
  auto& told = response.results.emplace_back();
  told.resource_name = topic;
  const auto add = [&](std::string_view name, std::string_view value) {
    told.configs.push_back({.name = name, .value = value});
  };
  const auto add_number = [&](std::string_view name, int64_t value) {
    add(name, response.strings.Keep(std::to_string(value)));
  };
  add_number(kMaxMessageBytes, settings.max_message_bytes);
  add_number(kSegmentBytes, settings.segment_bytes);
  add_number(kBeforeMax, settings.timestamp_before_max_ms);
  add_number(kAfterMax, settings.timestamp_after_max_ms);
  if (settings.log_append_time) add(kTimestampType, kLogAppendTime);
  if (settings.compacted) add(kCleanupPolicy, kCompact);
  add(kCompressionType, CompressionText(settings.compression));
}

}  // namespace holdfast::proxy
