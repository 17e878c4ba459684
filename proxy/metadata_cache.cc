#include "proxy/metadata_cache.h"

#include <fmt/format.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/event.h"
#include "base/log.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/metadata.h"
#include "kafka/codec.h"

namespace holdfast::proxy {
namespace {

using base::Code;

// Format 1 had no settings of topics.
constexpr uint32_t kFormat = 2;
constexpr uint32_t kOldestFormat = 1;
// The version in which the settings are kept.
constexpr int16_t kKeptSettings = 4;
// The version in which the cluster is kept: the newest without a top-level error.
constexpr int16_t kKeptMetadata = 12;

std::string KeptApiVersions(const kafka::ApiVersionsResponse& response) {
  const base::Buffer frame =
      kafka::EncodeResponse(response, Cluster::kKeptApiVersions, /*correlation_id=*/0);
  return std::string(frame.view().substr(kafka::kLengthPrefixBytes));
}

// But for the epoch of the features, which grows with whatever the tier's controllers write.
bool SaysTheSame(std::string_view kept, kafka::ApiVersionsResponse response) {
  const auto known =
      kafka::DecodeResponse<kafka::ApiVersionsResponse>(kept, Cluster::kKeptApiVersions);
  if (!known) return false;
  response.finalized_features_epoch = known->finalized_features_epoch;
  return KeptApiVersions(response) == kept;
}

Topic FromAnswer(const kafka::MetadataResponse::MetadataResponseTopic& answer,
                 const Topic* previous) {
  Topic topic{.id = answer.topic_id, .internal = answer.is_internal, .at_tier = true};
  // Old versions carry no id, nor whose it is: keep what is known.
  if (topic.id.IsZero() && previous != nullptr) topic.id = previous->id;
  topic.internal |= previous != nullptr && previous->internal;
  topic.leaders.assign(answer.partitions.size(), kNoNode);
  for (const auto& partition : answer.partitions) {
    const auto index = static_cast<size_t>(partition.partition_index);
    if (partition.partition_index < 0 || index >= topic.leaders.size()) continue;
    topic.leaders[index] = partition.leader_id;
    // A partition between two leaders keeps the last one: it is the best guess.
    if (partition.leader_id == kNoNode && previous != nullptr && index < previous->leaders.size())
      topic.leaders[index] = previous->leaders[index];
  }
  return topic;
}

void LearnTopic(Cluster& cluster, const kafka::MetadataResponse::MetadataResponseTopic& answer,
                bool declared, int64_t now_ms) {
  using kafka::ErrorCode;
  if (!answer.name || answer.name->empty()) return;
  const auto found = cluster.topics.find(*answer.name);
  const Topic* previous = found == cluster.topics.end() ? nullptr : found->second.get();
  if (!answer.partitions.empty() && (answer.error_code == ErrorCode::kNone ||
                                     answer.error_code == ErrorCode::kLeaderNotAvailable)) {
    Topic topic = FromAnswer(answer, previous);
    if (previous != nullptr && previous->id == topic.id) topic.settings = previous->settings;
    if (previous != nullptr && *previous == topic) return;
    cluster.topics.insert_or_assign(std::string(*answer.name),
                                    std::make_shared<const Topic>(std::move(topic)));
    return;
  }
  if (answer.error_code != ErrorCode::kUnknownTopicOrPartition || previous == nullptr || declared)
    return;
  if (previous->missing_since_ms == 0) {
    Topic missing = *previous;
    missing.missing_since_ms = now_ms;
    found->second = std::make_shared<const Topic>(std::move(missing));
  } else if (now_ms - previous->missing_since_ms >= MetadataCache::kForgetAfterMs) {
    cluster.topics.erase(found);
  }
}

bool Tells(const kafka::MetadataResponse& response) {
  return response.error_code == kafka::ErrorCode::kNone && !response.brokers.empty();
}

void LearnBrokers(Cluster& cluster, const kafka::MetadataResponse& response) {
  cluster.brokers.clear();
  for (const auto& broker : response.brokers) {
    if (broker.port <= 0 || broker.port > 65535) continue;
    Broker& known = cluster.brokers[broker.node_id];
    known.address = {std::string(broker.host), static_cast<uint16_t>(broker.port)};
    if (broker.rack) known.rack = std::string(*broker.rack);
  }
  if (response.cluster_id) cluster.id = std::string(*response.cluster_id);
  // Without ZooKeeper each answer names any broker: that is no news.
  if (!cluster.brokers.contains(cluster.controller)) cluster.controller = response.controller_id;
}

bool SameTopics(const Cluster::Topics& a, const Cluster::Topics& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, topic] : a) {
    const auto other = b.find(name);
    // Unchanged topics are shared, not copied.
    if (other == b.end() || other->second != topic) return false;
  }
  return true;
}

// One that stands behind its length, taken from the front; none if it is cut off.
std::optional<std::string_view> TakeFrame(std::string_view& bytes) {
  constexpr size_t kLength = kafka::kLengthPrefixBytes;
  if (bytes.size() < kLength) return std::nullopt;
  const size_t size = base::LoadBig<uint32_t>(bytes.data());
  if (size > bytes.size() - kLength) return std::nullopt;
  const std::string_view frame = bytes.substr(kLength, size);
  bytes.remove_prefix(kLength + size);
  return frame;
}

base::Result<> LoadSettings(Cluster& cluster, std::string_view bytes) {
  const std::optional<std::string_view> frame = TakeFrame(bytes);
  if (!frame) return base::Unexpected(Code::kCorrupt, "kept settings of topics are cut off");
  HF_ASSIGN_OR_RETURN(const auto settings,
                      kafka::DecodeResponse<kafka::DescribeConfigsResponse>(*frame, kKeptSettings));
  for (const auto& told : settings.results) {
    const auto found = cluster.topics.find(told.resource_name);
    if (found == cluster.topics.end()) continue;
    Topic topic = *found->second;
    topic.settings = ReadTopicSettings(told);
    found->second = std::make_shared<const Topic>(std::move(topic));
  }
  return {};
}

uint64_t Fnv1a(std::string_view text, uint64_t hash) {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

kafka::Uuid ProvisionalId(std::string_view topic) {
  constexpr uint64_t kOffsetBasis = 0xcbf29ce484222325;
  char bytes[sizeof(kafka::Uuid::bytes)];
  base::StoreBig(bytes, Fnv1a(topic, kOffsetBasis));
  base::StoreBig(bytes + 8, Fnv1a(topic, ~kOffsetBasis));
  kafka::Uuid id;
  std::memcpy(id.bytes.data(), bytes, sizeof(bytes));
  return id;
}

kafka::Uuid TierIdOf(std::string_view name, const Topic& topic) {
  return topic.at_tier && topic.id != ProvisionalId(name) ? topic.id : kafka::Uuid();
}

int32_t Cluster::LeaderOf(std::string_view topic, int32_t partition) const {
  const Topic* found = FindTopic(topic);
  if (found == nullptr || !found->at_tier || partition < 0 ||
      static_cast<size_t>(partition) >= found->leaders.size())
    return kNoNode;
  return found->leaders[static_cast<size_t>(partition)];
}

MetadataCache::MetadataCache(std::map<std::string, int32_t, std::less<>> declared)
    : declared_(std::move(declared)) {
  Cluster empty;
  AddDeclared(empty);
  base::MutexLock lock(mutex_);
  Replace(std::move(empty));
}

void MetadataCache::AddDeclared(Cluster& cluster) const {
  for (const auto& [name, partitions] : declared_) {
    auto& topic = cluster.topics[name];
    if (topic == nullptr) {
      topic = std::make_shared<const Topic>(
          Topic{.id = ProvisionalId(name),
                .leaders = std::vector<int32_t>(static_cast<size_t>(partitions), kNoNode)});
    }
  }
}

ClusterPtr MetadataCache::cluster() const {
  base::MutexLock lock(mutex_);
  return cluster_;
}

int32_t MetadataCache::Declared(std::string_view topic) const {
  const auto found = declared_.find(topic);
  return found == declared_.end() ? 0 : found->second;
}

void MetadataCache::Replace(Cluster next) {
  auto names = std::make_shared<std::unordered_map<kafka::Uuid, std::string>>();
  for (const auto& [name, topic] : next.topics) {
    if (!topic->id.IsZero()) names->emplace(topic->id, name);
  }
  // Clients that learned one go on using it for a while.
  for (const auto& [name, partitions] : declared_) names->emplace(ProvisionalId(name), name);
  next.names = std::move(names);
  cluster_ = std::make_shared<const Cluster>(std::move(next));
  version_.fetch_add(1, std::memory_order_release);
}

void MetadataCache::ReplaceIfChanged(Cluster next) {
  if (next.id == cluster_->id && next.confirmed == cluster_->confirmed &&
      next.controller == cluster_->controller && next.brokers == cluster_->brokers &&
      SameTopics(next.topics, cluster_->topics))
    return;
  Replace(std::move(next));
}

void MetadataCache::LearnTopics(Cluster& cluster, const kafka::MetadataResponse& response,
                                int64_t now_ms) const {
  for (const auto& topic : response.topics) {
    LearnTopic(cluster, topic, topic.name && declared_.contains(*topic.name), now_ms);
  }
}

void MetadataCache::Learn(const kafka::MetadataResponse& response, int64_t now_ms) {
  if (!Tells(response)) return;
  base::MutexLock lock(mutex_);
  LearnWhole(response, now_ms);
}

void MetadataCache::LearnWhole(const kafka::MetadataResponse& response, int64_t now_ms) {
  doubted_ = false;
  Cluster next = *cluster_;
  next.confirmed = true;
  LearnBrokers(next, response);
  LearnTopics(next, response, now_ms);
  if (!cluster_->id.empty() && next.id != cluster_->id) {
    base::Log(base::Event::kClusterChanged, "metadata",
              "the tier's cluster id changed from {} to {}", cluster_->id, next.id);
  }
  ReplaceIfChanged(std::move(next));
}

void MetadataCache::Doubt() {
  base::MutexLock lock(mutex_);
  doubted_ = true;
  Cluster next = *cluster_;
  next.confirmed = false;
  ReplaceIfChanged(std::move(next));
}

bool MetadataCache::LearnPassing(const kafka::MetadataResponse& response, int64_t now_ms,
                                 bool by_list) {
  if (!Tells(response)) return true;
  base::MutexLock lock(mutex_);
  const std::string_view id = response.cluster_id.value_or("");
  if (by_list && !cluster_->confirmed && !id.empty() && (!doubted_ || id == cluster_->id)) {
    LearnWhole(response, now_ms);
    return true;
  }
  const bool same = cluster_->id.empty() || id == cluster_->id;
  if (!same && !cluster_->confirmed) return true;
  if (!same && !id.empty()) {
    other_seen_ = true;
    return false;
  }
  Cluster next = *cluster_;
  // Old versions name neither the cluster nor the racks.
  if (same) LearnBrokers(next, response);
  LearnTopics(next, response, now_ms);
  ReplaceIfChanged(std::move(next));
  return true;
}

void MetadataCache::Learn(const kafka::ApiVersionsResponse& response) {
  base::MutexLock lock(mutex_);
  if (SaysTheSame(cluster_->api_versions, response)) return;
  Cluster next = *cluster_;
  next.api_versions = KeptApiVersions(response);
  Replace(std::move(next));
}

void MetadataCache::LearnSettings(std::string_view topic, const TopicSettings& settings) {
  base::MutexLock lock(mutex_);
  const Topic* known = cluster_->FindTopic(topic);
  if (known == nullptr || known->settings == settings) return;
  Topic changed = *known;
  changed.settings = settings;
  Cluster next = *cluster_;
  next.topics.find(topic)->second = std::make_shared<const Topic>(std::move(changed));
  Replace(std::move(next));
}

void MetadataCache::NoteDenied(std::string_view topic, int64_t now_ms) {
  base::MutexLock lock(mutex_);
  std::erase_if(denied_until_ms_, [&](const auto& denial) { return denial.second <= now_ms; });
  if (denied_until_ms_.size() >= kDenialsMax) return;
  denied_until_ms_.insert_or_assign(std::string(topic), now_ms + kDenialHoldsMs);
  any_denied_.store(true, std::memory_order_relaxed);
}

void MetadataCache::NoteAllowed(std::string_view topic) {
  if (!any_denied_.load(std::memory_order_relaxed)) return;
  base::MutexLock lock(mutex_);
  const auto found = denied_until_ms_.find(topic);
  if (found != denied_until_ms_.end()) denied_until_ms_.erase(found);
  any_denied_.store(!denied_until_ms_.empty(), std::memory_order_relaxed);
}

bool MetadataCache::Denied(std::string_view topic, int64_t now_ms) const {
  if (!any_denied_.load(std::memory_order_relaxed)) return false;
  base::MutexLock lock(mutex_);
  const auto found = denied_until_ms_.find(topic);
  return found != denied_until_ms_.end() && found->second > now_ms;
}

std::string MetadataCache::Serialize() const {
  const ClusterPtr kept = cluster();
  kafka::DescribeConfigsResponse settings;
  kafka::MetadataResponse metadata;
  if (!kept->id.empty()) metadata.cluster_id = kept->id;
  metadata.controller_id = kept->controller;
  for (const auto& [id, broker] : kept->brokers) {
    metadata.brokers.push_back(
        {.node_id = id, .host = broker.address.host, .port = broker.address.port});
    if (broker.rack) metadata.brokers.back().rack = *broker.rack;
  }
  for (const auto& [name, topic] : kept->topics) {
    if (!topic->at_tier) continue;
    auto& kept_topic = metadata.topics.emplace_back();
    kept_topic.name = name;
    kept_topic.topic_id = topic->id;
    kept_topic.is_internal = topic->internal;
    if (topic->settings && topic->settings->from_tier) {
      AddTopicSettings(settings, name, *topic->settings);
    }
    for (size_t i = 0; i < topic->leaders.size(); ++i) {
      kept_topic.partitions.push_back(
          {.partition_index = static_cast<int32_t>(i), .leader_id = topic->leaders[i]});
    }
  }
  const base::Buffer frame = kafka::EncodeResponse(metadata, kKeptMetadata, /*correlation_id=*/0);
  // Format, CRC of the rest; then frames, each behind its length: metadata, versions, settings.
  std::string bytes(8, '\0');
  bytes.append(frame.view());
  char length[4];
  base::StoreBig(length, static_cast<int32_t>(kept->api_versions.size()));
  bytes.append(length, sizeof(length)).append(kept->api_versions);
  bytes.append(kafka::EncodeResponse(settings, kKeptSettings, /*correlation_id=*/0).view());
  base::StoreBig(bytes.data(), kFormat);
  base::StoreBig(bytes.data() + 4, base::Crc32c(std::string_view(bytes).substr(8)));
  return bytes;
}

base::Result<> MetadataCache::Load(std::string_view bytes) {
  auto corrupt = [](std::string_view what) {
    return base::Unexpected(Code::kCorrupt, fmt::format("kept metadata: {}", what));
  };
  if (bytes.size() < 16) return corrupt("too short");
  const auto format = base::LoadBig<uint32_t>(bytes.data());
  if (format < kOldestFormat || format > kFormat) return corrupt("unknown format");
  std::string_view rest = bytes.substr(8);
  if (base::LoadBig<uint32_t>(bytes.data() + 4) != base::Crc32c(rest)) return corrupt("wrong CRC");
  const std::optional<std::string_view> metadata_frame = TakeFrame(rest);
  const std::optional<std::string_view> api_versions = TakeFrame(rest);
  if (!metadata_frame || !api_versions) return corrupt("cut off");
  HF_ASSIGN_OR_RETURN(const auto metadata, kafka::DecodeResponse<kafka::MetadataResponse>(
                                               *metadata_frame, kKeptMetadata));

  Cluster loaded;
  loaded.api_versions = std::string(*api_versions);
  LearnBrokers(loaded, metadata);
  for (const auto& topic : metadata.topics) {
    LearnTopic(loaded, topic, /*declared=*/false, /*now_ms=*/0);
  }
  if (format >= 2) HF_RETURN_IF_ERROR(LoadSettings(loaded, rest));
  AddDeclared(loaded);
  base::MutexLock lock(mutex_);
  Replace(std::move(loaded));
  return {};
}

}  // namespace holdfast::proxy
