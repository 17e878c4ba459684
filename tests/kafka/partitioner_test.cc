#include "kafka/partitioner.h"

#include <gtest/gtest.h>

#include <string>

#include "kafka/topic_name.h"

namespace holdfast::kafka {
namespace {

// From org.apache.kafka.common.utils.UtilsTest.testMurmur2.
TEST(Partitioner, HashesAsJava) {
  EXPECT_EQ(static_cast<int32_t>(Murmur2("21")), -973932308);
  EXPECT_EQ(static_cast<int32_t>(Murmur2("foobar")), -790332482);
  EXPECT_EQ(static_cast<int32_t>(Murmur2("a-little-bit-long-string")), -985981536);
  EXPECT_EQ(static_cast<int32_t>(Murmur2("a-little-bit-longer-string")), -1486304829);
  EXPECT_EQ(static_cast<int32_t>(Murmur2("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8")),
            -58897971);
  EXPECT_EQ(static_cast<int32_t>(Murmur2("abc")), 479470107);
}

TEST(Partitioner, ChoosesAsClientsDo) {
  // -973932308 & 0x7fffffff = 1173551340.
  EXPECT_EQ(PartitionOf(Partitioner::kMurmur2, "21", 7), 1173551340 % 7);
  EXPECT_EQ(PartitionOf(Partitioner::kMurmur2Random, "21", 7), 1173551340 % 7);
  // CRC-32 of "123456789" is 0xcbf43926, the check value of its definition.
  EXPECT_EQ(PartitionOf(Partitioner::kConsistentRandom, "123456789", 1000), 0xcbf43926U % 1000);
  for (const auto one :
       {Partitioner::kMurmur2, Partitioner::kMurmur2Random, Partitioner::kConsistentRandom}) {
    EXPECT_EQ(PartitionOf(one, std::nullopt, 7), std::nullopt);
    EXPECT_EQ(PartitionOf(one, "any", 1), 0);
  }
  // Only librdkafka's default takes an empty key for none.
  EXPECT_EQ(PartitionOf(Partitioner::kConsistentRandom, "", 7), std::nullopt);
  EXPECT_TRUE(PartitionOf(Partitioner::kMurmur2, "", 7).has_value());
}

TEST(TopicName, FollowsKafka) {
  EXPECT_TRUE(ValidTopicName("outbox.event.Order_1-a"));
  EXPECT_TRUE(ValidTopicName(std::string(249, 'a')));
  EXPECT_FALSE(ValidTopicName(std::string(250, 'a')));
  for (const char* wrong : {"", ".", "..", "a b", "a/b", "ä"}) EXPECT_FALSE(ValidTopicName(wrong));
}

}  // namespace
}  // namespace holdfast::kafka
