// A whole broker under clients that do whatever comes, by a seed: batches of plain, idempotent and
// transactional producers, their retries, retention, compaction, DeleteRecords, topics made anew,
// hours that pass, and a kill -9 at any moment. What readers see is what clients were told.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kafka/api/add_offsets_to_txn.h"
#include "kafka/api/add_partitions_to_txn.h"
#include "kafka/api/delete_records.h"
#include "kafka/api/delete_topics.h"
#include "kafka/api/end_txn.h"
#include "kafka/api/incremental_alter_configs.h"
#include "kafka/api/init_producer_id.h"
#include "kafka/api/list_offsets.h"
#include "kafka/api/offset_fetch.h"
#include "kafka/api/txn_offset_commit.h"
#include "tests/broker/broker_fixture.h"
#include "tests/broker/log_model.h"

namespace holdfast::broker {
namespace {

using kafka::ErrorCode;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr milliseconds kTransactionTimeout = seconds(60);
constexpr milliseconds kRetention = hours(10);
constexpr int kPartitions = 2;

// A topic from its creation to its deletion.
struct Topic {
  std::string name;
  std::array<LogModel, kPartitions> logs;
};
using Place = std::pair<std::shared_ptr<Topic>, int32_t>;

struct Producer {
  int64_t id = -1;
  int16_t epoch = -1;
  std::map<Place, int32_t> sequences;
};

struct SentBatch {
  Place place;
  std::string bytes;
  std::vector<uint64_t> ids;
};

struct IdempotentClient {
  Producer producer;
  std::map<Place, std::vector<SentBatch>> last;  // Of five at most a retry is known.
};

struct TransactionalClient {
  std::string id;
  bool newer = true;  // The form of the protocol: KIP-890.
  Producer producer;
  std::shared_ptr<Fate> fate;  // Of the open transaction.
  base::TimePoint since;
  std::set<Place> places;
  bool has_offset = false;
  int64_t offset = 0;
  std::optional<int64_t> committed_offset;
};

class BrokerSimulationTest : public testing::TestWithParam<uint64_t> {
 protected:
  BrokerSimulationTest() : broker_(Observed(), 1, /*compacts=*/true) {
    for (const char* name : {"deleted", "compacted", "both", "anew"}) CreateTopic(name);
    for (size_t i = 0; i < transactional_.size(); ++i) {
      transactional_[i].id = "tx" + std::to_string(i);
      transactional_[i].newer = i != 0;
      Begin(transactional_[i]);
    }
    for (IdempotentClient& client : idempotent_) Begin(client);
  }

  void Step() {
    const uint64_t what = random_.Below(100);
    if (what < 15) return ProducePlain();
    if (what < 35) return ProduceIdempotent(idempotent_[random_.Below(idempotent_.size())]);
    if (what < 70) return Transact(transactional_[random_.Below(transactional_.size())]);
    if (what < 72) return DeleteRecords();
    if (what < 73) return MakeAnew();
    if (what < 74) return AlterPolicy();
    if (cleaning_) return;
    if (what < 78) return Crash();
    if (what < 79) return broker_.Restart();
    if (what < 97) return Advance(seconds(random_.Below(25)));
    Advance(what < 99 ? minutes(1 + random_.Below(40)) : hours(1 + random_.Below(30)));
  }

  void CheckAll() {
    const int64_t now_ms = broker_.clock().wall_clock_ms();
    for (const auto& [name, topic] : topics_) {
      for (int32_t partition = 0; partition < kPartitions; ++partition) {
        SCOPED_TRACE(name + "/" + std::to_string(partition));
        const Reading all = Read(name, partition, 0);
        const Reading committed = Read(name, partition, 1);
        topic->logs.at(static_cast<size_t>(partition)).Check(now_ms, all, committed);
      }
    }
    for (const TransactionalClient& client : transactional_) {
      EXPECT_EQ(FetchOffset(client.id), client.committed_offset.value_or(-1)) << client.id;
    }
  }

 private:
  // While the cleaner reads, clients go on.
  Options Observed() {
    Options options;
    options.transaction_timeout_max = hours(1);
    options.spool.check_entry = [this](std::string_view bytes) {
      if (started_ && broker_.cleaning() && !cleaning_ && random_.Below(20) == 0) {
        cleaning_ = true;
        broker_.Meanwhile([] {});
        Step();
        cleaning_ = false;
      }
      return kafka::CheckStored(bytes);
    };
    return options;
  }

  // --- Requests -------------------------------------------------------------------------------

  // None: the broker was killed first. It may have been done.
  template <class Request>
  std::optional<typename Request::Response> Try(const Request& request, int16_t version) {
    if (cleaning_ || random_.Below(30) != 0) {
      const auto pending = broker_.Ask(request, version);
      HF_CHECK(pending.answered());
      return pending.Get();
    }
    const auto pending = broker_.Send(request, version);
    broker_.RunTasks(random_.Below(12));
    const bool answered = pending.answered();
    broker_.CrashAndRestart();
    if (answered) return pending.Get();
    return std::nullopt;
  }
  template <class Request>
  typename Request::Response Insist(const Request& request, int16_t version) {
    for (;;) {
      if (auto response = Try(request, version)) return *std::move(response);
    }
  }

  void CreateTopic(const std::string& name) {
    auto topic = std::make_shared<Topic>();
    topic->name = name;
    const bool compacted = name == "compacted" || name == "both";
    kafka::CreateTopicsRequest request;
    auto& creation = request.topics.emplace_back();
    creation.name = name;
    creation.num_partitions = kPartitions;
    creation.replication_factor = -1;
    const std::string retention = std::to_string(kRetention.count());
    creation.configs = {{"cleanup.policy", compacted ? "compact" : "delete", {}},
                        {"retention.ms", retention, {}},
                        {"message.timestamp.before.max.ms", "9223372036854775807", {}},
                        {"segment.ms", compacted ? "1" : "600000", {}},
                        {"min.cleanable.dirty.ratio", "0.01", {}},
                        {"delete.retention.ms", "20000", {}}};
    if (name == "both") creation.configs[0].value = "compact,delete";
    for (LogModel& log : topic->logs) {
      log.compacted = compacted;
      if (name != "compacted") log.retention_ms = kRetention.count();
    }
    const ErrorCode error = Insist(request, 7).topics.at(0).error_code;
    EXPECT_TRUE(error == ErrorCode::kNone || error == ErrorCode::kTopicAlreadyExists);
    topics_[name] = std::move(topic);
  }
  void MakeAnew() {
    kafka::DeleteTopicsRequest request;
    request.topics.emplace_back().name = "anew";
    const ErrorCode error = Insist(request, 6).responses.at(0).error_code;
    EXPECT_TRUE(error == ErrorCode::kNone || error == ErrorCode::kUnknownTopicOrPartition);
    CreateTopic("anew");
  }
  void AlterPolicy() {
    constexpr std::array kPolicies{"delete", "compact", "compact,delete"};
    kafka::IncrementalAlterConfigsRequest request;
    auto& resource = request.resources.emplace_back();
    resource.resource_type = 2;
    resource.resource_name = "both";
    resource.configs.push_back({"cleanup.policy", 0, kPolicies[random_.Below(3)], {}});
    EXPECT_EQ(Insist(request, 1).responses.at(0).error_code, ErrorCode::kNone);
  }
  void DeleteRecords() {
    const auto [topic, partition] = AnyPlace();
    LogModel& log = LogOf({topic, partition});
    if (log.end() == 0) return;
    kafka::DeleteRecordsRequest request;
    request.topics.emplace_back().name = topic->name;
    const auto to = static_cast<int64_t>(random_.Below(static_cast<uint64_t>(log.end()) + 1));
    request.topics.back().partitions.push_back({partition, to, {}});
    const auto result = Insist(request, 2).topics.at(0).partitions.at(0);
    if (topic->name == "compacted") {
      EXPECT_EQ(result.error_code, ErrorCode::kPolicyViolation);
    } else if (result.error_code == ErrorCode::kNone) {
      log.Deleted(to);
    } else {
      EXPECT_TRUE(topic->name == "both" && result.error_code == ErrorCode::kPolicyViolation);
    }
  }
  void Crash() {
    // Others are on their way.
    for (uint64_t others = random_.Below(3); others > 0; --others) {
      const SentBatch batch = MakeBatch(AnyPlace(), {}, nullptr);
      broker_.Send(ProduceOf(batch), 9);
    }
    broker_.RunTasks(random_.Below(30));
    broker_.CrashAndRestart();
  }
  void Advance(base::Duration time) {
    broker_.clock().Advance(time);
    // Producers may be forgotten by now, and a retry is a new batch to who forgot.
    if (time >= hours(1)) {
      for (IdempotentClient& client : idempotent_) client.last.clear();
    }
    for (TransactionalClient& client : transactional_) {
      if (client.fate == nullptr || *client.fate != Fate::kOpen) continue;
      if (broker_.clock().now() - client.since >= kTransactionTimeout)
        *client.fate = Fate::kMaybeAborted;
    }
  }

  // --- Producers ------------------------------------------------------------------------------

  Place AnyPlace() {
    auto topic = std::next(topics_.begin(), static_cast<int64_t>(random_.Below(topics_.size())));
    return {topic->second, static_cast<int32_t>(random_.Below(kPartitions))};
  }
  static LogModel& LogOf(const Place& place) {
    return place.first->logs.at(static_cast<size_t>(place.second));
  }
  SentBatch MakeBatch(const Place& place, const kafka::Producer& producer,
                      std::shared_ptr<const Fate> fate) {
    SentBatch batch{.place = place, .bytes = {}, .ids = {}};
    kafka::RecordBatchBuilder builder({.codec = static_cast<kafka::Codec>(random_.Below(5)),
                                       .producer = producer,
                                       .transactional = fate != nullptr});
    const size_t bytes = random_.Below(40) == 0 ? 200'000 : random_.Below(100);
    for (uint64_t count = 1 + random_.Below(4); count > 0; --count) {
      SentRecord record{.id = next_id_++,
                        .key = "k" + std::to_string(random_.Below(12)),
                        .value = std::string(bytes, 'v'),
                        .timestamp = broker_.clock().wall_clock_ms(),
                        .fate = fate};
      if (random_.Below(6) == 0) record.value.reset();
      const std::string id = std::to_string(record.id);
      const kafka::RecordHeader header{"id", id};
      builder.Add({.timestamp = record.timestamp,
                   .key = record.key,
                   .value = record.value,
                   .headers = {&header, 1}});
      batch.ids.push_back(record.id);
      LogOf(place).Sent(std::move(record));
    }
    batch.bytes = std::move(builder).Build();
    return batch;
  }
  static kafka::ProduceRequest ProduceOf(const SentBatch& batch) {
    return BrokerFixture::MakeProduce(batch.place.first->name, batch.place.second, batch.bytes);
  }
  static void NoteAnswer(const SentBatch& batch,
                         const kafka::ProduceResponse::PartitionProduceResponse& answer) {
    int64_t offset = answer.base_offset;
    for (const uint64_t id : batch.ids) {
      LogOf(batch.place).Acknowledged(id, offset++);
    }
  }

  void ProducePlain() {
    const SentBatch batch = MakeBatch(AnyPlace(), {}, nullptr);
    const auto response = Try(ProduceOf(batch), 9);
    if (!response) return;
    const auto& answer = response->responses.at(0).partition_responses.at(0);
    ASSERT_EQ(answer.error_code, ErrorCode::kNone);
    NoteAnswer(batch, answer);
  }

  void Begin(IdempotentClient& client) {
    kafka::InitProducerIdRequest request;
    const auto response = Insist(request, 4);
    ASSERT_EQ(response.error_code, ErrorCode::kNone);
    client = {};
    client.producer = {response.producer_id, response.producer_epoch, {}};
  }
  void ProduceIdempotent(IdempotentClient& client) {
    if (random_.Below(60) == 0) return Begin(client);
    const Place place = AnyPlace();
    std::vector<SentBatch>& last = client.last[place];
    // A retry of what was stored long ago, at least as the client sees it.
    if (!last.empty() && random_.Below(5) == 0) {
      const SentBatch& again = last[random_.Below(last.size())];
      const auto answer = Insist(ProduceOf(again), 9).responses.at(0).partition_responses.at(0);
      if (answer.error_code == ErrorCode::kDuplicateSequenceNumber) return;
      ASSERT_EQ(answer.error_code, ErrorCode::kNone);
      return NoteAnswer(again, answer);
    }
    int32_t& sequence = client.producer.sequences[place];
    SentBatch batch =
        MakeBatch(place, {client.producer.id, client.producer.epoch, sequence}, nullptr);
    const auto answer = Insist(ProduceOf(batch), 9).responses.at(0).partition_responses.at(0);
    ASSERT_EQ(answer.error_code, ErrorCode::kNone);
    NoteAnswer(batch, answer);
    sequence += static_cast<int32_t>(batch.ids.size());
    last.push_back(std::move(batch));
    if (last.size() > 5) last.erase(last.begin());
  }

  // --- Transactions ---------------------------------------------------------------------------

  // Aborts what is open.
  void Begin(TransactionalClient& client) {
    kafka::InitProducerIdRequest request;
    request.transactional_id = client.id;
    request.transaction_timeout_ms = static_cast<int32_t>(kTransactionTimeout.count());
    const auto response = Insist(request, 4);
    ASSERT_EQ(response.error_code, ErrorCode::kNone);
    client.producer = {response.producer_id, response.producer_epoch, {}};
    Ended(client, Fate::kAborted);
  }
  static void Ended(TransactionalClient& client, Fate fate) {
    if (client.fate != nullptr) *client.fate = fate;
    if (fate == Fate::kCommitted && client.has_offset) client.committed_offset = client.offset;
    client.fate.reset();
    client.places.clear();
    client.has_offset = false;
  }
  // Only a transaction that took too long may be ended by the broker.
  void Refused(TransactionalClient& client, ErrorCode error) {
    EXPECT_TRUE(client.fate == nullptr || *client.fate == Fate::kMaybeAborted)
        << client.id << ": error " << static_cast<int>(error);
    Begin(client);
  }

  void Transact(TransactionalClient& client) {
    const uint64_t what = random_.Below(20);
    if (what == 0) return Begin(client);
    if (client.fate != nullptr && what < 6) return End(client, what != 1);
    if (client.fate == nullptr) {
      client.fate = std::make_shared<Fate>(Fate::kOpen);
      client.since = broker_.clock().now();
    }
    if (what == 6) return CommitOffset(client);
    ProduceInTransaction(client, AnyPlace());
  }
  void ProduceInTransaction(TransactionalClient& client, const Place& place) {
    if (!client.newer && !client.places.contains(place)) {
      kafka::AddPartitionsToTxnRequest request;
      request.v3_and_below_transactional_id = client.id;
      request.v3_and_below_producer_id = client.producer.id;
      request.v3_and_below_producer_epoch = client.producer.epoch;
      request.v3_and_below_topics.push_back({place.first->name, {place.second}, {}});
      const ErrorCode error = Insist(request, 3)
                                  .results_by_topic_v3_and_below.at(0)
                                  .results_by_partition.at(0)
                                  .partition_error_code;
      if (error != ErrorCode::kNone) return Refused(client, error);
    }
    client.places.insert(place);
    int32_t& sequence = client.producer.sequences[place];
    const SentBatch batch =
        MakeBatch(place, {client.producer.id, client.producer.epoch, sequence}, client.fate);
    kafka::ProduceRequest request = ProduceOf(batch);
    request.transactional_id = client.id;
    const auto answer =
        Insist(request, client.newer ? 12 : 10).responses.at(0).partition_responses.at(0);
    if (answer.error_code != ErrorCode::kNone) return Refused(client, answer.error_code);
    NoteAnswer(batch, answer);
    sequence += static_cast<int32_t>(batch.ids.size());
  }
  void CommitOffset(TransactionalClient& client) {
    if (!client.newer) {
      kafka::AddOffsetsToTxnRequest request;
      request.transactional_id = client.id;
      request.producer_id = client.producer.id;
      request.producer_epoch = client.producer.epoch;
      request.group_id = client.id;
      const ErrorCode error = Insist(request, 3).error_code;
      if (error != ErrorCode::kNone) return Refused(client, error);
    }
    kafka::TxnOffsetCommitRequest request;
    request.transactional_id = client.id;
    request.group_id = client.id;
    request.producer_id = client.producer.id;
    request.producer_epoch = client.producer.epoch;
    auto& topic = request.topics.emplace_back();
    topic.name = "deleted";
    topic.partitions.emplace_back().committed_offset = ++client.offset;
    const ErrorCode error =
        Insist(request, client.newer ? 5 : 3).topics.at(0).partitions.at(0).error_code;
    if (error != ErrorCode::kNone) return Refused(client, error);
    client.has_offset = true;
  }
  void End(TransactionalClient& client, bool commit) {
    kafka::EndTxnRequest request;
    request.transactional_id = client.id;
    request.producer_id = client.producer.id;
    request.producer_epoch = client.producer.epoch;
    request.committed = commit;
    const auto response = Insist(request, client.newer ? 5 : 3);
    if (response.error_code != ErrorCode::kNone) return Refused(client, response.error_code);
    if (client.newer) client.producer = {response.producer_id, response.producer_epoch, {}};
    Ended(client, commit ? Fate::kCommitted : Fate::kAborted);
  }

  // --- Readers --------------------------------------------------------------------------------

  Reading Read(const std::string& topic, int32_t partition, int8_t isolation_level) {
    Reading reading;
    std::vector<std::pair<int64_t, int64_t>> aborted;
    int64_t offset = FirstOffset(topic, partition);
    reading.start = offset;
    for (;;) {
      kafka::FetchRequest request = BrokerFixture::MakeFetch(topic, partition, offset);
      request.max_wait_ms = 0;
      request.isolation_level = isolation_level;
      const auto pending = broker_.Ask(request, 12);
      const auto response = pending.Get();
      const auto& data = response.responses.at(0).partitions.at(0);
      EXPECT_EQ(data.error_code, ErrorCode::kNone);
      EXPECT_EQ(data.log_start_offset, reading.start);
      reading.high_watermark = data.high_watermark;
      reading.last_stable_offset = data.last_stable_offset;
      const int64_t before = offset;
      offset = ReadBatches(data, isolation_level == 1, offset, &reading.records);
      if (offset > before) continue;
      if (isolation_level == 0) {
        EXPECT_EQ(offset, data.high_watermark) << "a consumer would stay here for ever";
      }
      return reading;
    }
  }
  int64_t FirstOffset(const std::string& topic, int32_t partition) {
    kafka::ListOffsetsRequest request;
    request.topics.emplace_back().name = topic;
    request.topics.back().partitions.push_back(
        {.partition_index = partition, .timestamp = -2, .unknown_tags = {}});
    return broker_.Ask(request, 7).Get().topics.at(0).partitions.at(0).offset;
  }
  // As a consumer does it, without what belongs to transactions that are named as aborted.
  static int64_t ReadBatches(const kafka::FetchResponse::PartitionData& data, bool committed,
                             int64_t offset, std::vector<SeenRecord>* out) {
    auto aborted =
        data.aborted_transactions.value_or(std::vector<kafka::FetchResponse::AbortedTransaction>());
    std::ranges::sort(aborted, {}, &kafka::FetchResponse::AbortedTransaction::first_offset);
    size_t next = 0;
    std::set<int64_t> aborting;
    kafka::BatchIterator batches(data.records.value_or(""));
    const int64_t from = offset;
    while (const auto batch = batches.Next()) {
      EXPECT_TRUE(batch->CrcMatches());
      const kafka::BatchHeader header = batch->header();
      offset = header.next_offset();
      for (; next < aborted.size() && aborted[next].first_offset <= header.last_offset(); ++next)
        aborting.insert(aborted[next].producer_id);
      if (header.control()) {
        if (ReadTransactionEnd(*batch) == kafka::TransactionEnd::kAbort)
          aborting.erase(header.producer.id);
        continue;
      }
      if (committed && header.transactional() && aborting.contains(header.producer.id)) continue;
      const auto records = kafka::UncompressedRecords::Of(*batch);
      kafka::RecordReader reader(header, records->bytes());
      kafka::Record record;
      while (reader.Next(&record)) {
        if (record.offset < from) continue;
        out->push_back(
            {.offset = record.offset,
             .id = std::stoull(std::string(*record.headers.at(0).value)),
             .key = std::string(*record.key),
             .value = record.value ? std::optional<std::string>(*record.value) : std::nullopt,
             .timestamp = record.timestamp});
      }
      EXPECT_TRUE(reader.status());
    }
    return offset;
  }
  int64_t FetchOffset(const std::string& group) {
    kafka::OffsetFetchRequest request;
    auto& asked = request.groups.emplace_back();
    asked.group_id = group;
    asked.topics.emplace().emplace_back().name = "deleted";
    asked.topics->back().partition_indexes = {0};
    return broker_.Ask(request, 9).Get().groups[0].topics[0].partitions[0].committed_offset;
  }

  base::Random random_{GetParam()};
  bool started_ = false;
  bool cleaning_ = false;  // A step from inside of a round of the cleaner.
  BrokerFixture broker_;
  uint64_t next_id_ = 1;
  std::map<std::string, std::shared_ptr<Topic>> topics_;
  std::array<IdempotentClient, 2> idempotent_;
  std::array<TransactionalClient, 3> transactional_;
};

TEST_P(BrokerSimulationTest, ReadersSeeWhatClientsWereTold) {
  for (int step = 0; step < 300; ++step) {
    Step();
    if (step % 25 == 0) CheckAll();
    if (HasFailure()) {
      ADD_FAILURE() << "at step " << step;
      return;
    }
  }
  CheckAll();
}

INSTANTIATE_TEST_SUITE_P(Seeds, BrokerSimulationTest, testing::Range<uint64_t>(1, 5));

}  // namespace
}  // namespace holdfast::broker
