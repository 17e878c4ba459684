#include "proxy/api_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/consumer_group_describe.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/create_topics.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_cluster.h"
#include "kafka/api/describe_configs.h"
#include "kafka/api/describe_groups.h"
#include "kafka/api/describe_topic_partitions.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/fetch.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/get_telemetry_subscriptions.h"
#include "kafka/api/heartbeat.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/join_group.h"
#include "kafka/api/leave_group.h"
#include "kafka/api/list_groups.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/metadata.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_delete.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/offset_for_leader_epoch.h"
#include "kafka/api/produce.h"
#include "kafka/api/push_telemetry.h"
#include "kafka/api/sasl_authenticate.h"
#include "kafka/api/sasl_handshake.h"
#include "kafka/api/sync_group.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/endpoint_tail.h"

namespace holdfast::proxy {
namespace {

// In the versions that the codec knows, but for older ones that only pass through.
constexpr ApiPolicy Known(const kafka::Api& api, Way way, Away away) {
  const int16_t oldest = away == Away::kCloses ? 0 : api.oldest;
  return {api.key, api.name, way, away, api.newest, oldest};
}

// The shape of version 0 is not known here.
constexpr ApiPolicy Shared(int16_t key, std::string_view name) {
  return {key, name, Way::kRewritten, Away::kCloses, kafka::kShareNewest, 1};
}

// Passes through in the tier's versions, but where it has to be read.
constexpr ApiPolicy Read(const kafka::Api& api, uint8_t read_for) {
  return {.key = api.key,
          .name = api.name,
          .read_for = read_for,
          .oldest_read = api.oldest,
          .newest_read = api.newest};
}

constexpr uint8_t kForBoth = kForRules | kForAgentState;
constexpr uint8_t kForAll = kForBoth | kForTransactions;

constexpr std::array kPolicies{
    Known(kafka::ProduceRequest::kApi, Way::kHere, Away::kServed),
    Known(kafka::FetchRequest::kApi, Way::kRewritten, Away::kCloses),
    Read(kafka::ListOffsetsRequest::kApi, kForRules),
    Known(kafka::MetadataRequest::kApi, Way::kRewritten, Away::kCache),
    Read(kafka::OffsetCommitRequest::kApi, kForBoth),
    Read(kafka::OffsetFetchRequest::kApi, kForBoth),
    Known(kafka::FindCoordinatorRequest::kApi, Way::kRewritten, Away::kRetry),
    Read(kafka::JoinGroupRequest::kApi, kForBoth),
    Read(kafka::HeartbeatRequest::kApi, kForBoth),
    Read(kafka::LeaveGroupRequest::kApi, kForBoth),
    Read(kafka::SyncGroupRequest::kApi, kForBoth),
    Read(kafka::DescribeGroupsRequest::kApi, kForAgentState),
    Read(kafka::ListGroupsRequest::kApi, kForAgentState),
    // Version 0, which is not served, has to be offered: librdkafka takes it for the sign that it
    // may log in.
    Known(kafka::SaslHandshakeRequest::kApi, Way::kPassed, Away::kCloses),
    Known(kafka::ApiVersionsRequest::kApi, Way::kHere, Away::kServed),
    Read(kafka::CreateTopicsRequest::kApi, kForRules),
    Read(kafka::DeleteTopicsRequest::kApi, kForRules),
    ApiPolicy{21, "DeleteRecords"},
    Known(kafka::InitProducerIdRequest::kApi, Way::kHere, Away::kRetry),
    Read(kafka::OffsetForLeaderEpochRequest::kApi, kForRules),
    Read(kafka::AddPartitionsToTxnRequest::kApi, kForAgentState | kForTransactions),
    Read(kafka::AddOffsetsToTxnRequest::kApi, kForAll),
    Read(kafka::EndTxnRequest::kApi, kForAgentState | kForTransactions),
    ApiPolicy{27, "WriteTxnMarkers"},
    Read(kafka::TxnOffsetCommitRequest::kApi, kForAll),
    ApiPolicy{29, "DescribeAcls"},
    ApiPolicy{30, "CreateAcls"},
    ApiPolicy{31, "DeleteAcls"},
    Read(kafka::DescribeConfigsRequest::kApi, kForRules),
    ApiPolicy{33, "AlterConfigs"},
    ApiPolicy{34, "AlterReplicaLogDirs"},
    ApiPolicy{35, "DescribeLogDirs"},
    Known(kafka::SaslAuthenticateRequest::kApi, Way::kPassed, Away::kCloses),
    Read(kafka::CreatePartitionsRequest::kApi, kForRules),
    ApiPolicy{38, "CreateDelegationToken"},
    ApiPolicy{39, "RenewDelegationToken"},
    ApiPolicy{40, "ExpireDelegationToken"},
    ApiPolicy{41, "DescribeDelegationToken"},
    Read(kafka::DeleteGroupsRequest::kApi, kForAgentState),
    ApiPolicy{43, "ElectLeaders"},
    ApiPolicy{44, "IncrementalAlterConfigs"},
    ApiPolicy{45, "AlterPartitionReassignments"},
    ApiPolicy{46, "ListPartitionReassignments"},
    Read(kafka::OffsetDeleteRequest::kApi, kForAgentState),
    ApiPolicy{48, "DescribeClientQuotas"},
    ApiPolicy{49, "AlterClientQuotas"},
    ApiPolicy{50, "DescribeUserScramCredentials"},
    ApiPolicy{51, "AlterUserScramCredentials"},
    ApiPolicy{55, "DescribeQuorum"},
    ApiPolicy{57, "UpdateFeatures"},
    Known(kafka::DescribeClusterRequest::kApi, Way::kRewritten, Away::kCache),
    ApiPolicy{61, "DescribeProducers"},
    ApiPolicy{64, "UnregisterBroker"},
    Read(kafka::DescribeTransactionsRequest::kApi, kForAgentState),
    Read(kafka::ListTransactionsRequest::kApi, kForAgentState),
    Read(kafka::ConsumerGroupHeartbeatRequest::kApi, kForBoth),
    Read(kafka::ConsumerGroupDescribeRequest::kApi, kForAgentState),
    Known(kafka::GetTelemetrySubscriptionsRequest::kApi, Way::kPassed, Away::kRetry),
    Known(kafka::PushTelemetryRequest::kApi, Way::kPassed, Away::kRetry),
    ApiPolicy{74, "ListConfigResources"},
    Read(kafka::DescribeTopicPartitionsRequest::kApi, kForRules),
    ApiPolicy{76, "ShareGroupHeartbeat"},
    ApiPolicy{77, "ShareGroupDescribe"},
    Shared(kafka::kShareFetchKey, "ShareFetch"),
    Shared(kafka::kShareAcknowledgeKey, "ShareAcknowledge"),
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

// "11 for rules, local transactions"; nothing where nobody reads.
std::string ReadUpTo(const ApiPolicy& api) {
  constexpr std::array<std::pair<ReadFor, std::string_view>, 3> kNames{
      {{kForRules, "rules"},
       {kForAgentState, "the agent's state"},
       {kForTransactions, "local transactions"}}};
  std::string text;
  for (const auto& [reader, name] : kNames) {
    if ((api.read_for & reader) == 0) continue;
    text += text.empty() ? fmt::format("{} for ", api.newest_read) : ", ";
    text += name;
  }
  return text;
}

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

void KeepToRead(kafka::ApiVersionsResponse& versions, uint8_t read_for) {
  std::erase_if(versions.api_keys, [read_for](auto& range) {
    const ApiPolicy policy = PolicyOf(range.api_key);
    if ((policy.read_for & read_for) == 0) return false;
    range.min_version = std::max(range.min_version, policy.oldest_read);
    range.max_version = std::min(range.max_version, policy.newest_read);
    return range.max_version < range.min_version;
  });
}

std::string RenderApiPolicies() {
  std::string table =
      "| key | API | newest version | where it is read | while the tier answers | while it is away "
      "|\n"
      "| ---: | --- | --- | --- | --- | --- |\n";
  for (const ApiPolicy& api : kPolicies) {
    const std::string newest =
        api.newest == kafka::kNever ? "the tier's" : std::to_string(api.newest);
    table += fmt::format("| {} | {} | {} | {} | {} | {} |\n", api.key, api.name, newest,
                         ReadUpTo(api), Text(api.way), Text(api.away));
  }
  return table;
}

}  // namespace holdfast::proxy
