#include "client/producer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/client/tier.h"
#include "tests/support/sanitizers.h"

namespace holdfast::client {
namespace {

// librdkafka gives a record no more time than its transaction, which has a minute unless told.
TEST(Producer, ATransactionIsShorterThanThePatience) {
  if (!test::kLibrdkafkaRuns) GTEST_SKIP() << "librdkafka's threads and ThreadSanitizer";
  const Tier tier;
  Connection::Options options = tier.Options();
  options.timeout = std::chrono::minutes(2);
  const Connection connection(std::move(options));
  for (const Connection::Properties& properties :
       {Connection::Properties{}, {{"transaction.timeout.ms", "5000"}}}) {
    const auto producer = Producer::Open(
        connection,
        {.properties = properties, .transactional_id = "x", .delivered = [](const auto&) {}});
    ASSERT_TRUE(producer) << producer.error().message;
  }
}

TEST(Producer, ARecordLargerThanAllThatMayWaitFails) {
  if (!test::kLibrdkafkaRuns) GTEST_SKIP() << "librdkafka's threads and ThreadSanitizer";
  const Tier tier;
  const Connection connection(tier.Options());
  std::vector<Producer::Delivery> deliveries;
  const auto producer = Producer::Open(
      connection, {.properties = {{"queue.buffering.max.kbytes", "1"}},
                   .delivered = [&](const auto& delivery) { deliveries.push_back(delivery); }});
  ASSERT_TRUE(producer) << producer.error().message;
  ASSERT_TRUE((*producer)->Send("orders", 0, {.value = std::string(2048, 'x')}));
  ASSERT_EQ(deliveries.size(), 1u);
  EXPECT_NE(deliveries[0].error, "");
  EXPECT_EQ((*producer)->failed(), 1u);
  // What fits goes.
  ASSERT_TRUE((*producer)->Send("orders", 0, {.value = "x"}));
  ASSERT_TRUE((*producer)->Finish());
  ASSERT_EQ(deliveries.size(), 2u);
  EXPECT_EQ(deliveries[1].error, "");
}

}  // namespace
}  // namespace holdfast::client
