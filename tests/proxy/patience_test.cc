#include "proxy/patience.h"

#include <gtest/gtest.h>

#include "kafka/api/fetch.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/join_group.h"
#include "kafka/api/sync_group.h"
#include "kafka/endpoint_tail.h"
#include "tests/golden/golden.h"

namespace holdfast::proxy {
namespace {

using std::chrono::milliseconds;

base::Duration WaitOfFrame(std::string_view frame) {
  const auto header = kafka::ReadRequestHeader(frame);
  EXPECT_TRUE(header);
  return WaitOf(frame, *header);
}

template <class Request>
base::Duration WaitOfRequest(const Request& request, int16_t version) {
  return WaitOfFrame(kafka::EncodeRequest(request, version, 1, "me")->view().substr(4));
}

TEST(PatienceTest, AFetchTellsHowLongItWaitsForRecords) {
  for (int16_t version = kafka::FetchRequest::kApi.oldest;
       version <= kafka::FetchRequest::kApi.newest; ++version) {
    EXPECT_EQ(WaitOfRequest(kafka::FetchRequest{.max_wait_ms = 1234}, version), milliseconds(1234));
  }
  for (const kafka::GoldenFrame& golden : kafka::ReadGolden("ShareFetchRequest")) {
    if (golden.variant != "full") continue;
    EXPECT_EQ(WaitOfFrame(golden.bytes),
              std::min<base::Duration>(milliseconds(kafka::Int32("maxWaitMs")), kOwnWaitMax));
  }
}

TEST(PatienceTest, AGroupIsWaitedForAsLongAsItsMembersMayTake) {
  kafka::JoinGroupRequest join{
      .group_id = "g", .session_timeout_ms = 10, .rebalance_timeout_ms = 70};
  for (int16_t version = kafka::JoinGroupRequest::kApi.oldest;
       version <= kafka::JoinGroupRequest::kApi.newest; ++version) {
    EXPECT_EQ(WaitOfRequest(join, version), milliseconds(version == 0 ? 10 : 70));
  }
  join.rebalance_timeout_ms = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(WaitOfRequest(join, 5), kOwnWaitMax);
  EXPECT_EQ(WaitOfRequest(kafka::SyncGroupRequest{.group_id = "g"}, 3), kRebalanceWait);
}

TEST(PatienceTest, OthersAreAnsweredAtOnce) {
  EXPECT_EQ(WaitOfRequest(kafka::HeartbeatRequest{.group_id = "g"}, 3), base::Duration::zero());
  // Not readable, or senseless.
  EXPECT_EQ(WaitOfFrame(std::string_view("\0\1\0\x0b\0\0\0\1\xff\xff\0", 11)),
            base::Duration::zero());
  EXPECT_EQ(WaitOfRequest(kafka::FetchRequest{.max_wait_ms = -5}, 11), base::Duration::zero());
}

}  // namespace
}  // namespace holdfast::proxy
