// What is known of the tier: brokers, topics, leaders and the versions it speaks. Learned from the
// answers that pass through and from the upstream client's own questions, kept by the agent over
// restarts, and enough to serve local producers while the tier is away.
//
//   MetadataCache cache({{"orders", 12}});
//   cache.Learn(response, now_ms);
//   const ClusterPtr cluster = cache.cluster();
//   const Topic* topic = cluster->FindTopic("orders");
//
// What is kept from an earlier run may be of another cluster, if settings or the network lead
// elsewhere now. So the upstream client, which begins with the addresses that are set, alone
// decides which cluster it is.
//
// Ownership: a cluster is immutable and lives as long as somebody holds it.
// Threads: any. Learn replaces the cluster, and only if something changed.
// Limits: as many topics as clients asked for and the tier confirmed. One that the tier denies for
//   kForgetAfterMs is forgotten, unless it is declared.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "kafka/message.h"
#include "net/address.h"
#include "proxy/topic_settings.h"

namespace holdfast::kafka {
struct ApiVersionsResponse;
struct MetadataResponse;
}  // namespace holdfast::kafka

namespace holdfast::proxy {

inline constexpr int32_t kNoNode = -1;

struct Broker {
  net::HostPort address;
  std::optional<std::string> rack;

  bool operator==(const Broker&) const = default;
};

struct Topic {
  kafka::Uuid id;  // Perhaps provisional, if TierIdOf is zero.
  bool internal = false;
  bool at_tier = false;          // False: known from the configuration only.
  std::vector<int32_t> leaders;  // Of each partition the last known, or kNoNode.
  int64_t missing_since_ms = 0;  // The tier denies it since then; 0 if it does not.
  // Once the tier was asked for them, for a client that produces to the topic. Of this id only.
  std::optional<TopicSettings> settings;

  bool operator==(const Topic&) const = default;
};

struct Cluster {
  struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Topics =
      std::unordered_map<std::string, std::shared_ptr<const Topic>, TextHash, std::equal_to<>>;

  std::string id;  // Empty if the tier was never seen.
  // The upstream client has heard of it in this run, from an address that is set, so that the
  // brokers' addresses can be taken.
  bool confirmed = false;
  int32_t controller = kNoNode;  // Not followed as long as it is one of the brokers.
  std::map<int32_t, Broker> brokers;
  Topics topics;
  // The names of topics by their ids, the provisional ones (ProvisionalId) included.
  std::shared_ptr<const std::unordered_map<kafka::Uuid, std::string>> names;
  // The tier's last ApiVersions answer, a frame without length in version kKeptApiVersions; empty
  // if there was none.
  static constexpr int16_t kKeptApiVersions = 4;
  std::string api_versions;

  [[nodiscard]] const Topic* FindTopic(std::string_view name) const {
    const auto found = topics.find(name);
    return found == topics.end() ? nullptr : found->second.get();
  }
  // Empty if no topic has that id.
  [[nodiscard]] std::string_view NameOf(const kafka::Uuid& topic_id) const {
    if (names == nullptr) return {};
    const auto found = names->find(topic_id);
    return found == names->end() ? std::string_view() : found->second;
  }
  [[nodiscard]] int32_t LeaderOf(std::string_view topic, int32_t partition) const;
};
using ClusterPtr = std::shared_ptr<const Cluster>;

// The id under which a declared topic is shown until the tier has made it and given it one of its
// own, since newer clients produce by id. Follows from the name, so that it never changes.
kafka::Uuid ProvisionalId(std::string_view topic);
// The id that the tier gave the topic. Zero if it has not said it: the topic is not there, or was
// only asked for in versions of Metadata that have none.
kafka::Uuid TierIdOf(std::string_view name, const Topic& topic);

class MetadataCache {
 public:
  static constexpr int64_t kForgetAfterMs = 60'000;
  // A denial holds for so long if nothing is heard of it again: longer than metadata is asked for
  // anew by default.
  static constexpr int64_t kDenialHoldsMs = 120'000;
  static constexpr size_t kDenialsMax = 10'000;

  // Topic names with their numbers of partitions. The tier's own number counts once it is known.
  explicit MetadataCache(std::map<std::string, int32_t, std::less<>> declared);

  [[nodiscard]] ClusterPtr cluster() const;
  // Rises with each change; `cluster` of a reader that keeps both is up to date while it is equal.
  [[nodiscard]] uint64_t version() const { return version_.load(std::memory_order_acquire); }
  // Declared partitions, or 0.
  [[nodiscard]] int32_t Declared(std::string_view topic) const;
  [[nodiscard]] const std::map<std::string, int32_t, std::less<>>& declared() const {
    return declared_;
  }

  // What the upstream client was told.
  void Learn(const kafka::MetadataResponse& response, int64_t now_ms);
  // Addresses of brokers are not to be taken until they are heard of anew: from the upstream
  // client or, if it is the same cluster, from a client of the agent.
  void Doubt();
  // What a client of the agent was told. False if it is of another cluster than the confirmed one,
  // of which nothing is learned. `by_list`: a broker told it at an address that is set, which
  // confirms the cluster as well as what the upstream client hears there.
  [[nodiscard]] bool LearnPassing(const kafka::MetadataResponse& response, int64_t now_ms,
                                  bool by_list);
  // Whether LearnPassing has said false since.
  [[nodiscard]] bool TakeOtherSeen() { return other_seen_.exchange(false); }
  void Learn(const kafka::ApiVersionsResponse& response);

  // Of a topic that is known; others are ignored.
  void LearnSettings(std::string_view topic, const TopicSettings& settings);

  // The tier does not let this agent write to the topic, or does again. Not kept over restarts.
  void NoteDenied(std::string_view topic, int64_t now_ms);
  void NoteAllowed(std::string_view topic);
  [[nodiscard]] bool Denied(std::string_view topic, int64_t now_ms) const;

  // Set by the upstream client: whether the tier answers. Unknown counts as yes.
  void SetTierAway(bool away) {
    if (away == tier_away()) return;
    absence_.store(away ? ++absences_ : 0, std::memory_order_relaxed);
  }
  [[nodiscard]] bool tier_away() const { return absence() != 0; }
  // Its number while it lasts; 0: the tier is there.
  [[nodiscard]] uint64_t absence() const { return absence_.load(std::memory_order_relaxed); }

  // All but what is declared only; bytes with a version and a CRC.
  [[nodiscard]] std::string Serialize() const;
  base::Result<> Load(std::string_view bytes);

 private:
  void Replace(Cluster next) HF_REQUIRES(mutex_);
  void ReplaceIfChanged(Cluster next) HF_REQUIRES(mutex_);
  void LearnWhole(const kafka::MetadataResponse& response, int64_t now_ms) HF_REQUIRES(mutex_);
  void LearnTopics(Cluster& cluster, const kafka::MetadataResponse& response, int64_t now_ms) const;
  void AddDeclared(Cluster& cluster) const;

  const std::map<std::string, int32_t, std::less<>> declared_;
  std::atomic<uint64_t> version_{0};  // 1 once made.
  std::atomic<uint64_t> absence_{0};
  uint64_t absences_ = 0;
  std::atomic<bool> other_seen_{false};

  mutable base::Mutex mutex_;
  ClusterPtr cluster_ HF_GUARDED_BY(mutex_);
  bool doubted_ HF_GUARDED_BY(mutex_) = false;
  std::map<std::string, int64_t, std::less<>> denied_until_ms_ HF_GUARDED_BY(mutex_);
  std::atomic<bool> any_denied_{false};  // Spares the lock where nothing is denied.
};

}  // namespace holdfast::proxy
