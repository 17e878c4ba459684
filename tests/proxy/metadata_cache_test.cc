#include "proxy/metadata_cache.h"

#include <gtest/gtest.h>

#include <array>

#include "base/crc32c.h"
#include "base/endian.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/metadata.h"
#include "kafka/codec.h"
#include "proxy/api_versions.h"
#include "proxy/local_answers.h"

namespace holdfast::proxy {
namespace {

using kafka::ErrorCode;

kafka::MetadataResponse TwoBrokers() {
  kafka::MetadataResponse response;
  response.cluster_id = "cluster";
  response.controller_id = 2;
  response.brokers.push_back({.node_id = 1, .host = "one", .port = 9092, .rack = "a"});
  response.brokers.push_back({.node_id = 2, .host = "two", .port = 9093});
  return response;
}
kafka::MetadataResponse WithTopic(std::string_view name, std::vector<int32_t> leaders) {
  kafka::MetadataResponse response = TwoBrokers();
  auto& topic = response.topics.emplace_back();
  topic.name = name;
  topic.topic_id.bytes[3] = 7;
  for (size_t i = 0; i < leaders.size(); ++i) {
    topic.partitions.push_back(
        {.partition_index = static_cast<int32_t>(i), .leader_id = leaders[i]});
  }
  return response;
}
kafka::MetadataResponse Denying(std::string_view name) {
  kafka::MetadataResponse response = TwoBrokers();
  response.topics.push_back({.error_code = ErrorCode::kUnknownTopicOrPartition, .name = name});
  return response;
}
LocalAddresses Local() {
  return {.host = "127.0.0.1",
          .bootstrap_port = 7000,
          .ports = std::make_shared<const std::map<int32_t, uint16_t>>(
              std::map<int32_t, uint16_t>{{1, 0}, {2, 7002}})};
}

TEST(MetadataCacheTest, LearnsBrokersTopicsAndLeaders) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  const ClusterPtr cluster = cache.cluster();
  EXPECT_EQ(cluster->id, "cluster");
  EXPECT_EQ(cluster->brokers.at(2).address.ToString(), "two:9093");
  EXPECT_EQ(cluster->brokers.at(1).rack, "a");
  EXPECT_EQ(cluster->LeaderOf("t", 1), 2);
  EXPECT_EQ(cluster->LeaderOf("t", 2), kNoNode);
  EXPECT_EQ(cluster->LeaderOf("u", 0), kNoNode);
}

TEST(MetadataCacheTest, VersionRisesOnlyWithChanges) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  const uint64_t version = cache.version();
  cache.Learn(WithTopic("t", {1, 2}), 2);
  EXPECT_EQ(cache.version(), version);
  cache.Learn(WithTopic("t", {2, 2}), 3);
  EXPECT_GT(cache.version(), version);
}

TEST(MetadataCacheTest, AnotherControllerIsNoChangeWhileTheKnownOneIsThere) {
  MetadataCache cache({});
  cache.Learn(TwoBrokers(), 1);
  const uint64_t version = cache.version();
  kafka::MetadataResponse response = TwoBrokers();
  response.controller_id = 1;
  cache.Learn(response, 2);
  EXPECT_EQ(cache.version(), version);
  response.brokers.pop_back();
  cache.Learn(response, 3);
  EXPECT_EQ(cache.cluster()->controller, 1);
}

TEST(MetadataCacheTest, APartitionBetweenLeadersKeepsTheLastOne) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  cache.Learn(WithTopic("t", {-1, 2}), 2);
  EXPECT_EQ(cache.cluster()->LeaderOf("t", 0), 1);
}

TEST(MetadataCacheTest, ATopicIsForgottenOnlyAfterItWasDeniedForLong) {
  MetadataCache cache({{"declared", 3}});
  cache.Learn(WithTopic("t", {1}), 1'000);
  cache.Learn(Denying("t"), 2'000);
  EXPECT_NE(cache.cluster()->FindTopic("t"), nullptr);
  // A broker that starts may deny what it has not read yet.
  cache.Learn(WithTopic("t", {1}), 3'000);
  cache.Learn(Denying("t"), 100'000);
  EXPECT_NE(cache.cluster()->FindTopic("t"), nullptr);
  cache.Learn(Denying("t"), 100'000 + MetadataCache::kForgetAfterMs);
  EXPECT_EQ(cache.cluster()->FindTopic("t"), nullptr);
  cache.Learn(Denying("declared"), 1);
  cache.Learn(Denying("declared"), 1'000'000'000);
  EXPECT_EQ(cache.cluster()->FindTopic("declared")->leaders.size(), 3);
}

TEST(MetadataCacheTest, OnlyTheUpstreamClientChangesTheCluster) {
  MetadataCache before({});
  before.Learn(WithTopic("t", {1, 2}), 1);
  MetadataCache cache({});
  ASSERT_TRUE(cache.Load(before.Serialize()));
  EXPECT_FALSE(cache.cluster()->confirmed);
  kafka::MetadataResponse other = WithTopic("o", {7});
  other.cluster_id = "other";
  other.brokers = {{.node_id = 7, .host = "seven", .port = 9092}};
  // Which of the two is the tier's is not known yet.
  EXPECT_TRUE(cache.LearnPassing(other, 2, /*by_list=*/false));
  EXPECT_EQ(cache.cluster()->id, "cluster");
  EXPECT_FALSE(cache.cluster()->brokers.contains(7));

  cache.Learn(other, 3);
  EXPECT_TRUE(cache.cluster()->confirmed);
  EXPECT_EQ(cache.cluster()->id, "other");
  EXPECT_FALSE(cache.LearnPassing(WithTopic("u", {1, 2}), 4, /*by_list=*/false));
  EXPECT_EQ(cache.cluster()->id, "other");
  EXPECT_EQ(cache.cluster()->brokers.size(), 1);
  EXPECT_EQ(cache.cluster()->FindTopic("u"), nullptr);
  other.brokers.push_back({.node_id = 8, .host = "eight", .port = 9092});
  EXPECT_TRUE(cache.LearnPassing(other, 5, /*by_list=*/false));
  EXPECT_TRUE(cache.cluster()->brokers.contains(8));
}

// The agent's own login may have failed, and clients go on with theirs.
TEST(MetadataCacheTest, WhatAClientIsToldByTheListConfirmsTheCluster) {
  MetadataCache before({});
  before.Learn(WithTopic("t", {1, 2}), 1);
  MetadataCache cache({});
  ASSERT_TRUE(cache.Load(before.Serialize()));
  kafka::MetadataResponse other = WithTopic("o", {7});
  other.cluster_id = "other";
  EXPECT_TRUE(cache.LearnPassing(other, 2, /*by_list=*/true));
  EXPECT_TRUE(cache.cluster()->confirmed);
  EXPECT_EQ(cache.cluster()->id, "other");
  // But changes it no more.
  EXPECT_FALSE(cache.TakeOtherSeen());
  EXPECT_FALSE(cache.LearnPassing(WithTopic("u", {1, 2}), 3, /*by_list=*/true));
  EXPECT_TRUE(cache.TakeOtherSeen());
  EXPECT_FALSE(cache.TakeOtherSeen());
}

TEST(MetadataCacheTest, AnswersThatNameNoClusterTeachTopicsOnly) {
  MetadataCache cache({});
  cache.Learn(TwoBrokers(), 1);
  kafka::MetadataResponse old = WithTopic("t", {1, 2});
  old.cluster_id.reset();
  old.controller_id = -1;
  old.brokers.pop_back();
  old.brokers[0].rack.reset();
  EXPECT_TRUE(cache.LearnPassing(old, 2, /*by_list=*/false));
  EXPECT_EQ(cache.cluster()->LeaderOf("t", 1), 2);
  EXPECT_EQ(cache.cluster()->brokers.size(), 2);
  EXPECT_EQ(cache.cluster()->brokers.at(1).rack, "a");
  EXPECT_EQ(cache.cluster()->controller, 2);
}

// Metadata 0 does not.
TEST(MetadataCacheTest, ATopicOfTheTiersOwnStaysOneWhereAnAnswerDoesNotSaySo) {
  MetadataCache cache({});
  kafka::MetadataResponse metadata = WithTopic("t", {1, 2});
  metadata.topics.back().is_internal = true;
  cache.Learn(metadata, 1);
  metadata.topics.back().is_internal = false;
  EXPECT_TRUE(cache.LearnPassing(metadata, 2, /*by_list=*/false));
  EXPECT_TRUE(cache.cluster()->FindTopic("t")->internal);
}

TEST(MetadataCacheTest, WhatWasLearnedSurvivesARestart) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  kafka::ApiVersionsResponse versions;
  versions.api_keys.push_back({.api_key = 0, .min_version = 3, .max_version = 9});
  cache.Learn(versions);

  MetadataCache next({{"declared", 3}, {"t", 9}});
  ASSERT_TRUE(next.Load(cache.Serialize()));
  const ClusterPtr before = cache.cluster();
  const ClusterPtr after = next.cluster();
  EXPECT_EQ(after->id, before->id);
  EXPECT_EQ(after->controller, before->controller);
  EXPECT_EQ(after->brokers, before->brokers);
  EXPECT_EQ(after->api_versions, before->api_versions);
  EXPECT_EQ(*after->FindTopic("t"), *before->FindTopic("t"));
  EXPECT_FALSE(after->FindTopic("declared")->at_tier);
}

TEST(MetadataCacheTest, NamesAreFoundByIdOfWhatTheTierHasAndOfWhatIsDeclared) {
  MetadataCache cache({{"declared", 3}});
  const kafka::Uuid provisional = ProvisionalId("declared");
  EXPECT_FALSE(provisional.IsZero());
  EXPECT_NE(provisional, ProvisionalId("declarec"));
  EXPECT_EQ(cache.cluster()->FindTopic("declared")->id, provisional);
  cache.Learn(WithTopic("t", {1}), 1);
  kafka::MetadataResponse made = WithTopic("declared", {1, 1, 1});
  made.topics[0].topic_id.bytes[5] = 5;
  cache.Learn(made, 2);
  const ClusterPtr cluster = cache.cluster();
  EXPECT_EQ(cluster->NameOf(cluster->FindTopic("t")->id), "t");
  EXPECT_EQ(cluster->NameOf(made.topics[0].topic_id), "declared");
  // A client that has not heard of the new id yet.
  EXPECT_EQ(cluster->NameOf(provisional), "declared");
  EXPECT_EQ(cluster->NameOf(kafka::Uuid()), "");
}

TEST(MetadataCacheTest, SettingsStayWithTheTopicAndSurviveARestart) {
  MetadataCache cache({});
  cache.LearnSettings("t", {.from_tier = true});
  EXPECT_EQ(cache.cluster()->FindTopic("t"), nullptr);
  cache.Learn(WithTopic("t", {1, 2}), 1);
  const TopicSettings settings{.from_tier = true,
                               .max_message_bytes = 77,
                               .segment_bytes = 88,
                               .timestamp_before_max_ms = 5,
                               .timestamp_after_max_ms = 6,
                               .log_append_time = true,
                               .compacted = true,
                               .compression = kafka::Codec::kNone};
  cache.LearnSettings("t", settings);
  cache.Learn(WithTopic("t", {2, 2}), 2);
  EXPECT_EQ(cache.cluster()->FindTopic("t")->settings, settings);

  MetadataCache next({});
  ASSERT_TRUE(next.Load(cache.Serialize()));
  EXPECT_EQ(next.cluster()->FindTopic("t")->settings, settings);

  // Another topic of that name has settings of its own.
  kafka::MetadataResponse made_anew = WithTopic("t", {1});
  made_anew.topics[0].topic_id.bytes[3] = 8;
  cache.Learn(made_anew, 3);
  EXPECT_EQ(cache.cluster()->FindTopic("t")->settings, std::nullopt);
}

TEST(MetadataCacheTest, ASpoolOfFormat1IsStillRead) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  std::string bytes = cache.Serialize();
  // Before there were settings: their frame, 11 bytes of an empty answer behind its length, is
  // missing.
  bytes.resize(bytes.size() - 4 - base::LoadBig<uint32_t>(bytes.data() + bytes.size() - 15));
  base::StoreBig(bytes.data(), uint32_t{1});
  base::StoreBig(bytes.data() + 4, base::Crc32c(std::string_view(bytes).substr(8)));
  MetadataCache next({});
  const auto loaded = next.Load(bytes);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_NE(next.cluster()->FindTopic("t"), nullptr);
}

TEST(MetadataCacheTest, ADenialHoldsUntilTheTierAllowsOrNobodyRepeatsIt) {
  MetadataCache cache({});
  EXPECT_FALSE(cache.Denied("t", 1'000));
  cache.NoteDenied("t", 1'000);
  EXPECT_TRUE(cache.Denied("t", 2'000));
  EXPECT_FALSE(cache.Denied("u", 2'000));
  EXPECT_FALSE(cache.Denied("t", 1'000 + MetadataCache::kDenialHoldsMs));
  cache.NoteAllowed("t");
  EXPECT_FALSE(cache.Denied("t", 2'000));
}

TEST(MetadataCacheTest, DamagedBytesAreRefusedAndChangeNothing) {
  MetadataCache cache({});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  const std::string bytes = cache.Serialize();
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x20);
    MetadataCache next({});
    EXPECT_FALSE(next.Load(damaged)) << i;
    EXPECT_FALSE(next.Load(std::string_view(bytes).substr(0, i))) << i;
    EXPECT_EQ(next.version(), 1);
  }
}

TEST(LocalAnswersTest, MetadataWithTheTierAwayShowsWhatIsKnown) {
  MetadataCache cache({{"declared", 3}});
  cache.Learn(WithTopic("t", {1, 2, 5}), 1);
  kafka::MetadataRequest request;
  request.topics.emplace() = {
      {.name = "t"}, {.name = "declared"}, {.name = "unheard"}, {.name = "no name"}};
  const ClusterPtr cluster = cache.cluster();
  const LocalAddresses local = Local();
  const auto answer = LocalMetadata(*cluster, local, request, 12);
  ASSERT_EQ(answer.brokers.size(), 2);
  EXPECT_EQ(answer.brokers[0].port, 7000);
  EXPECT_EQ(answer.brokers[1].port, 7002);
  EXPECT_EQ(answer.controller_id, 2);
  ASSERT_EQ(answer.topics.size(), 4);
  EXPECT_EQ(answer.topics[0].partitions[1].leader_id, 2);
  EXPECT_EQ(answer.topics[0].partitions[1].leader_epoch, -1);
  // A leader that is gone is replaced: any of our ports takes the records.
  EXPECT_EQ(answer.topics[0].partitions[2].leader_id, 1);
  EXPECT_EQ(answer.topics[1].partitions.size(), 3);
  EXPECT_EQ(answer.topics[2].error_code, ErrorCode::kLeaderNotAvailable);
  EXPECT_EQ(answer.topics[3].error_code, ErrorCode::kInvalidTopicException);
}

TEST(LocalAnswersTest, AllVersionsAndShapesOfQuestionsCanBeEncoded) {
  MetadataCache cache({{"declared", 1}});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  const ClusterPtr cluster = cache.cluster();
  std::vector<kafka::MetadataRequest> requests(4);
  requests[1].topics.emplace();
  requests[2].topics.emplace() = {{.name = "t"}, {.name = "unheard"}};
  kafka::Uuid unheard;
  unheard.bytes[0] = 9;
  requests[3].topics.emplace() = {{.topic_id = cluster->FindTopic("t")->id}, {.topic_id = unheard}};
  for (int16_t version = 0; version <= kafka::MetadataRequest::kApi.newest; ++version) {
    for (const auto& request : requests) {
      const LocalAddresses local = Local();
      const auto answer = LocalMetadata(*cluster, local, request, version);
      const base::Buffer frame = kafka::EncodeResponse(answer, version, 5);
      EXPECT_TRUE(kafka::DecodeResponse<kafka::MetadataResponse>(frame.view().substr(4), version));
    }
  }
  const kafka::FindCoordinatorRequest group{.key = "g", .coordinator_keys = {"g", "h"}};
  for (int16_t version = 0; version <= kafka::FindCoordinatorRequest::kApi.newest; ++version) {
    const base::Buffer frame =
        kafka::EncodeResponse(LocalFindCoordinator(group, version), version, 5);
    const auto answer =
        kafka::DecodeResponse<kafka::FindCoordinatorResponse>(frame.view().substr(4), version);
    ASSERT_TRUE(answer);
    EXPECT_EQ(version < 4 ? answer->error_code : answer->coordinators[1].error_code,
              ErrorCode::kCoordinatorNotAvailable);
  }
  for (int16_t version = 0; version <= kafka::DescribeClusterRequest::kApi.newest; ++version) {
    const base::Buffer frame =
        kafka::EncodeResponse(LocalDescribeCluster(*cluster, Local(), {}), version, 5);
    EXPECT_TRUE(
        kafka::DecodeResponse<kafka::DescribeClusterResponse>(frame.view().substr(4), version));
  }
}

TEST(LocalAnswersTest, TheControllerOfAClusterIsOneOfTheBrokersThatAreListed) {
  MetadataCache cache({});
  cache.Learn(TwoBrokers(), 1);
  LocalAddresses local = Local();
  EXPECT_EQ(LocalDescribeCluster(*cache.cluster(), local, {}).controller_id, 2);
  local.ports =
      std::make_shared<const std::map<int32_t, uint16_t>>(std::map<int32_t, uint16_t>{{1, 0}});
  EXPECT_EQ(LocalDescribeCluster(*cache.cluster(), local, {}).controller_id, 1);
}

TEST(LocalAnswersTest, TelemetryAndTransactionsAreAskedToTryLater) {
  const auto subscriptions = kafka::EncodeResponse(LocalTelemetrySubscriptions(), 0, 5);
  EXPECT_EQ(kafka::DecodeResponse<kafka::GetTelemetrySubscriptionsResponse>(
                subscriptions.view().substr(4), 0)
                ->error_code,
            ErrorCode::kThrottlingQuotaExceeded);
  EXPECT_EQ(LocalPushTelemetry().error_code, ErrorCode::kThrottlingQuotaExceeded);
  EXPECT_EQ(LocalInitProducerId().error_code, ErrorCode::kCoordinatorNotAvailable);
}

TEST(LocalAnswersTest, ATierThatWasNeverSeenIsOneBrokerHere) {
  MetadataCache cache({{"declared", 2}});
  const ClusterPtr cluster = cache.cluster();
  LocalAddresses local = Local();
  local.ports = std::make_shared<const std::map<int32_t, uint16_t>>();
  const auto answer = LocalMetadata(*cluster, local, {}, 12);
  ASSERT_EQ(answer.brokers.size(), 1);
  EXPECT_EQ(answer.brokers[0].port, 7000);
  ASSERT_EQ(answer.topics.size(), 1);
  EXPECT_EQ(answer.topics[0].partitions[1].leader_id, answer.brokers[0].node_id);
  EXPECT_EQ(answer.controller_id, answer.brokers[0].node_id);
}

TEST(LocalAnswersTest, FillInShowsDeclaredTopicsAndLeaderlessPartitions) {
  MetadataCache cache({{"declared", 2}});
  cache.Learn(WithTopic("t", {1, 2}), 1);
  kafka::MetadataResponse response = WithTopic("t", {-1, 2});
  response.topics[0].partitions[0].error_code = ErrorCode::kLeaderNotAvailable;
  response.topics.push_back(
      {.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "declared"});
  response.topics.push_back({.error_code = ErrorCode::kUnknownTopicOrPartition, .name = "unheard"});
  FillIn(response, *cache.cluster(), cache);
  EXPECT_EQ(response.topics[0].partitions[0].leader_id, 1);
  EXPECT_EQ(response.topics[0].partitions[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(response.topics[1].error_code, ErrorCode::kNone);
  EXPECT_EQ(response.topics[1].partitions.size(), 2);
  EXPECT_EQ(response.topics[2].error_code, ErrorCode::kUnknownTopicOrPartition);
}

struct Advertised {
  int16_t oldest = -1;
  int16_t newest = -1;
  bool operator==(const Advertised&) const = default;
};
Advertised Find(const kafka::ApiVersionsResponse& response, int16_t key) {
  for (const auto& range : response.api_keys) {
    if (range.api_key == key) return {range.min_version, range.max_version};
  }
  return {};
}

TEST(ApiVersionsTest, OffersWhatTheTierHasAndPassesUnharmed) {
  kafka::ApiVersionsResponse tier;
  for (int16_t key = 0; key <= 92; ++key) {
    tier.api_keys.push_back({.api_key = key, .min_version = 1, .max_version = 40});
  }
  tier.supported_features.push_back({.name = "group.version", .min_version = 0, .max_version = 1});
  tier.finalized_features_epoch = 7;
  tier.finalized_features.push_back({.name = "transaction.version", .max_version_level = 2});
  MetadataCache cache({});
  cache.Learn(tier);
  const ClusterPtr cluster = cache.cluster();
  const auto offered = LocalApiVersions(*cluster);
  EXPECT_EQ(Find(offered, 0), (Advertised{0, 13}));   // Produce
  EXPECT_EQ(Find(offered, 1), (Advertised{1, 18}));   // Fetch
  EXPECT_EQ(Find(offered, 3), (Advertised{1, 13}));   // Metadata
  EXPECT_EQ(Find(offered, 10), (Advertised{1, 6}));   // FindCoordinator
  EXPECT_EQ(Find(offered, 60), (Advertised{1, 2}));   // DescribeCluster
  EXPECT_EQ(Find(offered, 68), (Advertised{1, 40}));  // ConsumerGroupHeartbeat: byte by byte.
  EXPECT_EQ(Find(offered, 18), (Advertised{0, 4}));   // ApiVersions
  EXPECT_EQ(Find(offered, 78), (Advertised{1, 2}));   // ShareFetch
  EXPECT_EQ(Find(offered, 79), (Advertised{1, 2}));   // ShareAcknowledge
  EXPECT_EQ(Find(offered, 71), Advertised{});         // Telemetry begins at 0.
  EXPECT_EQ(offered.finalized_features_epoch, 7);
  EXPECT_EQ(offered.finalized_features.front().name, "transaction.version");
}

TEST(ApiVersionsTest, WhatDoesNotPassIsNotOffered) {
  kafka::ApiVersionsResponse tier;
  tier.api_keys = {{.api_key = 1, .min_version = 0, .max_version = 11},
                   {.api_key = 17, .min_version = 0, .max_version = 1},
                   {.api_key = 36, .min_version = 0, .max_version = 2},
                   {.api_key = 78, .min_version = 0, .max_version = 1},
                   {.api_key = 79, .min_version = 0, .max_version = 0}};
  MetadataCache cache({});
  cache.Learn(tier);
  const ClusterPtr cluster = cache.cluster();
  const auto offered = LocalApiVersions(*cluster);
  EXPECT_EQ(Find(offered, 1), (Advertised{0, 11}));  // Fetch
  EXPECT_EQ(Find(offered, 17), (Advertised{0, 1}));  // SaslHandshake: librdkafka looks for 0.
  EXPECT_EQ(Find(offered, 36), (Advertised{0, 2}));  // SaslAuthenticate
  EXPECT_EQ(Find(offered, 78), (Advertised{1, 1}));  // ShareFetch
  EXPECT_EQ(Find(offered, 79), Advertised{});        // ShareAcknowledge
}

TEST(ApiVersionsTest, OfBrokersThatDifferWhatAllOfThemSpeakIsOffered) {
  kafka::ApiVersionsResponse newer{.finalized_features_epoch = 9};
  newer.api_keys = {{.api_key = 0, .min_version = 3, .max_version = 13},
                    {.api_key = 1, .min_version = 4, .max_version = 18},
                    {.api_key = 2, .min_version = 7, .max_version = 9},
                    {.api_key = 68, .min_version = 0, .max_version = 1}};
  kafka::ApiVersionsResponse older{.finalized_features_epoch = 8};
  older.api_keys = {{.api_key = 0, .min_version = 0, .max_version = 11},
                    {.api_key = 1, .min_version = 0, .max_version = 17},
                    {.api_key = 2, .min_version = 0, .max_version = 6}};
  for (const std::array order : {std::array{&newer, &older}, std::array{&older, &newer}}) {
    const auto common =
        CommonApiVersions(std::array<const kafka::ApiVersionsResponse*, 2>{order[0], order[1]});
    EXPECT_EQ(Find(common, 0), (Advertised{3, 11}));
    EXPECT_EQ(Find(common, 1), (Advertised{4, 17}));
    EXPECT_EQ(Find(common, 2), Advertised{});
    EXPECT_EQ(Find(common, 68), Advertised{});
    EXPECT_EQ(common.finalized_features_epoch, 9);
  }
}

TEST(ApiVersionsTest, AnOldTierLowersWhatIsOffered) {
  kafka::ApiVersionsResponse tier;
  tier.api_keys.push_back({.api_key = 0, .min_version = 0, .max_version = 7});
  tier.api_keys.push_back({.api_key = 1, .min_version = 4, .max_version = 11});
  MetadataCache cache({});
  cache.Learn(tier);
  const ClusterPtr cluster = cache.cluster();
  const auto offered = LocalApiVersions(*cluster);
  EXPECT_EQ(Find(offered, 0), (Advertised{0, 7}));
  EXPECT_EQ(Find(offered, 1), (Advertised{4, 11}));
  EXPECT_EQ(Find(offered, 60), Advertised{});
}

// librdkafka 2.0 compresses, and is idempotent, only if these ranges overlap its own.
TEST(ApiVersionsTest, ATierThatWasNeverSeenStillLetsLibrdkafkaCompress) {
  const auto offered = LocalApiVersions(Cluster());
  EXPECT_EQ(Find(offered, 0).oldest, 0);
  EXPECT_GE(Find(offered, 0).newest, 7);
  EXPECT_LE(Find(offered, 1).oldest, 4);
  EXPECT_GE(Find(offered, 1).newest, 10);
  EXPECT_EQ(Find(offered, 10).oldest, 0);
  EXPECT_EQ(Find(offered, 22).oldest, 0);
  EXPECT_EQ(Find(offered, 11).oldest, 0);
}

}  // namespace
}  // namespace holdfast::proxy
