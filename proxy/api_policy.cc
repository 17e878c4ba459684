#include "proxy/api_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "kafka/api/api_versions.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/metadata.h"
#include "kafka/api/produce.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/endpoint_tail.h"

namespace holdfast::proxy {
namespace {

// In the versions that the codec knows.
constexpr ApiPolicy Known(const kafka::Api& api, Way way, Away away) {
  return {api.key, api.name, way, away, api.newest, api.oldest};
}

constexpr std::array kPolicies{
    Known(kafka::ProduceRequest::kApi, Way::kHere, Away::kServed),
    Known(kafka::FetchRequest::kApi, Way::kRewritten, Away::kCloses),
    ApiPolicy{2, "ListOffsets"},
    Known(kafka::MetadataRequest::kApi, Way::kRewritten, Away::kCache),
    ApiPolicy{8, "OffsetCommit"},
    ApiPolicy{9, "OffsetFetch"},
    Known(kafka::FindCoordinatorRequest::kApi, Way::kRewritten, Away::kRetry),
    ApiPolicy{11, "JoinGroup"},
    ApiPolicy{12, "Heartbeat"},
    ApiPolicy{13, "LeaveGroup"},
    ApiPolicy{14, "SyncGroup"},
    ApiPolicy{15, "DescribeGroups"},
    ApiPolicy{16, "ListGroups"},
    ApiPolicy{17, "SaslHandshake"},
    Known(kafka::ApiVersionsRequest::kApi, Way::kHere, Away::kServed),
    ApiPolicy{19, "CreateTopics"},
    ApiPolicy{20, "DeleteTopics"},
    ApiPolicy{21, "DeleteRecords"},
    Known(kafka::InitProducerIdRequest::kApi, Way::kHere, Away::kRetry),
    ApiPolicy{23, "OffsetForLeaderEpoch"},
    ApiPolicy{24, "AddPartitionsToTxn"},
    ApiPolicy{25, "AddOffsetsToTxn"},
    ApiPolicy{26, "EndTxn"},
    ApiPolicy{27, "WriteTxnMarkers"},
    ApiPolicy{28, "TxnOffsetCommit"},
    ApiPolicy{29, "DescribeAcls"},
    ApiPolicy{30, "CreateAcls"},
    ApiPolicy{31, "DeleteAcls"},
    ApiPolicy{32, "DescribeConfigs"},
    ApiPolicy{33, "AlterConfigs"},
    ApiPolicy{34, "AlterReplicaLogDirs"},
    ApiPolicy{35, "DescribeLogDirs"},
    ApiPolicy{36, "SaslAuthenticate"},
    ApiPolicy{37, "CreatePartitions"},
    ApiPolicy{38, "CreateDelegationToken"},
    ApiPolicy{39, "RenewDelegationToken"},
    ApiPolicy{40, "ExpireDelegationToken"},
    ApiPolicy{41, "DescribeDelegationToken"},
    ApiPolicy{42, "DeleteGroups"},
    ApiPolicy{43, "ElectLeaders"},
    ApiPolicy{44, "IncrementalAlterConfigs"},
    ApiPolicy{45, "AlterPartitionReassignments"},
    ApiPolicy{46, "ListPartitionReassignments"},
    ApiPolicy{47, "OffsetDelete"},
    ApiPolicy{48, "DescribeClientQuotas"},
    ApiPolicy{49, "AlterClientQuotas"},
    ApiPolicy{50, "DescribeUserScramCredentials"},
    ApiPolicy{51, "AlterUserScramCredentials"},
    ApiPolicy{55, "DescribeQuorum"},
    ApiPolicy{57, "UpdateFeatures"},
    Known(kafka::DescribeClusterRequest::kApi, Way::kRewritten, Away::kCache),
    ApiPolicy{61, "DescribeProducers"},
    ApiPolicy{64, "UnregisterBroker"},
    ApiPolicy{65, "DescribeTransactions"},
    ApiPolicy{66, "ListTransactions"},
    ApiPolicy{68, "ConsumerGroupHeartbeat"},
    ApiPolicy{69, "ConsumerGroupDescribe"},
    Known(kafka::GetTelemetrySubscriptionsRequest::kApi, Way::kPassed, Away::kRetry),
    Known(kafka::PushTelemetryRequest::kApi, Way::kPassed, Away::kRetry),
    ApiPolicy{74, "ListConfigResources"},
    ApiPolicy{75, "DescribeTopicPartitions"},
    ApiPolicy{76, "ShareGroupHeartbeat"},
    ApiPolicy{77, "ShareGroupDescribe"},
    ApiPolicy{78, "ShareFetch", Way::kRewritten, Away::kCloses, kafka::kShareNewest},
    ApiPolicy{79, "ShareAcknowledge", Way::kRewritten, Away::kCloses, kafka::kShareNewest},
    ApiPolicy{80, "AddRaftVoter"},
    ApiPolicy{81, "RemoveRaftVoter"},
    ApiPolicy{83, "InitializeShareGroupState"},
    ApiPolicy{84, "ReadShareGroupState"},
    ApiPolicy{85, "WriteShareGroupState"},
    ApiPolicy{86, "DeleteShareGroupState"},
    ApiPolicy{87, "ReadShareGroupStateSummary"},
    ApiPolicy{88, "StreamsGroupHeartbeat"},
    ApiPolicy{89, "StreamsGroupDescribe"},
    ApiPolicy{90, "DescribeShareGroupOffsets"},
    ApiPolicy{91, "AlterShareGroupOffsets"},
    ApiPolicy{92, "DeleteShareGroupOffsets"},
};
static_assert(std::ranges::is_sorted(kPolicies, {}, &ApiPolicy::key));

std::string_view Text(Way way) {
  switch (way) {
    case Way::kHere:
      return "answered here";
    case Way::kRewritten:
      return "passed through, addresses rewritten";
    case Way::kPassed:
      return "passed through";
  }
  return {};
}

std::string_view Text(Away away) {
  switch (away) {
    case Away::kServed:
      return "the same";
    case Away::kCache:
      return "from the cache";
    case Away::kRetry:
      return "a retriable error";
    case Away::kCloses:
      return "the connection closes";
  }
  return {};
}

}  // namespace

std::span<const ApiPolicy> ApiPolicies() { return kPolicies; }

ApiPolicy PolicyOf(int16_t api_key) {
  const auto found = std::ranges::lower_bound(kPolicies, api_key, {}, &ApiPolicy::key);
  return found != kPolicies.end() && found->key == api_key ? *found : ApiPolicy{.key = api_key};
}

std::string RenderApiPolicies() {
  std::string table =
      "| key | API | newest version | while the tier answers | while it is away |\n"
      "| ---: | --- | --- | --- | --- |\n";
  for (const ApiPolicy& api : kPolicies) {
    const std::string newest =
        api.newest == kafka::kNever ? "the tier's" : std::to_string(api.newest);
    table += fmt::format("| {} | {} | {} | {} | {} |\n", api.key, api.name, newest, Text(api.way),
                         Text(api.away));
  }
  return table;
}

}  // namespace holdfast::proxy
