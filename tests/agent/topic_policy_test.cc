#include "agent/topic_policy.h"

#include <gtest/gtest.h>

#include "agent/rate_limits.h"

namespace holdfast::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(PoliciesTest, TheFirstRuleThatFitsCounts) {
  const Policies policies({{.pattern = "orders.eu", .policy = {.ttl_ms = 1}},
                           {.pattern = "orders.*", .policy = {.ttl_ms = 2}},
                           {.pattern = "*", .policy = {.ttl_ms = 3}}},
                          {{.pattern = "billing*", .policy = {.bytes_max = 7}}});
  EXPECT_EQ(policies.ForTopic("orders.eu").ttl_ms, 1);
  EXPECT_EQ(policies.ForTopic("orders.us").ttl_ms, 2);
  EXPECT_EQ(policies.ForTopic("orders").ttl_ms, 3);
  EXPECT_EQ(policies.ForClient("billing-1")->bytes_max, 7);
  EXPECT_EQ(policies.ForClient("other"), nullptr);
  EXPECT_EQ(Policies().ForTopic("orders"), TopicPolicy());
}

TEST(TokenBucketTest, ASecondsWorthIsFreeAndTheRestIsWaitedFor) {
  TokenBucket bucket;
  const base::TimePoint begin{seconds(100)};
  EXPECT_EQ(bucket.Take(1000, 1000, begin), base::Duration::zero());
  EXPECT_EQ(bucket.Take(500, 1000, begin), milliseconds(500));
  EXPECT_EQ(bucket.Owed(1000, begin + milliseconds(200)), milliseconds(300));
  EXPECT_EQ(bucket.Owed(1000, begin + seconds(60)), base::Duration::zero());
  // No more than a second's worth was saved up meanwhile.
  EXPECT_EQ(bucket.Take(2000, 1000, begin + seconds(60)), seconds(1));
}

class CountedRequest final : public proxy::SinkRequest {
 public:
  CountedRequest(std::string_view topic, std::string_view whose, size_t bytes)
      : batch_(bytes, 'x') {
    client = whose;
    entries.push_back({.topic = topic, .batch = batch_});
  }
  void Complete(std::unique_ptr<SinkRequest> /*self*/) override {}

 private:
  std::string batch_;
};

TEST(RateLimitsTest, OneTopicsRateIsNoneOfAnothersBusiness) {
  RateLimits limits;
  const base::TimePoint now{seconds(100)};
  EXPECT_EQ(limits.Charge(CountedRequest("slow", "c", 5000), now), base::Duration::zero());
  limits.SetPolicies(std::make_shared<const Policies>(
      std::vector<Policies::TopicRule>{
          {.pattern = "slow", .policy = {.bytes_per_second_max = 1000}}},
      std::vector<Policies::ClientRule>{
          {.pattern = "small", .policy = {.bytes_per_second_max = 100}}}));
  EXPECT_EQ(limits.Charge(CountedRequest("slow", "c", 1000), now), base::Duration::zero());
  EXPECT_EQ(limits.Charge(CountedRequest("slow", "c", 1000), now), seconds(1));
  EXPECT_EQ(limits.Charge(CountedRequest("fast", "c", 100000), now), base::Duration::zero());
  EXPECT_EQ(limits.Charge(CountedRequest("fast", "small", 300), now), seconds(2));
  EXPECT_EQ(limits.Charge(CountedRequest("fast", "small", 1 << 20), now), RateLimits::kThrottleMax);
}

}  // namespace
}  // namespace holdfast::agent
