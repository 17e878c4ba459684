#include "broker/topic_config.h"

#include <algorithm>
#include <array>
#include <optional>

#include "broker/config_values.h"

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

constexpr std::string_view kThrottledReplicas = ".replication.throttled.replicas";

// Of which replication is throttled: "0:1,1:1", all, or none.
bool AreReplicas(std::string_view list) {
  const auto number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if (list == "*") return true;
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(item.size() + 1, list.size()));
    const size_t colon = item.find(':');
    if (colon == std::string_view::npos || !number(item.substr(0, colon)) ||
        !number(item.substr(colon + 1))) {
      return false;
    }
  }
  return true;
}

int64_t NumberOr(std::string_view text, int64_t otherwise) {
  return ParseConfigNumber(text).value_or(otherwise);
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

}  // namespace

std::span<const ConfigDefinition> TopicConfigDefinitions() { return kDefinitions; }

Result<TopicConfig> TopicConfig::Altered(std::span<const ConfigChange> changes) const {
  HF_ASSIGN_OR_RETURN(const ConfigValues values, AlteredValues(overrides_, changes, kDefinitions));
  TopicConfig altered = Cleared();
  for (const auto& [name, value] : values) HF_RETURN_IF_ERROR(altered.Set(name, value));
  HF_RETURN_IF_ERROR(altered.Check());
  return altered;
}

TopicConfig TopicConfig::Over(std::shared_ptr<const ConfigValues> defaults) const {
  TopicConfig config;
  config.overrides_ = overrides_;
  config.defaults_ = std::move(defaults);
  if (config.defaults_) {
    for (const auto& [name, value] : *config.defaults_) config.Apply(name, value);
  }
  for (const auto& [name, value] : overrides_) config.Apply(name, value);
  return config;
}

Result<> TopicConfig::Set(std::string_view name, std::string_view value) {
  const ConfigDefinition* found = FindDefinition(kDefinitions, name);
  if (found == nullptr) {
    return Unexpected(Code::kInvalid, "Unknown topic config name: " + QuoteForClient(name));
  }
  HF_ASSIGN_OR_RETURN(std::string normal, NormalValue(*found, value));
  // zlib's 0 stores without compressing; Kafka has "uncompressed" for that.
  if (name == "compression.gzip.level" && normal == "0") {
    return Unexpected(Code::kInvalid,
                      "Invalid value 0 for configuration compression.gzip.level: must be -1, or "
                      "from 1 to 9");
  }
  if (name.ends_with(kThrottledReplicas) && !AreReplicas(normal)) {
    return Unexpected(Code::kInvalid, "Invalid value " + QuoteForClient(value) +
                                          " for configuration " + std::string(name) +
                                          ": must be * or a list of PARTITION:BROKER");
  }
  Apply(name, normal);
  overrides_.insert_or_assign(std::string(name), std::move(normal));
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
  } else if (name == "min.compaction.lag.ms") {
    min_compaction_lag_ms_ = NumberOr(value, min_compaction_lag_ms_);
  } else if (name == "max.compaction.lag.ms") {
    max_compaction_lag_ms_ = NumberOr(value, max_compaction_lag_ms_);
  } else if (name == "min.cleanable.dirty.ratio") {
    min_cleanable_dirty_ratio_ = ParseConfigDouble(value).value_or(min_cleanable_dirty_ratio_);
  } else if (name == "delete.retention.ms") {
    delete_retention_ms_ = NumberOr(value, delete_retention_ms_);
  } else if (name == "segment.ms") {
    segment_ms_ = NumberOr(value, segment_ms_);
  } else if (name == "segment.bytes") {
    segment_bytes_ = NumberOr(value, segment_bytes_);
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
  const int64_t lag_min = min_compaction_lag_ms_;
  const int64_t lag_max = max_compaction_lag_ms_;
  if (lag_min <= lag_max) return {};
  return Unexpected(Code::kInvalid, "conflict topic config setting min.compaction.lag.ms (" +
                                        std::to_string(lag_min) + ") > max.compaction.lag.ms (" +
                                        std::to_string(lag_max) + ")");
}

}  // namespace holdfast::broker
