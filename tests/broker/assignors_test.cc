// Who gets which partitions: examples, and for chance subscriptions what must hold of any answer.
#include "broker/assignors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace holdfast::broker {
namespace {

kafka::Uuid Topic(uint8_t number) {
  kafka::Uuid id;
  id.bytes[0] = number;
  return id;
}

struct Member {
  std::string id;
  std::vector<kafka::Uuid> topics;
  Assignment current;
  std::optional<std::string> instance = {};
};

std::vector<Assignment> Targets(Assign assign, const std::vector<Member>& members,
                                const PartitionCounts& counts) {
  std::vector<Subscriber> subscribers;
  for (const Member& member : members) {
    Subscriber subscriber{member.id, std::nullopt, member.topics, &member.current};
    if (member.instance) subscriber.instance_id = *member.instance;
    subscribers.push_back(subscriber);
  }
  return assign(subscribers, counts);
}

size_t Moved(const std::vector<Member>& members, const std::vector<Assignment>& targets) {
  size_t moved = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    for (const TopicPartition& had : members[i].current) {
      if (!std::ranges::binary_search(targets[i], had, std::less<>())) ++moved;
    }
  }
  return moved;
}

// Every partition that somebody subscribes to is given to exactly one of those who do.
void ExpectComplete(const std::vector<Member>& members, const PartitionCounts& counts,
                    const std::vector<Assignment>& targets) {
  std::set<TopicPartition> given;
  std::set<kafka::Uuid> subscribed;
  ASSERT_EQ(targets.size(), members.size());
  for (size_t i = 0; i < members.size(); ++i) {
    subscribed.insert(members[i].topics.begin(), members[i].topics.end());
    EXPECT_TRUE(std::ranges::is_sorted(targets[i], std::less<>()));
    for (const TopicPartition& partition : targets[i]) {
      EXPECT_TRUE(given.insert(partition).second) << "given twice";
      EXPECT_TRUE(std::ranges::binary_search(members[i].topics, partition.topic));
      EXPECT_LT(partition.partition, counts.at(partition.topic));
    }
  }
  size_t total = 0;
  for (const kafka::Uuid& topic : subscribed) total += static_cast<size_t>(counts.at(topic));
  EXPECT_EQ(given.size(), total);
}

TEST(AssignorsTest, AreFoundByName) {
  EXPECT_EQ(FindAssignor("uniform")->assign, AssignUniform);
  EXPECT_EQ(FindAssignor("range")->assign, AssignRange);
  EXPECT_EQ(FindAssignor("sticky"), nullptr);
  EXPECT_EQ(Assignors().front().name, "uniform");
}

TEST(AssignorsTest, RangeGivesTheSameRunOfEachTopic) {
  const PartitionCounts counts{{Topic(1), 5}, {Topic(2), 5}};
  const std::vector<kafka::Uuid> both{Topic(1), Topic(2)};
  const auto targets = Targets(AssignRange, {{"b", both, {}}, {"a", both, {}}}, counts);
  const Assignment first{{Topic(1), 0}, {Topic(1), 1}, {Topic(1), 2},
                         {Topic(2), 0}, {Topic(2), 1}, {Topic(2), 2}};
  const Assignment second{{Topic(1), 3}, {Topic(1), 4}, {Topic(2), 3}, {Topic(2), 4}};
  EXPECT_EQ(targets[1], first) << "member a, by its id";
  EXPECT_EQ(targets[0], second);
}

TEST(AssignorsTest, RangePutsStaticMembersFirstByTheirInstance) {
  const PartitionCounts counts{{Topic(1), 3}};
  const std::vector<kafka::Uuid> one{Topic(1)};
  const auto targets =
      Targets(AssignRange, {{"a", one, {}}, {"z", one, {}, "2"}, {"y", one, {}, "10"}}, counts);
  EXPECT_EQ(targets[2], (Assignment{{Topic(1), 0}}));
  EXPECT_EQ(targets[1], (Assignment{{Topic(1), 1}}));
  EXPECT_EQ(targets[0], (Assignment{{Topic(1), 2}}));
}

TEST(AssignorsTest, RangeCountsOnlyThoseWhoSubscribe) {
  const PartitionCounts counts{{Topic(1), 4}, {Topic(2), 2}};
  const auto targets =
      Targets(AssignRange, {{"a", {Topic(1)}, {}}, {"b", {Topic(1), Topic(2)}, {}}}, counts);
  EXPECT_EQ(targets[0], (Assignment{{Topic(1), 0}, {Topic(1), 1}}));
  EXPECT_EQ(targets[1], (Assignment{{Topic(1), 2}, {Topic(1), 3}, {Topic(2), 0}, {Topic(2), 1}}));
}

TEST(AssignorsTest, UniformTakesNoMoreThanANewcomerNeeds) {
  const PartitionCounts counts{{Topic(1), 7}};
  const std::vector<kafka::Uuid> one{Topic(1)};
  std::vector<Member> members{{"b", one, {}}, {"c", one, {}}};
  auto targets = Targets(AssignUniform, members, counts);
  members[0].current = targets[0];  // 4
  members[1].current = targets[1];  // 3
  members.insert(members.begin(), {"a", one, {}});
  targets = Targets(AssignUniform, members, counts);
  ExpectComplete(members, counts, targets);
  EXPECT_EQ(targets[0].size(), 2u);
  EXPECT_EQ(targets[1].size() + targets[2].size(), 5u);
  EXPECT_EQ(Moved(members, targets), 2u);
}

TEST(AssignorsTest, UniformGivesAPartitionThatTwoClaimToOne) {
  const PartitionCounts counts{{Topic(1), 2}};
  const Assignment all{{Topic(1), 0}, {Topic(1), 1}};
  const std::vector<Member> members{{"a", {Topic(1)}, all}, {"b", {Topic(1)}, all}};
  const auto targets = Targets(AssignUniform, members, counts);
  ExpectComplete(members, counts, targets);
  EXPECT_EQ(targets[0].size(), 1u);
}

TEST(AssignorsTest, MembersWithoutTopicsGetNothing) {
  for (const Assignor& assignor : Assignors()) {
    const auto targets = Targets(assignor.assign, {{"a", {}, {}}, {"b", {}, {}}}, {});
    EXPECT_EQ(targets, std::vector<Assignment>(2)) << assignor.name;
    EXPECT_TRUE(Targets(assignor.assign, {}, {}).empty()) << assignor.name;
  }
}

TEST(AssignorsTest, UniformBalancesWhatDifferentSubscriptionsAllow) {
  const PartitionCounts counts{{Topic(1), 4}, {Topic(2), 4}, {Topic(3), 4}};
  const std::vector<kafka::Uuid> all{Topic(1), Topic(2), Topic(3)};
  // One member has everything, and another comes who takes part of one topic only.
  Assignment everything;
  for (const auto& [topic, count] : counts) {
    for (int32_t i = 0; i < count; ++i) everything.push_back({topic, i});
  }
  const std::vector<Member> members{{"a", all, everything}, {"b", {Topic(3)}, {}}};
  const auto targets = Targets(AssignUniform, members, counts);
  ExpectComplete(members, counts, targets);
  EXPECT_EQ(targets[1].size(), 4u) << "all that it can have; 8 are left to the other";
}

TEST(AssignorsTest, UniformIsBalancedAndMovesAsLittleAsPossibleWhateverChanges) {
  std::mt19937 random(20261128);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  for (int round = 0; round < 2000; ++round) {
    PartitionCounts counts;
    std::vector<kafka::Uuid> topics;
    for (uint8_t i = 0; i < 1 + pick(4); ++i) {
      topics.push_back(Topic(i));
      counts[Topic(i)] = 1 + pick(12);
    }
    std::vector<Member> members;
    for (int i = 0; i < 1 + pick(8); ++i) members.push_back({"m" + std::to_string(i), topics, {}});
    // What they had in a group of another size, or of topics that were smaller.
    for (const auto& [topic, count] : counts) {
      for (int32_t index = 0; index < count; ++index) {
        const int owner = pick(static_cast<int>(members.size()) + 2);
        if (owner < static_cast<int>(members.size())) {
          members[static_cast<size_t>(owner)].current.push_back({topic, index});
        }
      }
    }
    const auto targets = Targets(AssignUniform, members, counts);
    ExpectComplete(members, counts, targets);
    size_t total = 0;
    for (const auto& [topic, count] : counts) total += static_cast<size_t>(count);
    const size_t quota = total / members.size();
    size_t extras = total % members.size();
    size_t must_move = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      EXPECT_GE(targets[i].size(), quota);
      EXPECT_LE(targets[i].size(), quota + 1);
      const size_t had = members[i].current.size();
      const bool keeps_extra = had > quota && extras > 0;
      if (keeps_extra) --extras;
      if (had > quota) must_move += had - quota - (keeps_extra ? 1 : 0);
    }
    EXPECT_EQ(Moved(members, targets), must_move) << "in round " << round;
    if (testing::Test::HasFailure()) return;
  }
}

TEST(AssignorsTest, EveryAssignorGivesEachPartitionOnceWhateverTheSubscriptions) {
  std::mt19937 random(1128);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  for (int round = 0; round < 2000; ++round) {
    PartitionCounts counts;
    for (uint8_t i = 0; i < 5; ++i) counts[Topic(i)] = 1 + pick(9);
    std::vector<Member> members;
    for (int i = 0; i < 1 + pick(6); ++i) {
      Member& member = members.emplace_back(Member{"m" + std::to_string(i), {}, {}});
      for (const auto& [topic, count] : counts) {
        if (pick(2) == 0) member.topics.push_back(topic);
      }
    }
    for (const auto& [topic, count] : counts) {
      for (int32_t index = 0; index < count; ++index) {
        Member& owner = members[static_cast<size_t>(pick(static_cast<int>(members.size())))];
        owner.current.push_back({topic, index});
      }
    }
    for (const Assignor& assignor : Assignors()) {
      const auto targets = Targets(assignor.assign, members, counts);
      ExpectComplete(members, counts, targets);
      if (assignor.assign != AssignUniform) continue;
      // No single move would make it better balanced.
      for (size_t from = 0; from < members.size(); ++from) {
        for (const TopicPartition& partition : targets[from]) {
          for (size_t to = 0; to < members.size(); ++to) {
            if (!std::ranges::binary_search(members[to].topics, partition.topic)) continue;
            EXPECT_LT(targets[from].size(), targets[to].size() + 2) << "in round " << round;
          }
        }
      }
      if (testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace holdfast::broker
