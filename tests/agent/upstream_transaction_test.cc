// The tier's transactional producer by itself: what a job with very many partitions costs.
#include "agent/upstream_transaction.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tests/agent/transactions_fixture.h"
#include "tests/support/cpu_time.h"

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

class UpstreamTransactionTest : public TransactionsFixture {
 protected:
  UpstreamTransactionTest() : TransactionsFixture(/*second=*/false) {}

  static std::vector<std::string> Topics(size_t count) {
    std::vector<std::string> topics;
    for (size_t i = 0; i < count; ++i) topics.push_back("t" + std::to_string(i));
    std::ranges::sort(topics);
    return topics;
  }
  // Each topic gets what the one stream has.
  std::vector<TransactionPart> PartsOf(const std::vector<std::string>& topics) {
    const spool::StreamId stream = *spool_->FindStream("a/0");
    std::vector<TransactionPart> parts;
    for (const std::string& topic : topics) {
      parts.push_back({.stream = stream,
                       .topic = topic,
                       .node = test::ScriptedTier::kNode,
                       .end = spool_->Range(stream).end});
    }
    return parts;
  }
  // How much longer ten times as many take; 10 if each takes the same.
  template <class Work>
  static double TimesAsLong(size_t few, Work work) {
    double begun = test::CpuSeconds();
    work(few);
    const double one = test::CpuSeconds() - begun;
    begun = test::CpuSeconds();
    work(10 * few);
    return (test::CpuSeconds() - begun) / one;
  }

  UpstreamTransactions upstream_{
      {loop_, *spool_, tier_, cache_}, {.transactional_id = "agent", .group = "agent"}, 1};
};

// Of 100 times as long only the factor of 10 is left, and what the machine adds.
constexpr double kLinearAtMost = 30;

TEST_F(UpstreamTransactionTest, AskingAboutManyTopicsTakesEachTheSameTime) {
  tier_.Connect();
  const double times = TimesAsLong(4000, [&](size_t count) {
    std::vector<UpstreamTransactions::Partition> partitions;
    for (std::string& topic : Topics(count)) partitions.emplace_back(std::move(topic), 0);
    size_t told = 0;
    upstream_.Ask(std::move(partitions),
                  [&](const auto& progress) { told = progress ? progress->size() : 0; });
    clock_.RunUntilIdle();
    EXPECT_EQ(told, count);
  });
  EXPECT_LT(times, kLinearAtMost);
}

TEST_F(UpstreamTransactionTest, SoDoErrorsOfManyTopics) {
  Produce("a", 0, Values{"1"});
  tier_.Connect();
  const double times = TimesAsLong(3000, [&](size_t count) {
    const std::vector<std::string> topics = Topics(count);
    for (const std::string& topic : topics) {
      transactions_.refusals[{kafka::AddPartitionsToTxnRequest::kApi.key, topic}] =
          ErrorCode::kTopicAuthorizationFailed;
    }
    std::vector<size_t> guilty;
    upstream_.Run(PartsOf(topics), [&](const TransactionResult& result) {
      for (const auto& one : result.guilty) guilty.push_back(one.part);
    });
    clock_.RunUntilIdle();
    ASSERT_EQ(guilty.size(), count);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(guilty[i], i);
  });
  EXPECT_LT(times, kLinearAtMost);
}

TEST_F(UpstreamTransactionTest, SoDoesWritingToManyTopics) {
  Produce("a", 0, Values{"1"});
  tier_.Connect();
  const double times = TimesAsLong(2000, [&](size_t count) {
    const std::vector<std::string> topics = Topics(count);
    for (const std::string& topic : topics) tier_.logs[{topic, 0}];
    TransactionResult ended;
    upstream_.Run(PartsOf(topics), [&](const TransactionResult& result) { ended = result; });
    clock_.RunUntilIdle();
    ASSERT_TRUE(ended.committed) << ended.trouble;
    EXPECT_EQ(ended.tier_offsets.size(), count);
    EXPECT_EQ(tier_.Values(topics.back(), 0).back(), "1");
  });
  EXPECT_LT(times, kLinearAtMost);
}

}  // namespace
}  // namespace holdfast::agent
