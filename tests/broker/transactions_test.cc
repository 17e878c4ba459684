// Transactions: both forms of the protocol, who is fenced by whom, what readers of committed
// records see, offsets that wait for the end, and all of it again after a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <set>

#include "broker/transaction_index.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/api_versions.h"
#include "kafka/api/consumer_group_heartbeat.h"
#include "kafka/api/delete_groups.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/describe_producers.h"
#include "kafka/api/describe_transactions.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/find_coordinator.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/list_transactions.h"
#include "kafka/api/offset_commit.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/txn_offset_commit.h"
#include "kafka/api/write_txn_markers.h"
#include "tests/broker/broker_fixture.h"
#include "tests/spool/faulty_disk.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int64_t kLatest = -1;
constexpr int8_t kReadCommitted = 1;

// The versions with which clients speak either form.
struct Protocol {
  int16_t produce = 12;
  int16_t end = 5;
  int16_t offsets = 5;
};
constexpr Protocol kNewer{};
constexpr Protocol kOlder{.produce = 10, .end = 3, .offsets = 3};

// A transactional producer, as its client sees it.
class Client {
 public:
  Client(BrokerFixture& broker, std::string id, Protocol protocol = kNewer,
         int32_t timeout_ms = 60000)
      : broker_(broker), id_(std::move(id)), protocol_(protocol), timeout_ms_(timeout_ms) {
    Begin();
  }

  kafka::InitProducerIdResponse Begin(bool as_known = false) {
    kafka::InitProducerIdRequest request;
    request.transactional_id = id_;
    request.transaction_timeout_ms = timeout_ms_;
    if (as_known) {
      request.producer_id = producer.id;
      request.producer_epoch = producer.epoch;
    }
    auto response = broker_.Ask(request, 4).Get();
    if (response.error_code == ErrorCode::kNone) {
      producer = {response.producer_id, response.producer_epoch};
      sequences_.clear();
    }
    return response;
  }

  ErrorCode Add(std::string_view topic, std::vector<int32_t> partitions) {
    kafka::AddPartitionsToTxnRequest request;
    request.v3_and_below_transactional_id = id_;
    request.v3_and_below_producer_id = producer.id;
    request.v3_and_below_producer_epoch = producer.epoch;
    request.v3_and_below_topics.push_back({topic, std::move(partitions), {}});
    return broker_.Ask(request, 3)
        .Get()
        .results_by_topic_v3_and_below[0]
        .results_by_partition[0]
        .partition_error_code;
  }

  std::string Batch(int32_t partition, const std::vector<std::string>& values) {
    int32_t& sequence = sequences_[partition];
    kafka::RecordBatchBuilder builder(
        {.producer = {producer.id, producer.epoch, sequence}, .transactional = true});
    for (const std::string& value : values) {
      builder.Add({.timestamp = broker_.clock().wall_clock_ms(), .key = "k", .value = value});
    }
    sequence += static_cast<int32_t>(values.size());
    return std::move(builder).Build();
  }

  BrokerFixture::PartitionResponse Send(std::string_view topic, int32_t partition,
                                        std::string_view batch) {
    kafka::ProduceRequest request = BrokerFixture::MakeProduce(topic, partition, batch);
    request.transactional_id = id_;
    auto response =
        broker_.Ask(request, protocol_.produce).Get().responses[0].partition_responses[0];
    response.error_message.reset();
    response.record_errors.clear();
    return response;
  }
  ErrorCode Produce(std::string_view topic, int32_t partition,
                    const std::vector<std::string>& values) {
    const std::string batch = Batch(partition, values);
    return Send(topic, partition, batch).error_code;
  }

  [[nodiscard]] kafka::EndTxnRequest MakeEnd(bool commit) const {
    kafka::EndTxnRequest request;
    request.transactional_id = id_;
    request.producer_id = producer.id;
    request.producer_epoch = producer.epoch;
    request.committed = commit;
    return request;
  }
  void Ended(const kafka::EndTxnResponse& response) {
    if (response.error_code != ErrorCode::kNone || protocol_.end < 5) return;
    producer = {response.producer_id, response.producer_epoch};
    sequences_.clear();
  }
  ErrorCode End(bool commit) {
    const auto response = broker_.Ask(MakeEnd(commit), protocol_.end).Get();
    Ended(response);
    return response.error_code;
  }
  ErrorCode Commit() { return End(true); }
  ErrorCode Abort() { return End(false); }

  ErrorCode AddGroup(std::string_view group) {
    kafka::AddOffsetsToTxnRequest request;
    request.transactional_id = id_;
    request.producer_id = producer.id;
    request.producer_epoch = producer.epoch;
    request.group_id = group;
    return broker_.Ask(request, 3).Get().error_code;
  }
  ErrorCode SendOffset(std::string_view group, std::string_view topic, int64_t offset,
                       int32_t generation = -1, std::string_view member = "") {
    kafka::TxnOffsetCommitRequest request;
    request.transactional_id = id_;
    request.group_id = group;
    request.producer_id = producer.id;
    request.producer_epoch = producer.epoch;
    request.generation_id = generation;
    request.member_id = member;
    auto& out = request.topics.emplace_back();
    out.name = topic;
    out.partitions.emplace_back().committed_offset = offset;
    return broker_.Ask(request, protocol_.offsets).Get().topics[0].partitions[0].error_code;
  }

  ProducerIdentity producer;

 private:
  BrokerFixture& broker_;
  const std::string id_;
  const Protocol protocol_;
  const int32_t timeout_ms_;
  std::map<int32_t, int32_t> sequences_;
};

kafka::FetchRequest MakeCommittedFetch(std::string_view topic, int32_t partition,
                                       int64_t offset = 0) {
  kafka::FetchRequest request = BrokerFixture::MakeFetch(topic, partition, offset);
  request.isolation_level = kReadCommitted;
  return request;
}

kafka::FetchResponse::PartitionData FetchCommitted(BrokerFixture& broker, std::string_view topic,
                                                   int32_t partition, int64_t offset = 0) {
  kafka::FetchRequest request = MakeCommittedFetch(topic, partition, offset);
  request.max_wait_ms = 0;
  return broker.Ask(request, 12).Get().responses.at(0).partitions.at(0);
}

// As a client reads it: without what belongs to transactions that are named as aborted.
std::vector<std::string> CommittedValues(BrokerFixture& broker, std::string_view topic,
                                         int32_t partition = 0, int64_t offset = 0) {
  const auto data = FetchCommitted(broker, topic, partition, offset);
  auto aborted = data.aborted_transactions.value();
  std::ranges::sort(aborted, {}, &kafka::FetchResponse::AbortedTransaction::first_offset);
  std::set<int64_t> aborting;
  std::vector<std::string> values;
  kafka::BatchIterator batches(data.records.value_or(""));
  while (const auto batch = batches.Next()) {
    const kafka::BatchHeader header = batch->header();
    while (!aborted.empty() && aborted.front().first_offset <= header.last_offset()) {
      aborting.insert(aborted.front().producer_id);
      aborted.erase(aborted.begin());
    }
    const auto records = kafka::UncompressedRecords::Of(*batch);
    kafka::RecordReader reader(header, records->bytes());
    kafka::Record record;
    while (reader.Next(&record)) {
      if (header.control()) {
        if (record.key.value()[3] == 0) aborting.erase(header.producer.id);
      } else if (!header.transactional() || !aborting.contains(header.producer.id)) {
        values.emplace_back(record.value.value_or("(null)"));
      }
    }
  }
  return values;
}

int64_t FindOffset(BrokerFixture& broker, std::string_view topic, int64_t timestamp,
                   int8_t isolation) {
  kafka::ListOffsetsRequest request;
  request.isolation_level = isolation;
  auto& out = request.topics.emplace_back();
  out.name = topic;
  out.partitions.emplace_back().timestamp = timestamp;
  return broker.Ask(request, 7).Get().topics[0].partitions[0].offset;
}

struct Position {
  ErrorCode error;
  int64_t offset;
  bool operator==(const Position&) const = default;
};
Position FetchOffset(BrokerFixture& broker, std::string_view group, std::string_view topic,
                     bool require_stable) {
  kafka::OffsetFetchRequest request;
  request.require_stable = require_stable;
  auto& group_request = request.groups.emplace_back();
  group_request.group_id = group;
  auto& topic_request = group_request.topics.emplace().emplace_back();
  topic_request.name = topic;
  topic_request.partition_indexes = {0};
  const auto out = broker.Ask(request, 9).Get().groups[0].topics[0].partitions[0];
  return {out.error_code, out.committed_offset};
}

kafka::DescribeTransactionsResponse::TransactionState Describe(BrokerFixture& broker,
                                                               std::string_view id) {
  kafka::DescribeTransactionsRequest request;
  request.transactional_ids = {id};
  const auto pending = broker.Ask(request, 0);
  return pending.Get().transaction_states.at(0);
}

std::vector<kafka::DescribeProducersResponse::ProducerState> Producers(BrokerFixture& broker,
                                                                       std::string_view topic) {
  kafka::DescribeProducersRequest request;
  request.topics.push_back({topic, {0}, {}});
  return broker.Ask(request, 0).Get().topics[0].partitions[0].active_producers;
}

class BothProtocolsTest : public testing::TestWithParam<Protocol> {
 protected:
  // What clients of the older form do before they produce.
  static void Join(Client& client, std::string_view topic, std::vector<int32_t> partitions) {
    if (GetParam().produce < 12) {
      ASSERT_EQ(client.Add(topic, std::move(partitions)), ErrorCode::kNone);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(TransactionsTest, BothProtocolsTest, testing::Values(kOlder, kNewer),
                         [](const auto& protocol) {
                           return protocol.param.produce < 12 ? "Older" : "Newer";
                         });

// --- What readers see ---------------------------------------------------------------------------

TEST_P(BothProtocolsTest, ATransactionIsSeenWhenItIsCommitted) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  Client client(broker, "tx", GetParam());
  Join(client, "t", {0, 1});
  EXPECT_EQ(client.Produce("t", 0, {"a", "b"}), ErrorCode::kNone);
  EXPECT_EQ(client.Produce("t", 1, {"c"}), ErrorCode::kNone);
  broker.Produce("t", 0, broker.Batch({"plain"}));
  EXPECT_THAT(CommittedValues(broker, "t", 0), IsEmpty());
  EXPECT_THAT(broker.Values("t", 0, 0), ElementsAre("a", "b", "plain"));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 0);
  EXPECT_EQ(FetchCommitted(broker, "t", 0).high_watermark, 3);
  EXPECT_EQ(FindOffset(broker, "t", kLatest, kReadCommitted), 0);
  EXPECT_EQ(FindOffset(broker, "t", kLatest, 0), 3);
  EXPECT_EQ(FindOffset(broker, "t", 0, kReadCommitted), -1);

  const auto fetch = broker.Ask(MakeCommittedFetch("t", 0), 12);
  EXPECT_FALSE(fetch.answered());
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  ASSERT_TRUE(fetch.answered()) << "the end of a transaction wakes who waits for it";
  EXPECT_THAT(CommittedValues(broker, "t", 0), ElementsAre("a", "b", "plain"));
  EXPECT_THAT(CommittedValues(broker, "t", 1), ElementsAre("c"));
  EXPECT_EQ(FindOffset(broker, "t", kLatest, kReadCommitted), 4) << "a marker takes an offset";
  EXPECT_EQ(FindOffset(broker, "t", 0, kReadCommitted), 0);
}

TEST_P(BothProtocolsTest, AnAbortedTransactionIsNamedToReadersOfCommittedRecords) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx", GetParam());
  for (const bool commit : {true, false, true, false, true}) {
    Join(client, "t", {0});
    EXPECT_EQ(client.Produce("t", 0, {commit ? "good" : "bad"}), ErrorCode::kNone);
    EXPECT_EQ(client.End(commit), ErrorCode::kNone);
  }
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good", "good", "good"));
  EXPECT_THAT(CommittedValues(broker, "t", 0, 4), ElementsAre("good", "good"));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).aborted_transactions->size(), 2u);
  EXPECT_EQ(FetchCommitted(broker, "t", 0, 4).aborted_transactions->size(), 1u);
  EXPECT_THAT(*FetchCommitted(broker, "t", 0, 8).aborted_transactions, IsEmpty());
  const auto plain = broker.Ask(BrokerFixture::MakeFetch("t", 0, 0), 12).Get();
  EXPECT_FALSE(plain.responses[0].partitions[0].aborted_transactions.has_value());
  broker.CrashAndRestart();
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good", "good", "good"));
}

TEST(TransactionsTest, TransactionsOfSeveralProducersMayOverlap) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client first(broker, "first");
  Client second(broker, "second");
  first.Produce("t", 0, {"f0"});   // 0
  second.Produce("t", 0, {"s0"});  // 1
  first.Produce("t", 0, {"f1"});   // 2
  EXPECT_EQ(second.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), IsEmpty()) << "the first is not decided";
  second.Produce("t", 0, {"s1"});  // 4
  EXPECT_EQ(first.Abort(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("s0"));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 4);
  EXPECT_EQ(second.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("s0", "s1"));
}

TEST(TransactionsTest, MarkersAreKafkasOwn) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const ProducerIdentity before = client.producer;
  client.Produce("t", 0, {"a"});
  client.Commit();
  const auto data = FetchCommitted(broker, "t", 0, 1);
  std::string expected = kafka::BuildTransactionMarker(
      kafka::TransactionEnd::kCommit, before.id, static_cast<int16_t>(before.epoch + 1),
      /*coordinator_epoch=*/0, broker.clock().wall_clock_ms());
  kafka::SetBaseOffset(expected, 1);
  kafka::SetPartitionLeaderEpoch(expected, 0);
  EXPECT_EQ(data.records, expected);
}

// What is known of aborted transactions goes with the records, maybe while somebody reads those.
TEST(TransactionsTest, NoAbortedRecordsAreGivenBesideATrim) {
  for (const bool whole_topic : {false, true}) {
    Options options;
    std::function<void()> while_reading = [] {};
    options.spool.check_entry = [&](std::string_view) -> base::Result<void> {
      std::exchange(while_reading, [] {})();
      return {};
    };
    BrokerFixture broker(options, /*workers=*/2);
    broker.CreateTopic("t", 1);
    Client client(broker, "tx");
    ASSERT_EQ(client.Produce("t", 0, {std::string(50'000, '.')}), ErrorCode::kNone);
    ASSERT_EQ(client.Abort(), ErrorCode::kNone);
    broker.Restart();  // What was written just now is not checked.
    ASSERT_EQ(FetchCommitted(broker, "t", 0).aborted_transactions->size(), 1u);
    broker.Restart();
    bool asked = false;
    while_reading = [&] {
      asked = true;
      if (whole_topic) {
        kafka::DeleteTopicsRequest deletion;
        deletion.topics.emplace_back().name = "t";
        (void)broker.Ask(deletion, 6, /*worker=*/1);
      } else {
        kafka::DeleteRecordsRequest deletion;
        deletion.topics.emplace_back().name = "t";
        deletion.topics.back().partitions.push_back({0, 2, {}});
        (void)broker.Ask(deletion, 2, /*worker=*/1);
      }
    };
    kafka::FetchRequest request = MakeCommittedFetch("t", 0);
    request.max_wait_ms = 0;
    const auto pending = broker.Ask(request, 12);
    const auto data = pending.Get().responses.at(0).partitions.at(0);
    EXPECT_TRUE(asked);
    EXPECT_EQ(data.error_code, ErrorCode::kOffsetOutOfRange);
    EXPECT_TRUE(data.records.value_or("").empty());
  }
}

// --- The protocol -------------------------------------------------------------------------------

TEST(TransactionsTest, OfOffsetsInAndOutsideOfATransactionTheOneCommittedLastCounts) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  const auto commit = [&](int64_t offset) {
    kafka::OffsetCommitRequest request;
    request.group_id = "g";
    auto& topic = request.topics.emplace_back();
    topic.name = "t";
    topic.partitions.emplace_back().committed_offset = offset;
    EXPECT_EQ(broker.Ask(request, 8).Get().topics[0].partitions[0].error_code, ErrorCode::kNone);
  };
  Client client(broker, "tx");
  commit(1);
  ASSERT_EQ(client.SendOffset("g", "t", 2), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 2}));

  ASSERT_EQ(client.SendOffset("g", "t", 3), ErrorCode::kNone);
  commit(4);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true).error, ErrorCode::kUnstableOffsetCommit);
  EXPECT_EQ(FetchOffset(broker, "g", "t", false), (Position{ErrorCode::kNone, 4}));
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 4}));
  broker.CrashAndRestart();
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 4}));

  Client other(broker, "other");
  ASSERT_EQ(other.SendOffset("g", "t", 5), ErrorCode::kNone);
  commit(6);
  ASSERT_EQ(other.SendOffset("g", "t", 7), ErrorCode::kNone);
  EXPECT_EQ(other.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 7}));
}

TEST(TransactionsTest, OffsetsOfAMemberOfTheNewerGroupProtocolNeedItsEpoch) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  kafka::ConsumerGroupHeartbeatRequest join;
  join.group_id = "g";
  join.member_id = "m";
  join.rebalance_timeout_ms = 60000;
  join.subscribed_topic_names = {"t"};
  join.topic_partitions.emplace();
  ASSERT_EQ(broker.Ask(join, 1).Get().member_epoch, 1);
  Client client(broker, "tx");
  EXPECT_EQ(client.SendOffset("g", "t", 5, 2, "m"), ErrorCode::kIllegalGeneration);
  EXPECT_EQ(client.SendOffset("g", "t", 5, 1, "stranger"), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(client.SendOffset("g", "t", 5, -1, "stranger"), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(client.SendOffset("g", "t", 4), ErrorCode::kNone) << "by the group's id alone";
  EXPECT_EQ(client.SendOffset("g", "t", 5, 1, "m"), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 5}));
}

TEST(TransactionsTest, ClientsAreToldOfTheNewerProtocols) {
  BrokerFixture broker;
  kafka::ApiVersionsRequest request;
  request.client_software_name = "test";
  request.client_software_version = "1";
  const auto response = broker.Ask(request, 4).Get();
  ASSERT_EQ(response.finalized_features.size(), 2u);
  EXPECT_EQ(response.finalized_features[0].name, "group.version");
  EXPECT_EQ(response.finalized_features[0].max_version_level, 1);
  EXPECT_EQ(response.finalized_features[1].name, "transaction.version");
  EXPECT_EQ(response.finalized_features[1].max_version_level, 2);
  EXPECT_GE(response.finalized_features_epoch, 0);
  kafka::FindCoordinatorRequest find;
  find.key_type = 1;
  find.coordinator_keys = {"tx"};
  const auto found = broker.Ask(find, 4).Get().coordinators[0];
  EXPECT_EQ(found.error_code, ErrorCode::kNone);
  EXPECT_EQ(found.host, "10.0.0.1");
}

TEST(TransactionsTest, OnlyTheNewerFormAddsPartitionsByItself) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  Client older(broker, "older", kOlder);
  EXPECT_EQ(older.Produce("t", 0, {"x"}), ErrorCode::kInvalidTxnState);
  EXPECT_EQ(older.Add("t", {0}), ErrorCode::kNone);
  EXPECT_EQ(older.Produce("t", 1, {"x"}), ErrorCode::kInvalidTxnState);
  EXPECT_EQ(older.Add("no such topic", {0}), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(older.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FindOffset(broker, "t", kLatest, 0), 1) << "what was added gets a marker";
  EXPECT_EQ(Describe(broker, "older").transaction_state, "CompleteCommit");
}

TEST(TransactionsTest, BatchesOutsideOfATransactionAreRefused) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const std::string batch = client.Batch(0, {"x"});
  EXPECT_EQ(broker.Produce("t", 0, batch).error_code,
            ErrorCode::kTransactionalIdAuthorizationFailed)
      << "a request without the transactional id";
  Client stranger(broker, "other");
  EXPECT_EQ(stranger.Send("t", 0, batch).error_code, ErrorCode::kInvalidProducerIdMapping);
  EXPECT_EQ(client.Send("t", 0, batch).error_code, ErrorCode::kNone);
  const std::string plain = broker.Batch({"plain"}, {client.producer.id, client.producer.epoch, 1});
  EXPECT_EQ(broker.Produce("t", 0, plain).error_code, ErrorCode::kInvalidTxnState);
}

TEST(TransactionsTest, EachTransactionOfTheNewerFormHasItsEpoch) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const ProducerIdentity first = client.producer;
  const std::string batch = client.Batch(0, {"a"});
  EXPECT_EQ(client.Send("t", 0, batch).error_code, ErrorCode::kNone);
  const auto commit = client.MakeEnd(true);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(client.producer.epoch, first.epoch + 1);
  EXPECT_EQ(client.Send("t", 0, batch).error_code, ErrorCode::kInvalidProducerEpoch)
      << "a late batch of the transaction before";

  const auto again = broker.Ask(commit, 5).Get();
  EXPECT_EQ(again.error_code, ErrorCode::kNone) << "its answer was lost";
  EXPECT_EQ(again.producer_epoch, client.producer.epoch);
  EXPECT_EQ(FindOffset(broker, "t", kLatest, 0), 2) << "one marker";
  EXPECT_EQ(client.Commit(), ErrorCode::kInvalidTxnState) << "there is nothing to commit";
  EXPECT_EQ(client.Abort(), ErrorCode::kNone) << "of what may not have reached us";
  EXPECT_EQ(client.Produce("t", 0, {"b"}), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("a", "b"));
}

TEST(TransactionsTest, AnEndOfTheOlderFormMayBeAskedForAgain) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx", kOlder);
  EXPECT_EQ(client.Commit(), ErrorCode::kInvalidTxnState);
  EXPECT_EQ(client.Abort(), ErrorCode::kInvalidTxnState);
  client.Add("t", {0});
  client.Produce("t", 0, {"a"});
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(client.Abort(), ErrorCode::kInvalidTxnState);
  EXPECT_EQ(FindOffset(broker, "t", kLatest, 0), 2);
}

TEST(TransactionsTest, InitProducerIdIsRefusedWithKafkasCodes) {
  BrokerFixture broker;
  const auto error = [&](std::string_view id, int32_t timeout_ms, int64_t producer_id = -1,
                         int16_t epoch = -1) {
    kafka::InitProducerIdRequest request;
    request.transactional_id = id;
    request.transaction_timeout_ms = timeout_ms;
    request.producer_id = producer_id;
    request.producer_epoch = epoch;
    return broker.Ask(request, 4).Get().error_code;
  };
  EXPECT_EQ(error("", 1000), ErrorCode::kInvalidRequest);
  EXPECT_EQ(error("tx", 0), ErrorCode::kInvalidTransactionTimeout);
  EXPECT_EQ(error("tx", 900001), ErrorCode::kInvalidTransactionTimeout);
  EXPECT_EQ(error("tx", 1000, 7), ErrorCode::kInvalidRequest);
  EXPECT_EQ(error("tx", 900000), ErrorCode::kNone);
  EXPECT_EQ(error("tx", 1000, 4711, 0), ErrorCode::kProducerFenced);
  kafka::EndTxnRequest end;
  end.transactional_id = "unknown";
  EXPECT_EQ(broker.Ask(end, 5).Get().error_code, ErrorCode::kInvalidProducerIdMapping);
}

// --- Fencing ------------------------------------------------------------------------------------

TEST_P(BothProtocolsTest, ANewProducerFencesTheOneBeforeAndAbortsItsTransaction) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client old(broker, "tx", GetParam());
  Join(old, "t", {0});
  old.Produce("t", 0, {"old"});
  Client young(broker, "tx", GetParam());
  EXPECT_EQ(young.producer.id, old.producer.id);
  EXPECT_EQ(young.producer.epoch, old.producer.epoch + 2) << "one for the abort, one for itself";
  EXPECT_EQ(old.Produce("t", 0, {"zombie"}), ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(old.Commit(), ErrorCode::kProducerFenced);
  EXPECT_EQ(old.SendOffset("g", "t", 1), ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(old.Add("t", {0}), ErrorCode::kProducerFenced);
  Join(young, "t", {0});
  EXPECT_EQ(young.Produce("t", 0, {"young"}), ErrorCode::kNone);
  EXPECT_EQ(young.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("young"));
}

TEST(TransactionsTest, AProducerThatIsKnownGetsItsNextEpochOnce) {
  BrokerFixture broker;
  Client client(broker, "tx");
  const ProducerIdentity before = client.producer;
  EXPECT_EQ(client.Begin(/*as_known=*/true).producer_epoch, before.epoch + 1);
  client.producer = before;
  EXPECT_EQ(client.Begin(/*as_known=*/true).producer_epoch, before.epoch + 1)
      << "its answer was lost";
  Client other(broker, "tx");
  client.producer = before;
  EXPECT_EQ(client.Begin(/*as_known=*/true).error_code, ErrorCode::kProducerFenced);
}

TEST(TransactionsTest, AProducerThatIsKnownMayAbortByItsNextEpoch) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const ProducerIdentity before = client.producer;
  client.Produce("t", 0, {"bad"});
  client.producer.epoch = 7;
  EXPECT_EQ(client.Begin(/*as_known=*/true).error_code, ErrorCode::kProducerFenced);
  EXPECT_EQ(Describe(broker, "tx").transaction_state, "CompleteAbort") << "as with Kafka";
  client.producer = before;
  EXPECT_EQ(client.Begin(/*as_known=*/true).producer_epoch, before.epoch + 1);
  client.Produce("t", 0, {"good"});
  EXPECT_EQ(client.Begin(/*as_known=*/true).producer_epoch, before.epoch + 2);
  client.Produce("t", 0, {"good"});
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good"));
}

TEST(TransactionsTest, AProducerWhoseEpochsAreUsedUpGetsANewId) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const int64_t id = client.producer.id;
  kafka::InitProducerIdRequest request;
  request.transactional_id = "tx";
  request.transaction_timeout_ms = 60000;
  for (int i = 0; i < 32765; ++i) broker.Send(request, 4);
  EXPECT_EQ(client.Begin().producer_epoch, 32766);
  EXPECT_EQ(client.producer.id, id);
  client.Produce("t", 0, {"a"});
  const auto commit = client.MakeEnd(true);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_NE(client.producer.id, id);
  EXPECT_EQ(client.producer.epoch, 0);
  const auto again = broker.Ask(commit, 5).Get();
  EXPECT_EQ(again.error_code, ErrorCode::kNone);
  EXPECT_EQ(again.producer_id, client.producer.id);
  client.Produce("t", 0, {"b"});
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("a", "b"));
}

// As if "tx" had come to this epoch, one by one.
void KeepProducer(BrokerFixture& broker, const ProducerIdentity& producer, int8_t state) {
  broker.Amend([&](spool::Transaction& transaction) {
    transaction.Put(
        TransactionKey("tx"),
        Encode(TransactionRecord{.producer_id = producer.id,
                                 .producer_epoch = producer.epoch,
                                 .previous_producer_id = kafka::kNoProducerId,
                                 .last_producer_epoch = static_cast<int16_t>(producer.epoch - 1),
                                 .timeout_ms = 60000,
                                 .state = state,
                                 .start_ms = -1,
                                 .update_ms = broker.clock().wall_clock_ms(),
                                 .unknown_tags = {}}));
  });
}

TEST(TransactionsTest, WhoIsFencedInItsLastEpochGetsANewId) {
  for (const bool by_time : {false, true}) {
    SCOPED_TRACE(by_time);
    BrokerFixture broker;
    broker.CreateTopic("t", 1);
    Client client(broker, "tx");
    client.producer.epoch = 32766;
    const ProducerIdentity last = client.producer;
    KeepProducer(broker, last, /*state=*/0);
    EXPECT_EQ(client.Produce("t", 0, {"bad"}), ErrorCode::kNone);
    if (by_time) broker.clock().Advance(seconds(75));
    EXPECT_EQ(client.Begin(/*as_known=*/true).error_code, ErrorCode::kNone);
    const ProducerIdentity next = client.producer;
    EXPECT_NE(next.id, last.id);
    EXPECT_EQ(next.epoch, 0);
    client.producer = last;
    EXPECT_EQ(client.Begin(/*as_known=*/true).error_code, ErrorCode::kNone);
    EXPECT_EQ(client.producer, next) << "its answer was lost";
    EXPECT_EQ(client.Produce("t", 0, {"good"}), ErrorCode::kNone);
    EXPECT_EQ(client.Commit(), ErrorCode::kNone);
    EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good"));
  }
}

TEST(TransactionsTest, EpochsThatWereNotGivenOutDoNotRunOver) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  const int64_t id = client.producer.id;
  for (const bool commits : {true, false}) {
    client.producer = {id, 32767};
    KeepProducer(broker, client.producer, /*state=*/5);
    EXPECT_EQ(client.Produce("t", 0, {"a"}), ErrorCode::kNone);
    const auto end = client.MakeEnd(commits);
    EXPECT_EQ(commits ? client.Commit() : client.Begin().error_code, ErrorCode::kNone);
    EXPECT_NE(client.producer.id, id);
    EXPECT_EQ(client.producer.epoch, 0);
    if (!commits) continue;
    const auto again = broker.Ask(end, 5).Get();
    EXPECT_EQ(again.error_code, ErrorCode::kNone) << "its answer was lost";
    EXPECT_EQ(again.producer_id, client.producer.id);
  }
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("a"));
}

TEST_P(BothProtocolsTest, ATransactionThatTakesTooLongIsAborted) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx", GetParam(), /*timeout_ms=*/20000);
  Join(client, "t", {0});
  client.Produce("t", 0, {"slow"});
  broker.clock().Advance(seconds(19));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 0);
  broker.clock().Advance(seconds(12));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 2);
  EXPECT_THAT(CommittedValues(broker, "t"), IsEmpty());
  EXPECT_EQ(Describe(broker, "tx").transaction_state, "CompleteAbort");
  EXPECT_EQ(client.Produce("t", 0, {"late"}), ErrorCode::kInvalidProducerEpoch);
  EXPECT_NE(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(client.Begin(/*as_known=*/true).producer_epoch, 1) << "it was fenced into this one";
  Join(client, "t", {0});
  EXPECT_EQ(client.Produce("t", 0, {"again"}), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("again"));
}

// --- Offsets ------------------------------------------------------------------------------------

TEST_P(BothProtocolsTest, OffsetsWaitForTheEndOfTheirTransaction) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx", GetParam());
  if (GetParam().offsets < 5) {
    EXPECT_EQ(client.SendOffset("g", "t", 1), ErrorCode::kInvalidTxnState);
    EXPECT_EQ(client.AddGroup("g"), ErrorCode::kNone);
  }
  EXPECT_EQ(client.SendOffset("g", "t", 1), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 1}));

  if (GetParam().offsets < 5) client.AddGroup("g");
  EXPECT_EQ(client.SendOffset("g", "t", 2), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", false), (Position{ErrorCode::kNone, 1}));
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kUnstableOffsetCommit, -1}));
  broker.CrashAndRestart();
  EXPECT_EQ(FetchOffset(broker, "g", "t", false), (Position{ErrorCode::kNone, 1}));
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kUnstableOffsetCommit, -1}));
  EXPECT_EQ(client.Abort(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 1}));

  if (GetParam().offsets < 5) client.AddGroup("g");
  EXPECT_EQ(client.SendOffset("g", "t", 3), ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 3}));
  broker.CrashAndRestart();
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 3}));
}

TEST(TransactionsTest, OffsetsAreRefusedWithKafkasCodes) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  EXPECT_EQ(client.SendOffset("", "t", 1), ErrorCode::kInvalidGroupId);
  EXPECT_EQ(client.SendOffset("g", "unknown", 1), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(client.SendOffset("g", "t", 1, /*generation=*/3, "m"), ErrorCode::kUnknownMemberId);
  EXPECT_EQ(client.SendOffset("other", "t", 1, /*generation=*/3), ErrorCode::kIllegalGeneration);
}

TEST(TransactionsTest, OffsetsOfADeletedGroupAreNotCommitted) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  EXPECT_EQ(client.SendOffset("g", "t", 5), ErrorCode::kNone);
  kafka::DeleteGroupsRequest deletion;
  deletion.groups_names = {"g"};
  EXPECT_EQ(broker.Ask(deletion, 2).Get().results[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, -1}));
  broker.CrashAndRestart();
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, -1}));
}

TEST(TransactionsTest, DeletionOfAGroupTakesTheOffsetsOfATransactionThatEnds) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  EXPECT_EQ(client.SendOffset("g", "t", 5), ErrorCode::kNone);
  kafka::DeleteGroupsRequest deletion;
  deletion.groups_names = {"g"};
  const auto end = broker.Send(client.MakeEnd(true), 5);
  const auto deleted = broker.Ask(deletion, 2);
  EXPECT_EQ(end.Get().error_code, ErrorCode::kNone);
  EXPECT_EQ(deleted.Get().results[0].error_code, ErrorCode::kNone);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, -1}));
  broker.CrashAndRestart();
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, -1}));
}

// --- Crashes and failures -----------------------------------------------------------------------

TEST_P(BothProtocolsTest, AnOpenTransactionGoesOnAfterACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  Client client(broker, "tx", GetParam());
  Join(client, "t", {0, 1});
  client.Produce("t", 0, {"a"});
  broker.CrashAndRestart();
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 0);
  EXPECT_EQ(client.Produce("t", 0, {"b"}), ErrorCode::kNone);
  EXPECT_EQ(client.Produce("t", 1, {"c"}), ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_THAT(CommittedValues(broker, "t", 0), IsEmpty());
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_THAT(CommittedValues(broker, "t", 0), ElementsAre("a", "b"));
  EXPECT_THAT(CommittedValues(broker, "t", 1), ElementsAre("c"));
  Join(client, "t", {0});
  EXPECT_EQ(client.Produce("t", 0, {"d"}), ErrorCode::kNone);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t", 0), ElementsAre("a", "b", "d"));
}

TEST(TransactionsTest, TransactionsAreKnownAcrossSegmentsAndACrash) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  broker.CreateTopic("large", 1);
  Client client(broker, "tx");
  client.Produce("t", 0, {"good"});
  client.Commit();
  client.Produce("t", 0, {"bad"});
  client.Abort();
  Client open(broker, "open");
  open.Produce("t", 0, {"open"});
  // Enough for several segments of 4 MiB, so that only checkpoints still know of those.
  const std::string large(900 << 10, 'x');
  for (int i = 0; i < 15; ++i) {
    ASSERT_EQ(broker.Produce("large", 0, broker.Batch({large})).error_code, ErrorCode::kNone);
  }
  broker.CrashAndRestart();
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 4);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good"));
  EXPECT_EQ(open.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("good", "open"));
}

// The next call that flushes fails.
class FailingFlush {
 public:
  FailingFlush() {
    disk_.OnCall([this](spool::FaultyDisk::Call call, int) {
      if (failed_ || call != spool::FaultyDisk::Call::kSync) return 0;
      failed_ = true;
      return EIO;
    });
  }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  spool::FaultyDisk disk_;
  bool failed_ = false;
};

TEST(TransactionsTest, AnAbortWhoseCommitFailsHidesNothing) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  client.Produce("t", 0, {"a"});
  {
    const FailingFlush disk;
    EXPECT_EQ(client.Abort(), ErrorCode::kCoordinatorNotAvailable);
    EXPECT_TRUE(disk.failed());
  }
  broker.clock().Advance(seconds(10));
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("a"));
}

TEST(TransactionsTest, AnEndWhoseCommitFailsHasNotHappened) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  client.Produce("t", 0, {"bad"});
  client.Abort();
  client.Produce("t", 0, {"a"});
  client.SendOffset("g", "t", 7);
  {
    const FailingFlush disk;
    EXPECT_EQ(client.Commit(), ErrorCode::kCoordinatorNotAvailable);
    EXPECT_TRUE(disk.failed());
  }
  EXPECT_THAT(CommittedValues(broker, "t"), IsEmpty());
  EXPECT_EQ(FetchCommitted(broker, "t", 0).aborted_transactions->size(), 1u);
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kUnstableOffsetCommit, -1}));
  broker.clock().Advance(seconds(10));
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t"), ElementsAre("a"));
  EXPECT_EQ(FetchOffset(broker, "g", "t", true), (Position{ErrorCode::kNone, 7}));
  EXPECT_EQ(FindOffset(broker, "t", kLatest, 0), 4) << "one marker";
}

TEST(TransactionsTest, ALargeTransactionEndsAsWhole) {
  BrokerFixture broker;
  broker.CreateTopic("t", 100);
  Client client(broker, "tx", kOlder);
  std::vector<int32_t> all(100);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(client.Add("t", all), ErrorCode::kNone);
  client.Produce("t", 99, {"a"});
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  EXPECT_THAT(CommittedValues(broker, "t", 99), ElementsAre("a"));
  EXPECT_EQ(FetchCommitted(broker, "t", 0).high_watermark, 1);
  EXPECT_EQ(client.Add("t", all), ErrorCode::kNone);
  EXPECT_EQ(client.Begin().error_code, ErrorCode::kNone) << "which aborts it";
  EXPECT_EQ(FetchCommitted(broker, "t", 50).high_watermark, 2);
}

TEST(TransactionsTest, ATransactionSurvivesTheDeletionOfItsTopic) {
  BrokerFixture broker;
  broker.CreateTopic("kept", 1);
  broker.CreateTopic("gone", 1);
  Client client(broker, "tx");
  client.Produce("kept", 0, {"a"});
  client.Produce("gone", 0, {"b"});
  client.SendOffset("g", "gone", 1);
  kafka::DeleteTopicsRequest deletion;
  deletion.topic_names = {"gone"};
  broker.Ask(deletion, 4);
  broker.CreateTopic("gone", 1);
  EXPECT_EQ(client.Commit(), ErrorCode::kNone);
  broker.CrashAndRestart();
  EXPECT_THAT(CommittedValues(broker, "kept"), ElementsAre("a"));
  EXPECT_EQ(FindOffset(broker, "gone", kLatest, 0), 0);
  EXPECT_EQ(FetchOffset(broker, "g", "gone", true), (Position{ErrorCode::kNone, -1}));
}

// --- Tools --------------------------------------------------------------------------------------

TEST(TransactionsTest, ToolsSeeWhatIsOpen) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  Client idle(broker, "idle");
  const int64_t begun_ms = broker.clock().wall_clock_ms();
  client.Produce("t", 0, {"a"});
  broker.clock().Advance(seconds(5));
  const auto one = Describe(broker, "tx");
  EXPECT_EQ(one.error_code, ErrorCode::kNone);
  EXPECT_EQ(one.transaction_state, "Ongoing");
  EXPECT_EQ(one.transaction_timeout_ms, 60000);
  EXPECT_EQ(one.transaction_start_time_ms, begun_ms);
  EXPECT_EQ(one.producer_id, client.producer.id);
  ASSERT_EQ(one.topics.size(), 1u);
  EXPECT_EQ(one.topics[0].topic, "t");
  EXPECT_THAT(one.topics[0].partitions, ElementsAre(0));
  EXPECT_EQ(Describe(broker, "unknown").error_code, ErrorCode::kTransactionalIdNotFound);

  const auto list = [&](std::vector<std::string_view> states, int64_t duration_ms) {
    kafka::ListTransactionsRequest request;
    request.state_filters = std::move(states);
    request.duration_filter = duration_ms;
    const auto pending = broker.Ask(request, 1);
    std::vector<std::string> ids;
    for (const auto& found : pending.Get().transaction_states) {
      ids.emplace_back(found.transactional_id);
    }
    return ids;
  };
  EXPECT_THAT(list({}, -1), ElementsAre("idle", "tx"));
  EXPECT_THAT(list({"Ongoing"}, -1), ElementsAre("tx"));
  EXPECT_THAT(list({"Ongoing"}, 5000), IsEmpty());
  EXPECT_THAT(list({"Ongoing"}, 4000), ElementsAre("tx"));
  EXPECT_THAT(list({"PrepareCommit"}, -1), IsEmpty());

  const auto match = [&](std::string_view pattern) {
    kafka::ListTransactionsRequest request;
    request.transactional_id_pattern = pattern;
    return broker.Ask(request, 2);
  };
  const auto matching = match("i.*");
  ASSERT_EQ(matching.Get().transaction_states.size(), 1u);
  EXPECT_EQ(matching.Get().transaction_states[0].transactional_id, "idle");
  EXPECT_THAT(match("t").Get().transaction_states, IsEmpty()) << "the whole id must match";
  EXPECT_EQ(match("").Get().transaction_states.size(), 2u);
  EXPECT_EQ(match("(").Get().error_code, ErrorCode::kInvalidRegularExpression);

  ASSERT_EQ(Producers(broker, "t").size(), 1u);
  EXPECT_EQ(Producers(broker, "t")[0].current_txn_start_offset, 0);
  client.Commit();
  EXPECT_EQ(Producers(broker, "t")[0].current_txn_start_offset, -1);
}

TEST(TransactionsTest, MarkersWrittenByHandEndAHangingTransaction) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx", kOlder);
  client.Add("t", {0});
  client.Produce("t", 0, {"hangs"});
  const auto write = [&](int16_t epoch, int32_t coordinator_epoch, std::string_view topic) {
    kafka::WriteTxnMarkersRequest request;
    auto& marker = request.markers.emplace_back();
    marker.producer_id = client.producer.id;
    marker.producer_epoch = epoch;
    marker.coordinator_epoch = coordinator_epoch;
    marker.topics.push_back({topic, {0}, {}});
    return broker.Ask(request, 1).Get().markers[0].topics[0].partitions[0].error_code;
  };
  EXPECT_EQ(write(client.producer.epoch, 0, "unknown"), ErrorCode::kUnknownTopicOrPartition);
  EXPECT_EQ(write(-1, 0, "t"), ErrorCode::kInvalidProducerEpoch);
  EXPECT_EQ(write(client.producer.epoch, 0, "t"), ErrorCode::kNone);
  EXPECT_EQ(FetchCommitted(broker, "t", 0).last_stable_offset, 2);
  EXPECT_THAT(CommittedValues(broker, "t"), IsEmpty());
  EXPECT_EQ(write(client.producer.epoch, -1, "t"), ErrorCode::kTransactionCoordinatorFenced);
}

TEST(TransactionsTest, PartitionsAreVerifiedForOtherBrokers) {
  BrokerFixture broker;
  broker.CreateTopic("t", 2);
  Client client(broker, "tx", kOlder);
  client.Add("t", {0});
  kafka::AddPartitionsToTxnRequest request;
  auto& one = request.transactions.emplace_back();
  one.transactional_id = "tx";
  one.producer_id = client.producer.id;
  one.producer_epoch = client.producer.epoch;
  one.verify_only = true;
  one.topics.push_back({"t", {0, 1}, {}});
  auto& other = request.transactions.emplace_back(one);
  other.transactional_id = "unknown";
  const auto response = broker.Ask(request, 5).Get();
  const auto& known = response.results_by_transaction[0].topic_results[0].results_by_partition;
  EXPECT_EQ(known[0].partition_error_code, ErrorCode::kNone);
  EXPECT_EQ(known[1].partition_error_code, ErrorCode::kTransactionAbortable);
  const auto& unknown = response.results_by_transaction[1].topic_results[0].results_by_partition;
  EXPECT_EQ(unknown[0].partition_error_code, ErrorCode::kInvalidProducerIdMapping);
}

TEST(TransactionsTest, UnusedTransactionalIdsAreForgotten) {
  BrokerFixture broker;
  broker.CreateTopic("t", 1);
  Client client(broker, "tx");
  broker.clock().Advance(std::chrono::hours(7 * 24 - 2));
  EXPECT_EQ(Describe(broker, "tx").error_code, ErrorCode::kNone);
  broker.clock().Advance(std::chrono::hours(4));
  EXPECT_EQ(Describe(broker, "tx").error_code, ErrorCode::kTransactionalIdNotFound);
  broker.CrashAndRestart();
  EXPECT_EQ(Describe(broker, "tx").error_code, ErrorCode::kTransactionalIdNotFound);
  EXPECT_EQ(client.Begin(/*as_known=*/true).error_code, ErrorCode::kNone)
      << "it gets a new producer id";
}

// --- The index ----------------------------------------------------------------------------------

TEST(TransactionIndexTest, NothingIsStableBeforeItsMarkerIsDurable) {
  TransactionIndex index;
  index.Begin(10);
  EXPECT_EQ(index.LastStableOffset(12), 10);
  index.End({1, 10, 14}, /*aborted=*/true);
  EXPECT_EQ(index.LastStableOffset(14), 10) << "the marker at 14 is not durable";
  index.Begin(15);
  EXPECT_EQ(index.LastStableOffset(16), 15);
}

TEST(TransactionIndexTest, AbortedTransactionsAreFoundByWhatTheyOverlap) {
  TransactionIndex index;
  index.Begin(0);
  index.Begin(3);
  index.End({2, 3, 5}, true);
  index.End({1, 0, 8}, true);
  index.Begin(9);
  index.End({2, 9, 10}, true);
  const AbortedTransaction inner{2, 3, 5};
  const AbortedTransaction outer{1, 0, 8};
  const AbortedTransaction last{2, 9, 10};
  EXPECT_THAT(index.Aborted(0, 3), ElementsAre(outer));
  EXPECT_THAT(index.Aborted(0, 9), ElementsAre(inner, outer));
  EXPECT_THAT(index.Aborted(6, 10), ElementsAre(outer, last));
  TransactionIndex copy;
  ASSERT_TRUE(copy.Load(index.Serialize()).has_value());
  EXPECT_THAT(copy.Aborted(0, 100), ElementsAre(inner, outer, last));
  copy.End({2, 9, 10}, true);
  EXPECT_EQ(copy.Aborted(0, 100).size(), 3u) << "replayed, not new";
  copy.TrimBelow(9);
  EXPECT_THAT(copy.Aborted(0, 100), ElementsAre(last));
  copy.Rewind(10);
  EXPECT_THAT(copy.Aborted(0, 100), IsEmpty()) << "its marker was not durable";
}

}  // namespace
}  // namespace holdfast::broker
