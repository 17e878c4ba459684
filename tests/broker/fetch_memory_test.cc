// How much memory answers to fetches take that have not left.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

constexpr size_t kBatchBytes = 300000;

class FetchMemoryTest : public testing::Test {
 protected:
  void Begin(Options options, int batches) {
    options.fetched_waiting_bytes_max = size_t{4} << 20;
    broker_.emplace(std::move(options));
    broker_->CreateTopic("t", 1);
    for (int i = 0; i < batches; ++i)
      broker_->Produce("t", 0, broker_->Batch({std::string(kBatchBytes, 'x')}));
  }

  // How many batches a fetch of at most 3.1 MB gets. As the net does it with what has to wait, its
  // answer is copied; it has not left until `answer` is cleared.
  size_t Fetch(std::vector<base::Buffer>* answer, int32_t bytes_min = 1) {
    kafka::FetchRequest request = BrokerFixture::MakeFetch("t", 0, 0);
    request.min_bytes = bytes_min;
    request.max_bytes = request.topics[0].partitions[0].partition_max_bytes = 3100000;
    const auto frame = kafka::EncodeRequest(request, 12, 7, "test");
    HF_CHECK(frame.has_value());
    auto peer = std::make_shared<const kafka::Peer>();
    const auto served = broker_->broker().worker(0).Serve(
        peer, base::Buffer::Copy(frame->view().substr(kafka::kLengthPrefixBytes)),
        [answer](kafka::Answer given) { *answer = std::move(given.rest); });
    HF_CHECK(served.has_value());
    size_t bytes = 0;
    for (base::Buffer& piece : *answer) {
      piece.Own();
      bytes += piece.size();
    }
    return bytes / kBatchBytes;
  }

  std::optional<BrokerFixture> broker_;
  std::vector<base::Buffer> first_;
  std::vector<base::Buffer> second_;
  std::vector<base::Buffer> third_;
};

TEST_F(FetchMemoryTest, AnswersThatHaveNotLeftMakeFurtherOnesShort) {
  Begin({}, 10);
  EXPECT_EQ(Fetch(&first_), 10U);
  EXPECT_EQ(Fetch(&second_), 3U);
  EXPECT_EQ(Fetch(&third_), 3U) << "a MiB is always given";
  second_.clear();
  third_.clear();
  EXPECT_EQ(Fetch(&second_), 3U);
  first_.clear();
  EXPECT_EQ(Fetch(&first_), 10U);
}

TEST_F(FetchMemoryTest, WhoseAnswerIsMadeShortDoesNotWaitForMore) {
  Begin({}, 10);
  EXPECT_EQ(Fetch(&first_), 10U);
  EXPECT_EQ(Fetch(&second_, /*bytes_min=*/2000000), 3U);
}

TEST_F(FetchMemoryTest, WhatIsSentFromTheDiskDoesNotCount) {
  Begin({}, 30);
  EXPECT_EQ(Fetch(&first_), 10U);
  EXPECT_EQ(Fetch(&second_), 10U);
  EXPECT_EQ(Fetch(&third_), 10U);
}

TEST_F(FetchMemoryTest, WhatWasDecryptedCounts) {
  Options options;
  options.spool.encryption_keys =
      *spool::KeyRing::Parse(std::vector<std::string>{std::string(64, 'a')});
  Begin(std::move(options), 30);
  EXPECT_EQ(Fetch(&first_), 10U);
  EXPECT_EQ(Fetch(&second_), 3U);
  first_.clear();
  EXPECT_EQ(Fetch(&first_), 10U);
}

}  // namespace
}  // namespace holdfast::broker
