#include "proxy/upstream.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/event.h"
#include "base/log.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/metadata.h"
#include "proxy/api_versions.h"
#include "proxy/backoff.h"

namespace holdfast::proxy {
namespace {

using base::LogLevel;
using kafka::ErrorCode;

constexpr base::Duration kRefreshGap = std::chrono::milliseconds(100);
// While topics are missing or leaders unknown.
constexpr base::Duration kRetryRefresh = std::chrono::milliseconds(500);
constexpr int32_t kBootstrapNode = -2;
constexpr int32_t kCreateTimeoutMs = 10'000;
// In one line of the log.
constexpr size_t kTopicsNamed = 5;
// Metadata tells what its asker may do since then, in bits by Kafka's codes of operations.
constexpr int16_t kRightsSince = 8;
constexpr int32_t kMayWrite = 1 << 4;
constexpr int32_t kMayDescribe = 1 << 8;

}  // namespace

Upstream::Upstream(Link::Context context, Options options, MetadataCache& cache)
    : context_(context),
      options_(std::move(options)),
      cache_(cache),
      bootstrap_troubles_(options_.bootstrap.size()),
      settings_(context.loop, *this, cache, options_.metadata_refresh),
      self_(std::make_shared<Upstream*>(this)) {
  HF_CHECK(!options_.bootstrap.empty());
  Bootstrap();
  first_contact_timer_ = context_.loop.After(kFirstContact, [this] { NoteAway(); });
}

Upstream::~Upstream() { *self_ = nullptr; }

Link* Upstream::FindReady(int32_t node) {
  if (node == kAnyNode) {
    for (auto& [id, link] : links_) {
      if (link->ready()) return link.get();
    }
    return bootstrap_ && bootstrap_->ready() ? bootstrap_.get() : nullptr;
  }
  const auto found = links_.find(node);
  return found != links_.end() && found->second->ready() ? found->second.get() : nullptr;
}

bool Upstream::Ready(int32_t node) {
  if (FindReady(node) != nullptr) return true;
  if (node < 0 || links_.contains(node)) return false;
  const ClusterPtr cluster = cache_.cluster();
  const auto broker = cluster->brokers.find(node);
  // Addresses of the last run are not trusted before the bootstrap list has spoken.
  if (broker == cluster->brokers.end() || !cluster->confirmed) return false;
  Link::Callbacks callbacks{.on_ready = [this, node] { OnLinkReady(node); },
                            .on_versions = [this] { LearnVersions(); },
                            .on_lost = [this, node] { OnLinkLost(node); }};
  links_[node] =
      std::make_unique<Link>(context_, options_.link, broker->second.address, std::move(callbacks));
  return false;
}

std::optional<int16_t> Upstream::Version(int32_t node, const kafka::Api& api, int16_t cap) {
  Link* link = FindReady(node);
  if (link == nullptr) return std::nullopt;
  return kafka::PickVersion(api, link->versions(), cap);
}

void Upstream::Send(int32_t node, base::Buffer frame, OnAnswer on_answer) {
  Link* link = FindReady(node);
  HF_CHECK(link != nullptr);
  link->Send(std::move(frame), std::move(on_answer));
}

std::vector<Upstream::Peer> Upstream::Peers() const {
  std::vector<Peer> peers;
  for (const auto& [node, link] : links_)
    peers.push_back({node, link->peer(), link->ready(), link->trouble()});
  if (!bootstrap_ && !bootstrap_planned_) return peers;
  for (size_t i = 0; i < options_.bootstrap.size(); ++i) {
    const bool ready = bootstrap_ && bootstrap_->ready() && i == BootstrapIndex();
    peers.push_back({kAnyNode, options_.bootstrap[i], ready, ready ? "" : bootstrap_troubles_[i]});
  }
  return peers;
}

size_t Upstream::BootstrapIndex() const {
  return (next_bootstrap_ - 1) % options_.bootstrap.size();
}

void Upstream::Bootstrap() {
  if (bootstrap_) return;
  const net::HostPort& peer = options_.bootstrap[next_bootstrap_++ % options_.bootstrap.size()];
  Link::Callbacks callbacks{.on_ready = [this] { OnLinkReady(kBootstrapNode); },
                            .on_versions = [this] { LearnVersions(); },
                            .on_lost = [this] { OnLinkLost(kBootstrapNode); }};
  bootstrap_ = std::make_unique<Link>(context_, options_.link, peer, std::move(callbacks));
}

// Each address is tried as often as a link would try it alone.
void Upstream::PlanBootstrap() {
  const auto round = bootstrap_attempts_++ / static_cast<uint32_t>(options_.bootstrap.size());
  const base::Duration wait =
      Backoff(options_.link.backoff_min, options_.link.backoff_max, round, context_.random);
  bootstrap_planned_ = true;
  bootstrap_timer_ = context_.loop.After(wait, [this] {
    bootstrap_planned_ = false;
    Bootstrap();
  });
}

void Upstream::OnLinkReady(int32_t node) {
  cache_.SetTierAway(false);
  context_.metrics.upstream_connected.Set(1);
  LearnVersions();
  bootstrap_attempts_ = 0;
  if (node == kBootstrapNode) {
    AskMetadata();
    return;
  }
  if (std::exchange(bootstrap_planned_, false)) {
    // It would have asked first. Each answer plans the next question, and none is on its way now.
    bootstrap_timer_.Cancel();
    PlanRefresh(kRefreshGap);
  }
  // Not needed any more, but an answer may be on its way.
  if (bootstrap_ && !asking_) {
    Retire(std::move(bootstrap_));
    PlanRefresh(last_asked_ == base::TimePoint() ? kRefreshGap : options_.metadata_refresh);
  }
  // One that was let go may have been due to ask.
  if (!asking_ && refresh_due_ == base::TimePoint::max()) PlanRefresh(kRefreshGap);
  if (observer_ != nullptr) observer_->OnNodeReady(node);
}

// Behind each of our ports is another broker, and in the middle of an upgrade they differ.
void Upstream::LearnVersions() {
  std::vector<const kafka::ApiVersionsResponse*> known;
  if (bootstrap_ && bootstrap_->ready()) known.push_back(&bootstrap_->versions());
  for (const auto& [node, link] : links_) {
    if (!link->versions().api_keys.empty()) known.push_back(&link->versions());
  }
  if (!known.empty()) cache_.Learn(CommonApiVersions(known));
}

void Upstream::OnLinkLost(int32_t node) {
  if (node == kBootstrapNode) {
    bootstrap_troubles_[BootstrapIndex()] = bootstrap_->trouble();
    if (others_to_ask_ > 0) --others_to_ask_;
    // The next attempt goes to the next address.
    if (options_.bootstrap.size() > 1) {
      Retire(std::move(bootstrap_));
      PlanBootstrap();
    }
    NoteAway();
    return;
  }
  if (observer_ != nullptr) observer_->OnNodeLost(node);
  NoteAway();
  PlanRefresh(kRefreshGap);
}

void Upstream::NoteAway() {
  if (FindReady(kAnyNode) != nullptr) return;
  cache_.SetTierAway(true);
  context_.metrics.upstream_connected.Set(0);
  if (!bootstrap_ && !bootstrap_planned_) Bootstrap();
}

void Upstream::RefreshMetadata(std::string_view topic) {
  if (!topic.empty()) {
    const base::TimePoint now = context_.loop.Now();
    if (const auto known = wanted_.find(topic); known != wanted_.end()) {
      known->second.named = now;
    } else {
      wanted_.emplace(topic, Wanted{now});
      // It may be made at once, though others are not.
      if (cache_.cluster()->FindTopic(topic) == nullptr) wanted_wait_ = {};
    }
  }
  PlanRefresh(kRefreshGap);
}

void Upstream::RequestRefresh(std::string topic) {
  context_.loop.Post([self = std::weak_ptr<Upstream*>(self_), topic = std::move(topic)] {
    const auto alive = self.lock();
    if (!alive || *alive == nullptr) return;
    Upstream& upstream = **alive;
    if (!topic.empty() && upstream.looked_for_.size() < kLookedForMax) {
      upstream.looked_for_.insert(topic);
    }
    upstream.PlanRefresh(kRefreshGap);
  });
}

void Upstream::RequestSettings(std::string topic) {
  context_.loop.Post([self = std::weak_ptr<Upstream*>(self_), topic = std::move(topic)]() mutable {
    const auto alive = self.lock();
    if (alive && *alive != nullptr) (*alive)->settings_.Want(std::move(topic));
  });
}

void Upstream::PlanRefresh(base::Duration delay) {
  const base::TimePoint now = context_.loop.Now();
  const base::TimePoint due = std::max(now + delay, last_asked_ + kRefreshGap);
  // Also one that is due and has not run yet, in the turn in which an answer came.
  if (refresh_due_ <= due) return;
  refresh_due_ = due;
  refresh_timer_ = context_.loop.After(due - now, [this] {
    refresh_due_ = base::TimePoint::max();
    AskMetadata();
  });
}

// A link may not be destroyed from inside its own callbacks.
void Upstream::Retire(std::unique_ptr<Link> link) {
  link->Abandon();
  context_.loop.Post([link = std::move(link)] {});
}

void Upstream::AskMetadata() {
  if (asking_) {
    ask_again_ = true;
    return;
  }
  // A lost link asks again once it, or another one, is ready.
  if (FindReady(kAnyNode) == nullptr) return;
  if (cache_.TakeOtherSeen() && !links_.empty() && context_.loop.Now() >= list_again_) {
    list_again_ = context_.loop.Now() + options_.metadata_refresh;
    return AskTheList("a client was answered by a broker of another cluster");
  }
  asking_ = true;
  last_asked_ = context_.loop.Now();
  kafka::MetadataRequest request{.allow_auto_topic_creation = false};
  request.include_topic_authorized_operations =
      Version(kAnyNode, kafka::MetadataRequest::kApi, kafka::kNever).value_or(0) >= kRightsSince;
  const ClusterPtr cluster = cache_.cluster();
  auto& topics = request.topics.emplace();
  for (const auto& [name, topic] : cluster->topics) topics.push_back({.name = name});
  std::set<std::string, std::less<>> unknown = std::exchange(looked_for_, {});
  for (auto& [name, wanted] : wanted_) {
    unknown.insert(name);
    wanted.asked = true;
  }
  for (const std::string& name : unknown) {
    if (!cluster->topics.contains(name)) topics.push_back({.name = name});
  }
  const bool by_list = FindReady(kAnyNode) == bootstrap_.get();
  Call(kAnyNode, request, [this, by_list](base::Result<kafka::MetadataResponse> response) {
    asking_ = false;
    if (!response) {
      base::Log(base::Event::kNoMetadata, "upstream", "no metadata: {}", response.error().message);
      PlanRefresh(kRetryRefresh);
      return;
    }
    if (!by_list && IsOther(*response)) {
      return AskTheList("a broker of another cluster is at an address of the tier's");
    }
    if (others_to_ask_ > 0 && IsOther(*response)) {
      --others_to_ask_;
      Retire(std::move(bootstrap_));
      return PlanBootstrap();
    }
    others_to_ask_ = 0;
    OnMetadata(*response);
  });
}

// Where a broker was, a broker of another cluster may be by now: only the addresses that are set
// say which cluster is the tier, and it is another one only if none of those that answer disagrees.
void Upstream::AskTheList(std::string_view why) {
  base::Log(base::LogLevel::kInfo, "upstream", "{}; asking the addresses that are set", why);
  others_to_ask_ = options_.bootstrap.size() - 1;
  cache_.Doubt();
  KeepLinksInStep(/*other_cluster=*/true);
  NoteAway();
  PlanRefresh(kRefreshGap);
}

bool Upstream::IsOther(const kafka::MetadataResponse& response) const {
  const ClusterPtr known = cache_.cluster();
  const std::string_view id = response.cluster_id.value_or("");
  return !known->id.empty() && !id.empty() && id != known->id;
}

void Upstream::OnMetadata(const kafka::MetadataResponse& response) {
  const bool other_cluster = IsOther(response);
  cache_.Learn(response, context_.loop.WallClockMs());
  NoteRights(response);
  KeepLinksInStep(other_cluster);
  for (const auto& [node, link] : links_) link->AskVersionsAgain(options_.metadata_refresh);
  settings_.OnTierReady();
  PlanRefresh(std::exchange(ask_again_, false) ? kRefreshGap : options_.metadata_refresh);
  MakeMissingTopics(response);
  if (observer_ != nullptr) observer_->OnMetadata();
}

// Of this agent, which is who produces to the tier.
void Upstream::NoteRights(const kafka::MetadataResponse& response) {
  for (const auto& topic : response.topics) {
    if (!topic.name) continue;
    const int32_t rights = topic.topic_authorized_operations;
    // A tier that tells of rights tells that of describing the topic, too.
    const bool told = rights != std::numeric_limits<int32_t>::min() && (rights & kMayDescribe) != 0;
    if (topic.error_code == ErrorCode::kTopicAuthorizationFailed ||
        (told && (rights & kMayWrite) == 0)) {
      cache_.NoteDenied(*topic.name, context_.loop.WallClockMs());
    } else if (told) {
      cache_.NoteAllowed(*topic.name);
    }
  }
}

// Follows brokers to new addresses, lets go of those that are gone, and keeps at least one link.
void Upstream::KeepLinksInStep(bool other_cluster) {
  const ClusterPtr cluster = cache_.cluster();
  for (auto link = links_.begin(); link != links_.end();) {
    const auto broker = cluster->brokers.find(link->first);
    // Metadata may lack a broker for a moment.
    const bool keep = broker == cluster->brokers.end()
                          ? link->second->ready()
                          : broker->second.address == link->second->peer();
    if (keep && !other_cluster) {
      ++link;
      continue;
    }
    const int32_t node = link->first;
    std::unique_ptr<Link> left = std::move(link->second);
    link = links_.erase(link);
    const bool was_ready = left->ready();
    Retire(std::move(left));  // Who hears of it may ask for the node anew.
    if (was_ready && observer_ != nullptr) observer_->OnNodeLost(node);
  }
  LearnVersions();
  if (links_.empty() && !cluster->brokers.empty()) {
    static_cast<void>(Ready(cluster->brokers.begin()->first));
  }
}

void Upstream::MakeMissingTopics(const kafka::MetadataResponse& response) {
  std::vector<std::string> declared;
  std::vector<std::string> wanted;
  bool unsettled = false;
  for (const auto& topic : response.topics) {
    if (!topic.name) continue;
    unsettled |= topic.error_code == ErrorCode::kLeaderNotAvailable;
    // There, so that it is not made again when somebody deletes it.
    if (topic.error_code == ErrorCode::kNone) {
      if (const auto found = wanted_.find(*topic.name); found != wanted_.end()) {
        wanted_.erase(found);
      }
    }
    if (topic.error_code != ErrorCode::kUnknownTopicOrPartition) continue;
    if (cache_.Declared(*topic.name) > 0) {
      declared.emplace_back(*topic.name);
    } else if (wanted_.contains(*topic.name)) {
      wanted.emplace_back(*topic.name);
    }
  }
  if (declared.empty()) create_wait_ = {};
  if (wanted.empty()) wanted_wait_ = {};
  const base::TimePoint now = context_.loop.Now();
  if (!declared.empty() && create_wait_ != base::Duration() && now < create_again_) {
    PlanRefresh(create_again_ - now);
    declared.clear();
  }
  if (!declared.empty()) CreateDeclared(declared, response.controller_id);
  if (!wanted.empty()) {
    if (wanted_wait_ == base::Duration() || now >= wanted_again_) {
      LetTierCreate(wanted);
      wanted_wait_ = NextWait(wanted_wait_);
      wanted_again_ = now + wanted_wait_;
    }
    PlanRefresh(wanted_again_ - now);
  }
  // Not before it was asked for.
  std::erase_if(wanted_, [oldest = now - 2 * options_.metadata_refresh](const auto& known) {
    return known.second.asked && known.second.named < oldest;
  });
  if (unsettled || !declared.empty()) PlanRefresh(kRetryRefresh);
}

void Upstream::CreateDeclared(const std::vector<std::string>& topics, int32_t controller) {
  const int32_t node = only_controller_creates_ && controller >= 0 ? controller : kAnyNode;
  if (!Ready(node)) return;  // They are asked for again.
  const std::optional<int16_t> version =
      Version(node, kafka::CreateTopicsRequest::kApi, kafka::kNever);
  // Older brokers want a number: one replica is what a single broker can have.
  const int16_t replicas = version && *version >= 4 ? -1 : 1;
  kafka::CreateTopicsRequest request{.timeout_ms = kCreateTimeoutMs};
  for (const std::string& name : topics) {
    request.topics.push_back(
        {.name = name, .num_partitions = cache_.Declared(name), .replication_factor = replicas});
  }
  Call(node, request, [this](base::Result<kafka::CreateTopicsResponse> response) {
    if (response) return OnCreated(*response);
    // The first connection is let go once it has told of the brokers.
    if (response.error().code == base::Code::kClosed) return;
    base::Log(base::Event::kTopicsNotCreated, "upstream", "topics not created: {}",
              response.error().message);
  });
}

void Upstream::OnCreated(const kafka::CreateTopicsResponse& response) {
  std::vector<std::string_view> created;
  bool refused = false;
  bool elsewhere = false;
  for (const auto& topic : response.topics) {
    if (topic.error_code == ErrorCode::kNone) {
      created.push_back(topic.name);
    } else if (topic.error_code == ErrorCode::kNotController) {
      elsewhere = true;
    } else if (topic.error_code != ErrorCode::kTopicAlreadyExists) {
      refused = true;
      base::Log(base::Event::kTopicRefused, {"upstream", topic.name},
                "the tier refuses to create the topic: {} {}", kafka::ErrorName(topic.error_code),
                topic.error_message.value_or(""));
    }
  }
  // A tier with ZooKeeper. Whom the next answer names is asked then.
  refused |= elsewhere && std::exchange(only_controller_creates_, true);
  if (refused) {
    create_wait_ = NextWait(create_wait_);
    create_again_ = context_.loop.Now() + create_wait_;
  }
  if (created.empty()) return;
  const size_t named = std::min(created.size(), kTopicsNamed);
  base::Log(LogLevel::kInfo, "upstream", "created {} topics at the tier: {}{}", created.size(),
            fmt::join(created.begin(), created.begin() + static_cast<ptrdiff_t>(named), ", "),
            named < created.size() ? ", ..." : "");
}

base::Duration Upstream::NextWait(base::Duration last) const {
  return std::clamp(2 * last, kRetryRefresh, std::max(options_.metadata_refresh, kRetryRefresh));
}

// Whether it does is the tier's own setting.
void Upstream::LetTierCreate(const std::vector<std::string>& topics) {
  if (FindReady(kAnyNode) == nullptr) return;
  kafka::MetadataRequest request{.allow_auto_topic_creation = true};
  auto& named = request.topics.emplace();
  for (const std::string& name : topics) named.push_back({.name = name});
  Call(kAnyNode, request, [](const base::Result<kafka::MetadataResponse>&) {});
}

}  // namespace holdfast::proxy
