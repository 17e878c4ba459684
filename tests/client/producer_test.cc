#include "client/producer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>

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

}  // namespace
}  // namespace holdfast::client
