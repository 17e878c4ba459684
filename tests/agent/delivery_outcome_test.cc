#include "agent/delivery_outcome.h"

#include <gtest/gtest.h>

namespace holdfast::agent {
namespace {

using kafka::ErrorCode;

// What Kafka's own producer tries again is never given up on.
TEST(DeliveryOutcomeTest, RetriableCodesAreNeverRefusedOrHeld) {
  for (int16_t number = -1; number <= 140; ++number) {
    const auto code = static_cast<ErrorCode>(number);
    if (!kafka::Retriable(code)) continue;
    const Outcome outcome = OutcomeOf(code);
    const bool share_group = number == 70 || number == 71 || (number >= 122 && number <= 123) ||
                             number == 133;  // Never the answer to a Produce.
    if (share_group) continue;
    EXPECT_TRUE(outcome == Outcome::kRetry || outcome == Outcome::kRefresh ||
                outcome == Outcome::kReconcile)
        << kafka::ErrorName(code) << " is " << OutcomeName(outcome);
  }
}

// Kafka may have appended before it answered these, or nobody knows.
TEST(DeliveryOutcomeTest, CodesAfterAPossibleAppendAreReconciled) {
  for (const ErrorCode code :
       {ErrorCode::kNotLeaderOrFollower, ErrorCode::kRequestTimedOut, ErrorCode::kKafkaStorageError,
        ErrorCode::kNetworkException, ErrorCode::kUnknownServerError,
        ErrorCode::kOutOfOrderSequenceNumber}) {
    EXPECT_EQ(OutcomeOf(code), Outcome::kReconcile) << kafka::ErrorName(code);
  }
  EXPECT_EQ(OutcomeOf(static_cast<ErrorCode>(999)), Outcome::kReconcile);
}

TEST(DeliveryOutcomeTest, EachCodeHasAnOutcomeWithAName) {
  for (int16_t number = -1; number <= 133; ++number) {
    EXPECT_FALSE(OutcomeName(OutcomeOf(static_cast<ErrorCode>(number))).empty()) << number;
  }
  EXPECT_EQ(OutcomeOf(ErrorCode::kNone), Outcome::kDelivered);
  EXPECT_EQ(OutcomeOf(ErrorCode::kDuplicateSequenceNumber), Outcome::kDelivered);
  EXPECT_EQ(OutcomeOf(ErrorCode::kUnknownTopicOrPartition), Outcome::kRefresh);
  EXPECT_EQ(OutcomeOf(ErrorCode::kInvalidProducerEpoch), Outcome::kNewEpoch);
  EXPECT_EQ(OutcomeOf(ErrorCode::kInvalidRecord), Outcome::kRefused);
  EXPECT_EQ(OutcomeOf(ErrorCode::kTopicAuthorizationFailed), Outcome::kParked);
}

}  // namespace
}  // namespace holdfast::agent
