// Quotas: which one counts, the rate as Kafka measures it, and a whole broker that keeps them.
#include "broker/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "broker/records.h"
#include "kafka/api/alter_client_quotas.h"
#include "kafka/api/create_partitions.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_client_quotas.h"
#include "kafka/api/describe_groups.h"
#include "tests/broker/broker_fixture.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::IsEmpty;

QuotaEntity Entity(std::optional<std::optional<std::string>> user,
                   std::optional<std::optional<std::string>> client) {
  QuotaEntity entity;
  if (user) entity.parts["user"] = *user;
  if (client) entity.parts["client-id"] = *client;
  return entity;
}

TEST(QuotasTest, TheNearestOfEightCounts) {
  using Name = std::optional<std::string>;
  // From the farthest to the nearest, each with its own rate.
  const std::vector<QuotaEntity> order{Entity({}, Name()),        Entity({}, Name("c")),
                                       Entity(Name(), {}),        Entity(Name(), Name()),
                                       Entity(Name(), Name("c")), Entity(Name("u"), {}),
                                       Entity(Name("u"), Name()), Entity(Name("u"), Name("c"))};
  Quotas quotas;
  EXPECT_FALSE(quotas.Find(QuotaKind::kProduce, "u", "c").has_value());
  for (size_t i = 0; i < order.size(); ++i) {
    quotas.Put(order[i], {{"producer_byte_rate", 100.0 + static_cast<double>(i)}});
    const auto found = quotas.Find(QuotaKind::kProduce, "u", "c");
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->per_second, 100.0 + static_cast<double>(i));
  }
  EXPECT_FALSE(quotas.Find(QuotaKind::kConsume, "u", "c").has_value());
  EXPECT_EQ(quotas.Find(QuotaKind::kProduce, "v", "d")->per_second, 103);
  EXPECT_EQ(quotas.Find(QuotaKind::kProduce, "u", "d")->per_second, 106);
}

TEST(QuotasTest, WhoFallsUnderTheSameQuotaSharesIt) {
  using Name = std::optional<std::string>;
  Quotas quotas;
  quotas.Put(Entity(Name("u"), {}), {{"producer_byte_rate", 10}});
  quotas.Put(Entity({}, Name()), {{"producer_byte_rate", 10}});
  const auto sharers = [&](std::string_view user, std::string_view client) {
    return quotas.Find(QuotaKind::kProduce, user, client)->shared_by;
  };
  EXPECT_EQ(sharers("u", "a"), sharers("u", "b")) << "one user, whatever his clients";
  EXPECT_NE(sharers("v", "a"), sharers("v", "b")) << "each client id has the default for itself";
  EXPECT_EQ(sharers("v", "a"), sharers("w", "a"));
}

TEST(SampledRateTest, IsSpreadOverTenSecondsAtLeast) {
  SampledRate rate;
  const base::TimePoint start{seconds(1000)};
  EXPECT_EQ(rate.PerSecond(start), 0);
  rate.Record(1000, start);
  EXPECT_DOUBLE_EQ(rate.PerSecond(start), 100);
  EXPECT_EQ(rate.OverBy(100, start), base::Duration::zero());
  EXPECT_EQ(rate.OverBy(50, start), seconds(10)) << "twice too much: as long again";
  rate.Record(1000, start + milliseconds(500));
  EXPECT_NEAR(rate.PerSecond(start + milliseconds(500)), 2000 / 10.5, 1e-9);
  EXPECT_NEAR(rate.PerSecond(start + seconds(10)), 200, 1e-9);
  EXPECT_EQ(rate.PerSecond(start + seconds(11)), 0) << "samples are forgotten after 11 s";
  EXPECT_TRUE(rate.idle(start + seconds(11)));
}

TEST(SampledRateTest, WhoWaitsAsToldIsWithinHisQuota) {
  SampledRate rate;
  base::TimePoint now{seconds(1000)};
  const double limit = 1000;
  double sent = 0;
  const base::TimePoint start = now;
  for (int i = 0; i < 200; ++i) {
    rate.Record(700, now);
    sent += 700;
    now += rate.OverBy(limit, now) + milliseconds(10);
  }
  const double spent = std::chrono::duration<double>(now - start).count();
  EXPECT_LT(sent / spent, limit * 1.15);
  EXPECT_GT(sent / spent, limit * 0.7);
}

TEST(SampledRateTest, ATimeBeforeTheNewestSampleCountsAsThat) {
  SampledRate rate;
  const base::TimePoint now{seconds(1000)};
  rate.Record(1000, now);
  EXPECT_DOUBLE_EQ(rate.PerSecond(now - seconds(5)), 100);
  rate.Record(1000, now - seconds(5));
  EXPECT_DOUBLE_EQ(rate.PerSecond(now), 200);
}

TEST(TokenBucketTest, IsFullAtFirstAndFillsAgain) {
  TokenBucket bucket;
  const base::TimePoint start{seconds(1000)};
  EXPECT_DOUBLE_EQ(bucket.Tokens(2, start), 22);
  bucket.Take(30);
  EXPECT_DOUBLE_EQ(bucket.Tokens(2, start), -8);
  EXPECT_FALSE(bucket.idle(start));
  EXPECT_DOUBLE_EQ(bucket.Tokens(2, start + seconds(4)), 0);
  EXPECT_DOUBLE_EQ(bucket.Tokens(2, start + seconds(3)), 0) << "time does not go back";
  EXPECT_DOUBLE_EQ(bucket.Tokens(2, start + seconds(100)), 22);
  EXPECT_DOUBLE_EQ(bucket.Tokens(1, start + seconds(100)), 11) << "a smaller one holds less";
  EXPECT_TRUE(bucket.idle(start + seconds(100)));
}

TEST(QuotasTest, AnAddressHasItsOwnRateOfConnectionsOrTheDefault) {
  const auto of = [](std::optional<std::string> address) {
    QuotaEntity entity;
    entity.parts["ip"] = std::move(address);
    return entity;
  };
  Quotas quotas;
  EXPECT_FALSE(quotas.FindOfAddress("10.0.0.1").has_value());
  quotas.Put(of(std::nullopt), {{"connection_creation_rate", 3}});
  quotas.Put(of("10.0.0.1"), {{"connection_creation_rate", 1}});
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.1")->per_second, 1);
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.2")->per_second, 3);
  EXPECT_NE(quotas.FindOfAddress("10.0.0.2")->shared_by,
            quotas.FindOfAddress("10.0.0.3")->shared_by);

  // However it is written; what is written as the address is known counts before the others.
  quotas.Put(of("::ffff:10.0.0.1"), {{"connection_creation_rate", 5}});
  quotas.Put(of("::FFFF:10.0.0.2"), {{"connection_creation_rate", 6}});
  quotas.Put(of("::ffff:a00:2"), {{"connection_creation_rate", 6}});
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.1")->per_second, 1);
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.2")->per_second, 6);
  EXPECT_EQ(quotas.all().size(), 5u);
  quotas.Put(of("10.0.0.1"), {});
  quotas.Put(of("::FFFF:10.0.0.2"), {});
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.1")->per_second, 5);
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.2")->per_second, 6);
  quotas.Put(of("::ffff:10.0.0.1"), {});
  quotas.Put(of("::ffff:a00:2"), {});
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.1")->per_second, 3);
  EXPECT_EQ(quotas.FindOfAddress("10.0.0.2")->per_second, 3);
}

TEST(QuotasTest, KeysHoldTheEntity) {
  using Name = std::optional<std::string>;
  for (const QuotaEntity& entity :
       {Entity({}, Name()), Entity(Name("u"), Name("client")), Entity(Name(""), {})}) {
    const auto parsed = ParseQuotaKey(StoredQuotaKey(entity));
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(*parsed, entity);
  }
  EXPECT_FALSE(ParseQuotaKey("q").has_value());
  EXPECT_FALSE(ParseQuotaKey(std::string("q\3\0\0\0", 5)).has_value());
}

class QuotaAdminTest : public testing::Test {
 protected:
  using Alter = kafka::AlterClientQuotasRequest;

  QuotaAdminTest() { broker_.CreateTopic("t", 1); }

  static Alter::EntryData Entry(std::vector<Alter::EntryData::EntityData> entity,
                                std::vector<Alter::EntryData::OpData> ops) {
    return {std::move(entity), std::move(ops), {}};
  }
  ErrorCode Change(Alter::EntryData entry, bool validate_only = false) {
    Alter request;
    request.entries.push_back(std::move(entry));
    request.validate_only = validate_only;
    return broker_.Ask(request, 1).Get().entries.at(0).error_code;
  }
  ErrorCode SetRate(std::string_view key, double rate) {
    return Change(Entry({{"client-id", "test", {}}}, {{key, rate, false, {}}}));
  }
  // "user=u client-id=: key=value", by entity.
  std::vector<std::string> Describe(
      std::vector<kafka::DescribeClientQuotasRequest::ComponentData> components, bool strict) {
    kafka::DescribeClientQuotasRequest request;
    request.components = std::move(components);
    request.strict = strict;
    const auto pending = broker_.Ask(request, 1);
    const auto response = pending.Get();
    EXPECT_EQ(response.error_code, ErrorCode::kNone);
    std::vector<std::string> all;
    for (const auto& entry : *response.entries) {
      std::string& text = all.emplace_back();
      for (const auto& part : entry.entity) {
        text +=
            std::string(part.entity_type) + "=" + std::string(part.entity_name.value_or("")) + " ";
      }
      for (const auto& value : entry.values) {
        text += std::string(value.key) + ":" + std::to_string(static_cast<int>(value.value));
      }
    }
    return all;
  }

  BrokerFixture broker_;
};

TEST_F(QuotaAdminTest, QuotasAreKeptAndFoundByFilters) {
  EXPECT_EQ(Change(Entry({{"user", "u", {}}, {"client-id", std::nullopt, {}}},
                         {{"producer_byte_rate", 1000, false, {}}})),
            ErrorCode::kNone);
  EXPECT_EQ(Change(Entry({{"user", "u", {}}}, {{"request_percentage", 50, false, {}}})),
            ErrorCode::kNone);
  EXPECT_EQ(Change(Entry({{"ip", "10.0.0.1", {}}}, {{"connection_creation_rate", 5, false, {}}})),
            ErrorCode::kNone);
  EXPECT_EQ(Change(Entry({{"user", "v", {}}}, {{"producer_byte_rate", 7, false, {}}}),
                   /*validate_only=*/true),
            ErrorCode::kNone);
  broker_.CrashAndRestart();
  using testing::ElementsAre;
  using testing::UnorderedElementsAre;
  EXPECT_THAT(Describe({}, false), UnorderedElementsAre("client-id= user=u producer_byte_rate:1000",
                                                        "user=u request_percentage:50",
                                                        "ip=10.0.0.1 connection_creation_rate:5"));
  EXPECT_THAT(Describe({{"user", 0, "u", {}}}, false).size(), 2u);
  EXPECT_THAT(Describe({{"user", 0, "u", {}}}, true), ElementsAre("user=u request_percentage:50"));
  EXPECT_THAT(Describe({{"client-id", 1, std::nullopt, {}}}, false).size(), 1u);
  EXPECT_THAT(Describe({{"client-id", 0, "x", {}}}, false), IsEmpty());
  EXPECT_THAT(Describe({{"ip", 2, std::nullopt, {}}}, true).size(), 1u);

  EXPECT_EQ(Change(Entry({{"user", "u", {}}}, {{"request_percentage", 0, true, {}}})),
            ErrorCode::kNone);
  broker_.CrashAndRestart();
  EXPECT_THAT(Describe({{"user", 0, "u", {}}}, true), IsEmpty());
}

TEST_F(QuotaAdminTest, OfATypeThatIsNamedTwiceTheLastNameCounts) {
  Alter request;
  request.entries.push_back(
      Entry({{"user", "u", {}}, {"user", "v", {}}}, {{"producer_byte_rate", 5, false, {}}}));
  const auto pending = broker_.Ask(request, 1);
  const auto entry = pending.Get().entries.at(0);
  EXPECT_EQ(entry.error_code, ErrorCode::kNone);
  ASSERT_EQ(entry.entity.size(), 1u);
  EXPECT_EQ(entry.entity[0].entity_name, "v");
  EXPECT_THAT(Describe({}, false), testing::ElementsAre("user=v producer_byte_rate:5"));
}

TEST_F(QuotaAdminTest, WhatMakesNoSenseIsRefused) {
  constexpr auto kInvalid = ErrorCode::kInvalidRequest;
  EXPECT_EQ(Change(Entry({}, {})), kInvalid);
  EXPECT_EQ(Change(Entry({{"group", "g", {}}}, {})), kInvalid);
  EXPECT_EQ(Change(Entry({{"user", "", {}}}, {})), kInvalid);
  EXPECT_EQ(Change(Entry({{"user", "u", {}}, {"ip", "10.0.0.1", {}}}, {})), kInvalid);
  EXPECT_EQ(Change(Entry({{"ip", "no address", {}}}, {})), kInvalid);
  EXPECT_EQ(SetRate("producer_byte_rate", 0), kInvalid);
  EXPECT_EQ(SetRate("producer_byte_rate", 1.5), kInvalid);
  EXPECT_EQ(SetRate("request_percentage", 1.5), ErrorCode::kNone);
  EXPECT_EQ(SetRate("connection_creation_rate", 1), kInvalid) << "is for addresses";
  EXPECT_EQ(SetRate("no_such_rate", 1), kInvalid);
  kafka::DescribeClientQuotasRequest request;
  request.components.push_back({"group", 2, std::nullopt, {}});
  EXPECT_EQ(broker_.Ask(request, 1).Get().error_code, ErrorCode::kUnsupportedVersion);
  request.components = {{"user", 0, std::nullopt, {}}};
  EXPECT_EQ(broker_.Ask(request, 1).Get().error_code, kInvalid);
}

TEST_F(QuotaAdminTest, ProducersAreToldToWaitAndTheirRecordsKept) {
  ASSERT_EQ(SetRate("producer_byte_rate", 1000), ErrorCode::kNone);
  const std::string batch = broker_.Batch({std::string(50000, 'x')});
  const auto request = BrokerFixture::MakeProduce("t", 0, batch);
  const auto pending = broker_.Ask(request, 9);
  EXPECT_EQ(pending.Get().responses.at(0).partition_responses.at(0).error_code, ErrorCode::kNone);
  // 50 kB over 10 s are 5000 a second, four times too much.
  EXPECT_NEAR(pending.Get().throttle_time_ms, 40000, 2000);
  EXPECT_EQ(pending.throttle(), milliseconds(pending.Get().throttle_time_ms));
  broker_.clock().Advance(seconds(51));
  const std::string small = broker_.Batch({"y"});
  EXPECT_EQ(broker_.Ask(BrokerFixture::MakeProduce("t", 0, small), 9).Get().throttle_time_ms, 0);
}

TEST_F(QuotaAdminTest, ConsumersWhoAskForTooMuchGetNothingUntilTheyHaveWaited) {
  for (int i = 0; i < 40; ++i) {
    broker_.Produce("t", 0, broker_.Batch({std::string(1000, 'x')}));
  }
  ASSERT_EQ(SetRate("consumer_byte_rate", 1000), ErrorCode::kNone);
  auto request = BrokerFixture::MakeFetch("t", 0, 0);
  request.max_wait_ms = 0;
  request.session_epoch = 0;
  const auto first = broker_.Ask(request, 12);
  EXPECT_EQ(first.Get().throttle_time_ms, 0);
  EXPECT_GT(first.Get().session_id, 0);
  const size_t size = first.Get().responses.at(0).partitions.at(0).records->size();
  EXPECT_GT(size, 5000u);
  EXPECT_LE(size, 10000u);
  const auto second = broker_.Ask(request, 12);
  EXPECT_THAT(second.Get().responses, IsEmpty());
  EXPECT_EQ(second.Get().session_id, 0);
  EXPECT_NEAR(second.Get().throttle_time_ms, static_cast<double>(size * 2) - 10000, 500);
  EXPECT_EQ(second.throttle(), milliseconds(second.Get().throttle_time_ms));
  EXPECT_EQ(broker_.Ask(request, 12).Get().throttle_time_ms, second.Get().throttle_time_ms)
      << "what is not given does not count";
  broker_.clock().Advance(seconds(12));
  EXPECT_EQ(broker_.Ask(request, 12).Get().throttle_time_ms, 0);
}

TEST_F(QuotaAdminTest, ASessionGoesOnAsIfTheThrottledFetchHadNotBeen) {
  broker_.Produce("t", 0, broker_.Batch({std::string(8000, 'x')}));
  broker_.Produce("t", 0, broker_.Batch({std::string(8000, 'y')}));
  ASSERT_EQ(SetRate("consumer_byte_rate", 1000), ErrorCode::kNone);
  auto request = BrokerFixture::MakeFetch("t", 0, 0);
  request.max_wait_ms = 0;
  request.session_epoch = 0;
  const int32_t session = broker_.Ask(request, 12).Get().session_id;
  request.session_id = session;
  request.session_epoch = 1;
  request.topics.at(0).partitions.at(0).fetch_offset = 1;
  const auto throttled = broker_.Ask(request, 12);
  EXPECT_GT(throttled.Get().throttle_time_ms, 5000);
  EXPECT_EQ(throttled.Get().session_id, session);
  EXPECT_THAT(throttled.Get().responses, IsEmpty());
  broker_.clock().Advance(seconds(12));
  request.session_epoch = 2;
  request.topics.clear();
  const auto then = broker_.Ask(request, 12);
  EXPECT_EQ(then.Get().error_code, ErrorCode::kNone);
  ASSERT_EQ(then.Get().responses.size(), 1u);
  EXPECT_GT(then.Get().responses.at(0).partitions.at(0).records->size(), 8000u);
}

TEST_F(QuotaAdminTest, ConsumersOfLentBatchesHaveToWait) {
  broker_.Produce("t", 0, broker_.Batch({std::string(30000, 'x')}));
  ASSERT_EQ(SetRate("consumer_byte_rate", 1000), ErrorCode::kNone);
  const auto pending = broker_.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12);
  EXPECT_GT(pending.Get().throttle_time_ms, 15000);
  EXPECT_EQ(pending.throttle(), milliseconds(pending.Get().throttle_time_ms));
  EXPECT_THAT(pending.Get().responses, IsEmpty());
}

TEST_F(QuotaAdminTest, RequestsThatTakeTooMuchTimeAreAnsweredAndTheClientWaitsASecondAtMost) {
  kafka::MetadataRequest request;
  EXPECT_EQ(broker_.Ask(request, 12).throttle(), base::Duration::zero());
  ASSERT_EQ(SetRate("request_percentage", 1e-9), ErrorCode::kNone);
  const auto metadata = broker_.Ask(request, 12);
  EXPECT_EQ(metadata.Get().throttle_time_ms, 1000);
  EXPECT_EQ(metadata.throttle(), seconds(1));
  EXPECT_THAT(metadata.Get().brokers, testing::SizeIs(1));
  // Answered on another loop's account, and refused.
  kafka::DescribeGroupsRequest group;
  group.groups.push_back("g");
  EXPECT_EQ(broker_.Ask(group, 5).Get().throttle_time_ms, 1000);
  auto fetch = BrokerFixture::MakeFetch("t", 0, 0);
  fetch.max_wait_ms = 0;
  EXPECT_THAT(broker_.Ask(fetch, 12).Get().responses, IsEmpty());
  const std::string batch = broker_.Batch({"x"});
  EXPECT_EQ(broker_.Ask(BrokerFixture::MakeProduce("t", 0, batch, 0), 9).throttle(),
            base::Duration::zero())
      << "who waits for no answer is not told to wait";
  const auto produced = broker_.Ask(BrokerFixture::MakeProduce("t", 0, batch), 9);
  EXPECT_EQ(produced.Get().throttle_time_ms, 1000);
  ASSERT_EQ(SetRate("request_percentage", 1e6), ErrorCode::kNone);
  EXPECT_EQ(broker_.Ask(request, 12).Get().throttle_time_ms, 0);
}

class MutationQuotaTest : public QuotaAdminTest {
 protected:
  static kafka::CreateTopicsRequest Creation(std::vector<std::pair<std::string_view, int32_t>> of) {
    kafka::CreateTopicsRequest request;
    for (const auto& [name, partitions] : of) {
      auto& topic = request.topics.emplace_back();
      topic.name = name;
      topic.num_partitions = partitions;
      topic.replication_factor = 1;
    }
    return request;
  }
};

TEST_F(MutationQuotaTest, NewerClientsAreRefusedWhatIsTooMuch) {
  ASSERT_EQ(SetRate("controller_mutation_rate", 1), ErrorCode::kNone);
  const auto creation = Creation({{"a", 15}, {"b", 1}});
  const auto created = broker_.Ask(creation, 7);
  EXPECT_EQ(created.Get().topics.at(0).error_code, ErrorCode::kNone) << "overdraws the bucket";
  EXPECT_EQ(created.Get().topics.at(1).error_code, ErrorCode::kThrottlingQuotaExceeded);
  EXPECT_FALSE(created.Get().topics.at(1).error_message.has_value()) << "as in Kafka";
  EXPECT_EQ(created.Get().throttle_time_ms, 4000);
  EXPECT_EQ(created.throttle(), seconds(4));

  kafka::DeleteTopicsRequest deletion;
  deletion.topics.push_back({"a", {}, {}});
  EXPECT_EQ(broker_.Ask(deletion, 6).Get().responses.at(0).error_code,
            ErrorCode::kThrottlingQuotaExceeded);
  kafka::CreatePartitionsRequest growth;
  growth.topics.push_back({"t", 2, std::nullopt, {}});
  const auto grown = broker_.Ask(growth, 3);
  EXPECT_EQ(grown.Get().results.at(0).error_code, ErrorCode::kThrottlingQuotaExceeded);
  EXPECT_EQ(grown.Get().throttle_time_ms, 4000);

  broker_.clock().Advance(seconds(4));
  EXPECT_EQ(broker_.Ask(growth, 3).Get().results.at(0).error_code, ErrorCode::kNone);
  broker_.clock().Advance(seconds(1));
  EXPECT_EQ(broker_.Ask(deletion, 6).Get().responses.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(broker_.Ask(Creation({{"b", 1}}), 7).Get().throttle_time_ms, 15000);
}

TEST_F(MutationQuotaTest, OlderClientsGetItAndWait) {
  ASSERT_EQ(SetRate("controller_mutation_rate", 1), ErrorCode::kNone);
  const auto first = broker_.Ask(Creation({{"a", 15}, {"b", 1}}), 5);
  EXPECT_EQ(first.Get().topics.at(0).error_code, ErrorCode::kNone);
  EXPECT_EQ(first.Get().topics.at(1).error_code, ErrorCode::kNone);
  EXPECT_EQ(first.Get().throttle_time_ms, 5000);
  EXPECT_EQ(first.throttle(), seconds(5));
  kafka::CreatePartitionsRequest growth;
  growth.topics.push_back({"t", 2, std::nullopt, {}});
  EXPECT_EQ(broker_.Ask(growth, 2).Get().throttle_time_ms, 6000);
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names.push_back("b");
  EXPECT_EQ(broker_.Ask(deletion, 4).Get().throttle_time_ms, 7000);
}

TEST_F(MutationQuotaTest, TopicsThatMetadataMakesAreChargedToo) {
  ASSERT_EQ(SetRate("controller_mutation_rate", 1), ErrorCode::kNone);
  std::vector<std::string> names;
  for (char c = 'a'; c <= 't'; ++c) names.emplace_back(1, c).append("-new");
  kafka::MetadataRequest request;
  request.topics.emplace().emplace_back().name = names.front();  // Twice, and made once.
  for (const std::string& name : names) request.topics->emplace_back().name = name;
  const auto made = [&](const Pending<kafka::MetadataRequest>& pending) {
    EXPECT_EQ(pending.Get().throttle_time_ms, 0);
    std::set<std::string> topics;
    for (const auto& topic : pending.Get().topics) {
      if (topic.error_code == ErrorCode::kNone) {
        topics.emplace(*topic.name);
      } else {
        EXPECT_EQ(topic.error_code, ErrorCode::kUnknownTopicOrPartition);
      }
    }
    return topics.size();
  };
  EXPECT_EQ(made(broker_.Ask(request, 9)), 12) << "what 11 s bring, and the one that overdraws it";
  EXPECT_EQ(made(broker_.Ask(request, 9)), 12);
  const auto creation = Creation({{"u", 1}});
  EXPECT_EQ(broker_.Ask(creation, 7).Get().topics.at(0).error_code,
            ErrorCode::kThrottlingQuotaExceeded);
  kafka::MetadataRequest internal;
  internal.topics.emplace().emplace_back().name = "__consumer_offsets";
  EXPECT_EQ(made(broker_.Ask(internal, 9)), 1) << "the broker needs it, whoever asks";
  broker_.clock().Advance(seconds(1));
  EXPECT_EQ(made(broker_.Ask(request, 9)), 13);
}

// As it was kept while a peer of a listener for both families was known by such an address.
TEST_F(QuotaAdminTest, AnAddressWrittenAnotherWayHasItsRateAfterAStart) {
  ASSERT_EQ(
      Change(Entry({{"ip", "::ffff:10.0.0.1", {}}}, {{"connection_creation_rate", 1, false, {}}})),
      ErrorCode::kNone);
  broker_.CrashAndRestart();
  Worker& worker = broker_.broker().worker(0);
  for (int i = 0; i < 50; ++i) worker.RecordConnection("10.0.0.1");
  EXPECT_EQ(worker.RecordConnection("10.0.0.1"), seconds(1));
  EXPECT_EQ(worker.RecordConnection("10.0.0.2"), base::Duration::zero());
}

TEST_F(QuotaAdminTest, NewConnectionsOfAnAddressBeyondItsRateAreToBeClosed) {
  Worker& worker = broker_.broker().worker(0);
  EXPECT_EQ(worker.RecordConnection("10.0.0.1"), base::Duration::zero());
  ASSERT_EQ(Change(Entry({{"ip", "10.0.0.1", {}}}, {{"connection_creation_rate", 1, false, {}}})),
            ErrorCode::kNone);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(worker.RecordConnection("10.0.0.1"), base::Duration::zero());
  }
  for (int i = 0; i < 50; ++i) EXPECT_EQ(worker.RecordConnection("10.0.0.1"), seconds(1));
  EXPECT_EQ(worker.RecordConnection("10.0.0.2"), base::Duration::zero());
  broker_.clock().Advance(seconds(11));
  EXPECT_EQ(worker.RecordConnection("10.0.0.1"), base::Duration::zero())
      << "those refused do not count";
}

}  // namespace
}  // namespace holdfast::broker
