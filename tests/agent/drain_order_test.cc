#include "agent/drain_order.h"

#include <gtest/gtest.h>

#include <map>

namespace holdfast::agent {
namespace {

using Priority = TopicPolicy::Priority;

struct Stream {
  Priority priority = Priority::kNormal;
  int sent = 0;
};

class DrainOrderTest : public testing::Test {
 protected:
  // One request after the other of at most `batches`, while all streams have more.
  void Send(int requests, size_t batches) {
    for (Stream& stream : streams_) order_.Push(&stream, stream.priority);
    for (int i = 0; i < requests; ++i) {
      std::vector<Stream*> sent;
      order_.BeginRequest();
      for (size_t left = order_.size(); left > 0 && sent.size() < batches; --left) {
        Stream* const next = order_.Front();
        if (next == nullptr) break;
        order_.PopFront();
        order_.Took(next->priority, 1000, /*more=*/true);
        ++next->sent;
        sent.push_back(next);
      }
      ASSERT_FALSE(sent.empty());
      for (Stream* stream : sent) order_.Push(stream, stream->priority);
    }
  }

  std::vector<Stream> streams_;
  DrainOrder<Stream> order_;
};

TEST_F(DrainOrderTest, OnePriorityTakesTurns) {
  streams_.resize(3);
  Send(30, 2);
  for (const Stream& stream : streams_) EXPECT_EQ(stream.sent, 20);
}

TEST_F(DrainOrderTest, BytesGoByWeightAndNoneStarves) {
  streams_ = {{Priority::kLow}, {Priority::kNormal}, {Priority::kHigh}};
  Send(2100, 10);
  const double low = streams_[0].sent;
  EXPECT_GT(low, 0);
  EXPECT_NEAR(streams_[1].sent / low, 4, 0.5);
  EXPECT_NEAR(streams_[2].sent / low, 16, 1);
}

TEST_F(DrainOrderTest, WeightsAreThePrioritysNotItsStreams) {
  streams_.resize(8);
  for (Stream& stream : streams_) stream.priority = Priority::kLow;
  streams_.push_back({Priority::kHigh});
  Send(1700, 1);
  int low = 0;
  for (size_t i = 0; i < 8; ++i) low += streams_[i].sent;
  EXPECT_NEAR(streams_[8].sent / static_cast<double>(low), 16, 1);
}

TEST_F(DrainOrderTest, WhatNobodyElseWantsIsNotLeftUnused) {
  Stream high{Priority::kHigh};
  Stream low{Priority::kLow};
  order_.Push(&high, high.priority);
  order_.Push(&low, low.priority);
  order_.BeginRequest();
  EXPECT_EQ(order_.Front(), &low) << "both turns are the same, so the order of priorities decides";
  order_.PopFront();
  order_.Took(low.priority, 1000, /*more=*/true);
  // `high` has no more behind this one: its going does not end the request.
  EXPECT_EQ(order_.Front(), &high);
  order_.PopFront();
  order_.Took(high.priority, 1000, /*more=*/false);
  EXPECT_TRUE(order_.empty());
}

TEST_F(DrainOrderTest, WhoWasIdleHasSavedNothingUp) {
  streams_ = {{Priority::kNormal}};
  Send(1000, 1);
  Stream low{Priority::kLow};
  order_.Push(&low, low.priority);
  int normal = 0;
  int lows = 0;
  for (int i = 0; i < 50; ++i) {
    order_.BeginRequest();
    Stream* const next = order_.Front();
    order_.PopFront();
    order_.Took(next->priority, 1000, true);
    ++(next == &low ? lows : normal);
    order_.Push(next, next->priority);
  }
  EXPECT_NEAR(normal / static_cast<double>(lows), 4, 0.6);
}

}  // namespace
}  // namespace holdfast::agent
