#include "broker/internal_topics.h"

namespace holdfast::broker {
namespace {

constexpr int32_t kPartitions = 50;

}  // namespace

bool IsInternalTopic(std::string_view name) {
  return name == kOffsetsTopic || name == kTransactionsTopic;
}

NewTopic MakeInternalTopic(std::string_view name) {
  HF_CHECK(IsInternalTopic(name));
  NewTopic topic{std::string(name), MakeUuid(), kPartitions, {}};
  const auto set = [&](std::string_view key, std::string_view value) {
    HF_CHECK(topic.config.Set(key, value).has_value());
  };
  set("cleanup.policy", "compact");
  set("segment.bytes", "104857600");
  if (name == kOffsetsTopic) {
    set("compression.type", "producer");
  } else {
    set("compression.type", "uncompressed");
    set("min.insync.replicas", "1");
    set("unclean.leader.election.enable", "false");
  }
  return topic;
}

}  // namespace holdfast::broker
