#include "broker/assignors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace holdfast::broker {
namespace {

constexpr std::array kAssignors{Assignor{"uniform", AssignUniform}, Assignor{"range", AssignRange}};

bool Subscribes(const Subscriber& subscriber, const kafka::Uuid& topic) {
  return std::ranges::binary_search(subscriber.topics, topic);
}

bool EqualSubscriptions(std::span<const Subscriber> subscribers) {
  return std::ranges::all_of(subscribers, [&](const Subscriber& subscriber) {
    return subscriber.topics == subscribers.front().topics;
  });
}

// What each may keep of what it has. A partition that two claim stays with the first.
std::vector<Assignment> KeepSubscribed(std::span<const Subscriber> subscribers,
                                       const PartitionCounts& counts,
                                       std::unordered_set<TopicPartition>* kept) {
  std::vector<Assignment> assignments(subscribers.size());
  for (size_t i = 0; i < subscribers.size(); ++i) {
    for (const TopicPartition& partition : *subscribers[i].current) {
      if (!Subscribes(subscribers[i], partition.topic)) continue;
      if (partition.partition >= counts.at(partition.topic)) continue;
      if (kept->insert(partition).second) assignments[i].push_back(partition);
    }
  }
  return assignments;
}

// All members subscribe to the same topics: each gets the same number of partitions, or one more.
std::vector<Assignment> AssignEqual(std::span<const Subscriber> subscribers,
                                    const PartitionCounts& counts) {
  std::unordered_set<TopicPartition> kept;
  std::vector<Assignment> assignments = KeepSubscribed(subscribers, counts, &kept);
  std::vector<TopicPartition> free;
  size_t total = 0;
  for (const kafka::Uuid& topic : subscribers.front().topics) {
    const int32_t count = counts.at(topic);
    total += static_cast<size_t>(count);
    for (int32_t index = 0; index < count; ++index) {
      if (!kept.contains({topic, index})) free.push_back({topic, index});
    }
  }
  const size_t quota = total / subscribers.size();
  size_t extras = total % subscribers.size();
  // One more goes to who has it already, as far as there are any.
  std::vector<size_t> quotas(subscribers.size(), quota);
  for (const bool have : {true, false}) {
    for (size_t i = 0; i < subscribers.size() && extras > 0; ++i) {
      if ((assignments[i].size() > quota) != have) continue;
      ++quotas[i];
      --extras;
    }
  }
  for (size_t i = 0; i < subscribers.size(); ++i) {
    Assignment& assignment = assignments[i];
    if (assignment.size() <= quotas[i]) continue;
    free.insert(free.end(), assignment.begin() + static_cast<ptrdiff_t>(quotas[i]),
                assignment.end());
    assignment.resize(quotas[i]);
  }
  auto next = free.begin();
  for (size_t i = 0; i < subscribers.size(); ++i) {
    const auto room = static_cast<ptrdiff_t>(quotas[i] - assignments[i].size());
    assignments[i].insert(assignments[i].end(), next, next + room);
    next += room;
  }
  return assignments;
}

// Subscriptions differ. Free partitions go to the least loaded of those who subscribe to them;
// then, topic by topic, partitions move from the most to the least loaded, until that changes
// nothing any more. As Kafka does it, the rounds are limited: what is left then is nearly balanced.
class UnequalAssignment {
 public:
  UnequalAssignment(std::span<const Subscriber> subscribers, const PartitionCounts& counts)
      : subscribers_(subscribers), counts_(counts), loads_(subscribers.size()) {}

  std::vector<Assignment> Build() {
    Index();
    for (const size_t topic : order_) AssignFree(topics_[topic]);
    constexpr int kRoundsMax = 16;
    for (int round = 0; round < kRoundsMax; ++round) {
      bool moved = false;
      for (const size_t topic : order_) moved = Balance(topics_[topic]) || moved;
      if (!moved) break;
    }
    std::vector<Assignment> assignments(subscribers_.size());
    for (const TopicOwners& topic : topics_) {
      for (size_t index = 0; index < topic.owners.size(); ++index) {
        assignments[topic.owners[index]].push_back({topic.id, static_cast<int32_t>(index)});
      }
    }
    return assignments;
  }

 private:
  static constexpr size_t kNobody = std::numeric_limits<size_t>::max();

  struct TopicOwners {
    kafka::Uuid id;
    std::vector<size_t> subscribers;
    std::vector<size_t> owners;  // By partition.
  };
  // Ordered by load: the first has least.
  using Queue = std::set<std::pair<size_t, size_t>>;

  void Index() {
    std::map<kafka::Uuid, size_t> places;
    for (size_t i = 0; i < subscribers_.size(); ++i) {
      for (const kafka::Uuid& topic : subscribers_[i].topics) {
        const auto [at, added] = places.emplace(topic, topics_.size());
        if (added) {
          topics_.push_back({topic, {}, std::vector<size_t>(counts_.at(topic), kNobody)});
        }
        topics_[at->second].subscribers.push_back(i);
      }
    }
    std::unordered_set<TopicPartition> kept;
    const std::vector<Assignment> keep = KeepSubscribed(subscribers_, counts_, &kept);
    for (size_t i = 0; i < keep.size(); ++i) {
      loads_[i] = keep[i].size();
      for (const TopicPartition& partition : keep[i]) {
        topics_[places.at(partition.topic)].owners[partition.partition] = i;
      }
    }
    // First those with most partitions for each subscriber, then those with few to choose from.
    order_.resize(topics_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::sort(order_, [this](size_t a, size_t b) {
      const TopicOwners& x = topics_[a];
      const TopicOwners& y = topics_[b];
      const size_t share_x = x.owners.size() * y.subscribers.size();
      const size_t share_y = y.owners.size() * x.subscribers.size();
      if (share_x != share_y) return share_x > share_y;
      if (x.subscribers.size() != y.subscribers.size()) {
        return x.subscribers.size() < y.subscribers.size();
      }
      return x.id < y.id;
    });
  }

  [[nodiscard]] Queue ByLoad(const TopicOwners& topic) const {
    Queue queue;
    for (const size_t i : topic.subscribers) queue.emplace(loads_[i], i);
    return queue;
  }

  void AssignFree(TopicOwners& topic) {
    if (std::ranges::find(topic.owners, kNobody) == topic.owners.end()) return;
    Queue queue = ByLoad(topic);
    for (size_t& owner : topic.owners) {
      if (owner != kNobody) continue;
      owner = queue.begin()->second;
      queue.erase(queue.begin());
      queue.emplace(++loads_[owner], owner);
    }
  }

  bool Balance(TopicOwners& topic) {
    std::unordered_map<size_t, std::vector<size_t>> owned;
    for (size_t index = 0; index < topic.owners.size(); ++index) {
      owned[topic.owners[index]].push_back(index);
    }
    Queue takers = ByLoad(topic);
    Queue givers;
    for (const auto& [member, partitions] : owned) givers.emplace(loads_[member], member);
    bool moved = false;
    while (!givers.empty()) {
      const auto [most, from] = *givers.rbegin();
      const auto [least, to] = *takers.begin();
      if (most < least + 2) break;
      const size_t index = owned[from].back();
      owned[from].pop_back();
      topic.owners[index] = to;
      moved = true;
      takers.erase({most, from});
      takers.erase({least, to});
      givers.erase({most, from});
      givers.erase({least, to});
      takers.emplace(--loads_[from], from);
      takers.emplace(++loads_[to], to);
      if (!owned[from].empty()) givers.emplace(loads_[from], from);
      // Who takes has least, and gives nothing away again.
    }
    return moved;
  }

  std::span<const Subscriber> subscribers_;
  const PartitionCounts& counts_;
  std::vector<size_t> loads_;
  std::vector<TopicOwners> topics_;
  std::vector<size_t> order_;
};

}  // namespace

std::vector<Assignment> AssignUniform(std::span<const Subscriber> subscribers,
                                      const PartitionCounts& counts) {
  if (subscribers.empty()) return {};
  std::vector<Assignment> assignments = EqualSubscriptions(subscribers)
                                            ? AssignEqual(subscribers, counts)
                                            : UnequalAssignment(subscribers, counts).Build();
  for (Assignment& assignment : assignments) std::ranges::sort(assignment, std::less<>());
  return assignments;
}

std::vector<Assignment> AssignRange(std::span<const Subscriber> subscribers,
                                    const PartitionCounts& counts) {
  // Static members first, by their instance, so that each has the same place after a restart.
  std::vector<size_t> order(subscribers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    const Subscriber& x = subscribers[a];
    const Subscriber& y = subscribers[b];
    if (x.instance_id.has_value() != y.instance_id.has_value()) return x.instance_id.has_value();
    if (x.instance_id && *x.instance_id != *y.instance_id) return *x.instance_id < *y.instance_id;
    return x.member_id < y.member_id;
  });
  struct Share {
    int32_t members = 0;
    int32_t given = 0;  // Members that have theirs.
    int32_t next = 0;   // The first partition that is not given yet.
  };
  std::map<kafka::Uuid, Share> shares;
  for (const Subscriber& subscriber : subscribers) {
    for (const kafka::Uuid& topic : subscriber.topics) ++shares[topic].members;
  }
  std::vector<Assignment> assignments(subscribers.size());
  for (const size_t i : order) {
    for (const kafka::Uuid& topic : subscribers[i].topics) {
      Share& share = shares[topic];
      const int32_t count = counts.at(topic);
      const int32_t extra = share.given++ < count % share.members ? 1 : 0;
      for (int32_t left = count / share.members + extra; left > 0; --left) {
        assignments[i].push_back({topic, share.next++});
      }
    }
  }
  return assignments;
}

std::span<const Assignor> Assignors() { return kAssignors; }

const Assignor* FindAssignor(std::string_view name) {
  const auto found = std::ranges::find(kAssignors, name, &Assignor::name);
  return found == kAssignors.end() ? nullptr : &*found;
}

}  // namespace holdfast::broker
