#include "client/topics.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace holdfast::client {
namespace {

Topic TopicOf(std::string name, std::vector<int32_t> partitions) {
  Topic topic{.name = std::move(name)};
  for (const int32_t index : partitions) topic.partitions.push_back({.index = index});
  return topic;
}

std::vector<int32_t> IndexesOf(const Topic& topic) {
  std::vector<int32_t> indexes;
  for (const Partition& partition : topic.partitions) indexes.push_back(partition.index);
  return indexes;
}

TEST(Topics, KeepsThePartitionsThatAreWanted) {
  std::vector<Topic> topics{TopicOf("a", {0, 1, 2}), TopicOf("b", {0, 1})};
  ASSERT_TRUE(KeepPartitions(topics, {}));
  EXPECT_EQ(topics[0].partitions.size(), 3U);
  ASSERT_TRUE(KeepPartitions(topics, std::vector<int32_t>{1, 0}));
  for (const Topic& topic : topics) EXPECT_EQ(IndexesOf(topic), (std::vector<int32_t>{0, 1}));
}

TEST(Topics, SaysWhichPartitionIsNotThere) {
  std::vector<Topic> topics{TopicOf("a", {0, 1, 2}),
                            TopicOf("b", {0, 1}),
                            {.name = "c", .error = kafka::ErrorCode::kUnknownTopicOrPartition}};
  const auto kept = KeepPartitions(topics, std::vector<int32_t>{0, 2});
  ASSERT_FALSE(kept);
  EXPECT_EQ(kept.error().code, base::Code::kNotFound);
  EXPECT_EQ(kept.error().message, "b has no partition 2, but 2");
}

}  // namespace
}  // namespace holdfast::client
