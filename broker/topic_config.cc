#include "broker/topic_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace holdfast::broker {
namespace {

using base::Code;
using base::Result;
using base::Unexpected;

constexpr int64_t kLongMax = std::numeric_limits<int64_t>::max();
constexpr int64_t kIntMax = std::numeric_limits<int32_t>::max();

// Names, defaults and ranges of Kafka 4.2. max.message.bytes has the broker's default.
constexpr std::array kDefinitions{
    ConfigDefinition{"cleanup.policy", ConfigType::kList, "delete", 0, 0, "compact,delete"},
    ConfigDefinition{"compression.gzip.level", ConfigType::kInt, "-1", -1, 9},
    ConfigDefinition{"compression.lz4.level", ConfigType::kInt, "9", 1, 17},
    ConfigDefinition{"compression.type", ConfigType::kString, "producer", 0, 0,
                     "uncompressed,zstd,lz4,snappy,gzip,producer"},
    ConfigDefinition{"compression.zstd.level", ConfigType::kInt, "3", -131072, 22},
    ConfigDefinition{"delete.retention.ms", ConfigType::kLong, "86400000", 0, kLongMax},
    ConfigDefinition{"file.delete.delay.ms", ConfigType::kLong, "60000", 0, kLongMax},
    ConfigDefinition{"flush.messages", ConfigType::kLong, "9223372036854775807", 1, kLongMax},
    ConfigDefinition{"flush.ms", ConfigType::kLong, "9223372036854775807", 0, kLongMax},
    ConfigDefinition{"follower.replication.throttled.replicas", ConfigType::kList, ""},
    ConfigDefinition{"index.interval.bytes", ConfigType::kInt, "4096", 0, kIntMax},
    ConfigDefinition{"leader.replication.throttled.replicas", ConfigType::kList, ""},
    ConfigDefinition{"local.retention.bytes", ConfigType::kLong, "-2", -2, kLongMax},
    ConfigDefinition{"local.retention.ms", ConfigType::kLong, "-2", -2, kLongMax},
    ConfigDefinition{"max.compaction.lag.ms", ConfigType::kLong, "9223372036854775807", 1,
                     kLongMax},
    ConfigDefinition{"max.message.bytes", ConfigType::kInt, "1048588", 0, kIntMax},
    ConfigDefinition{"message.timestamp.after.max.ms", ConfigType::kLong, "3600000", 0, kLongMax},
    ConfigDefinition{"message.timestamp.before.max.ms", ConfigType::kLong, "9223372036854775807", 0,
                     kLongMax},
    ConfigDefinition{"message.timestamp.type", ConfigType::kString, "CreateTime", 0, 0,
                     "CreateTime,LogAppendTime"},
    ConfigDefinition{"min.cleanable.dirty.ratio", ConfigType::kDouble, "0.5", 0, 1},
    ConfigDefinition{"min.compaction.lag.ms", ConfigType::kLong, "0", 0, kLongMax},
    ConfigDefinition{"min.insync.replicas", ConfigType::kInt, "1", 1, kIntMax},
    ConfigDefinition{"preallocate", ConfigType::kBoolean, "false"},
    ConfigDefinition{"remote.log.copy.disable", ConfigType::kBoolean, "false"},
    ConfigDefinition{"remote.log.delete.on.disable", ConfigType::kBoolean, "false"},
    ConfigDefinition{"remote.storage.enable", ConfigType::kBoolean, "false", 0, 0, "false"},
    ConfigDefinition{"retention.bytes", ConfigType::kLong, "-1", -1, kLongMax},
    ConfigDefinition{"retention.ms", ConfigType::kLong, "604800000", -1, kLongMax},
    ConfigDefinition{"segment.bytes", ConfigType::kInt, "1073741824", 1048576, kIntMax},
    ConfigDefinition{"segment.index.bytes", ConfigType::kInt, "10485760", 4, kIntMax},
    ConfigDefinition{"segment.jitter.ms", ConfigType::kLong, "0", 0, kLongMax},
    ConfigDefinition{"segment.ms", ConfigType::kLong, "604800000", 1, kLongMax},
    ConfigDefinition{"unclean.leader.election.enable", ConfigType::kBoolean, "false"},
};
static_assert(std::ranges::is_sorted(kDefinitions, {}, &ConfigDefinition::name));

template <class T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int64_t NumberOr(std::string_view text, int64_t otherwise) {
  return ParseNumber<int64_t>(text).value_or(otherwise);
}

// As Kafka names them for topics. None: the producer's.
std::optional<kafka::Codec> ParseCodec(std::string_view name) {
  if (name == "uncompressed") return kafka::Codec::kNone;
  for (const kafka::Codec codec :
       {kafka::Codec::kGzip, kafka::Codec::kSnappy, kafka::Codec::kLz4, kafka::Codec::kZstd}) {
    if (name == kafka::CodecName(codec)) return codec;
  }
  return std::nullopt;
}

// Null if there is none.
const ConfigDefinition* FindDefinition(std::string_view name) {
  const auto found = std::ranges::lower_bound(kDefinitions, name, {}, &ConfigDefinition::name);
  return found == kDefinitions.end() || found->name != name ? nullptr : &*found;
}

// Whether `item` stands in `list`, whose items are separated by commas.
bool ListHas(std::string_view list, std::string_view item) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == item) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

bool AllAllowed(std::string_view items, std::string_view allowed) {
  while (!items.empty()) {
    const size_t comma = std::min(items.find(','), items.size());
    if (!ListHas(allowed, items.substr(0, comma))) return false;
    items.remove_prefix(std::min(comma + 1, items.size()));
  }
  return true;
}

// Appends to `list` those of `items` that are not in it, and not in `without`.
void Append(std::string_view items, std::string_view without, std::string* list) {
  while (!items.empty()) {
    const size_t comma = std::min(items.find(','), items.size());
    const std::string_view item = items.substr(0, comma);
    items.remove_prefix(std::min(comma + 1, items.size()));
    if (item.empty() || ListHas(*list, item) || ListHas(without, item)) continue;
    if (!list->empty()) *list += ',';
    *list += item;
  }
}

std::string Joined(std::string_view list, std::string_view items) {
  std::string joined;
  Append(list, {}, &joined);
  Append(items, {}, &joined);
  return joined;
}

std::string Without(std::string_view list, std::string_view items) {
  std::string rest;
  Append(list, items, &rest);
  return rest;
}

bool Fits(const ConfigDefinition& definition, std::string_view value) {
  switch (definition.type) {
    case ConfigType::kBoolean:
      return ListHas(definition.allowed.empty() ? "true,false" : definition.allowed, value);
    case ConfigType::kString:
      return definition.allowed.empty() || ListHas(definition.allowed, value);
    case ConfigType::kList:
      return definition.allowed.empty() || AllAllowed(value, definition.allowed);
    case ConfigType::kDouble: {
      const auto number = ParseNumber<double>(value);
      return number && *number >= static_cast<double>(definition.min) &&
             *number <= static_cast<double>(definition.max);
    }
    case ConfigType::kInt:
    case ConfigType::kLong: {
      const auto number = ParseNumber<int64_t>(value);
      return number && *number >= definition.min && *number <= definition.max;
    }
  }
  return false;
}

// What a client sent, as far as it belongs into a message.
std::string Quote(std::string_view text) {
  constexpr size_t kQuotedMax = 100;
  return text.size() <= kQuotedMax ? std::string(text)
                                   : std::string(text.substr(0, kQuotedMax)) + "...";
}

std::string Refusal(const ConfigDefinition& definition, std::string_view value) {
  std::string message =
      "Invalid value " + Quote(value) + " for configuration " + std::string(definition.name);
  if (!definition.allowed.empty()) {
    message += ": must be one of " + std::string(definition.allowed);
  } else if (definition.type == ConfigType::kBoolean) {
    message += ": must be true or false";
  } else {
    message += ": must be a number from " + std::to_string(definition.min) + " to " +
               std::to_string(definition.max);
  }
  return message;
}

}  // namespace

std::span<const ConfigDefinition> TopicConfigDefinitions() { return kDefinitions; }

Result<TopicConfig> TopicConfig::Altered(std::span<const ConfigChange> changes) const {
  auto values = overrides_;
  for (const ConfigChange& change : changes) {
    if (change.operation == ConfigOperation::kDelete) {
      values.erase(change.name);
      continue;
    }
    std::string value = change.value;
    if (change.operation != ConfigOperation::kSet) {
      const ConfigDefinition* definition = FindDefinition(change.name);
      if (definition == nullptr || definition->type != ConfigType::kList) {
        return Unexpected(Code::kInvalid, "Cannot append to or subtract from " +
                                              Quote(change.name) + ": its type is not a list");
      }
      const auto set = values.find(change.name);
      const std::string_view before = set == values.end() ? definition->default_value : set->second;
      value = change.operation == ConfigOperation::kAppend ? Joined(before, change.value)
                                                           : Without(before, change.value);
    }
    values.insert_or_assign(change.name, std::move(value));
  }
  TopicConfig altered;
  for (const auto& [name, value] : values) HF_RETURN_IF_ERROR(altered.Set(name, value));
  HF_RETURN_IF_ERROR(altered.Check());
  return altered;
}

Result<> TopicConfig::Set(std::string_view name, std::string_view value) {
  const ConfigDefinition* found = FindDefinition(name);
  if (found == nullptr) {
    return Unexpected(Code::kInvalid, "Unknown topic config name: " + Quote(name));
  }
  // zlib's 0 stores without compressing; Kafka has "uncompressed" for that.
  const bool gzip_stores = name == "compression.gzip.level" && value == "0";
  if (!Fits(*found, value) || gzip_stores)
    return Unexpected(Code::kInvalid, Refusal(*found, value));
  overrides_.insert_or_assign(std::string(name), std::string(value));
  Apply(name, value);
  return {};
}

void TopicConfig::Apply(std::string_view name, std::string_view value) {
  if (name == "cleanup.policy") {
    compacted_ = ListHas(value, "compact");
    deletes_ = ListHas(value, "delete");
  } else if (name == "max.message.bytes") {
    max_message_bytes_ = static_cast<int32_t>(NumberOr(value, max_message_bytes_));
  } else if (name == "message.timestamp.type") {
    log_append_time_ = value == "LogAppendTime";
  } else if (name == "message.timestamp.before.max.ms") {
    timestamp_before_max_ms_ = NumberOr(value, timestamp_before_max_ms_);
  } else if (name == "message.timestamp.after.max.ms") {
    timestamp_after_max_ms_ = NumberOr(value, timestamp_after_max_ms_);
  } else if (name == "retention.ms") {
    retention_ms_ = NumberOr(value, retention_ms_);
  } else if (name == "retention.bytes") {
    retention_bytes_ = NumberOr(value, retention_bytes_);
  } else if (name == "compression.type") {
    codec_ = ParseCodec(value);
  } else if (name == "compression.gzip.level") {
    gzip_level_ = static_cast<int>(NumberOr(value, gzip_level_));
  } else if (name == "compression.lz4.level") {
    lz4_level_ = static_cast<int>(NumberOr(value, lz4_level_));
  } else if (name == "compression.zstd.level") {
    zstd_level_ = static_cast<int>(NumberOr(value, zstd_level_));
  }
}

std::optional<int> TopicConfig::compression_level() const {
  if (codec_ == kafka::Codec::kGzip) return gzip_level_;
  if (codec_ == kafka::Codec::kLz4) return lz4_level_;
  if (codec_ == kafka::Codec::kZstd) return zstd_level_;
  return std::nullopt;
}

Result<> TopicConfig::Check() const {
  const auto number = [this](std::string_view name) {
    const auto set = overrides_.find(name);
    return NumberOr(set == overrides_.end() ? FindDefinition(name)->default_value : set->second, 0);
  };
  const int64_t lag_min = number("min.compaction.lag.ms");
  const int64_t lag_max = number("max.compaction.lag.ms");
  if (lag_min <= lag_max) return {};
  return Unexpected(Code::kInvalid, "conflict topic config setting min.compaction.lag.ms (" +
                                        std::to_string(lag_min) + ") > max.compaction.lag.ms (" +
                                        std::to_string(lag_max) + ")");
}

}  // namespace holdfast::broker
